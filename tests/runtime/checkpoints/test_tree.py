"""State comes back as it was, and what cannot is named."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch

from fcot.errors import UserError
from fcot.runtime.checkpoints.tree import put_together, take_apart

STATE = {
    "weights": OrderedDict({"a.b": torch.arange(3.0), "a/b": torch.ones(2)}),
    "a": {"b": torch.zeros(1)},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}, "0": {"step": torch.tensor(4.0)}}, "betas": (0.9, 0.999)},
    "plain": [None, True, 1, float("inf"), 0.1, "text", [], (), {}],
    "marked": {"$tensor": 5, "$tuple": [1]},
}


def test_everything_comes_back_in_its_type():
    plain, tensors = take_apart(STATE)
    back = put_together(json.loads(json.dumps(plain)), tensors)
    assert back["plain"] == STATE["plain"] and back["marked"] == STATE["marked"]
    assert type(back["plain"][1]) is bool and type(back["plain"][7]) is tuple
    assert back["optimizer"]["betas"] == (0.9, 0.999)
    assert {type(key) for key in back["optimizer"]["state"]} == {int, str}
    assert back["optimizer"]["state"][0]["step"] == 3 and back["optimizer"]["state"]["0"]["step"] == 4
    assert back["weights"]["a/b"].equal(torch.ones(2)) and back["a"]["b"].equal(torch.zeros(1))


def test_tensors_that_would_have_the_same_name_stay_apart():
    state = {"a": {"b/c": torch.zeros(1), "b": {"c": torch.ones(1)}}}
    plain, tensors = take_apart(state)
    assert put_together(plain, tensors)["a"]["b"]["c"] == 1 and len(tensors) == 2


def test_numbers_of_numpy_become_plain_ones():
    assert take_apart({"a": np.float64(0.5)})[0] == {"a": 0.5}


@pytest.mark.parametrize("value", [{1, 2}, object(), np.zeros(2), b"bytes"])
def test_what_is_not_saved_is_named(value):
    with pytest.raises(UserError, match=r"'callbacks/Mine/1' of a checkpoint is of type"):
        take_apart({"callbacks": {"Mine": [0, value]}})
