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
from pathlib import Path

import httpx2 as httpx
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
STUDENTS = [(2, True, "window"), (2, False, "window"), (4, True, "step"), (4, False, "step")]  # ratio, positions kept
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
    params=STUDENTS,
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


@pytest.mark.parametrize("exported", [STUDENTS[0]], indirect=True)
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
