"""Conversations of other formats in canonical form, with the images that stand in their messages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fcot.errors import SampleError
from fcot.internvl.prompts import IMAGE
from shards.feed.conversation import text_of
from shards.importers.image_sources import HOLDERS

ROLES = {
    **{"human": "human", "user": "human", "system": "system", "developer": "system"},
    **{"gpt": "gpt", "assistant": "gpt", "chatgpt": "gpt", "model": "gpt"},
}
TEXTS, IMAGES = ("text", "input_text", "output_text"), ("image", "image_url", "input_image")
MEDIA = ("video", "audio", "sound", "speech")
Turns = list[dict[str, str]]


def canonical(conversation: Any, images: Sequence[Any] = ()) -> tuple[Turns, list[Any]]:
    """Return turns in canonical form, and the images of the conversation in the order of their placeholders.

    Turns are `from`/`value` or `role`/`content`, and their content is a text or a list of parts. An image among the
    parts stands where it stands. A system message begins the question behind it.

    Args:
        conversation: A list of turns.
        images: Images that the record lists beside the conversation; parts without an image of their own take them in
            order.

    Raises:
        SampleError: If it is no conversation, or has parts that are neither text nor images.
    """
    found: Turns = []
    shown: list[Any] = []
    system = ""
    for turn in conversation if isinstance(conversation, list) else [None]:
        if not isinstance(turn, dict):
            raise SampleError("bad_json", "the record has no list of turns")
        given, value = turn.get("from", turn.get("role")), text_of(turn.get("value", turn.get("content")))
        role = ROLES.get(given) if isinstance(given, str) else None
        parts = value if isinstance(value, list) else [value]
        if role is None or not parts or parts == [None]:
            raise SampleError("bad_json", f"a turn is from {given!r} with a value of type {type(value).__name__}")
        said = _joined([_said(part, role, shown) for part in parts])
        if role == "system":
            system += said + "\n"
            continue
        found.append({"from": role, "value": system + said if role == "human" else said})
        system = "" if role == "human" else system
    return found, _sources(shown, images)


def _joined(parts: Sequence[str | None]) -> str:
    """Return the text of a message, a placeholder on a line of its own for each None."""
    said = ""
    for place, part in enumerate(parts):
        beside_image = part is None or (place > 0 and parts[place - 1] is None)
        text = IMAGE if part is None else part
        said += ("\n" if said and beside_image and said[-1] != "\n" and text[:1] != "\n" else "") + text
    return said


def _said(part: Any, role: str, shown: list[Any]) -> str | None:
    """Return the text of a part, None for an image, which is added to those shown."""
    part = text_of(part)
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise SampleError("bad_json", f"a turn is from {role!r} with a value of type {type(part).__name__}")
    kind = part.get("type") or next((name for name in (*TEXTS, *IMAGES, *MEDIA) if part.get(name) is not None), None)
    text = text_of(part.get("text"))
    if kind in TEXTS and isinstance(text, str):
        return text
    if kind in IMAGES:
        if role != "human":
            raise SampleError(
                "image_in_answer", f"an image stands in a message of {role!r}; only questions show images"
            )
        shown.append(part)
        return None
    if any(name in str(kind) for name in MEDIA):
        raise SampleError("unsupported_media", f"a part of a message is of the type {kind!r}; only images are read")
    raise SampleError("bad_json", f"a part of a message is of the type {kind!r}, neither text nor image")


def _sources(shown: Sequence[Mapping[str, Any]], listed: Sequence[Any]) -> list[Any]:
    """Return the images of the parts, those without one taken from the record's list; without parts, that list."""
    if not shown:
        return list(listed)
    rest = iter(listed)
    found = [part if _has_source(part) else next(rest, None) for part in shown]
    left = list(rest)
    own = sum(map(_has_source, shown))
    if None in found or (left and len(left) != own):  # some formats list the images of all parts once more
        raise SampleError(
            "image_without_placeholder" if left else "placeholder_without_image",
            f"{len(shown)} parts are images, {own} of them with a source, and the record lists {len(listed)} images",
        )
    return found


def _has_source(part: Mapping[str, Any]) -> bool:
    return any(part.get(name) is not None for name in HOLDERS)


def images_of(record: Mapping[str, Any], names: Sequence[str] = ("image", "images")) -> Iterator[Any]:
    """Yield the images that a record lists beside its conversation."""
    found: Any = next((record[name] for name in names if record.get(name)), [])
    yield from found if isinstance(found, list) else [found]
