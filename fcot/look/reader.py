"""A model that answers on the page: what it makes of a page's tiles, and what an answer of it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fcot.convert.auto_convert import native_folder
from fcot.internvl.checkpoint import ModelFolder
from fcot.look.cost import AnswerCost
from fcot.look.look import CutPage, Looker
from fcot.look.names import names_of
from fcot.models.token_counts import TokenCounts


@dataclass(frozen=True)
class Reader:
    """A model, or an elastic student at one of its numbers of visual tokens.

    Attributes:
        name: Its name on the page.
        looker: The loaded model.
        cost: Counts its FLOPs.
        visual_tokens: Asked of each tile; None for a model that is not elastic.
    """

    name: str
    looker: Looker
    cost: AnswerCost
    visual_tokens: int | None

    @property
    def tokens(self) -> TokenCounts:
        """Counts the visual tokens of tiles."""
        return TokenCounts(self.looker.folder.config, self.visual_tokens)

    def described(self) -> dict[str, Any]:
        """Return what is said of the model before it has seen a page."""
        most = self.tokens.most
        whole = self.looker.folder.encoder().teacher_tokens(1)
        return {"name": self.name, "tokens_a_tile": most, "ratio": round(whole / most, 2), "instead_of": whole}

    def seen(self, page: CutPage) -> dict[str, Any]:
        """Return the tiles and visual tokens of a page, as the browser draws them."""
        counts = self.tokens(page.tiles).tolist()
        places = self.looker.places(page, counts)
        rasters = {
            str(tile.count): {"lead": tile.lead, "borders": tile.borders(), "apart": tile.windows is not None}
            for tile in places.tiles
        }
        return {
            "name": self.name,
            "grid": list(page.grid),
            "side": places.side,
            "counts": counts,
            "tokens": sum(counts),
            "instead_of": self.looker.folder.encoder().teacher_tokens(len(counts)),
            "rasters": rasters,
        }


def load_readers(
    models: Sequence[Path],
    *,
    max_tiles: int | None = None,
    layers: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    dtype: str = "auto",
) -> list[Reader]:
    """Load models, each once; arguments as of `Looker`.

    An elastic student is a reader at each of its numbers of visual tokens, the most first.

    Raises:
        UserError: If a folder, a layer or a name cannot be used.
    """
    names = names_of(models)
    folders = [ModelFolder(native_folder(model)) for model in models]  # a wrong one is found before any is loaded
    readers = []
    for name, folder in zip(names, folders, strict=True):
        looker = Looker(folder, device=device, dtype=dtype, max_tiles=max_tiles, layers=layers)
        cost, choices = AnswerCost(folder), TokenCounts(folder.config).choices
        if len(choices) == 1:
            readers.append(Reader(name, looker, cost, None))
        else:
            readers += [Reader(f"{name}, {number} a tile", looker, cost, number) for number in choices]
    return readers
