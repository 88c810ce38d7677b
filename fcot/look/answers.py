"""Let models answer a question about a page, one after another, and compare their answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from PIL import Image

from fcot.errors import UserError
from fcot.look.differences import differences, visible
from fcot.look.heat import Heat, agreement, enlarged, full_color, heat_of, overlay
from fcot.look.look import Look
from fcot.look.reader import Reader
from fcot.look.turns import Check
from fcot.look.uploaded import Uploaded, png_of
from fcot.serve.refusal import RefusalError

THUMBNAIL = 224  # pixels of its side as drawn


@dataclass(frozen=True)
class Pictures:
    """Where an answer looked, as PNGs.

    Attributes:
        page: The page under its heat.
        thumbnail: The thumbnail under its own; None if there is none.
    """

    page: bytes
    thumbnail: bytes | None

    @property
    def num_bytes(self) -> int:
        """Bytes of both."""
        return len(self.page) + len(self.thumbnail or b"")


def answer_all(
    readers: Sequence[Reader], page: Uploaded, question: str, max_new_tokens: int, check: Check
) -> list[tuple[dict[str, Any], Pictures]]:
    """Return what each model answers, as JSON takes it, and where it looked.

    Args:
        readers: The models; others are compared with the first.
        page: The page.
        question: The question.
        max_new_tokens: Longest answer in tokens.
        check: Is called at each token, and may raise.

    Raises:
        RefusalError: If a model cannot read the page and the question, or `check` raises it.
    """
    looks = []
    for reader in readers:
        try:
            look = reader.looker.look(
                page.cut_of(reader),
                question,
                max_new_tokens=max_new_tokens,
                visual_tokens=reader.visual_tokens,
                on_token=check,
            )
        except UserError as error:
            wrong, *advice = str(error).splitlines()
            raise RefusalError(400, f"{reader.name}: {wrong}", " ".join(advice)) from None
        check()
        looks.append(look)
    heats = [heat_of(look) for look in looks]
    hottest = full_color(heats)
    return [
        (said(reader, look, heat, looks[0], heats[0]), drawn(page.shown, heat, hottest))
        for reader, look, heat in zip(readers, looks, heats, strict=True)
    ]


def said(reader: Reader, look: Look, heat: Heat, first: Look, first_heat: Heat) -> dict[str, Any]:
    """Return an answer and figures about it, compared with the first model's unless it is that one."""
    counts = [tile.count for tile in look.places.tiles]
    alike = None if look is first else agreement(first_heat, heat)
    return {
        "name": reader.name,
        "answer": visible(look.answer),
        "differences": None if look is first else differences(first.answer, look.answer),
        "visual_tokens": sum(counts),
        "prompt_tokens": look.prompt_tokens,
        "new_tokens": look.new_tokens,
        "seconds": round(look.seconds, 4),
        "flops": asdict(reader.cost(counts, look.prompt_tokens, look.new_tokens)),
        "on_page": round(float(look.mass.mean()), 4),
        "on_tiles": shares_of_tiles(look),
        "overlap": None if alike is None else round(alike.overlap, 4),
    }


def shares_of_tiles(look: Look) -> list[float]:
    """Return the share of each tile, the thumbnail last, in the attention to visual tokens."""
    mean, starts = look.attention.double().mean(0), look.places.starts
    return [round(float(mean[a:b].sum()), 4) for a, b in pairwise(starts)]


def drawn(page: Image.Image, heat: Heat, hottest: float) -> Pictures:
    """Draw a page and its thumbnail under the heat of an answer.

    Args:
        page: The page as it is shown.
        heat: The heat.
        hottest: Heat that has the full colour.
    """
    whole = png_of(overlay(page, enlarged(heat.cells, page.size), hottest))
    if heat.thumbnail is None:
        return Pictures(whole, None)
    squeezed = page.resize((THUMBNAIL, THUMBNAIL))
    return Pictures(whole, png_of(overlay(squeezed, enlarged(heat.thumbnail, squeezed.size), hottest)))
