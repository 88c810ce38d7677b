"""The verb `bench infer`: where the time of an answer goes, and how much of it fewer visual tokens can save."""

import io
import os
import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig

from fcot.batch import Batch
from fcot.bench.answer_flops import MODEL_PARTS, TERA, count_all
from fcot.bench.measure import Gain, Product, Timing, clocked, in_turn, on_accelerator, seconds
from fcot.bench.meter import ANSWER_PARTS, Meter, answer_parts
from fcot.bench.output import Table, flop_unit, publish
from fcot.bench.picture import Bars
from fcot.bench.reducers import measure_reducers, table_of
from fcot.bench.workload import Pages, find_device, model_folder, numbers, page_image, random_pair
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.page_size import page_size
from fcot.internvl.tiling import cut, grid, num_tiles
from fcot.models.new_student import student_of
from fcot.models.spec import StudentSpec
from fcot.models.student_teacher import StudentTeacher
from fcot.reduce import FewerTiles, reducer_of

PARTS = ("decode image", "preprocess", *ANSWER_PARTS)
NOTE = "gain of model: vit, projector and prefill; its limit: their FLOPs at the first ratio over those at this one"


def infer(
    model: str = "2b",
    ratios: str = "1,2,4",
    batch: int | str = "1,8",
    questions: int = 8,
    prompt: int = 80,
    new_tokens: int = 17,
    page: str = "1700x2200",
    max_tiles: int = 12,
    compressor: str = "conv",
    compile: bool = False,
    reduce: str | None = None,
    reduce_options: dict[str, Any] | None = None,
    device: str | None = None,
    bf16: bool | None = None,
    repeats: int = 5,
    json: str | None = None,
    plot: Path | None = None,
) -> None:
    """Time the parts of answering a question on each page of a batch, and several on one page, at several ratios.

    The gain of fewer visual tokens stands beside the most that FLOPs allow: the vision tower costs the same at every
    ratio. Weights are random, shapes real (FCoT-VL, Table 5).

    Args:
        model: Size (100m, 1b, 2b, 8b) or a model folder, whose configuration alone is used.
        ratios: How many visual tokens become one, a list; gains are over the first.
        batch: Pages of a batch, a list.
        questions: Questions that are asked together about a single page; 1 to leave that out.
        prompt: Text tokens of the prompt.
        new_tokens: Tokens of an answer, two or more; the first is part of the prefill.
        page: Size of the page in pixels, WIDTHxHEIGHT or WIDTH,HEIGHT.
        max_tiles: Most tiles of the page, thumbnail not counted.
        compressor: Short name of the students' compressor.
        compile: Compile the layers of the vision tower with torch.compile.
        reduce: Short names of training-free reducers to measure at the first ratio, a list such as fastv,dart.
        reduce_options: Options of each of them; --reduce.keep 0.5 sets one.
        device: Such as cpu; meta counts FLOPs only (default: this machine's accelerator, or its CPU).
        bf16: Compute in bf16 (default: on accelerators).
        repeats: How often each is timed.
        json: File for the results, - for the standard output.
        plot: File for a picture of them.
    """
    place, each, batches = find_device(device), numbers(ratios), numbers(str(batch))
    size = page_size(page)
    if min(prompt, new_tokens) < 2:
        raise UserError(f"prompt is {prompt}, new_tokens {new_tokens}.\nGive two tokens or more of each.")
    reducers = {name: reducer_of(name, reduce_options) for name in reduce.split(",")} if reduce else {}
    if any(isinstance(each, FewerTiles) for each in reducers.values()):
        raise UserError("fewer_tiles acts where a page is cut into tiles.\nGive a lower --max_tiles instead.")
    if reducers and place.type == "meta":
        raise UserError("A reducer selects by values, which the meta device has not.\nGive another --device.")
    half = on_accelerator(place) if bf16 is None else bf16
    found: dict[str, Any] = {
        "bench": "infer",
        "model": model,
        "prompt": prompt,
        "new_tokens": new_tokens,
        "page": list(size),
        "max_tiles": max_tiles,
        "compressor": compressor,
        "compile": compile,
        "device": str(place),
        "precision": "bf16" if half else "fp32",
    }
    with model_folder(model) as folder:
        side = ModelFolder(folder).tile_size
        found["tiles"] = num_tiles(*grid(size[0], size[1], max_tiles, tile_size=side))
        found |= count_all(folder, each, found["tiles"], prompt, compressor=compressor)
        if questions > 1:
            found["one_page"] = count_all(folder, each, found["tiles"], prompt, questions, compressor)
        if place.type != "meta":
            kinds = [*((size, False) for size in batches), *([(questions, True)] if questions > 1 else [])]
            found |= measure(folder, each, kinds, found, place, repeats)
            if reducers:
                found["reducers"] = beside_reducers(folder, each[0], reducers, found, place, max(batches), repeats)
    publish(found, tables(found), json, notes(found), plot=plot, panels=panels(found))


def measure(
    folder: Path,
    ratios: list[int],
    kinds: list[tuple[int, bool]],
    asked: dict[str, Any],
    device: torch.device,
    repeats: int,
) -> dict[str, Any]:
    """Return the times of each part for each kind of batch and ratio, all ratios of a kind in turn in this process.

    A large matrix product runs in turn with them, for its rate.

    Args:
        folder: Where the configuration is.
        ratios: Of the students, in the order of the table.
        kinds: Size of each batch, and whether all its questions are on one page.
        asked: The options of the bench.
        device: Where to measure.
        repeats: How often each is timed.
    """
    dtype = torch.bfloat16 if asked["precision"] == "bf16" else torch.float32
    pair = random_pair(folder, device, dtype).to(device, dtype).eval()
    pair.student.generation_config = GenerationConfig(pad_token_id=0)  # no end token: answers have full length
    if asked["compile"]:
        pair.compile_tower()
    students = {ratio: with_ratio(pair, asked["compressor"], ratio, device, dtype) for ratio in ratios}
    file = io.BytesIO()
    page_image(*asked["page"]).save(file, "jpeg", quality=90)
    product, products = Product(device, dtype), []
    times: dict[tuple[int, bool], dict[int, list[dict[str, float]]]] = {}

    def read(ratio: int, pages: Batch, files: list[bytes]) -> dict[str, float]:
        pair.student = students[ratio]
        return answer(pair, pages, files, asked, device)

    for size, one_page in kinds:
        made_up = Pages(asked["tiles"], asked["prompt"], 1, size)
        pages = {ratio: made_up.of({"student": student.config}) for ratio, student in students.items()}
        files = [file.getvalue()] * (1 if one_page else size)
        works = [partial(read, ratio, pages[ratio], files) for ratio in ratios]
        of_product, *runs = in_turn([clocked(product, device), *works], repeats)
        products += of_product
        times[size, one_page] = dict(zip(ratios, runs, strict=True))
    rate = product.rate(products) / TERA
    rows = [
        {"one_page": one_page, **row}
        for (size, one_page), runs in times.items()
        for row in summaries(size, one_page, runs, {**asked, "matmul_tflops": rate})
    ]
    return {"matmul_tflops": rate, "measured": rows}


def beside_reducers(
    folder: Path,
    ratio: int,
    reducers: dict[str, Any],
    asked: dict[str, Any],
    device: torch.device,
    batch: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Return what `measure_reducers` finds at a ratio; arguments as of `measure`."""
    dtype = torch.bfloat16 if asked["precision"] == "bf16" else torch.float32
    pair = random_pair(folder, device, dtype).to(device, dtype).eval()
    pair.student.generation_config = GenerationConfig(pad_token_id=0)
    pair.student = with_ratio(pair, asked["compressor"], ratio, device, dtype)
    pages = Pages(asked["tiles"], asked["prompt"], 1, batch).of({"student": pair.student.config}).to(device)
    return measure_reducers(pair, reducers, pages, asked["new_tokens"], device, repeats)


def with_ratio(pair: StudentTeacher, compressor: str, ratio: int, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a student at a ratio that shares all but the projector with the pair's."""
    if ratio == 1:
        return pair.student
    with torch.device(device):
        return student_of(pair.student, StudentSpec.of(compressor, ratio)).to(dtype).eval()


def answer(
    pair: StudentTeacher, pages: Batch, files: list[bytes], asked: dict[str, Any], device: torch.device
) -> dict[str, float]:
    """Answer the questions of a batch, from the image files on, and return the seconds of each part.

    Args:
        pair: Whose student answers.
        pages: The batch, its tiles still to be cut.
        files: An image for each question, or one for all.
        asked: The options of the bench.
        device: Where the models are.
    """
    side = pair.student.config.vision_config.image_size[0]
    meter = Meter(lambda: seconds(device))
    with ThreadPool(min(len(files), os.cpu_count() or 1)) as threads:
        images = threads.map(lambda file: Image.open(io.BytesIO(file)).convert("RGB"), files)
        meter.mark("decode image")
        cuts = threads.map(partial(cut, max_tiles=asked["max_tiles"], tile_size=side), images)
    for number, page in enumerate(cuts):
        page[0, :, 0, 0] = number  # pages that are the same would be read once
    tiles = torch.cat(cuts * (len(pages) // len(cuts)))
    batch = replace(pages, tiles=tiles).to(device)
    meter.mark("preprocess")
    with answer_parts(pair, meter):
        pair.answer(batch, "student", max_new_tokens=asked["new_tokens"])
    return meter.parts


def summaries(
    batch: int, one_page: bool, times: dict[int, list[dict[str, float]]], asked: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Give a row for each ratio: times by part, gains over the first ratio, shares of their limit and of matmul's."""
    counted, pages = (asked["one_page"], 1) if one_page else (asked, batch)
    first = next(iter(times))

    def over(ratio: int, parts: tuple[str, ...]) -> Gain:
        """Return the gain in some parts over the first ratio."""
        slow, fast = ([sum(run[part] for part in parts) for run in times[each]] for each in (first, ratio))
        return Gain.over(slow, fast)

    for ratio, runs in times.items():
        model_gain, limit = over(ratio, MODEL_PARTS), counted["limits"][ratio]
        least = pages * counted["flops"][ratio]["total"] / asked["matmul_tflops"]
        yield {
            "batch": batch,
            "ratio": ratio,
            "parts": {part: Timing.of([run[part] for run in runs]).json() for part in PARTS},
            "seconds_per_token": Timing.of([run["decode"] / (asked["new_tokens"] - 1) for run in runs]).json(),
            "total": Timing.of([sum(run.values()) for run in runs]).json(),
            "gain": over(ratio, PARTS).json(),
            "gain_of_model": model_gain.json(),
            "limit": limit,
            "share_of_limit": model_gain.median / limit,
            "share_of_matmul_rate": least / statistics.median(sum(run[part] for part in MODEL_PARTS) for run in runs),
        }


def notes(found: dict[str, Any]) -> list[str]:
    """Return what the columns mean, and the rate that times are held against."""
    if "measured" not in found:
        return [NOTE]
    rate = f"matrix products run at {found['matmul_tflops']:.3g} TFLOP/s here"
    return [NOTE, f"of matmul: what those FLOPs would take at that rate over what they take; {rate}"]


def tables(found: dict[str, Any]) -> list[Table]:
    """Return FLOPs and limits at each ratio, and what was measured at each batch size."""
    unit, scale = flop_unit(max(counted["total"] for counted in found["flops"].values()))
    title = f"{found['model']}: a page of {found['tiles']} tiles and {found['prompt']} prompt tokens, {unit}"
    cells = [
        [
            str(ratio),
            f"{counted['visual_tokens']:,}",
            *(f"{scale * counted['parts'][part]:.2f}" for part in MODEL_PARTS),
            f"{scale * counted['total']:.2f}",
            f"{found['limits'][ratio]:.2f}",
            f"{counted['cache_bytes_bf16'] / 2**20:.0f} MiB",
        ]
        for ratio, counted in found["flops"].items()
    ]
    drawn = [Table(title, ("ratio", "visual tokens", *MODEL_PARTS, "total", "limit of gain", "cache in bf16"), cells)]
    rows = found.get("measured", [])
    for batch, one_page in dict.fromkeys((row["batch"], row["one_page"]) for row in rows):
        cells = [
            [
                str(row["ratio"]),
                *(Timing(**row["parts"][part]).figures(1000, 0, "\n") for part in PARTS[:-1]),
                Timing(**row["seconds_per_token"]).figures(1000, 1, "\n"),
                Timing(**row["total"]).figures(1000, 0, "\n"),
                Gain(**row["gain"]).figures(1, 2, "\n"),
                Gain(**row["gain_of_model"]).figures(1, 2, "\n"),
                f"{row['limit']:.2f}",
                f"{row['share_of_limit']:.0%}",
                f"{row['share_of_matmul_rate']:.0%}",
            ]
            for row in rows
            if (row["batch"], row["one_page"]) == (batch, one_page)
        ]
        gains = ("gain", "gain of model", "its limit", "reached", "of matmul")
        columns = ("ratio", *PARTS[:-1], "a token", "in all", *gains)
        kind = f"{batch} questions on one page" if one_page else f"batch {batch}"
        title = f"{kind}, {found['new_tokens']} tokens an answer, {found['precision']}, ms, "
        title += f"medians of {rows[0]['total']['repeats']} runs in turn"
        drawn.append(Table(title, columns, cells))
    if "reducers" in found:
        drawn.append(table_of(found["reducers"], rows[-1]["batch"] if rows else 1))
    return drawn


def panels(found: dict[str, Any]) -> list[Bars]:
    """Return FLOPs at each ratio, and if measured the time at each batch size, gains written over them."""
    unit, scale = flop_unit(max(counted["total"] for counted in found["flops"].values()))
    flops = {f"1/{r}": {part: scale * n for part, n in each["parts"].items()} for r, each in found["flops"].items()}
    limits = {f"1/{ratio}": f"{limit:.2f}x" for ratio, limit in found["limits"].items()}
    drawn = [Bars(f"{unit}, and the gain they allow", flops, limits)]
    rows = found.get("measured", [])
    for batch, one_page in dict.fromkeys((row["batch"], row["one_page"]) for row in rows):
        same = [row for row in rows if (row["batch"], row["one_page"]) == (batch, one_page)]
        mine = {f"1/{row['ratio']}": row for row in same}
        kind = f"{batch} questions on one page" if one_page else f"batch {batch}"
        spent = {name: {part: row["parts"][part]["median"] for part in PARTS} for name, row in mine.items()}
        gains = {name: Gain(**row["gain"]).mark(".2f", "x") for name, row in mine.items()}
        drawn.append(Bars(f"seconds, {kind}, and the gain", spent, gains))
    return drawn
