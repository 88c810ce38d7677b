import json
import shutil

import pytest
from packaging.specifiers import SpecifierSet

from fcot.cli.main import main
from fcot.convert.auto_convert import native_folder
from fcot.convert.original import convert_to_original
from fcot.doctor.devices import devices
from fcot.doctor.tables import version_lines
from fcot.doctor.versions import Installed
from fcot.serve.vllm_versions import Found


def test_it_says_versions_devices_costs_and_finds_nothing(tiny_checkpoint, capsys):
    main(["doctor", "--checkpoint", str(tiny_checkpoint), "--page", "112x56", "--ratio", "4", "--num_devices", "4"])
    out = capsys.readouterr().out
    assert "2x1 tiles of 56 pixels and a thumbnail: 3 tiles" in out
    assert "14 tokens before compression, 5 at ratio 4" in out
    assert "lightning" in out and "cores" in out and "fsdp2 x4" in out
    assert "not installed; only `serve --engine vllm` needs it" in out
    assert [
        line.split()[0] for line in out.splitlines() if line.startswith("  re-align") or line.startswith("  sft")
    ] == [
        "re-align",
        "sft",
    ]
    assert out.endswith("What would fail later\n  nothing was found\n")


@pytest.mark.parametrize(
    ("version", "said"),
    [("0.32.0+cpu", "known to serve exported students"), ("0.99.1", "not among the versions known to serve")],
)
def test_it_says_whether_the_vllm_here_is_known_to_serve_students(version, said):
    lines = version_lines([Installed("torch", "2.13.0", SpecifierSet(">=2.9"))], devices(), Found("vllm", version))
    (line,) = [line for line in lines if "vllm" in line]
    assert version in line and said in line


def test_a_size_is_reckoned_with_before_its_weights_are_here(capsys):
    main(["doctor", "--checkpoint", "8b"])
    out = capsys.readouterr().out
    assert "vision 304.01 M, projector 33.57 M" in out
    assert "3330 tokens before compression, 1666 at ratio 2" in out
    assert "\n  re-align" in out and "\n  sft" in out  # its rope is dynamic
    assert out.endswith("nothing was found\n")


def test_what_is_wrong_ends_it_with_an_error(tiny_checkpoint, tmp_path, capsys):
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--checkpoint", str(copy)])
    assert stopped.value.code == 1
    assert "  - There are no weights in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("llava", "describes a 'llava' model, not a native InternVL"),
        ("internvl_chat", "config.json has no"),
    ],
)
def test_another_model_is_said_to_be_one(tmp_path, capsys, kind, said):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(SystemExit):
        main(["doctor", "--checkpoint", str(tmp_path)])
    out = capsys.readouterr().out
    assert said in out and "Versions" in out


@pytest.fixture
def original(tiny_checkpoint, tmp_path):
    """The tiny teacher in the layout of InternVL2's authors, which training converts by itself."""
    convert_to_original(tiny_checkpoint, tmp_path / "teacher")
    return tmp_path / "teacher"


def test_what_training_converts_by_itself_is_nothing_that_fails(original, capsys):
    main(["doctor", "--checkpoint", str(original), "--page", "112x56"])
    before = capsys.readouterr().out
    assert f"training converts it to {original}-native, once" in before
    assert before.endswith("nothing was found\n")
    assert [path.name for path in original.parent.iterdir()] == ["teacher"]  # it only looks
    native_folder(original)
    capsys.readouterr()
    main(["doctor", "--checkpoint", str(original), "--page", "112x56"])
    after = capsys.readouterr().out
    assert f"converted to {original}-native" in after
    assert after.endswith("nothing was found\n")


@pytest.mark.parametrize("converted", [False, True])
def test_what_fails_in_a_conversion_or_has_failed_in_one_is_said(original, capsys, converted):
    if converted:
        (native_folder(original) / "model.safetensors").unlink()
    else:
        (original / "model.safetensors").unlink()
    with pytest.raises(SystemExit):
        main(["doctor", "--checkpoint", str(original), "--page", "112x56"])
    assert "  - There are no weights in" in capsys.readouterr().out


def test_what_a_folder_in_the_original_layout_lacks_is_said_of_that_folder(original, capsys):
    (original / "tokenizer.json").unlink()
    with pytest.raises(SystemExit):
        main(["doctor", "--checkpoint", str(original), "--page", "112x56"])
    assert f"  - {original} has no tokenizer" in capsys.readouterr().out
