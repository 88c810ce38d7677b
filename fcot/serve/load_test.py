"""The verb `bench serve`: how many requests a second a server answers, and how long clients wait."""

import base64
import io
import json as json_lib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from fcot.bench.output import Table, keep, publish
from fcot.bench.picture import Bars
from fcot.bench.workload import find_device, model_folder, numbers, page_image
from fcot.errors import UserError
from fcot.internvl.page_size import page_size
from fcot.serve.load_client import Reply, arrivals, load
from fcot.serve.load_models import give_tokenizer, is_size, server_of, write_models

DIFFERENT_PAGES = 32
DTYPES = {True: torch.bfloat16, False: torch.float32}


def serve(
    model: str = "100m",
    ratios: str = "1,2,4",
    rates: str = "0.5,1,2,4",
    seconds: float = 30.0,
    prompt: int = 80,
    new_tokens: int = 17,
    page: str = "1700x2200",
    max_tiles: int = 12,
    compressor: str = "conv",
    max_rows: int = 32,
    max_waiting: int = 64,
    device: str | None = None,
    bf16: bool | None = None,
    threads: int = 1,
    seed: int = 0,
    json: str | None = None,
    plot: Path | None = None,
) -> None:
    """Ask a teacher and its students more and more often, on the same server and pages.

    Requests come at random times, whether or not earlier ones have been answered, and each is about another page, so
    that nothing is remembered. The time of an answer counts from when it was to be asked. Weights are random, shapes
    real. The clients run on the same machine, in another process than the server.

    Args:
        model: Size (100m, 1b, 2b, 8b) or a model folder, whose configuration and tokenizer alone are used.
        ratios: How many visual tokens become one, a list; 1 is the teacher.
        rates: Requests a second, a list.
        seconds: How long each rate lasts.
        prompt: Characters of a question.
        new_tokens: Most tokens of an answer.
        page: Size of a page in pixels, WIDTHxHEIGHT or WIDTH,HEIGHT.
        max_tiles: Most tiles of a page, thumbnail not counted.
        compressor: Short name of the students' compressor.
        max_rows: Most requests answered together.
        max_waiting: Most requests that are read or wait besides.
        device: Where the server computes (default: this machine's accelerator, or its CPU).
        bf16: Compute in bf16 (default: on accelerators).
        threads: Threads of computation on the CPU.
        seed: Of the times at which requests come.
        json: File for the results, - for the standard output.
        plot: File for a picture of them.
    """
    place, rising = find_device(device), rates_of(rates)
    half = place.type != "cpu" if bf16 is None else bf16
    if min(seconds, new_tokens, prompt) <= 0:
        raise UserError(f"seconds is {seconds}, new_tokens {new_tokens}, prompt {prompt}.\nGive more than 0 of each.")
    options = ["--device", str(place), "--max_tiles", str(max_tiles), "--max_rows", str(max_rows)]
    options += ["--max_waiting", str(max_waiting), "--threads", str(threads), "--page_memory_mb", "0"]
    size = page_size(page)
    found: dict[str, Any] = {
        "bench": "serve",
        "model": model,
        "seconds": seconds,
        "prompt": prompt,
        "new_tokens": new_tokens,
        "page": list(size),
        "max_tiles": max_tiles,
        "compressor": compressor,
        "max_rows": max_rows,
        "max_waiting": max_waiting,
        "device": str(place),
        "precision": "bf16" if half else "fp32",
        "threads": threads,
        "seed": seed,
        "measured": [],
    }
    bodies = [request(image, prompt, new_tokens) for image in pages(*size)]
    with model_folder(model) as given, TemporaryDirectory(prefix="fcot-bench-") as scratch:
        base = given
        if is_size(model):
            base = Path(scratch) / "base"
            shutil.copytree(given, base)
            give_tokenizer(base)
        folders = write_models(base, numbers(ratios), compressor, DTYPES[half], Path(scratch))
        for ratio, folder in folders.items():
            with server_of(folder, options) as server:
                load(server.port, bodies, [0.0])  # warms up
                for rate in rising:
                    replies = load(server.port, bodies, arrivals(rate, seconds, seed))
                    found["measured"].append({"ratio": ratio, "rate": rate, **summary(replies)})
                    found["measured"][-1]["peak_bytes"] = server.peak_bytes()
                    tell(found, json)
    publish(found, [table(found)], json, NOTES, plot=plot, panels=panels(found))


def tell(found: dict[str, Any], target: str | None) -> None:
    """Say what the last rate gave, and keep all so far in the file: who stops the bench loses one rate at most."""
    row = found["measured"][-1]
    said = f"ratio {row['ratio']}, {row['rate']:g} asked a second: {row['answers_per_second']:.2f} answered a second"
    print(said, file=sys.stderr, flush=True)
    keep(found, target)


NOTES = (
    "first: seconds until the first text; all: seconds until the end; both from when the request was to be sent, of "
    "answered requests",
    "memory: most bytes of the server's process so far; refused: with status 429, as too many wait",
)


def rates_of(text: str) -> list[float]:
    """Return the rates of a list such as "0.5,1,2".

    Raises:
        UserError: If it is none, or a rate is not above 0.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [0.0]
    if not all(0 < rate < 10_000 for rate in found):
        raise UserError(f"rates is {text!r}.\nGive requests a second, such as 0.5,1,2.")
    return found


def pages(width: int, height: int) -> list[bytes]:
    """Return pages as JPEG files, no two the same."""
    drawn, files = np.array(page_image(width, height)), []
    for number in range(DIFFERENT_PAGES):
        file = io.BytesIO()
        drawn[:40, :40] = 7 * number
        Image.fromarray(drawn).save(file, "jpeg", quality=90)
        files.append(file.getvalue())
    return files


def request(page: bytes, prompt: int, new_tokens: int) -> bytes:
    """Return the body of a request about a page."""
    address = f"data:image/jpeg;base64,{base64.b64encode(page).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "text", "text": ("What is the total? " * prompt)[:prompt]},
    ]
    asked = {"messages": [{"role": "user", "content": content}], "max_tokens": new_tokens}
    return json_lib.dumps({**asked, "stream": True, "stream_options": {"include_usage": True}}).encode()


def summary(replies: Sequence[Reply]) -> dict[str, Any]:
    """Return counts, rates and percentiles of some replies."""
    answered = [reply for reply in replies if reply.status == 200]
    refused = sum(reply.status == 429 for reply in replies)
    spent = max(reply.due + reply.seconds for reply in replies)
    return {
        "requests": len(replies),
        "answered": len(answered),
        "refused": refused,
        "failed": len(replies) - len(answered) - refused,
        "answers_per_second": len(answered) / spent,
        "visual_tokens": fmean([reply.visual_tokens for reply in answered] or [0.0]),
        "tokens_per_second": sum(reply.tokens for reply in answered) / spent,
        "first": percentiles([reply.first for reply in answered]),
        "all": percentiles([reply.seconds for reply in answered]),
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentiles, {} of nothing."""
    cuts = np.percentile(values, (50, 95, 99)).tolist() if values else []
    return dict(zip(("p50", "p95", "p99"), cuts, strict=False))


def table(found: dict[str, Any]) -> Table:
    """Return a row for each ratio and rate."""

    def spread(of: dict[str, float], *names: str) -> list[str]:
        return [f"{of[name]:.2f}" if of else "-" for name in names]

    rows = [
        [
            str(row["ratio"]),
            f"{row['visual_tokens']:.0f}",
            f"{row['rate']:g}",
            str(row["requests"]),
            str(row["answered"]),
            str(row["refused"]),
            str(row["failed"]),
            f"{row['answers_per_second']:.2f}",
            f"{row['tokens_per_second']:.1f}",
            *spread(row["first"], "p50", "p95"),
            *spread(row["all"], "p50", "p95", "p99"),
            f"{row['peak_bytes'] / 1e9:.2f} GB" if row["peak_bytes"] else "-",
        ]
        for row in found["measured"]
    ]
    columns = ("ratio", "visual tokens", "asked/s", "asked", "answered", "refused", "failed", "answers/s", "tokens/s")
    waits = ("first p50", "p95", "all p50", "p95", "p99")
    title = f"{found['model']}, {found['precision']}, {found['seconds']:g} s at each rate, up to {found['new_tokens']} "
    title += f"tokens an answer, seconds that clients waited (seed {found['seed']})"
    return Table(title, (*columns, *waits, "memory"), rows)


def panels(found: dict[str, Any]) -> list[Bars]:
    """Return the 95th percentile of the time to the end at each rate."""
    rates = dict.fromkeys(row["rate"] for row in found["measured"])
    return [
        Bars(
            f"seconds to the end, 95 % of answers, {rate:g}/s",
            {
                f"1/{row['ratio']}": {"all": row["all"].get("p95", 0.0)}
                for row in found["measured"]
                if row["rate"] == rate
            },
        )
        for rate in rates
    ]
