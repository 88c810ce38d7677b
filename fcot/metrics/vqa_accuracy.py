"""VQA accuracy, the score of TextVQA, VQAv2 and VizWiz: agreement with ten annotators."""

import re
from collections.abc import Sequence

from fcot.errors import UserError
from fcot.metrics.answer_metric import AnswerMetric

_NUM_ANNOTATORS = 10
_AGREEING_FOR_FULL_SCORE = 3

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_DIGITS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS)} | {"none": "0"}

# The server also lists "," and "?", which are gone before punctuation is looked at.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'

# Contractions which are recognized with any one of their apostrophes missing. The first person ("I'm",
# "I've") is absent on purpose: the server lists it with a capital, which no lower-cased answer has.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
    he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've
    must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't
    shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
    something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've
    they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
    where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_RESTORED = {
    word[: match.start()] + word[match.end() :]: word
    for word in _CONTRACTIONS.split()
    for match in re.finditer("'", word)
} | {"somebody'd": "somebodyd"}  # the server's one entry that runs the other way

# A full stop stays beside a digit, on either side. The copies of the script in MMF and InternVL misspell the
# lookbehind as `(?!<=\d)`, which drops the one after a digit too; an official example in the tests
# ("The March 5, 2019.") keeps it. All pass the flag re.UNICODE (32) in place of a count, so they stop after 32 full
# stops.
_FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")
_MISSPELLED_FULL_STOP = re.compile(r"\.(?!\d)")
_MAX_FULL_STOPS = int(re.UNICODE)


class VQAAccuracy(AnswerMetric):
    """Mean agreement with ten annotators (Antol et al. 2015, section 3), as TextVQA's server counts it."""

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one answer; see `vqa_accuracy`."""
        return vqa_accuracy(prediction, references)


def vqa_accuracy(prediction: str, references: Sequence[str], *, drop_full_stops: bool = False) -> float:
    """Return how far ten annotators agree with an answer.

    Each annotator is left out in turn, and the answer counts as right if three of the other nine gave it,
    as a third or two thirds right if one or two did. A single reference, as ST-VQA has, gives 1 for the
    same answer and 0 for another. Answers are compared after `normalize_answer`.

    Args:
        prediction: The generated answer.
        references: The answers of ten annotators, repetitions included, or a single accepted answer.
        drop_full_stops: Drop a full stop behind a digit too, as the misspelled rule behind published scores does.

    Returns:
        The agreement, from 0 to 1.

    Raises:
        UserError: There are neither ten references nor one.
    """
    if len(references) not in (1, _NUM_ANNOTATORS):
        raise UserError(
            f"VQA accuracy is defined on {_NUM_ANNOTATORS} annotators, but there are {len(references)} "
            f"references for the prediction {prediction!r}; give all {_NUM_ANNOTATORS} answers with their "
            "repetitions, or a single accepted answer."
        )
    answer = normalize_answer(prediction, drop_full_stops=drop_full_stops)
    agrees = [normalize_answer(each, drop_full_stops=drop_full_stops) == answer for each in references]
    return agreement(agrees)


def agreement(agrees: Sequence[bool]) -> float:
    """Return how far annotators agree with an answer, from which of them gave it: see `vqa_accuracy`."""
    if len(agrees) == 1:
        return float(agrees[0])
    if not any(agrees):
        return 0.0
    num_agreeing = sum(agrees)
    return sum(min(1.0, (num_agreeing - own) / _AGREEING_FOR_FULL_SCORE) for own in agrees) / len(agrees)


def normalize_answer(text: str, *, drop_full_stops: bool = False) -> str:
    """Return an answer in the form in which TextVQA's server compares answers.

    Lower case, no commas, question marks or articles, number words up to ten as digits, apostrophes of
    contractions restored, other punctuation removed.

    Args:
        text: An answer as a model or an annotator wrote it.
        drop_full_stops: Drop a full stop behind a digit too.

    Returns:
        The words of the normalized answer with single spaces between them.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = text.strip().replace("\n", " ").replace("\t", " ").strip()
    full_stop = _MISSPELLED_FULL_STOP if drop_full_stops else _FULL_STOP
    return without_articles(full_stop.sub("", _without_punctuation(text), count=_MAX_FULL_STOPS))


def without_articles(text: str) -> str:
    """Return words without articles, numbers up to ten as digits, apostrophes of contractions restored."""
    words = (_DIGITS.get(word, word) for word in text.split())
    return " ".join(_RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def _without_punctuation(text: str) -> str:
    """Drop each mark that is beside a space anywhere in the text; replace every other mark by a space."""
    beside_space = {mark for mark in _PUNCTUATION if f"{mark} " in text or f" {mark}" in text}
    return text.translate({ord(mark): "" if mark in beside_space else " " for mark in _PUNCTUATION})
