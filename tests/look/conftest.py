"""Students of the tiny teacher whose windows have several shapes, and servers of the page in the browser."""

import threading
from pathlib import Path

import httpx2 as httpx
import pytest
import torch

import fcot
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import save_student
from fcot.models.student_teacher import StudentTeacher

TINY = Path(fcot.__file__).parent / "tiny"
NEW = {
    "1x2 kept": {"compressor": "conv", "ratio": 2, "keep_positions": True},
    "2x2 behind": {"compressor": "conv2d", "ratio": 4, "placement": "after"},
    "elastic": {"spec": StudentSpec("conv2d", 2, ratios=(2, 4))},
    "1x4 kept": {"compressor": "conv", "ratio": 4, "keep_positions": True},
}


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory):
    """A function that returns the folder of a shipped model, or of an untrained student of the teacher."""
    made = {}

    def folder(name):
        if name in ("teacher", "student"):
            return ModelFolder(TINY / name)
        if name not in made:
            made[name] = tmp_path_factory.mktemp("reader") / "student"
            with torch.random.fork_rng():
                torch.manual_seed(0)
                save_student(StudentTeacher(TINY / "teacher", **NEW[name]).student, made[name], TINY / "teacher")
        return ModelFolder(made[name])

    return folder


class Served:
    """The page's server, on a thread of this process."""

    form = (TINY.parents[1] / ".github/images/form.png").read_bytes()

    def __init__(self, desk):
        from fcot.look import running
        from fcot.serve.running import listen

        self.desk, listening = desk, listen("127.0.0.1", 0)
        self.web = running.page_server(desk, "127.0.0.1")
        self.port = listening.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)
        self.thread = threading.Thread(target=self.web.run, kwargs={"sockets": [listening]})
        self.thread.start()

    def upload(self, data=form, kind="image/png"):
        return self.client.post("/page", content=data, headers={"Content-Type": kind})

    def ask(self, page, question, **more):
        return self.client.post("/ask", json={"page": page, "question": question, **more})

    def end(self):
        self.web.handle_exit(15, None)
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def readers():
    """The tiny teacher and student, loaded."""
    from fcot.look.reader import load_readers

    return load_readers([TINY / "teacher", TINY / "student"])


@pytest.fixture
def serve_page(readers):
    """Return a function that starts a server of the page with limits, which ends with the test."""
    from fcot.look.desk import Desk, Limits

    started = []

    def start(**limits):
        started.append(Served(Desk(readers, Limits(**limits))))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture(scope="module")
def served_page(readers):
    """A server for all tests of a file."""
    from fcot.look.desk import Desk, Limits

    server = Served(Desk(readers, Limits(max_bytes=2_000_000, max_pixels=4_000_000, max_new_tokens=40)))
    yield server
    server.end()
