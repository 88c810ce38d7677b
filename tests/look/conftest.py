"""Students of the tiny teacher whose windows have several shapes."""

from pathlib import Path

import pytest
import torch

import fcot
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import save_student
from fcot.models.student_teacher import StudentTeacher

TINY = Path(fcot.__file__).parent / "tiny"
NEW = {
    "1x2 kept": {"compressor": "conv", "ratio": 2, "keep_positions": True},
    "2x2 behind": {"compressor": "conv2d", "ratio": 4, "placement": "after"},
    "elastic": {"spec": StudentSpec("conv2d", 2, ratios=(2, 4))},
    "1x4 kept": {"compressor": "conv", "ratio": 4, "keep_positions": True},
}


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory):
    """A function that returns the folder of a shipped model, or of an untrained student of the teacher."""
    made = {}

    def folder(name):
        if name in ("teacher", "student"):
            return ModelFolder(TINY / name)
        if name not in made:
            made[name] = tmp_path_factory.mktemp("reader") / "student"
            with torch.random.fork_rng():
                torch.manual_seed(0)
                save_student(StudentTeacher(TINY / "teacher", **NEW[name]).student, made[name], TINY / "teacher")
        return ModelFolder(made[name])

    return folder
