"""Remember what the vision tower saw of a page, so that a page asked about again costs no tower run."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from fcot.batch import Batch
from fcot.models.prefix import Answerer
from fcot.models.question import reads_text
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


@dataclass(frozen=True)
class Unit:
    """Pages that are looked at and remembered together.

    Attributes:
        pages: In order.
        prompt: Ids with a run of placeholders for each page.
        name: Under which they are remembered.
    """

    pages: tuple[Page, ...]
    prompt: list[int]
    name: str


class SeenPages:
    """Looks at pages, and forgets those not asked about for the longest time.

    A reducer before the language model may draw by the number of an image, and a compressor may read the question, so
    the pages of a prompt are remembered together there; otherwise each page is remembered on its own.

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
        self.image_id = int(pair.student.config.image_token_id)
        self.reads_text = reads_text(pair.projector(BRANCH))
        self.num_bytes = self.hits = self.misses = 0
        self._known: OrderedDict[str, Seen] = OrderedDict()

    @torch.no_grad()
    def look(self, prompts: Sequence[tuple[Sequence[int], Sequence[Page]]]) -> list[Seen]:
        """Return what the language model reads of the pages of each prompt; new ones pass the tower together.

        Args:
            prompts: Ids of the first prompt with all of its pages, and these pages.
        """
        units = [self._units(ids, tuple(pages)) for ids, pages in prompts]
        found: dict[str, Seen] = {}
        new: dict[str, Unit] = {}
        for unit in (each for of_prompt in units for each in of_prompt):
            if unit.name in self._known:
                self._known.move_to_end(unit.name)
                found[unit.name] = self._known[unit.name]
            elif unit.name not in new:
                new[unit.name] = unit
                self.misses += 1
                continue
            self.hits += 1
        if new:
            found |= dict(zip(new, self._look_at(list(new.values())), strict=True))
        for name in new:
            self._remember(name, found[name])
        nothing = self.pair.student.get_input_embeddings().weight[:0]
        return [joined([found[unit.name] for unit in of_prompt], nothing) for of_prompt in units]

    def _units(self, ids: Sequence[int], pages: tuple[Page, ...]) -> list[Unit]:
        """Return what of a prompt is looked at together."""
        if not pages:
            return []
        if self.reads_text:
            name = hashlib.sha256(repr(list(ids)).encode()).hexdigest()
            return [Unit(pages, list(ids), " ".join([name, *(page.sha256 for page in pages)]))]
        groups = [pages] if isinstance(self.reducer, BeforeReducer) else [(page,) for page in pages]
        between = 0 if self.image_id else 1  # any token that is no placeholder keeps images apart
        return [
            Unit(
                group,
                [token for page in group for token in [*[self.image_id] * int(page.counts.sum()), between]],
                " ".join(page.sha256 for page in group),
            )
            for group in groups
        ]

    def _look_at(self, units: list[Unit]) -> list[Seen]:
        """Run the tower on groups of pages, each as the pages of a prompt of their own."""
        pages = [page for unit in units for page in unit.pages]
        batch = Batch(
            keys=[f"page {unit.pages[0].sha256[:12]}" for unit in units],
            tasks=[""] * len(units),
            questions=[""] * len(units),
            references=[[] for _ in units],
            num_tiles=torch.tensor([sum(len(page.tiles) for page in unit.pages) for unit in units]),
            tiles=torch.cat([page.tiles for page in pages]).to(self.pair.student.device),
            tile_tokens={BRANCH: torch.cat([page.counts for page in pages])},
            grids=[[page.grid for page in unit.pages] for unit in units],
        )
        first, prompts = list(range(len(units))), [unit.prompt for unit in units]
        if isinstance(self.reducer, BeforeReducer):
            read = reduced_prompts(self.pair, batch, BRANCH, first, prompts, self.reducer)
        else:
            read = whole_prompts(self.pair, batch, BRANCH, first, prompts)
        found, start = [], 0
        for prompt, index in zip(prompts, read.index, strict=True):
            places = tuple(
                index[(index >= begin) & (index < end)] - begin for begin, end in spans_of(prompt, self.image_id)
            )
            end = start + sum(len(each) for each in places)
            found.append(Seen(read.rows[start:end].clone(), places))
            start = end
        return found

    def _remember(self, name: str, seen: Seen) -> None:
        """Remember pages, and forget others until the limit is kept."""
        self._known[name] = seen
        self.num_bytes += seen.num_bytes
        while self.num_bytes > self.max_bytes:
            _, oldest = self._known.popitem(last=False)
            self.num_bytes -= oldest.num_bytes


def spans_of(prompt: Sequence[int], image_id: int) -> Iterator[tuple[int, int]]:
    """Yield where each run of placeholders begins and ends."""
    start = 0
    for visual, run in groupby(prompt, lambda token: token == image_id):
        end = start + sum(1 for _ in run)
        if visual:
            yield start, end
        start = end


def joined(parts: Sequence[Seen], nothing: Tensor) -> Seen:
    """Return what was seen of groups of pages as one; `nothing` is `[0, width]`."""
    return Seen(
        torch.cat([*(each.rows for each in parts)] or [nothing]), tuple(p for each in parts for p in each.places)
    )
