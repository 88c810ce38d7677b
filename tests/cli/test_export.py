"""An exported folder speaks as the trained student did, in a fresh process, with fcot and without it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoImageProcessor

from fcot.cli.main import main
from fcot.doctor.checks import problems
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.encoder import expand
from fcot.internvl.pixels import normalize
from fcot.internvl.tiling import cut
from fcot.models.student_folder import save_student
from fcot.models.student_teacher import StudentTeacher

PAGES = {"one": (56, 56), "three": (112, 56), "seven": (168, 112)}  # pixels that give so many tiles


def page(name):
    width, height = PAGES[name]
    return np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tiny_checkpoint, tmp_path_factory):
    """A run's folder with a student that no longer has its starting weights."""
    folder = tmp_path_factory.mktemp("run")
    pair = StudentTeacher(tiny_checkpoint, compressor="conv", ratio=2, keep_positions=True).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pair.student.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    save_student(pair.student, folder / "student", tiny_checkpoint)
    model = {
        "class_path": "fcot.training.realign.Realign",
        "init_args": {"checkpoint": str(tiny_checkpoint), "kl_weight": 1.0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model, "trainer": {"max_steps": 7}}))
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported") / "reader"
    main(["export", str(run / "student"), str(output), "--base", "someone/teacher"])
    return output


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    """What the student sees and says, by fcot's own path from page to logits."""
    source, pair = ModelFolder(run / "student"), StudentTeacher(run / "student").eval()
    found = {}
    for name in PAGES:
        tiles = cut(Image.fromarray(page(name)), source.max_tiles, tile_size=source.tile_size)
        turns = [{"from": "human", "value": f"What is {name}?"}, {"from": "gpt", "value": "?"}]
        encoded = source.encoder().encode(turns, [len(tiles)], prompt_only=True)
        ids = torch.from_numpy(expand(encoded, 2, source.config.image_token_id)[0])[None]
        pixels = normalize(tiles, pair.mean, pair.std)
        with torch.no_grad():
            logits = pair.student(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits
        found |= {f"{name}.page": torch.from_numpy(page(name)), f"{name}.ids": ids}
        found |= {f"{name}.tiles": pixels, f"{name}.logits": logits}
    file = tmp_path_factory.mktemp("expected") / "expected.safetensors"
    save_file(found, file)
    return file


@pytest.mark.parametrize("fcot", ["with", "without"])
def test_a_fresh_process_gives_the_students_logits_and_generates_in_batches(exported, expected, fcot, tmp_path):
    script = Path(__file__).with_name("fresh_process.py")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(script), str(exported), str(expected), fcot],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "equal"


def test_configuration_and_processor_give_the_same_count(exported):
    counts = {
        json.loads((exported / f"{name}.json").read_text())["image_seq_length"]
        for name in ("config", "processor_config")
    }
    assert counts == {2}


def test_pages_are_cut_as_in_training_whatever_the_teachers_folder_says(run, tmp_path):
    student = shutil.copytree(run / "student", tmp_path / "student")
    settings = json.loads((student / "preprocessor_config.json").read_text())
    settings |= {"min_patches": 4, "crop_to_patches": False}
    (student / "preprocessor_config.json").write_text(json.dumps(settings))
    main(["export", str(student), str(tmp_path / "out")])
    image_processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    source = ModelFolder(student)
    for name in PAGES:
        picture = Image.fromarray(page(name))
        expected = cut(picture, source.max_tiles, tile_size=source.tile_size)
        assert image_processor(picture)["num_patches"] == [len(expected)]


def test_a_student_of_a_teacher_that_transformers_5_saved_is_exported(run, nest, tmp_path):
    student = shutil.copytree(run / "student", tmp_path / "student")
    nest(student, max_patches=2)
    main(["export", str(student), str(tmp_path / "out")])
    assert AutoImageProcessor.from_pretrained(tmp_path / "out").max_patches == 2
    assert list(problems(ModelFolder(tmp_path / "out"))) == []


def test_the_doctor_finds_nothing_wrong_with_it(exported):
    assert list(problems(ModelFolder(exported))) == []


def test_the_card_says_what_it_is_and_what_is_not_known(exported, tiny_checkpoint):
    text = (exported / "README.md").read_text()
    assert "base_model: someone/teacher" in text
    assert "| tokens per tile | 2 (base: 4) |" in text
    assert "| ratio | 2 visual tokens become one |" in text
    assert "max_steps 7" in text
    assert "Not measured" in text
    assert yaml.safe_load((exported / "training" / "1-realign.yaml").read_text())["trainer"] == {"max_steps": 7}


def test_a_student_can_be_exported_from_its_run_and_again_from_the_export(run, exported, tmp_path):
    main(["export", str(run), str(tmp_path / "again")])
    main(["export", str(exported), str(tmp_path / "twice")])
    for name in ("again", "twice"):
        for file in ("model.safetensors", "config.json", "chat_template.jinja", "modeling_fcot_internvl.py"):
            assert (tmp_path / name / file).read_bytes() == (exported / file).read_bytes(), (name, file)


def refusal(capsys, *words):
    with pytest.raises(SystemExit):
        main(["export", *map(str, words)])
    return capsys.readouterr().err


def test_a_native_model_is_refused(tiny_checkpoint, tmp_path, capsys):
    assert "is a native InternVL, which transformers loads as it is" in refusal(
        capsys, tiny_checkpoint, tmp_path / "out"
    )


def test_what_is_at_the_output_is_not_replaced_unasked(exported, run, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(exported, output)
    assert "already holds an exported model" in refusal(capsys, run, output)
    main(["export", str(run), str(output), "--overwrite", "true"])
    (output / "modeling_fcot_internvl.py").unlink()
    assert "is not an exported model" in refusal(capsys, run, output, "--overwrite", "true")


def test_a_student_with_missing_weights_leaves_no_folder(run, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(run / "student", broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "compressor": "qformer"}))
    message = refusal(capsys, broken, tmp_path / "out")
    assert "tensors are missing" in message and "compressor" in message
    data = (run / "student" / "model.safetensors").read_bytes()
    shutil.copy(run / "student" / "config.json", broken / "config.json")
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert "is cut short" in refusal(capsys, broken, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def scores(folder, checkpoint):
    folder.mkdir()
    row = {
        "split": "test",
        "n": 9,
        "seed": 3,
        "scores": {"mean": {"metric": "anls", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}},
    }
    (folder / "test.json").write_text(json.dumps(row))
    model = {"class_path": "fcot.training.sft.SFT", "init_args": {"checkpoint": str(checkpoint)}}
    (folder / "config_test.yaml").write_text(yaml.safe_dump({"model": model}))
    return str(folder / "test.json")


def test_scores_stand_in_the_card_with_split_and_count(run, tmp_path, capsys):
    main(["export", str(run), str(tmp_path / "out"), "--scores", scores(tmp_path / "eval", run / "student")])
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Split test, n = 9, seed 3" in text and "| mean | anls | 0.500 [0.400, 0.600] | 9 |" in text
    other = scores(tmp_path / "other", tmp_path)
    assert "has the scores of another model" in refusal(capsys, run, tmp_path / "out2", "--scores", other)


def test_merge_weights_stand_in_the_card(run, tmp_path):
    merged = tmp_path / "merged"
    shutil.copytree(run / "student", merged)
    report = {"shapley": {"step-1": 0.25, "step-2": -0.5}, "weights": {"step-1": 0.75, "step-2": 0.25}, "seed": 0}
    report |= {
        "chosen": "shapley",
        "controls": {"shapley": {"utility": 0.625}},
        "split": "dev",
        "n": 42,
        "metric": "anls",
        "choice": {"why": "kept for a reason"},
    }
    (merged / "merge.json").write_text(json.dumps(report))
    main(["export", str(merged), str(tmp_path / "out")])
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| step-1 | 0.7500 | +0.2500 |" in text and "By anls it has 0.6250 on the 42 dev pages" in text
    assert "Method shapley (kept for a reason)." in text
    assert json.loads((tmp_path / "out" / "merge.json").read_text()) == report
