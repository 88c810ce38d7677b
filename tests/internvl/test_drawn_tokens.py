"""Numbers of visual tokens are drawn from a seed alone, as often as their shares say."""

import torch

from fcot.internvl.drawn_tokens import DrawnTokens

SHARES = {256: 0.25, 128: 0.375, 64: 0.375}


def tiles(number):
    return torch.zeros(number, 3, 2, 2, dtype=torch.uint8)


def test_each_number_is_drawn_as_often_as_its_share_says():
    draws = DrawnTokens(SHARES, by_tile=True, otherwise=128)
    found = torch.cat([draws.drawn(tiles(10), [3, page]) for page in range(200)])
    for count, share in SHARES.items():
        assert abs((found == count).double().mean() - share) < 0.04


def test_the_tiles_of_a_page_are_alike_or_drawn_apart():
    alike, apart = (
        [set(DrawnTokens(SHARES, by_tile=by_tile, otherwise=128).drawn(tiles(7), [page]).tolist()) for page in range(9)]
        for by_tile in (False, True)
    )
    assert all(len(page) == 1 for page in alike) and len(set.union(*alike)) > 1
    assert any(len(page) > 1 for page in apart)


def test_text_alone_has_none_and_nothing_is_drawn_in_evaluation():
    for by_tile in (False, True):
        draws = DrawnTokens(SHARES, by_tile=by_tile, otherwise=128)
        assert draws.drawn(tiles(0), [1]).tolist() == []
        assert draws(tiles(2)).tolist() == [128, 128]
