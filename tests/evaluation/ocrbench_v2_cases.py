"""OCRBench v2's answers with the scores that the official code gave them; `FCOT_CASES` names a folder of others."""

import json
import os
from pathlib import Path

import pytest

from fcot.errors import UserError
from fcot.evaluation.ocrbench_v2 import abilities, overall, score

CASES = Path(os.environ.get("FCOT_CASES") or Path(__file__).parent / "cases")
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def content():
    return json.loads((CASES / "ocrbench_v2.json").read_text(encoding="utf-8"))


def result(row, prediction):
    optional = {name: row.get(name) for name in ("eval", "bbox", "content")}
    return score(row["type"], row["question"], prediction, row["answers"], **optional)


def test_answers_of_thirty_types_score_as_the_official_code_says(content):
    cases = [*content["cases"], *(case for case in content["non_string_predictions"] if "score" in case)]
    wrong = []
    for case in cases:
        found = result(case, case["prediction"])
        ignored = bool(case.get("ignored"))
        if abs(found.score - case["score"]) > TOLERANCE or found.ignored != ignored or found.crashed:
            wrong.append((case["id"], case["kind"], found, case["score"]))
    print(f"ocrbench_v2.json: {len(cases) - len(wrong)} of {len(cases)} equal")
    assert wrong == []


def test_where_the_official_code_stops_a_row_has_a_score(content):
    for case in [*content["official_raises"], *content["non_string_predictions"]]:
        if "official_raises" in case:
            found = result(case, case["prediction"])
            assert (found.score, found.ignored) == (0, False), case["id"]
            assert found.crashed, case["id"]


def test_a_whole_file_has_the_abilities_of_the_official_code(content):
    whole = content["whole_file"]
    results = [(row["type"], result(row, row["predict"])) for row in whole["rows"]]
    counted = [(kind, found.score) for kind, found in results if not found.ignored]
    for language, name in (("en", "english"), ("ch", "chinese")):
        found = abilities(counted, language)
        same_means(found, whole[name])
        assert abs(overall(found) - whole[f"{name}_overall"]) <= TOLERANCE


def test_aggregation(content):
    for case in content["aggregation"]:
        if case.get("official_raises") == "ValueError":
            with pytest.raises(UserError, match="no type"):
                abilities([(item["type"], item["score"]) for item in case["items"]], "en")
            continue
        if case.get("official_raises") == "ZeroDivisionError":
            assert overall(abilities([(item["type"], item["score"]) for item in case["items"]], "ch")) is None
            continue
        rows = [(item["type"], item["score"]) for item in case["items"] if item.get("ignore") != "True"]
        for language, name in (("en", "english"), ("ch", "chinese")):
            found = abilities(rows, language)
            same_means(found, case[name])
            expected = case[f"{name}_overall"]
            assert overall(found) == pytest.approx(expected, abs=TOLERANCE)


def same_means(found, expected):
    assert found.keys() == expected.keys()
    for name, (mean, rows) in expected.items():
        assert found[name][1] == rows
        assert found[name][0] == (None if mean is None else pytest.approx(mean, abs=TOLERANCE))
