"""What `import fcot` gives, and that every name which users are told exists."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import fcot

ROOT = Path(__file__).parents[1]
# a class or function by its dotted path, as messages and documents name it
TOLD = re.compile(r"(?<![\w.])((?:fcot|shards|callbacks)(?:\.[a-z_]+)*\.[A-Z]\w+)\b(?!\.(?:py|yaml|md))")


def told() -> list[str]:
    """Every dotted name of a class in sources and documents."""
    files = [*ROOT.glob("*.md")]
    for folder in ("fcot", "shards", "callbacks", "configs"):
        files += [file for kind in ("*.py", "*.md", "*.yaml") for file in (ROOT / folder).rglob(kind)]
    texts = (file.read_text(encoding="utf-8") for file in files if file.name != "CHANGELOG.md")
    return sorted({name for text in texts for name in TOLD.findall(text)})


@pytest.mark.parametrize("name", told())
def test_a_name_that_users_are_told_is_there(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(import_module(module), attribute)


@pytest.mark.parametrize("name", fcot.__all__)
def test_public_names_are_there(name):
    assert getattr(fcot, name).__name__ == name


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'Studnet'.*Realign, SFT"):
        _ = fcot.Studnet


def test_importing_fcot_imports_no_torch():
    check = "import fcot, sys; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lightning')))"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_names_of_0_1_0_that_are_written_in_folders_of_users_are_kept():
    for name in ("fcot.student.CompressedInternVL", "fcot.sft.SFT", "fcot.realign.Realign"):
        module, _, attribute = name.rpartition(".")
        assert getattr(import_module(module), attribute) is getattr(fcot, attribute)


def test_what_other_programs_look_for_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["entry-points"] | {"scripts": project["scripts"]}
    assert set(groups) == {"lmms_eval.models", "vllm.general_plugins", "scripts"}
    for target in (target for group in groups.values() for target in group.values()):
        module, _, attribute = target.partition(":")
        assert callable(getattr(import_module(module), attribute)), target
