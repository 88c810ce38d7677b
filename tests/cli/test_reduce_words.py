"""`--reduce` on the command line reaches whatever generates an answer."""

import json

import pytest

from fcot.cli.main import main
from fcot.cli.reduce_words import with_reducer

DEEP = ("--reduce", "fastv", "--reduce.layer", "1")


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A student of two layers, and a page of its own."""
    import torch
    from PIL import Image
    from transformers import AutoConfig, InternVLForConditionalGeneration

    from fcot.tiny import write_architecture

    monkeypatch.chdir(tmp_path)
    folder = write_architecture(tmp_path / "reader", tile_size=112, width=32, vision_layers=1, text_layers=4, heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder))
        for parameter in model.model.language_model.layers.parameters():
            parameter.data *= 6 if parameter.ndim > 1 else 1
        model.save_pretrained(folder)
    Image.effect_noise((112, 112), 90).convert("RGB").save("page.png")
    return folder


@pytest.fixture
def run(reader, tiny_shards, tmp_path):
    def run(verb, folder, *words):
        given = f"--model SFT --model.checkpoint {reader} --data.root {tiny_shards} --data.num_workers 0"
        options = f"--trainer.default_root_dir {folder} --trainer.accelerator cpu --trainer.logger false"
        main([verb, *given.split(), *options.split(), "--model.max_new_tokens", "8", *words])
        return [json.loads(line) for line in (tmp_path / folder / f"{verb}.jsonl").read_text().splitlines()]

    return run


def test_words_are_those_of_the_verbs_parser():
    words = ["--config", "a.yaml", "--reduce", "fastv", "--reduce.keep=0.5", "--reduce.score", "last"]
    assert with_reducer(words, "model.") == [
        "--config", "a.yaml", "--model.reduce", "fastv", "--model.reduce_options.keep=0.5",
        "--model.reduce_options.score", "last",
    ]  # fmt: skip
    assert with_reducer(words[2:4]) == ["--reduce", "fastv"]


def test_a_test_is_reduced_and_says_what_was_left(run, tmp_path):
    plain = run("test", "plain")
    fewer = run("test", "fewer", *DEEP, "--reduce.keep", "0.25")
    assert [row["prediction"] for row in fewer] != [row["prediction"] for row in plain]
    row = json.loads((tmp_path / "fewer/test.json").read_text())
    assert row["reduce"] == {"name": "fastv", "layer": 1, "keep": 0.25}
    assert (row["visual_tokens"], row["kept"], row["equivalent"]) == (16, 4, (16 + 3 * 4) / 4)
    assert "kept" not in json.loads((tmp_path / "plain/test.json").read_text())
    assert [row["prediction"] for row in run("predict", "same", *DEEP, "--reduce.keep", "0.25")] == [
        row["prediction"] for row in fewer
    ]


def test_pages_of_fewer_tiles_are_counted(run, tmp_path):
    run("test", "fewer", "--reduce", "fewer_tiles", "--reduce.keep", "0.5")
    row = json.loads((tmp_path / "fewer/test.json").read_text())
    assert row["reduce"] == {"name": "fewer_tiles", "keep": 0.5}
    assert row["kept"] == row["equivalent"] == row["visual_tokens"] == 16  # a page of one tile keeps it


def test_a_reducer_before_the_language_model_is_counted(run, tmp_path):
    run("test", "fewer", "--reduce", "visionzip", "--reduce.keep", "0.5")
    row = json.loads((tmp_path / "fewer/test.json").read_text())
    assert (row["visual_tokens"], row["kept"], row["equivalent"]) == (16, 8, 8)


def test_chat_is_reduced(reader, capsys):
    words = ["chat", str(reader), "--image", "page.png", "--max_new_tokens", "8"]
    questions = ["--question", "What?", "--question", "And then?"]
    said = []
    for more in ([], [*DEEP, "--reduce.keep", "1.0"], [*DEEP, "--reduce.keep", "0.1"]):
        main([*words, *questions, *more])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reduce", "fastw"], "There is no reducer 'fastw'. Did you mean 'fastv'"),
        (["--reduce", "fastv", "--reduce.kep", "1"], "'fastv' has no option 'kep'"),
        (["--reduce", "fastv", "--reduce.keep", "0"], "keep is 0"),
        (["--reduce.keep", "0.5"], "and no reducer"),
    ],
)
def test_what_cannot_be_is_said(reader, words, message, capsys):
    with pytest.raises(SystemExit):
        main(["chat", str(reader), "--question", "What?", *words])
    assert message in capsys.readouterr().err
