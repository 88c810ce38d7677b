import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fcot.merge import Combination, coalition_weights, open_weights, write_weights


def tensors(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        "embed.weight": torch.randn(33, 7, generator=generator).to(dtype),
        "scale": torch.randn((), generator=generator).to(dtype),
        "position_ids": torch.arange(5) + seed,
        "mask": torch.tensor([True, seed % 2 == 0]),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_floating_tensors_are_the_formula_in_fp32_in_the_dtype_of_the_base(dtype):
    base, checkpoints = tensors(0, dtype), [tensors(seed, dtype) for seed in (1, 2, 3)]
    merged = dict(Combination(base, checkpoints, [0.7, 0.0, -0.2]))
    for name in ("embed.weight", "scale"):
        expected = base[name].float()
        for weight, checkpoint in zip([0.7, 0.0, -0.2], checkpoints, strict=True):
            expected = expected + weight * (checkpoint[name].float() - base[name].float())
        assert merged[name].dtype == dtype
        assert torch.equal(merged[name], expected.to(dtype))


def test_small_bf16_differences_do_not_vanish_in_the_sum():
    base = {"x": torch.full((4,), 256.0, dtype=torch.bfloat16)}
    near = [{"x": torch.full((4,), 258.0, dtype=torch.bfloat16)} for _ in range(4)]
    # a quarter of the difference, 0.5, is below bf16's step of 2 at 256: summed in bf16 it would be lost
    assert torch.equal(dict(Combination(base, near, [0.25] * 4))["x"], near[0]["x"])


def test_one_checkpoint_of_weight_1_is_kept_to_the_last_bit():
    base, checkpoint = {"x": torch.full((1000,), 1e4)}, {"x": torch.randn(1000)}
    assert not torch.equal(base["x"] + (checkpoint["x"] - base["x"]), checkpoint["x"])
    merged = Combination(base, [base, checkpoint], [0.0, 1.0])["x"]
    assert torch.equal(merged, checkpoint["x"])
    merged.zero_()
    assert checkpoint["x"].any()


def test_fp64_tensors_keep_their_precision():
    base, checkpoint = (
        {"x": torch.tensor([1.0], dtype=torch.float64)},
        {"x": torch.tensor([1.0 + 1e-12]).double()},
    )
    checkpoint["x"] = torch.tensor([1.0 + 1e-12], dtype=torch.float64)
    assert dict(Combination(base, [checkpoint], [1.0]))["x"].item() == pytest.approx(1.0 + 1e-12, abs=1e-15)


def test_a_tensor_of_several_pieces_is_merged_to_its_end():
    size = 2**19 + 3
    base, checkpoint = {"x": torch.zeros(size)}, {"x": torch.arange(size, dtype=torch.float32)}
    assert torch.equal(dict(Combination(base, [checkpoint], [0.5]))["x"], checkpoint["x"] / 2)


def test_integer_and_boolean_tensors_are_copies_of_the_bases():
    base, checkpoint = tensors(0), tensors(1)
    merged = dict(Combination(base, [checkpoint], [1.0]))
    assert torch.equal(merged["position_ids"], base["position_ids"])
    assert torch.equal(merged["mask"], base["mask"])
    merged["position_ids"].zero_()
    assert torch.equal(base["position_ids"], torch.arange(5))


def test_inputs_are_left_as_they_were():
    base, checkpoint = tensors(0), tensors(1)
    dict(Combination(base, [checkpoint], [0.5]))
    assert torch.equal(base["embed.weight"], tensors(0)["embed.weight"])
    assert torch.equal(checkpoint["embed.weight"], tensors(1)["embed.weight"])


def test_transposed_tensors_are_merged_by_position():
    base, checkpoint = {"x": torch.arange(6.0).view(2, 3).T}, {"x": torch.ones(3, 2)}
    assert torch.equal(dict(Combination(base, [checkpoint], [0.5]))["x"], (base["x"] + 1) / 2)


def test_a_checkpoint_without_weight_is_not_read():
    class Unreadable(dict):
        def __getitem__(self, name):
            raise AssertionError("read")

    base = {"x": torch.zeros(2)}
    assert torch.equal(Combination(base, [Unreadable(base), {"x": torch.ones(2)}], [0.0, 1.0])["x"], torch.ones(2))


def test_a_combination_computes_a_tensor_only_when_asked():
    base = {"good": torch.zeros(2), "bad": torch.tensor([float("nan")])}
    mixture = Combination(base, [base], [1.0])
    assert list(mixture) == ["good", "bad"] and len(mixture) == 2 and "bad" in mixture
    assert torch.equal(mixture["good"], torch.zeros(2))


def test_members_of_a_coalition_share_the_weight_equally_and_the_empty_one_is_the_base():
    players = ["a", "b", "c", "d"]
    assert coalition_weights(["d", "b"], players) == [0.0, 0.5, 0.0, 0.5]
    base = tensors(0)
    merged = dict(Combination(base, [tensors(seed) for seed in (1, 2, 3, 4)], coalition_weights([], players)))
    assert all(torch.equal(merged[name], base[name]) for name in base)
    with pytest.raises(ValueError, match="'e' is not one of the snapshots"):
        coalition_weights(["e"], players)


def test_nan_and_infinity_are_traced_to_the_checkpoint_that_has_them():
    base, good, bad = tensors(0), tensors(1), tensors(2)
    bad["embed.weight"][3, 3] = float("inf")
    for weights in ([0.0, 0.5, 0.5], [0.0, 0.0, 1.0]):
        with pytest.raises(ValueError, match=r"'embed.weight' of snapshot 3 holds NaN or infinity"):
            dict(Combination(base, [bad, good, bad], weights))


def test_an_overflow_of_half_precision_is_not_called_broken_input():
    base = {"x": torch.tensor([60000.0], dtype=torch.float16)}
    checkpoint = {"x": torch.tensor([-60000.0], dtype=torch.float16)}
    with pytest.raises(ValueError, match="'x' overflows float16 when merged"):
        dict(Combination(base, [checkpoint], [-1.0]))


@pytest.mark.parametrize(("weights", "says"), [([1.0], "1 weights for 2"), ([1.0, float("nan")], "not all finite")])
def test_unusable_weights_are_refused(weights, says):
    with pytest.raises(ValueError, match=says):
        Combination(tensors(0), [tensors(1), tensors(2)], weights)


MEASURE = """
import sys
from pathlib import Path
import torch
from fcot.files.stream_weights import stream_weights
from fcot.merge import MERGE_METHODS, Combination, open_weights

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

def merge(base, checkpoints, output, name):
    made = MERGE_METHODS[name](base, checkpoints)
    mixture = made if not isinstance(made, list) else Combination(base, checkpoints, made)
    stream_weights(output, mixture, base.layout)

root = Path(sys.argv[1])
tiny, base = open_weights(root / "tiny"), open_weights(root / "base")
for method in sys.argv[2:]:
    merge(tiny, [tiny], root / "out", method)  # load what a merge needs of torch before measuring
before = peak()
for method in sys.argv[2:]:
    merge(base, [open_weights(root / f"s{number}") for number in range(5)], root / method, method)
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_merging_holds_less_than_four_tensors_and_not_the_models(tmp_path):
    size = 2**24
    write_weights(tmp_path / "tiny", [("x", torch.ones(9, dtype=torch.bfloat16))])
    for place, folder in enumerate(["base", *(f"s{number}" for number in range(5))]):
        fill = torch.full((size,), float(place), dtype=torch.bfloat16)
        write_weights(tmp_path / folder, [("large", fill), ("small", fill[:5])])
    methods = ["average", "dare", "ties"]
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path, *methods],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert all(int(peak) < 4 * 2 * size for peak in result.stdout.split()), result.stdout  # bytes
    for method in ("average", "ties"):
        merged = open_weights(tmp_path / method)
        assert [*merged] == ["large", "small"]
        assert torch.equal(merged["large"], torch.full((size,), 3.0, dtype=torch.bfloat16))


def environment():
    return {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
