"""Public benchmarks, one a file; a new one is its file, a line here and a test."""

from fcot.evaluation.benchmarks.benchmark import BENCHMARKS, Benchmark, Column, Published, Source

__all__ = ["BENCHMARKS", "Benchmark", "Column", "Published", "Source"]
