"""The base of all metrics of generated answers: it keeps one score per sample and gives their mean."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from fcot.errors import UserError
from fcot.statistics import Interval, bootstrap_interval


class AnswerMetric(Metric):
    """Scores generated answers against the accepted ones, sample by sample.

    A subclass sets `higher_is_better` and defines `score` for one pair. Every sample's score is kept in
    `sample_scores`, for intervals and paired comparisons of two models; scores of several processes are concatenated
    by rank.
    """

    is_differentiable: bool = False
    full_state_update: bool = False
    higher_is_better: bool = True

    scores: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    @staticmethod
    @abstractmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one generated answer against its accepted answers, at least one."""

    def update(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add a batch of samples.

        Args:
            predictions: One generated answer per sample.
            references: The accepted answers of each sample, in the same order.

        Raises:
            UserError: Their numbers differ, or a sample has no accepted answer.
        """
        pairs = paired_samples(predictions, references)
        self._append("scores", (self.score(prediction, accepted) for prediction, accepted in pairs))

    def compute(self) -> Tensor:
        """Return the mean over all samples so far, a scalar; nan if there is none."""
        return self.sample_scores.mean()

    def interval(self, *, seed: int = 0) -> Interval:
        """Return the result of `compute` with its 95 % bootstrap interval over samples."""
        return bootstrap_interval(self.sample_scores.tolist(), seed=seed)

    @property
    def sample_scores(self) -> Tensor:
        """The score of every sample so far, in the order of the updates, `[samples]`."""
        return self._column("scores")

    def _append(self, state: str, values: Iterable[float]) -> None:
        """Append one number per sample to a list state."""
        getattr(self, state).append(torch.tensor(list(values), dtype=torch.float32, device=self.device))

    def _column(self, state: str) -> Tensor:
        """Return a list state as one tensor, `[samples]`, also before the first update and after a sync."""
        chunks = getattr(self, state)
        return dim_zero_cat(chunks) if len(chunks) else torch.empty(0, device=self.device)


def paired_samples(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Check that predictions and references belong together, and pair them.

    Args:
        predictions: One generated answer per sample.
        references: The accepted answers of each sample, in the same order.

    Returns:
        Pairs of a prediction and its accepted answers, in order.

    Raises:
        UserError: The lengths differ, a sample has no accepted answer, or a bare string stands where a
            list of strings belongs (it would be scored letter by letter).
    """
    if isinstance(predictions, str):
        raise UserError(f"The predictions are the single string {predictions!r}; pass a list of strings.")
    if len(predictions) != len(references):
        raise UserError(
            f"There are {len(predictions)} predictions but {len(references)} lists of references; "
            "pass one list of accepted answers for each prediction."
        )
    for index, accepted in enumerate(references):
        if isinstance(accepted, str):
            raise UserError(
                f"The references of sample {index} are the single string {accepted!r}; "
                "pass a list of accepted answers for each sample."
            )
        if not accepted:
            raise UserError(f"Sample {index} has no reference; give it at least one accepted answer or leave it out.")
    return zip(predictions, references, strict=True)
