"""The verb `look`: what it takes, and how its server ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from fcot.cli.commands import one_list
from fcot.errors import UserError
from fcot.look.command import look

ROOT = Path(__file__).parents[2]


def test_any_number_of_models_or_none_may_be_given():
    assert one_list(look, ["A", "B", "--port", "0"]) == ["--models", '["A", "B"]', "--port", "0"]
    assert one_list(look, ["--port", "0"]) == ["--port", "0"]


def test_a_wrong_model_or_number_is_told_before_anything_is_served(tmp_path):
    for wrong, options in (
        ("max_new_tokens is 0", {"max_new_tokens": 0}),
        ("given twice", {"models": [tmp_path, tmp_path]}),
        ("nowhere", {"models": [tmp_path / "nowhere"]}),
        ("-1", {"port": -1}),
        ("layers names layer 6", {"layers": [6], "models": [ROOT / "fcot/tiny/student"]}),
    ):
        with pytest.raises(UserError, match=wrong):
            look(**{"port": 0, **options})


@pytest.mark.slow
def test_sigterm_ends_the_server_without_waiting_for_an_answer():
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fcot", "look", str(ROOT / "fcot/tiny/teacher"), "--port", "0"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = process.stdout.readline().split()[1]
    replies = []
    with httpx.Client(base_url=address, timeout=60) as client:
        form = (ROOT / ".github/images/form.png").read_bytes()
        page = client.post("/page", content=form, headers={"Content-Type": "image/png"}).json()["page"]
        asked = {"page": page, "question": "Read the text."}
        askers = [threading.Thread(target=lambda: replies.append(client.post("/ask", json=asked))) for _ in range(7)]
        for asker in askers:
            asker.start()
        while not replies:  # the first of seven that wait for each other
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for asker in askers:
            asker.join(60)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors.count("Traceback") == 0, errors
    assert sorted({reply.status_code for reply in replies}) == [200, 503]
