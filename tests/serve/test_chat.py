"""`chat` answers in a terminal: streaming, several pages, several turns, short errors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcot.cli.main import main


@pytest.fixture
def pages(tmp_path):
    paths = []
    for number, (width, height) in enumerate([(56, 56), (112, 56)]):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        paths.append(tmp_path / f"page{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def typing(monkeypatch, *lines):
    pending = iter(lines)

    def typed(prompt):
        print(prompt, end="")
        try:
            return next(pending)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)


def test_questions_are_answered_until_exit(tiny_checkpoint, pages, monkeypatch, capsys):
    typing(monkeypatch, "What?", "", "And then?", "EXIT", "never asked")
    images = [word for page in pages for word in ("--image", str(page))]
    main(["chat", str(tiny_checkpoint), *images, "--max_new_tokens", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny: 4 visual tokens a tile (ratio 1)"
    assert lines[1:3] == ["page0.png: 1 tiles, 4 visual tokens", "page1.png: 3 tiles, 12 visual tokens"]
    assert sum(line.startswith("> ") for line in lines) == 3 and lines[-1] == "> "


def test_given_questions_need_no_keyboard(tiny_checkpoint, pages, monkeypatch, capsys):
    typing(monkeypatch)
    main(["chat", str(tiny_checkpoint), "--question", "One?", "--question=Two?", "--max_new_tokens", "2"])
    out = capsys.readouterr().out
    assert out.index("> One?") < out.index("> Two?")


def test_the_keyboards_end_ends_it(tiny_checkpoint, monkeypatch, capsys):
    typing(monkeypatch)
    main(["chat", str(tiny_checkpoint)])
    assert capsys.readouterr().out.endswith("> \n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image", "none.png"], "There is no image at 'none.png'"),
        (["--image", "text.png"], "text.png is not a JPEG, PNG or WebP image"),
        (["--max_new_tokens", "0"], "max_new_tokens is 0"),
        (["--device", "nonsense"], "There is no device 'nonsense' here"),
        (["--image"], "--image has no value.\nWrite --image=VALUE."),
        (["--question"], "--question has no value.\nWrite --question=VALUE."),
        (["--question", "--max_new_tokens", "2"], "--question has no value.\nWrite --question=VALUE."),
        (["--question", ""], "The value of --question is empty.\nWrite --question=VALUE, or leave --question out."),
        (["--question="], "The value of --question is empty.\nWrite --question=VALUE, or leave --question out."),
        (["--question", "One?", "--question= "], "The value of --question is empty."),
        (["--max-new-tokens"], "--max_new_tokens has no value.\nWrite --max_new_tokens=VALUE."),
    ],
)
def test_errors_are_short(tiny_checkpoint, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no image")
    with pytest.raises(SystemExit) as stopped:
        main(["chat", str(tiny_checkpoint), *options])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error and len(error.splitlines()) <= 3


def test_what_would_steer_the_terminal_is_not_printed(tiny_checkpoint, capsys):
    from fcot.internvl.checkpoint import ModelFolder
    from fcot.serve.screen import Screen

    tokenizer = ModelFolder(tiny_checkpoint).tokenizer
    screen = Screen(tokenizer)
    screen.put(np.array([1, 2]))  # the prompt
    for token in tokenizer("a \x1b[2J b\nc<|im_end|>").input_ids:
        screen.put(np.array([token]))
    screen.end()
    assert capsys.readouterr().out == "a �[2J b\nc\n"


def test_a_real_terminal(tiny_checkpoint, pages, type_in_terminal):
    words = ["chat", str(tiny_checkpoint), "--image", str(pages[0]), "--max_new_tokens", "4"]
    text = type_in_terminal(words, ["What?\n", "And then?\n", "\x04"])  # the last one is Ctrl-D
    assert "page0.png: 1 tiles, 4 visual tokens" in text
    assert text.index("> What?") < text.index("> And then?")
