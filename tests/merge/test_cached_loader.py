"""Batches that are read again and again are decoded once."""

import pytest

from fcot.merge import CachedLoader


class Loader:
    """Gives three batches of 100 bytes, and counts its passes."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return iter([b"a" * 100, b"b" * 100, b"c" * 100])


@pytest.mark.parametrize(("most", "passes"), [(300, 1), (299, 3)])
def test_batches_are_decoded_once_if_they_fit_in_memory(most, passes):
    loader = Loader()
    batches = CachedLoader(loader, len, most)
    first, second, third = (list(batches) for _ in range(3))
    assert first == second == third == list(Loader())
    assert loader.passes == passes


def test_a_pass_that_is_left_early_keeps_nothing():
    batches = CachedLoader(Loader(), len)
    assert next(iter(batches)) == b"a" * 100
    assert list(batches) == list(Loader())
