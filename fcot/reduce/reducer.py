"""What training-free reducers have in common, and where they are found by name."""

from abc import ABC

from fcot.registry import Registry


class Reducer(ABC):  # noqa: B024  # each kind has abstract methods of its own
    """Drops or merges visual tokens of a model that was not trained for it.

    There are two kinds: `fcot.reduce.before.BeforeReducer` acts on the features of the vision tower, before the
    language model reads anything; `fcot.reduce.inside.InsideReducer` acts between two layers of the language model.
    The parameters of a subclass's constructor are its options.
    """


REDUCERS: Registry[type[Reducer]] = Registry("reducer", base=Reducer)
