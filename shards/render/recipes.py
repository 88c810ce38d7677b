"""Mixtures of drawn pages: what each set of the tiny world is made of."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fcot.errors import UserError, nearest
from shards.render.sample import Sample
from shards.render.sources import Split
from shards.render.text import text_page

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


RECIPES = {"letters": letters}
