"""What `.ci/wheels` carries to a machine without a network, from an index of wheels made here."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "wheels"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
HERE = f"cp{PYTHON.replace('.', '')}"
PROJECT = """
[project]
name = "fcot"
dependencies = ["torch>=2", "kept>=1", "stale>=2", "absent[more]>=1", "elsewhere; sys_platform == 'win32'"]
[project.optional-dependencies]
big = ["fcot[bigger]"]
bigger = ["large"]
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder of wheels: of some names several versions, or one for each of several Pythons."""
    folder = tmp_path_factory.mktemp("index")

    def add(name, version, *requires, tag="py3-none-any", size=0):
        about = f"{name}-{version}.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Provides-Extra: more"]
        files = {
            f"{name}.py": f"VERSION = {version!r}\n" + "#" * size,
            f"{about}/METADATA": "\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires)]) + "\n",
            f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        files[f"{about}/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{about}/RECORD"])
        with ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)

    for version in ("1.0", "2.0", "3.0"):
        add("stale", version)
    add("absent", "1.0", 'inner; extra == "more"', 'never; extra == "other"', "kept", "old; python_version < '3'")
    for tag in (f"{HERE}-{HERE}-manylinux_2_28_x86_64", "cp39-cp39-manylinux_2_28_x86_64", f"{HERE}-{HERE}-win_amd64"):
        add("inner", "1.0", tag=tag)
    add("large", "1.0", size=20_000)
    return folder


@pytest.fixture
def wheels(index, tmp_path):
    """Return a function that runs the script of a made-up project with options, for a machine with certain packages."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "constraints.txt").write_text("# tested with 1==1\nstale==2.0\nabsent==0.9\n")

    def run(*options, have="torch==2.11.0a0+cu130\nkept==1.5\nstale==1.0\n"):
        (tmp_path / "freeze.txt").write_text(have)
        command = [sys.executable, tmp_path / ".ci" / "wheels", "--have", tmp_path / "freeze.txt", "--python", PYTHON]
        command += ["--no-index", "--find-links", index, *options, tmp_path / "out"]
        return subprocess.run(command, capture_output=True, text=True), tmp_path / "out"

    return run


def test_what_is_missing_or_too_old_is_carried_and_installs_without_an_index(wheels, tmp_path):
    done, folder = wheels()
    assert done.returncode == 0, done.stderr
    carried = {file.name.split("-py3")[0] for file in folder.glob("*.whl")}
    assert carried == {"stale-2.0", "absent-1.0", f"inner-1.0-{HERE}-{HERE}-manylinux_2_28_x86_64.whl"}
    install = shlex.split(done.stdout.splitlines()[-1].replace("DIR", str(tmp_path / "site")))
    subprocess.run([sys.executable, *install[1:]], check=True, capture_output=True)
    assert "'2.0'" in (tmp_path / "site" / "stale.py").read_text()


def test_more_than_the_limit_is_refused_and_nothing_is_left(wheels):
    done, folder = wheels("--extras", "big", "--limit", "0.01")
    assert done.returncode == 1 and "more than 0.01 MB: large-1.0-py3-none-any.whl has 0.0 MB" in done.stderr
    assert not folder.exists()


@pytest.mark.parametrize("torch", ["", "torch==1.13\n"])
def test_torch_is_never_carried(torch, wheels):
    done, folder = wheels(have=f"{torch}kept==1.5\nstale==2.5\nabsent==1.0\n")
    assert done.returncode == 1 and "no torch>=2, which is not carried" in done.stderr
    assert not folder.exists()
