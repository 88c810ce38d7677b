"""Put the result of all models together, as plain values that are written, printed and drawn."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from fcot.evaluation.benchmarks.benchmark import SCORINGS, Column
from fcot.evaluation.benchmarks.published import Published
from fcot.evaluation.results.average import DEFINITION, Pair, average, averaged, pair, pair_average
from fcot.evaluation.results.slices import columns_of, slices_of
from fcot.evaluation.results.tested import TestedModel, TestedSet
from fcot.statistics import Interval


def result_of(
    models: Sequence[TestedModel],
    published: Sequence[Published],
    *,
    scoring: str,
    protocol: str,
    allow_partial: bool = False,
    difficult: Mapping[str, set[str]] | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Return everything that is reported.

    Args:
        models: The first is the one that others are compared with.
        published: Scores to stand beside.
        scoring: The rule that counts.
        protocol: How rows were asked.
        allow_partial: Let sets that are not whole in.
        difficult: Rows that fewer tiles get wrong, by the name of the set's folder.
        notes: What a user should know.
        seed: Of the bootstrap.
    """
    by_model = [model.columns(scoring, allow_partial=allow_partial) for model in models]
    plain = [{name: column for name, (column, _) in each.items()} for each in by_model]
    names = averaged(plain)
    other = next(each for each in SCORINGS if each != scoring)
    others = [model.columns(other, allow_partial=allow_partial) for model in models]
    pairs = [
        _pair(models[0], model, plain[0], each, names, seed) for model, each in zip(models[1:], plain[1:], strict=True)
    ]
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for each in by_model for name in each):
        first, of = next(each[name] for each in by_model if name in each)
        columns[name] = {
            "title": first.title,
            "split": of.split,
            "n": first.n,
            "whole": of.whole,
            "scoring": scoring,
            "models": {
                model.label: _cell(each[name][0], further[name][0], other, seed)
                for model, each, further in zip(models, by_model, others, strict=True)
                if name in each
            },
            "parts": _parts(models, by_model, name),
            "published": _beside(published, name, of, scoring),
        }
    return {
        "models": [
            {
                "label": model.label,
                "ratio": model.ratio,
                "reduce": dict(model.reduce),
                **({"asked": dict(model.asked)} if model.asked else {}),
                "visual_tokens": model.visual_tokens,
            }
            for model in models
        ],
        "scoring": scoring,
        "protocol": protocol,
        "seed": seed,
        "columns": columns,
        "average": _average(models, plain, names, seed) if names else None,
        "pairs": pairs,
        "slices": _slices(models, scoring, allow_partial, difficult or {}, seed),
        "notes": [*notes, *_faults(models, scoring, allow_partial), *_unmatched(pairs, columns)],
    }


def _average(
    models: Sequence[TestedModel], columns: Sequence[Mapping[str, Column]], names: Sequence[str], seed: int
) -> dict[str, Any]:
    """Return each model's average, and what it is over."""
    found = {model.label: _values(average(each, names, seed=seed)) for model, each in zip(models, columns, strict=True)}
    return {
        "definition": DEFINITION,
        "columns": names,
        "models": {label: each["value"] for label, each in found.items()},
        "intervals": found,
    }


def _values(interval: Interval) -> dict[str, Any]:
    return {"value": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def _compared(found: Pair) -> dict[str, Any]:
    """Return a difference with its ratio; an end that is unbounded is None, which JSON can say."""
    ratio = _values(found.ratio) if found.ratio else None
    if ratio:
        ratio = {name: value if isfinite(value) else None for name, value in ratio.items()}
    return {**_values(found.difference), "unmatched": found.unmatched, "ratio": ratio}


def _cell(column: Column, further: Column, other: str, seed: int) -> dict[str, Any]:
    """Return a model's value of a column, with that of the other scoring where it differs."""
    differs = abs(further.value - column.value) > 1e-9
    beside = {"other": {"scoring": other, "value": further.value}} if differs else {}
    return {**_values(column.interval(seed=seed)), **beside}


def _parts(
    models: Sequence[TestedModel], columns: Sequence[Mapping[str, Any]], name: str
) -> dict[str, dict[str, float]]:
    """Return each part's mean in per cent for each model."""
    found: dict[str, dict[str, float]] = {}
    for model, each in zip(models, columns, strict=True):
        for part, units in each[name][0].parts.items() if name in each else ():
            found.setdefault(part, {})[model.label] = 100 * sum(units.values()) / len(units)
    return found


def _beside(published: Sequence[Published], name: str, of: TestedSet, scoring: str) -> list[dict[str, Any]]:
    """Return published scores of a column, marked where split or rule are others."""
    return [
        {
            "model": each.label,
            "value": each.value,
            "split": each.split,
            "source": each.source,
            "mark": "†" if each.split != of.split else "‡" if each.scoring != scoring else "",
        }
        for each in published
        if each.column == name.partition("/")[0]
    ]


def _pair(
    first: TestedModel,
    model: TestedModel,
    columns: Mapping[str, Column],
    its: Mapping[str, Column],
    names: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Return a model's differences to the first."""
    found = {name: pair(its[name], columns[name], seed=seed) for name in columns if name in its}
    if names:
        found["average"] = pair_average(its, columns, names, seed=seed)
    compared = {name: _compared(each) for name, each in found.items() if each}
    return {"label": model.label, "against": first.label, "columns": compared}


def _slices(
    models: Sequence[TestedModel], scoring: str, allow_partial: bool, difficult: Mapping[str, set[str]], seed: int
) -> list[dict[str, Any]]:
    """Return the slices of each set, with differences to the first model."""
    found = []
    for of in models[0].sets:
        if not (of.whole or allow_partial) or not of.has_references:
            continue
        for each in slices_of(of, difficult.get(of.name)):
            by_model = {
                model.label: columns_of(its, each.ids, scoring)
                for model in models
                for its in model.sets
                if its.name == of.name
            }
            for name, column in by_model[models[0].label].items():
                values = {label: columns[name] for label, columns in by_model.items() if name in columns}
                pairs = {
                    label: pair(its, column, seed=seed) for label, its in values.items() if label != models[0].label
                }
                found.append(
                    {
                        "title": column.title,
                        "set": of.name,
                        "column": name,
                        "kind": each.kind,
                        "name": each.name,
                        "n": column.n,
                        "models": {label: its.value for label, its in values.items()},
                        "pairs": {label: _compared(its) for label, its in pairs.items() if its},
                    }
                )
    return found


def _faults(models: Sequence[TestedModel], scoring: str, allow_partial: bool) -> list[str]:
    """Return what is missing from the numbers."""
    notes = []
    for model in models:
        for of in model.sets:
            named = f"{model.label}, {of.benchmark.title} {of.split}"
            if not of.has_references:
                notes.append(f"{named}: the answers are kept on a server; see the submission")
                continue
            if not of.whole and not allow_partial:
                notes.append(f"{named}: {len(of.scored)} rows are not the whole split, so it is not in the table")
            if of.failed:
                first = of.failed[0]
                notes.append(
                    f"{named}: {len(of.failed)} rows could not be asked and count as wrong, such as {first.row.id} "
                    f"({first.answer.failed})"
                )
            if undecided := of.undecided(scoring):
                share = undecided / len(of.scored)
                notes.append(
                    f"{named}: {undecided} of {len(of.scored)} answers ({share:.0%}) need a judge and count as wrong"
                )
            notes += [f"{named}: {note}" for note in of.benchmark.counted(of.scored)]
    return notes


def _unmatched(pairs: Sequence[Mapping[str, Any]], columns: Mapping[str, Any]) -> list[str]:
    """Return which differences leave out units that only one model has."""
    return [
        f"{each['label']} and {each['against']}, {columns[name]['title']}: the comparison in pairs leaves out "
        f"{found['unmatched']} rows that the benchmark's rule counts for one of them only"
        for each in pairs
        for name, found in each["columns"].items()
        if name in columns and found["unmatched"]
    ]
