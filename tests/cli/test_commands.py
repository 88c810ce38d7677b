"""The verbs: each has its function, and answers for help without heavy imports."""

import subprocess
import sys
from importlib import import_module

from fcot.cli.commands import VERBS
from fcot.cli.main import main


def test_every_tool_verb_has_its_function():
    for verb in VERBS.values():
        if verb.target is not None:
            module, name = verb.target.split(":")
            assert callable(getattr(import_module(module), name))


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
