import hashlib
import json
import tarfile

import pytest
from PIL import Image

from shards.format.writer import write_set
from shards.render.sample import Sample


def draw(index):
    return Sample(Image.new("RGB", (4, 4), (index, 0, 0)), f"What is {index}?", str(index), "count", f"source/{index}")


def broken_at_5(index):
    if index == 5:
        raise KeyboardInterrupt
    return draw(index)


def test_samples_are_in_the_canonical_form(tmp_path):
    write_set(tmp_path / "train", draw, 3)
    with tarfile.open(tmp_path / "train" / "shard-000000.tar") as tar:
        names = tar.getnames()
        record = json.load(tar.extractfile("00000001.json"))
        image = Image.open(tar.extractfile("00000001.png")).convert("RGB")
    assert sorted(names) == [f"0000000{key}.{kind}" for key in range(3) for kind in ("json", "png")]
    assert record == {
        "conversations": [{"from": "human", "value": "<image>\nWhat is 1?"}, {"from": "gpt", "value": "1"}],
        "task": "count",
        "source": "source/1",
    }
    assert image.getpixel((0, 0)) == (1, 0, 0)


def test_the_manifest_counts_and_hashes_the_shards(tmp_path):
    manifest = write_set(tmp_path / "train", draw, 7, shard_size=3, describe={"recipe": "mine"})
    assert manifest == json.loads((tmp_path / "train" / "manifest.json").read_text())
    assert (manifest["samples"], manifest["recipe"], manifest["tasks"]) == (7, "mine", {"count": 7})
    assert [shard["samples"] for shard in manifest["shards"]] == [3, 3, 1]
    for shard in manifest["shards"]:
        data = (tmp_path / "train" / shard["name"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        assert shard["bytes"] == len(data)


def test_the_same_samples_are_the_same_bytes(tmp_path):
    first, second = (write_set(tmp_path / name, draw, 3)["shards"][0]["sha256"] for name in ("a", "b"))
    assert first == second


def test_an_interrupted_build_leaves_no_half_set(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "train", broken_at_5, 8, shard_size=2)
    assert not (tmp_path / "train").exists()


def test_an_interrupted_build_leaves_the_old_set_and_the_next_one_cleans_up(tmp_path):
    write_set(tmp_path / "train", draw, 2)
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "train", broken_at_5, 8, shard_size=2)
    assert json.loads((tmp_path / "train" / "manifest.json").read_text())["samples"] == 2
    write_set(tmp_path / "train", draw, 3, shard_size=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train"]
    assert sorted(path.name for path in (tmp_path / "train").glob("*.tar")) == [
        "shard-000000.tar",
        "shard-000001.tar",
    ]
