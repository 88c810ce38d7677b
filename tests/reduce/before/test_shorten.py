"""A batch with fewer visual tokens is read by the plain model as each of its rows alone."""

import pytest
import torch
from transformers import LlamaConfig

from fcot.errors import UserError
from fcot.reduce import REDUCERS, BeforeReducer, Kept, reduced
from fcot.reduce.shorten import find_images, reduce_images, shorten

METHODS = [name for name, member in REDUCERS.items() if issubclass(member, BeforeReducer)]
ADAPTIVE = ("prumerge", "prumerge_plus")
KEEPS_ALL = ("divprune", "random", "pool", "tome", "visionzip", "vispruner")  # with keep = 1


def numbered(inputs):
    mask = inputs["attention_mask"]
    return {**inputs, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits


@pytest.mark.parametrize("positions", ["renumbered", "original"])
@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_rows_of_a_batch_are_read_as_alone(model, batch, method, positions):
    reducer = REDUCERS[method](keep=0.5, positions=positions)
    inputs, grids, keys = batch()
    together = shorten(model, inputs, reducer, grids, keys)
    of_all = logits(model, together)
    tokens = model.generate(**together, max_new_tokens=6, do_sample=False)
    for row in range(len(keys)):
        inputs, grids, keys = batch(row)
        alone = shorten(model, inputs, reducer, grids, keys)
        length = alone["input_ids"].shape[1]
        assert torch.equal(together["input_ids"][row, -length:], alone["input_ids"][0])
        assert torch.equal(together["position_ids"][row, -length:], alone["position_ids"][0])
        torch.testing.assert_close(of_all[row, -length:], logits(model, alone)[0], rtol=0, atol=1e-5)
        answer = model.generate(**alone, max_new_tokens=6, do_sample=False)
        assert torch.equal(tokens[row, -6:], answer[0, -6:])


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_original_positions_are_those_of_the_whole_page_with_the_dropped_tokens_hidden(model, batch, method):
    """The other way: rows are written over the tokens they stand for, and no attention falls on the others."""
    reducer = REDUCERS[method](keep=0.5, positions="original")
    inputs, grids, keys = batch()
    ids, mask = inputs["input_ids"], inputs["attention_mask"].clone()
    spans = find_images(model, ids, mask.bool(), inputs["pixel_values"])
    embeds = model.get_input_embeddings()(ids)
    for span, kept in zip(
        spans, reduce_images(model, inputs["pixel_values"], spans, reducer, grids, keys), strict=True
    ):
        mask[span.row, span.start : span.start + span.tiles * 16] = 0
        mask[span.row, span.start + kept.places] = 1
        embeds[span.row, span.start + kept.places] = model.model.multi_modal_projector(kept.rows)
    positions = numbered(inputs)["position_ids"]
    hidden = logits(model, {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions})
    short = shorten(model, inputs, reducer, grids, keys)
    ours = logits(model, short)
    for row in range(len(keys)):
        torch.testing.assert_close(ours[row, short["attention_mask"][row] == 1], hidden[row, mask[row] == 1])


@pytest.mark.parametrize("positions", ["renumbered", "original"])
@torch.no_grad()
def test_an_answer_goes_on_from_the_last_position_of_the_prompt(model, batch, positions):
    short = shorten(model, batch()[0], REDUCERS["divprune"](keep=0.5, positions=positions))
    said = {"max_new_tokens": 5, "do_sample": False, "suppress_tokens": [model.config.image_token_id]}
    steps = model.generate(**short, **said, return_dict_in_generate=True, output_logits=True)
    answer = steps.sequences[:, -5:]
    behind = short["position_ids"][:, -1:] + torch.arange(1, 6)
    whole = {
        "input_ids": torch.cat([short["input_ids"], answer], 1),
        "attention_mask": torch.cat([short["attention_mask"], torch.ones_like(answer)], 1),
        "position_ids": torch.cat([short["position_ids"], behind], 1),
        "mm_encoder_outputs": short["mm_encoder_outputs"],
    }
    torch.testing.assert_close(torch.stack(steps.logits, 1), logits(model, whole)[:, -6:-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["renumbered", "original"])
@pytest.mark.parametrize("method", KEEPS_ALL)
def test_what_keeps_all_is_the_plain_model_to_the_bit(model, batch, method, positions):
    inputs, grids, keys = batch()
    plain = logits(model, numbered(inputs))
    whole = shorten(model, inputs, REDUCERS[method](keep=1.0, positions=positions), grids, keys)
    assert torch.equal(logits(model, whole), plain)


@pytest.mark.parametrize("keep", [0.5, 0.25])
@pytest.mark.parametrize("method", METHODS)
def test_the_language_model_reads_the_share_asked_for(model, batch, method, keep):
    inputs, grids, keys = batch()
    read = []
    layer = model.model.language_model.layers[0]
    handle = layer.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    short = shorten(model, inputs, REDUCERS[method](keep=keep), grids, keys)
    logits(model, short)
    handle.remove()
    assert read == [short["input_ids"].shape[1]]
    now = (short["input_ids"] == model.config.image_token_id).sum(1)
    before = (inputs["input_ids"] == model.config.image_token_id).sum(1)
    if method == "hired":
        assert (now <= keep * before).all()
        assert (now >= 0.5 * keep * before).all()
    else:
        assert now.tolist() == (keep * before).tolist()
    text = short["attention_mask"].sum(1) - now
    assert torch.equal(text, inputs["attention_mask"].sum(1) - before)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_method_that_adapts_keeps_what_its_outliers_are(model, batch, method):
    short = shorten(model, batch(0, 2)[0], REDUCERS[method]())
    now = (short["input_ids"] == model.config.image_token_id).sum(1)
    before = (batch(0, 2)[0]["input_ids"] == model.config.image_token_id).sum(1)
    assert (now < before).all()
    assert (now >= before // 16 * 2).all()  # of each tile at least one, and the rest merged


@pytest.mark.parametrize("layer", [-1, -2])
@pytest.mark.parametrize("qk_norm", [False, True], ids=["plain", "qk norm"])
@pytest.mark.parametrize("score", ["cls", "received"])
@pytest.mark.parametrize("scope", ["per_tile", "per_image"])
@torch.no_grad()
def test_scores_are_those_of_the_attention_map_of_the_layer_that_made_the_features(
    make_model, batch, score, scope, qk_norm, layer
):
    model = make_model(LlamaConfig, use_qk_norm=qk_norm)
    model.config.vision_feature_layer = layer
    inputs, _, _ = batch(2)
    tower = model.model.vision_tower
    tower.set_attn_implementation("eager")
    maps = tower(inputs["pixel_values"], output_attentions=True).attentions[layer]
    tower.set_attn_implementation("sdpa")
    patches = maps.mean(1)[:, 0, 1:] if score == "cls" else maps.mean((1, 2))[:, 1:]
    tokens = patches.view(-1, 4, 2, 4, 2).sum((2, 4)).flatten(1)
    parts = [tokens[:1], tokens[1:]] if scope == "per_image" else tokens.split(1)
    expected = torch.cat([part.flatten() >= part.flatten().topk(part.numel() // 4).values[-1] for part in parts])
    options = {"important": 1.0, "score": score, "scope": scope, "positions": "original"}
    short = shorten(model, inputs, REDUCERS["vispruner"](keep=0.25, **options))
    spots = (inputs["input_ids"][0] == model.config.image_token_id).nonzero()[:, 0]
    kept = short["position_ids"][0][short["input_ids"][0] == model.config.image_token_id]
    assert kept.tolist() == spots[expected].tolist()
    whole = shorten(model, inputs, REDUCERS["vispruner"](keep=1.0))
    assert torch.equal(logits(model, whole), logits(model, numbered(inputs)))


@torch.no_grad()
def test_padding_on_the_right_changes_nothing(model, batch):
    reducer = REDUCERS["visionzip"](keep=0.5)
    left, right = (shorten(model, batch(padding=side)[0], reducer) for side in ("left", "right"))
    assert torch.equal(left["input_ids"], right["input_ids"])
    assert torch.equal(logits(model, left), logits(model, right))


@torch.no_grad()
def test_beams_of_several_rows_see_their_own_images(model, batch):
    reducer = REDUCERS["divprune"](keep=0.5)
    options = {"num_beams": 3, "do_sample": False, "max_new_tokens": 4}
    together = model.generate(**shorten(model, batch()[0], reducer), **options)
    for row in range(5):
        alone = model.generate(**shorten(model, batch(row)[0], reducer), **options)
        assert torch.equal(together[row, -4:], alone[0, -4:])


def test_placeholders_and_tiles_that_do_not_go_together_are_refused(model, batch):
    reducer = REDUCERS["random"](keep=0.5)
    inputs, _, _ = batch(0, 1)
    with pytest.raises(UserError, match="placeholders for 10 tiles, and 9 tiles"):
        shorten(model, {**inputs, "pixel_values": inputs["pixel_values"][1:]}, reducer)
    inputs["input_ids"][0, (inputs["input_ids"][0] == 90).nonzero()[0]] = 5
    with pytest.raises(UserError, match="47 image placeholders in a row, and a tile has 16"):
        shorten(model, inputs, reducer)


def test_hired_asks_for_the_grid_of_an_image_of_several_tiles(model, batch):
    inputs, _, keys = batch(1)
    with pytest.raises(UserError, match="Image 0 of sample 'several' has 7 tiles"):
        shorten(model, inputs, REDUCERS["hired"](keep=0.5), keys=keys)


@torch.no_grad()
def test_a_new_reducer_is_a_class_and_nothing_else(model, batch):
    class FirstTile(BeforeReducer):
        """Keeps the first tile."""

        def reduce(self, seen):
            tokens = seen.features.shape[1]
            counts = torch.zeros(len(seen.features), dtype=torch.int64)
            counts[0] = tokens
            return Kept(seen.features[0], torch.arange(tokens), counts)

    short = shorten(model, batch(0, 1, 2)[0], REDUCERS["first_tile"](keep=0.5))
    assert (short["input_ids"] == 90).sum(1).tolist() == [16, 16, 32]


@pytest.mark.parametrize("method", ["visionzip", "random"])
@torch.no_grad()
def test_a_plain_generate_is_reduced_for_a_while(model, batch, method):
    inputs, _, _ = batch()
    options = {"max_new_tokens": 5, "do_sample": False}
    plain = model.generate(**inputs, **options)
    with reduced(model, method, keep=0.5):
        found = model.generate(**inputs, **options)
    short = shorten(model, inputs, REDUCERS[method](keep=0.5))
    length = inputs["input_ids"].shape[1]
    assert torch.equal(found[:, :length], inputs["input_ids"])
    assert torch.equal(found[:, length:], model.generate(**short, **options)[:, short["input_ids"].shape[1] :])
    assert torch.equal(model.generate(**inputs, **options), plain)


def test_scores_of_other_prompts_are_refused(model, batch):
    with reduced(model, "random", keep=0.5), pytest.raises(UserError, match="return_dict_in_generate is set"):
        model.generate(**batch()[0], return_dict_in_generate=True)
