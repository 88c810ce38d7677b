"""Long texts of OCRBench v2."""

import sys

import pytest

from fcot.errors import UserError
from fcot.evaluation.ocrbench_v2 import long_text as subject
from fcot.evaluation.ocrbench_v2 import score


def english(prediction, answer):
    return score("full-page OCR en", "", prediction, [answer]).score


@pytest.mark.parametrize(("words", "bleu"), [(1, 0), (3, 0), (4, 1), (7, 1)])
def test_a_perfect_text_has_no_full_score_and_no_bleu_below_four_words(words, bleu):
    text = " ".join(["gate", "of", "the", "old", "mill", "was", "open"][:words])
    assert english(text, text) == pytest.approx((bleu + 1 - 0.5 / words**3 + 2) / 4)


def test_stems_and_synonyms_match_in_meteor_alone():
    # no word in common: METEOR is all that is left beside the distance of characters
    assert english("cats", "cat") == pytest.approx((0.5 + 1 - 1 / 4) / 4)
    assert english("car", "auto") == pytest.approx((0.5 + 1 - 4 / 4) / 4)
    assert english("car", "tree") == 0


def test_one_chinese_character_makes_words_chinese():
    assert english("gate 门", "gate") < english("gate x", "gate")  # the blank is a token
    assert english("12.5Gate one", "12.5Gate one") < english(
        "12.5Gate 一", "12.5Gate 一"
    )  # two tokens, then four or more


@pytest.mark.parametrize("kind", ["fine-grained text recognition en", "full-page OCR en"])
def test_blanks_have_0_for_some_types(kind):
    found = score(kind, "", " ", ["gate"])
    assert (found.score, found.crashed) == (0, "")


@pytest.mark.parametrize("kind", ["full-page OCR cn", "text translation cn"])
def test_blanks_stop_the_official_script_for_others(kind):
    assert score(kind, "", " ", ["gate"]).crashed
    assert not score(kind, "", " ", ["门"]).crashed


def test_a_translation_without_an_answer_is_left_out_of_the_mean():
    assert score("text translation cn", "", "text", [""]).ignored
    assert not score("text translation cn", "", "", [""]).ignored
    assert score("text translation cn", "", "text", []).crashed


def test_pages_of_more_than_2000_characters_are_scored():
    page = "the pump was cleaned and the valve was replaced " * 60
    assert english(page, page) == pytest.approx(1, abs=1e-6)


def test_a_handwritten_essay_is_a_long_text():
    essay = score("handwritten answer extraction cn", "简答题", "门是开的。", ["门是开的。"])
    assert 0.9 < essay.score < 1
    assert score("handwritten answer extraction cn", "简答题", "", ["门"]).crashed == ""
    assert score("handwritten answer extraction cn", "简答题", "", [""]).crashed


def test_a_missing_package_is_named(monkeypatch):
    subject._libraries.cache_clear()
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(UserError, match=r"jieba.*\n.*evaluate"):
        english("gate", "gate")
    subject._libraries.cache_clear()
