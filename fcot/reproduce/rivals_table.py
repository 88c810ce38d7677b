"""The table of rivals: scores in pairs against the teacher and against the trained student of the same share."""

import json
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

from fcot.evaluation.records import as_text
from fcot.files.markdown import table
from fcot.merge.picture import BLUE, GREY, INK, ORANGE
from fcot.report.plots import GREEN, dress, new_figure, png
from fcot.report.rows import difference_to, final, plain, provenance, ratio_to, share, signed, with_role
from fcot.report.runs import TestedModel, find_scored

BUDGETS = {"keep": "kept", "equivalent": "equivalent"}
TIMED = "reading a page of 832 visual tokens with a model of 100 million parameters; time over that of the plain model"


def write_table(output: Path, missing: list[str]) -> None:
    """Write `table.md`, `rivals.png` and `table.json` into a folder of runs, and print the table.

    Args:
        output: The folder.
        missing: What could not be tested.
    """
    scored = find_scored(output / "eval")
    rows = rows_of(scored, benched(output))
    lines = [*table_lines(rows), "", *winners(rows)]
    if missing:
        lines += ["", "Out of reach in so small a language model:", *(f"- {each}" for each in missing)]
    timed = f"\\* {TIMED}" if any(row["prefill_tflop"] for row in rows) else ""
    text = "\n".join([provenance([model.row for model in scored]), "", *lines, "", timed, ""])
    (output / "table.md").write_text(text, encoding="utf-8")
    (output / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (output / "rivals.png").write_bytes(draw(rows))
    print(text)
    print(output / "rivals.png")


def benched(output: Path) -> dict[tuple[str, float], dict[str, Any]]:
    """Return what `bench infer --reduce` found, by reducer and share; students are called ""."""
    found = {}
    for file in sorted(output.glob("bench-*.json")):
        rate, content = float(file.stem.removeprefix("bench-")), json.loads(file.read_text(encoding="utf-8"))
        for row in content["reducers"]:
            found[row["reduce"], rate] = row
        whole, student = sorted(content["measured"], key=lambda row: int(row["ratio"]))
        flops, seconds = (
            [content["flops"][str(row["ratio"])]["parts"]["prefill"] for row in (whole, student)],
            [row["parts"]["prefill"]["median"] for row in (whole, student)],
        )
        found["", rate] = {
            "prefill_flops_share": flops[1] / flops[0],
            "prefill_share": {"median": seconds[1] / seconds[0]},
        }
        found["", 1.0] = {"prefill_tflop": flops[0], "prefill_flops_share": 1.0, "prefill_share": {"median": 1.0}}
    return found


def rows_of(scored: list[TestedModel], times: dict[tuple[str, float], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each tested model: its tokens, its score, and comparisons in pairs."""
    teacher, rows = with_role(scored, "teacher"), []
    assert teacher is not None
    for model in scored:
        reduce = model.row.get("reduce")
        budget = next((each for each in BUDGETS if reduce and each in reduce), None)
        asked = reduce[budget] if reduce and budget else 1 / model.ratio
        student = final(scored, round(1 / asked)) if asked < 1 else None
        tokens = model.row["visual_tokens"]
        time = times.get((reduce["name"] if reduce else "", asked)) if budget != "equivalent" else None
        rows.append(
            {
                "label": model.label if reduce is None else model.row["stage"],
                "ratio": model.ratio,
                "reduce": reduce,
                "budget": budget,
                "share": asked,
                "kept": model.row.get("kept", tokens),
                "equivalent": model.row.get("equivalent", tokens),
                "score": model.row["scores"]["mean"],
                "vs_teacher": None if model is teacher else plain(ratio_to(model, teacher)),
                "vs_student": None if student in (None, model) else plain(difference_to(model, student)),
                "prefill_tflop": time and time["prefill_flops_share"] * times["", 1.0]["prefill_tflop"],
                "prefill_share": time and time["prefill_share"]["median"],
            }
        )
    return rows


def table_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table for the models without a reducer and one for each share."""
    head = ["model", "budget", "kept", "equivalent", "score [95 %]", "% of teacher", "difference to our student",
            "prefill TFLOP*", "prefill time*"]  # fmt: skip
    rules = [":--", ":--", *["--:"] * 7]
    lines = []
    for asked in sorted({row["share"] for row in rows}, reverse=True):
        mine = sorted((row for row in rows if row["share"] == asked), key=lambda row: -row["score"]["mean"])
        cells = [
            [
                row["label"] if row["reduce"] or row["ratio"] == 1 else f"**{row['label']}** (ours)",
                row["budget"] or "",
                f"{row['kept']:.1f}",
                f"{row['equivalent']:.1f}",
                as_text(row["score"]),
                share(row["vs_teacher"]) if row["vs_teacher"] else "",
                signed(row["vs_student"]) if row["vs_student"] else "",
                f"{row['prefill_tflop']:.3f}" if row["prefill_tflop"] else "",
                f"{row['prefill_share']:.2f}" if row["prefill_share"] else "",
            ]
            for row in mine
        ]
        lines += ["", f"### {asked:.0%} of the visual tokens", "", table(head, cells, rules)]
    return lines


def winners(rows: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each share and budget: which rival came nearest to our student, or passed it."""
    said = []
    for asked in sorted({row["share"] for row in rows if row["reduce"]}, reverse=True):
        for budget, name in BUDGETS.items():
            mine = [
                row
                for row in rows
                if row["share"] == asked
                and row["reduce"]
                and row["vs_student"]
                # what acts before the language model has as many tokens in every layer
                and (row["budget"] == budget or row["kept"] == row["equivalent"])
            ]
            if not mine:
                continue
            best = max(mine, key=lambda row: row["score"]["mean"])
            difference = best["vs_student"]
            if difference["low"] > 0:
                verdict = "wins over our student"
            elif difference["high"] < 0:
                verdict = "is the best rival, and loses to our student"
            else:
                verdict = "is the best rival; between it and our student nothing is decided"
            said.append(
                f"- At equal {name} tokens, {asked:.0%}: {best['label']} {verdict}, "
                f"{signed(difference)} by pages in pairs."
            )
    return said


def best_of_each(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each model by its label; of a method's variants only the one with the best mean score."""
    by_label: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_label.setdefault(row["label"], []).append(row)
    means = {label: fmean(row["score"]["mean"] for row in mine) for label, mine in by_label.items()}
    best: dict[str, str] = {}
    for label, (first, *_) in by_label.items():
        name = first["reduce"]["name"] if first["reduce"] else label
        best[name] = max(best.get(name, label), label, key=means.__getitem__)
    return {label: by_label[label] for label in sorted(best.values(), key=means.__getitem__, reverse=True)}


def draw(rows: list[dict[str, Any]]) -> bytes:
    """Draw score over equivalent visual tokens, one line a method: that of its best variant."""
    from matplotlib import colormaps

    figure = new_figure(9.6, 6.4)
    axes: Any = figure.subplots()
    colors = (colormaps["tab20"](number % 20) for number in count())
    ours_in = iter((INK, BLUE, ORANGE, GREEN, GREY))
    for label, mine in best_of_each(rows).items():
        line = sorted(mine, key=lambda row: row["equivalent"])
        ours = line[0]["reduce"] is None
        color = next(ours_in) if ours else next(colors)
        axes.plot(
            [row["equivalent"] for row in line],
            [row["score"]["mean"] for row in line],
            marker="s" if ours else "o",
            linewidth=2.4 if ours else 1.0,
            linestyle="-" if ours else "--",
            color=color,
            label=label + (" (ours)" if ours and line[0]["ratio"] > 1 else ""),
        )
    axes.set_xlabel("visual tokens of a page, mean over the language model's layers")
    axes.set_ylabel("mean score over tasks")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    dress(axes)
    return png(figure)
