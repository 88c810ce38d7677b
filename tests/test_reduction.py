import pytest
import torch

from fcot.errors import UserError
from fcot.reduction import check_reduction, row_weights

SAMPLES = torch.tensor([0, 0, 0, 0, 2])  # four tokens, none, one


@pytest.mark.parametrize(
    ("reduction", "shares"), [("token", [4, 0, 1]), ("sample", [1, 0, 1]), ("square_root", [2, 0, 1])]
)
def test_a_sample_counts_with_a_power_of_its_tokens(reduction, shares):
    weights = row_weights(SAMPLES, 3, reduction)
    assert torch.zeros(3).index_add_(0, SAMPLES, weights).tolist() == shares


def test_an_unknown_reduction_is_refused():
    with pytest.raises(UserError, match=r"reduction is 'mean'\.\nUse one of token, square_root, sample"):
        check_reduction("mean")
