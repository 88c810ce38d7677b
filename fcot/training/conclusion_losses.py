"""The loss of each page's conclusion: what follows "Answer:" in a chain of thought, or the whole answer."""

from collections.abc import Iterable
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fcot.batch import Batch, Sequences
from fcot.evaluation.records import ANSWER, is_page_text
from fcot.models.student_teacher import answer_labels
from fcot.training.cross_entropy import answer_cross_entropy
from fcot.training.page_reader import PageReader

Losses = dict[str, dict[str, float]]  # by task, by key of the sample


@torch.no_grad()
def conclusion_losses(
    reader: PageReader, batches: Iterable[Batch], branch: str = "student", *, whole: bool = False
) -> Losses:
    """Return the mean loss, in nats, of the conclusion's tokens of each sample, by task and key.

    These are the tokens that a score depends on; of a whole chain, the page that it reads out would be nearly all. But
    the right chain stands before them: where a conclusion only repeats it, its loss says nothing of how well the page
    was read. The token that ends the answer is one of them. Samples without a token to learn are left out.

    Args:
        reader: In evaluation mode, its weights whole.
        batches: Not packed.
        branch: The model of which losses are computed: "student", that of a further ratio, or "teacher".
        whole: Take all answer tokens instead.
    """
    found: Losses = {}
    for batch in (batch.to(reader.device) for batch in batches):
        if batch.idle:
            continue
        teacher, sequences = branch == "teacher", batch.sequences[branch]
        rows = reader.pair.teacher_rows(batch) if teacher else reader.pair.student_rows(batch, branch=branch)
        _, losses = answer_cross_entropy(rows, reader.pair.head_weight, answer_labels(sequences))
        for key, task, loss in zip(batch.keys, batch.tasks, means(losses, sequences, reader, whole), strict=True):
            if loss is not None:
                found.setdefault(task, {})[key] = loss
    return found


def means(losses: Tensor, sequences: Sequences, reader: PageReader, whole: bool) -> list[float | None]:
    """Return the mean loss over each sample's conclusion or answer, None for a sample without answer tokens.

    Args:
        losses: Of answer rows `[answers]`.
        sequences: The branch's sequences.
        reader: Has the tokenizer.
        whole: Take all answer tokens.
    """
    counts = sequences.segments().counts
    parts = zip(
        *(each.cpu().split(counts) for each in (losses, answer_labels(sequences), sequences.answers)), strict=True
    )
    return [
        float(loss[0 if whole else conclusion_start(ids, places, reader.folder.tokenizer) :].double().mean())
        if len(loss)
        else None
        for loss, ids, places in parts
    ]


def conclusion_start(ids: Tensor, places: Tensor, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return which of a sample's answer tokens is the first of its conclusion, 0 if there is no marker.

    Args:
        ids: Of all answer tokens of the conversation `[answers]`.
        places: Of their rows, consecutive within an answer `[answers]`.
        tokenizer: Decodes single ids: what it does to spaces between them does not matter here.
    """
    turns = (places.diff() > 1).nonzero()[:, 0]
    last = int(turns[-1]) + 1 if len(turns) else 0
    pieces = tokenizer.batch_decode(ids[last:, None], skip_special_tokens=True)
    text = "".join(pieces)
    said = text.rpartition(ANSWER)[2]
    if ANSWER not in text or is_page_text(text) or not said.strip():
        return 0
    first = len(text) - len(said.lstrip())
    ends = accumulate(map(len, pieces))
    return last + next(number for number, end in enumerate(ends) if end > first)
