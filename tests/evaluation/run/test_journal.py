"""Answers on disk."""

import pytest

from fcot.errors import UserError
from fcot.evaluation.rows import Answer
from fcot.evaluation.run.journal import Journal


def test_answers_of_all_processes_are_read(tmp_path):
    said = [Answer(str(number), f"é\n{number}", 3, 12.5, (4, 5)) for number in range(3)]
    for rank, answer in enumerate(said):
        Journal(tmp_path, {"max_tiles": 6}, rank).append([answer])
    assert Journal(tmp_path, {"max_tiles": 6}).read() == {answer.id: answer for answer in said}


@pytest.mark.parametrize("cut", [2, 5, 30])
def test_a_line_cut_short_is_no_answer_and_harms_none(tmp_path, cut):
    journal = Journal(tmp_path, {})
    journal.append([Answer("a", "one"), Answer("b", "tü")])
    journal.file.write_bytes(journal.file.read_bytes()[:-cut])
    assert set(journal.read()) == {"a"}
    journal.append([Answer("b", "two"), Answer("c", "three")])
    assert {name: answer.text for name, answer in journal.read().items()} == {"a": "one", "b": "two", "c": "three"}


def test_answers_made_with_other_settings_are_not_mixed(tmp_path):
    Journal(tmp_path, {"max_tiles": 6, "protocol": "internvl2"})
    with pytest.raises(UserError, match=r"max_tiles 6, and it is 12 now.\nGive another --output"):
        Journal(tmp_path, {"max_tiles": 12, "protocol": "internvl2"})


def test_half_of_a_surrogate_pair_is_kept(tmp_path):
    Journal(tmp_path, {}).append([Answer("a", "\ud83d")])
    assert Journal(tmp_path, {}).read()["a"].text == "\ud83d"
