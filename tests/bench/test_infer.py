import json

import pytest
import torch

from fcot.bench.answer_flops import MODEL_PARTS, TERA, count
from fcot.bench.flops import counting
from fcot.bench.infer import PARTS, infer
from fcot.bench.meter import Meter, answer_parts
from fcot.bench.workload import Pages
from fcot.errors import UserError
from fcot.models.student_teacher import StudentTeacher
from fcot.tiny import write_architecture


def test_the_limit_is_what_the_vision_tower_leaves(tmp_path):
    infer("2b", device="meta", prompt=80, json=str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["tiles"] == 13
    assert found["limits"] == {"1": 1.0, "2": pytest.approx(1.39, rel=0.01), "4": pytest.approx(1.70, rel=0.01)}
    # of eight questions on one page, half of each prompt is read once more for each: no ratio saves that
    assert found["one_page"]["limits"] == {
        "1": 1.0,
        "2": pytest.approx(1.36, rel=0.01),
        "4": pytest.approx(1.64, rel=0.01),
    }
    flops = found["flops"]
    assert [flops[ratio]["visual_tokens"] for ratio in "124"] == [3328, 1664, 832]
    assert [flops[ratio]["parts"]["vit"] for ratio in "124"] == [pytest.approx(9.41, rel=1e-3)] * 3
    assert [flops[ratio]["parts"]["prefill"] for ratio in "124"] == pytest.approx([11.43, 5.57, 2.84], rel=0.01)
    assert [flops[ratio]["cache_bytes_bf16"] / 2**20 for ratio in "124"] == pytest.approx([320, 164, 86], rel=0.01)


def test_each_ratio_is_measured_by_part_at_both_batch_sizes(tiny_checkpoint, tmp_path, capsys):
    infer(
        str(tiny_checkpoint),
        ratios="1,2",
        batch="1,2",
        questions=3,
        prompt=6,
        new_tokens=3,
        page="200,150",
        max_tiles=4,
        device="cpu",
        repeats=2,
        json=str(tmp_path / "found.json"),
    )
    found = json.loads((tmp_path / "found.json").read_text())
    rows = found["measured"]
    kinds = [(row["batch"], row["one_page"], row["ratio"]) for row in rows]
    assert kinds == [(n, one_page, r) for n, one_page in ((1, False), (2, False), (3, True)) for r in (1, 2)]
    for row in rows:
        assert row["parts"].keys() == set(PARTS)
        assert all(part["median"] > 0 for part in row["parts"].values())
        limit = (found["one_page"] if row["one_page"] else found)["limits"][str(row["ratio"])]
        assert row["share_of_limit"] == pytest.approx(row["gain_of_model"]["median"] / limit)
        assert 0 < row["share_of_matmul_rate"] < 1
        for name in ("total", "gain", "gain_of_model", "seconds_per_token"):
            assert row[name]["low"] <= row[name]["median"] <= row[name]["high"] and row[name]["repeats"] == 2
    assert [row["gain"]["high"] for row in rows if row["ratio"] == 1] == [1.0] * 3
    assert "measured on cpu" in capsys.readouterr().out


@pytest.mark.parametrize("questions", [1, 3])
@pytest.mark.parametrize("ratio", [1, 2])
def test_an_answer_spends_the_flops_that_its_limit_counts(tiny_checkpoint, ratio, questions):
    pair = StudentTeacher(tiny_checkpoint, compressor="conv" if ratio > 1 else None, ratio=ratio).eval()
    batch = Pages(tiles=3, prompt=6, answer=1, batch=questions).of({"student": pair.student.config})
    batch.tiles.copy_(batch.tiles[:3].repeat(questions, 1, 1, 1))
    with torch.no_grad(), counting() as flops:
        meter = Meter(flops)
        with answer_parts(pair, meter):
            pair.answer(batch, "student", max_new_tokens=1)
    spent = {part: meter.parts[part] / TERA for part in MODEL_PARTS}
    assert spent == pytest.approx(count(tiny_checkpoint, ratio, 3, 6, questions)["parts"])


@pytest.mark.parametrize("page", ["1700x2200", "1700,2200"])
def test_a_page_is_read_in_both_spellings(page):
    with pytest.raises(UserError, match="no size and no folder"):  # past the page, at the model
        infer(model="none", page=page, device="cpu")


def test_a_page_that_is_none_is_answered_with_one():
    with pytest.raises(UserError, match="not WIDTHxHEIGHT"):
        infer(page="letter", device="cpu")


def test_reducers_are_measured_beside_the_plain_model(tmp_path, capsys):
    folder = write_architecture(tmp_path / "m", tile_size=56, width=32, vision_layers=1, text_layers=4, heads=2)
    small = {"batch": 2, "questions": 1, "prompt": 6, "new_tokens": 3, "page": "200,150", "max_tiles": 4}
    given = {"device": "cpu", "repeats": 1, "ratios": "1", "json": str(tmp_path / "found.json")}
    infer(str(folder), **small, **given, reduce="fastv,visionzip", reduce_options={"keep": 0.5})
    rows = {row["reduce"]: row for row in json.loads((tmp_path / "found.json").read_text())["reducers"]}
    assert [*rows] == ["none", "fastv", "visionzip"]
    assert (rows["none"]["kept"], rows["none"]["equivalent"], rows["none"]["prefill_flops_share"]) == (20, 20, 1)
    assert (rows["fastv"]["kept"], rows["fastv"]["equivalent"]) == (10, 15)
    assert (rows["visionzip"]["kept"], rows["visionzip"]["equivalent"]) == (10, 10)
    assert 0.5 < rows["fastv"]["prefill_flops_share"] < 1
    assert all(row["peak_share"] > 0 and row["decode_share"]["median"] > 0 for row in rows.values())
    assert "training-free reducers, batch 2" in capsys.readouterr().out


def test_fewer_tiles_are_asked_for_by_their_own_option():
    with pytest.raises(UserError, match="Give a lower --max_tiles"):
        infer("100m", device="cpu", reduce="fewer_tiles")


def test_reducers_are_not_counted_without_values():
    with pytest.raises(UserError, match="which the meta device has not"):
        infer("2b", device="meta", reduce="fastv")
