"""Two processes train as one would on all their pages, whatever each of them was given."""

import os
import pickle
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from fcot.internvl.encoder import IGNORED
from fcot.training.loss_weighting import over_processes
from fcot.training.realign import Realign
from fcot.training.sft import SFT

PAGES = (("What?", "a short one", 2), ("And a longer question?", "x", 1), ("Total", "a rather longer answer", 3))
TEXT = ("2 + 2?", "4", 0)
KINDS = {
    "realign": lambda folder: Realign(folder, ratios=[2, 4]),
    "sft": lambda folder: SFT(folder, reduction="square_root"),
}


def silent(batch):
    """The same pages with no token to learn."""
    sequences = {
        branch: replace(
            each, labels=torch.full_like(each.labels, IGNORED), answers=each.answers[:0], counts=(0,) * len(batch)
        )
        for branch, each in batch.sequences.items()
    }
    return replace(batch, sequences=sequences)


class Losses(torch.nn.Module):
    """The part of a module that DDP wraps."""

    def __init__(self, module):
        super().__init__()
        self.module, self.pair = module, module.pair

    def forward(self, batch):
        return over_processes(self.module.losses(batch))["loss"]


def train(rank, folder, rendezvous, cases):
    """Take one step a case in one of two processes; the first writes down the gradients."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2, timeout=timedelta(seconds=300)
    )
    found = {}
    for kind, build in KINDS.items():
        module = build(folder)
        module.configure_model()
        wrapped = DistributedDataParallel(Losses(module.train()))
        for name, batches in cases[kind].items():
            module.zero_grad()
            wrapped(batches[rank]).backward()
            found[kind, name] = {each: p.grad.clone() for each, p in module.pair.trainable()}
    if rank == 0:
        Path(f"{rendezvous}.found").write_bytes(pickle.dumps(found))
    distributed.barrier()
    # gloo's threads may wait for the interpreter's lock while their destructor, which holds it, waits for them
    os._exit(0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gradients_are_those_of_all_pages_in_one_process(tiny_checkpoint, tmp_path, make_batch):
    def cases(**options):
        first, text, rest = (make_batch(*some, **options) for some in (PAGES[:1], (TEXT,), PAGES[1:]))
        idle = silent(make_batch(*PAGES[1:], **options))
        return {"pages": (first, rest), "text on one": (text, rest), "nothing on one": (idle, first)}

    given = {"realign": cases(more=(4,)), "sft": cases(ratio=1, token_budget=100)}
    context = multiprocessing.get_context("spawn")
    rendezvous = tmp_path / "rendezvous"
    processes = [context.Process(target=train, args=(rank, tiny_checkpoint, rendezvous, given)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(400)
        assert process.exitcode == 0
    found = pickle.loads(Path(f"{rendezvous}.found").read_bytes())
    whole = {
        "pages": PAGES,
        "text on one": (TEXT, *PAGES[1:]),
        "nothing on one": PAGES[:1],
    }
    for kind, options in (("realign", {"more": (4,)}), ("sft", {"ratio": 1})):
        module = KINDS[kind](tiny_checkpoint)
        module.configure_model()
        for name, samples in whole.items():
            module.zero_grad()
            module.train().losses(make_batch(*samples, **options))["loss"].backward()
            for each, parameter in module.pair.trainable():
                torch.testing.assert_close(
                    found[kind, name][each], parameter.grad, rtol=1e-4, atol=1e-6, msg=f"{kind}, {name}: {each}"
                )
