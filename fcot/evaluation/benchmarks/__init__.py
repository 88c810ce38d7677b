"""Public benchmarks, one a file; a new one is its file, a line here and a test."""

from fcot.evaluation.benchmarks.ai2d import Ai2d
from fcot.evaluation.benchmarks.benchmark import BENCHMARKS, Benchmark, Column, Source
from fcot.evaluation.benchmarks.chartqa import Chartqa
from fcot.evaluation.benchmarks.docvqa import Docvqa
from fcot.evaluation.benchmarks.infovqa import Infovqa
from fcot.evaluation.benchmarks.mathvista import Mathvista
from fcot.evaluation.benchmarks.mme import Mme
from fcot.evaluation.benchmarks.ocrbench import Ocrbench
from fcot.evaluation.benchmarks.ocrbench_v2 import OcrbenchV2
from fcot.evaluation.benchmarks.published import Published, published
from fcot.evaluation.benchmarks.scienceqa import Scienceqa
from fcot.evaluation.benchmarks.textvqa import Textvqa

__all__ = [
    "BENCHMARKS",
    "Ai2d",
    "Benchmark",
    "Chartqa",
    "Column",
    "Docvqa",
    "Infovqa",
    "Mathvista",
    "Mme",
    "Ocrbench",
    "OcrbenchV2",
    "Published",
    "Scienceqa",
    "Source",
    "Textvqa",
    "published",
]
