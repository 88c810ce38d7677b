"""A run in the working folder, and what a refused command line says."""

from pathlib import Path

import pytest

from fcot.cli.main import main

RUN = """\
trainer:
  max_steps: 6
  checkpoint_every_n_steps: 2
  accelerator: cpu
  default_root_dir: run
  limit_val_batches: 0
  num_sanity_val_steps: 0
  enable_progress_bar: false
model:
  class_path: SFT
  init_args:
    checkpoint: {checkpoint}
    max_new_tokens: 2
    optimizer:
      class_path: AdamW
      init_args: {{lr: 0.001}}
data:
  root: {shards}
  batch_size: 4
  num_workers: 0
  test_samples: 2
"""


@pytest.fixture
def run(tmp_path, monkeypatch, tiny_checkpoint, tiny_shards):
    """Working folder with `run.yaml`; call to change lines of it."""
    monkeypatch.chdir(tmp_path)
    text = RUN.format(checkpoint=tiny_checkpoint, shards=tiny_shards)
    Path("run.yaml").write_text(text)

    def change(old: str, new: str) -> None:
        assert old in text
        Path("run.yaml").write_text(text.replace(old, new))

    return change


@pytest.fixture
def refusal(capsys):
    """Run a command line that is refused; return what it says, checked to be short."""

    def refused(words: list[str]) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        error = error[error.index("error: ") :].strip()
        assert len(error.splitlines()) <= 6
        assert "usage:" not in error
        assert "Traceback" not in error
        return error

    return refused
