"""The verbs: each has its function, and answers for help without heavy imports."""

import subprocess
import sys
from importlib import import_module

import pytest

from fcot.cli.commands import VERBS, one_list
from fcot.cli.main import main


def test_every_tool_verb_has_its_function():
    for verb in VERBS.values():
        if verb.target is not None:
            module, name = verb.target.split(":")
            assert callable(getattr(import_module(module), name))


def many(models: list[str], number: int = 0, threshold: float = 0.0):
    """What a verb of any number of models looks like."""


def perhaps(models: list[str] | None = None, number: int = 0):
    """The same where they may be left out."""


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("A B --number 4", '["A", "B"] --number 4'),
        ("--number 4 A B", '["A", "B"] --number 4'),
        ("A --number=4 B", '["A", "B"] --number=4'),
        ("--threshold -0.5 A", '["A"] --threshold -0.5'),
        ("--number --threshold 1", "--number --threshold 1"),  # a value is missing, which the parser speaks about
        ("--print_config A", '["A"] --print_config'),
        ("A --help", '["A"] --help'),
    ],
)
def test_words_that_are_no_options_may_stand_anywhere(words, given):
    assert " ".join(one_list(many, words.split())) == given
    if given.startswith("["):
        assert " ".join(one_list(perhaps, words.split())) == f"--models {given}"


def test_overview_and_tool_help_answer_without_lightning():
    script = """
import sys
from fcot.cli.main import main
main([])
assert not {"torch", "lightning", "jsonargparse"} & set(sys.modules)
for words, light in ((["shards", "build", "--help"], "torch"), (["merge", "--help"], "lightning")):
    try:
        main(words)
    except SystemExit as stopped:
        assert stopped.code == 0
    assert light not in sys.modules, words
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, verb in VERBS.items():
        assert f"  {name} " in done.stdout
        assert verb.summary in done.stdout
    assert "type: Path" in done.stdout and "<class" not in done.stdout


def test_shards_build_draws_the_sets_asked_for(tmp_path, capsys):
    sizes = ["--train", "3", "--dev", "2", "--test", "0", "--workers", "1"]
    main(["shards", "build", "--recipe", "letters", "--output", str(tmp_path / "set"), *sizes])
    assert sorted(folder.name for folder in (tmp_path / "set").iterdir()) == ["dev", "train"]
    assert "3 pages in 1 shards" in " ".join(capsys.readouterr().out.split())
