"""What the mixed pages of re-alignment have cost, kept in files, so that a router is fitted without further passes."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fcot.batch import Batch
from fcot.errors import UserError
from fcot.models.branches import MIXED, STUDENT
from fcot.models.relayout import tiles_shown
from fcot.models.student_teacher import StudentTeacher, answer_samples
from fcot.route import SeenTiles, describe
from fcot.route.fit import MixedPages
from fcot.training.mixed_passes import compared

NAME = re.compile(r"(\d+)-(\d+)-(\d+)\.safetensors")  # batch, process, pages


@torch.no_grad()
def pages_of_step(pair: StudentTeacher, batch: Batch, features: Tensor, rows: Tensor, teacher: Tensor) -> MixedPages:
    """Return what the mixed pages of a batch have cost.

    Args:
        pair: An elastic student and its teacher.
        batch: With the branch of mixed pages, padded or packed.
        features: Of its tiles.
        rows: The student's answer rows on mixed pages `[answers, width]`.
        teacher: The teacher's.
    """
    sequences, counts = batch.sequences[MIXED], batch.tile_tokens[MIXED]
    shown = tiles_shown(sequences.input_ids, None, pair.student.config.image_token_id, counts.tolist())
    seen = SeenTiles(batch.tiles, [tiles for sample in shown for tiles in sample], features)
    projector = pair.projector(STUDENT)
    described = describe(seen, projector.linear_1.in_features).cpu()
    numbers = torch.arange(len(batch)).repeat_interleave(batch.num_tiles)
    choices = (counts[:, None] == projector.routing.tokens).int().argmax(1)
    kl = compared(rows.detach(), teacher, pair.head_weight, answer_samples(sequences), len(batch)).kl
    return MixedPages(described, numbers, choices[None], kl[None])


def write_pages(folder: Path, batch: int, rank: int, pages: MixedPages, most: int) -> None:
    """Write the pages of a batch whole or not at all, and delete the oldest batches of this process above a limit.

    A run that goes on from a checkpoint writes the same files again.

    Args:
        folder: Of the log.
        batch: Number of the batch in the run.
        rank: Number of this process.
        pages: Of the batch.
        most: Most pages that this process keeps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{batch:08d}-{rank}-{pages.kl.shape[1]}.safetensors"
    partial = file.with_suffix(".part")
    save_file(vars(pages), partial)
    partial.replace(file)
    there = [found for each in folder.iterdir() if (found := NAME.fullmatch(each.name)) and int(found[2]) == rank]
    total = sum(int(each[3]) for each in there)
    for each in sorted(there, key=lambda found: int(found[1])):
        if total <= most:
            break
        (folder / each[0]).unlink()
        total -= int(each[3])


def read_pages(folder: Path, most: int) -> MixedPages:
    """Return the last pages of a log.

    Args:
        folder: Of the log.
        most: Most pages.

    Raises:
        UserError: If there is none.
    """
    files = sorted((each for each in folder.glob("*.safetensors") if NAME.fullmatch(each.name)), reverse=True)
    if not files:
        raise UserError(
            f"There are no mixed pages in {folder}.\nGive the folder that the callback MixedPagesLog wrote."
        )
    parts: list[MixedPages] = []
    number = 0
    for file in files:
        pages = MixedPages(**load_file(file))
        if parts and number + pages.kl.shape[1] > most:
            break
        parts.append(MixedPages(pages.described, number + pages.page, pages.choices, pages.kl))
        number += pages.kl.shape[1]
    tensors = zip(*(vars(part).values() for part in parts), strict=True)
    along = (0, 0, 1, 1)
    return MixedPages(*(torch.cat(each, dim) for each, dim in zip(tensors, along, strict=True)))
