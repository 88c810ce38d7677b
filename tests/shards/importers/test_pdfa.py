"""OCR corpora that are whole, damaged or hostile."""

import io
import json
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

from fcot.errors import UserError
from shards.format.shard_set import ShardSet
from shards.importers import Settings
from shards.importing import import_set
from tests.shards.made import add

pytest.importorskip("pypdfium2")

WORDS = {"text": ["to", "be"], "bbox": [[0.1, 0.1, 0.1, 0.05], [0.3, 0.1, 0.1, 0.05]]}


def tiff(*greys):
    pages = [Image.new("L", (60, 40), grey) for grey in greys]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    return buffer.getvalue()


def pdf(*greys, side=100):
    pages = [Image.new("L", (side, side), grey) for grey in greys]
    buffer = io.BytesIO()
    pages[0].save(buffer, "PDF", save_all=True, append_images=pages[1:])
    return buffer.getvalue()


def pages(*found):
    return json.dumps({"pages": list(found)}).encode()


def corpus(path, *members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for member in members:
            add(tar, *member)
    return path


def run(source, output, **settings):
    """Import and return the answers, the levels of grey of the pages, and what was skipped by id."""
    manifest = import_set("pdfa", source, output, Settings(**settings), shard_size=2, workers=1)
    samples = ShardSet(output)
    raw = [samples.read(int(number)) for number in samples.usable()]
    records = [json.loads(each["json"]) for each in raw]
    greys = [
        int(np.asarray(Image.open(io.BytesIO(each.get("png") or each["jpg"])).convert("L")).mean()) for each in raw
    ]
    lines = (output / "skipped.jsonl").read_text().splitlines() if "skipped" in manifest else []
    skipped = {line["id"]: line["reason"] for line in map(json.loads, lines)}
    return [(record["id"], record["conversations"][1]["value"]) for record in records], greys, skipped


def test_documents_of_a_folder_of_tars_and_files_come_page_by_page(tmp_path):
    root = tmp_path / "corpus"
    two = pages({"words": WORDS}, {**WORDS, "text": ["or", "not"]})
    corpus(root / "a" / "0.tar", ("x/1.pdf", pdf(10, 200)), ("x/1.json", two), ("x/1.ocr", b"?"), ("._x", b""))
    corpus(root / "1.tar", ("2.json", pages(WORDS)), ("2.pdf", pdf(0)), ("2.tif", tiff(120)))
    (root / "3.json").write_bytes(pages(WORDS))
    buffer = io.BytesIO()
    Image.new("L", (60, 40), 250).save(buffer, "PNG")
    (root / "3.png").write_bytes(buffer.getvalue())
    found, greys, skipped = run(root, tmp_path / "out", dpi=72)
    assert found == [("2-1", "to be"), ("x/1-1", "to be"), ("x/1-2", "or not"), ("3-1", "to be")]
    assert greys == [120, 10, 200, 250]  # of a PDF and a TIFF, the words are the TIFF's
    assert skipped == {}


DEEP = b'{"pages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD = {
    "no_scan": ([("a.json", pages(WORDS))], "missing_scan"),
    "no_json": ([("a.pdf", pdf(0))], "missing_json"),
    "deep": ([("a.json", DEEP), ("a.pdf", pdf(0))], "bad_json"),
    "no list": ([("a.json", b'{"pages": 7}'), ("a.pdf", pdf(0))], "bad_json"),
    "no pages": ([("a.json", pages()), ("a.pdf", pdf(0))], "bad_json"),
    "page is text": ([("a.json", pages("to be")), ("a.pdf", pdf(0))], "bad_json"),
    "no boxes": ([("a.json", pages({"text": ["to"], "bbox": []})), ("a.pdf", pdf(0))], "bad_json"),
    "short box": ([("a.json", pages({"text": ["to"], "bbox": [[0, 1]]})), ("a.pdf", pdf(0))], "bad_json"),
    "infinite box": ([("a.json", pages({"text": ["to"], "bbox": [[0, 0, 1, 1e999]]})), ("a.pdf", pdf(0))], "bad_json"),
    "words too many": (
        [("a.json", pages({"text": ["x"] * 30_000, "bbox": [[0, 0, 1, 1]] * 30_000})), ("a.pdf", pdf(0))],
        "too_many_words",
    ),
    "empty": ([("a.json", pages({"text": [" "], "bbox": [[0, 0, 1, 1]]})), ("a.pdf", pdf(0))], "no_text"),
    "no PDF": ([("a.json", pages(WORDS)), ("a.pdf", b"%PDF-1.4 nothing")], "bad_pdf"),
    "large page": ([("a.json", pages(WORDS)), ("a.pdf", pdf(0).replace(b"100", b"999"))], None),
    "broken TIFF": ([("a.json", pages(WORDS)), ("a.tif", tiff(0)[:60])], "undecodable_image"),
    "twice": ([("a.json", pages(WORDS)), ("a.pdf", pdf(0)), ("a.pdf", pdf(0))], "duplicate_member"),
    "link": ([("a.json", pages(WORDS)), ("a.pdf", b"", tarfile.SYMTYPE, "/etc/passwd")], "refused_member"),
}


@pytest.mark.parametrize("what", BAD)
def test_documents_that_cannot_be_used_are_named_and_the_others_come(tmp_path, what):
    members, expected = BAD[what]
    whole = ("z.json", pages(WORDS)), ("z.tif", tiff(7))
    found, _, skipped = run(corpus(tmp_path / "in.tar", *members, *whole), tmp_path / "out")
    assert ("z-1", "to be") in found
    if expected is not None:
        assert skipped["a-1"] == expected
        assert len(found) == 1


def test_a_page_bomb_is_refused_before_it_is_drawn(tmp_path):
    huge = pdf(0)
    start = huge.index(b"/MediaBox")
    end = huge.index(b"]", start) + 1
    huge = huge[:start] + b"/MediaBox [0 0 14000 14000]".ljust(end - start) + huge[end:]
    source = corpus(
        tmp_path / "in.tar", ("a.json", pages(WORDS)), ("a.pdf", huge), ("b.json", pages(WORDS)), ("b.tif", tiff(1))
    )
    _, _, skipped = run(source, tmp_path / "out")
    assert skipped == {"a-1": "image_too_large"}


def test_an_image_bomb_on_a_small_page_is_refused_before_it_is_drawn(tmp_path):
    bomb = re.sub(rb"/Width \d+", b"/Width 60000", re.sub(rb"/Height \d+", b"/Height 60000", pdf(0)))
    good = ("b.json", pages(WORDS)), ("b.tif", tiff(1))
    source = corpus(tmp_path / "in.tar", ("a.json", pages(WORDS, WORDS)), ("a.pdf", bomb), *good)
    _, _, skipped = run(source, tmp_path / "out")
    assert skipped == {"a-1": "image_too_large", "a-2": "missing_page"}


def test_pages_that_a_scan_has_not_are_missing_one_by_one(tmp_path):
    three = pages(WORDS, WORDS, WORDS)
    source = corpus(tmp_path / "in.tar", ("a.json", three), ("a.tif", tiff(1)), ("b.json", three), ("b.pdf", pdf(1, 2)))
    found, _, skipped = run(source, tmp_path / "out")
    assert [name for name, _ in found] == ["a-1", "b-1", "b-2"]
    assert skipped == {"a-2": "missing_page", "a-3": "missing_page", "b-3": "missing_page"}


def test_a_cut_tar_gives_what_is_before_the_cut(tmp_path):
    members = [(f"{key}.{kind}", data) for key in "ab" for kind, data in (("json", pages(WORDS)), ("tif", tiff(1)))]
    source = corpus(tmp_path / "in.tar", *members)
    with tarfile.open(source) as tar:
        at = tar.getmember("b.tif").offset_data
    with source.open("r+b") as file:
        file.truncate(at + 10)
    found, _, skipped = run(source, tmp_path / "out")
    assert [name for name, _ in found] == ["a-1"]
    assert skipped["b-1"] == "cut_shard"


def test_an_empty_corpus_is_said(tmp_path):
    with pytest.raises(UserError, match="There is nothing to import"):
        run(corpus(tmp_path / "in.tar"), tmp_path / "out")
