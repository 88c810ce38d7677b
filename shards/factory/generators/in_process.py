"""A model folder as a generator: its texts are drawn in this process."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from fcot.batch import Batch, PageLayout
from fcot.convert.auto_convert import native_folder
from fcot.errors import SampleError
from fcot.files.weights import folder_sha256
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.shipped import shipped
from fcot.models.device import device_of
from fcot.models.sampling import SeededRows
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from shards.factory.requests import Request, Response
from shards.feed.collate import collate
from shards.feed.decode import Prepared, prepare

AHEAD = 8  # batches whose requests are sorted by length, so that short prompts are not padded to long ones


class InProcess:
    """Draws texts from a model folder.

    Requests about one page share its vision pass and the cache of what their prompts have in common. A text depends
    on its request alone, not on the batch, but for rounding at a near tie.

    Args:
        folder: Folder of a student or a teacher, in any layout that fcot knows.
        batch_size: Requests drawn together.
        device: Where to run; "auto" is an accelerator if there is one.
        dtype: Type of the weights; "auto" keeps the stored type.

    Raises:
        UserError: If it is no model folder.
    """

    def __init__(self, folder: Path, *, batch_size: int = 64, device: str = "auto", dtype: str = "auto") -> None:
        self.folder = ModelFolder(native_folder(shipped(folder)))
        self.batch_size, self.device, self.dtype = batch_size, device_of(device), dtype
        self.name = folder.name
        self.identity = folder_sha256(self.folder.path)
        self.encoder = self.folder.encoder()

    @cached_property
    def pair(self) -> StudentTeacher:
        """The model, loaded when it is first needed."""
        return StudentTeacher(self.folder.path, dtype=self.dtype).to(self.device).eval()

    def faults(self) -> Mapping[str, int]:
        """Return {}: nothing is tried twice here."""
        return {}

    def close(self) -> None:
        """Forget the model."""
        self.__dict__.pop("pair", None)

    def answers(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Response]]:
        """Answer requests batch by batch; those of one page stay together."""
        while window := list(islice(requests, AHEAD * self.batch_size)):
            alike: dict[tuple[float, float, int], list[tuple[Request, Prepared]]] = {}
            pages: dict[str, Prepared] = {}  # of requests that ask the same about one page
            for request in window:
                try:
                    prepared = self._once(request, pages)
                except SampleError as error:
                    yield request, Response(request.id, model=self.name, refused=f"{error.reason}: {error}")
                    continue
                asked = request.sampling
                most = max(1, min(asked.max_tokens, self.encoder.max_length - self._length(prepared)))
                alike.setdefault((asked.temperature, asked.top_p, most), []).append((request, prepared))
            for kind, ready in sorted(alike.items()):
                ready.sort(key=lambda each: self._length(each[1]))
                for start in range(0, len(ready), self.batch_size):
                    yield from self._answer(ready[start : start + self.batch_size], *kind)

    def _once(self, request: Request, pages: dict[str, Prepared]) -> Prepared:
        name = json.dumps([request.key, list(request.turns), request.sampling.max_tiles], default=dict)
        if name not in pages:
            pages[name] = self.prepare(request)
        return pages[name]

    @torch.no_grad()
    def _answer(
        self, ready: Sequence[tuple[Request, Prepared]], temperature: float, top_p: float, most: int
    ) -> Iterator[tuple[Request, Response]]:
        start = perf_counter()
        batch = collate([prepared for _, prepared in ready], self.layout(None)).to(self.device)
        rows = SeededRows(temperature, top_p, seeds=tuple(request.seed for request, _ in ready))
        new = self.pair.answer(batch, "student", rows, max_new_tokens=most)
        seconds = (perf_counter() - start) / len(ready)
        prompts = self._prompt_lengths(batch)
        for (request, _), ids, length in zip(ready, new, prompts, strict=True):
            yield (
                request,
                Response(
                    request.id,
                    self.folder.tokenizer.decode(ids, skip_special_tokens=True),
                    "length" if len(ids) >= most else "stop",
                    length,
                    len(ids),
                    self.name,
                    round(seconds, 4),
                ),
            )

    def prepare(self, request: Request) -> Prepared:
        """Cut the pages of a request and encode its prompt.

        Raises:
            SampleError: With the reason it cannot be asked.
        """
        record = {"conversations": [*request.turns, {"from": "gpt", "value": "-"}]}
        images = {f"{at}.{extension}": data for at, (extension, data) in enumerate(request.images)}
        raw = {"__key__": request.key, "json": json.dumps(record).encode(), **images}
        return prepare(raw, self.layout(request.sampling.max_tiles), with_prompt=True)

    def layout(self, max_tiles: int | None) -> PageLayout:
        """Return what is needed to prepare pages for the model."""
        return PageLayout(
            encoder=self.encoder,
            tile_size=self.folder.tile_size,
            max_tiles=max_tiles or self.folder.max_tiles,
            tokens_per_tile={"student": TokenCounts(self.folder.config)},
        )

    def _length(self, prepared: Prepared) -> int:
        """Return the tokens of a prompt as the teacher counts them."""
        assert prepared.prompt is not None
        return len(prepared.prompt.ids) + int(self.encoder.teacher_tokens(len(prepared.tiles)))

    def _prompt_lengths(self, batch: Batch) -> list[int]:
        mask: Any = batch.sequences["student"].prompt_mask
        return [int(each) for each in mask.sum(1)]
