"""The rivals are measured beside trained students, and a run that was stopped goes on where it was."""

import json
from pathlib import Path

import pytest

from fcot.reduce import REDUCERS, BeforeReducer
from fcot.reproduce import rivals as module
from fcot.reproduce.demo import Preset
from fcot.reproduce.rivals import Cell, cells, rivals, work_of
from fcot.reproduce.rivals_table import benched, best_of_each, winners

ROOT = Path(__file__).parents[2]


def test_every_reducer_is_measured_at_both_shares_by_each_of_its_scores():
    found, missing = cells()
    assert {cell.name for cell in found} == set(REDUCERS)
    for name, kind in REDUCERS.items():
        mine = [cell for cell in found if cell.name == name and cell.budget == "keep"]
        assert {cell.share for cell in mine} == {0.5, 0.25}
        assert {cell.options.get("score") for cell in mine} == {
            *(kind.scores if "score" in REDUCERS.options(name) else [None])
        }
        numbered = [None, "original"] if issubclass(kind, BeforeReducer) else [None]
        assert {cell.options.get("positions") for cell in mine} == {*numbered}
    assert all("out of reach" in each for each in missing)
    assert len({cell.folder for cell in found}) == len(found)


def test_commands_are_ordinary_and_a_training_goes_on(tmp_path):
    work = work_of(module.PRESET, tmp_path)
    assert {command.words[0] for commands in work.values() for command in commands} == {"test", "fit"}
    fits = [command for commands in work.values() for command in commands if command.words[0] == "fit"]
    assert all(command.words[-2:] == ["--ckpt_path", "last"] and command.made for command in fits)
    assert all(command.made for commands in work.values() for command in commands)


def row(label, difference, budget="keep", **changes):
    low, high = difference - 0.05, difference + 0.05
    return {
        "label": label,
        "reduce": {"name": label},
        "budget": budget,
        "share": 0.5,
        "kept": 8,
        "equivalent": 10,
        "score": {"mean": 0.5 + difference},
        "vs_student": {"mean": difference, "low": low, "high": high, "n": 9},
        **changes,
    }


@pytest.mark.parametrize(
    ("difference", "said"),
    [(-0.2, "best rival, and loses to"), (0.01, "nothing is decided"), (0.3, "wins over our student")],
)
def test_whoever_wins_is_said(difference, said):
    (line,) = winners([row("a", difference), row("b", difference - 0.1)])
    assert said in line and ": a " in line


def test_what_acts_before_the_language_model_counts_in_both_budgets():
    lines = winners([row("a", -0.2, kept=8, equivalent=8), row("b", -0.3, budget="equivalent")])
    assert [": a " in line for line in lines] == [True, True]


def test_students_are_timed_beside_the_reducers(tmp_path):
    measured = [{"ratio": ratio, "parts": {"prefill": {"median": seconds}}} for ratio, seconds in ((1, 4.0), (2, 3.0))]
    flops = {ratio: {"parts": {"prefill": tflop}} for ratio, tflop in (("1", 0.5), ("2", 0.2))}
    reducers = [{"reduce": "fastv", "prefill_flops_share": 0.6, "prefill_share": {"median": 0.7}}]
    content = {"measured": measured, "flops": flops, "reducers": reducers}
    (tmp_path / "bench-0.5.json").write_text(json.dumps(content))
    found = benched(tmp_path)
    assert found["", 0.5] == {"prefill_flops_share": 0.4, "prefill_share": {"median": 0.75}}
    assert found["fastv", 0.5] == reducers[0]
    assert found["", 1.0]["prefill_tflop"] == 0.5


def test_the_picture_has_one_line_a_method():
    def scored(label, name, mean):
        return {"label": label, "reduce": name and {"name": name}, "score": {"mean": mean}}

    rows = [
        scored("a cls", "a", 0.2),
        scored("a received", "a", 0.4),
        scored("a cls", "a", 0.3),
        scored("us", None, 0.9),
    ]
    assert [*best_of_each(rows)] == ["us", "a received"]


@pytest.mark.slow
def test_the_table_is_made_of_real_runs_and_a_second_call_only_writes_it_again(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    fast = ("--model.max_new_tokens", "8", "--data.num_workers", "0")
    some = [Cell("random", {}, "keep", 0.5), Cell("fastv", {"layer": 1}, "equivalent", 0.5)]
    monkeypatch.setattr(module, "PRESET", Preset({2: 4}, 2, 24, 24, 14, 28, str(tmp_path / "data"), fast))
    monkeypatch.setattr(module, "cells", lambda: (some, ["something is out of reach"]))
    monkeypatch.setattr(module, "bench_of", lambda output: [])
    rivals(tmp_path / "run")
    capfd.readouterr()
    rows = json.loads((tmp_path / "run/table.json").read_text())
    by_label = {each["label"]: each for each in rows}
    assert by_label["random"]["kept"] == by_label["random"]["equivalent"] < by_label["Teacher"]["kept"]
    assert by_label["fastv"]["kept"] < by_label["fastv"]["equivalent"] < by_label["Teacher"]["kept"]
    assert by_label["random"]["vs_student"]["n"] == by_label["random"]["vs_teacher"]["n"] == 28
    text = (tmp_path / "run/table.md").read_text()
    assert "At equal kept tokens, 50%: random" in text and "something is out of reach" in text
    assert (tmp_path / "run/rivals.png").stat().st_size > 10_000
    rivals(tmp_path / "run")
    out = capfd.readouterr().out
    assert out.count(" is there") == 2 + 7 + 2
    assert "\n$ fcot fit" not in out
