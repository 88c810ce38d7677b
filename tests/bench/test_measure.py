import pytest
import torch

from fcot.bench.measure import Gain, LiveTensors, in_turn, peak_memory, weight_bytes
from fcot.errors import UserError

KILO = 1000  # bytes of the tensors below


def test_peak_memory_is_the_most_that_exists_at_a_time():
    given = torch.zeros(KILO, dtype=torch.uint8)

    def work():
        first = given + 1
        second = first + 1
        del first
        third = second + 1
        return third + given

    assert peak_memory(work, torch.device("cpu")) == 3 * KILO


def test_views_and_results_in_place_take_no_memory():
    given = torch.zeros(KILO, dtype=torch.uint8)
    assert peak_memory(lambda: given.view(10, 100).t().add_(1), torch.device("cpu")) == 0


def test_what_a_graph_keeps_for_its_gradient_is_counted_until_the_graph_goes():
    weight = torch.zeros(KILO // 4, requires_grad=True)
    with LiveTensors() as live:
        out = weight.exp().exp()
        assert live.bytes == 2 * KILO
        del out
        assert live.bytes == 0


def test_shared_weights_are_counted_once():
    layer = torch.nn.Linear(10, 10, bias=False)
    assert weight_bytes(layer, torch.nn.Sequential(layer, torch.nn.Linear(10, 1, bias=False))) == 4 * (100 + 10)


def test_what_is_compared_runs_in_turn_and_the_first_turn_only_warms_up():
    done = []

    def work(name):
        done.append(name)
        return len(done)

    assert in_turn([lambda: work("a"), lambda: work("b")], 2) == [[3, 5], [4, 6]]
    assert done == ["a", "b"] * 3


def test_a_gain_is_of_runs_of_the_same_turn():
    gain = Gain.over([2.0, 20.0, 9.0], [1.0, 10.0, 3.0])  # the machine was ten times as slow in the second turn
    assert (gain.median, gain.low, gain.high, gain.repeats) == (2.0, 2.0, 3.0, 3)
    assert str(gain) == "2.00 (2.00\N{EN DASH}3.00)"


def test_nothing_is_measured_no_times():
    with pytest.raises(UserError, match="repeats is 0"):
        in_turn([list], 0)
