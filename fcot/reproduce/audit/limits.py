"""The gains of Table 5 beside what the FLOPs of a page allow, counted at the shapes of InternVL2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcot.reproduce.audit.finding import Figures, Finding
from fcot.reproduce.audit.paper import Paper

SIZES = {"InternVL2-2B": "2b", "InternVL2-8B": "8b"}
RATIOS = {50: 2, 75: 4}  # how many visual tokens become one, by removed share
TILES = (3, 7, 13, 25)  # of a page with its thumbnail: small, medium, the paper's limit of 12, InfoVQA's of 24
LIMIT = 13  # tiles of a page at the paper's limit
PROMPT = 80  # text tokens, as `bench infer` counts
MEBI = 2**20


@dataclass(frozen=True)
class Limits:
    """What FLOPs allow a model to gain.

    Attributes:
        whole: Total FLOPs at ratio 1 over those at a ratio, by tiles and ratio.
        language: The same of the language model alone.
        lines: The counts as cells of a table: tiles, ratio, TFLOP of the parts, gains, cache.
    """

    whole: Mapping[tuple[int, int], float]
    language: Mapping[tuple[int, int], float]
    lines: Sequence[Sequence[str]]


def count_limits(size: str, tiles: Sequence[int]) -> Limits:
    """Count an answer up to its first token on the meta device, as `bench infer --device meta` does.

    Args:
        size: A size of InternVL2 such as "2b".
        tiles: Numbers of tiles of a page.
    """
    from fcot.bench.answer_flops import count  # imports torch
    from fcot.bench.workload import model_folder

    whole, language, lines = {}, {}, []
    with model_folder(size) as folder:
        for number in tiles:
            counts: dict[int, Any] = {ratio: count(folder, ratio, number, PROMPT) for ratio in (1, *RATIOS.values())}
            for ratio, each in counts.items():
                whole[number, ratio] = counts[1]["total"] / each["total"]
                language[number, ratio] = counts[1]["parts"]["prefill"] / each["parts"]["prefill"]
                lines.append(
                    [str(number), str(ratio), f"{each['visual_tokens']:,}", f"{each['parts']['vit']:.2f}",
                     f"{each['parts']['prefill']:.2f}", f"{each['total']:.2f}", f"{whole[number, ratio]:.2f}",
                     f"{language[number, ratio]:.2f}", f"{each['cache_bytes_bf16'] / MEBI:.0f}"]
                )  # fmt: skip
    return Limits(whole, language, lines)


def speed_ups(paper: Paper, limits: Mapping[str, Limits]) -> Finding:
    """Set each speed-up of Table 5 beside the largest that the FLOPs of a page allow.

    Args:
        paper: The tables.
        limits: Counted limits by model.
    """
    lines, flagged, beyond = [], [], 0
    for row in paper.tables[5]:
        if row.removed not in RATIOS:
            continue
        ratio, allowed, before = RATIOS[row.removed], limits[row.model], paper.teacher(row, 5)
        most = {tiles: gain for (tiles, each), gain in allowed.whole.items() if each == ratio}
        for column, printed in row.cells.items():
            # the smallest gain that two rounded times allow
            slow, fast = before.cells[column], printed
            gain, least = float(slow) / float(fast), float((slow.value - slow.unit / 2) / (fast.value + fast.unit / 2))
            reached = next((tiles for tiles in sorted(most) if least <= most[tiles]), None)
            fits = "no page counted" if reached is None else f"{reached} tiles or more"
            lines.append(
                [row.name, column, f"{before.cells[column].text} → {printed.text}", f"{gain:.2f}",
                 f"{most[min(most)]:.2f}", f"{most.get(LIMIT, max(most.values())):.2f}", f"{most[max(most)]:.2f}", fits]
            )  # fmt: skip
            beyond += reached is None
            if reached is None or reached > LIMIT:
                flagged.append(
                    f"{row.name}, {column}: {gain:.2f} times, limit {most[min(reached or LIMIT, LIMIT)]:.2f}"
                )
    few, many = (bound(tiles for tiles, _ in next(iter(limits.values())).whole) for bound in (min, max))
    head = ["row", "column", "time", "gain", f"limit, {few} tiles", f"{LIMIT} tiles", f"{many} tiles", "possible from"]
    counted = [Figures(COUNTED, [[model, *line] for model, each in limits.items() for line in each.lines])]
    return Finding(
        title="Times beside the limit of FLOPs",
        sentence=said(flagged, beyond, len(lines)),
        arithmetic=(
            "An answer costs at least its vision tower, projector and prefill. The vision tower costs the same at "
            "every ratio, so total FLOPs at ratio 1 over those at ratio 2 or 4 bound the gain, if all parts run at the "
            "same rate; reading the image, and at a batch of one writing further tokens, gain less and lower it. In "
            "large batches writing can gain more, as the KV cache is what is read then. FLOPs are counted at "
            f"InternVL2's shapes for a prompt of {PROMPT} tokens (fcot bench infer --device meta). The tiles of "
            "Table 5 are not known, so each gain is held against several pages. A gain near its "
            "limit leaves little time for the tokens of the answer."
        ),
        tables=[Figures(head, lines, words=2), *counted],
        flagged=flagged,
    )


COUNTED = ["model", "tiles", "ratio", "visual tokens", "vision, TFLOP", "prefill, TFLOP", "total, TFLOP",
           "gain allowed", "language model alone", "KV cache, MiB"]  # fmt: skip


def said(flagged: Sequence[str], beyond: int, total: int) -> str:
    """Return the finding in a sentence."""
    if not flagged:
        return f"All {total} gains are within what the FLOPs of a page of {LIMIT} tiles allow."
    rest = f"{beyond} of them on every page counted" if beyond else "larger pages would allow it"
    return (
        f"{total - len(flagged)} of {total} gains are within what the FLOPs of a page at the paper's tile limit, "
        f"{LIMIT} with the thumbnail, allow. Above it: {'; '.join(flagged)}; {rest}."
    )
