"""Visual tokens: how many a tile has, and where they stand in a sequence. They are counted nowhere else."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.internvl.control_tokens import TEXT, ControlTokenError, ControlTokens, Piece
from fcot.internvl.prompts import IMAGE, Segment, Template

IGNORED = -100  # label of a token without loss, PyTorch's default
START, CONTEXT, END = "<img>", "<IMG_CONTEXT>", "</img>"
AROUND = 2  # START and END, around a page's visual tokens

# Visual tokens per tile: one number for all, or a function from uint8 `[tiles, 3, S, S]` to int64 `[tiles]`
TileTokens: TypeAlias = Callable[[Tensor], Tensor] | int

MAX_DETAIL = 500  # characters; a quoted sample may have megabytes


class SampleError(ValueError):
    """A sample cannot be used.

    Attributes:
        reason: A short name in snake case, for counting.
        id: What the sample calls itself, where that is known.
    """

    id: str | int | None = None

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail if len(detail) <= MAX_DETAIL else f"{detail[:MAX_DETAIL]}…")
        self.reason = reason


def raster_side(config: Any) -> int:
    """Return the side of a tile's square raster of visual tokens at ratio 1 (16 in InternVL2)."""
    vision = config.vision_config
    return int(vision.image_size[0] // vision.patch_size[0] * config.downsample_ratio)


def tokens_per_tile(config: Any, ratio: int = 1) -> int:
    """Return how many visual tokens a tile has when `ratio` of them become one.

    Raises:
        UserError: If the ratio does not divide the tile's tokens.
    """
    tokens = raster_side(config) ** 2
    if ratio < 1 or tokens % ratio:
        raise UserError(
            f"Ratio {ratio} does not divide the {tokens} visual tokens of a tile. Choose a divisor, such as 2 or 4."
        )
    return tokens // ratio


def tile_counts(tokens: TileTokens, tiles: Tensor) -> Tensor:
    """Return how many visual tokens each tile has, int64 `[tiles]` on the CPU.

    Args:
        tokens: Visual tokens per tile of a model.
        tiles: uint8 `[tiles, 3, S, S]`.
    """
    return torch.full((len(tiles),), tokens) if isinstance(tokens, int) else tokens(tiles).cpu().long()


def page_tokens(tiles: Any, tokens: int) -> Any:
    """Return the visual tokens of pages, given only their numbers of tiles.

    Args:
        tiles: Number of tiles of a page, or an array of such numbers.
        tokens: Visual tokens of a tile; the maximum where tiles differ.
    """
    return tiles * tokens


def sums_by_sample(counts: Tensor, num_tiles: Tensor) -> Tensor:
    """Return the visual tokens of each sample `[batch]`.

    Args:
        counts: Visual tokens of each tile `[tiles]`.
        num_tiles: Tiles of each sample `[batch]`.
    """
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])[num_tiles.cumsum(0)]
    return ends.diff(prepend=ends.new_zeros(1))


def token_steps(counts: Tensor, teacher_tokens: int) -> Tensor:
    """Return how many of the teacher's tokens each visual token stands for, int64 `[visual tokens]`.

    The teacher's tokens of a tile are divided evenly among its visual tokens; the first ones take one more each if a
    remainder is left.

    Args:
        counts: Visual tokens of each tile `[tiles]`.
        teacher_tokens: Visual tokens of a tile at ratio 1.
    """
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    number, count = torch.arange(len(first), device=counts.device) - first, torch.repeat_interleave(counts, counts)
    share, left = teacher_tokens // count, teacher_tokens % count
    return share + (number < left)


def even_windows(count: int, side: int) -> np.ndarray:
    """Return which visual token stands for each of the teacher's `[side, side]`, where they are divided evenly.

    Args:
        count: Visual tokens of the tile.
        side: Side of the teacher's raster.
    """
    steps = token_steps(torch.tensor([count]), side**2).numpy()
    return np.repeat(np.arange(count), steps).reshape(side, side)


def places_in_tile(windows: np.ndarray, lead: int = 0) -> Tensor:
    """Return where each visual token of a tile stands, counted from the teacher's first `[lead + tokens]`.

    It stands in the first row of its window, at the mean of its columns: after training, and more so before, a
    student reads better than with tokens at the first place of their window, or at its centre.

    Args:
        windows: Number of the visual token that stands for each of the teacher's `[side, side]`.
        lead: Tokens in front of those, which stand for the whole tile; they are half a place from each other.
    """
    side, window = windows.shape[1], windows.ravel()
    row, column = np.divmod(np.arange(len(window)), side)
    first_row = np.full(window.max() + 1, len(window))
    np.minimum.at(first_row, window, row)
    places = first_row * side + np.bincount(window, column) / np.bincount(window)
    front = places[0] - np.arange(lead, 0, -1) / 2
    found = torch.from_numpy(np.concatenate([front, places]))
    return found.long() if bool((found == found.round()).all()) else found.float()


def positions_by_place(
    input_ids: Tensor, mask: Tensor | None, image_token_id: int, places: Tensor | Sequence[Tensor], teacher_tokens: int
) -> Tensor:
    """Return the position of every token when a tile takes up as many positions as in the teacher.

    Args:
        input_ids: `[batch, length]`; a tile's tokens are all in one row.
        mask: 1 on tokens, 0 on padding `[batch, length]`; None for all tokens.
        image_token_id: Id of the placeholder.
        places: Where a tile's visual tokens stand in it, see `places_in_tile`; for all tiles or for each in order.
        teacher_tokens: Positions that a tile takes up.

    Returns:
        `[batch, length]`, int64, or float32 if places are fractions; 0 on left padding.
    """
    visual = input_ids == image_token_id
    if isinstance(places, Tensor):  # worked out without values, which the meta device has none of
        number = (visual.cumsum(1) - 1) % len(places)
        offsets, last = places.to(input_ids.device)[number], number == len(places) - 1
    else:
        each = torch.cat([torch.zeros(0), *places]).to(input_ids.device)
        ends = torch.cat([torch.zeros(0).bool(), *(torch.arange(len(tile)) == len(tile) - 1 for tile in places)])
        offsets = torch.zeros_like(input_ids, dtype=each.dtype).masked_scatter(visual, each)
        last = torch.zeros_like(visual).masked_scatter(visual, ends.to(input_ids.device))
    steps = torch.where(visual, teacher_tokens * last, 1)
    steps = steps if mask is None else steps * mask
    return steps.cumsum(1) - steps + offsets * visual


def positions(input_ids: Tensor, mask: Tensor | None, image_token_id: int, step: int | Tensor) -> Tensor:
    """Return the position of every token when a visual token takes up several positions.

    Args:
        input_ids: `[batch, length]`.
        mask: 1 on tokens, 0 on padding `[batch, length]`; None for all tokens.
        image_token_id: Id of the placeholder.
        step: Positions that a visual token takes up; one number, or one for each in order `[visual tokens]`.

    Returns:
        int64 `[batch, length]`; 0 on left padding.
    """
    visual = input_ids == image_token_id
    if isinstance(step, Tensor):
        steps = torch.ones_like(input_ids).masked_scatter(visual, step.to(input_ids))
    else:
        steps = torch.where(visual, step, 1)
    steps = steps if mask is None else steps * mask
    return steps.cumsum(1) - steps


def check_placeholders(
    input_ids: Tensor,
    image_token_id: int,
    expected: Tensor,
    num_tiles: Tensor,
    keys: Sequence[str],
    lengths: Sequence[int] | None = None,
) -> None:
    """Check that every sample has as many placeholders as its images have visual tokens.

    Args:
        input_ids: `[batch, length]`, or `[1, tokens]` of samples packed one after another.
        image_token_id: Id of the placeholder.
        expected: The model's visual tokens of each tile `[tiles]`.
        num_tiles: Tiles of each sample `[batch]`.
        keys: Sample keys, for the message.
        lengths: Tokens of each packed sample; None if each has a row.

    Raises:
        UserError: If a sample differs; names the first such, its tiles, and the numbers expected and found.
    """
    if input_ids.is_meta:
        return  # without values, as when FLOPs are counted
    places = input_ids == image_token_id
    found = places.sum(1) if lengths is None else torch.stack([part.sum() for part in places[0].split(list(lengths))])
    wanted = sums_by_sample(expected, num_tiles)
    wrong = (found != wanted.to(found.device)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise UserError(
            f"Sample {keys[first]!r} ({int(num_tiles[first])} tiles) has {int(found[first])} image placeholders for "
            f"{int(wanted[first])} visual tokens. Give data and model the same checkpoint and ratio."
        )


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
            SampleError: If control tokens in the text open more images.
        """
        ids, labels = self._tokenize(self.template.segments(questions, answers), len(tiles))
        if (found := int((ids == self.image_token_id).sum())) > len(tiles):
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


def normalize(tiles: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise uint8 tiles `[tiles, 3, S, S]` on their device, by each channel's mean and deviation `[3]`."""
    return (tiles.to(mean.dtype) / 255 - mean[:, None, None]) / std[:, None, None]


def denormalize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Invert `normalize`: return the uint8 tiles of its float32 result `[tiles, 3, S, S]`."""
    return ((pixels * std[:, None, None] + mean[:, None, None]) * 255).round().to(torch.uint8)


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
