"""Fit the router of an elastic student, and fix the price of a visual token on dev pages."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fcot.batch import Batch
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.branches import STUDENT
from fcot.models.routed_batch import features_once, pages_of
from fcot.models.routing import LEARNED, RULE
from fcot.models.student_teacher import StudentTeacher
from fcot.route import InkRule, Router, SeenTiles, price_of
from fcot.route.fit import MixedPages, fit_router, fit_rule


@dataclass(frozen=True)
class Fitted:
    """A router that was fitted, and the rule beside it.

    Attributes:
        router: The learned one.
        rule: The one without weights.
        losses: Of the learned one on held-out pages, before and after.
        pages: How many pages were learned from.
    """

    router: Router
    rule: InkRule
    losses: dict[str, float]
    pages: int


def require_elastic(folder: ModelFolder) -> None:
    """Refuse a model whose tiles all have one ratio.

    Raises:
        UserError: If it is none that a router could serve.
    """
    if not getattr(folder.config, "ratios", None):
        raise UserError(
            f"{folder.path} is no elastic student, so there is nothing to route.\n"
            "Train one: fit with --model.elastic true and --model.ratios."
        )


def new_router(pair: StudentTeacher, hidden: int) -> Router:
    """Return a router for a student, with initial weights."""
    projector = pair.projector(STUDENT)
    return Router(projector.linear_1.in_features, len(projector.compressor.ratios), hidden)


def fit_both(pair: StudentTeacher, measured: MixedPages, *, hidden: int, seed: int = 0) -> Fitted:
    """Fit a learned router and a rule to what mixed passes over training pages have cost.

    Args:
        pair: An elastic student.
        measured: What was measured.
        hidden: Width of the learned router.
        seed: Of the fit.

    Raises:
        UserError: If there are too few pages, or they were read by a model of another width.
    """
    router = new_router(pair, hidden)
    if measured.described.shape[1] != router.first.in_features:
        raise UserError(
            f"The mixed pages are described by {measured.described.shape[1]} numbers a tile, and this student's by "
            f"{router.first.in_features}.\nGive the log of this student's own re-alignment."
        )
    rule = fit_rule(measured, router.last.out_features)
    losses = fit_router(router, measured, seed=seed)
    return Fitted(router, rule, losses, measured.kl.shape[1])


@torch.no_grad()
def costs_of(pair: StudentTeacher, batches: Iterable[Batch], *routers: Router | InkRule) -> list[Tensor]:
    """Return what each router predicts of the tiles of pages, `[tiles, ratios]`."""
    found: list[list[Tensor]] = [[] for _ in routers]
    for batch in batches:
        shown = batch.to(pair.mean.device)
        pages = [tiles for sample in pages_of(pair, shown, STUDENT) for tiles in sample]
        seen = SeenTiles(shown.tiles, pages, features_once(pair, shown))
        for costs, router in zip(found, routers, strict=True):
            costs.append(router.costs(seen))
    return [torch.cat(costs) for costs in found]


def settings_of(
    pair: StudentTeacher, folder: ModelFolder, fitted: Fitted, dev: Iterable[Batch], *, kind: str, mean_tokens: float
) -> dict[str, Any]:
    """Return the settings of a student's router, the price for requests of "auto" fixed on dev pages.

    Args:
        pair: The student.
        folder: Its folder.
        fitted: Its routers.
        dev: Dev pages.
        kind: Which of them chooses: "learned" or "ink".
        mean_tokens: Visual tokens that a dev tile shall have in the mean.

    Raises:
        UserError: If it is none that the ratios allow.
    """
    tokens = pair.projector(STUDENT).routing.tokens
    learned, ruled = costs_of(pair, dev, fitted.router, fitted.rule)
    prices = {LEARNED: price_of(learned, tokens, mean_tokens * len(learned))}
    prices[RULE] = price_of(ruled, tokens, mean_tokens * len(ruled))
    return {
        "kind": kind,
        "price": prices[kind],
        "rule": fitted.rule.each,
        "rule_price": prices[RULE],
        "hidden": fitted.router.first.out_features,
        "image_mean": folder.preprocessing["image_mean"],
        "image_std": folder.preprocessing["image_std"],
    }
