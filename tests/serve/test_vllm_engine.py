"""Exported students answer in vLLM, token by token, as transformers' generate does. Run by `.ci/vllm`."""

import base64
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx2 as httpx
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, InternVLForConditionalGeneration

from fcot.cli.main import main
from fcot.compress import COMPRESSORS
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import save_student
from fcot.models.student_teacher import StudentTeacher
from fcot.tiny import write_architecture
from shards.build import build_set

PYTHON = os.environ.get("FCOT_VLLM_PYTHON")  # of an environment with vLLM
ROOT = Path(__file__).parents[2]
PAGES, NEW_TOKENS = 32, 24
STUDENTS = {
    "ratio 2, positions kept": StudentSpec("conv", 2, keep_positions=True),  # which are halves
    "ratio 2, counted up": StudentSpec("conv", 2),
    "ratio 4, positions kept": StudentSpec("conv", 4, keep_positions=True, position_rule="step"),
    "ratio 4, counted up": StudentSpec("conv", 4),
}
COMPRESSORS_SERVED = {
    **{
        name: replace(StudentSpec.of(name, 4), keep_positions=True)
        for name, kind in COMPRESSORS.items()
        if name != "identity" and not kind.reads_text
    },
    "layers of the tower": StudentSpec("token_packer", 4, keep_positions=True, options={"levels": [1]}),
    "elastic": StudentSpec("conv", 2, keep_positions=True, ratios=(2, 4)),
    "after the projector": StudentSpec("conv", 2, keep_positions=True, placement="after"),
}
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


def export_student(teacher, folder, spec, *, noise=0.0):
    """Export a student of random weights, those of its projector and compressor moved from where they start."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        student = StudentTeacher(teacher, spec).student
        for parameter in student.model.multi_modal_projector.parameters():
            parameter += noise * torch.randn_like(parameter)
    save_student(student, folder / "student", teacher)
    main(["export", str(folder / "student"), str(folder / "exported")])
    return folder / "exported"


def asked(processor, question, *files):
    """A question about pages as vLLM takes it."""
    turn = [*({"type": "image"} for _ in files), {"type": "text", "text": question}]
    prompt = processor.apply_chat_template([{"role": "user", "content": turn}], add_generation_prompt=True)
    return {"prompt": prompt, "pages": files}


def by_generate(folder, rounds):
    """What is asked and answered, as ids, by transformers."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    found = []
    for each in (each for asked in rounds for each in asked):
        pages = [Image.open(page) for page in each["pages"]] or None
        inputs = processor(images=pages, text=each["prompt"], return_tensors="pt")
        prompt = inputs["input_ids"][0].tolist()
        ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0].tolist()
        found.append({"prompt": prompt, "answer": ids[len(prompt) :]})
    assert len({tuple(each["answer"]) for each in found}) > 0.8 * len(found)  # they depend on the page
    return found


def by_vllm(folder, rounds, fcot, scratch):
    """The same by vLLM, and how many tokens of each prompt were in its prefix cache."""
    (scratch / "cases.json").write_text(json.dumps(rounds))
    path = as_installed(scratch) if fcot == "with" else ""
    done = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("vllm_answers.py")), str(folder), "cases.json", "answers.json", fcot],
        env={**os.environ, "PYTHONPATH": path, "HF_MODULES_CACHE": str(scratch / "modules"), "OMP_NUM_THREADS": "1"},
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads((scratch / "answers.json").read_text())
    return [{name: each[name] for name in ("prompt", "answer")} for each in found], [each["cached"] for each in found]


def as_installed(folder):
    """Return a path on which fcot is found as if it were installed, with its entry points."""
    about = folder / "fcot-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fcot\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[vllm.general_plugins]\nfcot = fcot.serve.vllm_plugin:register\n")
    return f"{folder}{os.pathsep}{ROOT}"


@pytest.fixture(scope="module", params=STUDENTS.values(), ids=STUDENTS.keys())
def exported(request, teacher, tmp_path_factory):
    return export_student(teacher, tmp_path_factory.mktemp("student"), request.param)


@pytest.fixture(scope="module")
def rounds(exported, pages):
    """What is asked: every page; then the first again, two pages at once, a page in two ways, and text alone."""
    ask = partial(asked, AutoProcessor.from_pretrained(exported))
    (first, question), (second, other) = pages[:2]
    again = [ask(question, first), ask(other, first), ask(question, first, second), ask("Who is it?")]
    return [[ask(question, page) for page, question in pages], again]


@pytest.fixture(scope="module")
def expected(exported, rounds):
    return by_generate(exported, rounds)


@pytest.mark.parametrize("fcot", ["with", "without"])
def test_every_answer_is_that_of_generate(exported, rounds, expected, fcot, tmp_path):
    found, cached = by_vllm(exported, rounds, fcot, tmp_path)
    assert found == expected
    assert cached[PAGES] > 0  # the first page's rows were there already


@pytest.mark.parametrize("spec", COMPRESSORS_SERVED.values(), ids=COMPRESSORS_SERVED.keys())
def test_every_compressor_is_served(teacher, pages, spec, tmp_path):
    folder = export_student(teacher, tmp_path, spec, noise=0.05)
    processor = AutoProcessor.from_pretrained(folder)
    rounds = [[asked(processor, question, page) for page, question in pages[:4]]]
    found, _ = by_vllm(folder, rounds, "without", tmp_path)
    assert found == by_generate(folder, rounds)


class Listener:
    """An address that records whether it was asked for anything."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(1)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/page.png"

    def was_asked(self):
        try:
            self.socket.accept()
        except TimeoutError:
            return False
        return True


@pytest.fixture
def server(exported, tmp_path):
    """`fcot serve --engine vllm` in vLLM's environment; returns its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quick = json.dumps({"enforce-eager": True, "block-size": 32})
    words = ["--port", str(port), "--max_pictures", "2", "--max_rows", "16", "--engine_options", quick]
    path = as_installed(tmp_path)
    env = {**os.environ, "PYTHONPATH": path, "FCOT_API_KEY": "key", "VLLM_CPU_KVCACHE_SPACE": "1"}
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [PYTHON, "-m", "fcot", "serve", str(exported), "--engine", "vllm", *words],
            env={**env, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 400
    while True:
        try:
            httpx.get(f"{address}/health").raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-6000:]
            time.sleep(1)
    yield address
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) is not None


@pytest.mark.parametrize("exported", [STUDENTS["ratio 2, positions kept"]], indirect=True)
def test_the_server_answers_who_has_the_key_and_fetches_nothing(server, exported, pages, expected):
    client = httpx.Client(base_url=f"{server}/v1", timeout=120, headers={"Authorization": "Bearer key"})

    def ask(page, question, client=client):
        if not page.startswith("http"):
            page = f"data:image/png;base64,{base64.b64encode(Path(page).read_bytes()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": page}}, {"type": "text", "text": question}]
        talk = [{"role": "user", "content": content}]
        body = {"model": "exported", "messages": talk, "temperature": 0, "max_tokens": NEW_TOKENS}
        return client.post("/chat/completions", json={**body, "return_token_ids": True})

    with ThreadPoolExecutor(8) as pool:
        replies = [*pool.map(lambda each: ask(*each), pages)]
    assert [reply.json()["choices"][0]["token_ids"] for reply in replies] == [
        each["answer"] for each in expected[:PAGES]
    ]
    listener = Listener()
    reply = ask(listener.url, "What is it?")
    assert reply.status_code == 400 and "domain" in reply.text and not listener.was_asked()
    assert ask(*pages[0], httpx.Client(base_url=f"{server}/v1")).status_code == 401
