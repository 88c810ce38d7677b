"""What the READMEs tell a reader to type works as it stands there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fcot.cli.commands import VERBS, groups, overview
from fcot.cli.export import export
from fcot.cli.main import main
from fcot.runtime.checkpoints.preemption import EXIT_PREEMPTED

ROOT = Path(__file__).parents[1]
FILES = sorted(
    file
    for folder in (ROOT, *(ROOT / name for name in ("fcot", "shards", "callbacks", "configs")))
    for file in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
    if file.name != "CHANGELOG.md"  # whose entries tell of versions that were
)
TEXTS = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
TRAINER = {name for name, verb in VERBS.items() if verb.target is None}
PROGRAM = r"(?:python -m )?fcot"


def blocks(language: str, *names: str) -> list[str]:
    """Code blocks of a language in the named files, or in all."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.S | re.M)
    found = [match for name in names or TEXTS for match in fenced.findall(TEXTS[name])]
    return [text for kind, text in found if kind == language]


def typed(name: str) -> list[str]:
    """The words after `fcot` of every command in a file: lines of its code blocks, and inline code."""
    fenced = re.compile(r"^```\w*\n.*?^```$", flags=re.S | re.M)
    found = re.findall(rf"(?<!`)`{PROGRAM} ([^`]+)`", fenced.sub("", TEXTS[name]))
    for block in fenced.findall(TEXTS[name]):
        variables = dict(re.findall(r'^([A-Z])="(.*)"$', block, flags=re.M))
        for line in block.replace("\\\n", " ").splitlines():
            command = re.match(rf"(?:\$ |until |srun )?{PROGRAM} ([^;]+)", line)
            if command:
                found.append(re.sub(r"\$([A-Z])\b", lambda match: variables[match[1]], command[1]))  # noqa: B023
    return [" ".join(command.split()) for command in found]


COMMANDS = sorted({command for name in TEXTS for command in typed(name)})


@pytest.fixture
def parse(parse, monkeypatch, tmp_path):
    """Parse a command by the verb's own parser, without running it, where the callback of the README lies."""
    (tmp_path / "mine.py").write_text(blocks("python", "callbacks/README.md")[0])
    monkeypatch.syspath_prepend(tmp_path)
    return parse


def is_whole(command: str) -> bool:
    """Whether more is told than a verb, and no part is left out."""
    return command not in {*VERBS, *groups(), "--help"} and not re.search(r"…|\bVERB\b", command)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_verb_of_a_command_exists(command):
    words = command.split()
    assert {words[0], " ".join(words[:2])} & {*VERBS, "--help", "VERB"} or command in {
        form for group in groups() for form in (group, f"{group} …", f"{group} --help")
    }


@pytest.mark.parametrize("command", [each for each in COMMANDS if is_whole(each)])
def test_options_and_values_of_a_command_are_right(command, parse):
    parse(command)


def test_a_wrong_command_would_be_found(parse, capsys):
    for wrong in ("chat fcot/tiny/student --imge a.png", "fit --config configs/sft_tiny.yaml --trainer.max_steps few"):
        with pytest.raises(AssertionError):
            parse(wrong)
    assert "imge" in capsys.readouterr().err
    assert len(COMMANDS) > 30


def test_the_overview_fits_a_terminal_of_80_columns():
    assert max(map(len, overview().splitlines())) <= 80


def test_the_front_page_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 140
    assert len(TEXTS["README.md"].split()) <= 1700


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", TEXTS[name]):
        if not target.startswith("http"):
            assert ((ROOT / name).parent / target).exists(), target


def test_every_readme_can_be_reached_from_the_front_page():
    seen, pending = set(), [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)\)", page.read_text(encoding="utf-8"))
        pages = {(page.parent / link).resolve() for link in links if not link.startswith("http")}
        pending += pages - seen
    cards = {file for file in FILES if file.parent.parent.name == "tiny"}  # of models, not of rooms
    assert set(FILES) - cards <= seen


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "CONTRIBUTING.md"])
def test_every_file_that_is_named_exists(name):
    for path in re.findall(r"(?<![\w/])((?:configs|fcot|callbacks|shards)/[\w./-]+)", TEXTS[name]):
        assert (ROOT / path.rstrip(".")).exists(), path


def in_folder(source: str, folder: Path) -> str:
    """What a Python program prints that is run in a folder with this project's pictures."""
    (folder / ".github").symlink_to(ROOT / ".github")
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    process = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout


@pytest.mark.slow
def test_python_on_the_front_page_trains_saves_loads_and_answers(tmp_path):
    (source,) = blocks("python", "README.md")
    printed = in_folder(source, tmp_path)
    assert "8 visual tokens a tile\n" in printed
    assert re.search(r"^> City\?\n.+", printed, flags=re.M)
    assert (tmp_path / "runs/few/student/model.safetensors").is_file()


def test_python_for_an_exported_student_reads_a_page(tmp_path):
    (source,) = blocks("python", "fcot/export/README.md")
    export(ROOT / "fcot/tiny/student", tmp_path / "exported/reader-8b")
    asked = source.replace("What is the total?", "Code?").replace("invoice.png", ".github/images/form.png")
    assert in_folder(asked, tmp_path).strip() == "IN"


def test_python_for_a_student_says_its_tokens(tmp_path):
    (source,) = blocks("python", "fcot/models/README.md")
    (folder,) = re.findall(r'from_pretrained\("(.*)"\)', source)
    assert "8 visual tokens" in in_folder(source.replace(folder, str(ROOT / "fcot/tiny/student")), tmp_path)


def test_the_first_question_of_the_front_page_is_answered(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (command,) = (each for each in typed("README.md") if each.startswith("chat fcot/tiny/student"))
    main(shlex.split(command))
    assert capsys.readouterr().out.splitlines()[-1] == "IN"


@pytest.mark.slow
@pytest.mark.parametrize("command", [each for each in COMMANDS if "--device meta" in each])
def test_flops_are_counted_without_weights(command, capsys):
    main(shlex.split(command))
    assert "TFLOP" in capsys.readouterr().out


@pytest.fixture
def folder_with_callback(tmp_path, monkeypatch):
    (source,) = (block for block in blocks("python", "callbacks/README.md") if "class LossAlarm" in block)
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
    (command,) = (each for each in typed("callbacks/README.md") if "mine.LossAlarm" in each)
    main([*shlex.split(command), *tiny_run(tiny_checkpoint, tiny_shards)])
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
    lines = [line for block in blocks("", "shards/README.md") for line in block.splitlines()]
    commands = [line.removeprefix("fcot ") for line in lines if line.startswith("fcot shards")]
    named = {each for name in TEXTS for each in typed(name) if re.match(r"shards \w+ FOLDER", each)}
    commands += [command.replace("FOLDER", "data/mine/train") for command in sorted(named)]
    assert len(commands) >= 6
    for command in commands:
        main(shlex.split(command))
    assert (tmp_path / "sheet.png").is_file()
    assert "1 pages in 1 shards" in capsys.readouterr().out


def test_the_command_that_goes_on_after_every_interruption_does(tmp_path):
    """With a stand-in for the run: asked to leave twice, then done; asked to leave once, then failed."""
    (loop,) = (line for line in TEXTS["fcot/runtime/README.md"].splitlines() if line.startswith("until "))
    run = loop.removeprefix("until ").partition(";")[0]
    for codes in ([EXIT_PREEMPTED, EXIT_PREEMPTED, 0], [EXIT_PREEMPTED, 1]):
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        script = "run() { code=$(head -1 codes); sed -i 1d codes; return $code; }\n" + loop.replace(run, "run")
        subprocess.run(["bash", "-c", script], cwd=tmp_path, timeout=60, check=False)
        assert (tmp_path / "codes").read_text() == ""


@pytest.mark.parametrize("transcript", blocks("console"))
def test_a_conversation_with_the_tiny_student_goes_as_the_readme_shows_it(transcript, type_in_terminal):
    command, *shown = transcript.splitlines()
    spoken = [line.removeprefix("> ") + "\n" for line in shown if line.startswith("> ")]
    assert type_in_terminal(shlex.split(command)[2:], spoken).splitlines() == shown
