import gc

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fcot.compress import COMPRESSORS, Compressor, Pool, make_compressor
from fcot.compress.features import Features
from fcot.compress.unshuffle import deviation_of
from fcot.compress.windows import window
from fcot.errors import UserError

SIDE, WIDTH, LANGUAGE = 4, 16, 12
DIVISORS = (1, 2, 4, 8, 16)
KINDS = sorted(COMPRESSORS)
REAL = [name for name in KINDS if name != "identity"]


def tiles(count=3):
    return torch.randn(count, SIDE * SIDE, WIDTH, generator=torch.Generator().manual_seed(0))


def given(compressor, tokens):
    """What a compressor reads."""
    if not compressor.reads_text:
        return tokens
    words = torch.randn(len(tokens), 5, LANGUAGE, generator=torch.Generator().manual_seed(1))
    return Features(tokens, text=words, text_mask=torch.ones(words.shape[:2], dtype=torch.bool))


def moved(compressor):
    """The same with every weight moved: a branch that starts at zero hides what lies before it."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in compressor.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw)
    return compressor


def make(name, ratio, **options):
    """A compressor, or None where it refuses a ratio that it may refuse."""
    try:
        return make_compressor(
            name, ratio=ratio, side=SIDE, width=WIDTH, language_width=LANGUAGE, options=options
        ).eval()
    except ValueError:
        assert name == "identity" or ratio not in (1, 2, 4), f"{name} refuses ratio {ratio}"
        return None


@pytest.mark.parametrize("ratio", DIVISORS)
@pytest.mark.parametrize("name", KINDS)
def test_every_ratio_gives_that_many_fewer_tokens(name, ratio):
    compressor = make(name, ratio)
    if compressor is not None:
        width = LANGUAGE if compressor.places == ("instead",) else WIDTH
        assert compressor.ratio == ratio
        assert compressor.max_tokens == compressor.count(ratio) == SIDE * SIDE // ratio
        for count in (3, 0):
            found = compressor(given(compressor, tiles()[:count]))
            assert found.shape == (count, SIDE * SIDE // ratio, width)


@pytest.mark.parametrize("name", KINDS)
def test_a_tile_is_compressed_alone(name):
    compressor = moved(make(name, 1 if name == "identity" else 2))
    batch = given(compressor, tiles())
    alone = tiles()[1:2]
    if compressor.reads_text:
        alone = Features(alone, text=batch.text[1:2], text_mask=batch.text_mask[1:2])
    torch.testing.assert_close(compressor(batch)[1:2], compressor(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", REAL)
def test_gradients_reach_every_parameter_and_every_token(name):
    compressor, tokens = moved(make(name, 2)), tiles().requires_grad_()
    compressor(given(compressor, tokens)).square().sum().backward()
    assert tokens.grad.abs().sum(-1).min() > 0
    for parameter, tensor in compressor.named_parameters():
        # an attention's key bias moves all scores of a query alike: its half of key_value has no effect
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", REAL)
def test_reset_gives_back_the_start(name):
    compressor = make(name, 2)
    torch.manual_seed(0)
    compressor.reset_parameters()
    start = {key: tensor.clone() for key, tensor in compressor.state_dict().items()}
    for tensor in compressor.parameters():
        torch.nn.init.constant_(tensor, 7.0)
    torch.manual_seed(0)
    compressor.reset_parameters()
    for key, tensor in compressor.state_dict().items():
        torch.testing.assert_close(tensor, start[key])


@pytest.mark.parametrize("ratio", DIVISORS)
def test_pool_and_conv_start_as_the_mean_of_neighbours_in_raster_order(ratio):
    expected = torch.stack([group.mean(1) for group in tiles().split(ratio, dim=1)], dim=1)
    torch.testing.assert_close(make("pool", ratio)(tiles()), expected)
    torch.testing.assert_close(make("conv", ratio)(tiles()), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ratio", [2, 4])
def test_conv_is_pytorchs_convolution(ratio):
    compressor = make("conv", ratio)
    torch.nn.init.normal_(compressor.conv.weight)
    torch.nn.init.normal_(compressor.conv.bias)
    expected = compressor.conv(tiles().transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(compressor(tiles()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("ratio", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (4, 2, 2), (8, 2, 4), (16, 4, 4)])
def test_conv2d_starts_as_the_mean_of_a_compact_window(ratio, rows, columns):
    raster = tiles().view(3, SIDE, SIDE, WIDTH)
    expected = torch.stack(
        [
            raster[:, top : top + rows, left : left + columns].mean((1, 2))
            for top in range(0, SIDE, rows)
            for left in range(0, SIDE, columns)
        ],
        dim=1,
    )
    torch.testing.assert_close(make("conv2d", ratio)(tiles()), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("side", [3, 6, 12, 16])
def test_conv2d_has_a_window_for_every_divisor_of_the_raster(side):
    for ratio in range(1, side * side + 1):
        if side * side % ratio == 0:
            rows, columns = window(ratio, side)
            assert rows * columns == ratio
            assert side % rows == side % columns == 0


def test_identity_returns_the_tokens_and_has_ratio_1_only():
    batch = tiles()
    assert torch.equal(make_compressor("identity", ratio=1, side=SIDE, width=WIDTH)(batch), batch)
    with pytest.raises(ValueError, match=r"cannot have ratio 2\. Use 1"):
        make_compressor("identity", ratio=2, side=SIDE, width=WIDTH)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"no compressor 'qforner'\. Did you mean 'qformer'\?"):
        make_compressor("qforner", ratio=2, side=SIDE, width=WIDTH)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("ratio", [0, 3, -2])
def test_a_ratio_that_does_not_divide_the_raster_is_refused(name, ratio):
    with pytest.raises(ValueError, match=f"Ratio {ratio} does not divide the 16 tokens"):
        make_compressor(name, ratio=ratio, side=SIDE, width=WIDTH, language_width=LANGUAGE)


@pytest.mark.parametrize("name", REAL)
def test_it_runs_without_values_as_where_memory_is_estimated(name):
    with FakeTensorMode():
        compressor = make(name, 2)
        tokens = torch.empty(3, SIDE * SIDE, WIDTH)
        text = Features(tokens, text=torch.empty(3, 5, LANGUAGE), text_mask=torch.ones(3, 5, dtype=torch.bool))
        assert compressor(text if compressor.reads_text else tokens).shape[:2] == (3, SIDE * SIDE // 2)


STARTS_AS_POOL = [name for name in REAL if name not in ("qformer", "unshuffle")]


@pytest.mark.parametrize("ratio", [2, 4])
@pytest.mark.parametrize("name", STARTS_AS_POOL)
def test_it_starts_as_the_mean_of_its_windows_and_can_leave_that(name, ratio):
    compressor, tokens = make(name, ratio), tiles()
    groups = type(compressor).windows(ratio, SIDE)
    groups = torch.arange(SIDE * SIDE) // ratio if groups is None else torch.as_tensor(groups).flatten()
    expected = torch.stack([tokens[:, groups == group].mean(1) for group in range(SIDE * SIDE // ratio)], dim=1)
    found = compressor(given(compressor, tokens))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if found.requires_grad:
        found.square().sum().backward()
        assert any(parameter.grad.abs().sum() > 0 for parameter in compressor.parameters()), "nothing learns"


class Projector(torch.nn.Module):
    """A teacher's projector."""

    def __init__(self):
        super().__init__()
        self.layer_norm = torch.nn.LayerNorm(WIDTH)
        self.linear_1, self.linear_2 = torch.nn.Linear(WIDTH, LANGUAGE), torch.nn.Linear(LANGUAGE, LANGUAGE)
        moved(self)

    def forward(self, tokens):
        return self.linear_2(torch.nn.functional.gelu(self.linear_1(self.layer_norm(tokens))))


@pytest.mark.parametrize("ratio", [2, 4])
def test_unshuffle_starts_as_the_projector_on_pooled_tokens_up_to_the_size_of_a_window(ratio):
    teacher, compressor = Projector(), make("unshuffle", ratio, deviation=1.0)
    compressor.start_from(teacher)
    # windows whose tokens are equal have the deviation of their mean
    alike = make("m3_pool", ratio)(tiles())
    groups = torch.as_tensor(type(compressor).windows(ratio, SIDE)).flatten()
    torch.testing.assert_close(compressor(alike[:, groups]), teacher(alike), rtol=1e-4, atol=1e-5)
    # others differ by a factor, the mean of which the start takes out
    tokens = 0.3 * tiles() + alike[:, groups]
    factor = deviation_of(tokens, compressor)
    assert 0.5 < factor < 1
    corrected = make("unshuffle", ratio, deviation=factor)
    corrected.start_from(teacher)
    expected = teacher(make("m3_pool", ratio)(tokens))
    off = [(each(tokens) - expected).square().mean() for each in (corrected, compressor)]
    assert off[0] < 0.7 * off[1]
    assert all(parameter.abs().sum() > 0 for parameter in compressor.mlp[1].parameters())


def test_texts_padding_changes_nothing_and_another_question_does():
    compressor, tokens = moved(make("llama_vid", 2)), tiles()
    features = given(compressor, tokens)
    expected = compressor(features)
    padded = torch.cat([features.text, torch.full((3, 2, LANGUAGE), 9.0)], dim=1)
    mask = torch.cat([features.text_mask, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(compressor(Features(tokens, text=padded, text_mask=mask)), expected)
    other = compressor(Features(tokens, text=-features.text, text_mask=features.text_mask))
    assert not torch.allclose(other, expected, atol=1e-3)
    with pytest.raises(UserError, match="reads the question, and none is given"):
        compressor(tokens)


def test_a_context_token_stands_in_front_of_the_others():
    compressor, tokens = make("llama_vid", 2, context="token"), tiles()
    found = compressor(given(compressor, tokens))
    assert found.shape[1] == compressor.count(2) == compressor.max_tokens == SIDE * SIDE // 2 + 1
    torch.testing.assert_close(found[:, 1:], make("m3_pool", 2)(tokens))
    with pytest.raises(UserError, match=r"context is 'words'\. Use 'residual' or 'token'"):
        make_compressor("llama_vid", ratio=2, side=4, width=8, language_width=8, options={"context": "words"})


@pytest.mark.parametrize(("name", "levels"), [("token_packer", [1, 3]), ("texthawk2", [4, 3, 2, 1])])
def test_levels_of_the_tower_are_read(name, levels):
    compressor, tokens = moved(make(name, 2, levels=levels)), tiles()
    assert compressor.levels == tuple(levels) and compressor.reads_features
    read = {level: torch.randn(3, SIDE * SIDE, WIDTH) for level in levels}
    expected = compressor(Features(tokens, read))
    for level in levels:
        changed = {**read, level: -read[level]}
        assert not torch.allclose(compressor(Features(tokens, changed)), expected, atol=1e-4), level


def test_a_cascade_wants_a_level_for_each_of_its_layers():
    with pytest.raises(UserError, match=r"has 4 layers and 2 levels \(\[1, 2\]\)"):
        make_compressor("texthawk2", ratio=2, side=SIDE, width=WIDTH, options={"levels": [1, 2]})


def test_a_subclass_is_registered_under_its_snake_case_name():
    class HalfPool2d(Pool):
        """A compressor of a user's own."""

    assert COMPRESSORS["half_pool2d"] is HalfPool2d
    assert isinstance(make_compressor("half_pool2d", ratio=2, side=SIDE, width=WIDTH), Compressor)
    del HalfPool2d
    gc.collect()  # forget it, so that no other test meets it
    assert "half_pool2d" not in COMPRESSORS
