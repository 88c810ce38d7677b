"""Exported students answer in vLLM, token by token, as transformers' generate does. Run by `.ci/vllm`."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, InternVLForConditionalGeneration

from fcot.cli.main import main
from fcot.models.student_folder import save_student
from fcot.models.student_teacher import StudentTeacher
from fcot.tiny import write_architecture
from shards.build import build_set

PYTHON = os.environ.get("FCOT_VLLM_PYTHON")  # of an environment with vLLM
ROOT = Path(__file__).parents[2]
PAGES, NEW_TOKENS = 32, 24
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="vLLM is in an environment of its own: run .ci/vllm FOLDER"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Drawn pages as files, and a question about each."""
    folder = tmp_path_factory.mktemp("pages")
    build_set(folder, "reading", "test", PAGES, workers=1)
    for file in (folder / "test").glob("*.tar"):
        with tarfile.open(file) as tar:
            tar.extractall(folder, filter="data")
    found = []
    for file in sorted(folder.glob("*.json")):
        (page,) = (each for each in folder.glob(f"{file.stem}.*") if each.suffix != ".json")
        question = json.loads(file.read_text())["conversations"][0]["value"]
        found.append((str(page), question.replace("<image>", "").strip()))
    assert len(found) == PAGES
    return found


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A native InternVL with random weights and heads of a width that vLLM has kernels for."""
    folder = write_architecture(tmp_path_factory.mktemp("teacher") / "teacher", vision_layers=2, text_layers=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder))
        for parameter in model.model.language_model.layers.parameters():
            parameter.data *= 2 if parameter.ndim > 1 else 1  # or answers would hardly depend on the page
        model.save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[(2, True, "window"), (2, False, "window"), (4, True, "step"), (4, False, "step")],
    ids=lambda each: f"ratio {each[0]}, {f'positions kept by {each[2]}' if each[1] else 'consecutive positions'}",
)
def exported(request, teacher, tmp_path_factory):
    ratio, keep, rule = request.param
    folder = tmp_path_factory.mktemp("student")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = StudentTeacher(teacher, compressor="conv", ratio=ratio, keep_positions=keep).student
    student.config.position_rule = rule
    save_student(student, folder / "student", teacher)
    main(["export", str(folder / "student"), str(folder / "exported")])
    return folder / "exported"


@pytest.fixture(scope="module")
def rounds(exported, pages):
    """What is asked: every page; then the first again, two pages at once, a page in two ways, and text alone."""
    processor = AutoProcessor.from_pretrained(exported)

    def asked(question, *files):
        turn = [*({"type": "image"} for _ in files), {"type": "text", "text": question}]
        message = [{"role": "user", "content": turn}]
        return {"prompt": processor.apply_chat_template(message, add_generation_prompt=True), "pages": files}

    (first, question), (second, other) = pages[:2]
    again = [asked(question, first), asked(other, first), asked(question, first, second), asked("Who is it?")]
    return [[asked(question, page) for page, question in pages], again]


@pytest.fixture(scope="module")
def expected(exported, rounds):
    processor = AutoProcessor.from_pretrained(exported)
    model = AutoModelForImageTextToText.from_pretrained(exported).eval()
    found = []
    for each in (each for asked in rounds for each in asked):
        inputs = processor(
            images=[Image.open(page) for page in each["pages"]] or None, text=each["prompt"], return_tensors="pt"
        )
        prompt = inputs["input_ids"][0].tolist()
        ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0].tolist()
        found.append({"prompt": prompt, "answer": ids[len(prompt) :]})
    return found


def as_installed(folder):
    """Return a path on which fcot is found as if it were installed, with its entry points."""
    about = folder / "fcot-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fcot\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[vllm.general_plugins]\nfcot = fcot.serve.vllm_plugin:register\n")
    return f"{folder}{os.pathsep}{ROOT}"


@pytest.mark.parametrize("fcot", ["with", "without"])
def test_every_answer_is_that_of_generate(exported, rounds, expected, fcot, tmp_path):
    (tmp_path / "cases.json").write_text(json.dumps(rounds))
    path = as_installed(tmp_path) if fcot == "with" else ""
    done = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("vllm_answers.py")), str(exported), "cases.json", "answers.json", fcot],
        env={**os.environ, "PYTHONPATH": path, "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads((tmp_path / "answers.json").read_text())
    assert [each["prompt"] for each in found] == [each["prompt"] for each in expected]
    assert [each["answer"] for each in found] == [each["answer"] for each in expected]
    assert len({tuple(each["answer"]) for each in expected}) > PAGES * 0.9  # they depend on the page
    assert found[PAGES]["cached"] > 0  # the first page's rows were there already
    print(f"{len(found)} equal, {sys.version.split()[0]}")
