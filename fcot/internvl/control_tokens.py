"""Control tokens that a page or a person has written as text are text: they end no turn and open no image."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer

from fcot.errors import UserError, nearest

TEXT, AS_WRITTEN = CHOICES = ("text", "as_written")
ALIASES = 0xF0000  # private characters from here on stand for the template's own control tokens
# what tokenizers of InternVL and its kin use to control; which of them a model has, only its tokenizer knows
SPELLED = re.compile(r"<\|[a-z0-9_]{1,32}\|>|</?(?:s|img|ref|box|quad|unk|pad|bos|eos)>|<IMG_CONTEXT>")
LOST = "\ufffd"


class ControlTokenError(ValueError):
    """A tokenizer makes a control token of text in a way that cannot be prevented."""


@dataclass(frozen=True)
class Piece:
    """A piece of a prompt.

    Attributes:
        text: The text.
        answer: Whether the model is trained to say it.
        written: Whether a page or a person wrote it; otherwise it is the template's, control tokens included.
    """

    text: str
    answer: bool = False
    written: bool = False


class ControlTokens:
    """Tokenizes prompts in which control tokens come from the conversation template alone.

    A prompt is first tokenized as a whole, as at inference. Only if that makes a control token of text between the
    template's parts, it is tokenized again by a copy of the tokenizer that knows no control tokens. In that one the
    template's stand as private characters, so spaces around them are treated as by the original.

    Args:
        tokenizer: A fast tokenizer.
        further: Control tokens that the tokenizer may not mark as special.
        choice: "text", or "as_written" for InternVL's behaviour: a control token in text is one.

    Raises:
        UserError: If there is no such choice.
    """

    def __init__(self, tokenizer: Any, further: Iterable[str] = (), choice: str = TEXT) -> None:
        if choice not in CHOICES:
            raise UserError(
                f"control_tokens is {choice!r}.{nearest(choice, CHOICES)}\n"
                "Give text to read control tokens in a text as text, or as_written to obey them."
            )
        self.tokenizer, self.choice, more = tokenizer, choice, set(further)
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self.names = {
            token.content: number for number, token in added.items() if token.special or token.content in more
        }
        # stands for letters that the tokenizer does not know, and controls nothing
        unknown = getattr(tokenizer, "unk_token_id", None)
        self._unknown = -1 if unknown is None else unknown
        self._ids = np.array(sorted(self.names.values()), dtype=np.int64)

    def encode(self, pieces: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize a prompt.

        Args:
            pieces: Its parts in order; those that are not `written` are the template's.

        Returns:
            ids int64 `[length]`, and the place of the piece that each token starts in `[length]`.

        Raises:
            ControlTokenError: If text would become a control token all the same.
        """
        encoding = self.tokenizer(
            "".join(piece.text for piece in pieces), add_special_tokens=False, return_offsets_mapping=True
        )
        ids, owners = _placed(encoding.input_ids, encoding.offset_mapping, [piece.text for piece in pieces])
        written = np.array([*(piece.written for piece in pieces), False])
        if self.choice == AS_WRITTEN or not (np.isin(ids, self._ids) & written[owners]).any():
            return ids, owners
        return self._apart(pieces)

    def _apart(self, pieces: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize a prompt whose text spells out control tokens."""
        own = str.maketrans({alias: LOST for alias in self._aliases.values()})
        texts = [piece.text.translate(own) if piece.written else self._aliased(piece.text) for piece in pieces]
        encoding = self._blind.encode("".join(texts), add_special_tokens=False)
        ids, owners = _placed(encoding.ids, encoding.offsets, texts)
        made = np.isin(ids, self._ids) & (ids != self._unknown)
        if made.any():
            found = self.tokenizer.convert_ids_to_tokens(ids[made].tolist())
            raise ControlTokenError(f"the tokenizer makes the control token {found[0]!r} of text")
        for name, alias in self._aliases.items():
            ids[ids == self._blind.token_to_id(alias)] = self.names[name]
        return ids, owners

    @cached_property
    def _aliases(self) -> dict[str, str]:
        """The private character of each control token, longest token first."""
        longest_first = sorted(self.names, key=len, reverse=True)
        return {name: chr(ALIASES + number) for number, name in enumerate(longest_first)}

    def _aliased(self, text: str) -> str:
        for name, alias in self._aliases.items():
            text = text.replace(name, alias)
        return text

    @cached_property
    def _blind(self) -> Tokenizer:
        """A copy of the tokenizer that reads control tokens as text, and their aliases as tokens."""
        settings = json.loads(self.tokenizer.backend_tokenizer.to_str())
        flags = {}
        for token in settings["added_tokens"]:
            if token["content"] in self.names:
                flags[token["content"]] = {name: token[name] for name in ("single_word", "lstrip", "rstrip")}
                token["special"] = True
        copy = Tokenizer.from_str(json.dumps(settings))
        copy.no_padding()
        copy.no_truncation()
        copy.encode_special_tokens = True  # "encode as text", which is what it does with special tokens
        copy.add_tokens(
            [
                AddedToken(alias, normalized=False, special=False, **flags.get(name, {}))
                for name, alias in self._aliases.items()
            ]
        )
        return copy


def _placed(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids as an array, and the place of the text that each token starts in; one behind the last for none."""
    ends = np.cumsum([len(text) for text in texts])
    starts = np.array([start for start, _ in offsets], dtype=np.int64)
    return np.asarray(ids, dtype=np.int64), np.searchsorted(ends, starts, side="right")
