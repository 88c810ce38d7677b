"""Members and headers that lie, bombs and pickles: refused, named, never run, and the samples beside them read."""

import gzip
import json
import lzma
import os
import pickle
import tarfile
import time
import zlib
from pathlib import Path

import pytest

from fcot.errors import UserError
from shards.feed.datamodule import Shards
from shards.feed.ledger import Ledger, Skip
from shards.format.shard_set import ShardSet
from shards.inspection import contact_sheet
from tests.shards.made import header_at, page, read, record, write


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


def test_a_file_that_adds_up_to_the_sum_it_lacks_is_no_tar(tmp_path, layout):
    root = write(tmp_path)
    block = bytes([0x80, 0x80]).ljust(512, b"\0")  # signed, and with eight blanks: a sum of 0
    assert tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape").size == 0
    (root / "train" / "a.tar").write_bytes(block + b"x" * 2048)
    (root / "train" / "t.tar").write_bytes(block + (root / "train" / "s.tar").read_bytes())
    (root / "train" / "s.tar").unlink()
    assert read(root, layout) == (["first", "last"], [("a.tar", "", "not_a_tar"), ("t.tar", "", "damaged_header")])


@pytest.mark.parametrize("url", ["pipe:touch {}", "file:{}", "http://localhost:9/{}"])
def test_urls_are_no_shards_and_nothing_is_run(tmp_path, layout, url, monkeypatch):
    monkeypatch.setenv("GOPEN_REWRITE", f"{tmp_path}=pipe:touch {tmp_path}/rewritten")
    with pytest.raises(UserError, match="There are no shards at"):
        Shards(url.format(tmp_path / "ran")).loader("train", layout=layout)
    assert read(write(tmp_path / "root"), layout)[0] == ["first", "last"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


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


def test_a_sample_of_many_large_members_is_refused_unread(tmp_path, layout, monkeypatch):
    monkeypatch.setattr("shards.format.indexing.MAX_SAMPLE_BYTES", 10 * len(page()))
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
