"""Synonyms from WordNet 3.0, as METEOR looks them up.

`wordnet.txt.gz` holds the words of Princeton's WordNet 3.0 that are single words, by synset, and its irregular forms;
its licence lies beside it. Synonyms are NLTK's for each of the 83,118 lemmas without an underscore; a token such as
"ice_cream" has none here. Looking up is NLTK's: exceptions, then endings, until a form is in the database.
"""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).with_name("wordnet.txt.gz")
ENDINGS = {
    "n": (("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
          ("men", "man"), ("ies", "y")),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip


@dataclass(frozen=True)
class PartOfSpeech:
    """Words of a part of speech.

    Attributes:
        synsets: Each word's sets of synonyms, by the word in lower case.
        exceptions: Base forms of irregular ones.
        endings: Rules of regular ones.
    """

    synsets: dict[str, list[list[str]]]
    exceptions: dict[str, list[str]]
    endings: tuple[tuple[str, str], ...]

    def known(self, forms: Iterable[str]) -> list[str]:
        """Return the forms that are words, each once."""
        return list(dict.fromkeys(form for form in forms if form in self.synsets))

    def base_forms(self, form: str) -> list[str]:
        """Return the words that a form may be one of."""
        if form in self.exceptions:
            return self.known([form, *self.exceptions[form]])
        forms = self._shortened([form])
        found = self.known([form, *forms])
        while not found and forms:
            forms = self._shortened(forms)
            found = self.known(forms)
        return found

    def _shortened(self, forms: Iterable[str]) -> list[str]:
        return [form[: len(form) - len(old)] + new for form in forms for old, new in self.endings if form.endswith(old)]


@lru_cache(maxsize=1)
def wordnet() -> dict[str, PartOfSpeech]:
    """Return the parts of speech, read once."""
    found: dict[str, PartOfSpeech] = {}
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if words[0] in ("#n", "#v", "#a", "#r"):
                kind = words[0][1]
                part = found[kind] = PartOfSpeech({}, {}, tuple(ENDINGS[kind]))
                irregular = False
            elif words[0].startswith("!"):
                irregular = True
            elif irregular:
                part.exceptions[words[0]] = words[1:]
            else:
                for word in words:
                    part.synsets.setdefault(word.lower(), []).append(words)
    return found


@dataclass(frozen=True)
class Lemma:
    """A word of a synset, as NLTK's METEOR asks it."""

    word: str

    def name(self) -> str:
        """Return the word."""
        return self.word


@dataclass(frozen=True)
class Synset:
    """A set of synonyms, as NLTK's METEOR asks it."""

    words: tuple[str, ...]

    def lemmas(self) -> list[Lemma]:
        """Return its words."""
        return [Lemma(word) for word in self.words]


class WordNet:
    """What NLTK's METEOR asks of a WordNet reader."""

    def synsets(self, word: str) -> list[Synset]:
        """Return the sets of synonyms of a word."""
        form = word.lower()
        return [
            Synset(tuple(words))
            for part in wordnet().values()
            for base in part.base_forms(form)
            for words in part.synsets[base]
        ]
