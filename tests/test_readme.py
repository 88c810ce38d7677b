"""What the README tells a reader to type works as it stands there."""

import json
import re
import shlex
import subprocess
from functools import wraps
from importlib import import_module
from pathlib import Path

import pytest

from fcot.cli.commands import find_verb
from fcot.cli.main import dispatch, main
from fcot.runtime.checkpoints.preemption import EXIT_PREEMPTED

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FILES += [file for room in ("fcot", "shards", "callbacks", "configs") for file in sorted((ROOT / room).rglob("*.md"))]
TEXTS = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
ALL = "\n".join(TEXTS.values())


def blocks(language: str, text: str = ALL) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every whole command of fcot in a document: lines of code blocks, and code within a line."""
    found: list[str] = []
    for block in blocks(""):
        lines = block.replace("\\\n", " ").splitlines()
        settings = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]=", line))
        for line in lines:
            for name, value in settings.items():
                line = line.replace(f"${name}", value.strip('"'))
            found += [line] if line.startswith(("fcot ", "python -m fcot ")) else []
    prose = re.sub(r"```.*?```", "", ALL, flags=re.DOTALL)
    # a verb that is only named is no command
    found += [
        code for code in re.findall(r"`((?:python -m )?fcot [^`]+)`", prose) if re.search(r" (?:-|[A-Z]|\w+/)", code)
    ]
    found = [command.replace("NAME.yaml", "realign_tiny.yaml") for command in found]
    return sorted({command for command in found if "VERB" not in command and "…" not in command})


class Parsed(Exception):
    """The options of a command were understood."""


@pytest.mark.parametrize("command", commands())
def test_the_parser_understands_every_command(command, monkeypatch):
    """Verb, options and their values; what it would then do is left out, and files of the reader's are not there."""
    words = shlex.split(command.removeprefix("python -m "))[1:]
    monkeypatch.chdir(ROOT)

    def stop(*_args, **_kwargs):
        raise Parsed

    _, verb = find_verb(words)
    if verb.target is None:
        monkeypatch.setattr("fcot.cli.train.TrainerCLI.before_instantiate_classes", stop)
    else:
        module, function = verb.target.split(":")
        own = getattr(import_module(module), function)

        @wraps(own)
        def parsed(*_args, **_kwargs):
            raise Parsed

        monkeypatch.setattr(f"{module}.{function}", parsed)
    with pytest.raises((Parsed, SystemExit)) as ended:
        dispatch(words)
    assert ended.type is Parsed or ended.value.code == 0  # --help


def test_the_front_page_is_short():
    text = TEXTS["README.md"]
    assert len(text.splitlines()) <= 140
    assert len(text.split()) <= 1700


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", TEXTS[name]):
        assert ((ROOT / name).parent / target).exists(), target


def test_the_python_of_the_front_page_runs(tmp_path, monkeypatch, capsys):
    (source,) = blocks("python", TEXTS["README.md"])
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "README.md", "exec"), {})
    assert "8 visual tokens a tile" in capsys.readouterr().out


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
    (command,) = (line for line in ALL.splitlines() if "mine.LossAlarm" in line)
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
    text = TEXTS["shards/README.md"] + TEXTS["fcot/runtime/README.md"]
    commands = [line for line in text.splitlines() if line.startswith("fcot shards")]
    named = re.findall(r"`(fcot shards.*?)`", text)
    commands += [command.replace("FOLDER", "data/mine/train") for command in named]
    assert len(commands) >= 6
    for command in commands:
        main(shlex.split(command)[1:])
    assert (tmp_path / "sheet.png").is_file()
    assert "1 pages in 1 shards" in capsys.readouterr().out


def test_the_command_that_goes_on_after_every_interruption_does(tmp_path):
    """With a stand-in for the run: asked to leave twice, then done; asked to leave once, then failed."""
    (loop,) = (line for line in ALL.splitlines() if line.startswith("until "))
    run = loop.removeprefix("until ").partition(";")[0]
    for codes in ([EXIT_PREEMPTED, EXIT_PREEMPTED, 0], [EXIT_PREEMPTED, 1]):
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        script = "run() { code=$(head -1 codes); sed -i 1d codes; return $code; }\n" + loop.replace(run, "run")
        subprocess.run(["bash", "-c", script], cwd=tmp_path, timeout=60, check=False)
        assert (tmp_path / "codes").read_text() == ""


def test_every_file_the_readme_names_exists():
    for path in re.findall(r"(?<![\w/])((?:configs|fcot|callbacks|shards)/[\w./-]+)", ALL):
        assert (ROOT / path).exists() or path in ("callbacks/my_callback.py", "configs/NAME.yaml"), path


@pytest.mark.parametrize("transcript", blocks("console"))
def test_a_conversation_with_the_tiny_student_goes_as_the_readme_shows_it(transcript, type_in_terminal):
    command, *shown = transcript.splitlines()
    typed = [line.removeprefix("> ") + "\n" for line in shown if line.startswith("> ")]
    assert type_in_terminal(shlex.split(command)[2:], typed).splitlines() == shown
