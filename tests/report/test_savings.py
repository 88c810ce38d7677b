"""What a report says fewer visual tokens save at real size: the counts of `bench infer`, and what they are of."""

import json

import pytest

from fcot.bench.infer import infer
from fcot.report import report
from fcot.report.savings import savings, savings_section


def read(run):
    return (run / "report.html").read_text(encoding="utf-8"), json.loads((run / "report.json").read_text())


@pytest.mark.parametrize(("size", "name"), [("1b", "InternVL2-1B"), ("8b", "InternVL2-8B")])
def test_savings_are_what_bench_infer_counts_of_its_own_page(size, name, tmp_path):
    infer(size, ratios="1,2", questions=1, device="meta", json=str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert savings([2])[name] == {int(ratio): counts for ratio, counts in found["flops"].items()}
    assert (found["tiles"], found["page"], found["prompt"]) == (13, [1700, 2200], 80)  # as the page says in words


def test_page_leads_with_what_is_kept_and_what_is_saved(reported):
    page, found = read(reported[0])
    head = page.partition("What was found")[0]
    kept = next(row for row in found["rows"] if row["name"] == "merged-r2")["vs_teacher"]["mean"]
    counts = found["savings"]["InternVL2-8B"]
    assert head.index(f"<b>{100 * kept:.1f} %</b>") < head.index("TFLOP</b>") < head.index("MiB</b>")
    assert f"{counts['1']['total']:.1f} → {counts['2']['total']:.1f} TFLOP" in head
    assert f"{counts['1']['parts']['prefill']:.1f} → {counts['2']['parts']['prefill']:.1f}" in head
    assert "426 → 218 MiB" in head
    assert head.count("counted for InternVL2-8B") == 2 and "1700 by 2200 pixels, cut into 13 tiles" in head


def test_section_has_a_row_for_each_model_and_ratio(run, made):
    made.write_test(run / "eval" / "merged-r4", ratio=4, stage="SFT + merge", wrong=3)
    report(run)
    section = read(run)[0].partition("<h2>What it saves")[2].partition("</section>")[0]
    assert [section.count(f">InternVL2-{size}<") for size in ("1B", "2B", "8B")] == [3, 3, 3]
    assert "--ratios 1,2,4 --device meta" in section


def test_ratio_that_real_tiles_cannot_have_is_said_to_be_left_out():
    missing = []
    assert savings([1, 3]) == {}
    assert savings_section({}, [3], missing) == missing[0] and "ratio 3" in missing[0]


def test_teacher_alone_saves_nothing(made, tmp_path):
    made.write_test(tmp_path / "eval" / "teacher")
    report(tmp_path)
    page, found = read(tmp_path)
    assert found["savings"] == {} and "No student was tested, so no savings are counted" in page
