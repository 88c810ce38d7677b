import json

import pytest

from fcot.cli import main


def test_the_verb_converts_there_and_back(make_original, read_weights, tmp_path, capsys):
    source = make_original("internlm2", shards=2)
    main(["convert", str(source), str(tmp_path / "native"), "--image-token-id", "50"])
    assert json.loads((tmp_path / "native" / "config.json").read_text())["image_token_id"] == 50
    main(["convert", str(tmp_path / "native"), str(tmp_path / "back"), "--layout", "original"])
    assert read_weights(tmp_path / "back").keys() == read_weights(source).keys()
    out = capsys.readouterr().out
    assert "InternLM2ForCausalLM, 0.17 M parameters" in out
    assert "no tokenizer files" in out


def test_an_error_is_two_lines_and_code_2(make_original, tmp_path, capsys):
    (tmp_path / "there").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(make_original("internlm2")), str(tmp_path / "there")])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_an_image_token_that_the_tokenizer_contradicts_is_refused(original_with_tokenizer, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["convert", str(original_with_tokenizer), str(tmp_path / "native"), "--image-token-id=7"])
    assert "has id 908 in the tokenizer" in capsys.readouterr().err
