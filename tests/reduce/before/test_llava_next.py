"""The same reducers on LLaVA-NeXT, which stitches tiles into a page, removes its padding and ends rows by newlines."""

import pytest
import torch
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from fcot.errors import UserError
from fcot.reduce import REDUCERS, BeforeReducer, Random, shorten

METHODS = [name for name, member in REDUCERS.items() if issubclass(member, BeforeReducer)]
KEEPS_ALL = ("divprune", "random", "pool", "tome", "visionzip", "vispruner")  # with keep = 1
IMAGE, TOKENS = 1, 16


@pytest.fixture(scope="module")
def next_family(family):
    return family("llava-next")


def read(model, pixels):
    """Features of each image, as the tower alone shows them `[tiles, tokens, width]`."""
    grids = model.config.image_grid_pinpoints
    numbers = [image_size_to_num_patches(size.tolist(), grids, 56) for size in pixels["image_sizes"]]
    tiles = torch.cat([each[:number] for each, number in zip(pixels["pixel_values"], numbers, strict=True)])
    return model.model.vision_tower(tiles, output_hidden_states=True).hidden_states[-2][:, 1:].split(numbers)


def rows_of(given):
    """The rows that a model reads `[tokens, width]`."""
    return torch.cat(list(given["mm_encoder_outputs"]["image"].pooler_output))


@pytest.mark.parametrize("positions", ["renumbered", "original"])
@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_rows_of_a_batch_are_read_as_alone(next_family, greedy, method, positions):
    model, prompt = next_family.model, next_family.prompt()
    reducer, keys = REDUCERS[method](keep=0.5, positions=positions), list("abcde")
    short = shorten(model, prompt.all(), reducer, keys=keys)
    together, tokens = greedy(model, short)
    before = (prompt.ids == IMAGE).sum(1)
    assert ((short["input_ids"] == IMAGE).sum(1)[before > 0] < before[before > 0]).all()
    for i, key in enumerate(keys):
        alone, said = greedy(model, shorten(model, prompt.one(i), reducer, keys=[key]))
        assert tokens[i].equal(said[0])
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["renumbered", "original"])
@pytest.mark.parametrize("method", KEEPS_ALL)
@torch.no_grad()
def test_what_keeps_all_is_the_plain_model_to_the_bit(next_family, greedy, method, positions):
    model, prompt = next_family.model, next_family.prompt()
    expected, _ = greedy(model, prompt.all())
    short = shorten(model, prompt.all(), REDUCERS[method](keep=1.0, positions=positions))
    assert short["input_ids"].equal(prompt.ids)
    assert greedy(model, short)[0].equal(expected)


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_a_share_is_one_of_the_tokens_that_are_read(next_family, method):
    model, prompt = next_family.model, next_family.prompt()
    plain = [model.model.get_image_features(**each).pooler_output if each else [] for each in prompt.pixels]
    newline = model.model.image_newline
    real = torch.tensor([sum(int((rows != newline).any(1).sum()) for rows in row) for row in plain])
    assert real[2] < 5 * TOKENS + 3 * TOKENS  # padding is removed from one of its images
    short = shorten(model, prompt.all(), REDUCERS[method](keep=0.5))
    left = (short["input_ids"] == IMAGE).sum(1)
    slack = {"pool": 8, "hired": real.max()}.get(method, 5)  # rounded in each tile; HiRED only stays below
    assert ((left - real / 2).abs() <= slack).all()
    assert method != "hired" or (left <= real / 2).all()
    assert not (rows_of(short) == newline).all(1).any()


@torch.no_grad()
def test_what_is_left_stands_in_the_rows_of_the_page_at_positions_of_its_own(next_family):
    model, prompt = next_family.model, next_family.prompt(rows=((2,),))
    given = prompt.one(0)
    (plain,) = model.model.get_image_features(**prompt.pixels[0]).pooler_output
    short = shorten(model, given, REDUCERS["random"](keep=0.5, positions="original"))
    start = (given["input_ids"][0] == IMAGE).nonzero()[0, 0]
    spots = short["position_ids"][0, short["input_ids"][0] == IMAGE] - start
    assert spots.equal(spots.sort().values)
    torch.testing.assert_close(rows_of(short), plain[spots])
    anew = shorten(model, given, REDUCERS["random"](keep=0.5))
    assert rows_of(anew).equal(rows_of(short))
    assert anew["position_ids"][0].equal(torch.arange(anew["input_ids"].shape[1]))


@torch.no_grad()
def test_a_reducer_sees_the_tiles_with_the_whole_image_first_and_what_padding_is(next_family, monkeypatch):
    seen, reduce = [], Random.reduce
    monkeypatch.setattr(Random, "reduce", lambda reducer, image: seen.append(image) or reduce(reducer, image))
    model, prompt = next_family.model, next_family.prompt(rows=((2, 3),))
    shorten(model, prompt.one(0), Random(keep=0.5))
    for image, features in zip(seen, read(model, prompt.pixels[0]), strict=True):
        torch.testing.assert_close(image.features, features)
        assert image.thumbnail == 0
        assert image.grid[0] * image.grid[1] + 1 == len(features)
        assert image.counted[0].all()
    upright, wide = (image.counted[1:].view(-1, 4, 4) for image in seen)
    # 112x60 in 2x2 tiles: padding left and right; 40x168 in 1x3: above and below
    assert upright.any(1).int().tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]] * 2
    assert wide.any(2).int().tolist() == [[0, 1, 1, 0]] * 3
    assert upright.all(1).equal(upright.any(1))
    assert wide.all(2).equal(wide.any(2))


@torch.no_grad()
def test_beams_of_several_rows_see_their_own_images(next_family):
    model, prompt = next_family.model, next_family.prompt()
    options = {"num_beams": 3, "do_sample": False, "max_new_tokens": 4}
    for keep in (0.5, 1.0):
        reducer = REDUCERS["divprune"](keep=keep)
        together = model.generate(**shorten(model, prompt.all(), reducer), **options)
        for i in range(len(prompt.ids)):
            alone = model.generate(**shorten(model, prompt.one(i), reducer), **options)
            assert together[i, -4:].equal(alone[0, -4:])


def test_sizes_images_and_placeholders_that_do_not_go_together_are_refused(next_family):
    model, prompt = next_family.model, next_family.prompt(rows=((1,), (2,)))
    given, reducer = prompt.all(), REDUCERS["random"](keep=0.5)
    with pytest.raises(UserError, match=r"2 images .* sizes of 1"):
        shorten(model, {**given, "image_sizes": given["image_sizes"][:1]}, reducer)
    with pytest.raises(UserError, match=r"Image 0 of the batch \(112x60\) has"):
        shorten(model, {**given, "image_sizes": given["image_sizes"].flip(0)}, reducer)
    with pytest.raises(UserError, match="image placeholders, and its images have"):
        shorten(model, {**given, **{name: given[name][:1] for name in ("pixel_values", "image_sizes")}}, reducer)
