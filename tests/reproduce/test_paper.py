"""The paper's experiments: their commands, what is made of their scores, and when a statement is said to hold."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.evaluation.benchmarks.benchmark import Column
from fcot.evaluation.records import Evaluation
from fcot.reproduce.page_scores import benchmark_scores, benchmark_splits
from fcot.reproduce.paper import claims, published
from fcot.reproduce.paper.cost import costs
from fcot.reproduce.paper.page import write_page
from fcot.reproduce.paper.paper import parts_of
from fcot.reproduce.paper.preset import Preset, read_preset
from fcot.reproduce.paper.results import Results
from fcot.reproduce.paper.work import PARTS, Run, Work
from fcot.statistics import DifferenceOverSeeds, Interval
from tests.evaluation.miniature import draw as draw_benchmarks

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "reproduce").glob("*.yaml"))


@pytest.fixture
def work(tmp_path):
    """What is run on the tiny world."""
    return Work(read_preset(next(path for path in PRESETS if path.stem == "tiny")), tmp_path)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_each_command_of_a_preset_is_one_that_can_be_typed(path, parse, tmp_path):
    work = Work(read_preset(path), tmp_path / "run")
    commands = [*work.draw(), *(each for chain in work.chains(PARTS).values() for each in chain), *work.alone(PARTS)]
    kinds = {}
    for command in commands:
        kinds.setdefault((command.words[0], *(word for word in command.words if word[:2] == "--")), command)
    assert {command.words[0] for command in commands} <= {
        "shards", "fit", "test", "evaluate", "merge", "bench", "reproduce"
    }  # fmt: skip
    assert not [part for part in PARTS if work.preset.lacks(part)]
    for command in kinds.values():
        parse(shlex.join(command.words))


def test_parts_share_their_runs_and_make_no_more_than_they_need(work):
    every = [command.made for chain in work.chains(PARTS).values() for command in chain]
    assert len(set(every)) == len(every)
    fits = [each for chain in work.chains(["table2"]).values() for each in chain if each.words[0] == "fit"]
    assert len(fits) == 6  # three seeds at two ratios, none post-trained
    assert all("realign_tiny" in " ".join(each.words) and each.words[-2:] == ["--ckpt_path", "last"] for each in fits)
    modules = {command.words[command.words.index("--model.compressor") + 1]
               for chain in work.chains(["table3"]).values() for command in chain
               if "--model.compressor" in command.words}  # fmt: skip
    assert modules == {"conv", "pool", "qformer"}


def test_the_control_is_the_teacher_with_the_same_post_training(work):
    chains = work.chains(["table1"])
    (control, _), (_, student, _) = chains["control-s1"], chains["conv-r2-s1"]

    def settings(command):
        words = list(command.words)
        for name in ("--model.checkpoint", "--trainer.default_root_dir"):
            words[words.index(name) + 1] = ""
        return words

    assert settings(control) == settings(student)
    assert control.words[control.words.index("--model.checkpoint") + 1] == work.preset.teacher


def found(mean, low, high):
    return DifferenceOverSeeds(Interval(mean, low, high, 420), {}, {}, [mean] * 3)


@pytest.mark.parametrize(
    ("judge", "low", "high", "verdict"),
    [
        (claims.higher, 0.01, 0.05, "agrees"),
        (claims.higher, -0.01, 0.05, "cannot tell"),
        (claims.higher, -0.05, -0.01, "disagrees"),
        (claims.lower, -0.05, -0.01, "agrees"),
        (claims.lower, 0.01, 0.05, "disagrees"),
        (claims.not_lower, -0.005, 0.01, "agrees"),
        (claims.not_lower, -0.05, 0.01, "cannot tell"),
        (claims.not_lower, -0.05, -0.02, "disagrees"),
        (claims.equal, -0.01, 0.015, "agrees"),
        (claims.equal, -0.01, 0.04, "cannot tell"),
        (claims.equal, 0.03, 0.06, "disagrees"),
    ],
)
def test_a_statement_is_judged_by_its_interval(judge, low, high, verdict):
    claim = judge("Table 1", "a statement", 2.3, found((low + high) / 2, low, high))
    assert claim.verdict == verdict
    assert claim.paper == "+2.3"
    assert claim.ours.endswith("n = 420, 3 seeds")


def test_figures_of_the_paper_are_differences_of_its_tables():
    assert published.gain(published.TABLE1, "FCoT-VL, 1/2", "InternVL2-2B") == pytest.approx(2.32, abs=0.01)
    assert published.gain(published.TABLE1, "FCoT-VL, 1/2", "FastV, 1/2") == pytest.approx(6.02, abs=0.01)
    assert published.gain(published.TABLE4, "shapley", "final") == pytest.approx(1.27, abs=0.01)
    assert published.time_left("1/2") == pytest.approx((598 / 782 + 467 / 544 + 614 / 868) / 3)


def leave_scores(work, name, share, seed):
    """Scores of 40 pages of two tasks, as `fcot test` leaves them."""
    folder = work.tested(name)
    folder.mkdir(parents=True)
    evaluation, rng = Evaluation({"*": ("exact_match",)}), np.random.default_rng(seed)
    for task in ("form", "text"):
        evaluation.add(
            keys=[f"{task}{number:02}" for number in range(20)],
            tasks=[task] * 20,
            questions=["?"] * 20,
            references=[["yes"]] * 20,
            predictions=["yes" if rng.random() < share else "no" for _ in range(20)],
            visual_tokens=[8] * 20,
        )
    evaluation.write_records(folder / "test.jsonl")


def test_tables_say_what_the_scores_say(work, tmp_path):
    leave_scores(work, "teacher", 0.5, 9)
    for ratio in (2, 4):
        leave_scores(work, f"fastv-r{ratio}", 0.02, 8)
        leave_scores(work, f"dart-r{ratio}", 0.5, 9)  # as the teacher
        for seed in range(3):
            run = Run("conv", ratio, seed).name
            leave_scores(work, f"post-{run}", 0.98, seed)
            leave_scores(work, f"realigned-{run}", 0.3 if ratio == 2 else 0.02, seed)
    for seed in range(3):
        leave_scores(work, f"post-control-s{seed}", 0.98, seed)
        leave_scores(work, f"post-pool-r2-s{seed}", 0.98, seed)
        leave_scores(work, f"post-qformer-r2-s{seed}", 0.05, seed)
    sections = Results(work).sections(["table1", "table2", "table3", "figure3"])
    verdicts = {claim.says: claim.verdict for section in sections for claim in section.claims}
    assert verdicts["At 1/2 of the tokens the student scores higher than fastv"] == "agrees"
    assert verdicts["At 1/4 of the tokens the student scores at least as high as the teacher"] == "agrees"
    assert verdicts["The student at 1/2 against the teacher after the same post-training"] == "not in the paper"
    assert verdicts["After re-alignment alone, 1/4 scores lower than 1/2"] == "agrees"
    assert verdicts["conv and pool are within 2 points"] == "agrees"
    assert verdicts["conv is better than qformer"] == "agrees"
    (up,) = (claim for claim in sections[-1].claims if claim.says.endswith("student, 1/2"))
    assert (up.paper, up.verdict) == ("+12.7 (MathVista) to −3.6 (ScienceQA)", "disagrees")
    assert up.ours.startswith("up: form (+") and "text (+" in up.ours and "down: none" in up.ours
    write_page(tmp_path, "A <test> world", sections, {"command": "fcot reproduce paper"})
    text, page = ((tmp_path / name).read_text() for name in ("RESULTS.md", "results.html"))
    assert "| student, 1/2 | 9" in text
    assert "![Change of each task](figure3.png)" in text
    assert "A &lt;test&gt; world" in page
    assert page.count("data:image/png;base64,") == 1
    assert {claim["says"] for claim in json.loads((tmp_path / "results.json").read_text())["claims"]} == {*verdicts}


def test_tasks_that_fall_after_an_early_snapshot_are_named(work):
    for seed in range(3):
        leave_scores(work, f"post-conv-r2-s{seed}", 0.1, seed)
        for place in range(1, 5):
            leave_scores(work, f"post-conv-r2-s{seed}-{place}", 0.98 if place == 2 else 0.1, seed)
    (section,) = Results(work).sections(["figure5"])
    (claim,) = section.claims
    assert claim.verdict == "agrees"
    assert "form at snapshot 2 (+" in claim.ours and "text at snapshot 2 (+" in claim.ours
    assert "snapshot 1" not in claim.ours


@pytest.mark.parametrize(
    "correlations, verdict",
    [([0.9] * 6, "agrees"), ([0.9] * 3, "cannot tell"), ([0.9] * 5 + [-0.1], "cannot tell"), ([-0.5] * 6, "disagrees")],
)
def test_three_pages_are_too_few_to_tell_whether_looks_agree(work, correlations, verdict):
    pages = []
    for number, each in enumerate(correlations):
        agreement = {"correlation": each, "overlap": 0.4}
        models = {"teacher": {"answer": "a\nb", "agreement_with_first": None},
                  "student": {"answer": "c", "agreement_with_first": agreement}}  # fmt: skip
        pages.append({"page": f"page {number}", "models": models})
    folder = work.output / "looks"
    folder.mkdir()
    (folder / "looks.json").write_text(json.dumps({"pages": pages}))
    (folder / "looks.png").write_bytes(b"a picture")
    (section,) = Results(work).sections(["figure6"])
    assert [claim.verdict for claim in section.claims] == [verdict]
    assert section.rows[0] == ["page 0: teacher", "a / b", "", ""]
    assert section.rows[1][2:] == [f"{correlations[0]:.2f}", "0.40"]


def test_what_merging_gave_is_judged_from_its_results(work, tmp_path):
    folder = work.output / "merging"
    folder.mkdir()
    (folder / "merging.png").write_bytes(b"a picture")

    def over_last(mean):
        return {"mean": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 40}, "by_seed": [mean]}

    means = {name: [0.5] for name in ("auto", "final", "shapley", "task_arithmetic_sum")}
    gains = {"auto": over_last(0.0), "shapley": over_last(0.03), "task_arithmetic_sum": over_last(0.02)}
    content = {
        "settings": {"seeds": 1, "steps": 240, "start_steps": 100, "snapshots": 5, "after": 0.5},
        "schedules": {name: {"means": means} for name in ("cosine", "constant")},
        "differences": {"cosine": gains, "constant": gains, "decayed": gains | {"final": over_last(0.0)}},
        "found": ["`auto` kept the last snapshot."],
    }
    (folder / "results.json").write_text(json.dumps(content))
    (section,) = Results(work).sections(["table4"])
    assert "240 steps of 32 pages from one student of ratio 2 that was re-aligned for 100, 5 snapshots" in section.lead
    assert [claim.verdict for claim in section.claims] == ["agrees", "disagrees"]  # the paper has arithmetic worse
    write_page(tmp_path, "A world", [section], {}, "The tower is frozen.")
    assert "\n\nThe tower is frozen.\n\n" in (tmp_path / "RESULTS.md").read_text()
    assert "<p>The tower is frozen.</p>" in (tmp_path / "results.html").read_text()
    assert "- auto kept the last snapshot." in (tmp_path / "RESULTS.md").read_text()
    assert "<li>auto kept the last snapshot.</li>" in (tmp_path / "results.html").read_text()


def test_scores_of_benchmarks_have_the_means_that_evaluate_prints(tmp_path):
    halves = Column("chartqa", "ChartQA", {"human": {"a": 1.0, "b": 0.0}, "augmented": {"c": 1.0, "d": 1.0, "e": 0.0}})
    points = Column("mme", "MME", {"": {"a": 1.0}}, scale=200.0, in_average=False)
    columns = {each.name: {"scale": each.scale, "in_average": each.in_average, "units": each.units}
               for each in (halves, points)}  # fmt: skip
    (tmp_path / "scores.json").write_text(json.dumps({"a model": columns}))
    scores = benchmark_scores(tmp_path)
    assert [*scores] == ["chartqa"]
    (tmp_path / "results.json").write_text(
        json.dumps({"columns": {"chartqa": {"split": "test"}, "mme": {"split": "x"}}})
    )
    assert benchmark_splits(tmp_path) == "splits chartqa test"
    assert np.mean(scores["chartqa"]) == pytest.approx(halves.value / 100)


def test_what_real_sizes_take_is_counted_before_they_start(tmp_path):
    preset = Preset("x", "t", "", "--trainer.max_steps 9", "test", seeds=(0, 1), size="100m",
                    pages={"realign": 1000, "post_train": 500})  # fmt: skip
    first, *_, last = costs(preset, Work(preset, tmp_path), ("table1",))
    assert re.match(r"2 post-trainings at ratio 1: 500 pages of [\d.]+ TFLOP each, \d+ hours of an H100", first)
    assert last.startswith("In all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [1]}, "sedes"),
        ({"merges": ["shaply"]}, "'shapley'"),
        ({"merges": ["shapley"], "merging": "reproduce merging"}, "Keep one"),
        ({"seeds": "few"}, "seeds"),
        ({"post_train": "--x 1"}, "max_steps"),
    ],
)
def test_a_preset_that_says_nothing_sensible_is_refused(change, message, tmp_path):
    file = tmp_path / "mine.yaml"
    base = {"title": "x", "teacher": "t", "realign": "", "post_train": "--trainer.max_steps 9", "test": "test"}
    file.write_text(json.dumps(base | change))
    with pytest.raises(UserError, match=message):
        read_preset(file)


def test_an_unknown_part_is_answered_with_the_nearest(work):
    assert parts_of("figure4, table1", work.preset) == ["table1", "figure4"]
    with pytest.raises(UserError, match="table3"):
        parts_of("table33", work.preset)


def test_what_a_preset_does_not_say_how_to_make_is_left_out_before_anything_runs(work, capsys):
    assert parts_of(None, work.preset) == [*PARTS]
    short = replace(work.preset, merging="", looks="")
    assert parts_of(None, short) == [part for part in PARTS if part not in ("table4", "figure6")]
    assert "table4 is left out: the preset has no 'merges'." in capsys.readouterr().out
    with pytest.raises(UserError, match="the preset has no 'merges'"):
        parts_of("table4", short)


def test_merges_of_the_runs_own_snapshots_are_judged_beside_the_last(work):
    own = Work(replace(work.preset, merging="", merges=("average", "shapley"), seeds=(0,)), work.output)
    (chain,) = own.chains(["table4"]).values()
    assert [command.words[0] for command in chain] == ["fit", "fit", "test", "merge", "test", "test"]
    leave_scores(own, "post-conv-r2-s0", 0.5, 1)
    leave_scores(own, "merged-conv-r2-s0-average", 0.98, 1)
    leave_scores(own, "merged-conv-r2-s0-shapley", 0.5, 1)
    (section,) = Results(own).sections(["table4"])
    assert [claim.verdict for claim in section.claims] == ["cannot tell", "agrees"]  # Shapley is the last one here
    assert [row[0] for row in section.rows] == ["last snapshot", "average", "Shapley"]
    assert "split test, n = 40, 1 seed" in section.lead


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_preset_of_benchmarks_fills_every_table_and_figure(tmp_path):
    """As the presets of real size do, with the tiny teacher and ten small sets of rows."""
    root = tmp_path / "benchmarks"
    draw_benchmarks(root)
    data = "--data.root {data}/pages-{seed} --data.recipe null --data.batch_size 4 --trainer.log_every_n_steps 1"
    preset = {
        "title": "Ten benchmarks", "teacher": "fcot/tiny/teacher", "seeds": [0], "ratios": [2],
        "modules": ["conv", "pool"], "rivals": {"fastv": {"layer": 1}}, "side_by_side": False,
        "draw_for_each_seed": [
            "shards build --output {data}/pages-{seed} --recipe questions --train 40 --dev 8 --test 0 --seed {seed}"
        ],
        "realign": f"--config configs/realign_tiny.yaml {data} --trainer.max_steps 2",
        "post_train": f"--config configs/sft_tiny.yaml {data} --trainer.max_steps 5 --model.max_new_tokens 6 "
        "--trainer.callbacks '[{class_path: Snapshots, init_args: {count: 5}}]'",
        "test": f"evaluate {{model}} --root {root} --output {{output}} --allow_partial true --limit 4 --device cpu "
        "--max_new_tokens 6 --max_tiles 4",
        "time": "bench infer --model fcot/tiny/teacher --ratios 1,2,4 --batch 1 --questions 1 --device cpu --repeats 2",
        "merges": ["auto", "average"], "looks": "reproduce looks --max_new_tokens 4",
    }  # fmt: skip
    words = ["reproduce", "paper", "--preset", str(tmp_path / "preset.yaml"), "--output", str(tmp_path / "run")]
    (tmp_path / "preset.yaml").write_text(json.dumps(preset))
    main(words)
    (tmp_path / "preset.yaml").write_text(json.dumps(preset | {"about": "Only miniatures.", "title": "Other words"}))
    main(words)  # writes the page alone again
    text = (tmp_path / "run" / "RESULTS.md").read_text()
    assert "run again: other words" in text and "Only miniatures." in text
    assert len(re.findall(r"^## (Table|Figure) \d", text, re.MULTILINE)) == len(PARTS)
    assert "splits docvqa val" in text
    assert "split test" not in text
    assert "difference to the last" in text
