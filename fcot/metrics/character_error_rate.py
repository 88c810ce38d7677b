"""Character error rate: edits that turn the text that was read into the text on the page."""

from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein
from torch import Tensor

from fcot.metrics.answer_metric import AnswerMetric, paired_samples
from fcot.statistics import Interval, paired_ratio


class CharacterErrorRate(AnswerMetric):
    """Edits per character over the whole corpus, against the nearest reference of each sample.

    With one reference per sample this is `torchmetrics.text.CharErrorRate`. Long samples weigh more in the corpus rate,
    so it is not the mean of `sample_scores`.
    """

    higher_is_better: bool = False

    errors: list[Tensor] | Tensor
    characters: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("errors", default=[], dist_reduce_fx="cat")
        self.add_state("characters", default=[], dist_reduce_fx="cat")

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one page; see `character_error_rate`."""
        return character_error_rate(prediction, references)

    def update(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add a batch of samples; arguments and errors are those of `AnswerMetric.update`."""
        counts = [_nearest(prediction, accepted) for prediction, accepted in paired_samples(predictions, references)]
        self._append("scores", (_rate(*count) for count in counts))
        self._append("errors", (errors for errors, _ in counts))
        self._append("characters", (characters for _, characters in counts))

    def compute(self) -> Tensor:
        """Return all edits over all characters so far, a scalar; nan if there is no sample."""
        if not len(self.sample_scores):
            return super().compute()
        return self.sample_errors.sum() / self.sample_characters.sum().clamp(min=1)

    def interval(self, *, seed: int = 0) -> Interval:
        """Return the corpus rate with its 95 % bootstrap interval over samples."""
        if not self.sample_characters.any():
            return super().interval(seed=seed)
        return paired_ratio(self.sample_errors.tolist(), self.sample_characters.tolist(), seed=seed)

    @property
    def sample_errors(self) -> Tensor:
        """The edits of every sample so far, `[samples]`."""
        return self._column("errors")

    @property
    def sample_characters(self) -> Tensor:
        """The length of every sample's nearest reference so far, in characters, `[samples]`."""
        return self._column("characters")


def character_error_rate(prediction: str, references: Sequence[str]) -> float:
    """Return the edits per character of the reference that the prediction is nearest to.

    Args:
        prediction: The generated text.
        references: The accepted texts, at least one.

    Returns:
        The lowest rate over the references: 0 for equal texts, above 1 if there are more edits than characters. An
        empty reference counts as one character.
    """
    return _rate(*_nearest(prediction, references))


def _nearest(prediction: str, references: Sequence[str]) -> tuple[int, int]:
    """Return edits and characters for the reference with the lowest rate, the first one on a tie."""
    counts = ((Levenshtein.distance(prediction, reference), len(reference)) for reference in references)
    return min(counts, key=lambda count: _rate(*count))


def _rate(errors: int, characters: int) -> float:
    """Return edits per character."""
    return errors / max(characters, 1)
