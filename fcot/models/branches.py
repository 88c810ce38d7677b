"""What the branches of a batch are called: the teacher's, and one for each student."""

from collections.abc import Sequence

STUDENT, TEACHER = "student", "teacher"


def student_branches(ratios: Sequence[int]) -> dict[str, int]:
    """Return the branches of a batch that students at these ratios read, and the ratio of each.

    The first is "student", whether or not there are others.
    """
    return {STUDENT if ratio == ratios[0] else f"{STUDENT}-r{ratio}": ratio for ratio in ratios}


def named(name: str, branch: str) -> str:
    """Return the name of a student's file or folder: the first has the name itself, a further one "NAME-r4", say."""
    return name + branch.removeprefix(STUDENT)
