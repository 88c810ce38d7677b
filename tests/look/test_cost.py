"""The FLOPs of an answer are those that are counted elsewhere for its first token, and add up over its tokens."""

import pytest

from fcot.bench.answer_flops import TERA, count
from fcot.look.cost import AnswerCost


@pytest.mark.parametrize(("name", "ratio", "tokens"), [("teacher", 1, 16), ("1x2 kept", 2, 8)])
def test_the_first_token_costs_what_bench_infer_counts(reader_folder, name, ratio, tokens):
    tiles, text = 3, 20
    flops = AnswerCost(reader_folder(name))([tokens] * tiles, tiles * tokens + text, 1)
    expected = count(reader_folder("teacher").path, ratio, tiles, text, compressor="conv")
    assert flops.vision / TERA == pytest.approx(expected["parts"]["vit"] + expected["parts"]["projector"])
    assert (flops.prompt + flops.answer) / TERA == pytest.approx(expected["parts"]["prefill"])


def test_further_tokens_cost_what_each_costs_behind_its_prompt(reader_folder):
    cost = AnswerCost(reader_folder("student"))
    each = [cost([8, 8], 30 + before, 1).answer for before in range(3)]
    assert cost([8, 8], 30, 3).answer == pytest.approx(sum(each)) and each[0] < each[1]


def test_tiles_of_an_elastic_student_may_differ(reader_folder):
    cost = AnswerCost(reader_folder("elastic"))
    few, mixed, most = (cost(counts, sum(counts) + 20, 1).prompt for counts in ([4, 4], [8, 4], [8, 8]))
    assert few < mixed < most
