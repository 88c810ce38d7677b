"""A checkpoint that is written as it is made is one that every reader loads."""

import json

import pytest
import torch
from safetensors.torch import load_file

from fcot.errors import UserError
from fcot.files.stream_weights import DTYPES, stream_weights
from fcot.files.weights import open_weights


def layout_of(tensors):
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def test_tensors_of_every_dtype_and_shape_are_read_back(tmp_path):
    tensors = {"flag": torch.tensor([True]), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    tensors |= {str(dtype): torch.arange(6).view(2, 3).to(dtype) for dtype in DTYPES}
    tensors["turned"] = torch.arange(6.0).view(2, 3).T
    stream_weights(tmp_path, tensors, layout_of(tensors))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    for read in (load_file(tmp_path / "model.safetensors"), open_weights(tmp_path)):
        assert set(read) == set(tensors)
        for name, tensor in tensors.items():
            assert read[name].dtype == tensor.dtype and torch.equal(read[name].double(), tensor.double()), name
    data = (tmp_path / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    # aligned in the file too, although a single boolean was the first
    starts = {name: 8 + size + header[name]["data_offsets"][0] for name in tensors}
    assert all(starts[name] % tensor.itemsize == 0 for name, tensor in tensors.items())


def test_shards_have_an_index_and_each_tensor_is_asked_for_once(tmp_path):
    asked = []

    class Made(dict):
        def __getitem__(self, name):
            asked.append(name)
            return torch.full((10,), float(name))

    layout = {str(number): (torch.float32, (10,)) for number in range(5)}
    stream_weights(tmp_path / "new", Made(), layout, max_shard_bytes=80)
    assert asked == [*layout]
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == [*(f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)), "model.safetensors.index.json"]
    index = json.loads((tmp_path / "new" / names[-1]).read_text())
    assert index["metadata"] == {"total_size": 200} and index["weight_map"]["4"] == names[2]
    read = open_weights(tmp_path / "new")
    assert all(torch.equal(read[name], torch.full((10,), float(name))) for name in layout)


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UserError, match="no tensors"):
        stream_weights(tmp_path, {}, {})
    with pytest.raises(UserError, match=r"'x' is torch\.complex64, which safetensors cannot hold"):
        stream_weights(tmp_path, {}, {"x": (torch.complex64, (1,))})
    with pytest.raises(UserError, match=r"'x' is torch\.float32 \[2\], and was to be"):
        stream_weights(tmp_path, {"x": torch.zeros(2)}, {"x": (torch.float32, (3,))})
