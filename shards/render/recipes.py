"""Mixtures of drawn pages: what each set of the tiny world is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from shards.render.chart import chart_page
from shards.render.printed import PrintedPage, printed_page
from shards.render.questions import KINDS, dialogue, form, long_form, question
from shards.render.sample import Sample
from shards.render.sources import Split
from shards.render.table import table_page
from shards.render.text import text_page
from shards.render.typed import drill, typed

Recipe = Callable[[Split, float, np.random.Generator], Sample]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def letters(split: Split, progress: float, rng: np.random.Generator) -> Sample:
    """One tile of prose that grows: first letters, then words, then four lines in many fonts.

    A model that starts from nothing learns to read from few characters first.
    """
    if progress < 0.12:
        return text_page(split, 8, 4, rng, filled_columns=4, filled_rows=1, plain=True)
    if progress < 0.25:
        return text_page(split, 8, 4, rng, filled_columns=6, filled_rows=2, plain=True)
    return text_page(split, 8, 4, rng, plain=progress < 0.5)


@dataclass(frozen=True)
class Draw:
    """Draws the sample of an index, the same whoever draws it.

    Attributes:
        recipe: Name of a recipe.
        split: Which sources to draw from.
        seed: Seed of the set.
        samples: Size of the set; the recipe may change along it.
    """

    recipe: str
    split: Split
    seed: int
    samples: int

    def __call__(self, index: int) -> Sample:
        """Return sample `index`."""
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        return RECIPES[self.recipe](self.split, index / max(1, self.samples), rng)


def prose_page(
    split: Split, rng: np.random.Generator, draw: Callable[[Split, int, int, np.random.Generator], Sample] = text_page
) -> Sample:
    """One to six tiles of prose."""
    columns, rows = ((8, 4), (16, 4), (24, 4), (16, 8))[int(rng.choice(4, p=(0.3, 0.35, 0.15, 0.2)))]
    return draw(split, columns, rows, rng)


DRAWERS: Mapping[str, Callable[[Split, np.random.Generator], Sample]] = {
    "text": prose_page,
    "table": table_page,
    "chart": chart_page,
    **{kind: partial(question, kind) for kind in KINDS},
    "dialogue": dialogue,
    "form": form,
    "long_form": long_form,
    "print": partial(prose_page, draw=printed_page),
    "printed_table": partial(table_page, paper=PrintedPage),
    "printed_chart": partial(chart_page, paper=PrintedPage),
    "printed_dialogue": partial(dialogue, paper=PrintedPage),
    "typed": typed,
    "drill": drill,
}
READING = ("text", "table", "chart")  # the re-alignment tasks: say what is on the page
QUESTIONS = (*KINDS, "form")


def _mixture(weights: Mapping[str, float]) -> Recipe:
    names, shares = list(weights), np.array(list(weights.values()))
    cumulated = np.cumsum(shares / shares.sum())

    def draw(split: Split, progress: float, rng: np.random.Generator) -> Sample:
        return DRAWERS[names[int(np.searchsorted(cumulated, rng.random()))]](split, rng)

    return draw


RECIPES: Mapping[str, Recipe] = {
    "letters": letters,
    "reading": _mixture(dict.fromkeys(READING, 1.0)),
    "questions": _mixture({**dict.fromkeys(READING, 1.0), **dict.fromkeys(QUESTIONS, 1.0)}),
    "print": _mixture({"print": 1.0}),
    "pages": _mixture({"text": 3, "table": 2, "chart": 2, "lookup": 1, "compare": 1, "arithmetic": 1.5, "form": 0.7}),
    "teacher": _mixture(
        {
            **{"text": 1.2, "table": 1, "chart": 0.8},
            **{"dialogue": 6, "form": 0.3, "long_form": 0.2},
            **dict.fromkeys(KINDS, 0.5),
        }
    ),
    "typed": _mixture({"typed": 5, "drill": 1}),
    "study": _mixture(
        {
            **{"typed": 7, "drill": 1},
            **{"text": 1.2, "table": 0.7, "chart": 0.7, "form": 0.4, "long_form": 0.2},
            **{"print": 1.5, "printed_table": 0.4, "printed_chart": 0.4},
            **{"dialogue": 0.7, "printed_dialogue": 0.3, **dict.fromkeys(KINDS, 0.7)},
        }
    ),
}
