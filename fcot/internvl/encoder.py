"""Turn a conversation into ids and labels: template, images, length, and the placeholders of each visual token."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcot.errors import SampleError
from fcot.internvl.control_tokens import TEXT, ControlTokenError, ControlTokens, Piece
from fcot.internvl.prompts import IMAGE, Segment, Template
from fcot.internvl.tokens import CONTEXT, END, START, page_tokens, sums_by_sample

IGNORED = -100  # label of a token without loss, PyTorch's default


@dataclass(frozen=True)
class Encoded:
    """A tokenized conversation in which each image is still one placeholder.

    Attributes:
        ids: int64 `[length]`.
        labels: `[length]`, the ids of answer tokens, −100 elsewhere.
        tiles: Tiles of each image, in order.
    """

    ids: np.ndarray
    labels: np.ndarray
    tiles: tuple[int, ...]


class ConversationEncoder:
    """Turns conversations into ids for teacher and student alike.

    Args:
        tokenizer: A fast tokenizer with InternVL's image tokens.
        template: The conversation template, its system message set.
        image_token_id: Id of the image placeholder.
        max_length: Longest sequence, counted with the teacher's visual tokens, so that teacher and student
            keep the same answer tokens.
        teacher_tokens_per_tile: Visual tokens of a tile at ratio 1.
        control_tokens: What a control token in a question or an answer is: "text", or "as_written" to obey it.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: Template,
        *,
        image_token_id: int,
        max_length: int,
        teacher_tokens_per_tile: int,
        control_tokens: str = TEXT,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.image_token_id = image_token_id
        self.max_length = max_length
        self.teacher_tokens_per_tile = teacher_tokens_per_tile
        self.bos: list[int] = tokenizer("").input_ids[:1]
        self.controls = ControlTokens(tokenizer, (START, CONTEXT, END), control_tokens)

    def teacher_tokens(self, tiles: Any) -> Any:
        """Return the teacher's visual tokens for a number of tiles, or for an array of such numbers."""
        return page_tokens(tiles, self.teacher_tokens_per_tile)

    def encode(
        self, conversations: Sequence[Mapping[str, str]], tiles: Sequence[int], *, prompt_only: bool = False
    ) -> Encoded:
        """Encode a conversation in the canonical form.

        Args:
            conversations: `[{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]`.
            tiles: Tiles of each image of the sample.
            prompt_only: Leave out the last answer, which the model is to generate.

        Returns:
            Ids and labels, with text truncated at `max_length`; an image's span is never cut.

        Raises:
            SampleError: If turns, answers or placeholders are invalid, or no answer token fits.
        """
        questions, answers = turns(conversations, num_images=len(tiles))
        segments = self.template.segments(questions, answers[:-1] if prompt_only else answers)
        ids, labels = self._tokenize(segments, len(tiles))
        limit = self._limit(ids, tiles)
        encoded = Encoded(ids[:limit], labels[:limit], tuple(tiles))
        if not prompt_only and not (encoded.labels != IGNORED).any():
            raise SampleError("too_long", f"no answer token fits in {self.max_length} tokens")
        if prompt_only and limit < len(ids):
            raise SampleError("too_long", f"the prompt alone is longer than {self.max_length} tokens")
        return encoded

    def prompt(self, questions: Sequence[str], answers: Sequence[str], tiles: Sequence[int]) -> Encoded:
        """Encode a conversation of any length that ends with an open question.

        Args:
            questions: With a placeholder for each image; further ones are text, as in InternVL.
            answers: One fewer; they may be empty, as a model may answer nothing.
            tiles: Tiles of each image.

        Raises:
            SampleError: If an image has no placeholder, or control tokens in the text open more images.
        """
        ids, labels = self._tokenize(self.template.segments(questions, answers), len(tiles))
        if (found := int((ids == self.image_token_id).sum())) != len(tiles):
            raise _other_number(found, tiles)
        return Encoded(ids, labels, tuple(tiles))

    def _tokenize(self, segments: Sequence[Segment], images: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize the whole text, as at inference, with a placeholder for each image; label by character position."""
        pieces = list(pieces_of(segments, images))
        try:
            ids, owners = self.controls.encode(pieces)
        except ControlTokenError as error:
            raise SampleError("control_token", str(error)) from error
        learned = np.array([*(piece.answer for piece in pieces), False])[owners]
        bos = np.asarray(self.bos, dtype=np.int64)
        labels = np.where(learned, ids, IGNORED)
        return np.concatenate([bos, ids]), np.concatenate([np.full_like(bos, IGNORED), labels])

    def _limit(self, ids: np.ndarray, tiles: Sequence[int]) -> int:
        """Return how many of the ids fit when the teacher's visual tokens are counted."""
        cost = np.ones(len(ids), dtype=np.int64)
        places = np.flatnonzero(ids == self.image_token_id)
        if len(places) != len(tiles):
            raise _other_number(len(places), tiles)
        cost[places] = self.teacher_tokens(np.asarray(tiles, dtype=np.int64))
        limit = int(np.searchsorted(np.cumsum(cost), self.max_length, side="right"))
        if len(places) and limit <= places[-1] + 1:
            raise SampleError(
                "too_long", f"{int(cost.sum())} tokens, and the images alone do not fit in {self.max_length}"
            )
        return limit


def _other_number(found: int, tiles: Sequence[int]) -> SampleError:
    return SampleError("placeholder_mismatch", f"{found} image placeholders in the text for {len(tiles)} images")


def pieces_of(segments: Iterable[Segment], images: int) -> Iterator[Piece]:
    """Yield a prompt in pieces; the first so many `<image>` of the questions become InternVL's image tokens."""
    for segment in segments:
        begin, end = segment.written
        yield Piece(segment.text[:begin], answer=segment.answer)
        first, *rest = segment.text[begin:end].split(IMAGE, 0 if segment.answer else images)
        yield Piece(first, answer=segment.answer, written=True)
        for text in rest:
            yield Piece(START + CONTEXT + END)
            yield Piece(text, written=True)
        images -= len(rest)
        yield Piece(segment.text[end:], answer=segment.answer)


def expand(encoded: Encoded, counts: Tensor | int, image_token_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Repeat each image's placeholder for every visual token.

    Args:
        encoded: A conversation with one placeholder an image.
        counts: This model's visual tokens of each tile `[tiles]`, or one number for all.
        image_token_id: Id of the placeholder.

    Returns:
        ids and labels `[length]`.
    """
    tiles = torch.tensor(encoded.tiles, dtype=torch.int64)
    each = sums_by_sample(torch.as_tensor(counts).expand(int(tiles.sum())), tiles)
    repeats = np.ones(len(encoded.ids), dtype=np.int64)
    repeats[encoded.ids == image_token_id] = each.numpy()
    return np.repeat(encoded.ids, repeats), np.repeat(encoded.labels, repeats)


def turns(conversations: Sequence[Mapping[str, str]], num_images: int) -> tuple[list[str], list[str]]:
    """Split a conversation into questions and answers and check both.

    If there is no placeholder at all, the first question gets one for each image, before its text, as in InternVL.

    Raises:
        SampleError: If turns do not alternate, an answer is missing or empty, or placeholders do not match images.
    """
    for turn in conversations:
        if not isinstance(turn.get("value"), str):
            raise SampleError("bad_json", f"the value of a turn is {turn.get('value')!r}, expected text")
    questions = [turn["value"] for turn in conversations[0::2]]
    answers = [turn["value"] for turn in conversations[1::2]]
    roles = [turn.get("from") for turn in conversations]
    if not roles or roles != ["human", "gpt"] * (len(roles) // 2):
        raise SampleError("no_answer", f"turns are {roles}, expected human and gpt to alternate")
    if not all(answer.strip() for answer in answers):
        raise SampleError("no_answer", "an answer is empty")
    placeholders = sum(question.count(IMAGE) for question in questions)
    if placeholders == 0:
        questions[0] = f"{IMAGE}\n" * num_images + questions[0]
    elif placeholders > num_images:
        raise SampleError("placeholder_without_image", f"{placeholders} {IMAGE} placeholders for {num_images} images")
    elif placeholders < num_images:
        raise SampleError("image_without_placeholder", f"{num_images} images for {placeholders} {IMAGE} placeholders")
    return questions, answers


def pad(rows: Sequence[np.ndarray], value: int, *, left: bool = False) -> Tensor:
    """Stack rows of unequal length into `[rows, longest]`, padded with `value`."""
    longest = max(len(row) for row in rows)
    padded = np.full((len(rows), longest), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        if left:
            line[longest - len(row) :] = row
        else:
            line[: len(row)] = row
    return torch.from_numpy(padded)
