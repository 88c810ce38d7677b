"""What fewer visual tokens save at real size: FLOPs and cache of a page, counted at the shapes of InternVL2."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from fcot.bench.answer_flops import count
from fcot.bench.workload import model_folder
from fcot.internvl.sizes import SIZES
from fcot.report.cells import Cell, Table, with_bar

MODELS = {"InternVL2-1B": "1b", "InternVL2-2B": "2b", "InternVL2-8B": "8b"}  # sizes by the names they are known by
LEADING = "InternVL2-8B"  # whose figures stand at the top of the page
PAGE, TILES, PROMPT = (1700, 2200), 13, 80  # defaults of `bench infer`
TILE_SIDE = SIZES[MODELS[LEADING]].vision.image_size
MEBI = 2**20

Counted = Mapping[str, Any]
Savings = Mapping[str, Mapping[int, Counted]]  # by model and ratio


def savings(ratios: Sequence[int]) -> dict[str, dict[int, Counted]]:
    """Return what a page costs each InternVL2 at ratio 1 and at others, by model and ratio.

    A ratio that does not divide the visual tokens of InternVL2's tiles is left out, and all if none is left.

    Args:
        ratios: How many visual tokens become one.
    """
    students = [ratio for ratio in ratios if ratio > 1]
    possible = [ratio for ratio in students if counted(MODELS[LEADING], 1)["visual_tokens"] // TILES % ratio == 0]
    if not possible:
        return {}
    return {name: {ratio: counted(size, ratio) for ratio in (1, *possible)} for name, size in MODELS.items()}


@cache
def counted(size: str, ratio: int) -> Counted:
    """Return what `bench infer --device meta` counts of a page at a size and a ratio, as `answer_flops.count` does."""
    with model_folder(size) as folder:
        return count(folder, ratio, TILES, PROMPT)


def saved_facts(saved: Savings, ratio: int) -> list[tuple[str, str]]:
    """Return the figures of the leading model at a ratio beside those of ratio 1, each with what it is."""
    if ratio not in saved.get(LEADING, {}):
        return []
    before, after = saved[LEADING][1], saved[LEADING][ratio]
    language = f"{before['parts']['prefill']:.1f} → {after['parts']['prefill']:.1f}"
    return [
        (
            f"{before['total']:.1f} → {after['total']:.1f} TFLOP",
            f"counted for {LEADING} until the first token of an answer; its language model alone {language}",
        ),
        (
            f"{mebibytes(before)} → {mebibytes(after)} MiB",
            f"counted for {LEADING}: KV cache of a page and its prompt in bf16",
        ),
    ]


def counted_page() -> str:
    """Return what page is counted, in words."""
    return f"a page of {PAGE[0]} by {PAGE[1]} pixels, cut into {TILES} tiles of {TILE_SIDE}, its thumbnail one of them"


def savings_section(saved: Savings, ratios: Sequence[int], missing: list[str]) -> dict[str, Any] | str:
    """Return what the section shows, or why it shows nothing; says in `missing` for which ratios nothing is counted."""
    counts = saved.get(LEADING, {})
    unknown = [str(ratio) for ratio in ratios if ratio not in counts]
    if unknown:
        listed = " and ".join(unknown)
        missing.append(
            f"Savings at ratio {listed} are not counted: it does not divide the tokens of InternVL2's tiles."
        )
    if not saved:
        return missing[-1] if unknown else "No student was tested, so no savings are counted."
    head = ["model", "ratio", "visual tokens", "TFLOP until\nthe first token", "of these, the\nlanguage model",
            "KV cache\nin bf16, MiB"]  # fmt: skip
    lines = [line(name, ratio, each) for name, each in saved.items() for ratio in each]
    return {
        "table": Table(head, lines, breaks=range(len(counts), len(lines), len(counts))),
        "vision": f"{counts[1]['parts']['vit']:.1f}",
        "prompt": PROMPT,
        "page": counted_page(),
        "command": f"fcot bench infer --model {MODELS[LEADING]} --ratios {','.join(map(str, counts))}",
    }


def line(name: str, ratio: int, each: Mapping[int, Counted]) -> list[Cell]:
    """Return the row of a model at a ratio."""
    first, here = each[1], each[ratio]
    language = here["parts"]["prefill"]
    return [
        name,
        str(ratio),
        f"{here['visual_tokens']:,}",
        with_bar(f"{here['total']:.2f}", here["total"] / first["total"]),
        f"{language:.2f}",
        with_bar(mebibytes(here), here["cache_bytes_bf16"] / first["cache_bytes_bf16"]),
    ]


def mebibytes(counts: Counted) -> str:
    """Return the size of a cache in MiB."""
    return f"{counts['cache_bytes_bf16'] / MEBI:.0f}"
