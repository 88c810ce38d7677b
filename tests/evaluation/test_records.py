import json

import pytest

from fcot.evaluation.records import Evaluation, Record, as_text, conclusion, print_further, print_table, read_records


def evaluation(metrics=None, rows=()):
    found = Evaluation(metrics) if metrics else Evaluation()
    for key, task, reference, prediction in rows:
        found.add(
            keys=[key],
            tasks=[task],
            questions=[f"question {key}"],
            references=[[reference]],
            predictions=[prediction],
            visual_tokens=[8],
        )
    return found


ROWS = [
    ("2", "table", "cat", "cat"),
    ("0", "text", "dog", "dog"),
    ("1", "text", "dog", "sheep"),
    ("3", "text", "dog", "dog"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3+4=7\nAnswer: 7", "7"),
        ("Answer: 1\nno, Answer: 2 ", "2"),
        ("7", "7"),
        (" as it stands ", " as it stands "),
        ("Answer:", ""),
    ],
)
def test_a_chain_of_thought_is_judged_by_its_conclusion(text, expected):
    assert conclusion(text) == expected


def test_a_right_answer_by_another_way_is_right_and_a_wrong_one_with_right_reasoning_is_not():
    reference = "3+4=7\nAnswer: 7"
    rows = [("0", "sum", reference, "I add: Answer: 7"), ("1", "sum", reference, "3+4=7\nAnswer: 9")]
    scored = evaluation({"*": ["exact_match"]}, rows)
    assert scored.by_task() == {"sum": [1.0, 0.0]}
    assert scored.records[1].prediction == "3+4=7\nAnswer: 9"  # the record keeps what was said


@pytest.mark.parametrize("page", ["Q1\nAnswer: B\nQ2\nAnswer: C", "Question: why\nAnswer: so.\nIt goes on."])
def test_a_page_that_has_the_word_in_its_text_is_compared_whole(page):
    rows = [("0", "text", page, page), ("1", "text", page, f"misread {page}"), ("2", "text", "C", "think\nAnswer: C")]
    assert evaluation({"*": ["exact_match"]}, rows).by_task() == {"text": [1.0, 0.0, 1.0]}


def test_further_metrics_are_summed_up_as_they_define_it(capsys):
    rows = [("0", "text", "a" * 8, "a" * 8), ("1", "text", "bb", "b"), ("2", "table", "x", "x")]
    summary = evaluation({"*": ["exact_match"], "text": ["anls", "character_error_rate"]}, rows).summary()
    assert list(summary["further_scores"]) == ["text"]
    rate = summary["further_scores"]["text"]["character_error_rate"]
    assert (rate["mean"], rate["n"]) == (pytest.approx(1 / 10), 2)  # of characters, not of pages: that were 1 / 4
    assert rate["low"] == 0 and rate["high"] == pytest.approx(1 / 2)
    print_further(summary)
    assert "character error rate" in capsys.readouterr().out


def test_the_mean_is_over_tasks_not_over_pages():
    scored = evaluation({"*": ["exact_match"]}, ROWS)
    assert scored.by_task() == {"table": [1.0], "text": [1.0, 0.0, 1.0]}
    assert scored.mean() == pytest.approx((1 + 2 / 3) / 2)
    summary = scored.summary()
    assert summary["scores"]["mean"]["mean"] == pytest.approx(scored.mean())
    assert summary["scores"]["text"] | {"low": 0, "high": 0} == {
        "metric": "exact_match",
        "mean": pytest.approx(2 / 3),
        "low": 0,
        "high": 0,
        "n": 3,
    }
    assert (summary["n"], summary["scores"]["mean"]["n"]) == (4, 4)


def test_scores_come_in_key_order_so_that_two_models_can_be_paired():
    rows = [("1", "text", "dog", "sheep"), ("2", "text", "dog", "cat"), ("0", "text", "dog", "dog")]
    for order in (rows, rows[::-1]):
        assert evaluation({"*": ["exact_match"]}, order).by_task() == {"text": [1.0, 0.0, 0.0]}


def test_intervals_hold_the_mean_and_are_the_same_each_time():
    first, second = (evaluation({"*": ["exact_match"]}, ROWS * 5).summary()["scores"]["text"] for _ in range(2))
    assert first == second
    assert 0 < first["low"] < first["mean"] < first["high"] < 1


def test_a_task_has_metrics_of_its_own_and_the_first_one_counts():
    scored = evaluation({"*": ["exact_match"], "text": ["anls", "exact_match"]}, [("0", "text", "house", "hause")])
    assert scored.records[0].scores == {"anls": pytest.approx(0.8), "exact_match": 0.0}
    assert scored.mean() == pytest.approx(0.8)
    assert scored.by_task("exact_match") == {"text": [0.0]}
    assert scored.summary()["scores"]["text"]["metric"] == "anls"
    assert scored.names("table") == ["exact_match"]
    assert list(Evaluation().names("text")) == ["anls"]


def test_any_accepted_answer_counts():
    scored = Evaluation({"*": ["exact_match"]})
    scored.add(
        keys=["0"],
        tasks=["text"],
        questions=["?"],
        references=[["grey", "gray"]],
        predictions=["gray"],
        visual_tokens=[1],
    )
    assert scored.mean() == 1.0


def test_tokens_are_a_mean_over_pages():
    scored = Evaluation({"*": ["exact_match"]})
    scored.add(
        keys=["0", "1"],
        tasks=["a", "a"],
        questions=["?", "?"],
        references=[["x"], ["x"]],
        predictions=["x", "x"],
        visual_tokens=[4, 8],
    )
    assert scored.summary()["visual_tokens"] == 6.0


def test_records_survive_the_disk(tmp_path):
    scored = evaluation({"*": ["anls", "exact_match"]}, [*ROWS, ("4", "text", "naïve\n你好", "a\u2028b")])
    scored.write_records(tmp_path / "test.jsonl")
    assert read_records(tmp_path / "test.jsonl") == scored.records
    assert len((tmp_path / "test.jsonl").read_text(encoding="utf-8").split("\n")) == 6


def test_records_of_earlier_versions_are_read_without_their_seconds(tmp_path):
    record = {"key": "0", "task": "text", "question": "?", "references": ["x"], "prediction": "x"}
    line = json.dumps({**record, "scores": {"anls": 1.0}, "visual_tokens": 8, "seconds": 0.5})
    (tmp_path / "test.jsonl").write_text(line + "\n")
    assert read_records(tmp_path / "test.jsonl") == [Record(**record, scores={"anls": 1.0}, visual_tokens=8)]


def test_no_records_make_an_empty_file(tmp_path):
    Evaluation().write_records(tmp_path / "test.jsonl")
    assert read_records(tmp_path / "test.jsonl") == []


def test_the_table_names_split_count_seed_and_scores(capsys):
    row = {"model": "tiny", "ratio": 2, "stage": "sft", "split": "test", "seed": 7}
    print_table([row | evaluation({"*": ["exact_match"]}, ROWS).summary()])
    shown = capsys.readouterr().out
    for word in ("split test", "n = 4", "seed 7", "sft", "table", "text", "0.833"):
        assert word in shown


def test_an_interval_reads_as_mean_and_bounds():
    assert as_text({"mean": 0.91234, "low": 0.88, "high": 0.941}) == "0.912 [0.880, 0.941]"
