"""Days and times."""

import re
from collections.abc import Sequence
from datetime import date

from shards.factory.verifiers.verifier import Task, Verifier

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
MONTHS = {name[:length]: number for number, name in enumerate(_MONTHS, 1) for length in (3, len(name))} | {"sept": 9}
_DAYS = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "mon", "tue", "tues", "wed",
    "thu", "thur", "thurs", "fri", "sat", "sun",
)  # fmt: skip
_NAME = "|".join(sorted(MONTHS, key=len, reverse=True))
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_NUMBERS = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})")
_DAY_MONTH = re.compile(rf"(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_NAME})\.?,? (\d{{4}})")
_DASHED = re.compile(rf"(\d{{1,2}})-({_NAME})-(\d{{4}})")
_MONTH_DAY = re.compile(rf"({_NAME})\.? (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})")
_MONTH = re.compile(rf"({_NAME})\.?,? (\d{{4}})")
_YEAR = re.compile(r"(\d{4})")
_TIME = re.compile(r"(\d{1,2})(?::(\d{2}))(?::(\d{2}))?\s*([ap])?\.?(?:m\.?)?|(\d{1,2})\s*([ap])\.?m\.?")


class Date(Verifier):
    """The known day, as precisely as it is known, or the known time of day."""

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether both are the same day or time; 03/04/2021 is only what is written alike."""
        one, other = moment(said), moment(str(truth))
        return one is not None and one == other

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether the known answer is a day or a time."""
        return isinstance(truth, str) and moment(truth) is not None


def moment(text: str) -> tuple[object, ...] | None:
    """Return what a text names: a day, a month, a year, a time, or a day that could be two; None if it is none."""
    words = " ".join(text.lower().replace("the ", " ").strip(" .*").split())
    words = re.sub(rf"^(?:{'|'.join(_DAYS)})\.?,? ", "", words.removeprefix("on "))
    if found := _ISO.fullmatch(words):
        return _day(int(found[1]), int(found[2]), int(found[3]))
    if found := _NUMBERS.fullmatch(words):
        first, second, year = (int(each) for each in found.groups())
        if first <= 12 and second <= 12 and first != second:
            return ("ambiguous", first, second, year)
        return _day(year, first, second) if second > 12 else _day(year, second, first)
    if found := _DAY_MONTH.fullmatch(words):
        return _day(int(found[3]), MONTHS[found[2]], int(found[1]))
    if found := _DASHED.fullmatch(words):
        return _day(int(found[3]), MONTHS[found[2]], int(found[1]))
    if found := _MONTH_DAY.fullmatch(words):
        return _day(int(found[3]), MONTHS[found[1]], int(found[2]))
    if found := _MONTH.fullmatch(words):
        return ("month", int(found[2]), MONTHS[found[1]])
    if found := _YEAR.fullmatch(words):
        return ("year", int(found[1]))
    return _time(words)


def _day(year: int, month: int, day: int) -> tuple[object, ...] | None:
    try:
        return ("day", date(year, month, day))
    except ValueError:
        return None


def _time(words: str) -> tuple[object, ...] | None:
    """Return a time of day in seconds."""
    found = _TIME.fullmatch(words)
    if not found:
        return None
    hour, minute, second = int(found[1] or found[5]), int(found[2] or 0), int(found[3] or 0)
    half = found[4] or found[6]
    if (half and not 1 <= hour <= 12) or hour > 23 or minute > 59 or second > 59:
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return ("time", 3600 * hour + 60 * minute + second)
