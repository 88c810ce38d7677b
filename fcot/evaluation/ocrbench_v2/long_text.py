"""Long texts: BLEU, METEOR, overlap of words and edit distance, averaged."""

import re
from functools import lru_cache
from typing import Any

from rapidfuzz.distance import Levenshtein

from fcot.errors import UserError
from fcot.evaluation.ocrbench_v2.crash import Crash
from fcot.evaluation.ocrbench_v2.words import WordNet

CHINESE = re.compile("[\u4e00-\u9fa5]")


def long_text(prediction: str | None, answer: str, *, zero_for_blank: bool) -> float:
    """Return the mean of BLEU, METEOR, F-measure and one minus the edit distance.

    Args:
        prediction: The generated text.
        answer: The accepted one.
        zero_for_blank: Count a missing F-measure, of a text without words, as 0, as the official script does for some
            types; it stops at it for others.

    Raises:
        Crash: If it stops.
        UserError: If jieba or NLTK is missing.
    """
    if not prediction:
        return 0.0
    libraries = _libraries()
    chinese = CHINESE.search(prediction) or CHINESE.search(answer)
    said, right = (libraries.words(text) if chinese else text.split() for text in (prediction, answer))
    overlap = _f_measure(said, right)
    if overlap is None:
        if not zero_for_blank:
            raise Crash("a text without words")
        overlap = 0.0
    apart = Levenshtein.distance(prediction, answer) / max(len(prediction), len(answer))
    return float((libraries.bleu(right, said) + libraries.meteor(right, said) + overlap + (1 - apart)) / 4)


def _f_measure(said: list[str], right: list[str]) -> float | None:
    """Return the harmonic mean of precision and recall over sets of words, None if one has none."""
    one, other = set(said), set(right)
    if not one or not other:
        return None
    common = len(one & other)
    if not common:
        return 0.0
    precision, recall = common / len(one), common / len(other)
    return 2 * precision * recall / (precision + recall)


class _Libraries:
    """NLTK's scores and jieba's words."""

    def __init__(self) -> None:
        try:
            import logging

            import jieba
            from nltk.stem.porter import PorterStemmer
            from nltk.translate.bleu_score import sentence_bleu
            from nltk.translate.meteor_score import meteor_score
        except ImportError as error:
            raise UserError(
                f'OCRBench v2 needs {error.name} for its long texts.\nInstall it: pip install "fcot[evaluate]"'
            ) from None
        jieba.setLogLevel(logging.WARNING)
        self._jieba, self._bleu, self._meteor = jieba, sentence_bleu, meteor_score
        self._stemmer, self._wordnet = PorterStemmer(), WordNet()

    def words(self, text: str) -> list[str]:
        """Cut Chinese text into words."""
        found: list[str] = self._jieba.lcut(text)
        return found

    def bleu(self, right: list[str], said: list[str]) -> Any:
        """Return BLEU without smoothing, which is about 0 without four words in common in a row."""
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._bleu([right], said)

    def meteor(self, right: list[str], said: list[str]) -> Any:
        """Return METEOR."""
        return self._meteor([right], said, stemmer=self._stemmer, wordnet=self._wordnet)


@lru_cache(maxsize=1)
def _libraries() -> _Libraries:
    return _Libraries()
