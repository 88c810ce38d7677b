"""Synonyms of WordNet."""

import pytest

from fcot.evaluation.ocrbench_v2.words import WordNet


def synonyms(word):
    return {lemma.name() for synset in WordNet().synsets(word) for lemma in synset.lemmas()}


@pytest.mark.parametrize(
    ("word", "some"),
    [
        ("auto", {"car", "automobile", "motorcar", "machine"}),
        ("Mice", {"mouse"}),  # irregular
        ("churches", {"church"}),
        ("bigger", {"large", "big"}),
        ("quickly", {"rapidly", "speedily"}),
    ],
)
def test_a_word_has_the_synonyms_of_its_base_form(word, some):
    assert some <= synonyms(word)


def test_no_synonym_is_of_several_words():
    assert not any("_" in each for each in synonyms("car") | synonyms("dog"))


def test_an_unknown_word_has_none():
    assert synonyms("hous") == set()  # a stem that is no word, as METEOR looks up
