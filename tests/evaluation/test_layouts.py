"""The same rows from each layout on disk, and what people's files do to their readers."""

import base64
import io
import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from fcot.errors import UserError
from fcot.evaluation.benchmarks import BENCHMARKS
from fcot.evaluation.layouts.parquet import Pictures
from fcot.evaluation.layouts.tsv import tsv_rows
from fcot.evaluation.run.sets import find_set

FORMATS = Path(__file__).parent / "formats"
SETS = {
    "ai2d/test": 4, "ai2d/test_no_mask": 3, "chartqa/test": 4, "docvqa/val": 4, "infovqa/val": 4,
    "mathvista/testmini": 3, "mme/test": 4, "ocrbench/test": 3, "scienceqa/test": 4, "textvqa/val": 4,
}  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"


def of_layouts(name, root=FORMATS):
    """The rows of a set by layout."""
    short, split = name.split("/")
    kind = BENCHMARKS[short]()
    return {source.layout: kind.rows(source, split) for source in kind.find(root, split)}


def neutral(row):
    """What every layout knows of a row: a TSV has neither ids of the server nor all fields of MathVista."""
    fields = {name: value for name, value in row.fields.items() if name not in ("question_id", "own")}
    return (row.id, row.question, row.references, dict(row.choices), row.group, fields)


@pytest.mark.parametrize("name", SETS)
def test_rows_are_the_same_from_each_layout(name):
    found = of_layouts(name)
    assert len(found) == SETS[name]
    first, *others = found.values()
    assert first
    for rows in others:
        assert [neutral(row) for row in rows] == [neutral(row) for row in first]


@pytest.mark.parametrize("name", SETS)
def test_pictures_are_read_as_they_lie_there(name):
    for rows in of_layouts(name).values():
        for row in rows:
            (picture,) = row.pictures
            Image.open(io.BytesIO(picture.read())).load()
    folder = FORMATS / "official/docvqa/spdocvqa_images"
    if name == "docvqa/val":
        files = [(folder / f"aaaa0001_{page}.png").read_bytes() for page in (1, 2, 1)]
        for layout in ("official", "internvl", "parquet"):
            assert [row.pictures[0].read() for row in of_layouts(name)[layout]] == files


def written(tmp_path, name, head, *rows):
    (tmp_path / name).write_text("\n".join("\t".join(row) for row in (head, *rows)) + "\n", encoding="utf-8")
    return tmp_path / name


def picture(color="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 30), color).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_an_option_that_looks_like_nothing_is_one(tmp_path):
    written(
        tmp_path,
        "ScienceQA_TEST.tsv",
        ("index", "image", "question", "hint", "A", "B", "C", "D", "answer"),
        ("0", picture(), "Which?", "", "None", "NA", "nan", "", "C"),
    )
    (row,) = of_layouts("scienceqa/test", tmp_path)["tsv"]
    assert dict(row.choices) == {"A": "None", "B": "NA", "C": "nan"}
    assert row.references == ("C",)


def test_answers_are_a_list_or_a_text():
    rows = of_layouts("ocrbench/test")["official"]
    assert [row.references for row in rows] == [("lantern",), ("18.40", "RM 18.40"), ("x ^ { 2 } + 3",)]


def test_ids_that_repeat_are_not_taken():
    ids = [entry["id"] for entry in json.loads((FORMATS / "official/OCRBench/OCRBench.json").read_text())]
    assert len(set(ids)) < len(ids)
    assert [row.id for row in of_layouts("ocrbench/test")["official"]] == ["0", "1", "2"]


def test_a_picture_may_be_named_by_the_row_that_has_it(tmp_path):
    rows = of_layouts("docvqa/val")["tsv"]
    assert rows[2].pictures[0].read() == rows[0].pictures[0].read() != rows[1].pictures[0].read()
    head = ("index", "image", "question", "answer")
    file = written(
        tmp_path, "x.tsv", head, ("0", "7", "Before?", "a"), ("7", picture(), "There?", "b"), ("8", "9", "Gone?", "c")
    )
    first, second, third = [pictures[0] for _, pictures in tsv_rows(file)]
    assert first.read() == second.read()
    with pytest.raises(OSError, match="no row '9'"):
        third.read()


def test_two_pictures_are_a_list():
    (two, one) = [pictures for _, pictures in tsv_rows(FORMATS / "vlmevalkit/custom_two_images.tsv")]
    assert (len(two), len(one)) == (2, 1)
    assert two[0].read() != two[1].read()


def test_a_list_is_never_run(tmp_path):
    head = ("index", "image", "question", "answer")
    for cell in ("__import__('os').abort()", "[__import__('os').abort()]", "[" * 4000):
        written(tmp_path, "DocVQA_VAL.tsv", head, ("0", picture(), "What?", cell))
        with pytest.raises(UserError, match=r"row 0 of .*DocVQA_VAL\.tsv is no list"):
            of_layouts("docvqa/val", tmp_path)


def test_pages_that_were_saved_again_are_warned_about(tmp_path):
    for name in ("DocVQA_VAL_local.tsv", "images"):
        source = FORMATS / "vlmevalkit" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    found, notes = find_set("docvqa", tmp_path)
    assert any("JPEG of quality 75" in note for note in notes)
    assert len(found.rows) == 3
    shutil.copy(FORMATS / "vlmevalkit/DocVQA_VAL.tsv", tmp_path)  # it has the pages as they were
    assert not any("JPEG of quality 75" in note for note in find_set("docvqa", tmp_path)[1])


def test_pairs_of_mme_that_come_apart_are_put_together_and_odd_ones_are_said(tmp_path):
    head = ("index", "image", "image_path", "question", "answer", "category")
    rows = [
        (str(number), picture(), f"color/{name}.png", f"Is it {answer}?", answer, "color")
        for number, (name, answer) in enumerate((("a", "Yes"), ("b", "No"), ("a", "No"), ("c", "Yes"), ("b", "Yes")))
    ]
    written(tmp_path, "MME.tsv", head, *rows)
    found, notes = find_set("mme", tmp_path)
    assert any("1 pictures do not have two questions, such as color/c" in note for note in notes)
    pairs = {row.fields["picture"] for row in found.rows}
    assert pairs == {"a.png", "b.png", "c.png"}


def test_precision_is_a_number_of_digits_whatever_it_is_written_as():
    for layout, rows in of_layouts("mathvista/testmini").items():
        assert [row.fields["precision"] for row in rows] == [None, None, 1], layout


def test_an_answer_kept_on_a_server_is_none(tmp_path):
    (tmp_path / "docvqa").mkdir()
    row = {"image": "data/docvqa/test/documents/a.png", "question": "?", "question_id": 7, "answer": ""}
    (tmp_path / "docvqa/test.jsonl").write_text(json.dumps(row))
    found = of_layouts("docvqa/test") | of_layouts("docvqa/test", tmp_path)
    assert found.keys() == {"official", "parquet", "internvl"}
    for rows in found.values():
        assert rows
        assert all(row.references == () for row in rows)


def test_the_competitions_old_packages_are_read():
    (file,) = (FORMATS / "internvl").rglob("val_v1.0.json")
    rows = of_layouts("docvqa/val", file.parents[1])["official"]
    assert [row.question for row in rows] == [row.question for row in of_layouts("docvqa/val")["official"]]
    assert rows[0].pictures[0].read() == (file.parent / "documents/aaaa0001_1.png").read_bytes()


def test_what_a_score_is_made_of_and_is_not_there_is_said(tmp_path):
    _, notes = find_set("chartqa", FORMATS, limit=1)
    assert any("no rows of augmented" in note for note in notes)
    assert not any("no rows of" in note for note in find_set("chartqa", FORMATS)[1])
    _, notes = find_set("mme", FORMATS, limit=1)
    assert any("no rows of existence" in note and "color" not in note for note in notes)
    assert any("1 pictures do not have two questions" in note for note in notes)
    row = {"type": "full-page OCR cn", "id": 0, "image_path": "0.png", "question": "?", "answers": ["x"]}
    (tmp_path / "OCRBench_v2.json").write_text(json.dumps([row]))
    said = [note for note in find_set("ocrbench_v2", tmp_path)[1] if "no rows of" in note]
    assert len(said) == 1
    assert "Chinese" in said[0]


def test_charts_that_do_not_say_their_half_are_refused(tmp_path):
    written(tmp_path, "ChartQA_TEST.tsv", ("index", "image", "question", "answer"), ("0", picture(), "?", "3"))
    with pytest.raises(UserError, match="no column split, which tells human rows from augmented ones"):
        find_set("chartqa", tmp_path)


@pytest.mark.parametrize(
    "half",
    [{"type": ["human", "augmented"]}, {"human_or_machine": [0, 1]}],
)
def test_mirrors_of_charts_with_the_authors_names_are_read(tmp_path, half):
    labels = ["3", "4"] if "type" in half else [["3"], ["4"]]
    table = pa.table({"query": ["Many?", "Few?"], "label": labels, "image": [b"a", b"b"], **half})
    (tmp_path / "ChartQA/data").mkdir(parents=True)
    parquet.write_table(table, tmp_path / "ChartQA/data/test-00000-of-00001.parquet")
    rows = of_layouts("chartqa/test", tmp_path)["parquet"]
    found = [(row.question, row.references, row.group, row.pictures[0].read()) for row in rows]
    assert found == [("Many?", ("3",), "human", b"a"), ("Few?", ("4",), "augmented", b"b")]


def test_masked_diagrams_that_are_not_there_are_not_replaced_by_others(tmp_path):
    shutil.copytree(FORMATS / "official/ai2d", tmp_path / "ai2d", ignore=shutil.ignore_patterns("abc_images"))
    with pytest.raises(UserError, match="no folder abc_images"):
        find_set("ai2d", tmp_path)
    assert find_set("ai2d/test_no_mask", tmp_path)[0].rows


def test_a_question_whose_options_are_not_found_is_asked_as_it_is(tmp_path):
    asked = "Which?\nA) c\nB) b\nSay the letter."
    row = {"image": "data/ai2diagram/0.png", "question": asked, "question_id": 0, "answer": "B"}
    (tmp_path / "ai2diagram").mkdir()
    (tmp_path / "ai2diagram/test_vlmevalkit.jsonl").write_text(json.dumps(row))
    (row,) = of_layouts("ai2d/test", tmp_path)["internvl"]
    kind = BENCHMARKS["ai2d"]()
    assert kind.prompt(row) == asked
    assert kind.score(row, "b") == {"internvl2": 1.0, "definition": None}


def test_a_broken_line_of_mme_is_named(tmp_path):
    folder = tmp_path / "MME_Benchmark/color"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("Is it red?\tYes\nIs it blue? No\n")
    with pytest.raises(UserError, match=r"Line 2 of .*a\.txt has 1 cells, not 2"):
        find_set("mme", tmp_path)


def test_a_missing_set_says_where_it_was_looked_for_and_how_to_fetch_it(tmp_path):
    with pytest.raises(UserError, match=r"(?s)InfoVQA val is not below .*infographicsvqa/val.*hf download"):
        find_set("infovqa", tmp_path)


def test_a_set_that_is_not_whole_is_said():
    found, notes = find_set("chartqa", FORMATS)
    assert not found.whole
    assert any("has 3 rows" in note and "the split has 2500" in note for note in notes)
    assert any("also there as" in note for note in notes)


def test_the_layout_can_be_chosen_and_a_missing_one_is_refused(tmp_path):
    assert find_set("chartqa", FORMATS, layout="tsv")[0].source.layout == "tsv"
    with pytest.raises(UserError, match="not as internvl"):
        find_set("ocrbench", FORMATS, layout="internvl")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("OCRBench.json", "[{]", "OCRBench.json is not valid JSON"),
        ("OCRBench.json", '[{"question": "?"}]', r"Row 0 of OCRBench in .*OCRBench.json cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        find_set("ocrbench", tmp_path)


def test_a_hub_cache_is_found(tmp_path):
    folder = tmp_path / "hub/datasets--lmms-lab--ChartQA/snapshots/0abc/data"
    folder.mkdir(parents=True)
    shutil.copy(FORMATS / "lmms_lab/ChartQA/data/test-00000-of-00001.parquet", folder)
    assert [*of_layouts("chartqa/test", tmp_path)] == ["parquet"]


def test_a_second_copy_is_named_and_never_read_as_more_rows(tmp_path):
    for owner in ("lmms-lab", "lmms-lab-encoder"):
        for commit in ("0abc", "1def"):
            folder = tmp_path / f"datasets--{owner}--ChartQA/snapshots/{commit}/data"
            folder.mkdir(parents=True)
            shutil.copy(FORMATS / "lmms_lab/ChartQA/data/test-00000-of-00001.parquet", folder)
    found, notes = find_set("chartqa", tmp_path)
    assert len(found.rows) == 3
    assert any(note.count("parquet (") == 4 for note in notes)


def hub_file(tmp_path, pictures):
    """A file of ChartQA as the Hub has it, a row group for each two rows."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "type": ["human_test"] * len(pictures),
            "question": ["How many?"] * len(pictures),
            "answer": ["3"] * len(pictures),
            "image": pa.array([data and {"bytes": data, "path": None} for data in pictures], kind),
        }
    )
    file = tmp_path / "ChartQA/data/test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    parquet.write_table(table, file, row_group_size=2)
    return file


def test_pictures_of_parquet_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    hub_file(tmp_path, [b"a", b"b", b"c"])
    asked = []
    group = Pictures.group
    monkeypatch.setattr(Pictures, "group", lambda self, number: asked.append(number) or group(self, number))
    rows = of_layouts("chartqa/test", tmp_path)["parquet"]
    assert asked == []
    assert [row.pictures[0].read() for row in rows[::-1]] == [b"c", b"b", b"a"]
    assert asked == [1, 0, 0]


def test_a_row_of_parquet_without_a_picture_is_named(tmp_path):
    file = hub_file(tmp_path, [b"a", b"b", b"c", None])
    with pytest.raises(UserError, match=rf"Row 3 of {file} has no picture"):
        of_layouts("chartqa/test", tmp_path)


def test_a_picture_that_is_damaged_in_parquet_is_no_traceback(tmp_path):
    file = hub_file(tmp_path, [bytes(range(256)) * 40])
    rows = of_layouts("chartqa/test", tmp_path)["parquet"]
    data = bytearray(file.read_bytes())
    place = data.index(bytes(range(200)))
    data[place - 40 : place] = b"\xff" * 40
    file.write_bytes(data)
    with pytest.raises(OSError, match=r"\w"):
        rows[0].pictures[0].read()


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r'pip install "fcot\[import\]"'):
        of_layouts("chartqa/test")


def test_ocrbench_v2_is_the_same_from_each_layout():
    content = json.loads((Path(__file__).parent / "cases/ocrbench_v2.json").read_text(encoding="utf-8"))
    from fcot.evaluation.benchmarks import ocrbench_v2

    for entry in content["formats"]["rows"]:
        official = ocrbench_v2.row_of(entry["official_json"], None)
        hub = ocrbench_v2.from_hub(entry["hf_ling99"], None)
        tsv = ocrbench_v2.from_tsv(
            {name: str(value) for name, value in entry["vlmevalkit_tsv"].items()}, Path("x"), 0, None
        )
        assert neutral(tsv) == neutral(official)
        if not entry["official_json"]["type"].startswith("key information extraction en"):  # texts on the Hub
            assert neutral(hub) == neutral(official)
