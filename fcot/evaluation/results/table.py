"""The result in Markdown; benchmarks are rows and models columns, so that it stays narrow."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcot.evaluation.results.published_table import published_rows
from fcot.files.markdown import table


def cell(entry: Mapping[str, Any], *, decimals: int = 1, n: int | None = None) -> str:
    """Return "85.9 [84.9, 86.8]", with what is not as the row's head says.

    Args:
        entry: A model's value of a column.
        decimals: How many digits stand behind the point.
        n: Number of units that the row's head names; another one is added (default: none is).
    """
    text = f"{entry['value']:.{decimals}f} [{entry['low']:.{decimals}f}, {entry['high']:.{decimals}f}]"
    other = entry.get("other")
    text += f" ({other['scoring']} {other['value']:.{decimals}f})" if other else ""
    return text + (f", n = {entry['n']}" if n not in (None, entry["n"]) else "")


def measured(column: Mapping[str, Any]) -> str:
    """Return "val, n = 5349", with a warning if that is not the whole split."""
    return f"{column['split']}, n = {column['n']}" + ("" if column["whole"] else ", partial")


def signed(entry: Mapping[str, Any]) -> str:
    """Return "−1.2 [−2.0, −0.4]"."""
    return f"{entry['value']:+z.1f} [{entry['low']:+z.1f}, {entry['high']:+z.1f}]".replace("-", "−")


def kept(entry: Mapping[str, Any]) -> str:
    """Return how much of the other's score is kept, as "96.4 % [93.0, 99.8]"; an end may be unbounded."""
    ratio = entry["ratio"]
    if ratio is None:
        return ""
    low, high = ("∞" if ratio[end] is None else f"{100 * ratio[end]:.1f}" for end in ("low", "high"))
    return f"{100 * ratio['value']:.1f} % [{low}, {high}]"


def markdown(found: Mapping[str, Any]) -> str:
    """Return the whole result as Markdown."""
    models = [model["label"] for model in found["models"]]
    lines = [f"# {', '.join(models)}", "", caption(found), ""]
    rows = []
    for column in found["columns"].values():
        cells = (cell(column["models"][each], n=column["n"]) if each in column["models"] else "" for each in models)
        rows.append([f"{column['title']}, {measured(column)}", *cells])
    if found["average"]:
        values = found["average"]["intervals"]
        rows.append(
            [f"average of {len(found['average']['columns'])} columns"]
            + [cell(values[label], decimals=2) for label in models]
        )
    rows.append(["visual tokens of a row, mean", *tokens(found)])
    lines += [table(["", *models], rows, [":--", *["--:"] * len(models)])]
    lines += published(found) + pairs(found) + parts(found) + slices(found)
    lines += _section("Notes", [f"- {note}" for note in found["notes"]])
    return "\n".join(lines) + "\n"


def tokens(found: Mapping[str, Any]) -> list[str]:
    """Return each model's mean visual tokens of a row, and what share of the first's they are."""
    first = found["models"][0]["visual_tokens"]
    return [
        f"{model['visual_tokens']:.1f}" + (f" ({model['visual_tokens'] / first:.0%})" if number and first else "")
        for number, model in enumerate(found["models"])
    ]


def published(found: Mapping[str, Any]) -> list[str]:
    """Return published scores of the same columns."""
    head, rows, notes = published_rows(found)
    if not rows:
        return []
    return _section("Published", [table(head, rows, [":--", *["--:"] * (len(head) - 1)]), "", "; ".join(notes)])


def caption(found: Mapping[str, Any]) -> str:
    """Return what the numbers are."""
    average = f" Average: {found['average']['definition']}." if found["average"] else ""
    return (
        f"Scores with 95 % bootstrap intervals (seed {found['seed']}), scored by {found['scoring']}, "
        f"asked as {found['protocol']} asks.{average}"
    )


def pairs(found: Mapping[str, Any]) -> list[str]:
    """Return the differences to the first model."""
    if not found["pairs"]:
        return []
    rows = [
        [
            found["columns"][name]["title"] if name in found["columns"] else name,
            *(
                text
                for its in found["pairs"]
                for text in (
                    (signed(its["columns"][name]), kept(its["columns"][name])) if name in its["columns"] else ("", "")
                )
            ),
        ]
        for name in [*found["columns"], *(["average"] if found["average"] else [])]
    ]
    first = found["models"][0]["label"]
    head = ["", *(text for its in found["pairs"] for text in (its["label"], f"% of {first}"))]
    return _section(f"Difference to {first}, in pairs", [table(head, rows, [":--", *["--:"] * (len(head) - 1)])])


def parts(found: Mapping[str, Any]) -> list[str]:
    """Return the finer divisions that papers print."""
    models = [model["label"] for model in found["models"]]
    rows = [
        [f"{column['title']}: {part}", *(f"{values[label]:.1f}" if label in values else "" for label in models)]
        for column in found["columns"].values()
        for part, values in column["parts"].items()
    ]
    return _section("Parts", [table(["", *models], rows, [":--", *["--:"] * len(models)])]) if rows else []


def slices(found: Mapping[str, Any]) -> list[str]:
    """Return the slices of each set."""
    models = [model["label"] for model in found["models"]]
    rows = [
        [
            f"{each['title']}: {each['kind']}, {each['name']}",
            str(each["n"]),
            *(f"{each['models'][label]:.1f}" if label in each["models"] else "" for label in models),
            *(signed(each["pairs"][label]) if label in each["pairs"] else "" for label in models[1:]),
        ]
        for each in found["slices"]
    ]
    head = ["", "n", *models, *(f"{label} − {models[0]}" for label in models[1:])]
    return _section("Slices", [table(head, rows, [":--", *["--:"] * (len(head) - 1)])]) if rows else []


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines] if lines else []
