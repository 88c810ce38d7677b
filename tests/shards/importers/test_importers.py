import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fcot.errors import UserError
from shards.build import build_set
from shards.format.shard_set import ShardSet
from shards.format.verify import verify_set
from shards.format.writer import write_set
from shards.importers import IMPORTERS, Settings
from shards.importing import import_set
from shards.render.recipes import Draw

ASKED = {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "this"}


def image(kind="PNG", side=20, seed=0):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path):
    """A folder with three images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, kind in enumerate(("PNG", "JPEG", "WEBP")):
        (folder / f"{number}.{kind.lower()}").write_bytes(image(kind, seed=number))
    return folder


def run(kind, source, output, **settings):
    """Import and return each sample: its images' extensions and its record; and the manifest."""
    manifest = import_set(kind, source, output, Settings(**settings), shard_size=2, workers=1)
    samples = ShardSet(output)
    assert verify_set(samples) == []
    found = []
    for number in samples.usable():
        raw = dict(samples.read(int(number)))
        found.append((sorted(set(raw) - {"__key__", "json"}), json.loads(raw["json"])))
    return found, manifest


def lines(path, *records):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_internvl_meta_files_bring_sources_images_and_repeat_time(tmp_path, images):
    two = [{"from": "human", "value": "<image><image> Same?"}, {"from": "gpt", "value": "no"}]
    lines(
        tmp_path / "doc.jsonl",
        {"id": 0, "image": "0.png", "width": 20, "height": 20, "conversations": ASKED},
        {"id": 1, "image": ["0.png", "1.jpeg"], "width_list": [20, 20], "conversations": two},
        {"id": 2, "conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
    )
    lines(tmp_path / "chart.jsonl", {"image": "../secret.png", "conversations": ASKED}, {"image": "gone.png"})
    meta = {
        "docvqa": {"root": "images/", "annotation": "doc.jsonl", "data_augment": False, "repeat_time": 2},
        "chartqa": {"root": "images/", "annotation": "chart.jsonl", "length": 2},
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    found, manifest = run("internvl", tmp_path / "meta.json", tmp_path / "out")
    assert [members for members, _ in found] == [["png"], ["0.png", "1.jpg"], []]
    assert {(record["task"], record["source"]) for _, record in found} == {("docvqa", "docvqa")}
    assert found[1][1]["conversations"] == two
    assert manifest["repeat_time"] == {"docvqa": 2.0}
    assert ShardSet(tmp_path / "out").repeat_time == {"docvqa": 2.0}
    assert manifest["skipped"] == {"missing_image": 1, "outside_root": 1}
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [line["key"] for line in skipped] == ["00000003", "00000004"]


def test_llava_json(tmp_path, images):
    records = [{"id": "a", "image": "2.webp", "conversations": ASKED}, {"id": "b", "image": "0.png"}, "c"]
    (tmp_path / "llava.json").write_text(json.dumps(records))
    found, manifest = run("llava", tmp_path / "llava.json", tmp_path / "out", images=images, task="qa")
    ((members, record),) = found
    assert (members, record["task"], record["source"]) == (["webp"], "qa", "llava")
    assert manifest["skipped"] == {"bad_json": 2}


def test_sharegpt_conversations_and_messages(tmp_path, images):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<image>What?"},
        {"role": "assistant", "content": "this"},
    ]
    lines(tmp_path / "a.jsonl", {"messages": messages, "images": ["images/0.png"]}, {"conversations": ASKED[:1]})
    (tmp_path / "a.jsonl").open("a").write("{broken\n")
    found, manifest = run("sharegpt", tmp_path / "a.jsonl", tmp_path / "out")
    ((members, record),) = found
    assert members == ["png"]
    assert record["conversations"][0] == {"from": "human", "value": "Be brief.\n<image>What?"}
    assert manifest["skipped"] == {"bad_json": 1, "no_answer": 1}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_of_hugging_face(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"image": {"bytes": image("JPEG", seed=seed), "path": None}, "question": f"{seed}?", "answers": ["a", "b"]}
        for seed in range(5)
    ]
    rows[3]["image"]["bytes"] = b"no image"
    table = pyarrow.Table.from_pylist(rows)
    (tmp_path / "data").mkdir()
    if kind == "parquet":
        parquet.write_table(table, tmp_path / "data" / "train.parquet", row_group_size=2)
    else:
        with pyarrow.ipc.new_stream(tmp_path / "data" / "train.arrow", table.schema) as stream:
            for batch in table.to_batches(max_chunksize=2):
                stream.write(batch)
    found, manifest = run("hf", tmp_path, tmp_path / "out")
    assert [record["conversations"][0]["value"] for _, record in found] == [f"<image>\n{n}?" for n in (0, 1, 2, 4)]
    assert {(*members, record["source"], *record["references"]) for members, record in found} == {
        ("jpg", "train", "a", "b")
    }
    assert manifest["skipped"] == {"undecodable_image": 1}


def test_a_folder_of_images_with_text_files(tmp_path, images):
    (images / "0.txt").write_text("Zürich\n")
    (images / "2.txt").write_bytes(b"\xff")
    found, manifest = run("folder", images, tmp_path / "out", question="Text?")
    ((members, record),) = found
    assert members == ["png"]
    assert [turn["value"] for turn in record["conversations"]] == ["<image>\nText?", "Zürich"]
    assert manifest["skipped"] == {"bad_text": 1, "missing_text": 1}
    assert manifest["question"] == "Text?"  # an import that was interrupted goes on with the same question only


def test_a_photo_with_a_second_picture_behind_the_first_is_a_jpeg(images, tmp_path):
    first, second = (Image.new("RGB", (20, 20), colour) for colour in ("red", "blue"))
    first.save(images / "1.jpeg", "MPO", save_all=True, append_images=[second])
    for number in range(3):
        (images / f"{number}.txt").write_text("red")
    found, _ = run("folder", images, tmp_path / "out")
    assert [members for members, _ in found] == [["png"], ["jpg"], ["webp"]]


def test_a_folder_of_any_spelling_with_what_a_mac_writes_beside(tmp_path):
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    pages = [Image.new("L", (9, 9), grey) for grey in (10, 200)]
    for name in ("A.PNG", "c.input.png", "more/B.tif", "more/._B.tif", "two.png"):
        pages[0].save(folder / name, "TIFF" if "tif" in name else "PNG")
    pages[0].save(folder / "more" / "B.tif", save_all=True, append_images=pages[1:])
    texts = {"A.TXT": "Alpha", "c.output.txt": "Gamma", "more/B.txt": "Beta", "two.a.txt": "?", "two.b.txt": "!"}
    for name, text in texts.items():
        (folder / name).write_text(text)
    found, manifest = run("folder", folder, tmp_path / "out")
    assert [(members, record["conversations"][1]["value"]) for members, record in found] == [
        (["png"], "Alpha"), (["png"], "Gamma"), (["0.png", "1.png"], "Beta")
    ]  # fmt: skip
    assert found[2][1]["conversations"][0]["value"].count("<image>") == 2
    assert manifest["skipped"] == {"ambiguous_text": 1}
    assert manifest["reencoded"] == {"TIFF": 1}


def test_files_that_a_mac_writes_beside_others_are_not_read(tmp_path, images):
    lines(tmp_path / "data" / "a.jsonl", {"image": "0.png", "conversations": ASKED})
    (tmp_path / "data" / "._a.jsonl").write_bytes(b"\0\5\x16\7")
    run("sharegpt", tmp_path / "data", tmp_path / "out", images=images)
    (tmp_path / "out" / "._shard-000000.tar").write_bytes(b"\0\5\x16\7")
    assert len(ShardSet(tmp_path / "out")) == 1


def test_a_row_of_a_table_keeps_id_digits_and_several_images(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parts = [
        {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "this"}]},
    ]
    rows = [
        {"id": "t-1", "images": [{"bytes": image(seed=seed)} for seed in range(2)], "question": "Sum?", "answer": 42},
        {"id": "t-2", "images": [{"bytes": b"no image"}], "question": "Sum?", "answer": 42},
        {"id": "t-3", "images": [{"bytes": image()}], "messages": parts},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows[2:]), tmp_path / "u.parquet")
    found, _ = run("hf", tmp_path / "t.parquet", tmp_path / "out")
    assert [(record["id"], record["conversations"][1]["value"]) for _, record in found] == [("t-1", "42")]
    assert found[0][1]["conversations"][0]["value"] == "<image>\n<image>\nSum?"
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert skipped[0]["id"] == "t-2"
    found, _ = run("hf", tmp_path / "u.parquet", tmp_path / "more")
    assert [turn["value"] for turn in found[0][1]["conversations"]] == ["<image>\nWhat?", "this"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Same?", "Same?"),
        ("<image>\nand <image>\nSame?", "<image>\nand <image>\n<image>\nSame?"),
        ("<image1> and <image2>", "<image> and <image>\n<image>"),
        ("<image1> <image2> <image3>", "<image> <image> <image>"),
    ],
)
def test_a_placeholder_of_a_file_stands_for_all_its_pages(tmp_path, images, asked, expected):
    pages = [Image.new("L", (9, 9), grey) for grey in (10, 200)]
    pages[0].save(images / "two.tif", save_all=True, append_images=pages[1:])
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": "no"}]
    lines(tmp_path / "a.jsonl", {"images": ["0.png", "two.tif"], "conversations": turns})
    found, _ = run("llava", tmp_path / "a.jsonl", tmp_path / "out", images=images)
    ((members, record),) = found
    assert (members, record["conversations"][0]["value"]) == (["0.png", "1.png", "2.png"], expected)


def test_digits_and_ids_of_records_are_kept_and_halves_of_letters_refused(tmp_path, images):
    talk = '"conversations": [{"from": "human", "value": "<image>\\nSum?"}, {"from": "gpt", "value": %s}]'
    records = [f'{{"id": {n}, "image": "0.png", {talk % answer}}}' for n, answer in enumerate(["42.50", '"\\ud800"'])]
    (tmp_path / "a.json").write_text(f"[{', '.join(records)}]")
    found, manifest = run("llava", tmp_path / "a.json", tmp_path / "out", images=images)
    assert [(record["id"], record["conversations"][1]["value"]) for _, record in found] == [(0, "42.50")]
    assert manifest["skipped"] == {"bad_json": 1}


def pdf(path, *texts):
    """Write a PDF of one page a text; an empty one has no text."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
    from matplotlib.figure import Figure

    with PdfPages(path) as pages:
        for text in texts:
            figure = Figure(figsize=(4, 3))
            FigureCanvasPdf(figure)
            figure.text(0.1, 0.5, text, fontsize=20)
            pages.savefig(figure)


def test_pages_of_pdf_files_are_rendered_with_their_text(tmp_path):
    pytest.importorskip("pypdfium2")
    (tmp_path / "docs" / "more").mkdir(parents=True)
    pdf(tmp_path / "docs" / "a.pdf", "Total 42.50", "")
    pdf(tmp_path / "docs" / "more" / "b.PDF", "Page three")
    (tmp_path / "docs" / "._a.pdf").write_bytes(b"\0\5\x16\7")
    (tmp_path / "docs" / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    found, manifest = run("pdf", tmp_path / "docs", tmp_path / "out", dpi=50)
    assert [record["conversations"][1]["value"] for _, record in found] == ["Total 42.50", "Page three"]
    assert [record["source"] for _, record in found] == ["a.pdf", "more/b.PDF"]
    raw = ShardSet(tmp_path / "out").read(0)
    page = Image.open(io.BytesIO(raw["png"])).convert("L")
    assert page.size == (200, 150)
    assert np.asarray(page).min() < 100  # there is ink
    assert manifest["skipped"] == {"bad_pdf": 1, "no_text": 1}


def test_an_interrupted_import_goes_on_where_it_was(tmp_path, images, monkeypatch):
    for number, kind in enumerate(("png", "jpeg", "webp")):
        (images / f"{number}.txt").write_text(kind)
    from shards.importers.folder import FolderImporter

    asked_for = []
    real = FolderImporter.__call__

    def stopped(self, index):
        asked_for.append(index)
        if index == 2 and asked_for.count(2) == 1:
            raise KeyboardInterrupt
        return real(self, index)

    monkeypatch.setattr(FolderImporter, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("folder", images, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    found, _ = run("folder", images, tmp_path / "out")
    assert len(found) == 3
    assert asked_for == [0, 1, 2, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


@pytest.mark.parametrize("kind", IMPORTERS)
def test_nothing_to_import_is_said(tmp_path, kind):
    with pytest.raises(UserError, match="There is nothing at"):
        import_set(kind, tmp_path / "nowhere", tmp_path / "out", Settings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        import_set(kind, tmp_path / "empty", tmp_path / "out", Settings())
    shutil.rmtree(tmp_path / "empty")
    assert not list(tmp_path.iterdir())


def test_an_unknown_importer_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(UserError, match=r"no importer 'lava'\. Did you mean 'llava'\?"):
        import_set("lava", tmp_path, tmp_path / "out", Settings())


def test_a_finished_set_is_replaced_only_if_asked(tmp_path, images):
    for path in images.iterdir():
        path.with_suffix(".txt").write_text("this")
    write_set(tmp_path / "train", Draw("letters", "train", 0, 2), 2, describe={"recipe": "letters"})
    with pytest.raises(
        UserError, match=r"train already holds 2 samples, drawn by the recipe letters\.\n.*--overwrite true"
    ):
        run("folder", images, tmp_path / "train")
    before = import_set("folder", images, tmp_path / "train", Settings(), workers=1, overwrite=True)
    assert before["samples"] == 3
    with pytest.raises(UserError, match=r"already holds 3 samples, imported from images \(folder\)"):
        run("folder", images, tmp_path / "train", task="another")
    with pytest.raises(UserError, match=r"already holds 3 samples, imported from images \(folder\)"):
        build_set(tmp_path, "letters", "train", 2, workers=1)
    assert json.loads((tmp_path / "train" / "manifest.json").read_text()) == before
    assert build_set(tmp_path, "letters", "train", 2, workers=1, overwrite=True)["samples"] == 2
    assert build_set(tmp_path, "letters", "train", 4, workers=1)["samples"] == 4  # what was drawn is drawn anew
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "train"]
