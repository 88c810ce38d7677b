"""The parts of a report: marked answers, windows of tokens, curves, found pages and names."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcot.compress import make_compressor
from fcot.evaluation.records import print_table
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.spec import StudentSpec
from fcot.report.examples import marked
from fcot.report.plots import moving_average
from fcot.report.runs import name_of
from fcot.report.tokens import TilingSpec, draw_tokens, windows
from fcot.report.training import by_student, find_scalars

TEACHER = Path("fcot/tiny/teacher")


def plain(html):
    """Return what a reader gets who undoes the marks: (the answer, the reference)."""
    answer = re.sub(r"<del>.*?</del>|</?ins>", "", html)
    reference = re.sub(r"<ins>.*?</ins>|</?del>", "", html, flags=re.DOTALL)
    return answer, reference.replace("↵", "\n")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [("Bern 135", "Bern 134"), ("Brn", "Bern"), ("Berne", "Bern"), ("a\nb\nd", "a\nb\nc"), ("same", "same")],
)
def test_marks_turn_an_answer_into_its_reference(said, wanted):
    assert plain(marked(said, [wanted])) == (said, wanted)


def test_right_answer_bears_no_marks_and_the_nearest_reference_counts():
    assert marked("4 000", ["vier", "4 000"]) == "4 000"


def test_answer_that_is_nothing_like_it_is_marked_whole():
    assert marked("zzzz", ["Bern 134"]) == "<ins>zzzz</ins>"
    assert "nothing" in marked("", ["Bern"])


def test_missing_line_break_is_a_sign_and_breaks_no_line():
    assert marked("Bern 134", ["Bern\n134"]) == "Bern<del>↵</del><ins> </ins>134"


def test_marks_escape_what_models_say():
    assert marked("<i>a", ["<i>a"]) == "&lt;i&gt;a"


def test_table_on_the_terminal_fits_and_shows_names_as_they_are(capsys):
    interval = {"mean": 0.9, "low": 0.8, "high": 1.0}
    tasks = ("text", "table", "chart", "lookup", "compare", "arithmetic", "form")
    row = {
        "model": "[red]", "ratio": 2, "stage": "SFT, last snapshot", "split": "test", "n": 9, "seed": 0,
        "scores": {task: {**interval, "metric": "exact_match"} for task in (*tasks, "mean")},
        "visual_tokens": 35.0, "vs_teacher": {"mean": 0.97, "low": 0.9, "high": None},
    }  # fmt: skip
    print_table([row])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 120
    for said in ("[red]", "arithmetic", "97.0", "90.0", "∞", "split test, n = 9, seed 0", "exact match: text, table"):
        assert said in printed


@pytest.mark.parametrize("name", ["conv", "pool", "conv2d"])
@pytest.mark.parametrize(("ratio", "side"), [(2, 4), (4, 4), (4, 16), (8, 4)])
def test_windows_are_those_the_compressor_mixes(name, ratio, side):
    if name == "conv2d" and (ratio, side) == (8, 4):
        ratio = 4
    compressor = make_compressor(name, ratio=ratio, side=side, width=3)
    groups = windows(name, ratio, side)
    assert groups.shape == (side, side)
    for place in (0, 1, side, side * side - 1):
        tokens = torch.zeros(1, side * side, 3)
        tokens[0, place] = 1.0
        before = compressor(torch.zeros_like(tokens))
        (changed,) = (compressor(tokens) - before).abs().sum(2)[0].nonzero().flatten().tolist()
        assert groups.flat[place] == changed


def test_compressor_that_looks_everywhere_has_no_windows():
    assert windows("qformer", 2, 4) is None
    assert windows("qformer", 1, 4) is not None


def test_token_count_includes_the_thumbnail():
    eyes = TilingSpec(112, 6, ModelFolder(TEACHER).config, StudentSpec())
    assert eyes.counts(Image.new("RGB", (112, 112)), 1) == [16]
    assert eyes.counts(Image.new("RGB", (224, 224)), 1) == [16] * 5
    assert eyes.counts(Image.new("RGB", (224, 224)), 4) == [4] * 5


@pytest.mark.parametrize("size", [(112, 112), (224, 112), (336, 224), (112, 448)])
@pytest.mark.parametrize("ratios", [(1,), (1, 2), (1, 2, 4)])
def test_picture_of_tokens_holds_every_panel(size, ratios):
    eyes = TilingSpec(112, 6, ModelFolder(TEACHER).config, StudentSpec())
    page = Image.new("RGB", size, (250, 240, 180))
    drawn = np.asarray(draw_tokens(page, eyes, [(ratio, f"ratio {ratio}") for ratio in ratios]))
    paper = (np.abs(drawn.astype(int) - (250, 240, 180)).sum(2) < 6).any(0)
    panel = drawn.shape[1] // len(ratios)
    assert all(paper[number * panel : (number + 1) * panel].any() for number in range(len(ratios)))


def write_events(folder, start, stop, value, age):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step in range(start, stop):
            writer.add_scalar("train/loss", value, step)
    (path,) = (path for path in folder.iterdir() if path.stat().st_mtime > 2_000)
    os.utime(path, (age, age))


def test_resumed_run_replaces_the_steps_it_did_again(tmp_path):
    write_events(tmp_path / "sft-r2" / "lightning_logs" / "version_0", 0, 8, 1.0, age=1_000)
    write_events(tmp_path / "sft-r2" / "lightning_logs" / "version_1", 5, 10, 2.0, age=1_001)
    points = find_scalars(tmp_path)["sft-r2"]["train/loss"]
    assert points == [(step, 1.0 if step < 5 else 2.0) for step in range(10)]


def test_run_begun_anew_leaves_nothing_of_the_longer_one_before(tmp_path):
    write_events(tmp_path / "sft-r2", 0, 8, 1.0, age=1_000)
    write_events(tmp_path / "sft-r2", 0, 3, 2.0, age=1_001)
    assert find_scalars(tmp_path)["sft-r2"]["train/loss"] == [(step, 2.0) for step in range(3)]


def test_loss_that_is_not_a_number_is_no_point(tmp_path):
    write_events(tmp_path / "sft-r2", 0, 3, float("nan"), age=1_000)
    assert find_scalars(tmp_path) == {}


def test_moving_average_is_of_a_symmetric_neighbourhood():
    steps = np.arange(5)
    assert moving_average(steps, np.array([0.0, 3.0, 6.0, 0.0, 3.0]), 1)[1].tolist() == [1.5, 3.0, 3.0, 3.0, 1.5]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("eval/merged-r2", "merged-r2"),
        ("realign-r2/lightning_logs/version_3", "realign-r2"),
        ("a/b", "a/b"),
        (".", "run"),
    ],
)
def test_names_leave_out_layers_that_say_nothing(folder, name):
    assert name_of(Path("run") / folder, Path("run")) == name


def test_curves_of_several_students_of_one_training_are_taken_apart():
    tags = ("train/loss", "train/kl_r2", "train/kl_r4", "val/kl_r4")
    alone = {"train/loss": [(0, 2.0)], "train/kl": [(0, 1.0)]}
    both = {tag: [(0, float(place))] for place, tag in enumerate(tags)}
    found = by_student({"realign-r1": alone, "realign": both})
    assert found["realign-r1"] == alone
    assert found["realign-r2"] == {"train/loss": [(0, 0.0)], "train/kl": [(0, 1.0)]}
    assert found["realign-r4"] == {"train/loss": [(0, 0.0)], "train/kl": [(0, 2.0)], "val/kl": [(0, 3.0)]}
    assert len(found) == 3
