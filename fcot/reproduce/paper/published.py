"""The paper's own figures (arXiv 2502.18512): percentages, of InternVL2-2B where nothing else is said."""

from collections.abc import Mapping
from statistics import fmean

TEN = ("DocVQA", "ChartQA", "TextVQA", "InfoVQA", "OCRBench", "OCRBenchv2-En", "OCRBenchv2-Ch", "AI2D", "MathVista",
       "ScienceQA")  # fmt: skip
TABLE1 = {
    "InternVL2-2B": (85.90, 76.24, 73.36, 57.66, 78.4, 35.7, 34.5, 74.09, 46.30, 94.25),
    "FastV, 1/2": (79.39, 69.72, 73.15, 47.18, 73.3, 33.2, 26.1),
    "FastV, 1/4": (60.12, 60.76, 70.3, 35.82, 64.3, 29.0, 19.8),
    "FCoT-VL, 1/2": (86.21, 78.46, 72.90, 56.01, 80.2, 35.6, 34.8, 85.80, 58.96, 90.68),
    "FCoT-VL, 1/4": (83.60, 75.84, 72.37, 52.52, 81.2, 33.5, 34.4, 84.20, 52.90, 91.72),
}
TABLE2 = {"InternVL2-2B": (85.90, 76.24, 57.66), "1/2": (74.27, 55.24, 47.86), "1/4": (63.40, 49.20, 38.76)}
TABLE3 = {"qformer": (48.23, 42.32, 26.36), "conv": (82.60, 75.04, 50.89), "pool": (82.44, 75.43, 49.83)}
TABLE4 = {
    "final": (85.12, 77.31, 54.43),
    "average": (86.03, 78.21, 55.66),
    "task_arithmetic": (85.31, 77.43, 53.14),
    "shapley": (86.21, 78.46, 56.01),
}
TABLE5 = {"1": (782, 544, 868), "1/2": (598, 467, 614), "1/4": (553, 346, 600)}  # DocVQA, ChartQA, InfoVQA; no unit


def gain(table: Mapping[str, tuple[float, ...]], one: str, other: str) -> float:
    """Return by how many points one row of a table is above another, in the mean of the columns that both have."""
    pairs = zip(table[one], table[other], strict=False)
    return fmean(a - b for a, b in pairs)


def time_left(share: str) -> float:
    """Return the time at a share of the tokens over that at all, mean of the three benchmarks."""
    return fmean(a / b for a, b in zip(TABLE5[share], TABLE5["1"], strict=True))


def range_of_changes(student: str) -> str:
    """Return the most that a task gained and lost, such as "+12.7 (MathVista) to −3.6 (ScienceQA)"; empty if unknown.

    Args:
        student: Such as "student, 1/2".
    """
    row = student.replace("student", "FCoT-VL")
    if row not in TABLE1:
        return ""
    changes = {task: a - b for task, a, b in zip(TEN, TABLE1[row], TABLE1["InternVL2-2B"], strict=True)}
    most, least = max(changes, key=changes.__getitem__), min(changes, key=changes.__getitem__)
    return f"{changes[most]:+.1f} ({most}) to {changes[least]:+.1f} ({least})".replace("-", "−")
