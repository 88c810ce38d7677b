"""Does a router help? One elastic student whose tiles get their ratios by different rules, at equal visual tokens."""

from dataclasses import asdict, dataclass
from pathlib import Path

from fcot.errors import UserError
from fcot.reproduce.demo import CONFIGS
from fcot.reproduce.resuming import held_folder, take_up
from fcot.reproduce.runner import Command, Runner

MARKER = "budgets.json"
RATIOS = (2, 4)


@dataclass(frozen=True)
class Plan:
    """How long each part is.

    Attributes:
        recipe: Pages that are drawn.
        steps: Steps of re-alignment, of 32 pages each.
        router_pages: Training pages that the router is fitted to.
        passes: Mixed passes over each.
        dev_pages: Dev pages that prices are fixed on.
        test_pages: Test pages.
        answered: Test pages whose answers are generated, the first ones; 0 for none.
        seed: Of training, pages and random choices.
    """

    recipe: str
    steps: int
    router_pages: int
    passes: int
    dev_pages: int
    test_pages: int
    answered: int
    seed: int


def budgets(
    output: Path = Path("runs/budgets"),
    *,
    recipe: str = "reading",
    steps: int = 200,
    router_pages: int = 800,
    passes: int = 4,
    dev_pages: int = 160,
    test_pages: int = 420,
    answered: int = 210,
    seed: int = 0,
) -> None:
    """Compare rules that give the tiles of a page their ratios, at equal visual tokens on the tiny world.

    One elastic student is trained, and beside it one for each ratio alone. Prices of a visual token are fixed on dev
    pages and applied to test pages: by the router, by the rule of four numbers, by ink with cheap thumbnails, by JPEG
    bytes, by the router's choices shuffled inside each page, at random, and by an oracle that knows each tile's cost.
    First by KL and agreement with the whole page, then by generated answers. Called again, it goes on where it was
    stopped. About 17 minutes on 2 cores; run it from the folder that holds `configs/`.

    Args:
        output: Folder of the runs.
        recipe: Which pages are drawn: reading, questions, …
        steps: Steps of re-alignment, of 32 pages each.
        router_pages: Training pages that the router is fitted to.
        passes: Mixed passes over each.
        dev_pages: Dev pages that prices are fixed on.
        test_pages: Test pages.
        answered: Test pages whose answers are generated, the first ones; 0 for none.
        seed: Of training, pages and random choices.

    Raises:
        UserError: If a command fails, `configs/` is not here, or the output holds another plan's runs.
    """
    from fcot.reproduce.budgets_measured import measure
    from fcot.reproduce.budgets_results import write_results

    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run this from the folder of the project's clone.")
    plan = Plan(recipe, steps, router_pages, passes, dev_pages, test_pages, answered, seed)
    take_up(output, asdict(plan), MARKER)
    with held_folder(output) as held:
        draw, train = pages_of(plan, output), training(plan, output)
        runner = Runner(2 + sum(map(len, train.values())), (held,))
        runner.run([draw])
        runner.run_chains(train)
        runner.run([routing(plan, output)])
        measure(plan, output)
        write_results(plan, output)
    print(f"\nDone in {runner.clock()}.")


def pages_of(plan: Plan, output: Path) -> Command:
    """Return what draws the pages."""
    sizes = {"train": 32 * plan.steps, "dev": plan.dev_pages, "test": plan.test_pages}
    words = [word for split, count in sizes.items() for word in (f"--{split}", str(count))]
    build = ["shards", "build", "--output", str(output / "pages"), "--recipe", plan.recipe, "--seed", str(plan.seed)]
    return Command("Draw the pages", [*build, *words], output / "pages" / "test" / "manifest.json")


def training(plan: Plan, output: Path) -> dict[str, list[Command]]:
    """Return what trains the elastic student, and beside it one for each ratio."""
    found: dict[str, list[Command]] = {"elast": [], "fixed": []}
    kinds = {"elastic": ["--model.ratios", str([*RATIOS]), "--model.elastic", "true"]}
    kinds |= {f"fixed-r{ratio}": ["--model.ratio", str(ratio)] for ratio in RATIOS}
    for name, words in kinds.items():
        run = output / name
        fit = ["fit", "--config", str(CONFIGS / "realign_tiny.yaml"), "--data.root", str(output / "pages")]
        fit += ["--trainer.max_steps", str(plan.steps), "--trainer.val_check_interval", str(plan.steps)]
        fit += ["--data.recipe", "null", "--seed_everything", str(plan.seed), *words]
        fit += ["--trainer.default_root_dir", str(run), "--ckpt_path", "last"]
        chain = found["elast" if name == "elastic" else "fixed"]
        chain.append(Command(f"Train: {name}", fit, run / "student" / "config.json"))
    return found


def routing(plan: Plan, output: Path) -> Command:
    """Return what fits the router."""
    words = ["router", "fit", str(output / "elastic" / "student"), "--data", str(output / "pages")]
    words += ["--pages", str(plan.router_pages), "--dev_pages", str(plan.dev_pages), "--passes", str(plan.passes)]
    words += ["--seed", str(plan.seed), "--output", str(output / "routed")]
    return Command("Fit the router", words, output / "routed" / "config.json")
