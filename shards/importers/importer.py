"""What an importer gives: samples by number, in the canonical form."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fcot.internvl.decode import decode_image
from fcot.internvl.prompts import IMAGE
from fcot.internvl.tokens import SampleError, turns
from shards.feed.decode import MAX_BYTES

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
ROLES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt", "chatgpt": "gpt", "system": "system"}


@dataclass(frozen=True)
class ImportedSample:
    """A sample that is ready to be written.

    Attributes:
        record: Conversations, task and source.
        images: Extension and bytes of each image, as they were found.
    """

    record: Mapping[str, Any]
    images: Sequence[tuple[str, bytes]]

    def members(self, key: str) -> dict[str, str | bytes]:
        """Return the sample in the canonical shard form."""
        names = [ext if len(self.images) == 1 else f"{at}.{ext}" for at, (ext, _) in enumerate(self.images)]
        images = dict(zip(names, (data for _, data in self.images), strict=True))
        return {"__key__": key, **images, "json": json.dumps(self.record, ensure_ascii=False).encode()}


class Importer(Protocol):
    """Gives samples of another format by number."""

    @property
    def repeat_time(self) -> Mapping[str, float]:
        """How often an epoch reads the samples of a source, where the format says it."""

    def __len__(self) -> int:
        """Return how many samples there may be."""

    def __call__(self, index: int) -> ImportedSample:
        """Return a sample, or raise a SampleError with the reason it cannot be used."""


def imported(
    conversations: Sequence[Mapping[str, str]], images: Iterable[tuple[str, bytes]], *, task: str, source: str
) -> ImportedSample:
    """Return a sample whose images decode and whose conversation fits them.

    Args:
        conversations: Turns in canonical form.
        images: Name and bytes of each image.
        task: Task name.
        source: Source name.

    Raises:
        SampleError: With the reason it cannot be used.
    """
    kept = []
    for name, data in images:
        if len(data) > MAX_BYTES:
            raise SampleError("too_many_bytes", f"{name} has {len(data)} bytes, over {MAX_BYTES}")
        kept.append((EXTENSIONS[str(decode_image(data, name).format)], data))
    turns(conversations, len(kept))
    return ImportedSample({"conversations": list(conversations), "task": task, "source": source}, kept)


def canonical(conversation: Any) -> list[dict[str, str]]:
    """Return turns in canonical form from `from`/`value` or `role`/`content`; a system message begins the question.

    Raises:
        SampleError: If it is no conversation.
    """
    found: list[dict[str, str]] = []
    system = ""
    for turn in conversation if isinstance(conversation, list) else [None]:
        if not isinstance(turn, dict):
            raise SampleError("bad_json", "the record has no list of turns")
        role, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        if role not in ROLES or not isinstance(text, str):
            raise SampleError("bad_json", f"a turn is from {role!r} with a value of type {type(text).__name__}")
        if ROLES[role] == "system":
            system += text + "\n"
            continue
        found.append({"from": ROLES[role], "value": system + text if ROLES[role] == "human" else text})
        system = "" if ROLES[role] == "human" else system
    return found


def asked(question: str, answer: str) -> list[dict[str, str]]:
    """Return the conversation of one question about one image."""
    return [{"from": "human", "value": f"{IMAGE}\n{question}"}, {"from": "gpt", "value": answer}]


def inside(root: Path, name: Any) -> Path:
    """Return the path of a file that a record names, within a root.

    Raises:
        SampleError: If the name leads out of the root, or there is no such file.
    """
    path = Path(str(name))
    if not isinstance(name, str) or path.is_absolute() or ".." in path.parts:
        raise SampleError("outside_root", f"the image {name!r} is no path within {root}")
    if not (root / path).is_file():
        raise SampleError("missing_image", f"there is no image {name!r} in {root}")
    return root / path


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a file of bounded size.

    Raises:
        SampleError: If it is too large or cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SampleError("too_many_bytes", f"{path} has {path.stat().st_size} bytes, over {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise SampleError("unreadable_file", f"{path} cannot be read ({error.strerror})") from error
