"""What is asked, as each harness asks it; `FCOT_CASES` names a folder of other cases."""

import json
import os
from pathlib import Path

import pytest

from fcot.errors import UserError
from fcot.evaluation.benchmarks import BENCHMARKS
from fcot.evaluation.benchmarks.options import lettered
from fcot.evaluation.rows import Row
from fcot.internvl.prompts import IMAGE

CASES = Path(os.environ.get("FCOT_CASES") or Path(__file__).parent / "cases")
PROTOCOLS = {"internvl": "internvl2", "vlmevalkit": "vlmevalkit", "lmms_eval": "lmms_eval"}

# (tiles, new tokens) of InternVL2's published scores
BUDGETS = {
    "docvqa": (18, 100), "infovqa": (24, 100), "chartqa": (12, 100), "textvqa": (6, 10), "ocrbench": (24, 1024),
    "ai2d": (6, 10), "mathvista": (6, 1024), "scienceqa": (6, 100), "mme": (6, 20),
}  # fmt: skip


def test_prompts_are_those_of_each_harness_character_for_character():
    compared = 0
    for case in json.loads((CASES / "prompts.json").read_text(encoding="utf-8")):
        row, kind = case["row"], BENCHMARKS[case["benchmark"]]()
        fields = {"hint": row["hint"]} if "hint" in row else {}
        asked = Row("0", (), row.get("question", row.get("query")), (), lettered(row.get("choices", ())), fields=fields)
        for harness, expected in case["expected"].items():
            images = "" if harness == "lmms_eval" else f"{IMAGE}\n"
            assert images + kind.prompt(asked, PROTOCOLS[harness]) == expected, (case["id"], harness)
            compared += 1
    print(f"prompts.json: {compared} of {compared} equal")


def test_tiles_and_lengths_are_those_of_published_scores():
    found = {name: (BENCHMARKS[name].max_tiles, BENCHMARKS[name].max_new_tokens) for name in BUDGETS}
    assert found == BUDGETS


def test_a_protocol_without_a_prompt_is_refused():
    with pytest.raises(UserError, match="no prompt of its own for MathVista"):
        BENCHMARKS["mathvista"]().prompt(Row("0", (), "?", ()), "lmms_eval")
