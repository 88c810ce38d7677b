"""The contract of reducers that act before the language model reads anything."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fcot.reduce.budget import check_choice, check_share
from fcot.reduce.inside import POSITIONS
from fcot.reduce.reducer import Reducer
from fcot.reduce.tower import Look

SCOPES = ("per_tile", "per_image")


@dataclass(frozen=True)
class Seen:
    """An image as the vision tower saw it.

    Attributes:
        features: Of its tiles, as the projector takes them `[tiles, tokens, width]`.
        look: Queries and keys of the tower for these tiles.
        grid: Columns and rows of its tiles; the last tile is a thumbnail if there are more than one.
        key: What random choices are seeded with.
    """

    features: Tensor
    look: Look
    grid: tuple[int, int] = (1, 1)
    key: str = ""

    @cached_property
    def flat(self) -> Tensor:
        """Features of all tokens `[tiles · tokens, width]`."""
        return self.features.flatten(0, 1)

    def groups(self, scope: str) -> Iterator["Group"]:
        """Yield the tokens of each tile, or of the whole image."""
        tiles, tokens = self.features.shape[:2]
        size = tokens if scope == "per_tile" else tiles * tokens
        for start in range(0, tiles * tokens, size):
            yield Group(self, slice(start, start + size))


@dataclass(frozen=True)
class Group:
    """Tokens of an image that share a budget.

    Attributes:
        seen: The image.
        places: Which of its tokens.
    """

    seen: Seen
    places: slice

    def __len__(self) -> int:
        return int(self.places.stop - self.places.start)

    @property
    def features(self) -> Tensor:
        """`[tokens, width]`."""
        return self.seen.flat[self.places]

    def scores(self, kind: str) -> Tensor:
        """Return the attention that each token gets `[tokens]`: see `Look.scores`."""
        return self.seen.look.scores(kind).flatten()[self.places]

    def keys(self) -> Tensor:
        """Return the tower's keys, mean over heads `[tokens, head width]`."""
        return self.seen.look.token_keys().flatten(0, 1)[self.places]

    def one_head(self) -> tuple[Tensor, Tensor]:
        """Return attention `[tokens]` and keys `[tokens, width]` as if the tower had one head."""
        attention, keys = self.seen.look.one_head()
        return attention.flatten()[self.places], keys.flatten(0, 1)[self.places]


@dataclass(frozen=True)
class Kept:
    """What is left of an image's visual tokens.

    Attributes:
        rows: In the order in which the language model reads them, as the projector takes them `[kept, width]`.
        places: Which token each was, or stands for `[kept]`.
        counts: How many each tile has left `[tiles]`.
    """

    rows: Tensor
    places: Tensor
    counts: Tensor


class BeforeReducer(Reducer):
    """Drops or merges the visual tokens of one image on the features of the vision tower.

    Attributes:
        layers: Layers of the tower that it looks at besides the one that makes the features.

    Args:
        keep: Share of the visual tokens that is left, in (0, 1].
        scope: "per_tile" gives each tile the same budget, "per_image" ranks all tiles together.
        positions: "renumbered" counts positions anew, "original" keeps those of the tokens that are left.

    Raises:
        UserError: If a value is not allowed.
    """

    layers: tuple[int, ...] = ()

    def __init__(self, *, keep: float, scope: str, positions: str) -> None:
        self.keep = check_share("keep", keep)
        self.scope = check_choice("scope", scope, SCOPES)
        self.positions = check_choice("positions", positions, POSITIONS)

    @abstractmethod
    def reduce(self, seen: Seen) -> Kept:
        """Return what is left of an image."""

    def kept_by_group(self, seen: Seen, choose: Callable[[Group], Tensor]) -> Kept:
        """Return the tokens that are chosen from each group, unchanged and in order."""

        def chosen(group: Group) -> tuple[Tensor, Tensor]:
            places = choose(group).sort().values
            return places, group.features[places]

        return self.merged_by_group(seen, chosen)

    def merged_by_group(self, seen: Seen, merge: Callable[[Group], tuple[Tensor, Tensor]]) -> Kept:
        """Return the tokens that each group becomes; with original positions in the order of these.

        Args:
            seen: The image.
            merge: Gives the place in the group of each token that is left, and its features.
        """
        places, rows = [], []
        for group in seen.groups(self.scope):
            its_places, its_rows = merge(group)
            if self.positions == "original":
                order = its_places.argsort(stable=True)
                its_places, its_rows = its_places[order], its_rows[order]
            places.append(its_places + group.places.start)
            rows.append(its_rows)
        where = torch.cat(places)
        tiles, tokens = seen.features.shape[:2]
        return Kept(torch.cat(rows), where, torch.bincount(where // tokens, minlength=tiles))
