"""The tables and the picture of `reproduce budgets`."""

from pathlib import Path
from typing import Any

from fcot.files.markdown import table
from fcot.merge.picture import BLUE, GREY, INK, ORANGE
from fcot.report.plots import GREEN, dress, new_figure, png
from fcot.reproduce.budgets import RATIOS, Plan
from fcot.reproduce.budgets_curves import CURVES, Curves, by_task, read, said
from fcot.reproduce.budgets_measured import ANSWERED, BUDGETS
from fcot.statistics import bootstrap_interval, paired_difference

NAMES = {
    "router": "router",
    "oracle": "oracle: each tile's own cost",
    "rule": "rule: four numbers times ink",
    "ink": "thumbnails cheap, then ink",
    "jpeg": "JPEG bytes",
    "random": "random per tile, ratio 1 or 4",
    "shuffled": "router, shuffled in each page",
    "always": "one ratio for all tiles",
}
COLORS = {"router": BLUE, "oracle": INK, "rule": ORANGE, "ink": GREEN, "always": GREY}
COLORS |= {"jpeg": "#aa3377", "random": "#ccbb44", "shuffled": "#66ccee"}
RULES = [":--", *["--:"] * 8]


def write_results(plan: Plan, output: Path) -> None:
    """Write `table.md` and `budgets.png` into the folder, and print the tables.

    Args:
        plan: How long each part was.
        output: The folder.
    """
    folder = output / "measured"
    curves = Curves(folder, seed=plan.seed)
    half = curves.ends[-1] / 2
    lines = [
        f"{plan.test_pages} test pages of {plan.recipe!r}, seed {plan.seed}, one student of {plan.steps} steps; prices "
        f"fixed on {plan.dev_pages} dev pages. Intervals: 95 %, pages redrawn, tokens and KL together.",
        "",
        f"At {half:g} of {curves.ends[-1]} visual tokens a tile:",
        "",
        *at_tokens(curves, half),
        "",
        "KL at other budgets, and the area between a curve and the router's over log₂ of the tokens:",
        "",
        *over_tokens(curves),
        "",
        f"KL above the router's at {half:g} tokens, by task:",
        "",
        *tasks(folder, half, plan.seed),
        "",
        "Students trained for one ratio, beside the elastic one at that ratio (KL):",
        "",
        *fixed(curves),
        "",
        *answered(folder, plan),
        time_of(folder),
        "",
    ]
    (output / "table.md").write_text("\n".join(lines), encoding="utf-8")
    (output / "budgets.png").write_bytes(draw(curves, plan))
    print("\n".join(lines))
    print(output / "budgets.png")


def at_tokens(curves: Curves, tokens: float) -> list[str]:
    """Return a table of all rules at a number of visual tokens."""
    router, rows = curves.at("router", tokens), []
    for rule in (*CURVES, "always"):
        realised = curves.point(f"{rule}-{tokens:g}")[0]
        kl = curves.at(rule, tokens)
        above = "" if rule == "router" else said(curves.interval(kl - router), sign=True)
        agreement = said(curves.interval(curves.at(rule, tokens, "agreement")))
        rows.append([NAMES[rule], said(curves.interval(realised), 2), said(curves.interval(kl)), agreement, above])
    heads = ["rule", "realised tokens", "KL at equal tokens", "agreement", "KL above the router's"]
    return [table(heads, rows, RULES[: len(heads)])]


def over_tokens(curves: Curves) -> list[str]:
    """Return a table of KL at each budget, and areas."""
    router, rows = curves.area("router"), []
    for rule in (*CURVES, "always"):
        figures = [f"{curves.at(rule, budget)[0]:.3f}" for budget in BUDGETS]
        area = "" if rule == "router" else said(curves.interval(curves.area(rule) - router), sign=True)
        rows.append([NAMES[rule], *figures, area])
    heads = ["rule", *(f"{budget} tokens" for budget in BUDGETS), "area above the router's"]
    return [table(heads, rows, RULES[: len(heads)])]


def tasks(folder: Path, tokens: float, seed: int) -> list[str]:
    """Return a table of differences to the router by task."""
    found = {task: Curves(folder, pages, seed) for task, pages in by_task(folder).items()}
    rows = []
    for rule in ("rule", "ink", "random", "shuffled", "always"):
        cells = []
        for curves in found.values():
            above = curves.at(rule, tokens) - curves.at("router", tokens)
            cells.append(said(curves.interval(above), sign=True))
        rows.append([NAMES[rule], *cells])
    heads = ["rule", *(f"{task} (n = {len(curves.pages)})" for task, curves in found.items())]
    return [table(heads, rows, RULES[: len(heads)])]


def fixed(curves: Curves) -> list[str]:
    """Return a table of students of one ratio."""
    rows = []
    for ratio in RATIOS:
        (_, own), (_, elastic) = curves.point(f"fixed-r{ratio}"), curves.point(f"always-{curves.ends[-1] // ratio}")
        above = said(curves.interval(elastic - own), sign=True)
        rows.append([str(ratio), said(curves.interval(own)), said(curves.interval(elastic)), above])
    heads = ["ratio", "trained for it", "elastic", "elastic above"]
    return [table(heads, rows, RULES[: len(heads)])]


def answered(folder: Path, plan: Plan) -> list[str]:
    """Return a table of generated answers; nothing if none were generated."""
    if not plan.answered:
        return []
    tiles = read(folder, "pages")["tiles"][: plan.answered]
    rows = []
    names = [name.stem.removeprefix("answers-") for name in sorted(folder.glob("answers-always-*.json"))]
    names += [f"{rule}-{budget}" for budget, rules in ANSWERED.items() for rule in rules]
    for name in names:
        found, (rule, budget) = read(folder, f"answers-{name}"), name.split("-")
        other = folder / f"answers-router-{budget}.json"
        above = ""
        if other.exists() and rule != "router":
            difference = paired_difference(read(folder, f"answers-router-{budget}")["score"], found["score"])
            above = said(difference, sign=True)
        mean = f"{sum(found['tokens']) / sum(tiles):.2f}"
        label = NAMES[rule.rstrip("0123456789")]
        rows.append([f"{label}, {budget} tokens", mean, said(bootstrap_interval(found["score"])), above])
    heads = ["rule and budget", "realised tokens", "score [95 %]", "router's above it"]
    text = f"Generated answers to the first {len(tiles)} test pages (ANLS, paired by page; tokens as realised):"
    return [text, "", table(heads, rows, RULES[: len(heads)]), ""]


def time_of(folder: Path) -> str:
    """Return a sentence on what the router costs."""
    time = read(folder, "pages")["time"]
    share = time["router"] / (time["tower"] + time["language"])
    return (
        f"A batch of 32 pages: router {1000 * time['router']:.1f} ms, tower {time['tower']:.2f} s, language model "
        f"{time['language']:.2f} s; the router takes {share:.2%} of a page's reading."
    )


def draw(curves: Curves, plan: Plan) -> bytes:
    """Draw KL over realised tokens with intervals on both axes, and scores of answers beside it."""
    figure = new_figure(10.6 if plan.answered else 6.4, 4.6)
    panels: Any = figure.subplots(1, 2 if plan.answered else 1, squeeze=False)[0]
    axes, folder = panels[0], curves.folder
    for rule in (*CURVES, "always"):
        tokens, kl = curves.curve(rule)
        ends = [[curves.interval(each) for each in values.T] for values in (tokens, kl)]
        (x, y), color = ([each.mean for each in values] for values in ends), COLORS.get(rule)
        errors: list[Any] = [
            [[each.mean - each.low for each in values], [each.high - each.mean for each in values]] for values in ends
        ]
        style = ":" if rule == "ink" else "--" if rule in ("oracle", "shuffled", "random") else "-"
        axes.errorbar(x, y, errors[1], errors[0], label=NAMES[rule], color=color, linestyle=style, linewidth=1.4)
    for ratio in RATIOS:
        at, its_kl = (float(each[0]) for each in curves.point(f"fixed-r{ratio}"))
        axes.plot(at, its_kl, "k*", label="trained for one ratio" if ratio == RATIOS[0] else None)
    axes.set_xlabel("visual tokens of a tile, realised mean")
    axes.set_ylabel("KL to the page read whole")
    axes.legend(fontsize=7, frameon=False)
    dress(axes)
    if plan.answered:
        _draw_scores(panels[1], folder, plan)
    return png(figure)


def _draw_scores(axes: Any, folder: Path, plan: Plan) -> None:
    """Draw scores of generated answers over realised tokens."""
    tiles = read(folder, "pages")["tiles"][: plan.answered]
    for file in sorted(folder.glob("answers-*.json")):
        rule = file.stem.split("-")[1].rstrip("0123456789")
        found = read(folder, file.stem)
        score = bootstrap_interval(found["score"])
        tokens = sum(found["tokens"]) / sum(tiles)
        errors = [[score.mean - score.low], [score.high - score.mean]]
        axes.errorbar(tokens, score.mean, errors, fmt="o", color=COLORS.get(rule, "#aa3377"))
        place = (4, -9) if rule == "rule" else (4, 4)  # below: the rule and the router often tie
        axes.annotate(rule, (tokens, score.mean), place, textcoords="offset points", fontsize=7)
    axes.set_xlabel("visual tokens of a tile, realised mean")
    axes.set_ylabel("score of generated answers (ANLS)")
    dress(axes)
