"""Every room says what is wrong with a user's input in a few lines, and shows a traceback of its own faults."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fcot.cli.main import main
from fcot.errors import UserError


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_checkpoint, tiny_shards):
    """Working folder of things that are not what a verb takes."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("album.png").mkdir()
    Path("notes").mkdir()
    Path("notes/thesis.txt").write_text("work of years")
    Path("cut.json").write_text('[{"image": ')
    Path("list.json").write_text("[1, 2]")
    Path("no.png").write_bytes(b"no picture")
    Path("no.pdf").write_bytes(b"no document")
    Image.new("RGB", (60, 60)).save("page.png")
    shutil.copytree(tiny_checkpoint, "model")
    shutil.copytree(tiny_shards, "pages")
    for name in ("damaged", "unknown", "unreadable", "lost"):
        shutil.copytree("model", name)
    Path("damaged/model.safetensors").write_bytes(b"\xff" * 64)
    Path("lost/model.safetensors").unlink()
    Path("lost/model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "gone.safetensors"}}')
    Path("unknown/config.json").write_text('{"model_type": "bert"}')
    Path("unreadable/config.json").write_text("{")
    Path("scores/eval").mkdir(parents=True)
    Path("scores/eval/test.json").write_text("{")
    Path("set").mkdir()
    Path("set/manifest.json").write_text("{")
    Path("set/shard-000000.tar").write_bytes(b"no tar")
    return tmp_path


BAD = {
    "convert, no folder": ["convert", "gone", "out"],
    "convert, cut configuration": ["convert", "unreadable", "out"],
    "convert, another architecture": ["convert", "unknown", "out"],
    "convert, damaged weights": ["convert", "damaged", "out"],
    "convert, a folder in the way": ["convert", "model", "notes", "--layout", "original"],
    "convert, a lost shard": ["convert", "lost", "out", "--layout", "original"],
    "report, no folder": ["report", "gone"],
    "report, no scores": ["report", "empty"],
    "report, cut scores": ["report", "scores"],
    "export, no folder": ["export", "gone", "out"],
    "export, no student": ["export", "model", "out"],
    "chat, no folder": ["chat", "gone", "--image", "page.png"],
    "chat, damaged weights": ["chat", "damaged", "--image", "page.png", "--question", "What?"],
    "chat, cut configuration": ["chat", "unreadable", "--image", "page.png", "--question", "What?"],
    "chat, no image": ["chat", "model", "--image", "gone.png", "--question", "What?"],
    "chat, no picture": ["chat", "model", "--image", "no.png", "--question", "What?"],
    "chat, temperature": ["chat", "model", "--image", "page.png", "--question", "What?", "--temperature", "-1"],
    "chat, device": ["chat", "model", "--image", "page.png", "--question", "What?", "--device", "abacus"],
    "merge, no run": ["merge", "empty"],
    "doctor, page": ["doctor", "--page", "wide"],
    "bench, model": ["bench", "infer", "--model", "9z"],
    "bench, page": ["bench", "infer", "--page", "0x5"],
    "bench, compressor": ["bench", "step", "--compressor", "konv"],
    "bench, repeats": ["bench", "preprocess", "--repeats", "0"],
    "bench, rows": ["bench", "loss", "--rows", "0"],
    "bench, results over a folder": ["bench", "preprocess", "--repeats", "1", "--json", "notes"],
    "bench, picture over a folder": ["bench", "preprocess", "--repeats", "1", "--plot", "album.png"],
    "bench, picture format": ["bench", "preprocess", "--repeats", "1", "--plot", "bench.bmpp"],
    "build, recipe": ["shards", "build", "--recipe", "leters", "--output", "out"],
    "build, a folder in the way": ["shards", "build", "--recipe", "letters", "--output", "no.png", "--train", "1"],
    "import, kind": ["shards", "import", "lava", "cut.json", "out"],
    "import, no source": ["shards", "import", "llava", "gone.json", "out"],
    "import, cut source": ["shards", "import", "llava", "cut.json", "out"],
    "import, other content": ["shards", "import", "llava", "list.json", "out"],
    "import, no document": ["shards", "import", "pdf", "no.pdf", "out"],
    "import, no images": ["shards", "import", "folder", "empty", "out"],
    "import, a folder in the way": ["shards", "import", "folder", "notes", "notes"],
    "index, no shards": ["shards", "index", "empty"],
    "inspect, cut manifest": ["shards", "inspect", "set"],
    "inspect, figures over a folder": ["shards", "inspect", "pages/train", "--json", "notes"],
    "verify, no shards": ["shards", "verify", "gone"],
    "fit, no shards": ["fit", "--model", "SFT", "--model.checkpoint", "model", "--data.root", "empty"],
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_a_few_lines(case, place, capsys):
    with pytest.raises(SystemExit) as ended:
        main(BAD[case])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    lines = error[error.index("error: ") :].strip().splitlines()
    assert 1 <= len(lines) <= 6
    assert not [line for line in lines if "Traceback" in line or "usage:" in line]
    assert Path("notes/thesis.txt").read_text() == "work of years"
    if BAD[case][:2] != ["shards", "import"]:  # which leaves the list of what it skipped
        assert not Path("out").exists()


ENTRIES = {
    "fcot.convert.original.read_json": ["convert", "model", "out", "--layout", "original"],
    "fcot.bench.preprocess.publish": ["bench", "preprocess", "--repeats", "1"],
    "shards.format.shard_set.ShardSet.__init__": ["shards", "inspect", "pages/train"],
    "shards.importers.records.RecordImporter.__init__": ["shards", "import", "llava", "list.json", "out"],
    "fcot.report.runs.read_scored": ["report", "scores"],
}


@pytest.mark.parametrize("fault", [ValueError, RuntimeError])
@pytest.mark.parametrize("called", ENTRIES)
def test_a_fault_of_fcots_keeps_its_traceback_in_every_room(called, fault, place, monkeypatch):
    def fails(*_, **__):
        raise fault("a fault of ours")

    monkeypatch.setattr(called, fails)
    with pytest.raises(fault, match="a fault of ours") as shown:
        main(ENTRIES[called])
    assert not isinstance(shown.value, UserError)


def test_a_reader_that_stops_early_gets_no_traceback():
    command = f"{sys.executable} -m fcot --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage")
    assert done.stderr == ""
