import base64
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from html.parser import HTMLParser
from io import BytesIO, TextIOWrapper

import numpy as np
import pytest
from PIL import Image

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.metrics import paired_ratio_by_group
from fcot.report import markdown_table, report
from fcot.report.claims import claims_of
from fcot.report.examples import choose, readers
from fcot.report.pages import find_pages
from fcot.report.rows import compared_rows
from fcot.report.runs import find_scored

VOID = {"meta", "img", "br", "hr", "link"}


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.links, self.images, self.words = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def read(run):
    return Page((run / "report.html").read_text(encoding="utf-8")), json.loads((run / "report.json").read_text())


def test_page_of_a_whole_run_holds_every_section_and_needs_no_other_file(reported):
    run, printed = reported
    page, found = read(run)
    assert page.headings == [
        "Reading with half of the visual tokens",
        "What was found",
        "Scores",
        "What it saves",
        "The visual tokens of a page",
        "What the models read",
        "Training",
        "The merge",
        "How it was made",
        "Limits",
    ]
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    for image in page.images:
        assert image["alt"]
        assert Image.open(BytesIO(base64.b64decode(image["src"].partition(",")[2]))).size > (20, 20)
    assert len(page.images) == 1 + 1 + 3 + 2 + 1  # scores, tokens, a page a task, curves, merge
    for said in (found["claims"][0], "split test, n = 18, seed 0", "a remark <of> the merge", "--config", "77"):
        assert said in page.words
    assert found["missing"] == ["No control was tested (the teacher with the same post-training)."]
    assert found["missing"][0] in page.words
    assert (run / "tokens.png").is_file()
    assert printed.splitlines()[-1] == str(run / "report.html")
    assert "SFT + merge" in printed


def test_comparisons_are_paired_by_page(reported, made, tmp_path):
    run, _ = reported
    tests = made.write_tests(tmp_path)  # the same again
    teacher, start, merged = tests["teacher"], tests["start-r2"], tests["merged-r2"]
    rows = {row["name"]: row for row in read(run)[1]["rows"]}
    assert list(rows) == list(made.WRONG)
    direct = paired_ratio_by_group(merged.by_task(), teacher.by_task())
    assert rows["merged-r2"]["vs_teacher"] == pytest.approx(vars(direct))
    assert direct.low < direct.mean < direct.high
    assert rows["merged-r2"]["vs_start"]["mean"] == pytest.approx(merged.mean() - start.mean())
    assert rows["merged-r2"]["vs_start"]["low"] > 0
    assert "vs_teacher" not in rows["teacher"]
    assert "vs_start" not in rows["start-r2"] and "vs_start" not in rows["teacher"]
    assert not any("vs_control" in row for row in rows.values())
    for name in ("model", "ratio", "stage", "split", "n", "seed", "scores", "visual_tokens"):
        assert name in rows["teacher"]


def test_main_claim_names_what_it_is_of(reported, made):
    run, _ = reported
    row = next(row for row in read(run)[1]["rows"] if row["name"] == "merged-r2")
    claim = read(run)[1]["claims"][0]
    tokens = np.mean(list(made.TILES.values())) * 16
    share = row["vs_teacher"]
    for said in (
        "half of the visual tokens",
        f"{tokens / 2:.1f} instead of {tokens:.1f}",
        "merged student",
        f"{100 * share['mean']:.1f} % [{100 * share['low']:.1f}, {100 * share['high']:.1f}]",
        "3 tasks, split test, n = 18, seed 0",
    ):
        assert said in claim


def test_merge_that_changes_nothing_is_not_praised(reported):
    run, _ = reported
    (claim,) = (claim for claim in read(run)[1]["claims"] if "merge" in claim and "At ratio" in claim)
    assert "the merge answers as the last snapshot does" in claim


def test_merge_that_changes_answers_has_its_difference(run, made):
    made.write_tests(run, {"teacher": 0, "sft-r2": 2, "merged-r2": 1})
    scored = find_scored(run)
    (claim,) = (claim for claim in claims_of(compared_rows(scored)[0], scored)[2] if "merging" in claim)
    assert "moves the mean score by +" in claim


def test_control_is_compared_where_there_is_one(run, made):
    control = made.write_test(run / "eval" / "teacher-sft", stage="teacher + same SFT", wrong=0)
    merged = made.write_tests(run)["merged-r2"]
    scored = find_scored(run)
    compared, missing = compared_rows(scored)
    rows = {row["name"]: row for row in compared}
    direct = paired_ratio_by_group(merged.by_task(), control.by_task())
    assert rows["merged-r2"]["vs_control"] == pytest.approx(vars(direct))
    assert "vs_control" not in rows["teacher"] and "vs_teacher" in rows["teacher-sft"]
    assert any("Against the control" in claim for claim in claims_of(compared, scored)[2])
    _, _, head, _, *lines = markdown_table(compared).splitlines()
    column = head.split(" | ").index("% of teacher + same SFT [95 %]")
    cells = {row["name"]: line.split("|")[1 + column].strip() for row, line in zip(compared, lines, strict=True)}
    assert cells["merged-r2"].startswith(f"{100 * direct.mean:.1f} % [") and cells["teacher"] == ""
    assert missing == []


def test_what_is_missing_is_said_and_stops_nothing(tmp_path, capsys, made):
    made.write_test(tmp_path / "eval" / "realigned-r2", ratio=2, stage="re-aligned")
    (tmp_path / "eval" / "realigned-r2" / "test.jsonl").unlink()
    report(tmp_path)
    page, found = read(tmp_path)
    missing, printed = " ".join(found["missing"]), capsys.readouterr().out
    for said in (
        "realigned-r2 has no test.jsonl",
        "No teacher",
        "No control",
        "The start at ratio 2 was not tested",
        "No answers were kept",
        "visual tokens of a page are not drawn",
        "No curves of a re-alignment",
        "No curves of a post-training",
        "No merge was made",
    ):
        assert said in missing
        assert said in page.words
        assert said in printed
    assert found["claims"]


def test_teacher_that_reads_nothing_has_no_share(run, made):
    made.write_test(run / "eval" / "teacher", wrong=made.PAGES_A_TASK, spoil="~" * 40)
    rows, missing = compared_rows(find_scored(run))
    assert not any("vs_teacher" in row for row in rows)
    assert any("mean score is 0" in said for said in missing)


def test_models_of_different_pages_are_not_compared(run, made):
    pages = [(f"{int(key) + (key == '00000003'):08d}x", task, answer) for key, task, answer in made.PAGES]
    made.write_test(run / "eval" / "merged-r2", ratio=2, stage="SFT + merge", pages=pages)
    with pytest.raises(UserError, match=r"merged-r2 and teacher were tested on different pages.*\n.*--data.root"):
        report(run)


def test_same_keys_of_another_set_are_not_compared(run, made):
    pages = [(key, task, answer + ".") for key, task, answer in made.PAGES]
    made.write_test(run / "eval" / "merged-r2", ratio=2, stage="SFT + merge", pages=pages)
    with pytest.raises(UserError, match="different pages, sample '00000000'"):
        report(run)


def test_models_of_different_metrics_are_not_compared(run, made):
    made.write_test(run / "eval" / "merged-r2", ratio=2, stage="SFT + merge", metrics={"*": ["anls"]})
    with pytest.raises(UserError, match="scores 'lookup' by anls, teacher by exact_match"):
        report(run)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "test.json").write_text("{"), "is not what a test writes"),
        (lambda folder: (folder / "test.json").write_text('{"model": "x"}'), "has no field 'ratio'"),
        (lambda folder: (folder / "test.jsonl").write_text('{"key": "1"}\n'), "is not what a test writes"),
        (lambda folder: drop_line(folder / "test.jsonl"), "counts 18 pages, its .jsonl holds 17"),
    ],
)
def test_broken_scores_are_named(run, spoil, words):
    spoil(run / "eval" / "teacher")
    with pytest.raises(UserError, match=words) as raised:
        report(run)
    assert str(run / "eval" / "teacher" / "test.json") in str(raised.value)


def drop_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def test_folder_without_scores_says_how_to_get_some(tmp_path):
    with pytest.raises(UserError, match=r"no scores in(.|\n)*fcot test"):
        report(tmp_path / "nowhere")


def test_pages_of_another_set_are_refused_if_asked_for_and_passed_over_if_not(run, tmp_path, made):
    other = made.write_shards(tmp_path / "other", [(key, task, answer + ".") for key, task, answer in made.PAGES])
    with pytest.raises(UserError, match="do not hold the pages that were tested"):
        report(run, data=other)
    (run / "data").rename(tmp_path / "moved")
    report(run)
    page, found = read(run)
    assert any("test shards were not found" in said for said in found["missing"])
    assert "What the models read" in page.headings
    scored = find_scored(run)
    (key,) = find_pages(tmp_path / "moved", run, scored, scored[0].records[4:5])
    assert key == "00000004"


def test_a_shard_damaged_since_the_test_costs_its_picture_only(run):
    shard = run / "data" / "test" / "shard-000000.tar"
    os.truncate(shard, 700)
    report(run)
    assert "pages are not shown" in (run / "report.html").read_text(encoding="utf-8")


def test_only_pages_that_all_models_answered_are_shown(run, made):
    for name in ("teacher", "start-r2", "sft-r2"):
        shutil.rmtree(run / "eval" / name, ignore_errors=True)
    made.write_test(run / "eval" / "merged-r2", ratio=2, stage="SFT + merge", pages=made.PAGES[:3])
    report(run)
    models = readers(find_scored(run))
    assert [len(model.records) for model in models] == [len(made.PAGES), 3]
    assert {example.record.key for example in choose(models)} <= {key for key, _, _ in made.PAGES[:3]}


def test_answers_are_shown_as_text_whatever_they_hold(run, made):
    made.write_test(run / "eval" / "teacher", wrong=6, spoil="{}<script>alert(1)</script>\x00")
    report(run)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "\x00" not in text
    assert "alert(1)" in Page(text).words


def test_names_are_shown_as_text_whatever_they_hold(made, tmp_path):
    """Of folders, stages, merges and trainings, in words and in attributes."""
    hostile = "<marquee>\"'&amp;"
    run = made.write_run(tmp_path / f"demo {hostile}")
    made.write_test(run / "eval" / f"test {hostile}", ratio=2, stage=f"stage {hostile}")
    made.write_training(run / f"sft {hostile}", ("train/loss",), checkpoint="elsewhere")
    merge = run / f"sft {hostile}" / "merged"
    merge.mkdir()
    (merge / "merge.json").write_text(json.dumps({**made.MERGE, "notes": [f"note {hostile}"]}))
    report(run)
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "<marquee" not in text
    for what in ("demo", "test", "stage", "sft", "note"):
        assert f"{what} {hostile}" in page.words
    assert {name for image in page.images for name in image} == {"src", "alt", "width"}
    assert any(image["alt"].endswith(f"sft {hostile}/merged") for image in page.images)


def test_markdown_table_has_a_row_a_model_under_its_provenance(reported):
    run, _ = reported
    rows = read(run)[1]["rows"]
    text = (run / "table.md").read_text(encoding="utf-8")
    assert text == markdown_table(rows)
    title, _, head, rules, *lines = text.splitlines()
    assert title.startswith("Split test, n = 18, seed 0")
    assert head.count("|") == rules.count("|") == lines[0].count("|") == 1 + 5 + 3 + 1
    assert len(lines) == len(rows)
    share = rows[-1]["vs_teacher"]
    assert f"| {100 * share['mean']:.1f} % [{100 * share['low']:.1f}, {100 * share['high']:.1f}] |" in lines[-1]


def test_a_name_with_a_bar_leaves_the_markdown_table_whole(reported):
    rows = [{**row, "model": "a|b\nc"} for row in read(reported[0])[1]["rows"]]
    _, _, head, _, *lines = markdown_table(rows).splitlines()
    assert [line.count("|") for line in lines] == [head.count("|")] * len(rows)


def test_no_seconds_are_shown_not_even_those_that_earlier_versions_wrote(run, capsys):
    for path in (run / "eval").rglob("test.json*"):
        field = "seconds" if path.suffix == ".jsonl" else "seconds_per_page"
        rows = [json.loads(line) | {field: 0.482} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report(run)
    shown = capsys.readouterr().out + "".join((run / name).read_text() for name in ("report.json", "table.md"))
    for text in (shown, read(run)[0].words):
        assert "0.482" not in text
        assert not re.search(r"\d s\b|s/page|\bs / page|seconds a page", text)


def test_importing_the_verb_loads_no_torch():
    check = "import fcot.report, sys; sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_students_of_one_run_are_rows_of_their_own(made, tmp_path):
    made.write_test(tmp_path / "eval/teacher")
    for ratio, suffix in ((4, "-r4"), (2, "")):
        folder = tmp_path / "eval/realigned"
        made.write_test(folder, ratio=ratio, stage="re-aligned", wrong=ratio)
        for kind in ("json", "jsonl") if suffix else ():
            (folder / f"test.{kind}").rename(folder / f"test{suffix}.{kind}")
    scored = find_scored(tmp_path)
    assert [(model.name, model.role, model.ratio) for model in scored] == [
        ("teacher", "teacher", 1),
        ("realigned", "realigned", 2),
        ("realigned-r4", "realigned", 4),
    ]
    assert all(len(model.records) == len(made.PAGES) for model in scored)
    assert scored[1].by_task != scored[2].by_task


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_the_table_is_shown_on_any_terminal_and_the_page_is_utf8(encoding, run):
    terminal = TextIOWrapper(BytesIO(), encoding=encoding)
    with redirect_stdout(terminal):
        main(["report", str(run)])
    terminal.flush()
    assert "realigned-r2" in terminal.buffer.getvalue().decode(encoding)
    assert "Re-align" in (run / "report.html").read_text(encoding="utf-8")
