"""Passes over pages whose tiles have different ratios, and what each costs beside the page whose tiles are whole."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from fcot.batch import Batch
from fcot.models.branches import STUDENT
from fcot.models.routed_batch import features_once, pages_of, with_counts
from fcot.models.student_teacher import StudentTeacher, answer_samples
from fcot.route import SeenTiles, describe
from fcot.route.fit import MixedPages

CHUNK = 256  # answer rows whose logits exist at a time


@dataclass(frozen=True)
class Compared:
    """Pages of a batch beside the same pages as they are read whole, each a mean over a page's answer tokens.

    Attributes:
        kl: KL(whole ‖ compressed) `[pages]`.
        agreement: Share of tokens of which both readings have the same likeliest one `[pages]`.
    """

    kl: Tensor
    agreement: Tensor


def compared(rows: Tensor, whole: Tensor, head: Tensor, samples: Tensor, number: int) -> Compared:
    """Compare answer rows, page by page.

    Args:
        rows: Final hidden rows at answer positions `[answers, width]`.
        whole: Those of the same tokens where every tile is whole.
        head: The language model's head `[vocabulary, width]`.
        samples: Page of each row `[answers]`.
        number: How many pages there are.
    """
    parts = []
    for own, other in zip(rows.split(CHUNK), whole.split(CHUNK), strict=True):
        read, known = (functional.linear(each.float(), head.float()) for each in (own, other))
        logs = read.log_softmax(-1)
        kl = functional.kl_div(logs, known.log_softmax(-1), reduction="none", log_target=True).sum(-1)
        parts.append(torch.stack([kl, (read.argmax(-1) == known.argmax(-1)).float()]))
    sums = torch.zeros(2, number, device=rows.device).index_add(1, samples, torch.cat(parts, 1))
    means = (sums / samples.bincount(minlength=number).clamp_min(1)).cpu()
    return Compared(means[0].clamp_min(0), means[1])


class PageCosts:
    """What a batch of pages costs an elastic student at any ratios, its tower's and its whole reading done once.

    Args:
        pair: The student.
        batch: Padded, with answers.
    """

    @torch.no_grad()
    def __init__(self, pair: StudentTeacher, batch: Batch) -> None:
        self.pair, self.routing = pair, pair.projector(STUDENT).routing
        self.batch = replace(batch, features=features_once(pair, batch))
        self.pages = pages_of(pair, batch, STUDENT)
        most = int(self.routing.tokens.max())
        self.whole = self._rows(torch.full((len(batch.tiles),), most))

    def _rows(self, counts: Tensor) -> Tensor:
        batch = with_counts(self.pair, self.batch, STUDENT, counts)
        return self.pair.student_rows(batch, batch.features)

    @property
    def seen(self) -> SeenTiles:
        """The tiles as a router sees them."""
        pages = [tiles for sample in self.pages for tiles in sample]
        return SeenTiles(self.batch.tiles, pages, self.batch.features)

    @torch.no_grad()
    def at(self, choices: Tensor) -> Compared:
        """Return what the pages cost when each tile has the ratio chosen for it, int64 `[tiles]`, 0 for ratio 1."""
        samples = answer_samples(self.batch.sequences[STUDENT])
        rows = self._rows(self.routing.tokens[choices])
        return compared(rows, self.whole, self.pair.head_weight, samples, len(self.batch))


def mixed_pages(pair: StudentTeacher, batches: Iterable[Batch], *, passes: int, seed: int) -> MixedPages:
    """Run mixed passes over pages, and return what a router is fitted to.

    Args:
        pair: An elastic student.
        batches: Padded, with answers.
        passes: Passes over each page, ratios drawn evenly for each tile.
        seed: Of the ratios.
    """
    drawn = torch.Generator().manual_seed(seed)
    described, numbers, choices, kl, behind = [], [], [], [], 0
    for batch in batches:
        costs = PageCosts(pair, batch.to(pair.mean.device))
        size = (passes, len(batch.tiles))
        own = torch.randint(0, len(costs.routing.ratios), size, generator=drawn)
        described.append(describe(costs.seen, pair.projector(STUDENT).linear_1.in_features).cpu())
        numbers.append(behind + torch.arange(len(batch)).repeat_interleave(batch.num_tiles))
        choices.append(own)
        kl.append(torch.stack([costs.at(each).kl for each in own]))
        behind += len(batch)
    return MixedPages(torch.cat(described), torch.cat(numbers), torch.cat(choices, 1), torch.cat(kl, 1))
