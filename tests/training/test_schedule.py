import math

import pytest
import torch

from fcot.errors import UserError
from fcot.training.schedule import schedule
from fcot.training.sft import SFT


def rates(steps, peaks=(1.0,), **options):
    """Learning rates of each group at every step."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks]
    optimizer = torch.optim.SGD(groups)
    rates = schedule(optimizer, **options)
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        rates.step()
    return found if len(peaks) > 1 else [rate for (rate,) in found]


def test_it_rises_linearly_to_the_peak_and_falls_as_a_half_cosine():
    found = rates(20, warmup=4, total_steps=20)
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert found[12] == pytest.approx(0.5)  # half-way from step 4 to 20
    expected = [0.5 * (1 + math.cos(math.pi * (step - 4) / 16)) for step in range(4, 20)]
    assert found[4:] == pytest.approx(expected)
    assert found[4:] == sorted(found[4:], reverse=True)


def test_a_warm_up_below_one_is_a_share_of_all_steps():
    assert rates(20, warmup=0.2, total_steps=20) == rates(20, warmup=4, total_steps=20)
    assert rates(3, warmup=0.0, total_steps=20)[0] == 1.0


def test_the_first_step_learns_too():
    assert rates(1, warmup=100, total_steps=1000) == [pytest.approx(0.01)]


def test_the_floor_remains_at_the_end_and_beyond():
    found = rates(30, warmup=2, total_steps=20, floor=0.1)
    assert min(found[2:]) == pytest.approx(0.1)
    assert found[20:] == pytest.approx([0.1] * 10)


def test_groups_keep_their_proportions():
    for first, second in rates(10, peaks=(1.0, 0.1), warmup=3, total_steps=10):
        assert second == pytest.approx(0.1 * first)


def test_a_warm_up_longer_than_the_training_never_reaches_the_peak():
    assert rates(5, warmup=10, total_steps=5) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_constant_rate_stays_at_the_peak_after_warm_up():
    found = rates(12, warmup=2, total_steps=10, shape="constant", floor=0.1)
    assert found == pytest.approx([0.5, *[1.0] * 11])


def test_a_stable_rate_falls_linearly_in_its_last_share_of_the_steps():
    found = rates(23, warmup=2, total_steps=20, shape="warmup_stable_decay", decay=0.25, floor=0.1)
    assert found[:16] == pytest.approx([0.5, *[1.0] * 15])
    assert found[16:] == pytest.approx([0.82, 0.64, 0.46, 0.28, 0.1, 0.1, 0.1])
    assert rates(20, warmup=0, total_steps=20, shape="warmup_stable_decay", decay=0.0) == [1.0] * 20


def test_a_schedule_that_is_not_there_is_refused_when_the_task_is_made(student_folder):
    with pytest.raises(UserError, match=r"no learning-rate schedule 'constnt'\. Did you mean 'constant'"):
        SFT(student_folder, lr_schedule="constnt")
    with pytest.raises(UserError, match=r"lr_decay is 20"):
        SFT(student_folder, lr_schedule="warmup_stable_decay", lr_decay=20)


def test_a_run_trains_at_the_rate_of_its_schedule(tmp_path, student_folder, pages, trainer):
    module = SFT(student_folder, lr_schedule="constant", warmup=2, optimizer=lambda p: torch.optim.AdamW(p, lr=0.01))
    trainer(tmp_path, max_steps=3).fit(module, pages)
    assert {group["lr"] for group in module.optimizers().param_groups} == {0.01}
