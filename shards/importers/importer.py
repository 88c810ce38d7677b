"""What an importer gives: samples by number, in the canonical form."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from fcot.errors import SampleError
from fcot.internvl.control_tokens import SPELLED
from fcot.internvl.encoder import turns
from fcot.internvl.prompts import IMAGE
from shards.feed.conversation import id_of, readable
from shards.importers.pictures import pictures_of


@dataclass(frozen=True)
class ImportedSample:
    """A sample that is ready to be written.

    Attributes:
        record: Conversations, task and source.
        images: Extension and bytes of each image.
        notes: What the manifest counts: formats of re-encoded images, and control tokens that the text spells out.
    """

    record: Mapping[str, Any]
    images: Sequence[tuple[str, bytes]]
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
    conversations: Sequence[Mapping[str, Any]],
    images: Iterable[tuple[str, bytes]],
    *,
    task: str,
    source: str,
    id: Any = None,
) -> ImportedSample:
    """Return a sample whose images decode and whose conversation fits them.

    Args:
        conversations: Turns in canonical form.
        images: Name and bytes of each image; one of several pages becomes several images.
        task: Task name.
        source: Source name.
        id: What the record calls itself.

    Raises:
        SampleError: With the reason it cannot be used.
    """
    files = [pictures_of(name, data) for name, data in images]
    pictures = [picture for pages in files for picture in pages]
    talk = readable({"conversations": by_page(conversations, list(map(len, files)))}, len(pictures))
    turns(talk, len(pictures))
    try:
        "".join(turn["value"] for turn in talk).encode()
    except UnicodeEncodeError as error:
        raise SampleError("bad_json", f"a turn holds half of a pair of surrogates: {error}") from error
    named = {} if id_of({"id": id}) is None else {"id": id_of({"id": id})}
    notes = {
        "reencoded": [pages[0].was for pages in files if pages[0].was],
        "control_tokens": sorted({token for turn in talk for token in SPELLED.findall(turn["value"])}),
    }
    record = {**named, "conversations": talk, "task": task, "source": source}
    return ImportedSample(record, [(each.extension, each.data) for each in pictures], notes)


def by_page(conversations: Sequence[Mapping[str, Any]], pages: Sequence[int]) -> list[dict[str, Any]]:
    """Return turns with a placeholder for each page, where they have one for each file.

    Args:
        conversations: Turns in canonical form.
        pages: How many pages each file has.
    """
    if sum(pages) == len(pages):
        return [dict(turn) for turn in conversations]
    with suppress(SampleError):  # what is not plain by files may be so by pages
        conversations = readable({"conversations": conversations}, len(pages))
    asked = [turn for turn in conversations if turn.get("from") == "human" and isinstance(turn.get("value"), str)]
    places = sum(turn["value"].count(IMAGE) for turn in asked)
    if places != len(pages):
        return [dict(turn) for turn in conversations]
    rest = iter(pages)
    return [
        {**turn, "value": re.sub(IMAGE, lambda _: "\n".join([IMAGE] * next(rest)), turn["value"])}
        if any(turn is each for each in asked)
        else dict(turn)
        for turn in conversations
    ]


def asked(question: str, answer: str, images: int = 1) -> list[dict[str, str]]:
    """Return the conversation of one question about images."""
    return [{"from": "human", "value": f"{IMAGE}\n" * images + question}, {"from": "gpt", "value": answer}]
