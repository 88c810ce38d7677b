"""The audit as one page of HTML, and as Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fcot.files import markdown
from fcot.reproduce.audit.finding import Figures, Finding
from fcot.reproduce.audit.paper import Paper

HERE = Path(__file__).parent
TITLE = "What the paper's numbers say about themselves"
LEAD = (
    "FCoT-VL halves or quarters the visual tokens of InternVL2. Every figure here is recomputed from the cells of its "
    "tables, from the sizes of the benchmarks, from what InternVL2's makers published, and from counted FLOPs. "
    "Nothing was run on the paper's models, whose weights are not public. A figure that does not fit is a question to "
    "ask, not a verdict: an average of runs, another split or a slip of the pen can each explain one."
)


def as_page(paper: Paper, found: Sequence[Finding]) -> str:
    """Return the page, which needs no other file.

    Args:
        paper: The tables.
        found: The findings, in order.
    """
    template = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("page.html")
    settings = Figures(["setting", *stages(paper)], list(settings_lines(paper)))
    return template.render(title=TITLE, lead=LEAD, paper=paper, found=found, settings=settings).lstrip() + "\n"


def as_markdown(paper: Paper, found: Sequence[Finding]) -> str:
    """Return the same as Markdown."""
    parts = [f"# {TITLE}", LEAD, f"Tables: {paper.source}"]
    for each in found:
        parts += [f"## {each.title}", f"**{each.sentence}**", each.arithmetic, *map(as_table, each.tables)]
    parts += ["## Settings (Table 6)", as_table(Figures(["setting", *stages(paper)], list(settings_lines(paper))))]
    parts += ["## Not known", "\n".join(f"- {sentence}" for sentence in paper.unknown)]
    return "\n\n".join(parts) + "\n"


def as_table(figures: Figures) -> str:
    """Return figures as a Markdown table."""
    rules = [":--" if number < figures.words else "--:" for number in range(len(figures.head))]
    return markdown.table(figures.head, figures.rows, rules)


def stages(paper: Paper) -> list[str]:
    """Return the stages of training that Table 6 names."""
    return [*next(iter(paper.settings.values()), {})]


def settings_lines(paper: Paper) -> Iterable[list[str]]:
    """Give the rows of Table 6."""
    for name, by_stage in paper.settings.items():
        yield [name, *("blank" if value is None else str(value) for value in by_stage.values())]
