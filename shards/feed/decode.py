"""Turn a shard's raw members into a prepared sample, or say why it cannot be used."""

import io
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from fcot.batch import PageLayout
from fcot.errors import SampleError
from fcot.internvl.decode import FORMATS, decode_image
from fcot.internvl.encoder import Encoded
from fcot.internvl.tiling import cut, grid, num_tiles
from shards.feed.conversation import id_of, parse, readable, references_of
from shards.feed.plain_pairs import HINT, Pair, has_conversation

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
ALLOWED = ("json", "txt", *IMAGE_EXTENSIONS)  # whatever else a sample has, it is refused: nothing unknown is decoded
MAX_BYTES = 50_000_000  # of a member
MAX_SAMPLE_BYTES = 250_000_000  # of all members of a sample
MAX_TEXT_BYTES = 1_000_000  # of a .json or .txt; so many take up to 3 s and 300 MB to parse and to tokenize
MAX_SECONDS = 60.0  # of a sample; asked between images: the largest that the limits let pass took 10 s of one core
ORIENTATION, ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # EXIF


@dataclass(frozen=True)
class Prepared:
    """A sample ready for batching.

    Attributes:
        key: Its key in the shard.
        task: Task name.
        question: Last question, placeholders removed.
        references: Accepted answers to it.
        tiles: uint8 `[tiles, 3, S, S]`.
        encoded: The conversation with answers.
        prompt: The conversation without the last answer; evaluation only.
        grids: Columns and rows of the tiles of each image.
        seed: What is drawn for it while it is batched depends on this alone; None draws nothing.
        id: What the record calls itself, None without a name.
    """

    key: str
    task: str
    question: str
    references: list[str]
    tiles: torch.Tensor
    encoded: Encoded
    prompt: Encoded | None
    grids: Sequence[tuple[int, int]] = ()
    seed: Sequence[int] | None = None
    id: str | int | None = None


def prepare(
    raw: Mapping[str, Any],
    layout: PageLayout,
    *,
    with_prompt: bool = False,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    max_seconds: float = MAX_SECONDS,
    seed: Sequence[int] | None = None,
    pair: Pair | None = None,
    pair_seed: int = 0,
) -> Prepared:
    """Decode, tile and encode one sample.

    Args:
        raw: Members of the sample as bytes by extension, with `__key__`.
        layout: What the models need.
        with_prompt: Encode the prompt for generation too.
        augment: What to do to the tiles of a page in training.
        max_seconds: Longest time a sample may take.
        seed: What is drawn for it while it is batched depends on this alone; None draws nothing.
        pair: How a sample without a conversation is read; None refuses it.
        pair_seed: Which prompt such a sample gets, of several.

    Raises:
        SampleError: With the reason the sample cannot be used.
    """
    start = time.monotonic()
    images = sorted((name for name in raw if is_image(name)), key=image_number)
    record = _record(raw, len(images), pair, pair_seed)
    conversations = readable(record, len(images))
    grids = _check_tiles([image_size(raw[name], name) for name in images], layout)
    cuts = []
    for name in images:
        image = decode_image(raw[name], name)
        tiles = cut(image, layout.most_tiles(image.size), tile_size=layout.tile_size)
        cuts.append(tiles if augment is None else augment(tiles))
        _check_time(start, max_seconds)
    counts = [len(tiles) for tiles in cuts]
    encoded = layout.encoder.encode(conversations, counts)
    prompt = layout.encoder.encode(conversations, counts, prompt_only=True) if with_prompt else None
    size = layout.tile_size
    _check_time(start, max_seconds)
    return Prepared(
        key=str(raw["__key__"]),
        task=str(record.get("task", "unknown")),
        question=str(conversations[-2]["value"]).replace("<image>", "").strip(),
        references=references_of(record, conversations),
        tiles=torch.cat(cuts) if cuts else torch.zeros(0, 3, size, size, dtype=torch.uint8),
        encoded=encoded,
        prompt=prompt,
        grids=grids,
        seed=seed,
        id=id_of(record),
    )


def _record(raw: Mapping[str, Any], images: int, pair: Pair | None, seed: int) -> dict[str, Any]:
    """Return the record of a sample, which a plain pair has none of."""
    if "json" not in raw and pair is None:
        raise SampleError("missing_json", f"the sample has no .json member; {HINT}")
    record = parse(raw["json"]) if "json" in raw else None
    return conversation_in(record) if pair is None or has_conversation(record) else pair.record(raw, images, seed)


def is_image(member: str) -> bool:
    """Return whether a member's name after the key, such as "0.png", is an image's."""
    return member.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def image_size(data: bytes, member: str) -> tuple[int, int]:
    """Return width and height of an image as it is looked at, upright, from its header alone.

    Raises:
        SampleError: If it is no JPEG, PNG or WEBP.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode_image` judges the size
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        # without "exif" in its info, Pillow would decode a whole PNG to look for it behind the pixels
        turned = "exif" in image.info and image.getexif().get(ORIENTATION) in ON_ITS_SIDE
    except Image.DecompressionBombError as error:
        raise SampleError("image_too_large", f"{member}: {error}") from error
    except Exception as error:  # Pillow's decoders raise many types; each means the same here
        raise SampleError("undecodable_image", f"{member}: {error}") from error
    if min(image.size) < 1:
        raise SampleError("undecodable_image", f"{member} has {image.width}x{image.height} pixels")
    return (image.height, image.width) if turned else (image.width, image.height)


def record_of(data: bytes) -> dict[str, Any]:
    """Parse a sample's JSON member and check its form.

    Raises:
        SampleError: If it cannot be parsed, or holds no conversation.
    """
    return conversation_in(parse(data))


def conversation_in(record: Any) -> dict[str, Any]:
    """Return the content of a JSON member if it has the form of a conversation.

    Raises:
        SampleError: If it has not.
    """
    conversations = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(conversations, list) or not all(isinstance(turn, dict) for turn in conversations):
        raise SampleError("bad_json", f"the .json member has no list 'conversations' of turns; {HINT}")
    if len(conversations) < 2:
        raise SampleError("no_answer", f"a conversation of {len(conversations)} turns has no answer")
    if not isinstance(record.get("references") or [], list):
        raise SampleError("bad_json", f"references are {record['references']!r}, expected a list of answers")
    checked: dict[str, Any] = record
    return checked


def _check_time(start: float, most: float) -> None:
    if (spent := time.monotonic() - start) > most:
        raise SampleError("too_slow", f"preparing it took {spent:.1f} s so far, over {most}")


def _check_tiles(sizes: list[tuple[int, int]], layout: PageLayout) -> list[tuple[int, int]]:
    """Return the grids of images; refuse those over the context, before the time and memory to decode them."""
    grids = [grid(*size, layout.most_tiles(size), tile_size=layout.tile_size) for size in sizes]
    tiles = sum(num_tiles(*each) for each in grids)
    tokens = layout.encoder.teacher_tokens(tiles)
    if tokens > layout.encoder.max_length:
        raise SampleError(
            "too_long", f"{tiles} tiles are {tokens} tokens, over the {layout.encoder.max_length} of the context"
        )
    return grids


def image_number(member: str) -> tuple[int, str]:
    """Return what to sort image members by: their number, so that `10.png` comes after `9.png`, then the name."""
    number = member.partition(".")[0]
    return (int(number) if number.isdecimal() else -1, member)
