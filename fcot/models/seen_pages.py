"""Remember what the vision tower saw of a page, so that a page asked about again costs no tower run."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fcot.batch import Batch
from fcot.models.prefix import Answerer
from fcot.models.reduced_pages import reduced_prompts, whole_prompts
from fcot.reduce import BeforeReducer, Reducer

BRANCH = "student"


@dataclass(frozen=True)
class Page:
    """A page cut into tiles.

    Attributes:
        tiles: uint8 `[tiles, 3, S, S]` on the CPU.
        grid: Columns and rows of the tiles.
        counts: Visual tokens of each tile, int64 `[tiles]`.
    """

    tiles: Tensor
    grid: tuple[int, int]
    counts: Tensor

    @cached_property
    def sha256(self) -> str:
        """Hash of grid and pixels."""
        digest = hashlib.sha256(repr((self.grid, tuple(self.tiles.shape))).encode())
        digest.update(self.tiles.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Seen:
    """What the language model reads of pages.

    Attributes:
        rows: Visual tokens of all of them, in order `[tokens, width]`.
        places: For each page, which of its visual tokens these are, or stand for.
    """

    rows: Tensor
    places: tuple[Tensor, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes that remembering it takes."""
        return sum(each.numel() * each.element_size() for each in (self.rows, *self.places))


class SeenPages:
    """Looks at pages, and forgets those not asked about for the longest time.

    A reducer before the language model may draw by the number of an image, so the pages of a prompt are remembered
    together there; otherwise each page is remembered on its own.

    Args:
        pair: The model.
        reducer: Drops or merges visual tokens.
        max_bytes: Most bytes that are remembered.

    Attributes:
        hits: Lookups that needed no tower run.
        misses: Lookups that needed one.
    """

    def __init__(self, pair: Answerer, reducer: Reducer | None, max_bytes: int) -> None:
        self.pair, self.reducer, self.max_bytes = pair, reducer, max_bytes
        self.num_bytes = self.hits = self.misses = 0
        self._known: OrderedDict[tuple[str, ...], Seen] = OrderedDict()

    @torch.no_grad()
    def look(self, prompts: Sequence[Sequence[Page]]) -> list[Seen]:
        """Return what the language model reads of the pages of each prompt; new ones pass the tower together."""
        together = isinstance(self.reducer, BeforeReducer)
        units = [[pages] if together and pages else [[page] for page in pages] for pages in prompts]
        found: dict[tuple[str, ...], Seen] = {}
        new: dict[tuple[str, ...], Sequence[Page]] = {}
        for unit in (each for of_prompt in units for each in of_prompt):
            key = key_of(unit)
            if key in self._known:
                self._known.move_to_end(key)
                found[key] = self._known[key]
            elif key not in new:
                new[key] = unit
                self.misses += 1
                continue
            self.hits += 1
        if new:
            found |= dict(zip(new, self._look_at(list(new.values())), strict=True))
        for key in new:
            self._remember(key, found[key])
        width = self.pair.student.config.text_config.hidden_size
        nothing = torch.empty(0, width, device=self.pair.student.device)
        return [joined([found[key_of(unit)] for unit in of_prompt], nothing) for of_prompt in units]

    def _look_at(self, units: list[Sequence[Page]]) -> list[Seen]:
        """Run the tower on groups of pages, each as the pages of a prompt of their own."""
        image_id = int(self.pair.student.config.image_token_id)
        between = 0 if image_id else 1  # any token that is no placeholder keeps images apart
        counts = [[int(page.counts.sum()) for page in unit] for unit in units]
        prompts = [[token for n in each for token in [*[image_id] * n, between]] for each in counts]
        batch = Batch(
            keys=[f"page {unit[0].sha256[:12]}" for unit in units],
            tasks=[""] * len(units),
            questions=[""] * len(units),
            references=[[] for _ in units],
            num_tiles=torch.tensor([sum(len(page.tiles) for page in unit) for unit in units]),
            tiles=torch.cat([page.tiles for unit in units for page in unit]).to(self.pair.student.device),
            tile_tokens={BRANCH: torch.cat([page.counts for unit in units for page in unit])},
            grids=[[page.grid for page in unit] for unit in units],
        )
        first = list(range(len(units)))
        if isinstance(self.reducer, BeforeReducer):
            read = reduced_prompts(self.pair, batch, BRANCH, first, prompts, self.reducer)
        else:
            read = whole_prompts(self.pair, batch, BRANCH, first, prompts)
        found, start = [], 0
        for index, whole in zip(read.index, counts, strict=True):
            places, begin = [], 0
            for count in whole:
                of_page = index[(index >= begin) & (index < begin + count)] - begin
                places.append(of_page)
                begin += count + 1
            end = start + sum(len(each) for each in places)
            found.append(Seen(read.rows[start:end].clone(), tuple(places)))
            start = end
        return found

    def _remember(self, key: tuple[str, ...], seen: Seen) -> None:
        """Remember pages, and forget others until the limit is kept."""
        self._known[key] = seen
        self.num_bytes += seen.num_bytes
        while self.num_bytes > self.max_bytes:
            _, oldest = self._known.popitem(last=False)
            self.num_bytes -= oldest.num_bytes


def key_of(unit: Sequence[Page]) -> tuple[str, ...]:
    """Return the name under which pages are remembered."""
    return tuple(page.sha256 for page in unit)


def joined(parts: Sequence[Seen], nothing: Tensor) -> Seen:
    """Return what was seen of groups of pages as one; `nothing` is `[0, width]`."""
    return Seen(
        torch.cat([*(each.rows for each in parts)] or [nothing]), tuple(p for each in parts for p in each.places)
    )
