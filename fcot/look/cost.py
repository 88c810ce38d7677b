"""What an answer costs in FLOPs, counted by running the model's own code on the meta device."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import torch

from fcot.batch import Segments
from fcot.bench.flops import counting
from fcot.bench.workload import Pages, random_pair
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.branches import STUDENT
from fcot.models.decoder import fill_cache
from fcot.models.prefix import positions_of
from fcot.models.student_teacher import StudentTeacher
from fcot.models.transformers_api import CACHE


@dataclass(frozen=True)
class Flops:
    """FLOPs of an answer by part.

    Attributes:
        vision: Of the vision tower, compressor and projector.
        prompt: Of the language model, until it has read all but the last token of the prompt.
        answer: Of the language model from there on, its head included.
    """

    vision: float
    prompt: float
    answer: float


class AnswerCost:
    """Counts the FLOPs of a model's answers. Nothing is computed: tensors have shapes and no values.

    Args:
        folder: The model's folder.
    """

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder
        self.counted = lru_cache(maxsize=256)(self._count)

    @cached_property
    def _pair(self) -> StudentTeacher:
        return random_pair(self.folder.path, torch.device("meta"), torch.float32).eval()

    def __call__(self, counts: Sequence[int], prompt_tokens: int, new_tokens: int) -> Flops:
        """Return the FLOPs of an answer.

        Args:
            counts: Visual tokens of each tile.
            prompt_tokens: Tokens of the prompt, visual ones included.
            new_tokens: Tokens that were generated, an end token included.
        """
        return self.counted(tuple(counts), prompt_tokens, new_tokens)

    def _count(self, counts: tuple[int, ...], prompt_tokens: int, new_tokens: int) -> Flops:
        pair, student = self._pair, self._pair.student
        tokens, device = {STUDENT: torch.tensor(counts)}, torch.device("meta")
        pages = Pages(len(counts), prompt_tokens - sum(counts), 1).of({STUDENT: student.config}, tokens)
        ids = pages.sequences[STUDENT].prompt_ids
        assert ids is not None and ids.shape[1] == prompt_tokens
        where = positions_of(pair, STUDENT, ids, torch.ones_like(ids), tokens[STUDENT]).to(device)
        batch, ids = pages.to(device), ids.to(device)
        with counting() as flops, torch.no_grad():
            embeddings = pair.embed(STUDENT, batch, ids, pair.features(batch.tiles))
            marks = [flops()]
            language, read = student.model.language_model, prompt_tokens - 1
            cache = fill_cache(language, embeddings[:, :-1], where[:, :-1], Segments((read,), (0,)))
            marks.append(flops())
            for _ in range(2):
                hidden = language(
                    inputs_embeds=embeddings[:, -1:], position_ids=where[:, -1:], use_cache=True, **{CACHE: cache}
                )[0]
                student.lm_head(hidden[:, -1])
                marks.append(flops())
        vision, prompt, first, second = (b - a for a, b in pairwise([0.0, *marks]))
        # a token costs as much more than the one before it as the second did: it attends to one more
        steps = new_tokens * first + (second - first) * new_tokens * (new_tokens - 1) / 2
        return Flops(vision, prompt, steps)
