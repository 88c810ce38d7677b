"""Plain image-text pairs: samples of images and a text, without a conversation, read as one question and its answer."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fcot.errors import SampleError, UserError
from shards.feed.conversation import id_of, parse, refuse_media, text_of

FIELD, TXT = "json:", "txt"
HINT = 'image-text pairs are read with --data.pair.prompt "Read the text."'
SHOWN = 12  # names of fields in a message


@dataclass(frozen=True)
class Pair:
    """How samples without a conversation are read.

    Args:
        prompt: What is asked of every image; of several, one is drawn for each sample by the data's seed. Without one,
            such samples are set aside.
        answer: Where the answer is: the extension of a member, such as txt, or json:FIELD for a field of its JSON.
    """

    prompt: str | list[str] | None = None
    answer: str = TXT

    def __post_init__(self) -> None:
        """Refuse prompts and places that mean nothing.

        Raises:
            UserError: Says what is wrong.
        """
        if self.prompt is not None and not (self.prompts and all(str(each).strip() for each in self.prompts)):
            raise UserError(f"data.pair.prompt is {self.prompt!r}.\nGive a question, or a list of them.")
        if self.prompt is None and self.answer != TXT:
            raise UserError(
                f"data.pair.answer is {self.answer!r}, and data.pair.prompt says nothing.\n"
                'Say what is asked of each image: --data.pair.prompt "Read the text."'
            )
        extension = self.answer.rpartition(".")[2].lower()
        if not self.answer.removeprefix(FIELD) or not (self.answer.startswith(FIELD) or extension == TXT):
            raise UserError(
                f"data.pair.answer is {self.answer!r}.\n"
                "Give the extension of a text file, such as txt or output.txt, or json:FIELD, such as json:caption."
            )

    @property
    def prompts(self) -> list[str]:
        """All prompts."""
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt or ())

    @property
    def given(self) -> bool:
        """Whether samples without a conversation are read."""
        return self.prompt is not None

    def record(self, raw: Mapping[str, Any], images: int, seed: int) -> dict[str, Any]:
        """Return the record of a pair: its conversation, and task, source and id of its JSON if that has any.

        Args:
            raw: Members of the sample as bytes by extension, with `__key__`.
            images: How many of them are images.
            seed: Of the data: seed and key alone decide which prompt is drawn.

        Raises:
            SampleError: If it has no image or no answer, or which member is meant is not plain.
        """
        if not images:
            raise SampleError("missing_image", "it has neither an image nor a conversation")
        about = parse(raw["json"]) if "json" in raw else {}
        found = self._field(about) if self.answer.startswith(FIELD) else [self._text(raw)]
        answers = [each for each in found if each]
        if not answers:
            raise SampleError("no_answer", f"{self.answer} is empty")
        known = about if isinstance(about, dict) else {}
        refuse_media(known)
        return {
            **{name: known[name] for name in ("task", "source") if isinstance(known.get(name), str)},
            **({} if id_of(known) is None else {"id": id_of(known)}),
            "conversations": [
                {"from": "human", "value": self._drawn(str(raw["__key__"]), seed)},
                {"from": "gpt", "value": answers[0]},
            ],
            "references": answers,
        }

    def _drawn(self, key: str, seed: int) -> str:
        prompts = self.prompts
        digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
        return prompts[int.from_bytes(digest[:8], "big") % len(prompts)]

    def _text(self, raw: Mapping[str, Any]) -> str:
        """Return the content of the member that holds the answer: the one named, or the only one that ends so."""
        wanted = self.answer.lower().removeprefix(".")
        found = [wanted] if wanted in raw else [name for name in raw if name.endswith(f".{wanted}")]
        if len(found) > 1:
            listed = ", ".join(sorted(found))
            raise SampleError("ambiguous_answer", f"{listed} all end so; name one, as in --data.pair.answer {found[0]}")
        if not found:
            fields = _names(parse(raw["json"])) if "json" in raw else ""
            more = f"; its .json has {fields}, which are read with --data.pair.answer json:FIELD" if fields else ""
            raise SampleError("no_answer", f"there is no .{wanted} member{more}")
        try:
            return str(raw[found[0]].decode("utf-8-sig")).strip()
        except UnicodeDecodeError as error:
            raise SampleError("bad_text", f".{found[0]} is no UTF-8: {error}") from error

    def _field(self, about: Any) -> list[str]:
        """Return the answers in a field: a text, a number, or a list of accepted ones; "a.b" is b in a."""
        name, found = self.answer.removeprefix(FIELD), about
        for part in [name] if isinstance(about, dict) and name in about else name.split("."):
            if not isinstance(found, dict) or part not in found:
                raise SampleError("no_answer", f"the .json has no field {name!r}, but {_names(found) or 'no fields'}")
            found = found[part]
        values = [text_of(each) for each in (found if isinstance(found, list) else [found]) if each is not None]
        if not all(isinstance(each, str) for each in values):
            raise SampleError("bad_json", f"the field {name!r} of the .json holds no text")
        return [each.strip() for each in values]


NO_PAIRS = Pair()


def pair_of(settings: Pair | Mapping[str, Any] | None) -> Pair | None:
    """Return how pairs are read, None if they are not.

    Args:
        settings: A `Pair`, or its settings as a mapping.

    Raises:
        UserError: If it has other settings.
    """
    try:
        found = settings if isinstance(settings, Pair) else Pair(**(settings or {}))
    except TypeError as error:
        raise UserError(f"data.pair is {settings!r}.\nIt has the settings prompt and answer.") from error
    return found if found.given else None


def has_conversation(record: Any) -> bool:
    """Return whether the JSON of a sample is a conversation, or else only says more of a plain pair."""
    return isinstance(record, dict) and "conversations" in record


def _names(found: Any) -> str:
    names = [str(name) for name in found] if isinstance(found, dict) else []
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
