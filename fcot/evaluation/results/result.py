"""Put the result of all models together, as plain values that are written, printed and drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcot.evaluation.benchmarks.benchmark import SCORINGS, Column
from fcot.evaluation.benchmarks.published import Published
from fcot.evaluation.results.average import DEFINITION, average, averaged, pair, pair_average
from fcot.evaluation.results.slices import column_of, slices_of
from fcot.evaluation.results.tested import TestedModel, TestedSet
from fcot.statistics import Interval

UNCOMPRESSED = 1.0


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
                "visual_tokens": model.visual_tokens,
            }
            for model in models
        ],
        "scoring": scoring,
        "protocol": protocol,
        "seed": seed,
        "columns": columns,
        "average": {
            "definition": DEFINITION,
            "columns": names,
            "models": {model.label: average(each, names) for model, each in zip(models, plain, strict=True)},
        }
        if names
        else None,
        "pairs": [
            _pair(models[0], model, plain[0], each, names, seed)
            for model, each in zip(models[1:], plain[1:], strict=True)
        ],
        "slices": _slices(models, scoring, allow_partial, difficult or {}, seed),
        "notes": [*notes, *_faults(models, scoring, allow_partial)],
    }


def _values(interval: Interval) -> dict[str, Any]:
    return {"value": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


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
            "model": each.model + ("" if each.share == UNCOMPRESSED else f" {each.share:.0%}"),
            "value": each.value,
            "split": each.split,
            "source": each.source,
            "mark": "†" if each.split != of.split else "‡" if each.scoring != scoring else "",
        }
        for each in published
        if each.column == name
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
    common = [name for name in columns if name in its]
    found = {name: _values(pair(its[name], columns[name], seed=seed)) for name in common}
    if names:
        found["average"] = _values(pair_average(its, columns, names, seed=seed))
    return {"label": model.label, "against": first.label, "columns": found}


def _slices(
    models: Sequence[TestedModel], scoring: str, allow_partial: bool, difficult: Mapping[str, set[str]], seed: int
) -> list[dict[str, Any]]:
    """Return the slices of each set, with differences to the first model."""
    found = []
    for of in models[0].sets:
        if not (of.whole or allow_partial) or not of.has_references:
            continue
        key = of.name
        for each in slices_of(of, difficult.get(key)):
            values = {}
            for model in models:
                its = next(
                    (one for one in model.sets if (one.benchmark.name(), one.split) == (of.benchmark.name(), of.split)),
                    None,
                )
                column = column_of(its, each.ids, scoring) if its else None
                if column is not None:
                    values[model.label] = column
            first = values.get(models[0].label)
            found.append(
                {
                    "title": of.benchmark.title,
                    "set": key,
                    "kind": each.kind,
                    "name": each.name,
                    "n": len(each.ids),
                    "models": {label: column.value for label, column in values.items()},
                    "pairs": {
                        label: _values(pair(column, first, seed=seed))
                        for label, column in values.items()
                        if first is not None and label != models[0].label
                    },
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
    return notes
