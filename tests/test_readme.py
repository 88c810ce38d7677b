"""What the README tells a reader to type works as it stands there."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from fcot.cli.main import main
from fcot.runtime.checkpoints.preemption import EXIT_PREEMPTED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder_with_callback(tmp_path, monkeypatch):
    (source,) = (block for block in blocks("python") if "class LossAlarm" in block)
    assert len([line for line in source.splitlines() if line.strip()]) <= 10
    (tmp_path / "mine.py").write_text(source)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def tiny_run(checkpoint, shards):
    settings = {
        "--model.checkpoint": checkpoint,
        "--data.root": shards,
        "--data.recipe": "null",
        "--data.batch_size": 2,
        "--data.num_workers": 0,
        "--trainer.fast_dev_run": "true",
    }
    return [word for name, value in settings.items() for word in (name, str(value))]


def test_callback_of_the_readme_runs_by_class_path(folder_with_callback, tiny_checkpoint, tiny_shards, capsys):
    (command,) = (line for line in README.splitlines() if "mine.LossAlarm" in line)
    words = shlex.split(command)[1:]
    main([*words, *tiny_run(tiny_checkpoint, tiny_shards)])
    assert re.search(r"step \d+: loss \d+\.\d\d on \[", capsys.readouterr().out)


def test_callback_of_the_readme_runs_by_short_name_once_declared(
    folder_with_callback, tiny_checkpoint, tiny_shards, capsys
):
    (toml,) = blocks("toml")
    name, module = re.findall(r'^(\w+) = "([\w.]+)"', toml, flags=re.MULTILINE)[0]
    info = folder_with_callback / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fcot.plugins]\n{name} = {module}\n")
    words = ["fit", "--config", "configs/realign_tiny.yaml", "--trainer.callbacks+=LossAlarm"]
    main([*words, "--trainer.callbacks.above=1.0", *tiny_run(tiny_checkpoint, tiny_shards)])
    assert re.search(r"step \d+: loss \d+\.\d\d on \[", capsys.readouterr().out)


def test_the_commands_about_shards_work_as_they_stand(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pypdfium2")
    from matplotlib.figure import Figure

    monkeypatch.chdir(tmp_path)
    (tmp_path / "manuals").mkdir()
    page = Figure(figsize=(3, 2))
    page.text(0.1, 0.5, "Total 42.50")
    page.savefig(tmp_path / "manuals" / "a.pdf")
    turns = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]
    (tmp_path / "some.jsonl").write_text(json.dumps({"conversations": turns}))
    (tmp_path / "meta.json").write_text(json.dumps({"sums": {"root": "", "annotation": "some.jsonl"}}))
    commands = [line for line in README.splitlines() if line.startswith("fcot shards")]
    named = re.findall(r"`(fcot shards.*?)`", README)
    commands += [command.replace("FOLDER", "data/mine/train") for command in named]
    assert len(commands) >= 6
    for command in commands:
        main(shlex.split(command)[1:])
    assert (tmp_path / "sheet.png").is_file()
    assert "1 pages in 1 shards" in capsys.readouterr().out


def test_the_command_that_goes_on_after_every_interruption_does(tmp_path):
    """With a stand-in for the run: asked to leave twice, then done; asked to leave once, then failed."""
    (loop,) = (line for line in README.splitlines() if line.startswith("until "))
    run = loop.removeprefix("until ").partition(";")[0]
    for codes in ([EXIT_PREEMPTED, EXIT_PREEMPTED, 0], [EXIT_PREEMPTED, 1]):
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        script = "run() { code=$(head -1 codes); sed -i 1d codes; return $code; }\n" + loop.replace(run, "run")
        subprocess.run(["bash", "-c", script], cwd=tmp_path, timeout=60, check=False)
        assert (tmp_path / "codes").read_text() == ""


def test_every_file_the_readme_names_exists():
    for path in re.findall(r"(?<![\w/])((?:configs|fcot|callbacks|shards)/[\w./-]+)", README):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("transcript", blocks("console"))
def test_a_conversation_with_the_tiny_student_goes_as_the_readme_shows_it(transcript, type_in_terminal):
    command, *shown = transcript.splitlines()
    typed = [line.removeprefix("> ") + "\n" for line in shown if line.startswith("> ")]
    assert type_in_terminal(shlex.split(command)[2:], typed).splitlines() == shown
