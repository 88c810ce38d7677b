"""What every engine promises: results in order, a job that dies is run again, what fails is named."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fcot.cli.main import main
from fcot.errors import UserError
from shards.engines import ENGINES, Local, executor
from tests.shards.engines import jobs

LIBRARIES = {"ray": "ray", "dask": "distributed"}


def cluster(name):
    marks = [pytest.mark.slow, pytest.mark.skipif(not find_spec(LIBRARIES[name]), reason=f"{name} is not installed")]
    return pytest.param(name, marks=marks)


@pytest.fixture(scope="module", params=["local", cluster("ray"), cluster("dask")])
def engine(request):
    with executor(request.param, workers=2) as opened:
        yield opened


def numbered(path, count=6):
    return [(path / f"shard-{number}", number) for number in range(count)]


def test_results_come_in_the_order_of_the_jobs_from_the_folder_of_the_command(engine, tmp_path, monkeypatch):
    rows = numbered(tmp_path)
    assert list(engine.map(jobs.name_of, rows, token=tmp_path / "driver")) == [f"{path}:{n}" for path, n in rows]
    assert not list(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("found", encoding="utf-8")
    found = list(engine.map(jobs.where, [(Path("a"),), (Path("a"),)], token=Path("driver")))
    assert found == [(tmp_path, "found")] * 2


def test_a_job_whose_worker_is_killed_runs_again(engine, tmp_path):
    rows = [(tmp_path / "tried", number) for number in range(6)]
    assert list(engine.map(jobs.killed_once, rows)) == list(range(6))
    assert (tmp_path / "tried").exists()


def test_what_a_job_raises_comes_back_and_names_the_job(engine, tmp_path):
    results = engine.map(jobs.fails, numbered(tmp_path), token=tmp_path / "driver")
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="no 2") as caught:
        next(results)
    assert caught.value.__notes__ == [f"Raised by the job of {tmp_path / 'shard-2'}."]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_named(engine, tmp_path):
    results = engine.map(jobs.always_killed, numbered(tmp_path, 2))
    assert next(results) == 0
    with pytest.raises(UserError, match=r"shard-1: its worker died 4 times.*\n.*run the same command again"):
        next(results)


def test_a_worker_on_another_disk_is_refused(engine, tmp_path):
    absent = tmp_path / "only-here"
    with pytest.raises(UserError, match=r"does not see .*only-here, which the command reads"):
        list(engine.map(jobs.name_of, numbered(tmp_path), token=tmp_path / "driver", reads=[absent]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "rai"}, r"There is no engine 'rai'\. Did you mean 'ray'\?"),
        ({"workers": 0}, r"--workers is 0"),
        ({"address": "auto"}, r"--address is auto, and the engine local works on this machine alone"),
        ({"engine": "ray", "address": "auto", "workers": 2}, r"--workers is 2, and the cluster at auto decides itself"),
        ({"engine": "dask", "address": "tcp://h:1", "workers": 2}, r"Leave --workers out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(UserError, match=message), executor(**options):
        pass


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_that_is_missing_is_named_with_its_extra(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)  # as if it were not installed
    with pytest.raises(SystemExit):
        main(["shards", "build", "--output", str(tmp_path), "--engine", name])
    assert f'Install it: pip install "fcot[{name}]"' in capsys.readouterr().err


def test_nothing_of_an_engine_is_imported_before_it_is_asked_for():
    code = "import sys, shards.cli, shards.engines; print(sorted({'ray', 'dask', 'distributed'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_names_the_engines(capsys):
    with pytest.raises(SystemExit):
        main(["shards", "import", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"local (this machine), {' or '.join(name for name in sorted(ENGINES, reverse=True) if name != 'local')}"
        in said
    )


def test_one_worker_is_this_process_and_starts_no_job_that_nobody_waits_for(tmp_path):
    begun = []
    results = Local(workers=1).map(begun.append, [(1,), (2,), (3,)], token=tmp_path / "driver")
    next(results)
    assert not (tmp_path / "driver").exists()  # several commands may index a set at once, on a disk without locks
    results.close()
    assert begun == [1]
    assert not list(tmp_path.iterdir())
