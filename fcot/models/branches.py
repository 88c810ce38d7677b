"""What the sides of a batch are called: the teacher's, and one for each student."""

from collections.abc import Sequence

STUDENT, TEACHER = "student", "teacher"


def student_sides(ratios: Sequence[int]) -> dict[str, int]:
    """Return the sides of a batch that students at these ratios read, and the ratio of each.

    The first is "student", whether or not there are others.
    """
    return {STUDENT if ratio == ratios[0] else f"{STUDENT}-r{ratio}": ratio for ratio in ratios}


def named(name: str, side: str) -> str:
    """Return the name of a student's file or folder: the first has the name itself, a further one "NAME-r4", say."""
    return name + side.removeprefix(STUDENT)
