"""The page and the picture of `reproduce merging`."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from fcot.files.markdown import table
from fcot.merge.picture import BLUE, INK, ORANGE, spoken
from fcot.report.plots import dress, new_figure, png
from fcot.report.rows import signed
from fcot.reproduce.merging_plan import LAST, SCHEDULES
from fcot.reproduce.tiny_runs import BATCH

COLORS = {"cosine": BLUE, "constant": ORANGE}


def markdown(content: Mapping[str, Any]) -> str:
    """Return the text of `RESULTS.md`."""
    chosen, schedules, differences = content["settings"], content["schedules"], content["differences"]
    heads, rows = methods_table(content)
    n = differences["constant"]["auto"]["mean"]["n"]
    kept = [
        [f"{schedule}, seed {seed}", name, str(schedules[schedule]["candidates"][seed] or ""),
         signed(schedules[schedule]["auto_by_seed"][seed]), str(schedules[schedule]["evaluations"][seed]),
         f"{schedules[schedule]['values'][seed]['coverage']:.0%}"]
        for schedule in SCHEDULES
        for seed, name in enumerate(schedules[schedule]["kept"])
    ]  # fmt: skip
    return "\n".join(
        [
            f"Split test, n = {n} pages, {chosen['seeds']} seeds; ratio 2, {chosen['steps']} steps of {BATCH} pages, "
            f"{chosen['snapshots']} snapshots after {chosen['after']:.0%} of them; {chosen['dev_pages']} dev pages, of "
            "which half score coalitions. Mean score over tasks; differences paired by seed and page, 95 % intervals "
            "by nested bootstrap over seeds and pages.",
            "",
            table(heads, rows, [":--", *["--:"] * (len(heads) - 1)]),
            "",
            table(
                ["run", "auto kept", "candidate", "auto - last snapshot on test", "mixtures scored", "coverage of φ"],
                kept,
                [":--", ":--", ":--", "--:", "--:", "--:"],
            ),
            "",
            *(f"- {sentence}" for sentence in content["found"]),
            "",
        ]
    )


def methods_table(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the titles and cells of the table of methods: scores at both rates, and differences."""
    schedules, differences, rows = content["schedules"], content["differences"], []
    for method in schedules["cosine"]["means"]:
        row = [spoken(method)]
        for schedule in SCHEDULES:
            row.append(f"{fmean(schedules[schedule]['means'][method]):.3f}")
            row.append("" if method == LAST else signed(differences[schedule][method]["mean"]))
        rows.append([*row, signed(differences["decayed"][method]["mean"])])
    heads = ["method"]
    for schedule in SCHEDULES:
        heads += [schedule, f"{schedule}: difference to its last snapshot"]
    return [*heads, "constant: difference to the decayed run"], rows


def draw(content: Mapping[str, Any]) -> bytes:
    """Draw each method's difference to the last snapshot, by schedule, and to the decayed run."""
    figure = new_figure(10.4, 4.8)
    left, right = figure.subplots(1, 2)
    methods = [*content["differences"]["constant"]]
    for schedule, shift in (("cosine", -0.15), ("constant", 0.15)):
        _intervals(left, content["differences"][schedule], methods, COLORS[schedule], shift)
    left.set_title(
        "difference to the last snapshot\n(blue: cosine, orange: constant rate)", fontsize=10, loc="left", color=INK
    )
    of_decayed = [LAST, *methods]
    _intervals(right, content["differences"]["decayed"], of_decayed, COLORS["constant"], 0.0)
    right.set_title("constant rate: difference to the decayed run", fontsize=10, loc="left", color=INK)
    for axes, names in ((left, methods), (right, of_decayed)):
        axes.axvline(0.0, color=INK, linewidth=0.9)
        axes.set_yticks(range(len(names)), [spoken(name) for name in names], fontsize=9)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("difference of scores, 95 % interval", fontsize=9)
        dress(axes)
    return png(figure)


def _intervals(axes: Any, found: Mapping[str, Any], methods: list[str], color: str, shift: float) -> None:
    for place, method in enumerate(methods):
        each = found[method]["mean"]
        row = place + shift
        axes.plot([each["low"], each["high"]], [row, row], color=color, linewidth=2.0, solid_capstyle="round")
        axes.plot(each["mean"], row, "o", color=color, markersize=6)
