"""What each reducer before the language model leaves of an image that a test can see through."""

import math
from dataclasses import replace

import pytest
import torch

from fcot.errors import UserError
from fcot.internvl.tiling import grid, num_tiles
from fcot.reduce import REDUCERS, Attention, BeforeReducer, Seen, fewer_tiles
from fcot.reduce.hired import block_credits
from fcot.reduce.vispruner import vispruner

SIDE = 8  # patches along a side of a tile
METHODS = [name for name, member in REDUCERS.items() if issubclass(member, BeforeReducer)]


def attended(probabilities):
    """Attention of one head whose CLS row has given probabilities of the patches `[T, P]`."""
    tiles, patches = probabilities.shape
    wanted = torch.cat([torch.full((tiles, 1), 1e-3), probabilities], 1)
    queries = torch.zeros(tiles, 1 + patches, 1 + patches)
    queries[:, 0] = wanted.log() * math.sqrt(1 + patches)
    return Attention(queries, torch.eye(1 + patches).expand(tiles, -1, -1), heads=1)


def image(tiles, *, last=None, first=None, **given):
    torch.manual_seed(tiles)
    noise = torch.rand(tiles, SIDE * SIDE) + 0.1
    return Seen(
        features=torch.randn(tiles, SIDE * SIDE // 4, 6),
        project=torch.nn.Linear(6, 5),
        last=attended(noise if last is None else last),
        behind=attended(noise if last is None else last),
        first=attended(noise if first is None else first),
        grid=(1, tiles - 1),
        **given,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tiles", [1, 3])
def test_rows_have_places_of_their_own_and_are_counted_by_tile(method, tiles):
    seen = image(tiles)
    kept = REDUCERS[method](keep=0.5).reduce(seen)
    assert kept.rows.shape == (len(kept.places), 6)
    assert len(set(kept.places.tolist())) == len(kept.places)
    assert kept.counts.tolist() == [((kept.places // 16) == tile).sum() for tile in range(tiles)]
    ordered = kept.by_place()
    assert ordered.places.tolist() == sorted(kept.places.tolist())
    at = {int(place): row for place, row in zip(kept.places, kept.rows, strict=True)}
    assert all(torch.equal(at[int(place)], row) for place, row in zip(ordered.places, ordered.rows, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_least_share_leaves_something(method):
    kept = REDUCERS[method](**{"keep": 0.25 if method == "pool" else 1e-6}).reduce(image(3))
    assert len(kept.places) >= 1


@pytest.mark.parametrize("method", METHODS)
def test_rows_keep_the_precision_of_the_features(method):
    seen = image(2)
    seen = replace(seen, features=seen.features.bfloat16(), project=seen.project.bfloat16())
    assert REDUCERS[method](keep=0.5).reduce(seen).rows.dtype == torch.bfloat16


def test_visionzip_splits_a_tile_as_the_paper_does():
    reducer = REDUCERS["visionzip"](keep=0.25)
    seen = image(1)
    seen = Seen(torch.randn(1, 256, 4), seen.project, attended(torch.rand(1, 1024) + 0.1))
    kept = reducer.reduce(seen)
    assert (kept.places.diff() < 0).nonzero().tolist() == [[53]]  # 54 dominant ones in order, then 10 contextual
    assert torch.equal(kept.rows[:54], seen.features[0, kept.places[:54]])
    assert len(kept.rows) == 64


def test_visionzip_can_take_means_which_have_the_size_of_features():
    seen = image(1)
    ones = Seen(torch.ones(1, 16, 6), seen.project, seen.last)
    sums, means = (REDUCERS["visionzip"](keep=0.5, merge=merge).reduce(ones).rows for merge in ("sum", "mean"))
    assert sums.max() == 2
    assert torch.equal(means, torch.ones(8, 6))


@pytest.mark.parametrize("method", ["prumerge", "prumerge_plus"])
def test_the_token_for_the_rest_stands_at_the_last_place_that_is_free(method):
    kept = REDUCERS[method](keep=0.5).reduce(image(1))
    assert len(kept.places) == 8
    free = set(range(16)) - set(kept.places[:-1].tolist())
    assert kept.places[-1] == max(free)


def test_prumerge_keeps_the_outliers_alone_unless_told_a_share():
    attention = torch.full((1, SIDE * SIDE), 0.01)
    attention += torch.arange(SIDE * SIDE) * 1e-6
    attention[0, [0, 27]] = 0.2  # patch 27 is in row 3, column 3: token 5
    kept = REDUCERS["prumerge"]().reduce(image(1, last=attention))
    assert kept.places.tolist() == [0, 5, 15]


def test_prumerge_plus_adds_samples_at_even_distances():
    attention = torch.full((1, SIDE * SIDE), 0.01)
    attention += torch.arange(SIDE * SIDE) * 1e-6
    attention[0, 27] = 0.4
    kept = REDUCERS["prumerge_plus"]().reduce(image(1, last=attention))
    assert kept.places.tolist() == [0, 5, 10, 15]  # 16 tokens, one outlier: steps of 16 / 1 / 3


def test_hired_gives_the_tile_that_the_thumbnail_points_at_its_budget():
    pointed = torch.full((5, SIDE * SIDE), 0.01)
    raster = pointed[4].view(SIDE, SIDE)
    raster[:4, 4:] = 0.2  # the upper right quarter: with alpha at three quarters, all of the important patches
    seen = image(5, first=pointed)
    seen = replace(seen, grid=(2, 2))
    kept = REDUCERS["hired"](keep=0.2, alpha=0.75).reduce(seen)
    assert kept.counts.tolist() == [0, 4, 0, 0, 12]
    one_row = replace(seen, grid=(1, 4))
    assert REDUCERS["hired"](keep=0.2, alpha=0.75).reduce(one_row).counts.tolist() == [0, 0, 2, 2, 12]


def test_hired_finds_the_tile_that_a_patch_of_the_thumbnail_shows_between_padding():
    raster = torch.zeros(4, 12, dtype=torch.bool)
    raster[:, 2:10] = True  # of 12 columns of tokens, two on either side are padding
    shown = raster.view(4, 3, 4).transpose(0, 1).flatten(1)
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[:, [1, 2, 5, 6, 7]] = True  # a column of the thumbnail is one of tokens
    assert block_credits(mask.flatten(), 1, 3, shown) == [SIDE, 2 * SIDE, 2 * SIDE]
    assert block_credits(mask.flatten(), 1, 3) == [2 * SIDE, SIDE, 2 * SIDE]


def test_pool_leaves_padding_out_of_its_means():
    seen = image(1)
    counted = torch.ones(1, 4, 4, dtype=torch.bool)
    counted[:, 0] = counted[:, :, 0] = False
    kept = REDUCERS["pool"](keep=0.25).reduce(replace(seen, counted=counted.view(1, 16)))
    assert kept.places.tolist() == [5, 6, 9, 10]
    wanted = [[5], [6, 7], [9, 13], [10, 11, 14, 15]]
    torch.testing.assert_close(kept.rows, torch.stack([seen.features[0, each].mean(0) for each in wanted]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scope", ["per_tile", "per_image"])
def test_padding_is_never_kept_and_has_no_share(method, scope):
    counted = torch.ones(3, 16, dtype=torch.bool)
    counted[1, :8] = counted[2] = False
    given = {} if method in ("hired", "pool", "random") else {"scope": scope}
    kept = REDUCERS[method](keep=0.5, **given).reduce(replace(image(3), counted=counted, thumbnail=0))
    assert counted.flatten()[kept.places].all()
    assert len(kept.places) == 12
    assert kept.counts[2] == 0


def test_tome_merges_pairs_of_alike_tokens_into_their_mean():
    keys = torch.zeros(1, 1 + SIDE * SIDE, 16)
    for token in range(16):
        row, column = divmod(token, 4)
        patches = [(2 * row + y) * SIDE + 2 * column + x for y in (0, 1) for x in (0, 1)]
        keys[0, [1 + patch for patch in patches], token // 2] = 1.0  # tokens 2i and 2i + 1 are alike
    seen = image(1)
    seen = Seen(seen.features, seen.project, Attention(torch.zeros_like(keys), keys, heads=1))
    kept = REDUCERS["tome"](keep=0.5).reduce(seen)
    assert kept.places.tolist() == list(range(1, 16, 2))
    torch.testing.assert_close(kept.rows, seen.features[0].view(8, 2, 6).mean(1))
    assert REDUCERS["tome"](keep=0.25).reduce(seen).places.tolist() == [3, 7, 11, 15]


def test_vispruner_looks_again_before_it_drops_more_than_half_of_what_is_left():
    features = torch.eye(5)[[0, 1, 2, 1, 4]]  # tokens 1 and 3 are twins
    assert vispruner(features, torch.arange(5, 0, -1.0), important=0, diverse=2).tolist() == [1, 4]


def test_received_attention_of_more_queries_than_are_looked_at_together_is_that_of_the_map():
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 2, 577, 8)
    per_head = (each.view(2, 577, 2, 4).transpose(1, 2) for each in (queries, keys))
    maps = (next(per_head) @ next(per_head).transpose(2, 3) / 2).softmax(-1)
    torch.testing.assert_close(Attention(queries, keys, heads=2).received(), maps.mean((1, 2))[:, 1:])


def test_random_differs_between_seeds_samples_and_images_but_not_between_batches():
    def places(seed=0, **given):
        return REDUCERS["random"](keep=0.5, seed=seed).reduce(image(2, **given)).places.tolist()

    assert places(key="a") == places(key="a")
    assert len({tuple(each) for each in (places(key="a"), places(key="b"), places(1, key="a"))}) == 3
    assert places(key="a") != places(key="a", image=1)
    first, second = places()[:8], [place - 16 for place in places()[8:]]
    assert first != second


@pytest.mark.parametrize(("keep", "window"), [(0.5, [0, 1]), (0.25, [0, 1, 4, 5])])
def test_pool_takes_means_over_neighbours_before_or_after_the_projector(keep, window):
    seen = image(2)
    before, after = (REDUCERS["pool"](keep=keep, placement=place).reduce(seen) for place in ("before", "after"))
    torch.testing.assert_close(before.rows[0], seen.features[0, window].mean(0))
    torch.testing.assert_close(after.rows[0], seen.project(seen.features)[0, window].mean(0))
    assert (before.projected, after.projected) == (False, True)
    assert before.places[len(before.places) // 2] == 16


@pytest.mark.parametrize("keep", [0.5, 0.25])
@pytest.mark.parametrize(("width", "height"), [(800, 1100), (1000, 1000), (2400, 400), (300, 200)])
def test_fewer_tiles_is_the_largest_limit_within_the_share(keep, width, height):
    def tiles(limit):
        return num_tiles(*grid(width, height, limit))

    limit = fewer_tiles(width, height, 12, keep)
    assert tiles(limit) <= max(1, keep * tiles(12))
    assert all(tiles(more) > keep * tiles(12) for more in range(limit + 1, 13))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        *((method, {"keep": keep}, f"keep is {keep}") for method in METHODS for keep in (0, 1.5, -0.5)),
        ("visionzip", {"keep": 0.5, "score": "attention"}, "score is 'attention'. Use 'cls' or 'received'"),
        ("visionzip", {"keep": 0.5, "scope": "page"}, "scope is 'page'"),
        ("visionzip", {"keep": 0.5, "positions": "kept"}, "positions is 'kept'"),
        ("visionzip", {"keep": 0.5, "merge": "max"}, "merge is 'max'"),
        ("visionzip", {"keep": 0.5, "contextual": 2}, "contextual is 2"),
        ("vispruner", {"keep": 0.5, "important": 1.1}, "important is 1.1"),
        ("hired", {"keep": 0.5, "alpha": 2}, "alpha is 2"),
        ("pool", {"keep": 0.3}, "keep is 0.3"),
        ("pool", {"keep": 0.5, "placement": "inside"}, "placement is 'inside'"),
        ("prumerge", {"neighbours": -1}, "neighbours is -1"),
    ],
)
def test_an_option_out_of_range_is_refused(method, options, message):
    with pytest.raises(UserError, match=message):
        REDUCERS[method](**options)
