"""What fcot says and keeps does not depend on the encoding of the terminal or the locale."""

import io
import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from fcot.cli.commands import VERBS, groups
from fcot.cli.main import main

ROOT = Path(__file__).parents[2]
ENCODINGS = ("ascii", "latin-1")


@contextmanager
def terminal(encoding):
    """A terminal of a small character set; afterwards it tells what it was sent."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    shown = []
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        yield shown
    for stream in streams:
        stream.flush()
        shown.append(stream.buffer.getvalue().decode(encoding))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("words", [[], *([group] for group in sorted(groups()))])
def test_the_overview_is_shown_on_any_terminal(words, encoding):
    with terminal(encoding) as shown:
        main(words)
    assert f"Usage: {' '.join(['fcot', *words])} VERB ?" in shown[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("verb", [name for name in VERBS if name not in ("validate", "test", "predict")])
def test_every_help_is_shown_on_any_terminal(verb, encoding):
    with terminal(encoding) as shown, pytest.raises(SystemExit) as stopped:
        main([*verb.split(), "--help"])
    assert stopped.value.code == 0
    assert "sage: " in shown[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_error_is_shown_on_any_terminal(encoding):
    with terminal(encoding) as shown, pytest.raises(SystemExit) as stopped:
        main(["chat…"])
    assert stopped.value.code == 2
    assert "There is no verb 'chat?'" in shown[1]


@pytest.mark.slow
def test_files_are_utf8_in_a_locale_without_letters(tiny_checkpoint, tiny_shards, tmp_path):
    settings = f"""\
# Prüfung
model:
  class_path: SFT
  init_args:
    checkpoint: {tiny_checkpoint}
    label: geprüft
    max_new_tokens: 2
trainer: {{accelerator: cpu, default_root_dir: run, enable_progress_bar: false}}
data: {{root: {tiny_shards}, num_workers: 0}}
"""
    (tmp_path / "run.yaml").write_text(settings, encoding="utf-8")
    words = ["test", "--config", "run.yaml", "--trainer.limit_test_batches", "1"]
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "fcot", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "label: geprüft" in (tmp_path / "run" / "config_test.yaml").read_text(encoding="utf-8")
