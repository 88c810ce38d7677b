"""Answers with the scores that official code gave them.

`FCOT_CASES` names a folder of other cases of the same form. "Claimed" are the scorers whose rule fcot has; what they do
not score (their code fails, or asks a language model) is compared with what fcot says of it.
"""

import json
import os
from pathlib import Path

import pytest

from fcot.errors import UserError
from fcot.evaluation.scoring import letters, mathvista, mme, rrc, words
from fcot.evaluation.scoring.ocrbench import GROUPS, group_of
from fcot.metrics.anls import anls
from fcot.metrics.contains import contains
from fcot.metrics.option_letter import option_letter
from fcot.metrics.relaxed_accuracy import relaxed_accuracy
from fcot.metrics.vqa_accuracy import vqa_accuracy
from fcot.metrics.yes_no import yes_or_no

# the cases of OCRBench v2 and of prompts have files of their own
from tests.evaluation.ocrbench_v2_cases import (  # noqa: F401
    content,
    test_a_whole_file_has_the_abilities_of_the_official_code,
    test_aggregation,
    test_answers_of_thirty_types_score_as_the_official_code_says,
    test_where_the_official_code_stops_a_row_has_a_score,
)
from tests.evaluation.prompt_cases import (  # noqa: F401
    test_a_protocol_without_a_prompt_is_refused,
    test_prompts_are_those_of_each_harness_character_for_character,
    test_tiles_and_lengths_are_those_of_published_scores,
)

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
    if scorer == "lmms_eval" and case["benchmark"] == "scienceqa":
        return {"score": letters.letter_or_begins(answer, gold)}
    if case["benchmark"] == "ai2d":
        if scorer == "internvl":
            return {"score": option_letter(answer, [gold])}
        found = letters.letter_before_stop(answer)
        return {"extracted": found, "score": letters.same_but_for_punctuation(found, gold)}
    if scorer == "internvl":
        found = letters.first_letter(answer, choices)
        if len(found) == 2 and found[0] == "(":
            return RAISES  # its code fails at "(B" without an end; fcot takes the whole answer, which is no letter
        return {"extracted": found, "score": int(found == gold)}
    return NOT_CLAIMED


def of_contains(case, scorer):
    if scorer == "lmms_eval":
        return NOT_CLAIMED
    return contains(case["prediction"], case["references"], formula=case["metadata"]["dataset_name"] == "HME100k")


def of_yes_no(case, scorer):
    said = {
        "official": yes_or_no,
        "internvl": lambda text: yes_or_no(mme.internvl_answer(text)),
        "lmms_eval": mme.harness_yes_no,
    }
    if "\t" in case["prediction"] and scorer in ("official", "internvl"):
        return RAISES  # they cut their files at tabs; fcot scores such an answer
    if scorer == "vlmevalkit":
        found = words.yes_no(case["prediction"])
        return {
            "extracted": found.title() if found != "other" else "Unknown",
            "score": int(found == case["answer"].lower()),
        }
    found = said[scorer](case["prediction"])
    return {"extracted": found, "score": int(found == case["answer"].lower())}


def of_relaxed(case, scorer):
    if scorer == "lmms_eval":
        return NOT_CLAIMED
    if scorer.startswith("vlmevalkit") and any(text.startswith("[") for text in case["references"]):
        return NOT_CLAIMED  # takes a reference that looks like a list for several
    swapped = scorer in ("internvl", "vlmevalkit_2024")
    return relaxed_accuracy(case["prediction"], case["references"], of_answer=swapped)


def of_vqa(case, scorer):
    if scorer.startswith("vlmevalkit"):
        return words.vqa(case["prediction"], case["references"], year=2024 if scorer.endswith("2024") else 2026)
    return vqa_accuracy(case["prediction"], case["references"], drop_full_stops=True)


def of_anls(case, scorer):
    return anls(case["prediction"], case["references"])


def of_submission(case, scorer):
    try:
        scores = rrc.check_submission(case["ground_truth"], case["submission"])
    except UserError:
        return RAISES
    return {
        "score": sum(scores.values()) / len(scores),
        "per_sample": {str(key): score for key, score in scores.items()},
    }


def of_extraction(case, scorer):
    if scorer == "internvl_cot":
        return {"extraction": mathvista.concluded(case["prediction"], case["metadata"], case["choices"])}
    found = mathvista.extract(case["prediction"], case["metadata"], case["choices"], quick=scorer == "official_quick")
    return JUDGE if found is None else {"extraction": found}


def of_normalization(case, scorer):
    fields = case["metadata"]
    if scorer == "lmms_eval" and fields["answer_type"] == "float":
        return NOT_CLAIMED  # its release scores every float as wrong
    if scorer.startswith("official") and fields["question_type"] != "multi_choice" and fields["answer_type"] == "text":
        return RAISES  # free answers that are text, which the data has none of; fcot compares them as they are
    ignore = scorer == "official_ignore_empty"
    return mathvista.normalize(case["extraction"], fields, case["choices"], ignore_empty=ignore)


def of_equality(case, scorer):
    return NOT_CLAIMED if scorer == "lmms_eval" else case["prediction"] == case["answer"]


def of_extraction_score(case, scorer):
    fields = case["metadata"]
    if scorer.startswith("vlmevalkit"):
        year = 2024 if scorer.endswith("2024") else 2026
        return float(
            bool(mathvista.prefetched(case["extraction"], fields, case["choices"], case["answer"], year=year)[1])
        )
    if scorer == "lmms_eval" and fields["answer_type"] == "float":
        return NOT_CLAIMED
    return float(mathvista.normalize(case["extraction"], fields, case["choices"]) == case["answer"])


def of_rule_score(case, scorer):
    answer, fields, choices, gold = (case[name] for name in ("prediction", "metadata", "choices", "answer"))
    if scorer.startswith("vlmevalkit"):
        year = 2024 if scorer.endswith("2024") else 2026
        found, right = mathvista.prefetched(answer, fields, choices, gold, year=year)
        return {"extraction": found, "score": int(right)} if found else JUDGE
    if scorer == "lmms_eval" and fields["answer_type"] == "float":
        return NOT_CLAIMED
    if scorer == "internvl_cot":
        found = mathvista.concluded(answer, fields, choices)
    else:
        found = mathvista.extract(answer, fields, choices)
        if found is None:
            return JUDGE
    return {"extraction": found, "score": int(mathvista.normalize(found, fields, choices) == gold)}


def of_categories(case, scorer):
    said = {
        "official": yes_or_no,
        "internvl": lambda text: yes_or_no(mme.internvl_answer(text)),
        "vlmevalkit": words.yes_no,
        "lmms_eval": mme.harness_yes_no,
    }[scorer]
    pairs = {}
    for row in case["rows"]:
        right = said(row["prediction"]) == row["answer"].lower()
        pairs.setdefault(row["category"], {}).setdefault(row["image"], []).append(right)
    scores = mme.category_scores(pairs)
    totals = [sum(scores.get(name, 0) for name in names) for names in (mme.PERCEPTION, mme.COGNITION)]
    titles = {"vlmevalkit": ("perception", "reasoning"), "lmms_eval": ("mme_perception_score", "mme_cognition_score")}
    named = dict(zip(titles.get(scorer, ("total Perception", "total Cognition")), totals, strict=True))
    return named if scorer == "lmms_eval" else {**named, **scores}


def of_groups(case, scorer):
    found = dict.fromkeys((*GROUPS, "Final Score"), 0)
    for row in case["rows"]:
        formula = row["metadata"]["dataset_name"] == "HME100k"
        hit = int(row["prediction"] is not None and contains(row["prediction"], row["references"], formula=formula))
        found[group_of(row["metadata"]["type"])] += hit
        found["Final Score"] += hit
    return found


def of_halves(case, scorer):
    if scorer == "lmms_eval":
        return NOT_CLAIMED
    scores = {"human": [], "augmented": []}
    for row in case["rows"]:
        if scorer.startswith("vlmevalkit") and any(text.startswith("[") for text in row["references"]):
            return NOT_CLAIMED
        swapped = scorer in ("internvl", "vlmevalkit_2024")
        scores[row["split"]].append(relaxed_accuracy(row["prediction"], row["references"], of_answer=swapped))
    means = {half: sum(each) / len(each) for half, each in scores.items()}
    both = [score for each in scores.values() for score in each]
    last = {"mean": sum(means.values()) / 2} if scorer == "internvl" else {"overall": sum(both) / len(both)}
    return means | last


CHECKS = {
    "normalization": of_normalization,
    "safe_equal": of_equality,
    "extraction_score": of_extraction_score,
    "rule_score": of_rule_score,
    "perception_cognition": of_categories,
    "group_sums": of_groups,
    "human_augmented_mean": of_halves,
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
    assert wrong == []
