import torch

from fcot.bench.measure import LiveTensors, peak_memory, weight_bytes

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
