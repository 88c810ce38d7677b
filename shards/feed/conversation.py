"""A record's conversation as it is read: answers as text, placeholders as InternVL's, no media but images."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from fcot.errors import SampleError, UserError
from shards.feed.placeholders import understood

MEDIA_FIELDS = ("video", "videos", "audio", "audios", "speech", "sound")


class WrittenNumber(float):
    """A number of a JSON file that keeps the digits it is written with: 42.50 is not 42.5 in an answer."""

    def __new__(cls, text: str) -> "WrittenNumber":
        """Parse the number."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __str__(self) -> str:
        return self.text


def parse(data: bytes | str) -> Any:
    """Parse JSON, strictly: text in it is text, no name is there twice, and numbers keep their digits.

    Raises:
        SampleError: If it cannot be parsed.
    """
    try:
        # strictly: of bytes, json would let half surrogate pairs pass
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
        found = json.loads(text, object_pairs_hook=_once, parse_float=WrittenNumber)
        if "\\ud" in text or "\\uD" in text:  # escaped, half of a pair is legal JSON, and no text all the same
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise SampleError("bad_json", f"the .json member cannot be parsed: {error}") from error
    return found


def text_of(value: Any) -> Any:
    """Return the text of a number that stands where a text is expected, and all else as it is."""
    return str(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value


def id_of(record: Any) -> str | int | None:
    """Return the id that a record gives itself, None if it has none."""
    found = record.get("id") if isinstance(record, Mapping) else None
    return str(found) if isinstance(found, float) else found if isinstance(found, str | int) else None


def refuse_media(record: Mapping[str, Any]) -> None:
    """Refuse a record that has more to look at or to listen to than images.

    Raises:
        SampleError: Names the field.
    """
    for name in MEDIA_FIELDS:
        if record.get(name):
            shown = f" {record[name]!r}" if isinstance(record[name], str) else ""
            raise SampleError("unsupported_media", f"the record has {name}{shown}; only images are read")


def readable(record: Mapping[str, Any], images: int) -> list[dict[str, Any]]:
    """Return the turns of a record in canonical form, with numbers as text and placeholders as InternVL's.

    Args:
        record: With a list `conversations` of turns.
        images: How many images the sample has.

    Raises:
        SampleError: If it has a video or a sound, or a placeholder whose meaning is not plain.
    """
    refuse_media(record)
    turns = [{**turn, "value": text_of(turn.get("value"))} for turn in record["conversations"]]
    asked = [turn for turn in turns if turn.get("from") == "human" and isinstance(turn["value"], str)]
    for turn, question in zip(asked, understood([turn["value"] for turn in asked], images), strict=True):
        turn["value"] = question
    return turns


def references_of(record: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the accepted answers to the last question: those that a record lists, or else its last turn."""
    return [str(text) for text in record.get("references") or [turns[-1]["value"]]]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; refuse one with a repeated name, as either value could be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise UserError(f"{counts.most_common(1)[0][0]!r} is there twice in an object")
    return found
