"""Servers: one in this process, which starts at once, and one in a process of its own, as users start it."""

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2 as httpx
import pytest

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "fcot/tiny/student"
KEY = "a key"
LIMITS = {
    "host": "127.0.0.1",
    "port": 0,
    "name": None,
    "key": KEY,
    "max_tiles": None,
    "max_new_tokens": 512,
    "max_rows": 32,
    "max_waiting": 64,
    "max_seconds": 60.0,
    "max_body_bytes": 2_000_000,
    "max_held_bytes": 512_000_000,
    "max_pictures": 16,
    "max_pixels": 4_000_000,
    "page_bytes": 10**8,
    "device": "cpu",
    "dtype": "auto",
    "threads": 1,
}


class Client:
    """A client of a server at a port."""

    def __init__(self, port, key=KEY):
        self.port, self.url = port, f"http://127.0.0.1:{port}/v1"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=120)

    images = (ROOT / ".github/images/form.png", ROOT / ".github/images/chart.png")

    def ask(self, *messages, **options):
        return self.client.post("/chat/completions", json={"messages": list(messages), **options})

    @staticmethod
    def url_of(data, kind="png"):
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

    @staticmethod
    def user(text, *urls):
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return {"role": "user", "content": [*pictures, {"type": "text", "text": text}]}

    @classmethod
    def page(cls, number):
        return cls.url_of(cls.images[number].read_bytes())

    @staticmethod
    def said(reply):
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"][0]["message"]["content"]

    def numbers(self):
        lines = self.client.get(f"http://127.0.0.1:{self.port}/metrics").text.splitlines()
        return Counter({name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if x[0] != "#")})

    def until(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition(self.numbers()):
            assert time.monotonic() < end, self.numbers()
            time.sleep(0.02)


class Inside(Client):
    """A server on a thread of this process."""

    def __init__(self, model=STUDENT, reduce=(None, None), crowd=None, **limits):
        from fcot.serve import running

        settings = running.Settings(**{**LIMITS, **limits})
        self.server = running.load(Path(model), settings, reduce)
        self.web = running.web_server(self.server, settings)
        if crowd is not None:
            self.web.config.http = crowd.protocol()
        listening = running.listen("127.0.0.1", 0)
        super().__init__(listening.getsockname()[1], settings.key)
        self.thread = threading.Thread(target=self.web.run, kwargs={"sockets": [listening]})
        self.thread.start()

    def end(self):
        self.web.should_exit = True
        self.thread.join(120)
        assert not self.thread.is_alive() and not self.server.engine.thread.is_alive()


class Apart(Client):
    """A server in a process of its own."""

    def __init__(self, *words, model=STUDENT):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "FCOT_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "fcot", "serve", str(model), "--port", "0", *words]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert " is served at http://127.0.0.1:" in line, self.process.stderr.read()
        super().__init__(int(line.split(":")[-1].split("/")[0]))

    def resident_bytes(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


@pytest.fixture
def serve():
    """Return a function that starts a server of this process, which ends with the test."""
    started = []

    def start(*given, **options):
        started.append(Inside(*given, **options))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def apart():
    """Return a function that starts a server process, which ends with the test."""
    started = []

    def start(*words, **options):
        started.append(Apart(*words, **options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end()


@pytest.fixture(scope="module")
def served():
    """A server for all tests of a file."""
    server = Inside()
    yield server
    server.end()


@pytest.fixture(scope="module")
def served_without_key():
    """The same, for clients that send no key."""
    server = Inside(key="")
    yield server
    server.end()
