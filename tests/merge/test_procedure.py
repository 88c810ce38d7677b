import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fcot.errors import UserError
from fcot.merge import (
    MERGE_METHODS,
    Combination,
    coalition_key,
    coalitions,
    merge_snapshots,
    open_weights,
    write_weights,
)

PLAYERS = ["s1", "s2", "s3"]
NEITHER = ("exponential_average", "task_arithmetic_mean", "task_arithmetic_sum", "shapley", "banzhaf", "ties", "dare")
ALL = 8 + 8 + len(NEITHER)  # coalitions, random draws, and methods whose result is neither


def make_checkpoints(root, count=3, spread=(0.9, 0.6, 0.4)):
    """Snapshots around an optimum of 1 in every weight, the later the nearer; a base at 0."""
    write_weights(root / "base", [("a", torch.zeros(30)), ("b", torch.zeros(10, 3)), ("steps", torch.tensor(0))])
    snapshots = {}
    for place in range(count):
        generator = torch.Generator().manual_seed(place)
        width = spread[place % len(spread)]
        a, b = (1 + width * torch.randn(shape, generator=generator) for shape in ((30,), (10, 3)))
        snapshots[f"s{place + 1}"] = root / f"s{place + 1}.safetensors"
        write_weights(snapshots[f"s{place + 1}"], [("a", a), ("b", b), ("steps", torch.tensor(place))])
    return snapshots


class Score:
    """1 / (1 + mean squared distance to the optimum), counting its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, weights):
        self.calls += 1
        return 1 / (1 + float(torch.cat([weights[name].flatten() - 1 for name in "ab"]).square().mean()))


@pytest.fixture(autouse=True)
def quick_picture(request, monkeypatch):
    """Skip the half second of drawing, except in the test that looks at the picture."""
    if "picture" not in request.node.name:
        monkeypatch.setattr("fcot.merge.procedure.draw_merge", lambda report, path: path.touch())


@pytest.fixture
def snapshots(tmp_path):
    return make_checkpoints(tmp_path)


def merge(tmp_path, snapshots, utility=None, **options):
    return merge_snapshots(tmp_path / "base", snapshots, utility or Score(), tmp_path / "merged", **options)


def test_the_report_holds_the_game_the_controls_and_the_choice(tmp_path, snapshots):
    report = merge(tmp_path, snapshots, describe={"split": "dev", "n": 60, "metric": "accuracy"})
    written = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert written == report.to_dict()
    assert written["players"] == PLAYERS
    assert set(written["utilities"]) == {coalition_key(members) for members in coalitions(PLAYERS)}
    gain = written["utilities"]["s1+s2+s3"] - written["utilities"][""]
    assert math.fsum(written["shapley"].values()) == pytest.approx(gain, abs=1e-9)
    assert set(written["controls"]) == set(MERGE_METHODS)
    assert written["controls"][written["chosen"]]["weights"] == written["weights"]
    assert written["choice"]["method"] == written["chosen"] == "final"  # nothing was given to confirm another on
    assert (written["split"], written["n"], written["metric"], written["seed"]) == ("dev", 60, "accuracy", 0)
    assert written["base"]["path"] == str(tmp_path / "base") and len(written["base"]["sha256"]) == 64
    assert written["notes"] == []


def test_the_folder_holds_model_report_and_picture(tmp_path, snapshots):
    merge(tmp_path, snapshots)
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {
        "merge.json",
        "merge.png",
        "model.safetensors",
    }
    assert (tmp_path / "merged" / "merge.png").read_bytes().startswith(b"\x89PNG")


def test_controls_that_are_coalitions_repeat_their_scores_and_cost_nothing(tmp_path, snapshots):
    utility = Score()
    report = merge(tmp_path, snapshots, utility)
    utilities, controls = report.utilities, report.controls
    assert controls["final"].utility == utilities["s3"]
    assert controls["best_single"].utility == max(utilities[name] for name in PLAYERS)
    assert controls["average"].utility == utilities["s1+s2+s3"]
    assert controls["tail_average"].utility == utilities["s1+s2+s3"]
    assert controls["greedy_soup"].utility in utilities.values()
    # 8 coalitions, as many random draws, and one each that is neither
    assert utility.calls == report.evaluations == ALL


def test_saved_tensors_are_the_formula_in_fp32(tmp_path, snapshots):
    report = merge(tmp_path, snapshots, method="shapley")
    base, saved = open_weights(tmp_path / "base"), open_weights(tmp_path / "merged")
    positive = {name: max(value, 0.0) for name, value in report.shapley.items()}
    assert report.weights == pytest.approx({name: v / sum(positive.values()) for name, v in positive.items()})
    for name in ("a", "b"):
        expected = base[name].clone()
        for player, weight in report.weights.items():
            expected += weight * (open_weights(snapshots[player])[name] - base[name])
        assert torch.equal(saved[name], expected)
    assert saved["steps"] == base["steps"]


@pytest.mark.parametrize("method", MERGE_METHODS)
def test_a_named_method_is_the_one_that_is_saved(tmp_path, snapshots, method):
    report = merge(tmp_path, snapshots, method=method)
    assert report.chosen == method
    score = Score()
    assert score(open_weights(tmp_path / "merged")) == report.controls[method].utility


def test_auto_keeps_what_is_confirmed_on_other_pages(tmp_path, snapshots):
    def confirm(weights):
        score = Score()(weights)
        return {"text": [score, score - 0.1], "table": [score]}

    report = merge(tmp_path, snapshots, confirm=confirm)
    written = json.loads((tmp_path / "merged" / "merge.json").read_text())
    best = max(report.controls.values(), key=lambda control: control.utility)
    assert report.chosen == written["choice"]["candidate"] != "final"
    assert report.weights == best.weights
    gain = best.utility - report.controls["final"].utility
    assert written["choice"]["difference"] == pytest.approx({"mean": gain, "low": gain, "high": gain, "n": 3})
    assert Score()(open_weights(tmp_path / "merged")) == best.utility


@pytest.mark.filterwarnings("ignore:all (Shapley|Banzhaf) values")
def test_the_last_snapshot_is_kept_where_all_score_the_same(tmp_path, snapshots):
    report = merge(tmp_path, snapshots, lambda weights: 0.5)
    assert report.chosen == "final"
    assert report.weights == {"s1": 0.0, "s2": 0.0, "s3": 1.0}


class PageScore:
    """Scores of 30 pages of two tasks: the nearer a page's own weight is to 1, the better."""

    def __call__(self, weights):
        near = 1 / (1 + (weights["a"] - 1).square())
        return {"table": near[:12].tolist(), "text": near[12:].tolist()}


def test_scores_of_pages_are_kept_and_give_values_and_weights_their_intervals(tmp_path, snapshots):
    report = merge(tmp_path, snapshots, PageScore())
    text = (tmp_path / "merged" / "merge.json").read_text()
    written = json.loads(text)
    assert written == report.to_dict()
    for key, utility in written["utilities"].items():
        pages = written["pages"][key]
        assert [len(pages[task]) for task in ("table", "text")] == [12, 18]
        assert utility == pytest.approx(sum(math.fsum(each) / len(each) for each in pages.values()) / 2)
    assert all(control["pages"].keys() == {"table", "text"} for control in written["controls"].values())
    assert max(map(len, text.splitlines())) > 200  # a task's pages stand on a line
    for name in PLAYERS:
        found, weight = (written["intervals"][kind][name] for kind in ("shapley", "weights"))
        assert found["mean"] == pytest.approx(written["shapley"][name], abs=1e-12)
        assert weight["mean"] == pytest.approx(written["controls"]["shapley"]["weights"][name], abs=1e-12)
        assert found["low"] < found["mean"] < found["high"] and found["n"] == 30
        assert 0 <= weight["low"] <= weight["mean"] <= weight["high"] <= 1
    assert f"(n = 30): s1 {report.shapley['s1']:+.4f} [{written['intervals']['shapley']['s1']['low']:+.4f}, " in (
        report.summary()
    )
    merge(tmp_path, snapshots, None, utility_fingerprint="{}", overwrite=True)  # from what was kept on disk
    assert json.loads((tmp_path / "merged" / "merge.json").read_text())["pages"] == written["pages"]


def test_what_every_method_makes_is_written_if_asked_for(tmp_path, snapshots):
    report = merge(tmp_path, snapshots, each=tmp_path / "each")
    assert {folder.name for folder in (tmp_path / "each").iterdir()} == set(MERGE_METHODS) == set(report.controls)
    for name, control in report.controls.items():
        assert Score()(open_weights(tmp_path / "each" / name)) == control.utility
        own = json.loads((tmp_path / "each" / name / "merge.json").read_text())
        assert (own["chosen"], own["weights"]) == (name, control.weights)
    (tmp_path / "merged").rename(tmp_path / "aside")
    with pytest.raises(UserError, match=r"each/final already holds a merged model"):
        merge(tmp_path, snapshots, each=tmp_path / "each")


def test_no_method_may_score_more_mixtures_than_there_are_coalitions(tmp_path, snapshots, monkeypatch):
    monkeypatch.setattr(MERGE_METHODS, "_added", dict(MERGE_METHODS._added))

    @MERGE_METHODS.add
    def greedy_for_scores(base, checkpoints, *, utility):
        for step in range(9):
            utility(Combination(base, checkpoints, [step / 10, 0.0, 0.0]))
        return [0.0, 0.0, 1.0]

    with pytest.raises(UserError, match="greedy_for_scores scores more than 8 mixtures"):
        merge(tmp_path, snapshots)


def test_a_method_that_needs_every_coalition_is_left_out_where_values_are_sampled(tmp_path, snapshots):
    report = merge(tmp_path, snapshots, permutations=3)
    assert set(report.controls) == set(MERGE_METHODS) - {"banzhaf"}
    utility = Score()
    with pytest.raises(UserError, match="banzhaf needs the score of every coalition"):
        merge(tmp_path, snapshots, utility, permutations=3, method="banzhaf", overwrite=True)
    assert utility.calls == 0


def test_fallback_and_a_base_that_is_better_are_noted(tmp_path, snapshots):
    def prefers_the_base(weights):
        return 0.0 if weights["a"].any() else 1.0

    with pytest.warns(UserWarning, match="zero or below"):
        report = merge(tmp_path, snapshots, prefers_the_base)
    assert report.notes == [
        "all Shapley values are zero or below: uniform weights",
        "the base scores higher than the chosen weights",
    ]
    assert report.controls["shapley"].weights == report.controls["average"].weights


def test_options_reach_the_controls(tmp_path, snapshots):
    utility = Score()
    report = merge(
        tmp_path,
        snapshots,
        utility,
        random_draws=3,
        options={key: {"scale": 0.9} for key in ("task_arithmetic_mean", "task_arithmetic_sum")},
        seed=5,
    )
    assert utility.calls == 8 + 3 + len(NEITHER)
    assert report.controls["task_arithmetic_sum"].weights == dict.fromkeys(PLAYERS, 0.9)
    assert report.controls["task_arithmetic_mean"].weights == dict.fromkeys(PLAYERS, 0.9 / 3)
    other = merge(tmp_path, snapshots, utility, random_draws=3, seed=6, overwrite=True)
    assert other.controls["random_search"].weights != report.controls["random_search"].weights


def test_a_base_in_memory_merges_like_the_same_base_on_disk(tmp_path, snapshots):
    on_disk = merge(tmp_path, snapshots).to_dict()
    tensors = dict(open_weights(tmp_path / "base"))
    in_memory = merge_snapshots(tensors, snapshots, Score(), tmp_path / "again").to_dict()
    assert in_memory["base"] == {"path": None, "sha256": on_disk["base"]["sha256"]}
    for field in ("utilities", "shapley", "controls", "chosen"):
        assert in_memory[field] == on_disk[field]


def test_finish_writes_the_files_of_the_folder_and_progress_is_reported(tmp_path, snapshots):
    reported = []

    def finish(folder, tensors):
        (folder / "config.json").write_text("{}")
        write_weights(folder, tensors, max_shard_bytes=1)

    merge(tmp_path, snapshots, finish=finish, progress=lambda *stage: reported.append(stage))
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"config.json", "merge.json", "merge.png", "model.safetensors.index.json"} <= names
    assert [stage for stage in reported if stage[1] == stage[2]] == [
        ("reading", 4, 4),
        ("coalitions", 8, 8),
        ("random_search", 8, 8),
        ("controls", 13, 13),
    ]


def test_more_than_eight_snapshots_need_sampling_and_then_report_errors(tmp_path):
    snapshots = make_checkpoints(tmp_path, count=9)
    utility = Score()
    with pytest.raises(ValueError, match="or give `permutations`, such as 20"):
        merge(tmp_path, snapshots, utility)
    assert utility.calls == 0
    report = merge(tmp_path, snapshots, utility, permutations=4, random_draws=2)
    written = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert set(written["standard_errors"]) == set(snapshots)
    gain = report.utilities[coalition_key(snapshots)] - report.utilities[""]
    assert math.fsum(report.shapley.values()) == pytest.approx(gain, abs=1e-9)
    assert set(snapshots) <= set(report.utilities)
    assert report.notes == ["Shapley values sampled from 4 permutations, with standard errors"]


def test_a_run_that_fails_keeps_its_scores_and_leaves_no_folder(tmp_path, snapshots):
    class Fails(Score):
        def __call__(self, weights):
            if self.calls == 5:
                raise RuntimeError("out of memory")
            return super().__call__(weights)

    with pytest.raises(RuntimeError, match="out of memory"):
        merge(tmp_path, snapshots, Fails())
    assert not (tmp_path / "merged").exists()
    utility = Score()
    report = merge(tmp_path, snapshots, utility)
    assert (utility.calls, report.evaluations) == (ALL - 5, ALL)


def test_a_failure_while_writing_leaves_nothing_beside_the_output(tmp_path, snapshots):
    def finish(folder, tensors):
        write_weights(folder, tensors)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        merge(tmp_path, snapshots, finish=finish)
    assert [path.name for path in tmp_path.glob("merged*")] == ["merged.cache"]


def test_scores_of_another_split_or_another_snapshot_are_not_reused(tmp_path, snapshots):
    merge(tmp_path, snapshots, describe={"split": "dev", "n": 60})
    again, split, named, changed = Score(), Score(), Score(), Score()
    merge(tmp_path, snapshots, again, describe={"split": "dev", "n": 60}, overwrite=True)
    assert again.calls == 0
    merge(tmp_path, snapshots, split, describe={"split": "dev", "n": 61}, overwrite=True)
    assert split.calls == ALL
    merge(tmp_path, snapshots, named, describe={"n": 61}, utility_fingerprint="61 of dev", overwrite=True)
    assert named.calls == ALL
    write_weights(snapshots["s1"], [(name, tensor + 1) for name, tensor in open_weights(snapshots["s1"]).items()])
    merge(tmp_path, snapshots, changed, describe={"split": "dev", "n": 60}, random_draws=1, overwrite=True)
    # of the coalitions, the four without s1 are known
    assert changed.calls == 4 + 1 + len(NEITHER)


def test_eight_kills_later_the_result_is_that_of_a_straight_run(tmp_path):
    script = Path(__file__).with_name("killed_runs.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, script, tmp_path, "0"], capture_output=True, text=True, env=environment, timeout=240
    )
    assert run.returncode == 0, run.stderr
    outcome = json.loads(run.stdout)
    assert outcome["kills"] == 8
    assert not outcome["partial"]
    assert outcome["beside"] == ["calls", "merged", "merged.cache"]
    straight, killed = tmp_path / "straight" / "merged", tmp_path / "killed" / "merged"
    # each of the five kills while scoring costs at most the evaluation it interrupts
    assert ALL <= outcome["calls"] <= ALL + 5
    reports = [json.loads((folder / "merge.json").read_text()) for folder in (straight, killed)]
    for report in reports:
        report.pop("wall_seconds")
    assert reports[0] == reports[1]
    files = [path.name for path in straight.iterdir() if path.name != "merge.json"]
    assert sorted(files) == sorted(path.name for path in killed.iterdir() if path.name != "merge.json")
    assert all((straight / name).read_bytes() == (killed / name).read_bytes() for name in files)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "shaply"}, "Did you mean 'shapley'"),
        ({"describe": {"weights": 1}}, "'weights' is a field of the report itself"),
        ({"describe": {"seed": 3}}, "'seed' is a field of the report itself"),
        ({"describe": {"model": object()}}, "'model' cannot be written as JSON"),
        ({"permutations": 1}, "at least 2"),
        ({"random_draws": 0}, "cannot make 0 draws"),
        ({"method": "ties", "options": {"ties": {"density": 1.5}}}, "density is 1.5"),
    ],
)
def test_unusable_options_are_refused_before_anything_is_scored(tmp_path, snapshots, options, says):
    utility = Score()
    with pytest.raises(ValueError, match=says):
        merge(tmp_path, snapshots, utility, **options)
    assert utility.calls == 0


def test_unusable_snapshots_are_refused_before_anything_is_scored(tmp_path, snapshots):
    utility = Score()
    with pytest.raises(ValueError, match=r"'a\+b' cannot name a snapshot"):
        merge(tmp_path, {"a+b": snapshots["s1"]}, utility)
    with pytest.raises(ValueError, match="no snapshots to merge"):
        merge(tmp_path, {}, utility)
    with pytest.raises(UserError, match=r"no checkpoint at .*lost"):
        merge(tmp_path, {**snapshots, "s4": tmp_path / "lost"}, utility)
    write_weights(tmp_path / "short", [("a", torch.zeros(30))])
    with pytest.raises(ValueError, match=r"short lacks tensor 'b'"):
        merge(tmp_path, {**snapshots, "s4": tmp_path / "short"}, utility)
    broken = dict(open_weights(snapshots["s3"]))
    write_weights(tmp_path / "nan", {**broken, "b": broken["b"] / 0}.items())
    with pytest.raises(ValueError, match=r"'b' of .*nan holds NaN or infinity"):
        merge(tmp_path, {**snapshots, "s4": tmp_path / "nan"}, utility)
    assert utility.calls == 0


def test_a_score_that_is_not_a_number_stops_the_merge_and_is_not_kept(tmp_path, snapshots):
    with pytest.raises(ValueError, match=r"weights \[0.0, 0.0, 0.0\] is nan"):
        merge(tmp_path, snapshots, lambda weights: float("nan"))
    assert merge(tmp_path, snapshots).utilities[""] > 0


def test_an_existing_merge_is_replaced_only_when_allowed(tmp_path, snapshots):
    merge(tmp_path, snapshots, method="final")
    utility = Score()
    with pytest.raises(UserError, match=r"already holds a merged model.\nAllow overwriting"):
        merge(tmp_path, snapshots, utility)
    assert utility.calls == 0
    merge(tmp_path, snapshots, method="average", overwrite=True)
    assert json.loads((tmp_path / "merged" / "merge.json").read_text())["chosen"] == "average"
    assert sorted(path.name for path in tmp_path.glob("merged*")) == ["merged", "merged.cache"]


def test_a_folder_that_is_not_a_merge_is_never_replaced(tmp_path, snapshots):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "thesis.tex").write_text("…")
    with pytest.raises(UserError, match="exists and is not a merged model"):
        merge(tmp_path, snapshots, overwrite=True)
    assert (tmp_path / "merged" / "thesis.tex").read_text() == "…"


def broken(change):
    """A merge method that gives the last snapshot's tensors, one of them changed."""

    def broken_tensors(base, checkpoints, *, seed=0):
        return {name: change(tensor) if name == "a" else tensor for name, tensor in checkpoints[-1].items()}

    return broken_tensors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensor: tensor * float("nan"), "NaN or infinity"),
        (lambda tensor: tensor[:-1], r"as torch\.float32 \[29\], and the base has torch\.float32 \[30\]"),
        (lambda tensor: tensor.double(), r"as torch\.float64"),
    ],
)
def test_tensors_of_a_method_that_are_not_the_bases_are_refused(tmp_path, snapshots, monkeypatch, change, said):
    monkeypatch.setattr(MERGE_METHODS, "_added", dict(MERGE_METHODS._added))
    MERGE_METHODS.add(broken(change))
    with pytest.raises(ValueError, match=said):
        merge(tmp_path, snapshots, method="broken_tensors")
    assert not (tmp_path / "merged").exists()


def test_scores_of_tensors_are_reused_only_if_all_they_depend_on_is_the_same(tmp_path, snapshots, monkeypatch):
    monkeypatch.setattr(MERGE_METHODS, "_added", dict(MERGE_METHODS._added))

    @MERGE_METHODS.add
    def seeded_tensors(base, checkpoints, *, seed, shift: float = 0.0):
        return {name: tensor + seed + shift if name == "a" else tensor for name, tensor in base.items()}

    scored = [
        merge(tmp_path, snapshots, method="seeded_tensors", overwrite=True, seed=seed, options=options)
        for seed, options in ((0, {}), (1, {}), (0, {"seeded_tensors": {"shift": 0.5}}), (0, {}))
    ]
    utilities = [report.controls["seeded_tensors"].utility for report in scored]
    assert len(set(utilities)) == 3 and utilities[0] == utilities[3]
    assert utilities[3] == Score()(open_weights(tmp_path / "merged"))
    assert scored[2].to_dict()["options"] == {"seeded_tensors": {"shift": 0.5}}
