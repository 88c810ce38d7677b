"""TIES and DARE against their definitions, computed on whole tensors in plain torch."""

import math

import pytest
import torch

from fcot.errors import UserError
from fcot.merge import MERGE_METHODS
from fcot.merge.blockwise import BLOCK
from fcot.merge.methods.ties import elected_mean

SHAPES = {"embed": (61, 37), "norm": (13,), "scale": ()}


def models(count=4, dtype=torch.float32, shapes=SHAPES, base_scale=1.0):
    draw = torch.Generator().manual_seed(0)
    made = [{name: torch.randn(shape, generator=draw) for name, shape in shapes.items()} for _ in range(count + 1)]
    base = {name: (base_scale * tensor).to(dtype) for name, tensor in made[0].items()}
    others = [{name: (base[name].float() + tensor).to(dtype) for name, tensor in each.items()} for each in made[1:]]
    return base, others


def oracle_ties(base, checkpoints, density):
    """Yadav et al., algorithm 1, with lambda 1: trim, elect, disjoint mean; in fp64, one parameter after the other."""
    deltas = [(checkpoint.double() - base.double()).flatten() for checkpoint in checkpoints]
    kept = max(1, round(density * base.numel()))
    trimmed = []
    for delta in deltas:
        smallest = delta.abs().sort(descending=True).values[kept - 1]
        trimmed.append(torch.where(delta.abs() >= smallest, delta, 0.0))
    merged = []
    for parameter in zip(*(delta.tolist() for delta in trimmed), strict=True):
        elected = math.copysign(1, sum(parameter)) if sum(parameter) else 0
        agreeing = [value for value in parameter if value * elected > 0]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return (base.double().flatten() + torch.tensor(merged).double()).view(base.shape)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.7, 1.0])
def test_ties_is_its_definition(density):
    base, checkpoints = models()
    merged = MERGE_METHODS["ties"](base, checkpoints, density=density)
    assert [*merged] == [*base]
    for name, tensor in base.items():
        expected = oracle_ties(tensor, [each[name] for each in checkpoints], density)
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=2e-6)


def test_ties_of_bf16_keeps_all_of_the_many_equal_magnitudes_at_the_border():
    base, checkpoints = models(dtype=torch.bfloat16, base_scale=8.0)
    delta = (checkpoints[0]["embed"].float() - base["embed"].float()).abs().flatten()
    assert len(delta.unique()) < len(delta) / 3
    merged = MERGE_METHODS["ties"](base, checkpoints, density=0.3)["embed"]
    expected = oracle_ties(base["embed"], [each["embed"] for each in checkpoints], 0.3)
    torch.testing.assert_close(merged, expected.to(torch.bfloat16), rtol=0.01, atol=0)


def test_a_tensor_of_several_blocks_is_trimmed_as_a_whole():
    size = BLOCK + 5
    delta = torch.arange(size, dtype=torch.float32) + 1  # the largest end the first block and fill the second
    merged = MERGE_METHODS["ties"]({"x": torch.zeros(size)}, [{"x": delta}], density=8 / size)["x"]
    assert torch.equal(merged.nonzero().flatten(), torch.arange(size - 8, size))
    assert torch.equal(merged[-8:], delta[-8:])


def test_opposite_deltas_that_cancel_leave_the_base():
    assert torch.equal(elected_mean([torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 1.0])]), torch.tensor([0.0, 1.5]))


@pytest.mark.parametrize("broken", [float("nan"), float("-inf")])
@pytest.mark.parametrize(
    ("name", "options"),
    [("ties", {"density": 0.3}), ("ties", {"density": 1.0}), ("dare", {}), ("dare", {"election": "ties"})],
)
def test_a_checkpoint_with_nan_is_named_and_not_outvoted(name, options, broken):
    base, checkpoints = models()
    checkpoints[1]["norm"][2] = broken
    with pytest.raises(UserError, match="'norm' of snapshot 2 holds NaN or infinity"):
        MERGE_METHODS[name](base, checkpoints, **options)["norm"]


def thinned(base, checkpoint, place, count, density):
    """What DARE keeps of one checkpoint: the others are the base, so that the mean is its share."""
    checkpoints = [checkpoint if other == place else base for other in range(count)]
    return count * (MERGE_METHODS["dare"](base, checkpoints, density=density)["x"] - base["x"])


def test_dare_drops_at_random_rescales_the_rest_and_averages():
    base, checkpoints = models(3, shapes={"x": (200, 300)}, base_scale=0.0)
    parts = [thinned(base, checkpoint, place, 3, 0.3) for place, checkpoint in enumerate(checkpoints)]
    for part, checkpoint in zip(parts, checkpoints, strict=True):
        kept = part != 0
        torch.testing.assert_close(part[kept], checkpoint["x"][kept] / 0.3, rtol=1e-5, atol=1e-6)
        assert float(kept.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 60_000))
    together = ((parts[0] != 0) & (parts[1] != 0)).float().mean()
    assert float(together) == pytest.approx(0.09, abs=0.006)  # each checkpoint loses others than the next
    linear = MERGE_METHODS["dare"](base, checkpoints, density=0.3)
    torch.testing.assert_close(linear["x"], sum(parts) / 3, rtol=1e-5, atol=1e-6)
    elected = MERGE_METHODS["dare"](base, checkpoints, density=0.3, election="ties")
    expected = oracle_ties(base["x"], parts, 1.0).float()
    torch.testing.assert_close(elected["x"], expected, rtol=1e-4, atol=1e-5)


def test_dare_is_the_same_at_each_look_up_and_another_for_another_seed_or_tensor():
    base, checkpoints = models(shapes={"x": (50, 50), "y": (50, 50)}, base_scale=0.0)
    checkpoints = [{"x": each["x"], "y": each["x"]} for each in checkpoints]
    base["y"] = base["x"]
    merged = MERGE_METHODS["dare"](base, checkpoints, seed=1)
    second = merged["y"]
    first = merged["x"]
    assert torch.equal(merged["x"], first)
    assert not torch.equal(second, first)
    assert not torch.equal(MERGE_METHODS["dare"](base, checkpoints, seed=2)["x"], first)


def test_with_density_1_dare_is_the_average():
    base, checkpoints = models()
    merged = MERGE_METHODS["dare"](base, checkpoints, density=1.0)
    torch.testing.assert_close(merged["embed"], torch.stack([each["embed"] for each in checkpoints]).mean(0))


@pytest.mark.parametrize("name", ["ties", "dare"])
@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan")])
def test_a_density_that_is_no_share_is_refused(name, density):
    with pytest.raises(UserError, match="above 0 and at most 1"):
        MERGE_METHODS[name]({}, [{}], density=density)


def test_an_election_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="Did you mean 'ties'"):
        MERGE_METHODS["dare"]({}, [{}], election="tie")
