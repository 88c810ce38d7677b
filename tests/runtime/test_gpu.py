"""A training on a CUDA device: from the command line, resumed, under DDP and FSDP2, and across devices."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from torch import Tensor

from fcot.cli.main import main
from fcot.runtime.checkpoints.folder import read_checkpoint
from fcot.training.sft import SFT

pytestmark = pytest.mark.gpu

WATCH = """
import json
from pathlib import Path
from lightning.pytorch import Callback
from fcot.runtime.checkpoints.exact_resume import ExactResume


class Watch(Callback):
    '''Notes each batch, and where it was learned from.'''

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        done = next(c for c in trainer.callbacks if isinstance(c, ExactResume)).total
        loss = outputs["loss"]
        row = [done, trainer.global_step, loss.item(), batch.keys, loss.device.type]
        with (Path(trainer.default_root_dir) / "batches.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\\n")
"""
READER = Path(__file__).parents[2] / "fcot/tiny/student"  # a tower of several layers, so that drop path drops some
STAGES = ("Realign", "SFT")
STEPS, MIDDLE = 20, 10


class Losses(Callback):
    """Keeps the loss of each batch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(outputs["loss"].item())


@pytest.fixture
def indeterminate_afterwards():
    """Let algorithms be chosen freely again after a run that asked for deterministic ones."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False


@pytest.fixture
def group_ends():
    """End the group of processes that a strategy has made, and forget where it met."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
        os.environ |= {name: before[name]} if name in before else {}


def accelerator(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "gpu"


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01)


def write_run(folder: Path, stage: str, checkpoint: Path, shards: Path, **trainer: Any) -> None:
    (folder / "watch.py").write_text(WATCH)
    settings = {
        "trainer": {
            "max_steps": STEPS,
            "checkpoint_every_n_steps": MIDDLE,
            "accelerator": "auto",
            "devices": 1,
            "precision": "bf16-mixed",
            "deterministic": True,
            "gradient_clip_val": 1.0,
            "accumulate_grad_batches": 2,
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "logger": False,
            "callbacks": [{"class_path": "watch.Watch"}],
            **trainer,
        },
        "model": {
            "class_path": stage,
            "init_args": {
                "checkpoint": str(checkpoint),
                "max_new_tokens": 2,
                "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.001}},
                **({"drop_path": 0.2} if stage == "SFT" else {"ratios": [2, 4], "elastic": True, "mixed": 0.5}),
            },
        },
        "data": {"root": str(shards), "batch_size": 4, "eval_batch_size": 4, "num_workers": 1, "token_budget": 300},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))


def batches(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "batches.jsonl").read_text().splitlines()]


def tensors(state: Any, path: str = "") -> dict[str, Tensor]:
    """All tensors in nested state, by their path."""
    if isinstance(state, Tensor):
        return {path: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {name: each for key, item in items for name, each in tensors(item, f"{path}/{key}").items()}


@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_run_goes_on_bit_for_bit(
    tmp_path, monkeypatch, tiny_checkpoint, tiny_shards, device, indeterminate_afterwards, stage
):
    write_run(tmp_path, stage, READER if stage == "SFT" else tiny_checkpoint, tiny_shards)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "watch", raising=False)
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    words = ["fit", "--config", "run.yaml", "--trainer.default_root_dir"]
    middle, last = (f"straight/checkpoints/step-{step:06d}.ckpt" for step in (MIDDLE, STEPS))
    main([*words, "straight"])
    main([*words, "resumed", "--ckpt_path", middle])
    straight, resumed = (batches(tmp_path / name) for name in ("straight", "resumed"))
    assert {row[-1] for row in straight + resumed} == {device.type}
    assert len(straight) == 2 * STEPS and resumed == straight[2 * MIDDLE :]
    assert len({row[2] for row in straight}) > STEPS  # its losses are not those of a run that does nothing
    one, other = (tensors(read_checkpoint(Path(path))) for path in (last, last.replace("straight", "resumed")))
    assert one.keys() == other.keys() and one
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("bf16-mixed", 0.02)])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_one_process_that_shares_with_nobody_learns_as_without_a_strategy(
    tmp_path, student_folder, pages, trainer, device, group_ends, strategy, precision, tolerance
):
    def train(name: str, **options: Any) -> tuple[list[float], dict[str, Tensor]]:
        torch.manual_seed(0)
        losses, module = Losses(), SFT(student_folder, optimizer=adamw)
        options |= {"accelerator": accelerator(device), "devices": 1, "precision": precision, "gradient_clip_val": 1.0}
        run = trainer(tmp_path / name, losses, max_steps=4, checkpoint_every_n_steps=4, **options)
        run.fit(module, pages)
        return losses.seen, read_checkpoint(tmp_path / name / "checkpoints/step-000004.ckpt")["state_dict"]

    expected, weights = train("alone")
    found, others = train("shared", strategy=strategy)
    assert found == pytest.approx(expected, rel=tolerance)
    assert others.keys() == weights.keys()
    for name, weight in weights.items() if precision == "32-true" else ():
        # where a gradient is next to nothing, AdamW's first steps, of 0.01, have the sign of its rounding error
        assert ((others[name] - weight).abs() < 1e-4).float().mean() > 0.99, name


@pytest.mark.parametrize("first", ["device", "cpu"])
def test_a_checkpoint_of_one_device_goes_on_on_another(tmp_path, student_folder, pages, trainer, device, first):
    places = {"device": accelerator(device), "cpu": "cpu"}
    second = "cpu" if first == "device" else "device"

    def train(name: str, place: str, steps: int, path: Path | None = None) -> list[float]:
        losses, module = Losses(), SFT(student_folder, optimizer=adamw)
        options = {"accelerator": places[place], "devices": 1, "checkpoint_every_n_steps": 2}
        torch.manual_seed(0)
        trainer(tmp_path / name, losses, max_steps=steps, **options).fit(module, pages, ckpt_path=path)
        return losses.seen

    expected = train("straight", first, 4)
    middle = tmp_path / "straight/checkpoints/step-000002.ckpt"
    before = tensors(read_checkpoint(middle))
    assert {each.device.type for each in before.values()} == {"cpu"}
    assert any(name.endswith("exp_avg") and each.any() for name, each in before.items())
    assert train("resumed", second, 4, middle) == pytest.approx(expected[2:], rel=1e-3)
