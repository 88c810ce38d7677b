"""Tables of results: for a terminal, for Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcot.files.markdown import table


def cell(entry: Mapping[str, Any], decimals: int = 1) -> str:
    """Return "85.9 [84.9, 86.8]", with the other scoring's value where it differs."""
    text = f"{entry['value']:.{decimals}f} [{entry['low']:.{decimals}f}, {entry['high']:.{decimals}f}]"
    other = entry.get("other")
    return text + (f" ({other['scoring']} {other['value']:.{decimals}f})" if other else "")


def signed(entry: Mapping[str, Any]) -> str:
    """Return "−1.2 [−2.0, −0.4]"."""
    return f"{entry['value']:+.1f} [{entry['low']:+.1f}, {entry['high']:+.1f}]".replace("-", "−")


def markdown(found: Mapping[str, Any]) -> str:
    """Return the whole result as Markdown; benchmarks are rows, models columns, so that it stays narrow."""
    models = [model["label"] for model in found["models"]]
    lines = [f"# {', '.join(models)}", "", caption(found), ""]
    rows = []
    for column in found["columns"].values():
        rows.append(
            [
                f"{column['title']}, {column['split']}, n = {column['n']}",
                *(cell(column["models"][label]) if label in column["models"] else "" for label in models),
                "; ".join(f"{each['model']} {each['value']:g}{each['mark']}" for each in column["published"]),
            ]
        )
    if found["average"]:
        rows.append(
            [
                f"average of {len(found['average']['columns'])} columns",
                *(f"{found['average']['models'][label]:.2f}" for label in models),
                "",
            ]
        )
    rows.append(["visual tokens of a row, mean", *(f"{model['visual_tokens']:.1f}" for model in found["models"]), ""])
    lines += [table(["", *models, "published"], rows, [":--", *["--:"] * len(models), ":--"])]
    marks = sorted(
        {each["mark"] for column in found["columns"].values() for each in column["published"] if each["mark"]}
    )
    lines += ["", *(f"{mark} {MARKS[mark]}" for mark in marks)] if marks else []
    lines += (
        pairs(found) + parts(found) + slices(found) + [*_section("Notes", [f"- {note}" for note in found["notes"]])]
    )
    return "\n".join(lines) + "\n"


MARKS = {"†": "another split", "‡": "another rule, a judge, or not known which"}


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
    names = [*found["columns"], "average"]
    rows = [
        [
            found["columns"][name]["title"] if name in found["columns"] else "average",
            *(signed(pair["columns"][name]) if name in pair["columns"] else "" for pair in found["pairs"]),
        ]
        for name in names
    ]
    first = found["models"][0]["label"]
    head = ["", *(pair["label"] for pair in found["pairs"])]
    return _section(f"Difference to {first}, row by row", [table(head, rows, [":--", *["--:"] * len(found["pairs"])])])


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


def print_result(found: Mapping[str, Any]) -> None:
    """Print the table, differences to the first model and notes."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    screen = Console()
    drawn = Table(title=escape(caption(found)), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    drawn.add_column("", overflow="fold")
    models = [model["label"] for model in found["models"]]
    for label in models:
        drawn.add_column(escape(label), justify="right", overflow="fold")
    drawn.add_column("published", overflow="fold")
    differences = {pair["label"]: pair["columns"] for pair in found["pairs"]}
    for name, column in found["columns"].items():
        cells = []
        for label in models:
            if label not in column["models"]:
                cells.append("")
                continue
            text = cell(column["models"][label]).replace(" [", "\n[", 1)
            against = differences.get(label, {}).get(name)
            cells.append(escape(text) + (f"\n[dim]{escape(signed(against))}[/dim]" if against else ""))
        said = "\n".join(f"{each['model']} {each['value']:g}{each['mark']}" for each in column["published"])
        drawn.add_row(escape(f"{column['title']}\n{column['split']}, n = {column['n']}"), *cells, escape(said))
    if found["average"]:
        values = found["average"]["models"]
        drawn.add_row(
            f"average of {len(found['average']['columns'])}", *(f"{values[label]:.2f}" for label in models), ""
        )
    drawn.add_row("visual tokens", *(f"{model['visual_tokens']:.1f}" for model in found["models"]), "")
    screen.print(drawn)
    for note in found["notes"]:
        screen.print(f"Note: {note}", markup=False, soft_wrap=True)
