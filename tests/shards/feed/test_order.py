from collections import Counter

import numpy as np
import pytest

from shards.feed.order import Order, flipped, occurrences, share

SAMPLES = 1000
COSTS = np.random.default_rng(0).integers(10, 4000, SAMPLES).astype(float)
ORDER = Order(COSTS, np.arange(SAMPLES), seed=(1, 2), window=128)


def sequence(order, epoch=0, size=None):
    found = order.epoch(epoch)
    size = size or len(found)
    return [found.samples(start, start + size).tolist() for start in range(0, len(found), size)]


def test_an_epoch_is_every_sample_once_and_no_epoch_is_like_another():
    first, second = (sequence(ORDER, epoch)[0] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(SAMPLES))
    assert first != second
    assert first == sequence(ORDER, 0)[0]
    assert first != sequence(Order(COSTS, np.arange(SAMPLES), seed=(1, 3), window=128))[0]


@pytest.mark.parametrize("size", [1, 3, 8, 48, 300])
def test_the_sequence_does_not_depend_on_how_many_make_a_batch(size):
    assert [sample for batch in sequence(ORDER, size=size) for sample in batch] == sequence(ORDER)[0]


def test_an_epoch_reaches_into_the_whole_set_from_its_beginning():
    first = sequence(ORDER, size=100)[0]
    assert min(first) < 100
    assert max(first) > 900
    assert len({sample // 100 for sample in first}) == 10


@pytest.mark.parametrize("size", [8, 24, 32])
def test_batches_hold_samples_of_like_cost_and_come_in_no_order_of_cost(size):
    batches = [COSTS[batch] for batch in sequence(ORDER, size=size)]
    spread = np.mean([batch.max() - batch.min() for batch in batches[:20]])
    assert spread < 0.4 * np.ptp(COSTS)
    means = np.array([batch.mean() for batch in batches])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4


def test_a_curriculum_keeps_its_windows_in_place():
    order = Order(COSTS, np.arange(SAMPLES), seed=(1, 2), ordered=True, window=100)
    windows = sequence(order, size=100)
    assert [sorted(window) for window in windows] == [list(range(start, start + 100)) for start in range(0, 1000, 100)]
    assert windows[0] != sorted(windows[0])


def test_without_shuffling_every_epoch_is_the_same():
    order = Order(COSTS, np.arange(SAMPLES), shuffled=False)
    assert sequence(order, 0) == sequence(order, 7)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 64, 100])
def test_flips_are_a_permutation(size):
    assert sorted(flipped(size, np.random.default_rng(0)).tolist()) == list(range(size))


def test_places_of_a_set_of_one_and_of_none():
    one = Order(COSTS[:1], np.arange(1)).epoch(0)
    assert one.samples(0, 4).tolist() == [0]
    assert one.samples(1, 4).tolist() == []
    assert len(Order(COSTS[:0], np.arange(0)).epoch(0).samples(0, 4)) == 0


@pytest.mark.parametrize(("samples", "ranks"), [(64, 2), (64, 8), (61, 8), (3, 8), (1, 2), (0, 2)])
def test_ranks_share_a_batch_in_like_numbers_and_at_like_cost(samples, ranks):
    costs = COSTS[:samples]
    shares = share(costs, ranks)
    assert sorted(np.concatenate(shares).tolist()) == list(range(samples))
    counts = [len(each) for each in shares]
    assert max(counts) - min(counts) <= 1
    if samples >= 8 * ranks:
        spent = [costs[each].sum() for each in shares]
        assert max(spent) < 1.05 * min(spent)


@pytest.mark.parametrize("ranks", [2, 3, 8, 64])
@pytest.mark.parametrize("samples", [1, 63, 64, 65, 127, 130, 200])
@pytest.mark.parametrize(
    "cost",
    [
        lambda place: 1e6 if place == 0 else 1.0,  # one long book among receipts
        lambda place: 2.0 ** -min(place, 500),  # each dearer than all behind it
        lambda place: 1e6 if place % 2 else 1.0,
        lambda place: 0.0,
    ],
    ids=["one dear", "falling", "two kinds", "free"],
)
def test_shares_differ_by_one_sample_at_most_however_unlike_the_costs(samples, ranks, cost):
    # a rank with two samples fewer would wait for others, or leave a collective out
    shares = share(np.array([cost(place) for place in range(samples)]), ranks)
    assert sorted(np.concatenate(shares).tolist()) == list(range(samples))
    few, more = divmod(samples, ranks)
    assert sorted(map(len, shares)) == [few] * (ranks - more) + [few + 1] * more


def test_a_fraction_of_a_count_is_another_part_of_the_group_each_time():
    counts, groups = np.repeat([2.3, 0.5, 1.0], [10, 4, 2]), np.repeat([0, 1, 2], [10, 4, 2])
    draws = [occurrences(counts, groups, np.random.default_rng(seed)) for seed in range(2)]
    for drawn in draws:
        assert Counter(drawn[:10].tolist()) == {2: 7, 3: 3}
        assert Counter(drawn[10:14].tolist()) == {0: 2, 1: 2}
        assert drawn[14:].tolist() == [1, 1]
    assert draws[0].tolist() != draws[1].tolist()


def test_a_mixture_makes_an_epoch_longer_or_shorter():
    groups = np.repeat([0, 1], [400, 600])
    order = Order(COSTS, np.arange(SAMPLES), counts=np.where(groups, 0.5, 3.0), groups=groups)
    (drawn,) = sequence(order)
    assert len(drawn) == 3 * 400 + 300
    assert all(drawn.count(sample) == 3 for sample in range(400))
    assert len({sample for sample in drawn if sample >= 400}) == 300


def test_starting_late_in_a_long_epoch_is_no_work():
    order = Order(np.arange(2_000_000.0) % 4000, np.arange(2_000_000), seed=(0,))
    epoch = order.epoch(3)
    assert len(epoch.samples(1_900_000, 1_900_032)) == 32
