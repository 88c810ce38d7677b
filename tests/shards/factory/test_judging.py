"""Rules that hang, die or are killed lose the text they were at, and no other."""

import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from fcot.errors import UserError
from shards.factory.judging import Case, Judges
from shards.factory.kinds import Cot, Form
from shards.factory.question import Known
from shards.factory.requests import Response
from shards.factory.verifiers import Task
from tests.shards.factory.conftest import ROOT, processes_of, wait_until
from tests.shards.factory.hostile import Hostile

MEMORY = 2**29


@pytest.fixture
def kind():
    found = Cot({"*": "text"})
    found.verifiers["*"] = Hostile()
    return found


def case(number, truth, *said):
    responses = [
        Response(f"{number}/{at}", f"Look: it is written there.\nAnswer: {text}") for at, text in enumerate(said)
    ]
    return Case(Known(number, "any", "What?", truth, Task(truth)), responses, Form(), None)


def workers():
    """The processes that judge."""
    return [pid for pid in processes_of(os.getpid()) if "spawn_main" in command(pid)]


def kill_first_workers():
    wait_until(workers)
    for pid in workers():
        os.kill(pid, signal.SIGKILL)


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_verifier_that_hangs_dies_or_fails_is_named_and_others_are_unharmed(kind):
    words = ["hang", "hog", "die", "exit", "raise"]
    cases = [case(at, "right", "right", word) for at, word in enumerate(words)]
    cases += [case(at, "right", "right") for at in range(10, 20)]
    with Judges(kind, 2, seconds=1.5, memory=MEMORY) as judges:
        found = list(judges.judge(cases))
    reasons = [each[1].verdict.reason for each in found[:5]]
    assert reasons == [
        "its verifier took too long (Hostile)",
        "its verifier failed (Hostile: MemoryError)",
        "its verifier's process died (Hostile)",
        "its verifier failed (Hostile: SystemExit)",
        "its verifier failed (Hostile: KeyError)",
    ]
    assert all(each[0].verdict.accepted for each in found)
    assert not workers()


def test_workers_that_are_killed_from_outside_cost_nothing(kind):
    cases = [case(at, "slow", "slow", "slow wrong") for at in range(12)]
    with Judges(kind, 2, seconds=10.0) as judges:
        found = judges.judge(cases)
        results = [next(found)]
        wait_until(lambda: len(workers()) == 2)
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        results += list(found)
    assert len(results) == 12
    assert all([each.verdict.accepted for each in judged] == [True, False] for judged in results)
    assert all(judged[1].verdict.reason == "another answer" for judged in results)


@pytest.mark.slow
def test_workers_that_die_before_they_judge_are_replaced_and_in_the_end_it_is_said(kind, monkeypatch):
    cases = [case(at, "right", "right") for at in range(40)]
    with Judges(kind, 2) as judges:
        found = judges.judge(iter(cases))
        killer = threading.Thread(target=kill_first_workers)
        killer.start()
        assert all(each[0].verdict.accepted for each in found)
        killer.join()
    module = types.ModuleType("only_here")
    module.Lost = type("Lost", (Hostile,), {"__module__": "only_here"})
    monkeypatch.setitem(sys.modules, "only_here", module)
    kind.verifiers["*"] = module.Lost()
    with Judges(kind, 2) as judges, pytest.raises(UserError, match=r"end before they judge anything.*\n.*import"):
        list(judges.judge(cases[:1]))


NOTHING_RUNS = '''
import os, sys
HOSTILE = """__import__('os').system('touch MARK')
$(touch MARK) `touch MARK`
\\\\boxed{__import__('os').system('touch MARK')}
Answer: __import__("os").system("touch MARK")"""
from shards.factory.verifiers import VERIFIERS, Task, judge
truths = {"math": "x^2", "chart2dict": '{"a": 1}', "table2markdown": "| a |\\n| --- |\\n| 1 |", "date": "2024-03-15"}
for name in VERIFIERS:  # what a verifier imports is imported now
    judge("1 + 1 = 2\\nAnswer: 2", VERIFIERS[name](), Task(truths.get(name, "2"), (), "", ("a", "b")))
seen = []
def watch(event, given):
    writes = event == "open" and (str(given[1]).strip("rb") or (given[2] or 0) & (os.O_WRONLY | os.O_RDWR))
    runs = event.split(".")[0] in ("subprocess", "socket", "ctypes") or event in ("os.system", "os.exec", "os.fork")
    runs = runs or event in ("os.posix_spawn", "os.remove", "os.rename", "os.mkdir")
    compiles = event == "compile" and b"touch" in (given[0] if isinstance(given[0], bytes) else str(given[0]).encode())
    if writes or runs or compiles:
        seen.append((event, str(given)[:200]))
sys.addaudithook(watch)
for name in VERIFIERS:
    for text in [HOSTILE, *HOSTILE.splitlines(), "lambda: 0", "Answer: {7*7}", "\\\\boxed{\\\\input{/etc/passwd}}"]:
        table = f"| a |\\n| --- |\\n| {text} |"
        for wrapped in (text, f"Answer: {text}", f"\\\\boxed{{{text}}}", f"$${text}$$", table):
            judge(wrapped, VERIFIERS[name](), Task(truths.get(name, "2"), (), "", ("a", "b")))
print(seen, os.path.exists("MARK"))
'''


def test_nothing_of_a_response_is_run(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_RUNS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[] False\n", done.stderr
