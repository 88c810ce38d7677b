"""A look is the attention of transformers' own model, and lies where the letters stand that an answer writes."""

import numpy as np
import pytest
import torch
from PIL import Image

from fcot.errors import UserError
from fcot.internvl.encoder import expand
from fcot.internvl.pixels import normalize
from fcot.internvl.prompts import IMAGE
from fcot.internvl.tiling import cut
from fcot.look import attention
from fcot.look.look import Looker
from fcot.models.student_folder import load_student
from fcot.models.token_counts import TokenCounts
from shards.render.page import ADVANCE, LINE
from shards.render.text import text_page

QUESTION = "Read the text."


def page_of(columns=16, rows=4):
    return text_page("test", columns, rows, np.random.default_rng(0)).image


def eager(folder, page, question, max_new_tokens):
    """Answer and attention of transformers' model `[layers, heads, length, length]`, and which tokens are visual."""
    model = load_student(folder.path, attn_implementation="eager")
    tiles = cut(page, folder.max_tiles, tile_size=folder.tile_size)
    encoder = folder.encoder()
    prompt = encoder.prompt([f"{IMAGE}\n{question}"], [], [len(tiles)])
    ids = torch.from_numpy(expand(prompt, TokenCounts(folder.config)(tiles), encoder.image_token_id)[0])[None]
    given = {name: torch.tensor(folder.preprocessing[f"image_{name}"]) for name in ("mean", "std")}
    pixels = normalize(tiles, **given)
    whole = model.generate(
        input_ids=ids,
        pixel_values=pixels,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_new_tokens,
    )
    whole = whole[:, :-1]  # the last token is predicted, and predicts nothing
    with torch.no_grad():
        seen = model(
            input_ids=whole, pixel_values=pixels, attention_mask=torch.ones_like(whole), output_attentions=True
        )
    answer = folder.tokenizer.decode(whole[0, ids.shape[1] :])
    return answer, torch.cat(seen.attentions)[:, :, ids.shape[1] - 1 :], whole[0] == encoder.image_token_id


@pytest.mark.parametrize("name", ["teacher", "student", "1x2 kept", "1x4 kept", "2x2 behind"])
def test_attention_is_that_of_transformers_with_whole_maps(reader_folder, name, monkeypatch):
    monkeypatch.setattr(attention, "QUERIES", 5)  # rows are read in several parts
    folder, page = reader_folder(name), page_of()
    answer, maps, visual = eager(folder, page, QUESTION, 12)
    for layers, expected in ((None, maps[3:]), ([0, 1, 2, 3, 4, 5], maps), ([1], maps[1:2])):
        look = Looker(folder, layers=layers).look(page, QUESTION, max_new_tokens=12)
        mean = expected.mean((0, 1))[:, visual]
        assert look.answer.startswith(answer) and len(look.tokens) == 12 == len(look.mass)
        torch.testing.assert_close(look.mass, mean.sum(1), rtol=0, atol=1e-5)
        torch.testing.assert_close(look.attention, mean / mean.sum(1, keepdim=True), rtol=0, atol=1e-5)
        torch.testing.assert_close(look.attention.sum(1), torch.ones(12))
        assert look.attention.shape[1] == look.places.starts[-1]


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_reader_looks_where_the_letter_stands_that_it_writes(reader_folder, name):
    page = page_of(16, 8)
    look = Looker(reader_folder(name), layers=[5]).look(page, QUESTION, max_new_tokens=70)
    boxes = look.places.boxes()
    boxes[look.places.thumbnail_start :] = -1
    line, column, shares, even = 0, 0, [], []
    for token, row in zip(look.tokens, look.attention.numpy(), strict=True):
        x, y = (column + 0.5) * ADVANCE, (line + 0.5) * LINE
        if token.isalpha():
            own = (boxes[:, 0] <= x + ADVANCE) & (x - ADVANCE < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
            shares.append(row[own].sum())
            even.append(own.mean())
        line, column = (line + 1, 0) if token == "\n" else (line, column + 1)
    assert line >= 4 and np.mean(even) < 0.05
    assert np.mean(shares) > 0.4


def test_an_elastic_student_looks_as_the_teacher_at_ratio_1_and_in_its_windows_at_others(reader_folder):
    page, looker = page_of(), Looker(reader_folder("elastic"))
    whole, two, four = (looker.look(page, QUESTION, max_new_tokens=6, visual_tokens=count) for count in (16, 8, 4))
    teacher = Looker(reader_folder("teacher")).look(page, QUESTION, max_new_tokens=6)
    torch.testing.assert_close(whole.attention, teacher.attention)
    assert (whole.places.boxes() == teacher.places.boxes()).all()
    for look, window in ((two, (56, 28)), (four, (56, 56))):
        boxes = look.places.boxes()[: look.places.thumbnail_start]
        assert {(right - left, bottom - top) for left, top, right, bottom in boxes.tolist()} == {window}
        assert look.attention.shape[1] == len(look.places.boxes())


def test_a_page_of_one_tile_has_no_thumbnail(reader_folder):
    look = Looker(reader_folder("student")).look(page_of(8, 4), QUESTION, max_new_tokens=3)
    assert not look.places.has_thumbnail and look.attention.shape == (3, 8)


def test_an_empty_answer_has_the_look_of_its_end(reader_folder):
    looker = Looker(reader_folder("student"))
    looker.pair.student.generation_config.eos_token_id = [*range(looker.pair.student.config.text_config.vocab_size)]
    look = looker.look(page_of(8, 4), QUESTION)
    assert look.answer == "" and look.tokens == [""]
    assert look.attention.shape == (1, 8) and 0 < float(look.mass) < 1


def test_any_mode_of_image_is_a_page(reader_folder):
    page = page_of(8, 4)
    looker = Looker(reader_folder("student"))
    looks = [looker.look(each, QUESTION, max_new_tokens=3) for each in (page, page.convert("RGBA"))]
    assert looks[0].attention.equal(looks[1].attention)
    assert isinstance(page, Image.Image)


@pytest.mark.parametrize(("layers", "named"), [([6], "layer 6"), ([0, -1], "layer -1"), ([], "no layer")])
def test_a_layer_that_is_not_there_is_named(reader_folder, layers, named):
    with pytest.raises(UserError, match=f"names {named}, and the language model has 6"):
        Looker(reader_folder("student"), layers=layers)
