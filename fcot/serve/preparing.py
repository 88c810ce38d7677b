"""Make a prompt of a request: decode and cut its pictures, tokenize its turns, and see that it fits the model."""

import copy
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fcot.errors import SampleError, UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.decode import MAX_PIXELS, decode_image
from fcot.internvl.encoder import ConversationEncoder, expand
from fcot.internvl.tiling import cut, grid
from fcot.models.running_rows import Prompt
from fcot.models.sampling import SeededRows
from fcot.models.seen_pages import Page
from fcot.models.token_counts import TokenCounts
from fcot.reduce import FewerTiles, Reducer
from fcot.serve.chat_request import MAX_SEED, ChatRequest, Talk, talk_of
from fcot.serve.refusal import RefusalError


@dataclass(frozen=True)
class Limits:
    """Bounds of one request.

    Attributes:
        max_pictures: Most pictures.
        max_pixels: Most pixels of all pictures together.
        max_tiles: Most tiles of a picture, thumbnail not counted.
        max_new_tokens: Longest answer in tokens.
    """

    max_pictures: int = 16
    max_pixels: int = 100_000_000
    max_tiles: int = 12
    max_new_tokens: int = 512


@dataclass(frozen=True)
class Ready:
    """A request that can be answered.

    Attributes:
        prompt: Its prompt.
        sampling: How its answer is drawn.
        max_new_tokens: Longest answer; never beyond what the model can read.
    """

    prompt: Prompt
    sampling: SeededRows
    max_new_tokens: int


class Preparer:
    """Turns requests into prompts, for several threads at once.

    Args:
        folder: The model's folder.
        limits: Bounds of one request.
        reducer: Drops or merges visual tokens.
    """

    def __init__(self, folder: ModelFolder, limits: Limits, reducer: Reducer | None = None) -> None:
        self.folder, self.limits, self.reducer = folder, limits, reducer
        self.encoder, self.counts = folder.encoder(), TokenCounts(folder.config)
        self.kept = bool(getattr(folder.config, "keep_positions", False))

    def ready(self, asked: ChatRequest) -> Ready:
        """Make a prompt of a request.

        Raises:
            RefusalError: If it cannot be answered.
        """
        talk = talk_of(asked, self.limits.max_pictures)
        try:
            pages = self._pages(talk.pictures)
            prompt, room = self._prompt(talk, pages)
        except SampleError as error:
            raise RefusalError(
                400, f"The request cannot be read: {error}.", "Give whole pictures, smaller ones or fewer."
            ) from None
        most = asked.max_completion_tokens or asked.max_tokens or self.limits.max_new_tokens
        seed = secrets.randbelow(MAX_SEED) if asked.seed is None else asked.seed
        top_p = 1.0 if asked.top_p is None else asked.top_p
        sampling = SeededRows(asked.temperature or 0.0, top_p, seeds=(seed,))
        return Ready(prompt, sampling, min(most, self.limits.max_new_tokens, room))

    def _pages(self, pictures: list[bytes]) -> tuple[Page, ...]:
        """Decode and cut pictures, one after another, so that one at a time is whole in memory."""
        pixels, tiles, found, size = self.limits.max_pixels, 0, [], self.folder.tile_size
        for number, data in enumerate(pictures):
            name = f"picture {number + 1}"
            image = decode_image(data, name, max_pixels=min(MAX_PIXELS, pixels))
            pixels -= image.width * image.height
            most = self.limits.max_tiles
            if isinstance(self.reducer, FewerTiles):
                most = self.reducer.limit(*image.size, most, size)
            page = cut(image, most, tile_size=size)
            tiles += len(page)
            if (tokens := self.encoder.teacher_tokens(tiles)) >= self.encoder.max_length and self.kept:
                raise SampleError(
                    "too_long", f"{tokens} positions of pictures up to {name}, over {self.encoder.max_length}"
                )
            found.append(Page(page, grid(*image.size, most, tile_size=size), self.counts(page)))
            _ = found[-1].sha256  # here, where no answer waits for it
            if sum(int(each.counts.sum()) for each in found) >= self.encoder.max_length:
                raise SampleError("too_long", f"the pictures up to {name} fill {self.encoder.max_length} tokens")
        return tuple(found)

    def _prompt(self, talk: Talk, pages: tuple[Page, ...]) -> tuple[Prompt, int]:
        """Return the prompt, and how many tokens of an answer fit behind it."""
        encoder = self._encoder(talk.system)
        tiles = [len(page.tiles) for page in pages]
        counts = torch.cat([torch.empty(0, dtype=torch.int64), *(page.counts for page in pages)])
        encoded = encoder.prompt(talk.questions, talk.answers, tiles)
        ids = expand(encoded, counts, encoder.image_token_id)[0]
        taken = (
            len(expand(encoded, encoder.teacher_tokens_per_tile, encoder.image_token_id)[0]) if self.kept else len(ids)
        )
        room = encoder.max_length - taken
        if room < 1:
            raise RefusalError(
                400,
                f"The conversation takes {taken} positions, and the model reads {encoder.max_length} at most.",
                "Ask about fewer pages, or shorten it.",
            )
        shown = talk.last_shown + 1
        first = encoder.prompt(talk.questions[:shown], talk.answers[: shown - 1], tiles)
        opening = expand(first, counts, encoder.image_token_id)[0]
        same = len(opening) <= len(ids) and bool(np.array_equal(ids[: len(opening)], opening))
        return Prompt(ids.tolist(), pages, len(opening) if same else len(ids)), room

    def _encoder(self, system: str | None) -> ConversationEncoder:
        """Return an encoder with a client's system message, in which control tokens would be obeyed.

        Raises:
            RefusalError: If it has any.
        """
        if system is None:
            return self.encoder
        if any(name in system for name in self.encoder.controls.names):
            raise RefusalError(400, "The system message has control tokens.", "Write it without them.")
        other: Any = copy.copy(self.encoder)
        other.template = self.encoder.template.with_system(system)
        return other  # type: ignore[no-any-return]


def refuse_penalties(config: Any) -> None:
    """Refuse a generation configuration that changes scores in ways that rows which join and leave do not know.

    Raises:
        UserError: If one is set.
    """
    neutral = {
        "repetition_penalty": (None, 1.0),
        "no_repeat_ngram_size": (None, 0),
        "bad_words_ids": (None,),
        "min_new_tokens": (None, 0),
        "min_length": (None, 0),
    }
    for name, values in neutral.items():
        value = getattr(config, name, None)
        if value not in values:
            raise UserError(
                f"generation_config.json sets {name} to {value!r}, which the server does not apply.\n"
                f"Remove it, or answer with fcot chat, which does."
            )
