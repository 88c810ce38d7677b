"""Every trained compressor is measured before and after a few steps, in each of its places."""

from pathlib import Path

import pytest

from fcot.cli.train import make_cli
from fcot.compress import COMPRESSORS
from fcot.errors import UserError
from fcot.reproduce.peers import cells, commands, folder_of, measured, table_of
from fcot.reproduce.peers_costs import Cost, costs

METRICS = "epoch,step,train/kl,val/agreement,val/kl\n0,0,,0.5,3.0\n0,1,2.5,,\n0,2,,0.75,{kl}\n0,2,2.0,,\n"


def test_every_compressor_is_trained_at_both_ratios_in_each_of_its_places():
    found = cells()
    assert {name for name, _, _ in found} == {*COMPRESSORS} - {"identity"}
    assert all({(name, place, ratio) for ratio in (2, 4)} <= {*found} for name, place, _ in found)
    assert {place for name, place, _ in found if name == "unshuffle"} == {"instead"}
    assert {name for name, _, _ in cells("conv,pool")} == {"conv", "pool"}
    with pytest.raises(UserError, match=r"no compressor 'convv'\. Did you mean 'conv'"):
        cells("convv")


def test_its_commands_train_that_student(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    for command in commands(("unshuffle", "instead", 4), tmp_path, 3, tmp_path / "data", "32-true"):
        cli = make_cli(command.words[1:], run=False, save_config_callback=None)
        assert (cli.model.spec.compressor, cli.model.spec.placement, cli.model.spec.ratio) == (
            "unshuffle",
            "instead",
            4,
        )
        assert cli.model.spec.keep_positions and command.made.is_relative_to(tmp_path)
        if command.words[0] == "fit":
            assert cli.trainer.max_steps == 3


def test_the_table_has_the_kl_before_and_after(tmp_path):
    cell = ("conv", "before", 2)
    for when, kl in (("start", 1.25), ("end", 0.625)):
        folder = folder_of(cell, tmp_path) / when
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(METRICS.format(kl=kl))
    assert measured(folder_of(cell, tmp_path) / "end" / "metrics.csv") == {"val/agreement": 0.75, "val/kl": 0.625}
    last = table_of([cell], [Cost(51_200, 2.5e9, 0.25)], tmp_path, 3).splitlines()[-1]
    assert last == "| conv | before | 2 | 51,200 | 2.5 | 0.25 | 1.250 | 0.625 | 0.750 |"


def test_a_step_is_counted_and_timed_in_every_place(tiny_checkpoint):
    found = costs(tiny_checkpoint, [("conv", "before", 2), ("conv", "before", 4), ("pool", "after", 4)], repeats=1)
    conv, coarse, pool = found
    assert conv.flops > coarse.flops > pool.flops
    assert conv.parameters < coarse.parameters and pool.parameters < conv.parameters
    assert all(cost.seconds > 0 for cost in found)
