"""A compressor of another package goes all the way: trained from YAML, saved, exported, counted and drawn."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCE = '''\
"""A compressor of somebody else."""

from torch import Tensor, nn

from fcot.compress import Compressor


class DeepPool(Compressor):
    """Mean of neighbours, then some linear maps."""

    def __init__(self, *, ratio: int, side: int, width: int, depth: int = 1) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    @classmethod
    def windows(cls, ratio, side):
        import numpy

        return numpy.arange(side * side).reshape(side, side) // ratio

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = tokens.unflatten(1, (-1, self.ratio)).mean(2)
        for each in self.maps:
            pooled = pooled + each(pooled)
        return pooled
'''
WITHOUT_FCOT = """\
import sys
sys.modules["fcot"] = None  # any import of it fails
from transformers import AutoModelForImageTextToText
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)
compressor = model.model.multi_modal_projector.compressor
print(type(compressor).__name__, len(compressor.maps))
"""
DRAWN = """\
import sys
from pathlib import Path
from PIL import Image
from fcot.cli.plugins import load_declared
load_declared()
from fcot.report.tokens import draw_tokens, tiling_of, windows
print(windows("deep_pool", 2, 2).tolist())
eyes = tiling_of(Path("run"))
draw_tokens(Image.new("RGB", (224, 224), "white"), eyes, [(1, "Teacher"), (2, "Student")]).save("tokens.png")
print(eyes.spec.options, eyes.counts(Image.new("RGB", (56, 56)), 2))
"""


@pytest.fixture
def python(tmp_path):
    """Run Python where a package with a compressor is installed; return what it printed."""
    packages = tmp_path / "packages"
    info = packages / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / "elsewhere.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fcot.plugins]\ndeep_pool = elsewhere\n")

    def run(*words, installed=True):
        path = f"{packages}:{ROOT}" if installed else ""
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        env |= {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=tmp_path, env=env, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.mark.slow
def test_an_option_in_yaml_reaches_the_exported_model(python, tmp_path, tiny_checkpoint, tiny_shards):
    model = {"checkpoint": str(tiny_checkpoint), "compressor": "deep_pool", "compressor_options": {"depth": 3}}
    trainer = {"max_steps": 2, "accelerator": "cpu", "devices": 1, "default_root_dir": "run", "logger": False}
    trainer |= {"callbacks": [{"class_path": "SaveStudent"}], "limit_val_batches": 1, "enable_progress_bar": False}
    config = {"model": {"class_path": "Realign", "init_args": model}, "trainer": trainer}
    config["data"] = {"root": str(tiny_shards), "batch_size": 2, "num_workers": 0}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    python("-m", "fcot", "fit", "--config", "run.yaml")
    (student,) = (file.parent for file in (tmp_path / "run").rglob("student/config.json"))
    assert json.loads((student / "config.json").read_text())["compressor_options"] == {"depth": 3}
    python("-m", "fcot", "export", student, "exported", "--base", "someone/teacher")
    assert python("-c", WITHOUT_FCOT, "exported", installed=False).split()[-2:] == ["DeepPool", "3"]


def test_bench_counts_it_on_the_meta_device(python, tmp_path, tiny_checkpoint):
    words = ("-m", "fcot", "bench", "step", "--model", tiny_checkpoint, "--device", "meta", "--naive", "false")
    python(*words, "--tiles", 1, "--compressor", "deep_pool", "--json", "found.json")
    assert "deep_pool" in (tmp_path / "found.json").read_text()


def test_the_reports_picture_of_tokens_asks_it(python, tmp_path, tiny_checkpoint):
    model = {"checkpoint": str(tiny_checkpoint), "compressor": "deep_pool", "compressor_options": {"depth": 2}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({"model": {"class_path": "Realign", "init_args": model}}))
    assert python("-c", DRAWN).splitlines() == ["[[0, 0], [1, 1]]", "{'depth': 2} [2]"]
    assert (tmp_path / "tokens.png").stat().st_size > 1000
