"""Weights are scored on a CUDA device as on a CPU, and a merge made there is a folder for either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks import ShapleyMerge, Snapshots
from callbacks.dev_scores import VALUES, DevScores
from fcot.files.weights import open_weights
from fcot.training.sft import SFT

pytestmark = pytest.mark.gpu

READER = Path(__file__).parents[2] / "fcot/tiny/student"  # it really reads, so that scores depend on the weights


def score(folder: Path, pages: Any, device: torch.device | str, value: str, samples: int | None = None) -> Any:
    """What a folder's weights score on some pages, loaded into its model on a device."""
    module = SFT(folder, max_new_tokens=24)
    module.configure_model()
    module.to(device)
    return DevScores(module, pages, value=value, samples=samples, halved=False)(open_weights(folder))


@pytest.mark.parametrize("value", VALUES)
def test_weights_score_on_a_device_what_they_score_on_a_cpu(pages, device, value):
    expected, found = (score(READER, pages, place, value) for place in ("cpu", device))
    if value == "tokens":
        assert expected > 0.1 and found == pytest.approx(expected, abs=0.01)  # a near tie may go the other way
    else:
        assert any(any(each) for each in expected.values())
        assert found == {task: pytest.approx(each) for task, each in expected.items()}


def test_a_merge_on_a_device_can_be_loaded_and_scores_the_same_anywhere(tmp_path, pages, trainer, device):
    pytest.importorskip("matplotlib")  # a merge draws its picture
    module = SFT(READER, optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-4), max_new_tokens=4)
    merge = ShapleyMerge(method="average", value="tokens", samples=4, random_draws=2)
    place = {"accelerator": "cpu" if device.type == "cpu" else "gpu", "devices": 1}
    trainer(tmp_path, Snapshots(count=2), merge, max_steps=4, **place).fit(module, pages)
    report = json.loads((tmp_path / "merged/merge.json").read_text())
    assert report["chosen"] == "average"
    utility = report["controls"]["average"]["utility"]
    scores = [score(tmp_path / "merged", pages, place, "tokens", 4) for place in ("cpu", device)]
    assert scores == pytest.approx([utility, utility], abs=0.01)
