"""The audit of the paper's tables: its arithmetic against brute force, its findings, and the verb."""

import re
from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from html.parser import HTMLParser

import pytest

from fcot.cli.main import main
from fcot.internvl.sizes import SIZES
from fcot.reproduce.audit import findings, limits
from fcot.reproduce.audit.averages import average_definitions, candidates, gain_over_teacher
from fcot.reproduce.audit.finding import Finding
from fcot.reproduce.audit.hits import chance, hits, impossible_cells
from fcot.reproduce.audit.limits import Limits, count_limits, speed_ups
from fcot.reproduce.audit.merges import merge_differences
from fcot.reproduce.audit.paper import Paper, Printed, Row, read_paper
from fcot.reproduce.audit.published import mixed_splits, mme_is_perception
from fcot.reproduce.audit.times import halvings, hours, three_times

MODELS = ("InternVL2-2B", "InternVL2-8B")


@pytest.fixture
def paper() -> Paper:
    return read_paper()


def printings(k: int, questions: int, decimals: int) -> dict[str, set[str]]:
    """How decimal arithmetic prints a share of hits."""
    exact, step = Decimal(100 * k) / Decimal(questions), Decimal(10) ** -decimals
    rounded = {str(exact.quantize(step, way)) for way in (ROUND_HALF_UP, ROUND_HALF_DOWN)}
    return {"rounded": rounded, "truncated": {str(exact.quantize(step, ROUND_DOWN))}}


@pytest.mark.parametrize("questions", [7, 96, 1000, 2017, 2500, 3088])
def test_hits_are_those_that_a_count_through_all_of_them_prints_like_this(questions):
    texts = ["0.00", "14.29", "33.3", "50.00", "62.5", "78.46", "83.77", "93.40", "93.48", "100.00"]
    by_decimals = {d: [printings(k, questions, d) for k in range(questions + 1)] for d in (1, 2)}
    for text in texts:
        printed = by_decimals[len(text.partition(".")[2])]
        found = hits(Printed(text), questions)
        for way in ("rounded", "truncated"):
            assert found[way] == [k for k, each in enumerate(printed) if text in each[way]], (text, way)


@pytest.mark.parametrize(("questions", "decimals"), [(7, 2), (1000, 1), (1000, 2), (3088, 2)])
def test_chance_of_a_pass_is_the_share_of_numbers_that_are_a_rounded_share_of_hits(questions, decimals):
    texts = {text for k in range(questions + 1) for text in printings(k, questions, decimals)["rounded"]}
    assert chance(questions, decimals) == pytest.approx(len(texts) / (100 * 10**decimals + 1))


def test_a_zero_at_the_end_may_have_been_appended():
    assert not hits(Printed("85.80"), 3088)["rounded"]
    assert hits(Printed("85.80"), 3088)["rounded before its last 0"] == [2648, 2649, 2650, 2651]
    assert not hits(Printed("85.81"), 3088)["rounded before its last 0"]


def test_every_cell_of_the_tables_is_there_with_split_and_size(paper):
    assert {number: (len(rows), {len(row.cells) for row in rows}) for number, rows in paper.tables.items()} == {
        1: (10, {7, 10}),
        2: (3, {4}),
        3: (3, {3}),
        4: (4, {3}),
        5: (6, {3}),
    }
    assert [row.name for row in paper.tables[1] if len(row.cells) == 7] == [
        f"{size} FastV, {removed} % removed" for size in ("2B", "8B") for removed in (50, 75)
    ]
    for rows in paper.tables.values():
        for row in rows:
            for column, printed in row.cells.items():
                assert min(paper.benchmarks[column].questions.values()) > 0
                assert re.fullmatch(r"\d+(\.\d+)?", printed.text)
    assert len(paper.settings) == 8
    assert paper.settings["learning rate"] == {"re-alignment": None, "post-training": None}


def test_cells_that_two_tables_repeat_are_the_same(paper):
    """A slip in copying the tables would show here."""
    first = {row.name: row.cells for row in paper.tables[1]}
    for row in (*paper.tables[2], paper.tables[4][-1]):
        same = first.get(row.name) or (first["2B FCoT-VL, 50 % removed"] if row.method == "Shapley" else {})
        assert all(same[column] == printed for column, printed in row.cells.items() if column in same)


def test_seven_scores_cannot_be(paper):
    assert set(impossible_cells(paper).flagged) == {
        *(f"ChartQA {score}" for score in ("78.46", "75.43", "77.31", "78.21", "77.43")),
        "AI2D 93.48",
        "MathVista 58.96",
    }
    asked, failing = impossible_cells(paper).tables
    assert {row[0] for row in asked.rows} == {"ChartQA", "OCRBench", "AI2D", "MathVista", "ScienceQA"}
    kinds = {(row[0], row[1]): row[-1] for row in failing.rows}
    assert kinds["AI2D, 3,088", "83.77"] == "truncated"
    # one truncated cell for either: the cells do not say which questions were asked
    science = {key: kind for key, kind in kinds.items() if key[0].startswith("ScienceQA")}
    assert science == {("ScienceQA, 2,017", "93.40"): "truncated", ("ScienceQA, 4,241", "90.68"): "truncated"}


def test_baselines_of_2b_are_validation_and_of_8b_the_test_server(paper):
    assert mixed_splits(paper).flagged == [
        f"{column}: InternVL2-2B val and InternVL2-8B test" for column in ("DocVQA", "InfoVQA")
    ]
    shares = {(row[0], row[1]): row[3:] for row in mixed_splits(paper).tables[1].rows}
    assert shares["8B FCoT-VL, 50 % removed", "InfoVQA"] == ["98.8 %", "95.9 %"]


def test_three_of_four_gains_are_gone_without_ai2d_and_mathvista(paper):
    found = gain_over_teacher(paper)
    assert len(found.flagged) == 3 and all("8B FCoT-VL, 50 %" not in each for each in found.flagged)
    by_row = {row[0]: row for row in found.tables[0].rows}
    old = [85.90, 76.24, 73.36, 57.66, 78.4, 35.7, 34.5, 94.25]
    new = [86.21, 78.46, 72.90, 56.01, 80.2, 35.6, 34.8, 90.68]
    without = 100 * sum(b / a for a, b in zip(old, new, strict=True)) / 8
    assert by_row["2B FCoT-VL, 50 % removed"][4] == f"{without:.2f}" == "99.86"


def test_definitions_of_an_average_differ_by_points_and_a_printed_one_is_recognised(paper):
    assert not average_definitions(paper).flagged
    assert "between 100.4 and 105.2 %" in average_definitions(paper).sentence
    rows = paper.tables[1]
    means = {row.name: candidates(paper, row)["mean of ratios, %", "the 7 of every row"] for row in rows}
    printed = [replace(row, average=Printed(f"{means[row.name]:.2f}")) for row in rows]
    with_averages = replace(paper, tables={**paper.tables, 1: printed})
    assert average_definitions(with_averages).sentence == (
        "All printed averages are mean of ratios, % over the 7 of every row."
    )
    printed[-1] = replace(printed[-1], average=Printed("50.00"))
    assert average_definitions(with_averages).flagged == ["no definition gives all printed averages"]


def test_gains_of_the_merge_are_within_their_intervals_but_one(paper):
    found = merge_differences(paper)
    decided = [row for row in found.tables[0].rows if row[-1] == "decided"]
    assert len(found.flagged) == 8 and len(decided) == 1
    assert decided[0][:5] == ["Shapley − task arithmetic", "InfoVQA", "2,801", "+2.87", "± 2.61"]


def test_mme_is_perception_and_two_durations_are_given(paper):
    assert mme_is_perception(paper).flagged == ["InternVL2-2B: 1440 is perception (1439.67) alone"]
    assert hours(paper).flagged == ["24 h and 48 h"]


@pytest.mark.parametrize("linear", [0.0, 0.3, 1.0])
def test_a_time_of_constant_linear_and_quadratic_parts_saves_two_to_four_times_as_much_first(linear):
    times = [Printed(f"{100 + 800 * (linear / r + (1 - linear) / r**2):.4f}") for r in (1, 2, 4)]
    low, high = halvings(*times)
    assert low == pytest.approx(high, abs=0.01)
    assert 1.99 < low <= high < 4.01


def test_times_that_do_not_fit_and_equal_cells_are_named(paper):
    assert three_times(paper).flagged == [
        "InternVL2-2B, ChartQA: 544 / 467 / 346",
        "InternVL2-2B, InfoVQA: 868 / 614 / 600",
        "ChartQA 544: 2B teacher and 8B FCoT-VL, 50 % removed",
        "InfoVQA 614: 2B FCoT-VL, 50 % removed and 8B FCoT-VL, 75 % removed",
    ]
    ranges = {tuple(row[:2]): row[5] for row in three_times(paper).tables[0].rows}
    assert ranges["InternVL2-2B", "InfoVQA"] == "654 to 689"


@pytest.mark.parametrize(
    ("times", "fits"),
    [((900, 500, 300), True), ((900, 500, 400), True), ((900, 500, 420), False), ((900, 700, 500), False)],
)
def test_a_first_halving_saves_two_to_four_times_the_second_or_is_flagged(paper, times, fits):
    first = paper.tables[5][:3]
    rows = [replace(row, cells={"DocVQA": Printed(f"{time}")}) for row, time in zip(first, times, strict=True)]
    assert (three_times(replace(paper, tables={5: rows})).flagged == []) is fits


def limits_of(gains: dict[int, tuple[float, float]]) -> dict[str, Limits]:
    whole = {(tiles, ratio): gain for tiles, each in gains.items() for ratio, gain in zip((2, 4), each, strict=True)}
    return dict.fromkeys(MODELS, Limits(whole, whole, []))


def test_a_gain_over_its_limit_is_flagged_and_says_which_page_would_allow_it(paper):
    found = speed_ups(paper, limits_of({3: (1.3, 1.5), 13: (1.4, 2.4), 25: (1.8, 2.8)}))
    assert found.flagged == [
        "2B FCoT-VL, 50 % removed, InfoVQA: 1.41 times, limit 1.40",
        "8B FCoT-VL, 50 % removed, DocVQA: 1.53 times, limit 1.40",
        "8B FCoT-VL, 50 % removed, InfoVQA: 1.70 times, limit 1.40",
    ]
    assert "larger pages would allow it" in found.sentence
    assert "3 of them on every page" in speed_ups(paper, limits_of({13: (1.4, 2.4)})).sentence
    assert not speed_ups(paper, limits_of({13: (1.8, 2.8)})).flagged


def test_limits_are_the_vision_tower_and_language_model_counted_by_hand():
    """Products of matrices alone: linear layers, and attention over the pairs that a causal mask leaves."""
    size, tiles, prompt = SIZES["2b"], 3, 80
    text, allowed = size.language, count_limits("2b", [tiles])
    vision = float(allowed.lines[0][3])

    def language(ratio: int) -> float:
        tokens = tiles * 256 // ratio + prompt
        width, head = text.hidden_size, text.hidden_size // text.num_attention_heads
        layer = 2 * width * width + 2 * width * head * text.num_key_value_heads + 3 * width * text.intermediate_size
        pairs = tokens * (tokens + 1) // 2
        return (text.num_hidden_layers * (2 * tokens * layer + 4 * pairs * width) + 2 * width * text.vocab_size) / 1e12

    for ratio in (2, 4):
        assert allowed.language[tiles, ratio] == pytest.approx(language(1) / language(ratio), rel=1e-3)
        by_hand = (vision + language(1)) / (vision + language(ratio))
        assert allowed.whole[tiles, ratio] == pytest.approx(by_hand, rel=0.01)  # the projector is left out here


def consistent(paper: Paper) -> Paper:
    """Tables in which everything fits: possible scores, one split, no gain, large differences, linear times."""
    share = {"teacher": 1.0, "FCoT-VL": 0.9, "FastV": 0.8, "re-aligned": 0.7}
    share |= {"none": 0.5, "average": 0.6, "task arithmetic": 0.7, "Shapley": 0.9}
    published = {
        model: {**columns, "DocVQA": splits("88.00", "89.00"), "InfoVQA": splits("70.00", "71.00")}
        for model, columns in paper.published.items()
    }

    def cell(row: Row, column: str) -> Printed:
        if column == "MME":
            parts = sum(each.value for each in paper.published[row.model]["MME"].values())
            return Printed(f"{float(parts) * share[row.method]:.0f}")
        whole = {"DocVQA": "88.00", "InfoVQA": "70.00"}.get(column, "80.00")
        score = Fraction(whole) * Fraction(str(share.get(row.method, 0.5)))
        questions = next(iter(paper.benchmarks[column].questions.values()))
        return Printed(f"{100 * round(float(score) / 100 * questions) / questions:.2f}")

    def time(row: Row, column: str) -> Printed:
        full = {"InternVL2-2B": 400, "InternVL2-8B": 900}[row.model]
        return Printed(f"{full // 2 + full * (100 - (row.removed or 0)) // 200}")

    tables = {
        number: [
            replace(row, cells={column: (time if number == 5 else cell)(row, column) for column in row.cells})
            for row in rows
        ]
        for number, rows in paper.tables.items()
    }
    return replace(paper, tables=tables, published=published, hours=[24])


def splits(val: str, test: str) -> dict[str, Printed]:
    return {"val": Printed(val), "test": Printed(test)}


def test_tables_in_which_everything_fits_give_no_finding(paper):
    planted = consistent(paper)
    found: list[Finding] = [*findings(planted), speed_ups(planted, limits_of({13: (1.8, 2.8)}))]
    assert {each.title: list(each.flagged) for each in found if each.flagged} == {}
    assert len(found) == 9 and all(each.sentence for each in found)


class Tags(HTMLParser):
    """Counts tags, and keeps what a page would load from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]


@pytest.mark.parametrize("tiles", [(13,), pytest.param(limits.TILES, marks=pytest.mark.slow)])
def test_the_verb_writes_page_and_markdown_and_prints_a_summary(tiles, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(limits, "TILES", tiles)
    main(["reproduce", "audit", "--output", str(tmp_path / "audit")])
    said = capsys.readouterr().out
    page, text = ((tmp_path / "audit" / name).read_text(encoding="utf-8") for name in ("audit.html", "AUDIT.md"))
    tags = Tags(page)
    assert tags.loaded == [] and "script" not in tags.found
    assert tags.found.count("section") == 11  # nine findings, the settings, what is not known
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    for each in findings(read_paper()):
        assert each.title in said and each.sentence in said and f"**{each.sentence}**" in text
    assert "11 of 12 gains are within what the FLOPs" in said
    assert 'Not known: The column "Avgs" of Table 1 could not be read' in said
    assert "| InternVL2-8B | 13 | 2 | 1,664 |" in text
