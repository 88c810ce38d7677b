"""Measure what pages cost when their tiles get their ratios by different rules; each finding is a file."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from fcot.batch import Batch, PageLayout
from fcot.evaluation.records import Evaluation
from fcot.files.json_files import write_json
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.branches import STUDENT
from fcot.models.routed_batch import with_counts
from fcot.models.student_teacher import StudentTeacher, answer_samples
from fcot.models.token_counts import TokenCounts
from fcot.reproduce.budgets import RATIOS, Plan
from fcot.reproduce.budgets_policies import Costs, choices, simple_costs
from fcot.route import InkRule
from fcot.training.mixed_passes import PageCosts, compared
from shards.feed.datamodule import Shards

BUDGETS = (5, 6, 8, 10, 12)  # mean visual tokens of a tile; a whole one has 16
ANSWERED = {8: ("router", "rule", "shuffled", "random0"), 6: ("router",), 12: ("router", "rule")}
BATCH, NEW_TOKENS = 32, 192


class Pages:
    """The pages of a split as the elastic student sees them, looked at once.

    Args:
        pair: The student with its router.
        folder: Its folder.
        root: Folder of the sets.
        split: "dev" or "test".
    """

    def __init__(self, pair: StudentTeacher, folder: ModelFolder, root: Path, split: str) -> None:
        self.pair = pair
        most = max(TokenCounts(folder.config).choices)
        self.batches = [PageCosts(pair, batch) for batch in batches(folder, root, split, most)]
        self.num_tiles = [int(each) for part in self.batches for each in part.batch.num_tiles]
        self.tasks = [task for part in self.batches for task in part.batch.tasks]
        self.tokens = self.batches[0].routing.tokens

    @property
    def tiles(self) -> int:
        """How many tiles all pages have."""
        return sum(self.num_tiles)

    def parts(self, values: Tensor) -> Iterator[tuple[PageCosts, Tensor]]:
        """Yield each batch with its part of values of all tiles `[tiles]`."""
        sizes = [len(part.batch.tiles) for part in self.batches]
        return zip(self.batches, values.split(sizes), strict=True)

    def at(self, chosen: Tensor) -> dict[str, Any]:
        """Return KL, agreement and visual tokens of each page at chosen ratios, int64 `[tiles]`."""
        found = [part.at(own) for part, own in self.parts(chosen)]
        tokens = [int(each.sum()) for each in self.tokens[chosen].split(self.num_tiles)]
        kl, agreement = (torch.cat([getattr(each, name) for each in found]).tolist() for name in ("kl", "agreement"))
        return {"kl": kl, "agreement": agreement, "tokens": tokens}

    def oracle(self) -> dict[str, Any]:
        """Return the "costs" of each tile alone at each ratio, other tiles whole `[tiles, 3]`."""
        costs = torch.zeros(self.tiles, 1 + len(RATIOS))
        page = torch.arange(len(self.num_tiles)).repeat_interleave(torch.tensor(self.num_tiles))
        place = torch.cat([torch.arange(number) for number in self.num_tiles])
        for which in range(max(self.num_tiles)):
            alone = place == which
            for choice in range(1, costs.shape[1]):
                kl = torch.tensor(self.at(torch.where(alone, choice, 0))["kl"])
                costs[alone, choice] = kl[page[alone]]
        return {"costs": costs.tolist()}

    def costs(self, oracle: Tensor) -> Costs:
        """Return what each rule says of the tiles."""
        rule = InkRule(self.pair.student.config.router["rule"])
        each = [{"router": part.routing.costs(part.seen), **simple_costs(part.seen, rule)} for part in self.batches]
        by_rule = {name: torch.cat([part[name] for part in each]) for name in each[0]}
        return Costs({**by_rule, "oracle": oracle}, self.num_tiles)


def batches(folder: ModelFolder, root: Path, split: str, tokens: int) -> Iterator[Batch]:
    """Yield the pages of a split, whose tiles all have a number of visual tokens."""
    layout = PageLayout(folder.encoder(), folder.tile_size, folder.max_tiles, {STUDENT: tokens})
    data = Shards(root, eval_batch_size=BATCH, num_workers=0)
    return iter(data.loader(split, with_prompts=True, layout=layout))


def kept(file: Path, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a file says, or find it and write the file."""
    with suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    begun = time.monotonic()
    found = find()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file.with_suffix(".part"), found)
    file.with_suffix(".part").replace(file)
    print(f"{file} ({time.monotonic() - begun:.0f} s)", flush=True)
    return found


def measure(plan: Plan, output: Path) -> None:
    """Measure every rule at every budget by KL and, on the first pages, by generated answers."""
    folder, root, found = ModelFolder(output / "routed"), output / "pages", output / "measured"
    pair = StudentTeacher(folder.path).eval()
    dev, test = Pages(pair, folder, root, "dev"), Pages(pair, folder, root, "test")
    of_dev, of_test = (
        pages.costs(torch.tensor(kept(found / f"oracle-{name}.json", pages.oracle)["costs"]))
        for name, pages in (("dev", dev), ("test", test))
    )
    kept(found / "pages.json", lambda: {"tasks": test.tasks, "tiles": test.num_tiles, "time": router_time(pair, test)})
    counts = test.tokens.tolist()
    every = {f"always-{tokens}": torch.full((test.tiles,), number) for number, tokens in enumerate(counts)}
    for budget in BUDGETS:
        chosen = choices(of_test, of_dev, test.tokens, budget, plan.seed)
        every |= {f"{name}-{budget}": each for name, each in chosen.items()}
    for name, choice in every.items():
        kept(found / f"{name}.json", partial(test.at, choice))
    for ratio in RATIOS:
        student = output / f"fixed-r{ratio}" / "student"
        kept(found / f"fixed-r{ratio}.json", partial(fixed, student, test, root))
    if plan.answered:
        answered = [f"always-{tokens}" for tokens in counts]
        answered += [f"{name}-{budget}" for budget, names in ANSWERED.items() for name in names]
        for name in answered:
            given = (pair, folder, test, every[name], plan.answered)
            kept(found / f"answers-{name}.json", partial(answers, *given))


def fixed(path: Path, test: Pages, root: Path) -> dict[str, Any]:
    """Return KL, agreement and tokens of each page of a student of one ratio, beside the whole page."""
    folder = ModelFolder(path)
    pair, tokens = StudentTeacher(path).eval(), TokenCounts(folder.config).most
    kl, agreement = [], []
    with torch.no_grad():
        for known, batch in zip(test.batches, batches(folder, root, "test", tokens), strict=True):
            rows = pair.student_rows(batch, known.batch.features)
            samples = answer_samples(batch.sequences[STUDENT])
            found = compared(rows, known.whole, pair.head_weight, samples, len(batch))
            kl += found.kl.tolist()
            agreement += found.agreement.tolist()
    return {"kl": kl, "agreement": agreement, "tokens": [tokens * number for number in test.num_tiles]}


def answers(pair: StudentTeacher, folder: ModelFolder, test: Pages, chosen: Tensor, most: int) -> dict[str, Any]:
    """Return the scores of generated answers to the first pages, and their visual tokens."""
    evaluation, number = Evaluation(), 0
    for part, own in test.parts(chosen):
        if number >= most:
            break
        batch: Batch = with_counts(pair, part.batch, STUDENT, part.routing.tokens[own])
        said = pair.answer(batch, STUDENT, max_new_tokens=NEW_TOKENS)
        texts = [str(folder.tokenizer.decode(ids, skip_special_tokens=True)) for ids in said]
        evaluation.add(
            keys=batch.keys,
            tasks=batch.tasks,
            questions=batch.questions,
            references=batch.references,
            predictions=texts,
            visual_tokens=batch.visual_tokens(STUDENT),
        )
        number += len(batch)
    records = evaluation.records[:most]
    scores = [record.scores[evaluation.names(record.task)[0]] for record in records]
    return {"score": scores, "tokens": [record.visual_tokens for record in records]}


@torch.no_grad()
def router_time(pair: StudentTeacher, test: Pages) -> dict[str, float]:
    """Return seconds that the router takes for a batch, and what reads it, tower and language model: medians."""
    part = test.batches[0]
    nothing = torch.zeros(len(part.batch.tiles), dtype=torch.int64)
    runs: dict[str, Callable[[], Any]] = {
        "router": lambda: part.routing.costs(part.seen),
        "tower": lambda: pair.features(part.batch.tiles),
        "language": lambda: part.at(nothing),
    }
    return {name: _median(run) for name, run in runs.items()}


def _median(run: Callable[[], Any], times: int = 5) -> float:
    run()  # warm
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return median(taken)
