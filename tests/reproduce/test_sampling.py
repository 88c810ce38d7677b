"""The experiment on drawing tasks: its arms are fair, its verdict follows its figures, and it survives a kill."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcot.errors import UserError
from fcot.files.json_files import write_json
from fcot.reproduce.sampling import sampling
from fcot.reproduce.sampling_plan import ARMS, Plan, Settings, dealt
from fcot.reproduce.sampling_results import COMPARED, compared, harms, undecided, verdict, write_results

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(3, 240, 60, 100, 0.1, 420, 420, "conclusion", "bf16-mixed")
TASKS = ("chart", "form", "text")
WEIGHTS = {"chart": 0.5, "form": 1.1, "text": 1.4}


def option(command, name):
    return command.words[command.words.index(name) + 1] if name in command.words else None


def test_arms_differ_in_their_weights_alone(tmp_path):
    work = Plan(SETTINGS, tmp_path).fine()
    assert [*work] == [f"{arm}{seed}" for seed in range(3) for arm in "ULEP"]
    for seed in range(3):
        told = set()
        for arm in ARMS:
            train, test = work[f"{arm}{seed}"]
            assert option(train, "--data.weights") == (
                None if arm == "U" else str(tmp_path / f"seed{seed}/weights-{arm}.json")
            )
            weights = ["--data.weights", str(option(train, "--data.weights"))]
            own = [train.words[:-2], test.words]
            words = [word for part in own for word in part if word not in weights]
            told.add(re.sub(rf"seed{seed}/{arm}|{arm}, .*", "", "\n".join(words)))
        assert len(told) == 1
        assert option(train, "--data.seed") == option(train, "--seed_everything") == str(seed)


def test_weights_are_computed_from_a_part_of_the_same_pages_and_not_from_test_pages(tmp_path):
    plan = Plan(SETTINGS, tmp_path)
    drawn = {Path(option(command, "--output")).name: command for command in plan.pages()["pages"]}
    assert set(drawn) == {"test", *(f"{kind}-seed{seed}" for kind in ("coarse", "fine") for seed in range(3))}
    coarse, fine = drawn["coarse-seed1"], drawn["fine-seed1"]
    assert option(coarse, "--seed") == option(fine, "--seed") == "1"  # so they begin with the same pages
    assert int(option(coarse, "--train")) == int(option(fine, "--train")) // 10 == 384
    (run,) = plan.coarse()["c1"]
    assert option(run, "--data.root") == str(tmp_path / "pages/coarse-seed1")
    assert {option(train, "--data.root") for name, (train, _) in plan.fine().items() if name.endswith("1")} == {
        str(tmp_path / "pages/fine-seed1")
    }


def test_a_training_goes_on_and_every_command_is_known_by_a_file(tmp_path):
    plan = Plan(SETTINGS, tmp_path)
    commands = [each for part in (plan.pages(), plan.coarse(), plan.fine()) for work in part.values() for each in work]
    assert all(command.made for command in commands)
    fits = [command for command in commands if command.words[0] == "fit"]
    assert len(fits) == 1 + 3 + 12
    assert all(command.words[-2:] == ["--ckpt_path", "last"] for command in fits)


def test_the_placebo_has_the_same_weights_on_other_tasks_anew_for_each_seed():
    many = {f"task{n}": 0.5 + 0.2 * n for n in range(7)}
    drawn = [dealt(many, seed) for seed in range(5)]
    assert all(sorted(each.values()) == sorted(many.values()) and each != many for each in drawn)
    assert len({tuple(each.values()) for each in drawn}) > 1
    assert dealt(many, 3) == drawn[3]
    assert dealt({"a": 0.9, "b": 1.1}, 0) == {"a": 1.1, "b": 0.9}
    assert dealt({"a": 1.0, "b": 1.0}, 0) == {"a": 1.0, "b": 1.0}


def test_weights_are_frozen_once_they_are_written(tmp_path):
    plan = Plan(replace(SETTINGS, seeds=1), tmp_path)
    (tmp_path / "seed0/coarse").mkdir(parents=True)
    write_json(tmp_path / "seed0/coarse/task_losses.json", {"weights": WEIGHTS, "weights_by_loss": {"text": 2.0}})
    plan.freeze_weights()
    read = {arm: json.loads(plan.weights_file(arm, 0).read_text())["weights"] for arm in "LEP"}
    assert read["L"] == {"chart": 1.0, "form": 1.0, "text": 2.0}
    assert read["E"] == WEIGHTS
    assert sorted(read["P"].values()) == sorted(WEIGHTS.values())
    write_json(tmp_path / "seed0/coarse/task_losses.json", {"weights": {"text": 0.5}, "weights_by_loss": {}})
    plan.freeze_weights()
    assert json.loads(plan.weights_file("E", 0).read_text())["weights"] == WEIGHTS


def runs(arm, gains, *, seeds=3, pages=60, weights=WEIGHTS):
    """Results of an arm, with a gain over the same base for each task."""
    found = []
    for seed in range(seeds):
        rng, own = np.random.default_rng(seed), np.random.default_rng([seed, *arm.encode()])
        scores = {
            task: {
                f"{task}{page}": float(rng.random() + gains.get(task, 0.0) + own.normal(0, 0.02))
                for page in range(pages)
            }
            for task in TASKS
        }
        mean = float(np.mean([np.mean([*each.values()]) for each in scores.values()]))
        row = {"arm": arm, "seed": seed, "commands": [], "weights": None if arm == "U" else weights}
        found.append({**row, "read": {}, "answer_tokens": 1000, "mean": mean, "scores": scores})
    return found


def differences(**gains):
    results = {arm: runs(arm, gains.get(arm, {})) for arm in ARMS}
    return {name: compared(results[a], results[b]) for name, (a, b) in COMPARED.items()}


EVERY = dict.fromkeys(TASKS, 0.1)


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({}, "It is not shown that drawing by excess helps (E - U "),
        ({"E": EVERY}, "Drawing by excess helps: it reads better than uniform drawing, and than the same weights"),
        ({"E": EVERY, "P": EVERY}, "the placebo is not shown to be worse"),
        ({"P": dict.fromkeys(TASKS, -0.1)}, "It is not shown that drawing by excess helps"),
        ({"E": dict.fromkeys(TASKS, -0.1)}, "Drawing by excess harms: it reads worse than uniform drawing (E - U −0."),
    ],
)
def test_the_verdict_follows_both_controls(gains, said):
    assert said in verdict(differences(**gains))


def test_a_task_that_loses_is_named_though_the_mean_wins():
    found = differences(E={"chart": 0.3, "form": 0.2, "text": -0.1}, L={"chart": -0.3})
    paper, excess, loss = harms(found)
    assert "The paper's rule harms (L - U −0.1" in paper
    assert "Drawing by excess loses on text −0." in excess and "chart" not in excess
    assert "loses on chart −0." in loss
    assert undecided(runs("E", {})) == []
    assert undecided(runs("E", {}, weights=dict.fromkeys(TASKS, 1.0))) == [
        "Excess left every weight at 1 in seed 0, 1, 2, where E and P are U."
    ]
    nobody = harms(differences())
    assert all("is not shown to" in sentence for sentence in nobody)


def test_results_are_written_for_a_readme(tmp_path, capsys):
    plan = Plan(SETTINGS, tmp_path)
    for arm in ARMS:
        for run in runs(arm, EVERY if arm == "E" else {}, weights=WEIGHTS if arm != "P" else dict.fromkeys(TASKS, 1.0)):
            folder = plan.run_folder(arm, run["seed"])
            folder.mkdir(parents=True)
            write_json(folder / "result.json", run)
    (tmp_path / "start/eval").mkdir(parents=True)
    write_json(tmp_path / "start/eval/test.json", {"scores": {"mean": {"mean": 0.25}}})
    write_results(plan)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["differences"]["E - U"]["mean"]["mean"] == pytest.approx(0.1, abs=0.01)
    assert len(found["differences"]["E - P"]["by_seed"]) == 3
    assert found["differences"]["E - P"]["p_holm"].keys() == set(TASKS)
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert "n = 180 pages, 3 seeds" in text and "which scores 0.250" in text
    assert "| E, seed 2 | 0.50 | 1.10 | 1.40 |" in text
    assert "- Drawing by excess helps" in text
    assert (tmp_path / "sampling.png").stat().st_size > 10_000


def test_runs_that_were_tested_on_different_pages_are_not_compared():
    others = runs("U", {})
    others[1]["scores"]["text"]["another"] = others[1]["scores"]["text"].pop("text3")
    with pytest.raises(AssertionError, match="seed 1 was tested on other pages"):
        compared(runs("E", {}), others)


def test_settings_that_make_no_sense_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for wrong in ({"seeds": 0}, {"coarse_share": 1.5}, {"steps": 0}):
        with pytest.raises(UserError, match="is below 1, or coarse_share"):
            sampling(tmp_path / "run", **wrong)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no folder configs here"):
        sampling(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def call(tmp_path):
    """Return a function that starts the experiment as a user does, small enough for a test."""
    started = []
    sizes = "--seeds 1 --steps 4 --coarse_steps 2 --start_steps 2 --coarse_share 1.0 --dev_pages 28 --test_pages 14"
    words = ["reproduce", "sampling", "--output", str(tmp_path / "run"), *sizes.split(), "--precision", "32-true"]

    def start(said):
        with said.open("w") as file:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "fcot", *words, "--options=--model.max_new_tokens=2"],
                    cwd=ROOT,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_experiment_killed_in_a_training_goes_on_to_its_results(tmp_path, call):
    first = call(tmp_path / "first")
    while not (tmp_path / "run/seed0/U").exists():  # the first fine run has begun
        assert first.poll() is None, (tmp_path / "first").read_text()
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    frozen = (tmp_path / "run/seed0/weights-P.json").read_bytes()
    code = call(tmp_path / "second").wait()
    said = (tmp_path / "second").read_text()
    assert code == 0, said
    assert "Processes of an earlier call still work in" in said
    assert said.count(" is there") >= 3 + 1 + 1  # pages, start, coarse run
    assert (tmp_path / "run/seed0/weights-P.json").read_bytes() == frozen
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert {arm: row["answer_tokens"] > 0 for arm, row in found["arms"].items()} == dict.fromkeys(ARMS, True)
    result = json.loads((tmp_path / "run/seed0/E/result.json").read_text())
    assert result["commands"][0].startswith("fcot fit --config configs/sft_tiny.yaml")
    assert sum(len(scores) for scores in result["scores"].values()) == 14
    assert sum(result["read"].values()) == 4 * 32
    assert call(tmp_path / "third").wait() == 0
    assert not re.search(r"\$ fcot (fit|test|shards)", (tmp_path / "third").read_text())
