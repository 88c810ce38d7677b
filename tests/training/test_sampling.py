"""Tests and predictions draw answers as they are told."""

import json

import pytest

from fcot.cli.main import main


@pytest.fixture
def run(student_folder, tiny_shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(verb, folder, *words):
        given = f"--model SFT --model.checkpoint {student_folder} --data.root {tiny_shards} --data.num_workers 0"
        options = f"--trainer.default_root_dir {folder} --trainer.accelerator cpu --trainer.logger false"
        main([verb, *given.split(), *options.split(), "--model.max_new_tokens", "8", *words])
        return [json.loads(line) for line in (tmp_path / folder / f"{verb}.jsonl").read_text().splitlines()]

    return run


def test_several_answers_to_a_page_are_scored_by_their_mean(run, tmp_path):
    warm = ("--model.sampling.temperature", "1.0", "--model.sampling.seed", "3")
    one = run("test", "one", *warm)
    several = run("test", "several", *warm, "--model.sampling.num_answers", "3")
    assert [row["prediction"] for row in several] == [row["prediction"] for row in one]
    assert all(len(row["more_predictions"]) == 2 for row in several)
    assert any(row["prediction"] not in row["more_predictions"] for row in several)
    assert "more_predictions" not in one[0]
    settings = json.loads((tmp_path / "several/test.json").read_text())
    assert settings["sampling"] == {"temperature": 1.0, "top_p": 1.0, "seed": 3, "num_answers": 3}
    assert settings["n"] == len(several) == 8


def test_predictions_are_drawn_in_the_same_way(run):
    warm = ("--model.sampling.temperature", "1.0", "--model.sampling.num_answers", "2")
    drawn = run("predict", "drawn", *warm)
    tested = run("test", "tested", *warm)
    assert {row["key"]: (row["prediction"], row["more_predictions"]) for row in drawn} == {
        row["key"]: (row["prediction"], row["more_predictions"]) for row in tested
    }
    assert "more_predictions" not in run("predict", "greedy")[0]


def test_a_setting_out_of_range_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("test", "wrong", "--model.sampling.top_p", "2")
    assert "top_p is 2" in capsys.readouterr().err
