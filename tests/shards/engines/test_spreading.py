"""`fcot shards … --engine`: the same bytes from every engine, whoever is killed, and with two commands at once."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.build import build_set
from shards.engines import executor
from shards.importers import Settings
from shards.importing import import_set

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
ENGINES = [
    "local",
    pytest.param("ray", marks=pytest.mark.skipif(not find_spec("ray"), reason="ray is not installed")),
    pytest.param("dask", marks=pytest.mark.skipif(not find_spec("distributed"), reason="dask is not installed")),
]
PAGES = 10


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Pages that take a while, each a BMP that is written again as a PNG, and one that cannot be used."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for number in range(PAGES):
        noise = rng.integers(0, 64, (1100, 1100, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02d}.bmp")
        (folder / f"{number:02d}.txt").write_text(f"page {number}" if number != 4 else "", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def reference(source, tmp_path_factory):
    """What one process writes that nothing interrupts."""
    output = tmp_path_factory.mktemp("reference") / "train"
    manifest = import_set("folder", source, output, Settings(), shard_size=1, workers=1)
    assert manifest["skipped"]
    assert manifest["reencoded"]
    return digests(output)


def started(source, output, engine, *more):
    words = ["shards", "import", "folder", source, output, "--shard_size", "1", "--engine", engine, *more]
    workers = [] if "--address" in more else ["--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "fcot", *map(str, words), *workers],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=output.parent,
        env=environment,
    )


def ended(process):
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def writers(folder):
    """The processes that have a file open below a folder."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink().is_relative_to(folder):
                found.add(int(link.parts[2]))
        except OSError:
            continue
    return found


def await_shards(process, output, count):
    partial = output.with_name(f"{output.name}.partial")
    until = time.monotonic() + 100
    while len(list(partial.glob("*.index.safetensors"))) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)
    return partial


def check(output, reference):
    assert digests(output) == reference
    assert [path.name for path in output.parent.iterdir()] == [output.name]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_leaves_no_trace_in_a_set(engine, source, reference, tmp_path):
    process = started(source, tmp_path / "train", engine)
    partial = await_shards(process, tmp_path / "train", 2)
    while not (at_work := writers(partial) - {process.pid}):
        assert process.poll() is None
    os.kill(at_work.pop(), signal.SIGKILL)
    ended(process)
    check(tmp_path / "train", reference)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_command_goes_on_when_it_is_called_again(engine, source, reference, tmp_path):
    process = started(source, tmp_path / "train", engine)
    partial = await_shards(process, tmp_path / "train", 2)
    process.kill()
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in partial.glob("*.index.safetensors")}
    assert 2 <= len(done) < PAGES
    again = started(source, tmp_path / "train", engine)
    ended(again)
    check(tmp_path / "train", reference)
    kept = {partial / path.name: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("*.index.safetensors")}
    assert done.items() <= kept.items()


@pytest.mark.parametrize("engine", ENGINES)
def test_of_two_commands_at_once_one_works_and_the_other_waits(engine, source, reference, tmp_path):
    both = [started(source, tmp_path / "train", engine) for _ in range(2)]
    said = [ended(process) for process in both]
    assert sum("waiting until it is done" in text for text in said) == 1
    check(tmp_path / "train", reference)


@pytest.mark.parametrize("engine", ENGINES)
def test_drawing_indexing_and_verifying_do_not_depend_on_the_engine(engine, tmp_path, capsys):
    from shards.cli import index, verify

    build_set(tmp_path / "one", "letters", "dev", 30, shard_size=10, workers=1)
    with executor(engine, workers=2) as opened:
        build_set(tmp_path / "two", "letters", "dev", 30, shard_size=10, engine=opened)
    one, two = tmp_path / "one" / "dev", tmp_path / "two" / "dev"
    assert digests(two) == digests(one)
    for folder in (one, two):
        for path in (*folder.glob("*.safetensors"), folder / "manifest.json"):
            path.unlink()
    index(one, workers=1)
    index(two, workers=2, engine=engine)
    assert digests(two) == digests(one)
    verify(two, workers=2, engine=engine)
    (two / "shard-000001.tar").write_bytes((two / "shard-000002.tar").read_bytes())
    with pytest.raises(SystemExit):
        verify(two, workers=2, engine=engine)
    assert "dev/shard-000001.tar '': changed_shard" in capsys.readouterr().out


@pytest.mark.skipif(not find_spec("distributed"), reason="dask is not installed")
def test_a_dask_cluster_is_used_by_its_address_and_one_with_threads_is_refused(source, reference, tmp_path):
    from distributed import LocalCluster

    options = {"n_workers": 1, "host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(threads_per_worker=1, **options) as cluster:
        ended(started(source, tmp_path / "train", "dask", "--address", cluster.scheduler_address))
    check(tmp_path / "train", reference)
    with LocalCluster(threads_per_worker=2, **options) as cluster:
        refused = started(source, tmp_path / "other", "dask", "--address", cluster.scheduler_address)
        said, _ = refused.communicate(timeout=100)
    assert refused.returncode == 2
    assert "has 2 threads; shards are written by one a process" in said


@pytest.mark.skipif(not find_spec("ray"), reason="ray is not installed")
def test_a_ray_cluster_is_used_by_its_address(source, reference, tmp_path):
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    head = ["--head", "--port=6399", "--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats", "--block"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    cluster = subprocess.Popen([*ray, "start", *head], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        while "Ray runtime started" not in cluster.stdout.readline():
            assert cluster.poll() is None
        ended(started(source, tmp_path / "train", "ray", "--address", "127.0.0.1:6399"))
    finally:
        cluster.terminate()
        cluster.communicate(timeout=60)
    check(tmp_path / "train", reference)


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_an_address_without_a_cluster_is_said_at_once(engine, source, tmp_path):
    start = time.monotonic()
    process = started(source, tmp_path / "train", engine, "--address", "127.0.0.1:9")
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 2, said
    assert "at 127.0.0.1:9" in said
    assert "Traceback" not in said
    assert time.monotonic() - start < 60
