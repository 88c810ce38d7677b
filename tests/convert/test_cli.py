import json

import pytest

from fcot.cli.main import main


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


def test_the_current_folder_can_be_filled_if_it_is_empty(make_original, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    main(["convert", str(make_original("internlm2")), "."])
    assert (tmp_path / "here" / "config.json").is_file()


def test_a_place_that_cannot_be_written_is_said_to_be_one(make_original, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main(["convert", str(make_original("internlm2")), str(tmp_path / "file" / "native")])
    error = capsys.readouterr().err
    assert f"{tmp_path / 'file' / 'native'} cannot be written" in error and len(error.splitlines()) == 2


def test_an_image_token_that_the_tokenizer_contradicts_is_refused(original_with_tokenizer, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["convert", str(original_with_tokenizer), str(tmp_path / "native"), "--image-token-id=7"])
    assert "has id 908 in the tokenizer" in capsys.readouterr().err
