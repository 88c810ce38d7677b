"""Sampling seeded by the prompt: an answer is the same alone, in a batch, and in any order.

The argmax of logits / temperature plus Gumbel noise is a draw from their softmax, so greedy search over noisy scores
samples exactly. Rounding of logits still depends on the batch, so a near tie may be decided differently.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from fcot.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; the default always takes the likeliest token.

    Attributes:
        temperature: 0 is greedy; 1 draws from the model's own distribution.
        top_p: Draw among the likeliest tokens whose probabilities add up to this.
        seed: A different seed gives different answers.
        num_answers: Answers to each prompt.

    Raises:
        UserError: If a value is out of range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    num_answers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature is {self.temperature}.\nGive 0 for greedy answers, or a number above it.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}.\nGive a number above 0 and up to 1.")
        if self.num_answers < 1 or (self.num_answers > 1 and self.temperature == 0):
            raise UserError(
                f"num_answers is {self.num_answers} at temperature {self.temperature}.\n"
                "Give at least 1, and a temperature above 0 for several: greedy answers are all the same."
            )

    def options(self, prompts: Sequence[Sequence[int]], pages: Sequence[Tensor]) -> dict[str, Any]:
        """Return options of transformers' `generate` that draw `num_answers` rows for each prompt in turn.

        Args:
            prompts: Ids of each prompt, with visual placeholders, without padding.
            pages: uint8 tiles of each prompt.
        """
        if self.temperature == 0:
            return {}
        keys = [prompt_key(ids, tiles) for ids, tiles in zip(prompts, pages, strict=True)]
        rows = [f"{self.seed}/{key}/{number}" for key in keys for number in range(self.num_answers)]
        return {"logits_processor": LogitsProcessorList([GumbelNoise(rows, self.temperature, self.top_p)])}


@dataclass(frozen=True)
class SeededRows(Sampling):
    """Sampling with a seed given for each prompt, so that equal prompts can be drawn from several times.

    Attributes:
        seeds: A seed for each prompt of a batch.
    """

    seeds: tuple[int, ...] = ()

    def options(self, prompts: Sequence[Sequence[int]], pages: Sequence[Tensor]) -> dict[str, Any]:
        """Return options of transformers' `generate` that draw a row for each prompt from its seed."""
        if self.temperature == 0:
            return {}
        rows = [str(seed) for seed in self.seeds]
        return {"logits_processor": LogitsProcessorList([GumbelNoise(rows, self.temperature, self.top_p)])}


GREEDY = Sampling()


def prompt_key(ids: Sequence[int], tiles: Tensor) -> str:
    """Return a hash of a prompt and its uint8 tiles."""
    digest = hashlib.sha256(repr([int(each) for each in ids]).encode())
    digest.update(tiles.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]  # transformers has no types for it
    """Adds noise to scores during generation, seeded for each row and step.

    Args:
        rows: Seed of each row, combined with the step.
        temperature: Divides the logits; above 0.
        top_p: As in `Sampling`.
    """

    def __init__(self, rows: Sequence[str], temperature: float, top_p: float) -> None:
        self.rows, self.temperature = rows, temperature
        self.top_p = TopPLogitsWarper(top_p) if top_p < 1 else None
        self.start: int | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores `[rows, vocabulary]` whose argmax in each row is the token drawn."""
        if len(self.rows) != len(scores):
            raise UserError(
                "Sampling cannot be combined with beam search.\nLeave num_beams out, or set temperature to 0."
            )
        self.start = input_ids.shape[1] if self.start is None else self.start
        step = input_ids.shape[1] - self.start
        scores = scores.float() / self.temperature
        if self.top_p is not None:
            scores = self.top_p(input_ids, scores)
        return scores + torch.stack([gumbel(f"{row}/{step}", scores.shape[1]) for row in self.rows]).to(scores)


def gumbel(name: str, count: int) -> Tensor:
    """Return Gumbel noise `[count]` that depends only on the name, not on the device."""
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big"))
    return -torch.empty(count, dtype=torch.float64).exponential_(generator=generator).log()
