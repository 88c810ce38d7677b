import ast
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import fcot.merge
from fcot.errors import UserError
from fcot.merge import check_same_tensors, fingerprint, open_weights, write_weights


def tensors(count=5):
    return {f"layers.{number}.weight": torch.full((8, 4), float(number)) for number in range(count)}


def same(weights, expected):
    return set(weights) == set(expected) and all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_small_model_is_one_file_and_a_larger_one_is_shards_with_an_index(tmp_path):
    write_weights(tmp_path / "small", tensors().items())
    write_weights(tmp_path / "large", tensors().items(), max_shard_bytes=2 * 8 * 4 * 4)
    assert [file.name for file in (tmp_path / "small").iterdir()] == ["model.safetensors"]
    assert sorted(file.name for file in (tmp_path / "large").iterdir()) == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]
    assert same(open_weights(tmp_path / "small"), tensors())
    assert same(open_weights(tmp_path / "large"), tensors())
    index = json.loads((tmp_path / "large" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 5 * 8 * 4 * 4


def test_a_tensor_larger_than_a_shard_gets_its_own(tmp_path):
    write_weights(tmp_path, tensors(2).items(), max_shard_bytes=1)
    assert same(open_weights(tmp_path), tensors(2))


def test_a_single_file_holds_one_shard_and_refuses_more(tmp_path):
    write_weights(tmp_path / "new" / "s.safetensors", tensors().items())
    assert same(open_weights(tmp_path / "new" / "s.safetensors"), tensors())
    with pytest.raises(ValueError, match=r"Give a folder, or a larger max_shard_bytes"):
        write_weights(tmp_path / "t.safetensors", tensors().items(), max_shard_bytes=100)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_tied_tensors_are_written_under_both_names(tmp_path):
    embedding = torch.randn(4, 3)
    write_weights(tmp_path, [("embed", embedding), ("head", embedding)])
    assert same(open_weights(tmp_path), {"embed": embedding, "head": embedding})


def test_files_carry_the_header_transformers_asks_for(tmp_path):
    from safetensors import safe_open

    write_weights(tmp_path / "a.safetensors", tensors().items())
    write_weights(tmp_path / "b.safetensors", tensors().items(), {"step": "7"})
    with safe_open(tmp_path / "a.safetensors", "pt") as a, safe_open(tmp_path / "b.safetensors", "pt") as b:
        assert (a.metadata(), b.metadata()) == ({"format": "pt"}, {"step": "7"})


def test_shapes_and_dtypes_are_known_without_reading(tmp_path):
    write_weights(tmp_path, [("x", torch.zeros(2, 3, dtype=torch.bfloat16)), ("n", torch.tensor(4))])
    weights = open_weights(tmp_path)
    assert weights.layout == {"x": (torch.bfloat16, (2, 3)), "n": (torch.int64, ())}
    assert "x" in weights and "y" not in weights and len(weights) == 2
    with pytest.raises(KeyError, match="has no tensor 'y'"):
        weights["y"]


def test_writing_to_a_tensor_that_was_read_does_not_change_the_file(tmp_path):
    write_weights(tmp_path, tensors().items())
    open_weights(tmp_path)["layers.1.weight"].zero_()
    assert same(open_weights(tmp_path), tensors())


def test_missing_checkpoints_are_errors_that_name_the_path(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint at .*nowhere"):
        open_weights(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds neither model.safetensors nor"):
        open_weights(tmp_path)
    write_weights(tmp_path, tensors().items(), max_shard_bytes=256)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00003.safetensors is missing"):
        open_weights(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not tensors, but long enough for a header"])
def test_a_file_of_another_format_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "s.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"s.ckpt is not a complete safetensors file"):
        open_weights(tmp_path / "s.ckpt")


def test_a_truncated_file_is_an_error_that_names_it(tmp_path):
    write_weights(tmp_path, tensors().items())
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"model.safetensors is not a complete safetensors file"):
        open_weights(tmp_path)


def test_an_index_that_disagrees_with_its_shards_is_an_error(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "one.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "two.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "one.safetensors", "y": "one.safetensors"}}))
    with pytest.raises(ValueError, match="promises tensor 'y'"):
        open_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": {"x": "one.safetensors", "y": "two.safetensors"}}))
    with pytest.raises(ValueError, match=r"holds tensor 'x' in one.safetensors and in two.safetensors"):
        open_weights(tmp_path)
    index.write_text("[]")
    with pytest.raises(ValueError, match="is not a safetensors index"):
        open_weights(tmp_path)


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no tensors to write"):
        write_weights(tmp_path, [])


def test_checkpoints_must_have_the_same_tensors(tmp_path):
    write_weights(tmp_path / "base", tensors(3).items())
    write_weights(tmp_path / "fewer", tensors(2).items())
    write_weights(tmp_path / "other", [*tensors(2).items(), ("layers.2.weight", torch.zeros(4, 8))])
    write_weights(tmp_path / "half", [(name, tensor.half()) for name, tensor in tensors(3).items()])
    base, fewer, other, half = (open_weights(tmp_path / name) for name in ("base", "fewer", "other", "half"))
    check_same_tensors(base, [base, tensors(3)])
    with pytest.raises(ValueError, match=r"fewer lacks tensor 'layers.2.weight', which .*base has"):
        check_same_tensors(base, [base, fewer])
    with pytest.raises(ValueError, match=r"fewer lacks tensor 'layers.2.weight', which .*base has"):
        check_same_tensors(fewer, [base])
    with pytest.raises(ValueError, match=r"is float32 \[4, 8\] in .*other but float32 \[8, 4\] in .*base"):
        check_same_tensors(base, [other])
    with pytest.raises(ValueError, match=r"is float16 \[8, 4\] in .*half but float32 \[8, 4\] in .*base"):
        check_same_tensors(base, [half])


def test_a_fingerprint_is_of_the_contents_and_not_of_the_files(tmp_path):
    write_weights(tmp_path / "one", tensors().items())
    write_weights(tmp_path / "many", reversed(tensors().items()), max_shard_bytes=1)
    prints = {fingerprint(open_weights(tmp_path / "one")), fingerprint(open_weights(tmp_path / "many"))}
    assert prints == {fingerprint(tensors())}
    changed = tensors()
    changed["layers.4.weight"][7, 3] += 1e-6
    renamed = {name.replace("4", "5"): tensor for name, tensor in tensors().items()}
    assert len({fingerprint(tensors()), fingerprint(changed), fingerprint(renamed)}) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_a_fingerprint_refuses_nan_and_names_checkpoint_and_tensor(tmp_path, dtype):
    broken = torch.tensor([1.0, float("nan"), 2.0]).to(dtype)
    write_weights(tmp_path / "s", [("fine", torch.zeros(3)), ("broken", broken)])
    with pytest.raises(ValueError, match=r"'broken' of .*/s holds NaN or infinity"):
        fingerprint(open_weights(tmp_path / "s"))


def test_merging_needs_nothing_beyond_torch_numpy_and_safetensors():
    allowed = {*sys.stdlib_module_names, "torch", "numpy", "safetensors"}
    for file in Path(fcot.merge.__file__).parent.rglob("*.py"):
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            match statement:
                case ast.Import(names=names):
                    imported = [alias.name for alias in names]
                case ast.ImportFrom(module=module):
                    imported = [module]
                case _:
                    imported = []
            for name in imported:
                rooms = ("fcot.merge", "fcot.files", "fcot.errors", "fcot.registry", "fcot.statistics")
                own = name.startswith(rooms)
                assert own or name.split(".")[0] in allowed, f"{file} imports {name}"
