"""Score weights of a student on dev pages: what `ShapleyMerge` values a coalition by."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from fcot.batch import Batch
from fcot.merge import CachedLoader
from fcot.models.sampling import GREEDY
from fcot.models.sharded_tensors import shared_like
from fcot.training.base_task import BaseTask
from shards.feed.halves import Half

VALUES = {"answers": "mean score of answers over tasks", "tokens": "mean answer-token accuracy over tasks"}


class DevScores:
    """Loads weights into a task's student and scores them on dev pages; the student keeps the last ones.

    Args:
        module: The task.
        data: Gives the dev pages.
        value: What weights are scored by, a key of `VALUES`.
        samples: Pages to use (default: all).
        halved: Score on the first half of the pages, and confirm on the second.
    """

    def __init__(
        self, module: BaseTask, data: LightningDataModule, *, value: str, samples: int | None, halved: bool
    ) -> None:
        self.module, self.data, self.value, self.halved = module, data, value, halved
        known: int | None = data.size("dev")  # type: ignore[attr-defined]
        self.samples = known if samples is None else min(samples, known or samples)
        batches: Iterable[Batch] = data.loader(  # type: ignore[attr-defined]
            "dev", with_prompts=True, layout=module.layout, limit=self.samples, whole=True
        )
        self.pages = CachedLoader(batches, size=lambda batch: batch.tiles.nbytes)
        self.scored: Iterable[Batch] = Half(self.pages) if halved else self.pages

    def __call__(self, weights: Mapping[str, Tensor]) -> float | Mapping[str, list[float]]:
        """Return the scores of pages by task, or for tokens their mean over tasks; higher is better."""
        load(self.module.pair.student, weights.items())
        if self.value == "answers":
            return self.module.evaluate(self.scored).by_task()
        return self.module.token_accuracy(self.scored)

    def confirm(self, weights: Mapping[str, Tensor]) -> Mapping[str, list[float]]:
        """Return the scores of generated answers on the second half of the pages, by task."""
        load(self.module.pair.student, weights.items())
        return self.module.evaluate(Half(self.pages, second=True)).by_task()

    @property
    def description(self) -> dict[str, Any]:
        """What a score is of: the split, the number of pages (those that could be read) and the metric."""
        return {"split": "dev", "n": sum(len(batch) for batch in self.scored), "metric": VALUES[self.value]}

    @property
    def fingerprint(self) -> str:
        """What a score depends on besides the weights."""
        pages: str = self.data.fingerprint("dev")  # type: ignore[attr-defined]
        module, part = self.module, "half" if self.halved else "all"
        answers = [module.max_new_tokens, module.layout.max_tiles, module.max_length, module.metrics]
        answers += [] if module.sampling == GREEDY else [asdict(module.sampling)]
        answers += [module.reducer_settings] if module.reducer_settings else []
        return json.dumps([pages, self.value, self.samples, part, *answers])


def load(student: torch.nn.Module, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Copy weights into a model tensor by tensor, so that no second model is in memory."""
    own = student.state_dict()
    with torch.no_grad():
        for name, tensor in weights:
            own[name].copy_(shared_like(tensor, own[name]))


@contextmanager
def restored_on_error(student: torch.nn.Module) -> Iterator[None]:
    """Give a model its weights back if anything fails within."""
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    try:
        yield
    except BaseException:
        load(student, before.items())
        raise
