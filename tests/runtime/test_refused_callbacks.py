"""A callback of Lightning that cannot do here what it is for is refused before anything is trained."""

import pytest
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    DeviceStatsMonitor,
    EMAWeightAveraging,
    LearningRateFinder,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
)

from fcot.errors import UserError
from fcot.runtime.trainer import Trainer

REFUSED = [
    BatchSizeFinder(),
    EMAWeightAveraging(),
    LearningRateFinder(),
    ModelPruning("l1_unstructured"),
    OnExceptionCheckpoint("."),
    StochasticWeightAveraging(0.1),
]


@pytest.mark.parametrize("callback", REFUSED, ids=lambda callback: type(callback).__name__)
def test_what_cannot_work_is_refused_by_name_with_what_to_do(tmp_path, callback):
    with pytest.raises(UserError, match=rf"^{type(callback).__name__} [\s\S]*\nLeave it out"):
        Trainer(default_root_dir=tmp_path, accelerator="cpu", callbacks=[callback])


@pytest.mark.parametrize(
    ("asked", "installed", "refused"), [(None, False, True), (False, False, False), (None, True, False)]
)
def test_the_load_of_cpus_needs_a_package(tmp_path, monkeypatch, asked, installed, refused):
    monkeypatch.setattr("fcot.runtime.refused_callbacks.find_spec", lambda name: installed or None)
    make = {"default_root_dir": tmp_path, "accelerator": "cpu", "callbacks": [DeviceStatsMonitor(asked)]}
    if refused:
        with pytest.raises(UserError, match="pip install psutil"):
            Trainer(**make)
    else:
        Trainer(**make)
