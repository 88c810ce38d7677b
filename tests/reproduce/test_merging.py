"""The experiment on merging: its runs differ by the schedule alone, and its verdicts follow its figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.merge import MERGE_METHODS, coalition_key, coalitions, value_intervals
from fcot.reproduce.merging import merging
from fcot.reproduce.merging_plan import METHODS, SCHEDULES, Plan, Settings
from fcot.reproduce.merging_results import added, compared, coverage, sentences
from fcot.statistics import Interval

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(3, 240, 100, 5, 0.5, 140, 420, "bf16-mixed")


def option(command, name):
    return command.words[command.words.index(name) + 1]


def test_it_tests_every_method_that_fcot_has():
    assert tuple(MERGE_METHODS)[: len(METHODS)] == METHODS


def test_runs_of_a_seed_differ_by_their_schedule_alone(tmp_path):
    work = Plan(SETTINGS, tmp_path).runs()
    assert [*work] == [f"{schedule}-{seed}" for seed in range(3) for schedule in SCHEDULES]
    for seed in range(3):
        cosine, constant = (
            [word.replace(f"{schedule}-{seed}", "RUN") for word in work[f"{schedule}-{seed}"][0].words]
            for schedule in SCHEDULES
        )
        differing = [pair for pair in zip(cosine, constant, strict=True) if pair[0] != pair[1]]
        assert differing == [("cosine", "constant")]
    for name, (train, merge, *tests) in work.items():
        assert json.loads(option(train, "--trainer.callbacks"))[0]["init_args"] == {"count": 5, "after": 0.5}
        assert option(merge, "--each") == str(tmp_path / name / "each")
        assert [option(test, "--model.checkpoint") for test in tests] == [
            str(tmp_path / name / "merged"),
            *(str(tmp_path / name / "each" / method) for method in METHODS),
        ]
        assert {option(test, "--data.root") for test in tests} == {str(tmp_path / "pages/test")}
        assert option(train, "--data.root") == str(tmp_path / f"pages/seed{name[-1]}")


def test_every_command_is_known_by_a_file_and_a_training_goes_on(tmp_path):
    plan = Plan(SETTINGS, tmp_path)
    commands = [each for part in (plan.pages(), plan.runs()) for work in part.values() for each in work]
    assert all(command.made for command in commands)
    fits = [command for command in commands if command.words[0] == "fit"]
    assert len(fits) == 1 + 6
    assert all(command.words[-2:] == ["--ckpt_path", "last"] for command in fits)


def series(gain, noise=0.02, seeds=3, pages=12):
    rng = np.random.default_rng(0)
    shared = {task: rng.uniform(0.2, 0.7, pages) for task in ("table", "text")}
    own = np.random.default_rng(int(1000 * (gain + 1)))
    return [
        {task: (scores + gain + noise * own.standard_normal(pages)).tolist() for task, scores in shared.items()}
        for _ in range(seeds)
    ]


def verdicts(auto=0.0, average=0.0, decayed=0.0):
    scores = {
        schedule: {"final": series(0.0), "average": series(average), "shapley": series(0.0), "auto": series(auto)}
        for schedule in SCHEDULES
    }
    scores["cosine"]["final"] = series(decayed)
    runs = {
        schedule: {
            "kept": ["final"] * 3,
            "auto_by_seed": [{"high": 0.01}] * 3,
            "values": [{"coverage": 0.94, "efficiency_error": 1e-16}],
        }
        for schedule in SCHEDULES
    }
    return sentences(compared(scores), runs)


def test_sentences_say_what_the_intervals_say():
    level = verdicts()
    assert "`auto` kept final, final, final; it is never shown to be worse than the last" in level[1]
    assert "average is not shown to gain or to lose" in level[2]
    gains = verdicts(auto=-0.1, average=0.1, decayed=0.2)
    assert "it is worse than the last" in gains[1]
    assert "average gains, 0." in gains[2] and "against the last snapshot" in gains[2]
    assert "average loses, -0." in gains[4] and "against the decayed run" in gains[4]
    assert "94% to 94% of 50 draws" in gains[-1] and "add up to within 1e-16" in gains[-1]
    assert added(0.0) == "the last bit"


def test_intervals_that_are_too_narrow_are_found_out(monkeypatch):
    players = ["s1", "s2", "s3"]
    rng = np.random.default_rng(0)
    pages = {coalition_key(members): {"text": rng.random(60).tolist()} for members in coalitions(players)}
    assert coverage(pages, players) >= 0.9

    def narrow(*arguments, **options):
        phi, weights = value_intervals(*arguments, **options)
        halves = {name: (each.high - each.low) / 4 for name, each in phi.items()}
        return {name: Interval(each.mean, each.mean - halves[name], each.mean + halves[name], each.n)
                for name, each in phi.items()}, weights  # fmt: skip

    monkeypatch.setattr("fcot.reproduce.merging_results.value_intervals", narrow)
    assert coverage(pages, players) < 0.8


@pytest.mark.parametrize("wrong", [{"snapshots": 1}, {"seeds": 0}, {"after": 1.0}])
def test_a_plan_without_anything_to_merge_is_refused(tmp_path, wrong):
    with pytest.raises(UserError, match="below"):
        merging(tmp_path, **wrong)
    with pytest.raises(UserError, match="Did you mean 'average'"):
        merging(tmp_path, methods="avrage")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_experiment_in_small(tmp_path):
    sizes = "--seeds 1 --steps 4 --start_steps 2 --snapshots 2 --dev_pages 28 --test_pages 14 --methods average"
    words = ["reproduce", "merging", "--output", str(tmp_path / "run"), *sizes.split()]
    main([*words, "--options=--model.max_new_tokens=4", "--options=--data.eval_batch_size=14"])
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    for schedule in SCHEDULES:
        assert set(found["schedules"][schedule]["means"]) == {"auto", "final", "average"}
        (values,) = found["schedules"][schedule]["values"]
        assert values["efficiency_error"] < 1e-9 and 0 <= values["coverage"] <= 1
    assert (tmp_path / "run" / "merging.png").stat().st_size > 10_000
    assert "of 50 draws" in (tmp_path / "run" / "RESULTS.md").read_text()
    assert not (tmp_path / "run" / "constant-0" / "each").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_intervals_of_a_real_run_cover_the_values_on_another_draw_of_the_half(tmp_path):
    pages, run, sizes = tmp_path / "pages", tmp_path / "run", ["--train", "64", "--dev", "210", "--test", "0"]
    main(["shards", "build", "--output", str(pages), "--recipe", "reading", *sizes])
    merge = {"class_path": "ShapleyMerge", "init_args": {"method": "average", "random_draws": 1}}
    callbacks = [{"class_path": "Snapshots", "init_args": {"count": 3}}, merge]
    words = {
        "config": ROOT / "configs/sft_tiny.yaml",
        "model.checkpoint": ROOT / "fcot/tiny/student",
        "model.warmup": 1,
        "model.max_new_tokens": 32,
        "model.optimizer.init_args.lr": 0.003,  # so that snapshots differ on many pages
        "data.root": pages,
        "data.recipe": "null",
        "data.eval_batch_size": 70,
        "data.num_workers": 0,
        "trainer.max_steps": 6,
        "trainer.limit_val_batches": 0,
        "trainer.callbacks": json.dumps(callbacks),
        "trainer.default_root_dir": run,
    }
    main(["fit", *(word for name, value in words.items() for word in (f"--{name}", str(value)))])
    report = json.loads((run / "merged/merge.json").read_text())
    assert sum(map(len, report["pages"][""].values())) == report["n"] == 210
    gain = report["utilities"][coalition_key(report["players"])] - report["utilities"][""]
    assert abs(math.fsum(report["shapley"].values()) - gain) < 1e-9
    assert coverage(report["pages"], report["players"]) >= 0.9
