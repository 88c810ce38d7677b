"""A package from elsewhere adds a merge method that returns tensors, a utility, a metric and an importer."""

import json
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from fcot.cli.main import main
from fcot.merge import MERGE_METHODS
from fcot.models.student_folder import load_student
from shards.importers import IMPORTERS

SOURCE = '''\
"""Parts of somebody else."""

from collections.abc import Mapping

import torch

from fcot.merge import MERGE_METHODS
from fcot.metrics import AnswerMetric
from shards.importers import IMPORTERS
from shards.importers.importer import imported


class Ties(Mapping):
    """θ_base plus the mean of what agrees in sign among the largest changes (TIES-merging, arXiv 2306.01708)."""

    def __init__(self, base, checkpoints, density):
        self.base, self.checkpoints, self.density = base, checkpoints, density

    def __getitem__(self, name):
        base = self.base[name]
        if not base.is_floating_point():
            return base
        deltas = torch.stack([each[name].float() - base.float() for each in self.checkpoints])
        kept = max(1, round(self.density * base.numel()))
        for delta in deltas:
            smallest = delta.abs().flatten().sort(descending=True).values[kept - 1]
            delta[delta.abs() < smallest] = 0
        sign = deltas.sum(0).sign()
        agreeing = torch.where(deltas.sign() == sign, deltas, 0)
        count = (agreeing != 0).sum(0).clamp(min=1)
        return (base.float() + agreeing.sum(0) / count).to(base.dtype)

    def __iter__(self):
        return iter(self.base)

    def __len__(self):
        return len(self.base)


@MERGE_METHODS.add
def elsewhere_ties(base, checkpoints, *, density):
    """Merge by TIES."""
    return Ties(base, checkpoints, density)


class Smallness:
    """The smaller the head, the better."""

    def __init__(self, power: float):
        self.power, self.fingerprint = power, f"smallness {power}"

    def __call__(self, weights):
        return -float(weights["lm_head.weight"].norm()) ** self.power


class Words:
    """The last words of a text, as questions without a picture."""

    repeat_time = {}

    def __init__(self, source, last):
        self.words = source.read_text().split()[-last:]

    def __len__(self):
        return len(self.words)

    def __call__(self, index):
        turns = [{"from": "human", "value": "Which word?"}, {"from": "gpt", "value": self.words[index]}]
        return imported(turns, [], task="words", source="a text")


@IMPORTERS.add
def elsewhere_words(source, *, last: int = 1):
    """Import the last words of a text."""
    return Words(source, last)


class ElsewhereLength(AnswerMetric):
    """How long an answer is."""

    higher_is_better = True

    def score(self, prediction, references):
        return min(len(prediction) / 100, 1.0)
'''


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The package is installed, and the working folder is empty but for it."""
    info = tmp_path / "packages" / "elsewhere_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "packages" / "elsewhere_parts.py").write_text(SOURCE, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere_parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fcot.plugins]\nparts = elsewhere_parts\n")
    for registry in (MERGE_METHODS, IMPORTERS):  # other tests know of no such package
        monkeypatch.setattr(registry, "_added", dict(registry._added))
    monkeypatch.delitem(sys.modules, "elsewhere_parts", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path, elsewhere, student_folder, tiny_shards):
    """Post-train for two steps with the given settings of the merge; return the run folder."""

    def fit(**merge):
        snapshots = {"class_path": "Snapshots", "init_args": {"count": 2}}
        callbacks = [snapshots, {"class_path": "ShapleyMerge", "init_args": merge}]
        trainer = {"max_steps": 2, "accelerator": "cpu", "devices": 1, "default_root_dir": "run", "logger": False}
        trainer |= {"callbacks": callbacks, "limit_val_batches": 0, "enable_progress_bar": False}
        model = {"checkpoint": str(student_folder), "max_new_tokens": 2, "metrics": {"*": ["elsewhere_length"]}}
        config = {"model": {"class_path": "SFT", "init_args": model}, "trainer": trainer}
        config["data"] = {"root": str(tiny_shards), "batch_size": 2, "num_workers": 0}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        main(["fit", "--config", "run.yaml"])
        return tmp_path / "run"

    return fit


def test_a_method_that_returns_tensors_takes_its_option_from_yaml_and_leaves_a_whole_folder(run, tmp_path):
    folder = run(method="elsewhere_ties", options={"density": 0.25}, random_draws=2)
    report = json.loads((folder / "merged" / "merge.json").read_text())
    assert (report["chosen"], report["weights"]) == ("elsewhere_ties", None)
    assert report["metric"] == "mean score of answers over tasks"
    assert (folder / "merged" / "merge.png").stat().st_size > 1000
    names = ("base", "step-000001", "step-000002")
    base, first, last = (load_file(folder / "snapshots" / name / "model.safetensors") for name in names)
    merged = load_student(folder / "merged").state_dict()["lm_head.weight"]
    deltas = [each["lm_head.weight"] - base["lm_head.weight"] for each in (first, last)]
    changed = (merged != base["lm_head.weight"]).float().mean()
    assert 0 < changed <= 0.5 + 1e-3  # a quarter of each snapshot's changes, which need not be the same quarter
    most = torch.stack([delta.abs() for delta in deltas]).amax(0)
    assert ((merged - base["lm_head.weight"]).abs() <= most + 1e-6).all()
    main(["export", str(folder / "merged"), "exported", "--base", "someone/teacher"])
    assert "elsewhere_ties" in (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    main(["merge", str(folder), "--method", "elsewhere_ties", "--options", "{density: 1.0}", "--overwrite", "true"])
    whole = load_student(folder / "merged").state_dict()["lm_head.weight"]
    assert (whole != base["lm_head.weight"]).float().mean() > changed


def test_a_utility_is_named_by_its_class(run):
    utility = {"class_path": "elsewhere_parts.Smallness", "init_args": {"power": 2.0}}
    folder = run(method="average", utility=utility, random_draws=2)
    report = json.loads((folder / "merged" / "merge.json").read_text())
    assert report["metric"] == "own utility"
    base = load_file(folder / "snapshots" / "base" / "model.safetensors")["lm_head.weight"]
    assert report["utilities"][""] == pytest.approx(-(float(base.norm()) ** 2), rel=1e-5)


def test_an_unknown_option_and_a_missing_one_are_named_before_training(run, tmp_path, capsys):
    for options, said in (({"densty": 0.2}, "Did you mean 'density'?"), ({}, "needs the option 'density'")):
        with pytest.raises(SystemExit):
            run(method="elsewhere_ties", options=options)
        assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "snapshots").exists()


def test_an_importer_takes_its_option_from_the_command_line(elsewhere, tmp_path, capsys):
    (tmp_path / "text").write_text("one two three four")
    main(["shards", "import", "elsewhere_words", "text", "set/train", "--options", "{last: 3}", "--workers", "1"])
    manifest = json.loads((tmp_path / "set" / "train" / "manifest.json").read_text())
    assert (manifest["samples"], manifest["importer"], manifest["options"]) == (3, "elsewhere_words", {"last": 3})
    with pytest.raises(SystemExit):
        main(["shards", "import", "elsewhere_words", "text", "set/dev", "--options", "{lsat: 3}"])
    assert "Did you mean 'last'?" in capsys.readouterr().err
