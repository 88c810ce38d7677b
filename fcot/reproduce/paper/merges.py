"""Table 4, merges of snapshots: of the re-run's own post-trainings, or as `reproduce merging` found them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fcot.files.json_files import read_json
from fcot.merge.picture import spoken
from fcot.reproduce.merging_table import methods_table
from fcot.reproduce.page_scores import Scores
from fcot.reproduce.paper import claims as judge
from fcot.reproduce.paper import published
from fcot.reproduce.paper.section import Section, difference, score_row, told
from fcot.reproduce.tiny_runs import BATCH
from fcot.statistics import DifferenceOverSeeds, Interval

TITLE = "Table 4: merging snapshots"
METHODS = ("shapley", "average", "task_arithmetic_mean", "task_arithmetic_sum")  # which of the sums is meant is open


def of_snapshots(last: Sequence[Scores], merges: Mapping[str, Sequence[Scores]], ratio: int, split: str) -> Section:
    """Return the table of merges of the snapshots of a post-training, a run a seed.

    Args:
        last: Scores of the last snapshots.
        merges: Those of what each method made.
        ratio: Of the students.
        split: What is scored.
    """
    gains = {method: difference(runs, last) for method, runs in merges.items()}
    rows = [[*score_row("last snapshot", last), ""]]
    rows += [[*score_row(spoken(method), runs), judge.points(gains[method].mean)] for method, runs in merges.items()]
    (*_, scores) = last
    lead = (
        f"{told(scores, len(last), sum(map(len, scores.values())), split)} Each method on the snapshots of the same "
        f"post-training at ratio {ratio}, tested whatever auto keeps; coalitions are scored on dev pages."
    )
    head = ["method", "mean", *scores, "difference to the last"]
    return Section(TITLE, lead, head, rows, claims=[*judged(gains)])


def of_experiment(folder: Path) -> Section:
    """Return the table of what `reproduce merging` left in a folder."""
    found = read_json(folder / "results.json")
    heads, rows = methods_table(found)
    gains = {
        method: DifferenceOverSeeds(Interval(**each["mean"]), {}, {}, each["by_seed"])
        for method, each in found["differences"]["cosine"].items()
    }
    how, n = found["settings"], found["differences"]["cosine"]["auto"]["mean"]["n"]
    lead = (
        "Runs of their own: each method on snapshots of a run with a cosine and of one with a constant learning rate, "
        f"{how['steps']} steps of {BATCH} pages from one student of ratio 2 that was re-aligned for "
        f"{how['start_steps']}, {how['snapshots']} snapshots after {how['after']:.0%} of them, tested whatever auto "
        "keeps. Mean score over tasks, as a share of 1, with 95 % intervals over seeds and pages; split test, "
        f"n = {n}, {how['seeds']} seed{'s' if how['seeds'] > 1 else ''}."
    )
    picture, alt = (folder / "merging.png").read_bytes(), "Each method's difference to the last snapshot"
    notes = [sentence.replace("`", "") for sentence in found["found"]]
    return Section(TITLE, lead, heads, rows, picture, alt, [*judged(gains)], notes)


def judged(gains: Mapping[str, DifferenceOverSeeds]) -> Iterator[judge.Claim]:
    """Yield what the paper says of each method, beside its difference to the last snapshot."""
    for method in METHODS:
        if method in gains:
            row = method.removesuffix("_mean").removesuffix("_sum")
            stated = published.gain(published.TABLE4, row, "final")
            judged_, word = (judge.higher, "better") if stated > 0 else (judge.lower, "worse")
            says = f"Merging by {spoken(method)} is {word} than the last snapshot"
            yield judged_("Table 4", says, stated, gains[method])
