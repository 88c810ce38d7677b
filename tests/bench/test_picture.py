import pytest
from PIL import Image

from fcot.bench.infer import infer
from fcot.bench.loss import loss
from fcot.bench.preprocess import preprocess
from fcot.bench.step import step

VERBS = {
    "step": lambda model, file: step(
        model, ratios="2,4", tiles=2, prompt=5, answer=7, device="cpu", repeats=1, plot=file
    ),
    "infer": lambda model, file: infer(
        model, batch=2, prompt=6, new_tokens=3, page="200,150", max_tiles=4, device="cpu", repeats=1, plot=file
    ),
    "loss": lambda _, file: loss(rows=8, vocabulary=50, width=4, device="cpu", repeats=1, plot=file),
    "preprocess": lambda _, file: preprocess(200, 300, tile_size=56, repeats=1, plot=file),
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_found_is_drawn(tiny_checkpoint, tmp_path, verb, capsys):
    VERBS[verb](str(tiny_checkpoint), tmp_path / "found.png")
    with Image.open(tmp_path / "found.png") as picture:
        width, height = picture.size
        assert width > 500
        assert height > 500
        assert len(set(picture.convert("RGB").resize((64, 64)).get_flattened_data())) > 20
