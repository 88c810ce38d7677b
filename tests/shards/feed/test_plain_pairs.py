"""Plain image-text pairs: which text is the answer, which prompt is asked, and what the index and old indexes say."""

import io
import json
import tarfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fcot.cli.main import main
from fcot.errors import SampleError, UserError
from shards.feed.datamodule import Shards
from shards.feed.ledger import Ledger
from shards.feed.mixture import reading_counts
from shards.feed.plain_pairs import Pair, pair_of
from shards.format.index import index_path, load_index
from shards.format.manifest import manifest_path, read_manifest, shard_row, write_manifest
from shards.format.shard_set import ShardSet
from shards.format.verify import verify_set
from shards.inspection import contact_sheet
from tests.shards.made import add, page, record

ASKED = ["Read the text.", "What does it say?", "Transcribe the page."]


def raw(**members):
    return {"__key__": "a", "jpg": b"", **{name.replace("_", "."): data for name, data in members.items()}}


def answered(pair, members):
    found = pair.record(members, 1, 0)
    return found["conversations"][1]["value"], found["references"]


def reason(call, *given):
    with pytest.raises(SampleError) as caught:
        call(*given)
    return caught.value.reason


def test_the_answer_is_the_text_beside_the_image():
    pair = Pair("?")
    assert answered(pair, raw(txt=b"\xef\xbb\xbf 42\n")) == ("42", ["42"])
    assert answered(pair, raw(output_txt=b"42")) == answered(Pair("?", ".txt"), raw(txt=b"42")) == ("42", ["42"])
    assert answered(pair, raw(txt=b"42", other_txt=b"7")) == ("42", ["42"])
    assert answered(Pair("?", "en.txt"), raw(de_txt=b"ja", en_txt=b"yes")) == ("yes", ["yes"])
    assert reason(answered, pair, raw(de_txt=b"ja", en_txt=b"yes")) == "ambiguous_answer"
    assert reason(answered, pair, raw(txt=b" \n")) == "no_answer"
    assert reason(answered, pair, raw(txt=b"\xff")) == "bad_text"
    assert reason(pair.record, {"__key__": "a", "txt": b"42"}, 0, 0) == "missing_image"
    assert reason(answered, pair, raw(txt=b"42", json=b'{"video": "x.mp4"}')) == "unsupported_media"


@pytest.mark.parametrize(
    ("about", "field", "answers"),
    [
        ({"caption": " Gate "}, "caption", ["Gate"]),
        ({"total": 42}, "total", ["42"]),
        (b'{"total": 42.50}', "total", ["42.50"]),
        ({"meta": {"text": "deep"}}, "meta.text", ["deep"]),
        ({"meta.text": "flat", "meta": {"text": "deep"}}, "meta.text", ["flat"]),
        ({"captions": ["one", " ", "two", None]}, "captions", ["one", "two"]),
        ({"caption": ""}, "caption", "no_answer"),
        ({"caption": None}, "caption", "no_answer"),
        ({"other": "x"}, "caption", "no_answer"),
        (["x"], "caption", "no_answer"),
        ({"caption": {"a": 1}}, "caption", "bad_json"),
        ({"caption": True}, "caption", "bad_json"),
        (b"{", "caption", "bad_json"),
        (b"[" * 100_000, "caption", "bad_json"),
    ],
)
def test_the_answer_may_be_a_field_of_the_json(about, field, answers):
    members = raw(json=about if isinstance(about, bytes) else json.dumps(about).encode())
    if isinstance(answers, str):
        assert reason(answered, Pair("?", f"json:{field}"), members) == answers
    else:
        assert answered(Pair("?", f"json:{field}"), members) == (answers[0], answers)


def test_a_missing_text_is_answered_with_the_fields_there_are():
    with pytest.raises(SampleError, match=r"no \.txt member; its \.json has caption, url.*json:FIELD"):
        answered(Pair("?"), raw(json=b'{"caption": "x", "url": "y"}'))
    with pytest.raises(SampleError, match=r"no field 'text', but caption, url"):
        answered(Pair("?", "json:text"), raw(json=b'{"caption": "x", "url": "y"}'))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": ""}, "data.pair.prompt is ''"),
        ({"prompt": []}, r"data.pair.prompt is \[\]"),
        ({"prompt": "?", "answer": "json:"}, "data.pair.answer is 'json:'"),
        ({"prompt": "?", "answer": "pdf"}, "data.pair.answer is 'pdf'"),
        ({"answer": "json:caption"}, "data.pair.prompt says nothing"),
        ({"prompts": "?"}, "It has the settings prompt and answer"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        pair_of(settings)
    assert pair_of(None) is pair_of({}) is pair_of(Pair()) is None


def pairs(root, count=24, **more):
    """A training set of two shards of pairs of an image and its number, and further members."""
    (root / "train").mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(root / "train" / f"{shard}.tar", "w") as tar:
            for number in range(shard * count // 2, (shard + 1) * count // 2):
                add(tar, f"{number:03d}.jpg", page())
                add(tar, f"{number:03d}.txt", str(number).encode())
                for extension, content in more.items():
                    add(tar, f"{number:03d}.{extension}", content)
    return root


def questions(root, layout, **options):
    loader = Shards(root, **{"num_workers": 0, "pair": {"prompt": ASKED}, **options}).loader(
        "train", training=True, layout=layout
    )
    loader.ledger = Ledger(None, None, 1.0)
    return {key: asked for batch in loader for key, asked in zip(batch.keys, batch.questions, strict=True)}


def test_the_same_prompt_is_drawn_whoever_reads_and_another_by_another_seed(tmp_path, layout):
    root = pairs(tmp_path)
    drawn = questions(root, layout, batch_size=4)
    assert len(drawn) == 24
    assert set(Counter(drawn.values())) == set(ASKED)
    assert drawn == questions(root, layout, batch_size=7, num_workers=2)
    assert drawn != questions(root, layout, batch_size=4, seed=1)


def test_the_ledger_adds_up_over_pairs_and_conversations_together(tmp_path, layout):
    root = pairs(tmp_path, 6)
    with tarfile.open(root / "train" / "2.tar", "w") as tar:
        for name, content in (
            ("a.jpg", page()), ("a.json", record()), ("b.jpg", page()), ("b.txt", b""), ("c.txt", b"alone"),
            ("d.jpg", page()), ("d.txt", b"4"), ("d.json", b"{"), ("e.jpg", page()[:90]), ("e.txt", b"5"),
        ):  # fmt: skip
            add(tar, name, content)
    data = Shards(root, num_workers=0, max_skipped=1.0, pair=Pair("?"))
    loader = data.loader("train", training=True, layout=layout)
    keys = [key for batch in loader for key in batch.keys]
    assert sorted(keys) == [*(f"{number:03d}" for number in range(6)), "a"]
    assert dict(loader.ledger.reasons) == {"no_answer": 1, "missing_image": 1, "bad_json": 1, "undecodable_image": 1}
    assert loader.ledger.seen == 11 == len(data.samples("train"))


def test_a_strict_run_takes_pairs_and_refuses_them_without_a_prompt(tmp_path, layout):
    root = pairs(tmp_path, 4)
    Shards(root, strict=True, pair=Pair("?")).prepare_data()
    with pytest.raises(UserError, match=r'missing_json.*--data\.pair\.prompt "Read the text\."'):
        Shards(root, strict=True).prepare_data()


def as_indexed_before(root):
    """Write the indexes as the version before pairs did: no task, source or length of a sample without conversation."""
    manifest = read_manifest(root / "train")
    for number, row in enumerate(manifest["shards"]):
        path = index_path(root / "train" / row["name"])
        index = load_index(path)
        aside = index.fault >= 0
        known = {name: np.where(aside, -1, getattr(index, name)).astype(np.int32) for name in ("task", "source")}
        old = replace(index, **known, text=np.where(aside, 0, index.text).astype(np.int32))
        manifest["shards"][number] = shard_row(old, old.save(path))
    write_manifest(manifest_path(root / "train"), manifest)


def test_an_index_from_before_is_as_good(tmp_path, layout):
    root = pairs(tmp_path, 8)
    with tarfile.open(root / "train" / "2.tar", "w") as tar:
        add(tar, "a.jpg", page())
        add(tar, "a.json", record())
    new = ShardSet(root / "train", pairs=True)
    assert new.text().tolist()[:8] == [1] * 8
    assert [len(index.faults) for index in new.indexes] == [1, 1, 0]  # however many pairs there are
    as_indexed_before(root)
    old = ShardSet(root / "train", pairs=True)
    assert old.manifest_hash != new.manifest_hash
    assert old.usable().tolist() == new.usable().tolist() == list(range(9))
    assert len(questions(root, layout, batch_size=4)) == 9
    for samples in (old, new):
        counts, _ = reading_counts(samples, {"ocr": 2.0}, {})
        assert counts.tolist() == pytest.approx([0.9] * 8 + [1.8])  # twice as often, in an epoch of nine


def test_index_inspect_and_verify_agree(tmp_path, capsys):
    root = pairs(tmp_path, 6)
    shards = str(root / "train")
    main(["shards", "index", shards, "--workers", "1"])
    assert "6 of those set aside have no conversation; image-text pairs are read with" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["shards", "verify", shards])
    main(["shards", "inspect", shards, "--json", str(tmp_path / "without.json")])
    main(["shards", "verify", shards, "--pairs", "true"])
    main(["shards", "inspect", shards, "--pairs", "true", "--json", str(tmp_path / "with.json")])
    without, found = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("without", "with"))
    assert (without["usable"], without["quarantined"]) == (0, {"missing_json": 6})
    assert (found["usable"], found["quarantined"], found["tasks"]) == (6, {}, {"unknown": 6})
    assert contact_sheet(ShardSet(root / "train", pairs=True), 2).size[0] > 300


def test_damage_costs_the_pair_that_it_hits(tmp_path, layout):
    root = pairs(tmp_path, 6)
    ShardSet(root / "train")
    shard = root / "train" / "0.tar"
    data = bytearray(shard.read_bytes())
    data[data.index(b"1", data.index(b"001.txt") + 512)] ^= 1
    shard.write_bytes(data)
    loader = Shards(root, num_workers=0, max_skipped=1.0, pair=Pair("?")).loader("train", training=True, layout=layout)
    assert "001" not in [key for batch in loader for key in batch.keys]
    assert dict(loader.ledger.reasons) == {"damaged_member": 1}
    found = verify_set(ShardSet(root / "train", pairs=True))
    assert [(skip.key, skip.reason) for skip in found] == [("", "changed_shard"), ("001", "damaged_member")]


def test_a_run_that_goes_on_with_another_prompt_is_refused(tmp_path):
    from shards.format.dataset_identity import check_unchanged

    before = {"seed": 0, "set": "a", "pair": {"prompt": "?", "answer": "txt"}}
    check_unchanged(before, before, tmp_path)
    with pytest.raises(UserError, match=r"data\.pair is"):
        check_unchanged(before, {**before, "pair": {"prompt": "!", "answer": "txt"}}, tmp_path)


def test_one_command_trains_on_a_downloaded_folder(tmp_path, monkeypatch, capsys):
    root = pairs(tmp_path / "download", 4, json=b'{"caption": "7", "url": "x"}')
    (root / "train" / "00000.parquet").write_bytes(b"of img2dataset")
    words = ["fit", "--config", "configs/realign_tiny.yaml", "--trainer.fast_dev_run", "true"]
    words += ["--data.num_workers", "0", "--data.train_shards", str(root / "train")]
    words += ["--data.pair.prompt", "Read: what is it?"]
    main([*words, "--data.root", str(tmp_path / "data"), "--data.recipe_samples", "{dev: 4, test: 4}"])
    assert "loss" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["dev", "test"]


def test_a_folder_of_plain_files_is_answered_with_the_importer(tmp_path):
    (tmp_path / "00000").mkdir()
    buffer = io.BytesIO()
    Image.new("L", (9, 9)).save(buffer, "PNG")
    (tmp_path / "00000" / "1.png").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=r"holds images, and no tar files\.\n.*fcot shards import folder"):
        ShardSet(tmp_path)
