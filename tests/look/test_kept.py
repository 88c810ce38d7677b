"""The newest things are kept, within limits."""

import pytest

from fcot.look.kept import Kept
from fcot.serve.refusal import RefusalError


def test_what_was_used_longest_ago_is_dropped_first():
    kept = Kept("page", 2, 1000)
    first, second = kept.add("a", 1), kept.add("b", 1)
    assert kept.get(first) == "a"
    third = kept.add("c", 1)
    assert kept.get(first) == "a" and kept.get(third) == "c"
    with pytest.raises(RefusalError, match="no such page"):
        kept.get(second)


def test_bytes_of_all_together_are_bounded_and_the_newest_stays():
    kept = Kept("page", 100, 1000)
    kept.add("a", 600)
    kept.add("b", 300)
    kept.add("c", 500)
    assert len(kept) == 2 and kept.num_bytes == 800
    assert kept.get(kept.add("huge", 5000)) == "huge" and len(kept) == 1


def test_a_name_cannot_be_guessed():
    kept = Kept("page", 9, 1000)
    names = {kept.add("a", 1) for _ in range(5)}
    assert len(names) == 5 and min(map(len, names)) > 20
