"""The page of a re-run: RESULTS.md with its pictures, and the same as one HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import fcot.report
from fcot.files.json_files import write_json
from fcot.files.markdown import table
from fcot.report.cells import Picture
from fcot.reproduce.paper.claims import Claim
from fcot.reproduce.paper.section import CLAIM_HEAD, Section, as_markdown, claim_rows

HERE = Path(__file__).parent
STYLE = Path(fcot.report.__file__).parent / "page.css"
INTRODUCTION = (
    "FCoT-VL (arXiv 2502.18512) run again. Beside each statement of the paper stand its figure, the figure found here, "
    "and whether the two agree: the statement holds if the 95 % interval lies on its side of zero, it fails if the "
    "interval lies on the other side, and otherwise nothing can be told. That two ways are equal is judged to within "
    "2 points, that nothing is lost to within 1. The paper's figures are those of InternVL2-2B on its benchmarks."
)


def write_page(output: Path, title: str, sections: Sequence[Section], made: Mapping[str, Any], about: str = "") -> None:
    """Write `RESULTS.md`, `results.html`, `results.json` and a PNG for each picture.

    Args:
        output: Folder of the re-run.
        title: Where it was run.
        sections: Tables and figures.
        made: How: commit, command, machine.
        about: What is not as in the paper.
    """
    every = [claim for section in sections for claim in section.claims]
    lines = [f"# The paper, run again: {title[0].lower()}{title[1:]}", "", INTRODUCTION, ""]
    lines += [*([about, ""] if about else []), *summary(every)]
    for section in sections:
        name = picture_name(section)
        if section.picture is not None:
            (output / name).write_bytes(section.picture)
        lines += as_markdown(section, name)
    lines += ["## How this was made", "", *(f"- {name}: {value}" for name, value in made.items()), ""]
    (output / "RESULTS.md").write_text("\n".join(lines), encoding="utf-8")
    found = {
        "made": dict(made),
        "claims": [vars(claim) for claim in every],
        "tables": {each.title: [list(each.head), *map(list, each.rows)] for each in sections},
    }
    write_json(output / "results.json", found)
    template = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("page.html")
    shown = {
        "title": title,
        "introduction": INTRODUCTION,
        "about": about,
        "claims": claim_rows(every),
        "claim_head": CLAIM_HEAD,
        "sections": [
            (each, each.picture and Picture(each.picture, each.alt), claim_rows(each.claims)) for each in sections
        ],
        "made": made,
        "style": STYLE.read_text(encoding="utf-8"),
    }
    (output / "results.html").write_text(template.render(shown).lstrip() + "\n", encoding="utf-8")


def picture_name(section: Section) -> str:
    """Return the name of a section's picture: "Figure 3: …" is figure3.png."""
    return section.title.partition(":")[0].lower().replace(" ", "") + ".png"


def summary(claims: Sequence[Claim]) -> list[str]:
    """Return all claims in one table."""
    rows = [[claim.place, *cells] for claim, cells in zip(claims, claim_rows(claims), strict=True)]
    return [table(["", *CLAIM_HEAD], rows, [":--", ":--", "--:", "--:", ":--"]), ""] if rows else []
