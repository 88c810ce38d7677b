"""Names of the branches of a batch: one for the teacher, one for each student."""

from collections.abc import Sequence

STUDENT, TEACHER = "student", "teacher"
MIXED = "student-mixed"  # an elastic student, each tile at a ratio drawn for it


def student_branches(ratios: Sequence[int]) -> dict[str, int]:
    """Return the branch of each student, with its ratio, in the given order.

    The first is always "student".
    """
    return {STUDENT if ratio == ratios[0] else f"{STUDENT}-r{ratio}": ratio for ratio in ratios}


def named(name: str, branch: str) -> str:
    """Return the name of a student's file or folder: `name` for the first, such as "NAME-r4" for a further one."""
    return name + branch.removeprefix(STUDENT)
