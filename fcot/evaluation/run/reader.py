"""Answer batches of rows with a model, pages cut into tiles beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch

from fcot.batch import Batch, Sequences
from fcot.errors import SampleError, UserError
from fcot.evaluation.rows import Answer, Row
from fcot.evaluation.run.pages import Page, pixels
from fcot.files.weights import folder_sha256
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.encoder import IGNORED, Encoded, expand
from fcot.internvl.prompts import IMAGE
from fcot.internvl.tiling import cut, grid, num_tiles
from fcot.internvl.tokens import page_tokens
from fcot.models.branches import STUDENT
from fcot.models.reduced_pages import Left
from fcot.models.routed_batch import routed
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from fcot.reduce import FewerTiles, Reducer, reducer_of

AHEAD = 2  # batches whose pages are cut while the model answers an earlier one


@dataclass(frozen=True)
class Budget:
    """How rows of a benchmark are answered.

    Attributes:
        max_tiles: Most tiles of a picture, thumbnail not counted.
        max_new_tokens: Longest answer.
        min_new_tokens: Shortest answer.
    """

    max_tiles: int
    max_new_tokens: int
    min_new_tokens: int = 1


@dataclass(frozen=True)
class Asked:
    """A row as the model is asked.

    Attributes:
        row: The row.
        text: The user's turn, without placeholders.
        pages: Its pages.
    """

    row: Row
    text: str
    pages: Sequence[Page]


@dataclass(frozen=True)
class Pages:
    """The pages of a row, cut into tiles, or why they cannot be.

    Attributes:
        tiles: uint8 `[tiles, 3, S, S]`.
        counts: Tiles of each page.
        grids: Their columns and rows.
        failed: The reason; "" if there is none.
    """

    tiles: torch.Tensor
    counts: Sequence[int] = ()
    grids: Sequence[tuple[int, int]] = ()
    failed: str = ""


@dataclass(frozen=True)
class Prepared:
    """A row whose pages are cut and whose prompt is encoded, or why it cannot be asked."""

    asked: Asked
    pages: Pages
    encoded: Encoded | None = None
    failed: str = ""


class Reader:
    """A model that answers rows.

    Args:
        folder: Its folder.
        device: Where to run.
        dtype: Type of the weights; "auto" keeps the stored type.
        reducer: Short name of what drops or merges visual tokens while answers are generated, and its options.
        threads: Pages are cut by so many.
        visual_tokens: Asked of each tile of an elastic student; "auto" leaves that to its router.
        budget: Most visual tokens of a row, instead.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: torch.device | str = "cpu",
        dtype: str = "auto",
        reducer: tuple[str | None, Mapping[str, Any] | None] = (None, None),
        threads: int = 4,
        visual_tokens: int | str | None = None,
        budget: int | None = None,
    ) -> None:
        self.folder, self.device, self.dtype, self.threads = folder, device, dtype, threads
        self.reducer: Reducer | None = reducer_of(*reducer)
        self.reducer_settings = None if reducer[0] is None else {"name": reducer[0], **(reducer[1] or {})}
        self.encoder, self.counts = folder.encoder(), TokenCounts(folder.config, visual_tokens, budget)
        self._pair: StudentTeacher | None = None

    @property
    def pair(self) -> StudentTeacher:
        """The model, loaded when it is first needed."""
        if self._pair is None:
            self._pair = StudentTeacher(self.folder.path, dtype=self.dtype).to(self.device).eval()
        return self._pair

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the folder's configuration and weights."""
        return folder_sha256(self.folder.path)

    def limit(self, page: Page, budget: Budget) -> int:
        """Return the most tiles of a page."""
        if isinstance(self.reducer, FewerTiles):
            return self.reducer.limit(page.width, page.height, budget.max_tiles, self.folder.tile_size)
        return budget.max_tiles

    def cost(self, asked: Asked, budget: Budget) -> int:
        """Return about how many tokens a row takes: visual ones, one for three bytes of text, the longest answer."""
        tiles = sum(
            num_tiles(*grid(page.width, page.height, self.limit(page, budget), tile_size=self.folder.tile_size))
            for page in asked.pages
            if not page.failed
        )
        return int(page_tokens(tiles, self.counts.most)) + len(asked.text.encode()) // 3 + budget.max_new_tokens

    def cut(self, asked: Asked, budget: Budget) -> Pages:
        """Decode and cut the pages of a row."""
        size = self.folder.tile_size
        nothing = torch.empty(0, 3, size, size, dtype=torch.uint8)
        broken = next((page.failed for page in asked.pages if page.failed), "")
        if broken:
            return Pages(nothing, failed=broken)
        limits = [self.limit(page, budget) for page in asked.pages]
        try:
            pictures = [pixels(picture) for picture in asked.row.pictures]
        except SampleError as error:
            return Pages(nothing, failed=str(error))
        cuts = [cut(image, most, tile_size=size) for image, most in zip(pictures, limits, strict=True)]
        grids = [grid(*image.size, most, tile_size=size) for image, most in zip(pictures, limits, strict=True)]
        return Pages(torch.cat([nothing, *cuts]), [len(tiles) for tiles in cuts], grids)

    def prepare(self, asked: Asked, pages: Pages) -> Prepared:
        """Encode the prompt of a row."""
        if pages.failed:
            return Prepared(asked, pages, failed=pages.failed)
        try:
            encoded = self.encoder.prompt([f"{IMAGE}\n" * len(pages.counts) + asked.text], [], pages.counts)
        except SampleError as error:
            return Prepared(asked, pages, failed=str(error))
        room = self.encoder.max_length - self._length(encoded, pages.tiles)
        if room < 1:
            reason = f"its {self.encoder.max_length - room} tokens leave no room in {self.encoder.max_length} positions"
            return Prepared(asked, pages, failed=reason)
        return Prepared(asked, pages, encoded)

    def _length(self, encoded: Encoded, tiles: torch.Tensor) -> int:
        """Return how many positions a prompt takes; those of kept positions are the teacher's."""
        kept = getattr(self.folder.config, "keep_positions", False)
        counts = self.encoder.teacher_tokens_per_tile if kept else self.counts(tiles)
        return len(expand(encoded, counts, self.encoder.image_token_id)[0])

    def read(self, batches: Iterable[Sequence[Asked]], budget: Budget) -> Iterator[list[Answer]]:
        """Answer batches of rows in turn, and yield the answers of each."""
        coming = iter(batches)
        with ThreadPoolExecutor(self.threads) as pool:
            waiting = [self._submit(pool, batch, budget) for batch in islice(coming, AHEAD)]
            try:
                while waiting:
                    ready = [self.prepare(asked, pages.result()) for asked, pages in waiting.pop(0)]
                    waiting += [self._submit(pool, batch, budget) for batch in islice(coming, 1)]
                    yield self.answer(ready, budget)
            finally:
                for _, pages in (each for batch in waiting for each in batch):
                    pages.cancel()

    def _submit(
        self, pool: ThreadPoolExecutor, batch: Sequence[Asked], budget: Budget
    ) -> list[tuple[Asked, Future[Pages]]]:
        """Have the pages of a batch cut, each once."""
        shown: dict[tuple[str, ...], Future[Pages]] = {}
        for asked in batch:
            key = tuple(page.sha256 for page in asked.pages)
            if key not in shown:
                shown[key] = pool.submit(self.cut, asked, budget)
        return [(asked, shown[tuple(page.sha256 for page in asked.pages)]) for asked in batch]

    @torch.no_grad()
    def answer(self, prepared: Sequence[Prepared], budget: Budget) -> list[Answer]:
        """Answer prepared rows together.

        Raises:
            UserError: If the device has not enough memory.
        """
        able = [each for each in prepared if not each.failed]
        texts: dict[str, Answer] = {}
        if able:
            batch, left = self.batch(able).to(self.device), list[Left]()
            if self.counts.routed:
                batch = routed(self.pair, batch, STUDENT, self.counts.visual_tokens, self.counts.budget)
            options: dict[str, Any] = {"max_new_tokens": budget.max_new_tokens, "min_new_tokens": budget.min_new_tokens}
            try:
                new = self.pair.answer(batch, STUDENT, None, self.reducer, left, **options)
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"{len(able)} rows of {max(len(ids) for ids in self._ids(able))} tokens do not fit the memory of "
                    f"{self.device} ({str(error).splitlines()[0]}).\nGive a smaller --batch_tokens or --batch_size."
                ) from error
            visual = [each.equivalent for each in left] or [float(each) for each in batch.visual_tokens("student")]
            ratios = batch.by_sample(self.counts.ratios_of(batch.tile_tokens[STUDENT]))
            for each, ids, tokens, its in zip(able, new, visual, ratios, strict=True):
                text = str(self.folder.tokenizer.decode(ids, skip_special_tokens=True)).strip()
                texts[each.asked.row.id] = self._said(each, text, tokens, its.tolist())
        return [texts.get(each.asked.row.id) or self._said(each, "", 0.0) for each in prepared]

    def _said(self, prepared: Prepared, text: str, visual_tokens: float, ratios: Sequence[int] = ()) -> Answer:
        pages = prepared.asked.pages
        return Answer(
            id=prepared.asked.row.id,
            text=text,
            tiles=len(prepared.pages.tiles),
            visual_tokens=visual_tokens,
            size=(pages[0].width, pages[0].height) if pages else (0, 0),
            failed=prepared.failed,
            ratios=list(ratios),
        )

    def _ids(self, prepared: Sequence[Prepared]) -> list[np.ndarray]:
        """Return the prompt of each row, placeholders repeated for every visual token."""
        found = []
        for each in prepared:
            assert each.encoded is not None
            found.append(expand(each.encoded, self.counts(each.pages.tiles), self.encoder.image_token_id)[0])
        return found

    def batch(self, prepared: Sequence[Prepared]) -> Batch:
        """Return rows as the models take them: prompts, and nothing to learn."""
        tiles = [each.pages.tiles for each in prepared]
        ids = self._ids(prepared)
        nothing = [(row, np.full_like(row, IGNORED)) for row in ids]
        return Batch(
            keys=[each.asked.row.id for each in prepared],
            tasks=[""] * len(prepared),
            questions=[each.asked.text for each in prepared],
            references=[list(each.asked.row.references) for each in prepared],
            num_tiles=torch.tensor([len(each) for each in tiles]),
            tiles=torch.cat(tiles),
            sequences={"student": Sequences.padded(nothing, self.encoder.tokenizer.pad_token_id, ids)},
            tile_tokens={"student": torch.cat([self.counts(each) for each in tiles])},
            grids=[list(each.pages.grids) for each in prepared],
        )
