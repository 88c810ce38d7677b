"""Data in the forms that people have them, through the real import and feed; contents invented."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fcot.internvl.encoder import IGNORED
from shards.feed.datamodule import Shards
from shards.feed.ledger import Ledger
from shards.format.shard_set import ShardSet
from shards.format.verify import verify_set
from shards.importers import Settings
from shards.importing import import_set

CASES = Path(__file__).parent / "cases"
PROMPT = "Read the text."


def placed(root, *names):
    """A root with the tar files given as its training set."""
    (root / "train").mkdir(parents=True)
    for name in names:
        shutil.copy(CASES / name, root / "train" / name)
    return root


def delivered(root, layout, **options):
    """Return question, answer as it is learned, and references of each sample by key; and the reasons of others."""
    loader = Shards(root, eval_batch_size=2, num_workers=0, max_skipped=1.0, **options).loader("train", layout=layout)
    loader.ledger = Ledger(None, None, 1.0)
    found = {}
    for batch in loader:
        sequences = batch.sequences["student"]
        for row, key in enumerate(batch.keys):
            learned = sequences.labels[row][sequences.labels[row] != IGNORED]
            answer = layout.encoder.tokenizer.decode(learned, skip_special_tokens=True)
            found[key] = (batch.questions[row], answer, batch.references[row], int(batch.num_tiles[row]) > 0)
    return found, dict(loader.ledger.reasons)


def run(kind, name, folder, **settings):
    """Import and return each record by its id, its images as arrays, and the manifest."""
    manifest = import_set(kind, CASES / name, folder, Settings(**settings), workers=1)
    samples = ShardSet(folder)
    assert verify_set(samples) == []
    raw = [samples.read(int(number)) for number in samples.usable()]
    records = [json.loads(each["json"]) for each in raw]
    return {record["id"]: (record, members) for record, members in zip(records, raw, strict=True)}, manifest


def spoken(record):
    return [turn["value"] for turn in record["conversations"]]


def skipped(folder):
    return [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]


def test_plain_pairs_are_four_samples(tmp_path, layout):
    root = placed(tmp_path, "pairs_jpg_txt.tar")
    found, reasons = delivered(root, layout, pair={"prompt": PROMPT})
    assert found == {
        f"pages/p00{place}": (PROMPT, f"Lot {place} sold", [f"Lot {place} sold"], True) for place in range(4)
    }
    assert reasons == {}


def test_pairs_of_any_spelling_are_found_and_companions_say_nothing(tmp_path, layout):
    found, reasons = delivered(placed(tmp_path, "pairs_mixed.tar"), layout, pair={"prompt": PROMPT})
    assert {key: answer for key, (_, answer, _, _) in found.items()} == {"a": "Alpha", "b": "Beta", "c": "Gamma"}
    assert reasons == {"no_answer": 1}


def test_img2datasets_json_is_no_conversation(tmp_path, layout):
    root = placed(tmp_path, "img2dataset.tar")
    by_text, reasons = delivered(root, layout, pair={"prompt": PROMPT})
    by_field, _ = delivered(root, layout, pair={"prompt": PROMPT, "answer": "json:caption"})
    assert by_text == by_field == {f"0000{n}": (PROMPT, f"Gate {n}", [f"Gate {n}"], True) for n in range(3)}
    assert reasons == {}


@pytest.mark.parametrize("name", ["pairs_jpg_txt.tar", "img2dataset.tar", "pairs_mixed.tar"])
def test_without_a_prompt_pairs_are_set_aside_with_what_to_set(tmp_path, name):
    root = placed(tmp_path, name)
    aside = ShardSet(root / "train").quarantined()
    assert {reason for _, _, reason, *_ in aside} <= {"missing_json", "bad_json"}
    assert all('--data.pair.prompt "Read the text."' in detail for _, _, _, detail, *_ in aside)
    assert len(aside) == len(ShardSet(root / "train"))
    assert len(ShardSet(root / "train", pairs=True).usable()) == len(aside)


def test_pages_with_words_and_boxes_are_samples_beside_their_pdf(tmp_path):
    pytest.importorskip("pypdfium2")
    found, _ = run("pdfa", "pdfa_style.tar", tmp_path / "out", dpi=50)
    ((record, members),) = found.values()
    assert spoken(record) == [f"<image>\n{PROMPT}", "Stock list\nNorth 12 40\nSouth 7 9"]
    assert members["png"].startswith(b"\x89PNG")
    found, _ = run("pdfa", "pdfa_style.tar", tmp_path / "tables", dpi=50, markdown=True)
    ((record, _),) = found.values()
    assert spoken(record)[1] == "Stock list\n| North | 12 | 40 |\n| --- | --- | --- |\n| South | 7 | 9 |"


def test_a_scan_of_two_pages_is_two_samples_in_order(tmp_path):
    found, manifest = run("pdfa", "idl_style.tar", tmp_path / "out")
    assert [spoken(record)[1] for record, _ in found.values()] == ["Memo one", "Memo two"]
    assert len({members["png"] for _, members in found.values()}) == 2
    assert manifest["reencoded"] == {"TIFF": 2}


def test_messages_of_parts_are_three_samples(tmp_path):
    found, manifest = run("sharegpt", "messages.json", tmp_path / "out")
    assert {name: spoken(record) for name, (record, _) in found.items()} == {
        "m1": ["<image>\nTotal?", "42"],
        "m2": ["<image>\nTotal?", "42"],
        "m3": ["Be terse.\nTotal?\n<image>", "42"],
    }
    assert len({np.frombuffer(members["png"], np.uint8).tobytes() for _, members in found.values()}) == 1
    assert "skipped" not in manifest


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "out"
    return *run("llava", "records.jsonl", folder), folder


def test_a_record_keeps_its_id(records):
    found, _, folder = records
    assert spoken(found["inv-7"][0]) == ["<image>\nTotal?", "42"]
    assert {line["id"]: line["reason"] for line in skipped(folder)} == {
        "video": "unsupported_media",
        "audio": "unsupported_media",
    }


def test_other_programs_placeholders_are_images(records):
    found, *_ = records
    assert spoken(found["numbered"][0])[0] == "<image><image>\nWhich is larger?"
    assert spoken(found["other_dialect"][0])[0] == "<image>\nTotal?"


def test_control_tokens_stay_text_and_are_counted(records, layout):
    found, manifest, folder = records
    root = folder.parent / "root"
    shutil.copytree(folder, root / "train")
    read, reasons = delivered(root, layout)
    ids = {name: members["__key__"] for name, (_, members) in found.items()}
    for name in ("control_user", "control_answer", "context_answer"):
        question, answer = spoken(found[name][0])
        assert read[ids[name]][:2] == (question.replace("<image>", "").strip(), answer)
    assert reasons == {}
    assert manifest["control_tokens"] == {
        "</img>": 1,
        "<IMG_CONTEXT>": 1,
        "<img>": 1,
        "<|im_end|>": 2,
        "<|im_start|>": 1,
    }


def test_tiff_bmp_and_gif_are_written_again_as_png_and_counted(records):
    found, manifest, _ = records
    assert sorted(set(found["tif"][1]) - {"__key__", "json"}) == ["0.png", "1.png"]
    assert all(found[name][1]["png"].startswith(b"\x89PNG") for name in ("bmp", "gif"))
    assert manifest["reencoded"] == {"BMP": 1, "GIF": 1, "TIFF": 1}


def test_a_number_is_its_text(records):
    assert spoken(records[0]["number"][0])[1] == "42"
