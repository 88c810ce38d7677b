"""The whole merge: score every coalition and every control, choose, and write the merged model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fcot.errors import UserError
from fcot.files.atomic_folder import Kind, prepare_output, whole_folder
from fcot.files.stream_weights import stream_weights
from fcot.files.weights import open_weights
from fcot.merge.checks import check_same_tensors, fingerprint, layout_of
from fcot.merge.choice import Choice, Confirm, check_method, choose
from fcot.merge.evaluate import Game, Players, Progress, check_options, score_game, score_methods
from fcot.merge.game import check_count
from fcot.merge.intervals import value_intervals
from fcot.merge.methods import MERGE_METHODS
from fcot.merge.methods.random_search import check_draws
from fcot.merge.methods.shapley import ALL_NONPOSITIVE
from fcot.merge.picture import draw_merge
from fcot.merge.report import Control, MergeReport, check_extra
from fcot.merge.scores import ScoreBook, Utility
from fcot.statistics import Interval

REPORT_FILE = "merge.json"
PICTURE_FILE = "merge.png"
MERGED = Kind("a merged model", REPORT_FILE)

Finish = Callable[[Path, Iterator[tuple[str, Tensor]]], None]


def merge_snapshots(
    base: str | Path | Mapping[str, Tensor],
    snapshots: Mapping[str, str | Path],
    utility: Utility,
    output: str | Path,
    *,
    method: str = "auto",
    random_draws: int | None = None,
    permutations: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    finish: Finish | None = None,
    progress: Progress | None = None,
    describe: Mapping[str, Any] | None = None,
    utility_fingerprint: str | None = None,
    confirm: Confirm | None = None,
    each: Path | None = None,
    overwrite: bool = False,
) -> MergeReport:
    """Merge snapshots of one run and write the merged model with its report and picture.

    Scores every coalition's mean, computes Shapley values, scores every merge method, and writes the last snapshot
    unless another method is confirmed to be better (`fcot.merge.choice`). `output` gets the model, `merge.json` and
    `merge.png`, and appears only when it is complete. Each score goes to `OUTPUT.cache/scores.jsonl` at once, so that a
    merge that is killed and started again gives the same result.

    Args:
        base: θ_base: a .safetensors file, a model folder, or the tensors themselves.
        snapshots: The players: their names and their files or folders, in training order.
        utility: Scores weights on the dev split; higher is better. Their mapping computes a tensor at each look-up:
            copy one after the other into a model, so that no second model is in memory. It may return the scores of
            pages by task, in place of their mean over tasks; then values and weights get intervals.
        output: The merged model's folder.
        method: The merge method to use, or "auto" for the last snapshot unless another is confirmed to be better.
        random_draws: Draws of the random search; by default as many as coalitions were scored.
        permutations: Sample the Shapley values from that many orders, as more than 8 snapshots require.
        options: Options of merge methods, by the names of the methods.
        seed: Seed of random search and sampling.
        finish: Writes the model into a folder from the merged tensors, which it can read once; by default as
            safetensors alone.
        progress: Called with a stage's name, the number of its steps done, and the most there can be.
        describe: Fields to add to the report, such as the split, its size "n" and the metric.
        utility_fingerprint: Text that tells this utility's cached scores from another's; by default `describe` as JSON.
        confirm: Returns the reported scores of weights on pages that `utility` does not see, by task and in page order;
            without it, "auto" keeps the last snapshot.
        each: Folder that gets what every method makes, too, each as a merged model in a folder of the method's name.
        overwrite: Replace merged models that are already there.

    Returns:
        The report that `merge.json` holds.

    Raises:
        UserError: If a checkpoint is missing, `output` exists and is not a merged model or may not be overwritten,
            checkpoints differ in their tensors or hold NaN, a name or an option is unusable, or a score is not finite.
    """
    start, output, extra, progress = time.perf_counter(), Path(output), dict(describe or {}), progress or no_progress
    given = {name: dict(each) for name, each in (options or {}).items()}
    for name, options_of in {method: given.get(method, {}), **given}.items():
        check_method(name, options_of, permutations)
    if random_draws is not None:
        check_draws(random_draws)
    _check_players(list(snapshots), permutations)
    check_extra(extra, seed)
    for folder in [output, *(() if each is None else (each / name for name in MERGE_METHODS))]:
        prepare_output(folder, MERGED, overwrite=overwrite)
    base_weights = base if isinstance(base, Mapping) else open_weights(base)
    checkpoints = [open_weights(path) for path in snapshots.values()]
    check_same_tensors(base_weights, checkpoints)
    base_hash, *hashes = _fingerprints(base_weights, checkpoints, progress)
    book = ScoreBook(
        output.with_name(f"{output.name}.cache") / "scores.jsonl",
        utility,
        base=base_hash,
        checkpoints=hashes,
        utility_fingerprint=utility_fingerprint or json.dumps(extra, sort_keys=True),
    )
    players = Players(list(snapshots), base_weights, checkpoints, book, progress)
    check_options(players, seed, given)
    game = score_game(players, permutations, seed)
    draws = random_draws if random_draws is not None else len(game.utilities)
    controls, mixtures = score_methods(players, game, draws, seed, given)
    choice = Choice(method, f"{method} was asked for")
    if method == "auto":
        choice = choose(controls, confirm, mixtures, seed)
    report = MergeReport(
        players=players.names,
        utilities=game.utilities,
        shapley=game.values,
        standard_errors=game.standard_errors,
        controls=controls,
        chosen=choice.method,
        choice=choice.to_dict(),
        base={"path": None if isinstance(base, Mapping) else str(base), "sha256": base_hash},
        seed=seed,
        evaluations=book.evaluations,
        intervals=_intervals(game, players.names, seed),
        pages=game.pages,
        wall_seconds=round(time.perf_counter() - start, 3),
        options=given,
        notes=_notes(game, controls[choice.method], permutations),
        extra=extra,
    )
    made = {} if each is None else {each / name: Choice(name, "every method was asked for") for name in mixtures}
    for place, chosen in (made | {output: choice}).items():
        own = replace(report, chosen=chosen.method, choice=chosen.to_dict())
        with whole_folder(place, MERGED) as folder:
            if finish is None:
                stream_weights(folder, mixtures[chosen.method], layout_of(base_weights))
            else:
                finish(folder, iter(mixtures[chosen.method].items()))
            (folder / REPORT_FILE).write_text(own.to_json(), encoding="utf-8")
            if place == output:
                draw_merge(own.to_dict(), folder / PICTURE_FILE)
    return report


def _intervals(game: Game, names: list[str], seed: int) -> dict[str, Mapping[str, Interval]]:
    """Return intervals of the Shapley values and their weights, if every coalition has scores of pages."""
    if game.banzhaf is None or game.pages.keys() != game.utilities.keys():
        return {}
    shapley, weights = value_intervals(game.pages, names, seed=seed)
    return {"shapley": shapley, "weights": weights}


def _check_players(names: list[str], permutations: int | None) -> None:
    if not names:
        raise UserError("There are no snapshots to merge. Give at least one.")
    for name in names:
        if not name or "+" in name:
            raise UserError(
                f"'{name}' cannot name a snapshot: '+' joins the names of a coalition. Give it another name."
            )
    check_count(len(names), permutations)


def _fingerprints(
    base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], progress: Progress
) -> Iterator[str]:
    for place, weights in enumerate((base, *checkpoints)):
        yield fingerprint(weights, place - 1 if place else None)
        progress("reading", place + 1, len(checkpoints) + 1)


def _notes(game: Game, chosen: Control, permutations: int | None) -> list[str]:
    notes = []
    if max(game.values.values()) <= 0.0:
        notes.append(ALL_NONPOSITIVE)
    if game.utilities[""] > chosen.utility:
        notes.append("the base scores higher than the chosen weights")
    if permutations is not None:
        notes.append(f"Shapley values sampled from {permutations} permutations, with standard errors")
    return notes


def no_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""
