import pytest
import torch

from fcot.errors import UserError
from fcot.training.loss_weighting import StepMean, check_reduction, row_weights

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


def test_a_step_of_several_batches_is_the_mean_over_all_their_rows():
    batches = [torch.tensor([1.0, 5.0, 3.0]), torch.tensor([]), torch.tensor([10.0]), torch.tensor([2.0, 2.0])]
    weight, mean = torch.ones(1, requires_grad=True), StepMean()
    for _ in range(2):  # the second step knows nothing of the first
        weight.grad = None
        for rows in batches:
            own = (rows * weight).sum() / max(1, len(rows))
            loss = mean.weigh(own, torch.tensor(float(len(rows))))
            assert float(loss) == pytest.approx(float(own))
            (loss / len(batches)).backward()
        mean.finish([weight.grad], len(batches))
        assert float(weight.grad) == pytest.approx(23 / 6)


def test_a_step_cut_short_by_the_end_of_an_epoch_is_a_mean_too():
    weight, mean = torch.ones(1, requires_grad=True), StepMean()
    (mean.weigh((torch.tensor([3.0, 5.0]) * weight).mean(), torch.tensor(2.0)) / 4).backward()
    mean.finish([weight.grad], 4)
    assert float(weight.grad) == pytest.approx(4)
