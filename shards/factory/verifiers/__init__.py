"""Verifiers of generated answers, one a file; a new one is its file, a line here and a test."""

from shards.factory.verifiers.chart2dict import Chart2dict
from shards.factory.verifiers.chart_number import ChartNumber
from shards.factory.verifiers.date import Date
from shards.factory.verifiers.judge import Verdict, judge
from shards.factory.verifiers.listing import List, OrderedList
from shards.factory.verifiers.math import Math
from shards.factory.verifiers.money import Money
from shards.factory.verifiers.number import Number
from shards.factory.verifiers.option import Choice
from shards.factory.verifiers.table2markdown import Table2markdown
from shards.factory.verifiers.text import Text
from shards.factory.verifiers.verifier import VERIFIERS, Task, Verifier
from shards.factory.verifiers.yes_no import YesNo

__all__ = [
    "VERIFIERS",
    "Chart2dict",
    "ChartNumber",
    "Choice",
    "Date",
    "List",
    "Math",
    "Money",
    "Number",
    "OrderedList",
    "Table2markdown",
    "Task",
    "Text",
    "Verdict",
    "Verifier",
    "YesNo",
    "judge",
]
