"""Compare the models of a run folder in one page: scores in pairs, pictures, curves, and how it was made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcot.files import markdown

__all__ = ["markdown_table", "report"]


def report(run: Path, data: Path | None = None) -> None:
    """Compare all models that were tested in a run folder, and write what was found as one page.

    Writes report.html (self-contained), report.json, table.md and tokens.png into the folder and prints the table.

    Args:
        run: Folder of the run; every test.json below it is a row.
        data: Folder whose `test` shards hold the pages to show (default: where the tests read them).
    """
    import json

    from fcot.environment import environment
    from fcot.evaluation.records import print_table
    from fcot.report.claims import claims_of
    from fcot.report.page import write_page
    from fcot.report.rows import compared_rows
    from fcot.report.runs import find_scored
    from fcot.report.savings import savings

    scored = find_scored(run)
    rows, missing = compared_rows(scored)
    claims = claims_of(rows, scored)
    found = {
        "rows": rows,
        "claims": [sentence for said in claims.values() for sentence in said],
        "savings": savings(sorted({model.ratio for model in scored})),
        "environment": environment(),
        "missing": missing,
    }
    page = run / "report.html"
    write_page(page, run=run, data=data, scored=scored, claims=claims, found=found)  # adds to what is missing
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    (run / "report.json").write_text(text + "\n", encoding="utf-8")
    (run / "table.md").write_text(markdown_table(rows), encoding="utf-8")
    print_table(rows)
    for sentence in missing:
        print(f"Left out: {sentence}")
    print(page)


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of a report as a markdown table under a line that names split, n and seed."""
    from fcot.report.rows import provenance, share, tasks_of

    tasks = tasks_of(rows)
    relations = {"vs_teacher": "% of teacher [95 %]", "vs_control": "% of teacher + same SFT [95 %]"}
    relations = {key: title for key, title in relations.items() if any(key in row for row in rows)}
    titles = [
        "model folder",
        "ratio",
        "stage",
        "mean [95 %]",
        *relations.values(),
        *tasks,
        "visual tokens / page",
    ]
    rules = [":--" if title in ("model folder", "stage") else "--:" for title in titles]
    lines = []
    for row in rows:
        scores = row["scores"]
        mean = scores["mean"]
        lines.append(
            [
                str(row["model"]),
                str(row["ratio"]),
                str(row["stage"]),
                f"{mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]",
                *(share(row[key]) if key in row else "" for key in relations),
                *(f"{scores[task]['mean']:.3f}" if task in scores else "" for task in tasks),
                f"{row['visual_tokens']:.1f}",
            ]
        )
    return f"{provenance(rows)}\n\n{markdown.table(titles, lines, rules)}\n"
