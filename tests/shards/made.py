"""Shards as they come from elsewhere, and what a pass over them delivers."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

from shards.feed.datamodule import Shards
from shards.feed.ledger import Ledger

SAMPLES = 6
KEYS = [f"{index:08d}" for index in range(2 * SAMPLES)]
FIRST, SECOND = KEYS[:SAMPLES], KEYS[SAMPLES:]


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


def page(side=56, form="JPEG", scans=0, **options):
    """An image of noise; a progressive one with its last scan over and over again."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, form, **options)
    data = buffer.getvalue()
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * scans + data[-2:] if scans else data


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
