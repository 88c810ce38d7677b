"""What is wrong with a folder is said in two lines that name file and tensor, and nothing is left behind."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from fcot.convert.native import convert_to_native
from fcot.convert.original import convert_to_original
from fcot.errors import UserError

QKV = "language_model.model.layers.1.attention.wqkv.weight"


@pytest.fixture
def copy(make_original, tmp_path):
    """Return a function that copies a checkpoint of the original layout, to be broken."""

    def make(**options):
        folder = tmp_path / "InternVL2"
        shutil.copytree(make_original(**options), folder)
        return folder

    return make


def said(folder, tmp_path, convert=convert_to_native):
    with pytest.raises(UserError) as caught:
        convert(folder, tmp_path / "new")
    assert len(str(caught.value).splitlines()) <= 2
    assert not list(tmp_path.glob("new*"))  # nothing that looks whole, and nothing half
    return str(caught.value)


def change(folder, **changes):
    """Replace tensors of the one file of a checkpoint; None removes one."""
    file = folder / "model.safetensors"
    weights = {**load_file(file), **changes}
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, file)


def configure(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("options", [{}, {"shards": 3}], ids=["one file", "shards"])
@pytest.mark.parametrize("share", [0.9, 0.3])
def test_a_truncated_file_is_named_with_its_first_missing_tensor(copy, tmp_path, options, share):
    folder = copy(**options)
    file = sorted(folder.glob("*.safetensors"))[-1]
    header = json.loads(file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")])
    size = int(file.stat().st_size * share)
    os.truncate(file, size)
    held = size - file.stat().st_size + size - 8 - len(json.dumps(header, separators=(",", ":")))
    message = said(folder, tmp_path)
    assert f"{file} is cut short" in message
    name = message.split("tensor '")[1].split("'")[0]
    assert header[name]["data_offsets"][1] > held


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_file_cut_in_its_header_is_named_with_a_tensor_of_it(copy, tmp_path, size):
    folder = copy()
    os.truncate(folder / "model.safetensors", size)
    message = said(folder, tmp_path)
    assert f"{folder / 'model.safetensors'} is cut short" in message and "tensor 'vision_model." in message


@pytest.mark.parametrize("header", [b"[]", b"{}", b'{"a": 1}', b'{"a": {"data_offsets": "x"}}', b"\xff\xfe"])
def test_a_file_of_another_kind_is_named(copy, tmp_path, header):
    folder = copy()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    message = said(folder, tmp_path)
    assert str(folder) in message and "tensor 'vision_model.embeddings." in message


@pytest.mark.parametrize("pickled", [False, True])
def test_a_missing_shard_is_named_with_a_tensor_of_it(copy, tmp_path, pickled):
    folder = copy(shards=3, pickled=pickled)
    file = next(folder.glob("*00002-of-00003*"))
    held = next(iter(torch.load(file) if pickled else load_file(file)))
    file.unlink()
    message = said(folder, tmp_path)
    assert f"{file} is missing" in message
    weight_map = json.loads(next(folder.glob("*.index.json")).read_text())["weight_map"]
    assert held in weight_map and weight_map[message.split("'")[1]] == file.name


def test_a_tensor_the_index_promises_in_vain_is_named(copy, tmp_path):
    folder = copy(shards=2)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["mlp1.9.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    assert f"{index} promises tensor 'mlp1.9.weight' in model-00001-of-00002.safetensors" in said(folder, tmp_path)


@pytest.mark.parametrize("pickled", [False, True])
def test_shards_without_their_index_are_told_from_no_weights(copy, tmp_path, pickled):
    folder = copy(shards=2, pickled=pickled)
    index = next(folder.glob("*.index.json"))
    index.unlink()
    assert f"{index} is missing" in said(folder, tmp_path)


def test_an_index_does_not_lead_out_of_its_folder(copy, tmp_path):
    folder = copy(shards=2)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["mlp1.0.bias"] = "../elsewhere.safetensors"
    index.write_text(json.dumps(content))
    assert "promises tensor 'mlp1.0.bias' in '../elsewhere.safetensors'" in said(folder, tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": []}', '{"weight_map": {"x": 1}}'])
def test_a_broken_index_is_named(copy, tmp_path, content):
    folder = copy(shards=2)
    (folder / "model.safetensors.index.json").write_text(content)
    assert str(folder / "model.safetensors.index.json") in said(folder, tmp_path)


def test_an_unknown_tensor_is_named(copy, tmp_path):
    folder = copy()
    change(folder, **{"language_model.model.layers.0.attention.wqkv.lora_A.weight": torch.zeros(2, 2)})
    message = said(folder, tmp_path)
    assert "model.safetensors holds tensor 'language_model.model.layers.0.attention.wqkv.lora_A.weight'" in message


@pytest.mark.parametrize("name", [QKV, "mlp1.0.bias", "language_model.output.weight"])
def test_a_missing_tensor_is_named(copy, tmp_path, name):
    folder = copy()
    change(folder, **{name: None})
    message = said(folder, tmp_path)
    assert f"{folder / 'config.json'} asks for tensor '{name}', which model.safetensors beside it lacks" in message


def test_a_tensor_of_another_shape_is_named_with_both(copy, tmp_path):
    folder = copy()
    change(folder, **{QKV: torch.zeros(64, 64)})
    message = said(folder, tmp_path)
    assert f"Tensor '{QKV}' in {folder / 'model.safetensors'} has shape [64, 64]" in message
    assert "asks for [128, 64]" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_that_is_no_number_is_named(copy, tmp_path, value, dtype):
    folder = copy(dtype=dtype)
    broken = torch.zeros(128, 64, dtype=dtype)
    broken[3, 5] = value
    change(folder, **{QKV: broken})
    assert f"Tensor '{QKV}' in {folder / 'model.safetensors'} holds NaN or infinity" in said(folder, tmp_path)


def test_a_tied_head_that_differs_is_named(copy, tmp_path):
    folder = copy(tie_word_embeddings=True)
    change(folder, **{"language_model.output.weight": torch.zeros(320, 64)})
    message = said(folder, tmp_path)
    assert "Tensor 'language_model.output.weight' in" in message and "config.json ties them" in message


def test_the_4b_is_refused_for_its_language_model(copy, tmp_path):
    folder = copy()
    configure(folder, llm_config={"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}, template="phi3-chat")
    message = said(folder, tmp_path)
    assert str(folder / "config.json") in message and "Phi3ForCausalLM" in message and "4B" in message


@pytest.mark.parametrize("kind", ["qwen2_vl", "llava", "internvl", None])
def test_another_family_is_refused_by_its_type(copy, tmp_path, kind):
    folder = copy()
    configure(folder, model_type=kind)
    message = said(folder, tmp_path)
    assert str(folder / "config.json") in message and repr(kind) in message


def test_a_folder_of_code_alone_is_refused_and_nothing_runs(copy, tmp_path):
    folder = copy()
    (folder / "model.safetensors").unlink()
    assert f"no weights in '{folder}'" in said(folder, tmp_path)
    configure(folder, model_type="somebodys", auto_map={"AutoModel": "modeling_internvl_chat.InternVLChatModel"})
    assert "code (*.py) in a folder is never run" in said(folder, tmp_path)
    (folder / "config.json").unlink()
    assert f"no config.json in '{folder}'" in said(folder, tmp_path)


def test_a_tokenizer_of_code_alone_is_refused_and_nothing_runs(copy, tmp_path):
    folder = copy()
    (folder / "tokenization_internlm2.py").write_text("raise SystemExit('code of the folder was run')")
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["x.Y", None]}}))
    assert f"{folder} has a tokenizer as code only, which is never run" in said(folder, tmp_path)


class Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_code_in_a_bin_file_is_refused_and_not_run(copy, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    folder = copy(pickled=True)
    file = folder / "pytorch_model.bin"
    content = {**torch.load(file), "code": Code()}
    torch.save(content, file) if kind == "torch" else file.write_bytes(pickle.dumps(content))
    assert f"{file} is cut short, or holds something else than weights" in said(folder, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("shards", "name"), [(1, "pytorch_model.bin"), (2, "pytorch_model-00002-of-00002.bin")])
def test_a_truncated_bin_file_is_named_with_a_tensor_of_it(copy, tmp_path, shards, name):
    folder = copy(pickled=True, shards=shards)
    file = folder / name
    os.truncate(file, file.stat().st_size // 2)
    message = said(folder, tmp_path)
    assert f"{file} is cut short" in message and "tensor 'vision_model" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ps_version": "v1"}, "ps_version is 'v1'"),
        ({"use_thumbnail": False}, "use_thumbnail is False"),
        ({"template": "nobodys"}, "no conversation template 'nobodys'"),
        ({"force_image_size": 448}, "force_image_size 448"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_kept_is_named(copy, tmp_path, changes, expected):
    folder = copy()
    configure(folder, **changes)
    message = said(folder, tmp_path)
    assert str(folder / "config.json") in message and expected in message


def test_a_setting_of_another_type_is_named(copy, tmp_path):
    folder = copy()
    llm = json.loads((folder / "config.json").read_text())["llm_config"]
    configure(folder, llm_config={**llm, "intermediate_size": "wide"})
    message = said(folder, tmp_path)
    assert str(folder / "config.json") in message and "intermediate_size" in message


@pytest.mark.parametrize("part", ["vision_config", "llm_config"])
@pytest.mark.parametrize("content", [None, "Qwen2", []])
def test_a_configuration_without_settings_of_a_part_is_named(copy, tmp_path, part, content):
    folder = copy()
    configure(folder, **{part: content})
    assert f"{folder / 'config.json'} has no {part} with settings" in said(folder, tmp_path)


def test_a_folder_that_is_there_is_never_touched(copy, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match=r"mine exists already"):
        convert_to_native(copy(), tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]


KILLED = """
import os, signal, sys
from pathlib import Path
from fcot.convert import native
native.write_native_companions = lambda *args: os.kill(os.getpid(), signal.SIGKILL)  # the weights are written
native.convert_to_native(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_conversion_leaves_nothing_whole_and_can_be_repeated(copy, tmp_path):
    folder = copy()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(tmp_path / "new")])
    assert killed.returncode == -signal.SIGKILL
    (left,) = (path for path in tmp_path.iterdir() if path != folder)
    assert left.name.startswith("new.tmp-")
    assert [file.name for file in left.iterdir()] == ["model.safetensors"]  # no config.json: no model's folder
    convert_to_native(folder, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["InternVL2", "new"]
    assert (tmp_path / "new" / "config.json").is_file()


def test_the_way_back_names_what_is_wrong_too(copy, tmp_path):
    convert_to_native(copy(), tmp_path / "native")
    folder, name = tmp_path / "native", "language_model.model.layers.0.self_attn.k_proj.weight"
    change(folder, **{name: None})
    assert f"asks for tensor '{name}'" in said(folder, tmp_path, convert_to_original)
    change(folder, **{name: torch.zeros(3, 64)})
    assert "has shape [3, 64]" in said(folder, tmp_path, convert_to_original)
    configure(folder, model_type="qwen2_vl")
    assert "'qwen2_vl'" in said(folder, tmp_path, convert_to_original)
