"""Questions, a server of the tiny teacher in a process of its own, and runs of the factory against it."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shards.build import build_set
from shards.factory.job import journal_folder
from shards.factory.options import Options
from shards.factory.requests import Sampling
from shards.factory.run import run

ROOT = Path(__file__).parents[3]
TASKS = {"arithmetic": "number", "lookup": "number", "compare": "choice"}
VERIFIERS = {**TASKS, "text": None, "form": None, "chart": None, "table": None}
HOW = {"verifiers": VERIFIERS, "template": "{question}", "samples": 4, "most": 2, "mix": 0.5, "level": 1.0}
SAMPLING = Sampling(temperature=1.3, max_tokens=120)


class Served:
    """The server's process, and what it logs."""

    def __init__(self, folder):
        self.log, self.cache, self.port = folder / "log.jsonl", folder / "cache.jsonl", 0
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.shards.factory.server",
                "fcot/tiny/teacher",
                self.log,
                self.cache,
                str(self.port),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def url(self, run, plan=""):
        return f"http://127.0.0.1:{self.port}/{run}/{plan}/v1"

    def calls(self, run):
        """Every call of a run, in order: the seed that was asked for, the fault, the key."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in map(json.loads, lines) if line["run"] == run]

    def answered(self, run):
        return [line["seed"] for line in self.calls(run) if line["fault"] in ("", "slow", "twice")]


class Made:
    """A set that was made, or the beginning of one."""

    def __init__(self, output):
        self.output, self.folder = output, journal_folder(output)

    @property
    def responses(self):
        """What the journals hold, line by line."""
        lines = [line for path in sorted(self.folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
        return [found["response"] for found in map(whole, lines) if found]

    @property
    def seeds(self):
        return [int(each["id"][:16], 16) >> 1 for each in self.responses]

    @property
    def last_run(self):
        return json.loads((self.folder / "last_run.json").read_text())

    @property
    def manifest(self):
        return json.loads((self.output / "manifest.json").read_text())

    @property
    def bytes(self):
        """Hash of every byte of the set, by file."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(self.output.iterdir())}


def whole(line):
    with contextlib.suppress(ValueError):
        return json.loads(line)
    return None


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """Twenty pages in three shards, half of them with questions that are reasoned about."""
    root = tmp_path_factory.mktemp("questions")
    build_set(root, "questions", "train", 20, shard_size=8, workers=1)
    return root / "train"


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    found = Served(tmp_path_factory.mktemp("served"))
    yield found
    found.kill()


@pytest.fixture
def make(asked, served, tmp_path):
    """Return a function that makes a set of chains, from the server under the test's own name by default."""

    def made(name, plan="", *, urls=None, how=None, sampling=SAMPLING, source=asked, **options):
        output = tmp_path / name
        given = {"model": "tiny", "workers": 1, "timeout": 60.0, "patience": 60.0, "concurrency": 8, **options}
        urls = urls or [served.url(name, plan)]
        run("cot", {**HOW, **(how or {})}, source, output, urls, sampling, Options(**given))
        return Made(output)

    return made


@pytest.fixture(scope="session")
def untroubled(asked, served, tmp_path_factory):
    """The set of a run in which nothing went wrong."""
    output = tmp_path_factory.mktemp("untroubled") / "set"
    options = Options(model="tiny", workers=1, timeout=60.0)
    run("cot", HOW, asked, output, [served.url("untroubled")], SAMPLING, options)
    return Made(output)


def command(source, output, url, *more):
    """The words of the command that makes the set of `make`."""
    words = ["data", "cot", source, output, f"--generator={url}", "--verifiers", json.dumps(VERIFIERS), "--model=tiny"]
    template = output.parent / "template.txt"
    template.write_text(HOW["template"])
    words += ["--template", template, "--samples=4", "--mix=0.5", "--chance_level=1", "--temperature=1.3"]
    words += ["--max_tokens=120", "--workers=1", "--concurrency=4", "--patience=300", *more]
    return [sys.executable, "-m", "fcot", *map(str, words)]


@pytest.fixture
def start(asked, served):
    """Return a function that starts the command in a process of its own."""
    begun = []

    def started(output, plan="", *more, source=asked, url=None, **options):
        words = command(source, output, url or served.url(output.name, plan), *more)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        begun.append(subprocess.Popen(words, cwd=ROOT, env=environment, **{**pipes, **options}))
        return begun[-1]

    yield started
    for process in begun:
        process.kill()
        process.communicate()


def wait_until(true, seconds=60.0, process=None):
    """Wait for something to be so; fail if it takes too long, or a process ends before."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def processes_of(pid):
    """Processes that a process started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return found
