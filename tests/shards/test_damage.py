"""Shards that are cut, bent, missing or no shards at all cost the samples they hold, and no other."""

import bz2
import gzip
import json
import lzma
import os
import shutil
from pathlib import Path

import pytest

from fcot.errors import UserError
from shards.feed.datamodule import Shards
from shards.format.manifest import index_set
from shards.format.writer import write_set
from shards.render.recipes import Draw
from tests.shards.made import FIRST, KEYS, SAMPLES, SECOND, header_at, read


def cut_between(shard):
    os.truncate(shard, header_at(shard, f"{KEYS[2]}.png")[0])


def cut_in_header(shard):
    os.truncate(shard, header_at(shard, f"{KEYS[2]}.png")[0] + 100)


def zero_header(shard):
    data, (start, _) = bytearray(shard.read_bytes()), header_at(shard, f"{KEYS[2]}.png")
    data[start : start + 512] = bytes(512)
    shard.write_bytes(data)


def flip_header(shard):
    data, (start, _) = bytearray(shard.read_bytes()), header_at(shard, f"{KEYS[2]}.png")
    data[start + 3] ^= 4
    shard.write_bytes(data)


def flip_payload(shard):
    data, (_, start) = bytearray(shard.read_bytes()), header_at(shard, f"{KEYS[2]}.png")
    data[start + 60] ^= 1
    shard.write_bytes(data)


def compress(how):
    return lambda shard: shard.write_bytes(how(shard.read_bytes()))


DAMAGES = {
    "cut at a member": (cut_between, KEYS[2:6]),
    "cut in a header": (cut_in_header, KEYS[2:6]),
    "zeroed header": (zero_header, KEYS[2:3]),
    "flipped header bit": (flip_header, KEYS[2:3]),
    "flipped payload bit": (flip_payload, KEYS[2:3]),
    "gzip named tar": (compress(gzip.compress), FIRST),
    "truncated gzip": (compress(lambda data: gzip.compress(data)[:9000]), FIRST),
    "xz named tar": (compress(lzma.compress), FIRST),
    "bzip2 named tar": (compress(bz2.compress), FIRST),
    "empty file": (lambda shard: shard.write_bytes(b""), FIRST),
    "gone": (lambda shard: shard.unlink(), FIRST),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_after_indexing_costs_the_samples_it_hits_and_no_other(sets, layout, damage):
    harm, hit = DAMAGES[damage]
    harm(sets / "train" / "shard-000000.tar")
    keys, skipped = read(sets, layout)
    assert keys == sorted({*KEYS} - {*hit})
    assert [(shard, key) for shard, key, _ in skipped] == [("shard-000000.tar", key) for key in hit]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_strict_run_refuses_damage_before_its_first_step(sets, layout, damage):
    Shards(sets, strict=True).samples("train")  # whole: nothing to refuse
    DAMAGES[damage][0](sets / "train" / "shard-000000.tar")
    with pytest.raises(UserError, match=r"shard-000000\.tar.*\nSee fcot shards verify"):
        Shards(sets, strict=True).prepare_data()


def test_a_shard_swapped_after_indexing_gives_none_of_its_samples(sets, layout, tmp_path):
    write_set(tmp_path / "other", Draw("letters", "train", 9, SAMPLES), SAMPLES)
    shutil.copy(tmp_path / "other" / "shard-000000.tar", sets / "train" / "shard-000001.tar")
    keys, skipped = read(sets, layout)
    assert keys == FIRST
    assert [key for _, key, _ in skipped] == SECOND


def foreign(folder):
    """Leave only the shards of a set: neither manifest nor index."""
    for path in folder.iterdir():
        if path.suffix != ".tar":
            path.unlink()


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - {"flipped payload bit", "gone"}))
def test_damage_before_indexing_is_found_while_indexing(sets, layout, damage, capsys):
    foreign(sets / "train")
    harm, hit = DAMAGES[damage]
    harm(sets / "train" / "shard-000000.tar")
    keys, skipped = read(sets, layout)
    assert keys == sorted({*KEYS} - {*hit})
    assert {shard for shard, _, _ in skipped} == {"shard-000000.tar"}
    assert {reason for _, _, reason in skipped} & {"cut_shard", "damaged_header", "not_a_tar", "empty_shard"}
    assert "train has no index: reading its 2 shards once to make one." in capsys.readouterr().out
    with pytest.raises(UserError, match=r"shard-000000\.tar"):
        Shards(sets, strict=True).prepare_data()


def test_half_of_a_sample_beside_a_lost_member_is_not_delivered(sets, layout):
    foreign(sets / "train")
    flip_header(sets / "train" / "shard-000000.tar")  # the page of a sample whose conversation is still there
    _, skipped = read(sets, layout)
    assert ("shard-000000.tar", KEYS[2], "half_sample") in skipped


def test_lost_samples_are_counted_by_a_manifest_that_knows_how_many_there_were(sets, layout):
    for path in (sets / "train").glob("*.safetensors"):
        path.unlink()
    manifest = json.loads((sets / "train" / "manifest.json").read_text())
    rows = [{"name": row["name"], "samples": row["samples"]} for row in manifest["shards"]]
    (sets / "train" / "manifest.json").write_text(json.dumps({"samples": 12, "seed": 0, "shards": rows}))
    cut_between(sets / "train" / "shard-000000.tar")
    assert index_set(sets / "train")["quarantined"] == {"cut_shard": 3, "half_sample": 1}
    assert read(sets, layout)[0] == sorted({*KEYS} - {*KEYS[2:6]})


def test_a_changed_index_or_manifest_is_refused(sets):
    index = next((sets / "train").glob("*.safetensors"))
    whole = bytearray(index.read_bytes())
    for place in (4, 200, len(whole) - 8):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        index.write_bytes(damaged)
        with pytest.raises(UserError, match=r"is not the one its manifest names.*\nIndex the set again"):
            Shards(sets).samples("train")
    index.unlink()
    with pytest.raises(UserError, match=r"cannot be read.*\nIndex the set again: fcot shards index"):
        Shards(sets).samples("train")
    (sets / "train" / "manifest.json").write_text('{"samples": "many"}')
    with pytest.raises(UserError, match="is no manifest of shards"):
        Shards(sets).samples("train")


def test_a_shard_that_the_manifest_does_not_know_is_not_left_out_in_silence(sets):
    shutil.copy(sets / "train" / "shard-000000.tar", sets / "train" / "shard-000009.tar")
    with pytest.raises(UserError, match=r"shard-000009\.tar lies in .*\n.*fcot shards index"):
        Shards(sets).samples("train")


def test_what_is_named_like_a_shard_and_is_none_is_refused_and_never_waited_for(sets, layout):
    shard = sets / "train" / "shard-000000.tar"
    for make in (os.mkfifo, os.mkdir):
        shard.unlink()
        make(shard)
        assert read(sets, layout) == (SECOND, [("shard-000000.tar", key, "missing_shard") for key in FIRST])
        with pytest.raises(UserError, match=r"shard-000000\.tar"):
            Shards(sets, strict=True).prepare_data()
        (sets / "train" / "manifest.json").rename(sets / "manifest.json")
        (sets / "train" / "shard-000000.index.safetensors").rename(sets / "index")
        with pytest.raises(UserError, match=r"cannot be indexed .*it is a folder, a pipe or a device.*shard-000000"):
            Shards(sets).samples("train")
        (sets / "manifest.json").rename(sets / "train" / "manifest.json")
        (sets / "index").rename(sets / "train" / "shard-000000.index.safetensors")
        shutil.rmtree(sets / "skipped.jsonl", ignore_errors=True)
        (sets / "skipped.jsonl").unlink()
        shard.rmdir() if shard.is_dir() else None
        shard.touch()


@pytest.mark.parametrize("name", ["b.tar.gz", "b.TAR", "b.tgz", "b.tar.zst"])
def test_shards_that_would_be_left_out_in_silence_are_named(sets, name):
    (sets / "train" / name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"{name} lies in .*only files named \*\.tar are read"):
        Shards(sets).samples("train")


def test_a_disk_error_costs_the_samples_it_hits(sets, layout, monkeypatch):
    pread = os.pread

    def fails(file, size, offset):
        if Path(f"/proc/self/fd/{file}").readlink().name == "shard-000000.tar":
            raise OSError(5, "Input/output error")
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", fails)
    assert read(sets, layout) == (SECOND, [("shard-000000.tar", key, "unreadable_shard") for key in FIRST])


def test_shards_may_lie_anywhere_and_have_any_name(sets, layout, tmp_path):
    odd = tmp_path / "100 % of {a} [b] ünï" / "train"
    odd.mkdir(parents=True)
    for number, path in enumerate(sorted((sets / "train").glob("*.tar"))):
        (odd / f"{number} %41 *?é.tar").symlink_to(path)
    assert read(odd.parent, layout) == (KEYS, [])
    assert not list((sets / "train").glob("*é*"))
