"""Turn a shard's raw members into a prepared sample, or say why it cannot be used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fcot.batch import PageLayout
from fcot.internvl.decode import decode_image
from fcot.internvl.tiling import cut
from fcot.internvl.tokens import Encoded, SampleError

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")


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
    """

    key: str
    task: str
    question: str
    references: list[str]
    tiles: torch.Tensor
    encoded: Encoded
    prompt: Encoded | None


def prepare(raw: Mapping[str, Any], layout: PageLayout, *, with_prompt: bool = False) -> Prepared:
    """Decode, tile and encode one sample.

    Args:
        raw: Members of the sample as bytes by extension, with `__key__`.
        layout: What the models need.
        with_prompt: Encode the prompt for generation too.

    Raises:
        SampleError: With the reason the sample cannot be used.
    """
    record = _record(raw)
    conversations = record["conversations"]
    images = sorted((name for name in raw if name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS), key=_place)
    cuts = [cut(decode_image(raw[name], name), layout.max_tiles, tile_size=layout.tile_size) for name in images]
    counts = [len(tiles) for tiles in cuts]
    encoded = layout.encoder.encode(conversations, counts)
    prompt = layout.encoder.encode(conversations, counts, prompt_only=True) if with_prompt else None
    size = layout.tile_size
    return Prepared(
        key=str(raw["__key__"]),
        task=str(record.get("task", "unknown")),
        question=str(conversations[-2]["value"]).replace("<image>", "").strip(),
        references=[str(text) for text in record.get("references") or [conversations[-1]["value"]]],
        tiles=torch.cat(cuts) if cuts else torch.zeros(0, 3, size, size, dtype=torch.uint8),
        encoded=encoded,
        prompt=prompt,
    )


def _place(member: str) -> tuple[int, str]:
    """Return what to sort image members by: their number, so that `10.png` comes after `9.png`, then the name."""
    number = member.partition(".")[0]
    return (int(number) if number.isdecimal() else -1, member)


def _record(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the sample's JSON member and check its form."""
    if "json" not in raw:
        raise SampleError("missing_json", "the sample has no .json member")
    try:
        record = json.loads(raw["json"])
    except (ValueError, RecursionError) as error:
        raise SampleError("bad_json", f"the .json member cannot be parsed: {error}") from error
    conversations = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(conversations, list) or not all(isinstance(turn, dict) for turn in conversations):
        raise SampleError("bad_json", "the .json member has no list 'conversations' of turns")
    if len(conversations) < 2:
        raise SampleError("no_answer", f"a conversation of {len(conversations)} turns has no answer")
    if not isinstance(record.get("references") or [], list):
        raise SampleError("bad_json", f"references are {record['references']!r}, expected a list of answers")
    checked: dict[str, Any] = record
    return checked
