"""Rules for ratios are compared at equal visual tokens, pages redrawn together on both axes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fcot.cli.main import main
from fcot.cli.train import make_cli
from fcot.reproduce.budgets import Plan, training
from fcot.reproduce.budgets_curves import Curves, by_task
from fcot.reproduce.budgets_measured import ANSWERED, BUDGETS
from fcot.reproduce.budgets_policies import Costs, choices, simple_costs
from fcot.reproduce.budgets_results import write_results
from fcot.route import InkRule, SeenTiles

PLAN = Plan("reading", 3, 20, 2, 16, 40, 20, 0)
TOKENS = torch.tensor([16, 8, 4])


def drawing(share):
    """A tile of which a share of the rows is black."""
    tile = torch.full((3, 20, 20), 255, dtype=torch.uint8)
    tile[:, : round(20 * share)] = 0
    return tile


def test_its_students_are_one_elastic_and_one_for_each_ratio(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    (elastic,), fixed = training(PLAN, tmp_path).values()
    made = [make_cli(each.words[1:-2], run=False, save_config_callback=None) for each in (elastic, *fixed)]
    assert [(cli.model.elastic, cli.model.ratios) for cli in made] == [(True, [2, 4]), (False, [2]), (False, [4])]
    assert all(cli.trainer.max_steps == 3 and cli.model.spec.keep_positions for cli in made)


def test_simple_rules_see_ink_thumbnails_and_bytes():
    seen = SeenTiles(torch.stack([drawing(share) for share in (0.5, 0.1, 0.5)]), [3])
    found = simple_costs(seen, InkRule([[1, 3], [0.1, 0.2]]))
    torch.testing.assert_close(found["ink"], torch.tensor([[0, 0.5, 1.5], [0, 0.1, 0.3], [0, 0, 0]]))
    torch.testing.assert_close(found["rule"][2], torch.tensor([0, 0.05, 0.1]))
    assert found["jpeg"][0, 1] == found["jpeg"][2, 1] > 0


def some_costs(tiles, seed):
    drawn = torch.Generator().manual_seed(seed)
    costs = torch.rand(tiles, 1, generator=drawn) * torch.tensor([0.0, 1.0, 3.0])
    names = ("router", "rule", "ink", "jpeg", "oracle")
    return Costs(dict.fromkeys(names, costs), [4] * (tiles // 4))


def test_prices_are_fixed_on_dev_and_a_shuffle_moves_choices_inside_a_page_only():
    dev, test = some_costs(400, 1), some_costs(400, 2)
    found = choices(test, dev, TOKENS, 8, seed=0)
    for name in ("router", "random0", "random1"):
        assert float(TOKENS[found[name]].float().mean()) == pytest.approx(8, abs=1)
    pages = zip(found["router"].split(4), found["shuffled"].split(4), strict=True)
    assert all(sorted(own.tolist()) == sorted(moved.tolist()) for own, moved in pages)
    assert not torch.equal(found["router"], found["shuffled"])
    assert not torch.equal(found["random0"], found["random1"])
    dearer = Costs({name: costs / 2 for name, costs in dev.by_rule.items()}, dev.num_tiles)
    assert TOKENS[choices(test, dearer, TOKENS, 8, 0)["router"]].sum() > TOKENS[found["router"]].sum()


@pytest.fixture
def measured(tmp_path):
    """Findings on 40 pages of 4 tiles: KL is a rule's factor times what is missing of 16 tokens, and the page's."""
    folder = tmp_path / "measured"
    folder.mkdir()
    own = np.random.default_rng(0).random(40)

    def write(name, tokens, factor):
        kl = [factor * (16 - tokens) * (0.5 + each) for each in own]
        found = {"kl": kl, "agreement": [1 - each / 100 for each in kl], "tokens": [4 * tokens] * 40}
        (folder / f"{name}.json").write_text(json.dumps(found))

    for tokens in (4, 8, 16):
        write(f"always-{tokens}", tokens, 0.2)
    for budget in BUDGETS:
        for rule, factor in {"router": 0.1, "oracle": 0.05, "rule": 0.11, "ink": 0.12, "jpeg": 0.15}.items():
            write(f"{rule}-{budget}", budget + 0.5, factor)  # more tokens than asked
        for rule in ("shuffled", "random0", "random1", "random2"):
            write(f"{rule}-{budget}", budget, 0.25)
    for ratio in (2, 4):
        write(f"fixed-r{ratio}", 16 // ratio, 0.19)
    names = ["always-4", "always-8", "always-16", *(f"{r}-{b}" for b, rules in ANSWERED.items() for r in rules)]
    for name in names:
        found = {"score": [0.5 + 0.01 * name.startswith("router")] * 20, "tokens": [32] * 20}
        (folder / f"answers-{name}.json").write_text(json.dumps(found))
    said = {"tasks": ["text", "table"] * 20, "tiles": [4] * 40, "time": dict.fromkeys(("router", "tower"), 0.001)}
    said["time"]["language"] = 0.1
    (folder / "pages.json").write_text(json.dumps(said))
    return folder


def test_rules_are_compared_at_equal_tokens_and_not_at_equal_budgets(measured):
    curves = Curves(measured)
    own = np.array(json.loads((measured / "router-8.json").read_text())["kl"]).mean() / 0.75
    assert curves.point("router-8")[0][0] == 8.5
    assert curves.at("router", 8)[0] == pytest.approx(0.8 * own)  # on the line from 6.5 to 8.5 tokens
    assert curves.at("always", 6)[0] == pytest.approx(2 * own)
    difference = curves.interval(curves.at("always", 8) - curves.at("router", 8))
    assert difference.mean == pytest.approx(0.8 * own) and difference.low > 0 and difference.n == 40
    assert curves.interval(curves.area("shuffled") - curves.area("router")).low > 0
    assert {task: len(pages) for task, pages in by_task(measured).items()} == {"table": 20, "text": 20}
    assert (Curves(measured, [0, 1]).at("router", 8)[0]) != curves.at("router", 8)[0]


def test_the_tables_name_pages_seed_and_intervals(measured, capsys):
    write_results(PLAN, measured.parent)
    said = (measured.parent / "table.md").read_text()
    assert said in capsys.readouterr().out
    assert "40 test pages of 'reading', seed 0" in said and "| table (n = 20) |" in said
    (line,) = [row for row in said.splitlines() if row.startswith("| one ratio for all tiles | 8.00 [8.00, 8.00]")]
    assert "[+" in line.split("|")[-2]  # above the router's, by more than chance
    assert "| always" not in said and "+0.010 [+0.010, +0.010]" in said
    assert (measured.parent / "budgets.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_small_run_from_pages_to_tables_and_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(Path(__file__).parents[2])
    words = ["reproduce", "budgets", "--output", str(tmp_path / "runs"), "--steps", "2", "--router_pages", "12"]
    words += ["--passes", "1", "--dev_pages", "6", "--test_pages", "6", "--answered", "2"]
    main(words)
    first = (tmp_path / "runs" / "table.md").read_text()
    (tmp_path / "runs" / "measured" / "router-8.json").unlink()
    capsys.readouterr()
    main(words)
    said = capsys.readouterr().out
    assert (tmp_path / "runs" / "table.md").read_text() == first
    assert said.count(" s)\n") == 1 and "router-8.json" in said  # only what was missing was measured
