"""Answers with the scores that official code gave them.

`FCOT_CASES` names a folder of other cases of the same form. "Claimed" are the scorers whose rule fcot has; what they do
not score (their code fails, or asks a language model) is compared with what fcot says of it.
"""

import json
import os
from pathlib import Path

import pytest

from fcot.errors import UserError
from fcot.evaluation.scoring import letters, mathvista, rrc, yes_no
from fcot.evaluation.scoring.contains import contains
from fcot.metrics.anls import anls
from fcot.metrics.relaxed_accuracy import relaxed_accuracy
from fcot.metrics.vqa_accuracy import vqa_accuracy

CASES = Path(os.environ.get("FCOT_CASES") or Path(__file__).parent / "cases")
TOLERANCE = 1e-9
NOT_CLAIMED = object()
RAISES = "raises"  # stands for {"raises": …}: what fcot does instead is said beside each such case below
JUDGE = {"needs_llm": True}


def same(found, expected):
    """Whether a value is the expected one; numbers to 1e-9, of the ten digits that expected ones have."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return abs(found - expected) <= TOLERANCE
    return found == expected


def of_letters(case, scorer):
    answer, choices, gold = case["prediction"], case["choices"], case["answer"]
    if scorer in ("vlmevalkit", "vlmevalkit_2024"):
        found = letters.find_letter(answer, choices, year=2024 if scorer.endswith("2024") else 2026) or "Z"
        return {"extracted": found, "score": int(found == gold)}
    if case["benchmark"] == "ai2d":
        if scorer == "internvl":
            return {"score": letters.exact_letter(answer, gold)}
        found = letters.letter_before_stop(answer)
        return {"extracted": found, "score": letters.same_but_for_punctuation(found, gold)}
    if scorer == "internvl":
        found = letters.first_letter(answer, choices)
        return {"extracted": found, "score": int(found == gold)}
    return NOT_CLAIMED


def of_contains(case, scorer):
    if scorer == "lmms_eval":
        return NOT_CLAIMED
    return contains(case["prediction"], case["references"], formula=case["metadata"]["dataset_name"] == "HME100k")


def of_yes_no(case, scorer):
    said = {
        "official": lambda text: yes_no.yes_no(text),
        "internvl": lambda text: yes_no.yes_no(yes_no.internvl_answer(text)),
        "lmms_eval": yes_no.harness_yes_no,
    }
    if scorer not in said:
        return NOT_CLAIMED
    found = said[scorer](case["prediction"])
    return {"extracted": found, "score": int(found == case["answer"].lower())}


def of_relaxed(case, scorer):
    if scorer == "lmms_eval":
        return NOT_CLAIMED
    swapped = scorer in ("internvl", "vlmevalkit_2024")
    return relaxed_accuracy(case["prediction"], case["references"], of_answer=swapped)


def of_vqa(case, scorer):
    if scorer == "vlmevalkit" or scorer == "vlmevalkit_2024":
        return NOT_CLAIMED
    return vqa_accuracy(case["prediction"], case["references"], drop_full_stops=True)


def of_anls(case, scorer):
    return anls(case["prediction"], case["references"])


def of_submission(case, scorer):
    try:
        scores = rrc.check_submission(case["ground_truth"], case["submission"])
    except UserError:
        return RAISES
    return {"score": sum(scores.values()) / len(scores), "per_sample": {str(key): score for key, score in scores.items()}}


def of_extraction(case, scorer):
    if scorer == "internvl_cot":
        return {"extraction": mathvista.concluded(case["prediction"])}
    found = mathvista.extract(case["prediction"], case["metadata"], case["choices"], quick=scorer == "official_quick")
    return JUDGE if found is None else {"extraction": found}


CHECKS = {
    "option_letter": of_letters,
    "contains": of_contains,
    "yes_no": of_yes_no,
    "relaxed_accuracy": of_relaxed,
    "vqa_accuracy": of_vqa,
    "anls": of_anls,
    "rrc_submission": of_submission,
    "extraction": of_extraction,
}

FILES = ("ai2d", "chartqa", "docvqa_infovqa", "mathvista", "mme", "ocrbench", "scienceqa", "textvqa")


@pytest.mark.parametrize("name", FILES)
def test_answers_score_as_the_official_code_says(name):
    wrong, compared, left = [], 0, {}
    for case in json.loads((CASES / f"{name}.json").read_text(encoding="utf-8")):
        if case["metric"] not in CHECKS:
            print("no check", case["metric"]); continue
        for scorer, expected in case["expected"].items():
            found = CHECKS[case["metric"]](case, scorer)
            if found is NOT_CLAIMED:
                left[case["metric"], scorer] = left.get((case["metric"], scorer), 0) + 1
                continue
            expected = RAISES if isinstance(expected, dict) and RAISES in expected else expected
            compared += 1
            if not same(found, expected):
                wrong.append((case["id"], case["metric"], scorer, case.get("prediction"), found, expected))
    print(f"{name}.json: {compared - len(wrong)} of {compared} equal; not claimed: {left or 'none'}")
    for each in wrong: print("W", each)
    assert wrong == []
