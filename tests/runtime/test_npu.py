"""Runs on "npu": a device of torch's PrivateUse1, as torch_npu's is, whose operations the CPU computes (`npu_on_cpu`).

The accelerator, precision, strategies and checkpoints touch it as a real device: its tensors are neither the CPU's nor
CUDA's to torch, and each of its operations is counted. What computes is the CPU, so this says nothing of CANN's
kernels, of HCCL (its place is taken by gloo), of streams or of memory.
"""

import csv
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "npu_on_cpu"
DDP = '{"class_path": "fcot.runtime.npu.NPUDDPStrategy"}'
VALIDATED = {"trainer.limit_val_batches": "1", "trainer.val_check_interval": "2"}

HAS_BACK_ENDS = hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend")

pytestmark = pytest.mark.skipif(not HAS_BACK_ENDS, reason="this version of torch takes no back end in Python")


@dataclass
class Run:
    """What a run left: its folder, and how often each operation ran on the device."""

    folder: Path
    ran: dict[str, int]

    def losses(self):
        """Losses of the steps it took itself."""
        with (self.folder / "metrics.csv").open() as file:
            return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]

    def tensors(self, step):
        """Weights, optimizer states and all else in the checkpoint of a step."""
        return load_file(self.folder / f"checkpoints/step-{step:06d}.ckpt/model.safetensors")

    def count(self, *operations, dtype):
        """How often operations ran on the device for tensors of a type."""
        return sum(self.ran.get(f"{name}, torch.{dtype}", 0) for name in operations)


def words(folder, shards, accelerator="npu", configs=("realign_tiny",), steps=2, **options):
    """Words of a run on few and small pages, with losses written for every step."""
    given = {
        "trainer.accelerator": accelerator,
        "trainer.max_steps": str(steps),
        "trainer.checkpoint_every_n_steps": str(steps // 2),
        "trainer.limit_val_batches": "0",
        "trainer.log_every_n_steps": "1",
        "trainer.enable_progress_bar": "false",
        "trainer.default_root_dir": str(folder),
        "trainer.logger": "CSVLogger",
        "trainer.logger.save_dir": str(folder),
        "trainer.logger.name": "",
        "trainer.logger.version": "",
        "model.max_new_tokens": "3",
        "data.root": str(shards),
        "data.recipe": "null",
        "data.batch_size": "2",
        "data.eval_batch_size": "2",
        "data.num_workers": "0",
        **options,
    }
    files = [("config", str(ROOT / "configs" / f"{name}.yaml")) for name in configs]
    return ["fit", *(word for name, value in (*files, *given.items()) for word in (f"--{name}", value))]


def start(answer, all_words, **environment):
    """Start a process that has the device and runs one after the other; `answer` is its file for what ran."""
    path = os.pathsep.join([str(ROOT), str(HERE)])
    process = subprocess.Popen(
        [sys.executable, HERE / "fit.py", answer],
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    process.stdin.write(json.dumps(all_words))
    process.stdin.close()
    process.stdin = None
    return process


def run_all(root, shards, runs):
    """Run each of the named runs, given by their options; return what they left."""
    process = start(root / "ran.json", [words(root / name, shards, **options) for name, options in runs.items()])
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    counts = json.loads((root / "ran.json").read_text())
    return {name: Run(root / name, ran) for name, ran in zip(runs, counts, strict=True)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_shards):
    """The same two steps on the device and on the CPU, by precision; on the device also resumed, under DDP."""
    root = tmp_path_factory.mktemp("npu")
    halfway = str(root / "npu/checkpoints/step-000001.ckpt")
    return run_all(
        root,
        tiny_shards,
        {
            "npu": VALIDATED,
            "npu ddp": {"accelerator": "auto", "trainer.strategy": DDP, "ckpt_path": halfway},
            "npu mixed": {"configs": ["realign_tiny", "trainer/npu"]},
            "cpu": {"accelerator": "cpu"},
            "cpu mixed": {"accelerator": "cpu", "trainer.precision": "bf16-mixed"},
        },
    )


def test_steps_run_on_the_device_and_nowhere_else(runs):
    assert runs["npu"].count("mm", "addmm", "bmm", dtype="float32") > 500
    assert runs["npu"].count("mm", "addmm", "bmm", dtype="bfloat16") == 0
    assert runs["npu"].ran["_fused_adamw_, None"] >= 2
    assert runs["cpu"].ran == runs["cpu mixed"].ran == {}


def test_mixed_precision_multiplies_in_bf16_on_the_device(runs):
    products = {dtype: runs["npu mixed"].count("mm", "addmm", dtype=dtype) for dtype in ("bfloat16", "float32")}
    assert products["bfloat16"] > 200 > 20 * products["float32"]  # the loss multiplies in fp32


def test_losses_are_those_of_the_cpu(runs):
    assert len(runs["npu"].losses()) == 2
    assert runs["npu"].losses() == pytest.approx(runs["cpu"].losses(), rel=1e-4)
    assert runs["npu mixed"].losses() == pytest.approx(runs["cpu mixed"].losses(), rel=0.03)


def test_a_run_goes_on_to_the_last_bit_and_ddp_of_one_process_is_a_single_device(runs):
    whole, resumed = runs["npu"], runs["npu ddp"]
    assert resumed.losses() == whole.losses()[1:]
    same(whole.tensors(2), resumed.tensors(2))


def same(one, other):
    assert one.keys() == other.keys() and any("exp_avg" in name for name in one)
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


def test_validation_answers_on_the_device(runs):
    shown = (runs["npu"].folder / "predictions.jsonl").read_text().splitlines()
    assert shown and runs["npu"].count("argmax", dtype="float32") > runs["npu ddp"].count("argmax", dtype="float32")


def test_the_end_of_a_run_gives_memory_back(runs):
    assert all(run.ran["empty_cache"] for name, run in runs.items() if name.startswith("npu"))


@pytest.mark.slow
def test_both_stages_resume_to_the_last_bit_with_randomness_drawn_on_the_device(tmp_path, tiny_shards):
    realigned = {"steps": 20}
    trained = {
        "configs": ["sft_tiny"],
        "steps": 6,
        "model.checkpoint": str(tmp_path / "realigned/student"),
        "model.drop_path": "0.3",
        "model.freeze": "[]",
        "trainer.callbacks": "[]",
    }
    made = run_all(
        tmp_path,
        tiny_shards,
        {
            "realigned": realigned,
            "realigned again": {**realigned, "ckpt_path": str(tmp_path / "realigned/checkpoints/step-000010.ckpt")},
            "trained": trained,
            "trained again": {**trained, "ckpt_path": str(tmp_path / "trained/checkpoints/step-000003.ckpt")},
        },
    )
    assert made["trained"].ran["drawn"] >= 6
    for stage, steps in ("realigned", 20), ("trained", 6):
        whole, again = made[stage], made[f"{stage} again"]
        assert again.losses() == whole.losses()[steps // 2 :]
        same(whole.tensors(steps), again.tensors(steps))


@pytest.mark.slow
def test_two_processes_train_as_one_with_their_batches_together(tmp_path, tiny_shards):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "LOCAL_RANK": "0"}
    two = words(tmp_path / "two", tiny_shards, **{"trainer.num_nodes": "2", "data.batch_size": "1"})
    nodes = [start(tmp_path / f"{rank}.json", [two], NODE_RANK=str(rank), **place) for rank in range(2)]
    said = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    one = run_all(tmp_path, tiny_shards, {"one": {}})["one"].tensors(2)
    for name, tensor in Run(tmp_path / "two", {}).tensors(2).items():
        torch.testing.assert_close(tensor, one[name], rtol=1e-4, atol=1e-5, msg=name)
