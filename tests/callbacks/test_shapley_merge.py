"""Snapshots of a short run are merged when it ends."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from callbacks import ShapleyMerge, Snapshots
from fcot.errors import UserError
from fcot.models.student import CompressedInternVL
from fcot.models.student_folder import load_student
from fcot.training.sft import SFT


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


@pytest.fixture
def merging(tmp_path, student_folder, pages, trainer):
    """Post-train for four steps with two snapshots, then merge; returns the module."""

    def run(merge, **options):
        module = SFT(student_folder, optimizer=adamw, max_new_tokens=2)
        trainer(tmp_path, Snapshots(count=2), merge, max_steps=4, **options).fit(module, pages)
        return module

    return run


def test_snapshots_and_their_merge_are_model_folders(tmp_path, student_folder, merging):
    module = merging(ShapleyMerge(method="average"))
    names = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert names == ["base", "step-000002", "step-000004"]
    base, first, last = (load_file(tmp_path / "snapshots" / name / "model.safetensors") for name in names)
    start = load_student(student_folder).state_dict()
    assert all(torch.equal(base[name], tensor) for name, tensor in start.items())
    assert not torch.equal(first["lm_head.weight"], last["lm_head.weight"])

    report = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert (report["chosen"], report["split"], report["n"]) == ("average", "dev", 8)
    assert set(report["utilities"]) == {"", "step-000002", "step-000004", "step-000002+step-000004"}
    first_share, last_share = (report["weights"][name] for name in names[1:])
    merged = load_student(tmp_path / "merged")
    assert isinstance(merged, CompressedInternVL)
    assert (tmp_path / "merged" / "merge.png").stat().st_size > 1000
    for name, tensor in merged.state_dict().items():
        expected = base[name] + first_share * (first[name] - base[name]) + last_share * (last[name] - base[name])
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-7)
        assert torch.equal(module.pair.student.state_dict()[name], tensor)  # the module goes on as what was kept


def test_a_utility_of_ones_own_decides(tmp_path, merging):
    merge = ShapleyMerge()
    # the higher the nearer to the first snapshot: v(first) = 1, v of all else is less
    target = []

    def nearness(mixture):
        if not target:
            target.append(load_file(tmp_path / "snapshots" / "step-000002" / "model.safetensors")["lm_head.weight"])
        return 1.0 - float((mixture["lm_head.weight"] - target[0]).abs().sum())

    merge.utility = nearness
    merging(merge)
    report = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert report["utilities"]["step-000002"] == pytest.approx(1.0, abs=1e-4)
    assert report["shapley"]["step-000002"] > report["shapley"]["step-000004"]
    assert sum(report["shapley"].values()) == pytest.approx(
        report["utilities"]["step-000002+step-000004"] - report["utilities"][""]
    )
    # it finds candidates; what is kept is decided by answers to dev pages, where an untrained student gains nothing
    assert report["choice"]["candidate"] == "best_single"
    assert report["choice"]["difference"]["n"] == 4
    assert (report["chosen"], report["weights"]) == ("final", {"step-000002": 0.0, "step-000004": 1.0})


def test_auto_finds_on_one_half_of_the_dev_pages_and_confirms_on_the_other(tmp_path, monkeypatch, merging):
    read = []

    def by_task(module, loader):
        keys = [key for batch in loader for key in batch.keys]
        read.append(keys)
        first = load_file(tmp_path / "snapshots" / "step-000002" / "model.safetensors")["lm_head.weight"]
        near = torch.allclose(module.pair.student.lm_head.weight, first, atol=1e-6)
        return SimpleNamespace(by_task=lambda: {"text": [float(near)] * len(keys)})

    monkeypatch.setattr(SFT, "evaluate", by_task)
    merging(ShapleyMerge(random_draws=1))
    report = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert report["chosen"] == report["choice"]["candidate"] == "best_single"
    *found_on, candidate, last = read
    assert candidate == last and len(candidate) == 4
    assert all(keys == found_on[0] for keys in found_on) and report["n"] == len(found_on[0]) == 4
    assert not set(found_on[0]) & set(candidate)


def test_the_default_utility_is_the_dev_score_of_the_mixture(tmp_path, student_folder, monkeypatch, merging):
    seen = []

    def evaluate(module, loader):
        class Scored:
            def by_task(self):
                seen.append((sum(map(len, loader)), module.pair.student.lm_head.weight.detach().clone()))
                return {"text": [0.0] * seen[-1][0]}

        return Scored()

    monkeypatch.setattr(SFT, "evaluate", evaluate)
    merging(ShapleyMerge(method="average", samples=5, random_draws=1))
    assert {pages_read for pages_read, _ in seen} == {5}
    assert any(torch.equal(weight, load_student(student_folder).lm_head.weight) for _, weight in seen)
    assert json.loads((tmp_path / "merged" / "merge.json").read_text())["n"] == 5


def test_scores_of_answers_are_kept_by_page_and_every_method_is_written_if_asked_for(tmp_path, pages, merging):
    module = merging(ShapleyMerge(method="average", random_draws=1, each=tmp_path / "each"))
    report = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert {sum(map(len, scores.values())) for scores in report["pages"].values()} == {8}
    found = module.evaluate(pages.loader("dev", with_prompts=True, layout=module.layout)).by_task()
    assert report["controls"]["average"]["pages"] == found  # the module goes on as the average
    assert report["intervals"]["shapley"]["step-000004"]["n"] == 8
    assert {folder.name for folder in (tmp_path / "each").iterdir()} == set(report["controls"])
    last, kept = (load_file(tmp_path / name / "model.safetensors") for name in ("snapshots/step-000004", "each/final"))
    assert all(torch.equal(kept[name], tensor) for name, tensor in last.items())
    with pytest.raises(UserError, match="each/final already holds a merged model"):
        ShapleyMerge(each=tmp_path / "each").check(tmp_path / "new", 2, "overwrite")


def test_coalitions_may_be_valued_by_answer_tokens(tmp_path, pages, merging):
    module = merging(ShapleyMerge(method="final", value="tokens"))
    report = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert report["metric"] == "mean answer-token accuracy over tasks"
    measured = module.token_accuracy(pages.loader("dev", with_prompts=True, layout=module.layout))
    assert report["controls"]["final"]["utility"] == pytest.approx(measured)
    with pytest.raises(UserError, match=r"value is 'token'\. Did you mean 'tokens'"):
        ShapleyMerge(value="token")


def test_a_failing_merge_gives_the_weights_back(tmp_path, student_folder, pages, trainer):
    merge, scored = ShapleyMerge(), []

    def fails_at_the_third(mixture):
        for name, tensor in module.pair.student.state_dict().items():
            tensor.copy_(mixture[name])  # as the default does
        scored.append(1)
        if len(scored) == 3:
            raise RuntimeError("out of luck")
        return 0.0

    merge.utility = fails_at_the_third
    module = SFT(student_folder, optimizer=adamw)
    snapshots = Snapshots(count=2)
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(tmp_path, snapshots, merge, max_steps=4).fit(module, pages)
    last = load_file(tmp_path / "snapshots" / "step-000004" / "model.safetensors")
    assert all(torch.equal(tensor, last[name]) for name, tensor in module.pair.student.state_dict().items())
    assert not (tmp_path / "merged").exists()


def test_a_trial_run_says_that_there_is_nothing_to_merge_and_writes_nothing(tmp_path, capsys, merging):
    merging(ShapleyMerge(), fast_dev_run=True)
    assert "ShapleyMerge: nothing to merge in a fast_dev_run." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("callbacks", "count"), [((), 0), ((Snapshots(count=1),), 1)])
def test_fewer_than_two_snapshots_are_not_merged(tmp_path, student_folder, pages, capsys, callbacks, count, trainer):
    trainer(tmp_path, *callbacks, ShapleyMerge(), max_steps=1).fit(SFT(student_folder), pages)
    assert (
        f"Nothing was merged: this run kept {count} snapshots, and a merge takes at least 2" in capsys.readouterr().out
    )
    assert not (tmp_path / "merged").exists()


def test_a_merged_folder_that_may_not_be_replaced_is_refused_before_training(merging, tmp_path):
    merged = tmp_path / "merged"
    merged.mkdir()
    (merged / "merge.json").write_text("{}")
    with pytest.raises(UserError, match=r"merged already holds a merged model.*\nGive ShapleyMerge.overwrite: true"):
        merging(ShapleyMerge())
    (merged / "merge.json").rename(merged / "notes.txt")
    with pytest.raises(UserError, match="merged exists and is not a merged model"):
        merging(ShapleyMerge(overwrite=True))
    assert not (tmp_path / "snapshots").exists()
    (merged / "notes.txt").rename(merged / "merge.json")
    merging(ShapleyMerge(method="final", value="tokens", overwrite=True))
    assert len((merged / "merge.json").read_text()) > 100


def test_a_merge_that_cannot_be_is_refused_before_training(merging, tmp_path, student_folder, pages, trainer):
    with pytest.raises(UserError, match=r"base is 'inti', and there is no such model folder\. Did you mean 'init'"):
        merging(ShapleyMerge(base="inti"))
    many = trainer(tmp_path, Snapshots(count=9), ShapleyMerge(), max_steps=9)
    with pytest.raises(UserError, match=r"9 snapshots have 512 coalitions.*\nMerge at most 8 .*permutations"):
        many.fit(SFT(student_folder), pages)
    assert not (tmp_path / "snapshots").exists()


def test_scores_of_a_utility_of_ones_own_are_found_again_only_if_it_says_what_it_is(tmp_path, merging, pages):
    merge, asked = ShapleyMerge(random_draws=1, overwrite=True), []

    def utility(mixture):
        asked.append(1)
        return 0.0

    merge.utility = utility
    module = merging(merge)
    snapshots = Snapshots(count=2, dirpath=tmp_path / "snapshots")
    first = len(asked)
    merge.merge(module, pages, snapshots, tmp_path)
    assert len(asked) == 2 * first  # it may have been another function of the same name
    utility.fingerprint = "always 0"
    for _ in range(2):
        merge.merge(module, pages, snapshots, tmp_path)
    assert len(asked) == 3 * first


def test_dev_pages_that_could_not_be_read_are_not_counted(tmp_path, merging, monkeypatch):
    monkeypatch.setattr("shards.feed.datamodule.Shards.size", lambda self, split: 99)  # 8 there are
    merging(ShapleyMerge(method="final", value="tokens"))
    assert json.loads((tmp_path / "merged" / "merge.json").read_text())["n"] == 8
