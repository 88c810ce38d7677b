"""Faults as disks, networks and strangers make them: found, named, counted; every other sample is delivered."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcot.errors import UserError
from fcot.sft import SFT
from shards.datamodule import Shards
from shards.inspection import contact_sheet
from shards.ledger import Ledger, Skip
from shards.manifest import index_set
from shards.render.recipes import Draw
from shards.shard_set import ShardSet
from shards.writer import write_set

SAMPLES = 6
KEYS = [f"{index:08d}" for index in range(2 * SAMPLES)]
FIRST, SECOND = KEYS[:SAMPLES], KEYS[SAMPLES:]


@pytest.fixture(scope="module")
def layout(tiny_checkpoint):
    return SFT(tiny_checkpoint).layout


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "train"
    write_set(folder, Draw("letters", "train", 0, 2 * SAMPLES), 2 * SAMPLES, shard_size=SAMPLES)
    return folder


@pytest.fixture
def sets(written, tmp_path):
    """A set of two shards, written and indexed here."""
    shutil.copytree(written, tmp_path / "train")
    return tmp_path


def read(root, layout, **options):
    """Return the keys that a pass delivers, and the (shard, key, reason) of what it does not."""
    data = Shards(root, eval_batch_size=3, num_workers=0, max_skipped=1.0, **options)
    batches = data.loader("train", layout=layout)
    batches.ledger = Ledger(root / "skipped.jsonl", None, 1.0)
    keys = sorted(key for batch in batches for key in batch.keys)
    assert len(keys) == batches.ledger.consumed
    lines = (root / "skipped.jsonl").read_text().splitlines() if batches.ledger.skipped else []
    found = [json.loads(line) for line in lines]
    return keys, sorted((line["shard"].split("/")[-1], line["key"], line["reason"]) for line in found)


def header_at(shard, name):
    """Return where a member's header and content begin."""
    with tarfile.open(shard) as tar:
        member = tar.getmember(name)
        return member.offset, member.offset_data


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
    with pytest.raises(UserError, match=r"shard-000000\.tar.*\nSee python -m fcot shards verify"):
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


def page(side=56, form="JPEG", scans=0, **options):
    """An image of noise; a progressive one with its last scan over and over again."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, form, **options)
    data = buffer.getvalue()
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * scans + data[-2:] if scans else data


def resized_jpeg(side):
    """A JPEG of some hundred bytes that says it is larger."""
    data = bytearray(page())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = side.to_bytes(2, "big") * 2
    return bytes(data)


BOMB = zlib.compress(bytes(100 << 20), 9)


def png_with(kind, content):
    """A PNG with one more chunk behind its header."""
    data = page(form="PNG")
    chunk = len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    return data[:33] + chunk + data[33:]


def record(**more):
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "this"}]
    return json.dumps({"conversations": turns, "task": "ocr", **more}).encode()


def add(tar, name, data=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    if kind == "lie":  # the header promises more than the whole file has
        info.size, info.type = 10**9, tarfile.REGTYPE
        tar.fileobj.write(info.tobuf(tarfile.GNU_FORMAT) + data.ljust(512, b"\0"))
        tar.offset += 1024
        return
    tar.addfile(info, io.BytesIO(data))


def write(root, *members, form=tarfile.PAX_FORMAT):
    """Write a shard: a good sample, the members given, and a good sample."""
    (root / "train").mkdir(parents=True)
    with tarfile.open(root / "train" / "s.tar", "w", format=form) as tar:
        good = [("first.jpg", page()), ("first.json", record())]
        for each in (*good, *members, ("last.jpg", page()), ("last.json", record())):
            add(tar, *each)
    return root


class Boom:
    def __reduce__(self):
        return (os.mkdir, (os.environ["BOOM"],))


PICKLE = pickle.dumps({"a": 1})
HOSTILE = {
    "parent": [("../../x.json", record())],
    "absolute": [("/etc/x.json", record())],
    "backslash": [("..\\..\\x.json", record())],
    "10 kB name": [("a/" * 5000 + "x.json", record())],
    "symbolic link": [("x.jpg", b"", tarfile.SYMTYPE, "/etc/passwd"), ("x.json", record())],
    "hard link": [("x.jpg", b"", tarfile.LNKTYPE, "first.jpg"), ("x.json", record())],
    "device": [("x.jpg", b"", tarfile.CHRTYPE), ("x.json", record())],
    "pipe": [("x.jpg", b"", tarfile.FIFOTYPE), ("x.json", record())],
    **{
        kind: [(f"x.{kind}", PICKLE), ("x.jpg", page()), ("x.json", record())]
        for kind in ("pyd", "pkl", "pickle", "pth", "npy", "gz", "sh")
    },
    "a size that is a lie": [("x.jpg", page()), ("x.json", record(), "lie")],
    "same member twice": [("x.jpg", page()), ("x.json", record()), ("x.json", record())],
    "same key again later": [("x.jpg", page()), ("x.json", record()), ("y.txt", b""), ("x.jpg", page())],
    "missing json": [("x.jpg", page())],
    "invalid UTF-8 in json": [("x.jpg", page()), ("x.json", record().replace(b"this", b"th\xff"))],
    "half a character": [("x.jpg", page()), ("x.json", record().replace(b"this", b"\\ud800"))],
    "JSON: a name twice": [("x.json", record().replace(b'"task"', b'"conversations": [], "task"'))],
    "JSON: nested too deep": [("x.json", record(more=0).replace(b"0", b"[" * 100_000 + b"]" * 100_000))],
    "JSON: a number of 100,000 digits": [("x.json", record(more=0).replace(b"0", b"1" * 100_000))],
    "JSON: too long": [("x.jpg", page()), ("x.json", record(more="a" * 3_000_000))],
    "text: too long": [("x.jpg", page()), ("x.json", record()), ("x.txt", b"a" * 3_000_000)],
    "contiguous": [("x.jpg", page(), b"M"), ("x.json", record())],
    "no key": [(".json", record()), (".jpg", page())],
    "truncated JPEG": [("x.jpg", page(300)[:-9000]), ("x.json", record())],
    "gzip named jpg": [("x.jpg", gzip.compress(page())), ("x.json", record())],
    "truncated WebP": [("x.webp", page(300, "WEBP")[:-2000]), ("x.json", record())],
    "truncated PNG": [("x.png", page(300, "PNG")[:-2000]), ("x.json", record())],
    "JPEG of 65500x65500": [("x.jpg", resized_jpeg(65_500)), ("x.json", record())],
    "JPEG of a thousand scans": [("x.jpg", page(56, "JPEG", progressive=True, scans=1000)), ("x.json", record())],
    "PNG with a bomb for a profile": [("x.png", png_with(b"iCCP", b"x\0\0" + BOMB)), ("x.json", record())],
    "PNG with a bomb for a text": [("x.png", png_with(b"zTXt", b"x\0\0" + BOMB)), ("x.json", record())],
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_hostile_and_broken_members_are_refused_and_the_others_delivered(tmp_path, layout, what, form, monkeypatch):
    monkeypatch.setenv("BOOM", str(tmp_path / "boom"))
    members = [(name, pickle.dumps(Boom()) if data is PICKLE else data, *more) for name, data, *more in HOSTILE[what]]
    keys, skipped = read(write(tmp_path / "root", *members, form=form), layout)
    assert keys == ["first", "last"]
    assert skipped and all(shard == "s.tar" and reason for shard, _, reason in skipped)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "manifest.json",
        "s.index.safetensors",
        "s.tar",
        "skipped.jsonl",
    ]
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("name", [b"x\0y.json", b"x\xff.json", b"x\n.json", b"x\xc2\x9b31m.json"])
def test_names_that_are_no_text_are_refused(tmp_path, layout, name):
    root = write(tmp_path, ("NAME.json", record()))
    shard = root / "train" / "s.tar"
    data = bytearray(shard.read_bytes())
    start = data.index(b"NAME.json\0")
    data[start : start + 100] = name.ljust(100, b"\0")
    header = data[start : start + 512]
    header[148:156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    shard.write_bytes(data)
    keys, skipped = read(root, layout)
    assert keys == ["first", "last"]
    assert len(skipped) == 1


def test_members_of_two_samples_that_are_mixed_are_whole_samples(tmp_path, layout):
    root = write(tmp_path, ("a.jpg", page()), ("b.jpg", page()), ("a.json", record()), ("b.json", record()))
    assert read(root, layout) == (["a", "b", "first", "last"], [])


def png_of_size(width, height):
    """A PNG of a few kilobytes whose pixels would take much memory."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = zlib.compressobj(1)
    packed = b"".join(rows.compress(bytes(100 * (1 + width))) for _ in range(height // 100)) + rows.flush()
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def peak():
    """Return the most memory that was resident since the last call, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_bombs_are_refused_without_being_inflated(tmp_path, layout):
    bombs = [(f"bomb{number}", png_of_size(*size)) for number, size in enumerate([(12_000, 12_000), (1, 60_000)])]
    members = [(f"{key}.{kind}", data) for key, png in bombs for kind, data in (("png", png), ("json", record()))]
    root = write(tmp_path / "bombs", *members)
    for name, how in (("xz", lzma.compress), ("gz", gzip.compress)):
        (root / "train" / f"{name}.tar").write_bytes(how(bytes(10 << 20)) * 30)  # streams in a row inflate to 300 MiB
    read(write(tmp_path / "other"), layout)  # what any reading needs
    peak()
    before = peak()
    keys, skipped = read(root, layout)
    assert peak() - before < 64 << 20
    assert keys == ["first", "last"]
    assert skipped == [
        ("gz.tar", "", "not_a_tar"),
        ("s.tar", "bomb0", "image_too_large"),
        ("s.tar", "bomb1", "image_too_large"),
        ("xz.tar", "", "not_a_tar"),
    ]


@pytest.mark.parametrize("url", ["pipe:touch {}", "file:{}", "http://localhost:9/{}"])
def test_urls_are_no_shards_and_nothing_is_run(tmp_path, layout, url, monkeypatch):
    monkeypatch.setenv("GOPEN_REWRITE", f"{tmp_path}=pipe:touch {tmp_path}/rewritten")
    with pytest.raises(UserError, match="There are no shards at"):
        Shards(url.format(tmp_path / "ran")).loader("train", layout=layout)
    assert read(write(tmp_path / "root"), layout)[0] == ["first", "last"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


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
    with pytest.raises(UserError, match=r"cannot be read.*\nIndex the set again: python -m fcot shards index"):
        Shards(sets).samples("train")
    (sets / "train" / "manifest.json").write_text('{"samples": "many"}')
    with pytest.raises(UserError, match="is no manifest of shards"):
        Shards(sets).samples("train")


def test_a_shard_that_the_manifest_does_not_know_is_not_left_out_in_silence(sets):
    shutil.copy(sets / "train" / "shard-000000.tar", sets / "train" / "shard-000009.tar")
    with pytest.raises(UserError, match=r"shard-000009\.tar lies in .*\n.*python -m fcot shards index"):
        Shards(sets).samples("train")


def sum_up(header):
    """Give a tar header the checksum that it should have."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def extended(kind, content, size=None):
    """An extended header, which may lie about its size."""
    info = tarfile.TarInfo("extended")
    info.type, info.size = kind, len(content) if size is None else size
    blocks = -(-len(content) // 512) * 512
    return info.tobuf(tarfile.GNU_FORMAT) + content.ljust(blocks, b"\0")


def sized(field):
    """A header of x.jpg with this in the field of its size."""
    header = bytearray(tarfile.TarInfo("x.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = field
    return sum_up(header)


LIES = {
    "size of 2^80 in base 256": sized(b"\x80" + (1 << 80).to_bytes(11, "big")),
    "negative size in base 256": sized(b"\xff" * 12),
    "size that is no number": sized(b"+1x         "),
    "long name of a terabyte": extended(tarfile.GNUTYPE_LONGNAME, b"x.jpg\0", 10**12),
    "long name of a megabyte": extended(tarfile.GNUTYPE_LONGNAME, b"x" * (1 << 20)),
    "pax header of a terabyte": extended(tarfile.XHDTYPE, b"12 path=x.j\n", 10**12),
    "pax header that is not one": extended(tarfile.XHDTYPE, b"99999 path=x.jpg\n"),
    "pax header with another size": extended(tarfile.XHDTYPE, b"12 size=999\n"),
    "pax header of a sparse file": extended(tarfile.XHDTYPE, b"22 GNU.sparse.major=1\n"),
    "pax header with a name that leads out": extended(tarfile.XHDTYPE, b"20 path=../../x.jpg\n"),
    "two end marks and more behind them": bytes(1024),
    **{
        f"{kind.decode()} header over the members behind it": extended(kind, b"", 3072)
        for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
    },
}


@pytest.mark.parametrize("what", LIES)
def test_headers_that_lie_hide_no_other_sample(tmp_path, layout, what):
    root = write(tmp_path / "root", ("x.jpg", page()), ("x.json", record()))
    shard = root / "train" / "s.tar"
    data, (start, _) = shard.read_bytes(), header_at(shard, "x.jpg")
    shard.write_bytes(data[:start] + LIES[what] + data[start:])
    keys, skipped = read(root, layout)
    assert {"first", "last"} <= {*keys} <= {"first", "last", "x"}
    assert "over the members" not in what or "x" in keys
    assert skipped and all(reason for _, _, reason in skipped)


GOOD_IMAGES = {
    "several frames": lambda: frames("WEBP", "webp"),
    "APNG": lambda: frames("PNG", "png"),
    "MPO of a phone": lambda: frames("MPO", "jpg"),
    "CMYK": lambda: ("jpg", saved(Image.new("CMYK", (60, 60), (0, 200, 0, 0)), "JPEG")),
    "16 bit": lambda: ("png", saved(Image.fromarray(np.full((60, 60), 40_000, np.uint16)), "PNG")),
    "palette with transparency": lambda: ("png", saved(Image.new("P", (60, 60)), "PNG", transparency=0)),
}


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def frames(form, extension):
    """An image of a red, then a blue frame."""
    red, blue = (Image.new("RGB", (60, 60), colour) for colour in ("red", "blue"))
    return extension, saved(red, form, save_all=True, append_images=[blue])


@pytest.mark.parametrize("what", GOOD_IMAGES)
def test_unusual_images_are_read_by_their_first_frame(tmp_path, layout, what):
    extension, data = GOOD_IMAGES[what]()
    root = write(tmp_path / "root", (f"x.{extension}", data), ("x.json", record()))
    batches = Shards(root, eval_batch_size=1, num_workers=0).loader("train", layout=layout)
    tiles = {batch.keys[0]: batch.tiles for batch in batches}["x"]
    if what in ("several frames", "APNG", "MPO of a phone"):
        assert tiles[0, 0].float().mean() > 200 > 50 > tiles[0, 2].float().mean()
    if what == "16 bit":
        assert abs(tiles.float().mean() - 40_000 / 257) < 1


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


def test_a_sample_of_many_large_members_is_refused_unread(tmp_path, layout, monkeypatch):
    monkeypatch.setattr("shards.indexing.MAX_SAMPLE_BYTES", 10 * len(page()))
    many = [(f"x.{number}.jpg", page()) for number in range(11)]
    assert read(write(tmp_path, *many, ("x.json", record())), layout)[1] == [("s.tar", "x", "too_many_bytes")]


def test_a_text_of_megabytes_does_not_hold_up_a_contact_sheet(tmp_path):
    turns = [{"from": "human", "value": "a" * 400_000}, {"from": "gpt", "value": "b" * 400_000}]
    root = write(tmp_path, ("x.json", json.dumps({"conversations": turns}).encode()))
    start = time.process_time()
    contact_sheet(ShardSet(root / "train"))
    assert time.process_time() - start < 5


def test_what_is_told_of_a_sample_is_bounded(tmp_path, layout):
    turns = [{"from": "human", "value": "?"}] * 20_000
    root = write(tmp_path, ("x.json", json.dumps({"conversations": turns}).encode()))
    assert read(root, layout)[0] == ["first", "last"]
    assert (tmp_path / "skipped.jsonl").stat().st_size < 2000


def test_a_disk_that_takes_no_names_of_skipped_samples_ends_the_run(tmp_path):
    ledger = Ledger(tmp_path / "no folder" / "skipped.jsonl", 10, 1.0)
    with pytest.raises(UserError, match=r"skipped\.jsonl cannot be written .*no sample is left out without a name"):
        ledger.take(0, [Skip("s.tar", "x", "too_long", "why")])
