"""The name that exported model cards import; the student itself is in `fcot.models.student`."""

from fcot.models.student import CompressedInternVL
from fcot.models.student_config import CompressedInternVLConfig
from fcot.models.student_folder import load_student, save_student

__all__ = ["CompressedInternVL", "CompressedInternVLConfig", "load_student", "save_student"]
