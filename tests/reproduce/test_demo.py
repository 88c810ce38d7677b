"""The demo's sequence of commands runs to its report, on a model and pages small enough for a test."""

import json
from pathlib import Path

import pytest

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.reproduce import demo as demo_module
from fcot.reproduce.demo import Preset, chains, demo, make_room
from fcot.reproduce.runner import Command, Runner

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    fast = ("--model.max_new_tokens", "4", "--data.num_workers", "0")
    preset = Preset({2: 4, 1: 4}, 2, 24, 24, 14, 28, str(folder / "data"), fast)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(demo_module, "TEACHER", str(tiny_checkpoint))
        patch.setitem(demo_module.PRESETS, "demo", preset)
        demo(output=folder / "run")
    return folder / "run"


def test_report_has_a_row_for_each_stage(report):
    rows = json.loads((report / "report.json").read_text())["rows"]
    stages = {(row["ratio"], row["stage"]) for row in rows}
    assert {
        (1, "teacher"),
        (1, "teacher + same SFT"),
        (2, "pooled start"),
        (2, "re-aligned"),
        (2, "SFT + merge"),
    } <= stages
    for row in rows:
        assert row["split"] == "test" and row["n"] == 28 and row["seed"] == 0
        assert row["scores"]["mean"]["low"] <= row["scores"]["mean"]["mean"] <= row["scores"]["mean"]["high"]
        assert row["visual_tokens"] > 0


def test_student_sees_half_of_the_visual_tokens(report):
    rows = json.loads((report / "report.json").read_text())["rows"]
    tokens = {row["stage"]: row["visual_tokens"] for row in rows}
    assert tokens["re-aligned"] == tokens["teacher"] / 2


def test_merge_repeats_from_its_cached_scores(report, capsys):
    run = report / "sft-r2"
    before = json.loads((run / "merged" / "merge.json").read_text())
    main(["merge", str(run), "--overwrite", "true"])
    after = json.loads((run / "merged" / "merge.json").read_text())
    assert {**after, "wall_seconds": 0} == {**before, "wall_seconds": 0}


def test_page_stands_alone(report):
    page = (report / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "<script" not in page


def test_only_an_earlier_demo_is_replaced(report, tmp_path):
    assert json.loads((report / "demo.json").read_text())["sft_steps"] == {"2": 4, "1": 4}
    (tmp_path / "years of work").write_text("")
    with pytest.raises(UserError, match="holds something else than an earlier demo"):
        demo(output=tmp_path)
    assert (tmp_path / "years of work").exists()
    make_room(tmp_path / "new", demo_module.PRESETS["demo"])
    (tmp_path / "new" / "old").write_text("")
    make_room(tmp_path / "new", demo_module.PRESETS["demo"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["demo.json"]


def test_commands_are_ordinary(tmp_path):
    work = chains(demo_module.PRESETS["tables"], tmp_path)
    assert {words[0] for commands in work.values() for _, words, _ in commands} == {"test", "fit"}


def test_failing_command_stops_the_others_and_is_named(monkeypatch, capfd):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    fails = [Command("Fail", ["shards", "verify", "no/such/folder"])]
    others = [Command("Look", ["doctor", "--checkpoint", "8b"])] * 40
    with pytest.raises(UserError, match="exit code 2: fcot shards verify no/such/folder"):
        Runner(41).run_chains({"a": fails, "b": others})
    told = capfd.readouterr().out
    assert "a    | error: " in told and "[41/41" not in told


def test_no_chains_are_nothing_to_run():
    Runner(0).run_chains({})  # as of a part of an experiment that trains nothing


def test_a_seed_has_pages_and_runs_of_its_own(monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(Runner, "run", lambda self, some, **_: commands.extend(some))
    monkeypatch.chdir(ROOT)
    demo(output=tmp_path / "run", seed=3)
    lines = [" ".join(words) for _, words, _ in commands if words[0] != "report"]
    assert all(" --seed 3" in line or " --data.recipe_seed 3" in line for line in lines)
    assert all("data/demo-seed3/" in line for line in lines)
    assert json.loads((tmp_path / "run" / "demo.json").read_text())["seed"] == 3
