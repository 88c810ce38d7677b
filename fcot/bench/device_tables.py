"""The results of `bench device` for a reader: tables on the terminal and in Markdown, and bars."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fcot.bench.meter import ANSWER_PARTS
from fcot.bench.output import Table, gigabytes
from fcot.bench.picture import Bars
from fcot.files import markdown

PARTS = ("decode image", "preprocess", *ANSWER_PARTS[:-1])
TOP = 8  # kernels that a table lists

Found = Mapping[str, Any]


def tables(found: Found) -> list[Table]:
    """Return a table for each kind of measurement that has results, and what became of each cell."""
    made = [rates(found), steps(found), post_training(found), *answers(found), *kernels(found), losses(found)]
    return [*(table for table in made if table is not None and table.rows), outcomes(found)]


def as_markdown(found: Found) -> str:
    """Return the tables as a page."""
    machine = found["environment"]
    where = machine["accelerator"] if found["device"] == "accelerator" else machine["processor"]
    software = f"torch {machine['torch']}, transformers {machine['transformers']}, Python {machine['python']}"
    command = f"`fcot bench device --minutes {found['minutes']:g} --size {found['size']}`"
    lines = [f"# {where}", "", f"{command}: {found.get('seconds', 0):.0f} s; {software}. {found['note']}".rstrip()]
    for table in tables(found):
        rules = [":--", *["--:"] * (len(table.columns) - 1)]
        lines += ["", f"**{table.title}**", "", markdown.table(table.columns, table.rows, rules)]
    return "\n".join(lines).rstrip() + "\n"


def of_kind(found: Found, bench: str) -> Iterator[Found]:
    """Give the results of all cells of a bench."""
    return (cell["found"] for cell in found["cells"] if cell["found"] and cell["found"]["bench"] == bench)


def spread(timing: Found, scale: float = 1000, digits: int = 0) -> str:
    """Return the median with lowest and highest, in milliseconds."""
    median, low, high = (f"{scale * timing[name]:,.{digits}f}" for name in ("median", "low", "high"))
    return f"{median} ({low}\N{EN DASH}{high})"


def rates(found: Found) -> Table | None:
    """Return the limits of the device."""
    for each in of_kind(found, "rates"):
        rows = [
            [name, f"{rate['rate']:,.3g} {rate['unit']}", spread(rate["seconds"], digits=2)]
            for name, rate in each["rates"].items()
        ]
        title = (
            f"Limits: shapes of {each['model'].rpartition('/')[2]}, {each['tiles']} tiles, {each['tokens']:,} tokens, "
        )
        title += each["precision"]
        return Table(title, ("work", "rate of the fastest run", "ms"), rows)
    return None


def steps(found: Found) -> Table:
    """Return the steps of re-alignment, beside naive ones."""
    rows = []
    for each in of_kind(found, "step"):
        measured = each["measured"]
        for name in ("step", "compiled", "naive"):
            if name in measured:
                kind = measured[name]
                ahead = name == "step" and "naive" in measured
                rows.append(
                    [
                        f"{each['model'].rpartition('/')[2]}, ratio {' and '.join(map(str, each['ratios']))}, {name}",
                        f"{each['total' if name != 'naive' else 'naive_total']:.3g}",
                        spread(kind["seconds"]),
                        f"{kind['share_of_matmul_rate']:.0%}",
                        gigabytes(kind["peak_bytes"]),
                        spread(measured["times_faster"], 1, 2) if ahead else "",
                        f"{measured['share_of_memory']:.2f}" if ahead else "",
                    ]
                )
    columns = ("step", "TFLOP", "ms", "of matmul rate", "peak memory", "times as fast as naive", "of its memory")
    return Table("Steps of re-alignment, forward and backward", columns, rows)


def post_training(found: Found) -> Table:
    """Return the steps of post-training."""
    rows = [
        [
            f"{each['model'].rpartition('/')[2]}, ratio {each['ratio']}, activations {name}",
            spread(kind["seconds"]),
            f"{kind['share_of_matmul_rate']:.0%}",
            gigabytes(kind["peak_bytes"]),
            gigabytes(kind["weight_bytes"]),
        ]
        for each in of_kind(found, "sft")
        for name, kind in each["measured"].items()
    ]
    columns = ("step", "ms", "of matmul rate", "peak memory", "weights and moments")
    return Table("Steps of post-training, all parameters and AdamW", columns, rows)


def answers(found: Found) -> Iterator[Table]:
    """Give a table for each model: from the image file to the last token."""
    for each in of_kind(found, "infer"):
        rows = []
        for row in each["measured"]:
            asked = f"{row['batch']} on one page" if row["one_page"] else str(row["batch"])
            rows.append(
                [
                    f"{asked}, ratio {row['ratio']}",
                    *(f"{1000 * row['parts'][part]['median']:,.0f}" for part in PARTS),
                    f"{1000 * row['seconds_per_token']['median']:.1f}",
                    f"{1000 * row['total']['median']:,.0f}",
                    f"{row['gain']['median']:.2f}",
                    f"{row['gain_of_model']['median']:.2f}",
                    f"{row['limit']:.2f}",
                    f"{row['share_of_limit']:.0%}",
                    f"{row['share_of_matmul_rate']:.0%}",
                ]
            )
        tower = ", tower compiled" if each["compile"] else ""
        title = f"Answers of {each['model'].rpartition('/')[2]}, {each['precision']}{tower}: "
        title += f"a page of {each['tiles']} tiles, {each['prompt']} prompt and {each['new_tokens']} answer tokens; "
        title += f"ms, medians of {each['measured'][0]['total']['repeats']} runs in turn"
        columns = (
            "questions",
            *PARTS,
            "a token",
            "in all",
            "gain",
            "gain of model",
            "its limit",
            "reached",
            "of matmul",
        )
        yield Table(title, columns, rows)


def kernels(found: Found) -> Iterator[Table]:
    """Give the kernels that take the most time."""
    for each in of_kind(found, "kernels"):
        rows = [
            [
                kernel["name"][:70],
                f"{1000 * kernel['seconds']:.2f}",
                f"{kernel['seconds'] / each['busy_seconds']:.0%}",
                str(kernel["calls"]),
            ]
            for kernel in each["kernels"][:TOP]
        ]
        title = f"Kernels, {each['of']} of {each['model'].rpartition('/')[2]} at ratio {each['ratio']}: "
        title += f"{1000 * each['seconds']:.0f} ms, of which {1000 * each['busy_seconds']:.0f} ms in kernels"
        yield Table(title, ("kernel", "ms", "share", "calls"), rows)


def losses(found: Found) -> Table:
    """Return the loss in chunks, beside full logits."""
    rows = [
        [
            f"{each['rows']:,} rows of width {each['width']:,}, {name}",
            spread(each[name]["seconds"], digits=1),
            gigabytes(each[name]["peak_bytes"]),
        ]
        for each in of_kind(found, "loss")
        for name in ("chunked", "full")
        if name in each
    ]
    return Table("Loss and its gradient", ("loss", "ms", "peak memory"), rows)


def outcomes(found: Found) -> Table:
    """Return what became of each cell."""
    rows = [
        [cell["name"], cell["status"], f"{cell['seconds']:.1f}" if "seconds" in cell else "", cell.get("reason", "")]
        for cell in found["cells"]
    ]
    return Table("Cells", ("cell", "status", "s", ""), rows)


def panels(found: Found) -> list[Bars]:
    """Return bars: steps beside naive ones, and answers at each ratio."""
    drawn = []
    single = [each for each in of_kind(found, "step") if "naive" in each["measured"]]
    if single:
        bars, marks = {}, {}
        for each in single:
            name = f"{each['model'].rpartition('/')[2]}\n1/{'+1/'.join(map(str, each['ratios']))}"
            bars[name] = {"step": each["measured"]["step"]["seconds"]["median"]}
            bars[f"{name}\nnaive"] = {"naive step": each["measured"]["naive"]["seconds"]["median"]}
            marks[name] = f"{each['measured']['times_faster']['median']:.2f}x"
        drawn.append(Bars("Re-alignment step, seconds", bars, marks))
    for each in of_kind(found, "infer"):
        drawn.append(_answer_bars(each))
    return drawn


def _answer_bars(each: Found) -> Bars:
    """Return the seconds of a page at each ratio, in the largest batch of different pages."""
    rows: Sequence[Found] = [row for row in each["measured"] if not row["one_page"]]
    largest = max(row["batch"] for row in rows)
    bars, marks = {}, {}
    for row in rows:
        if row["batch"] == largest:
            name = f"1/{row['ratio']}"
            bars[name] = {part: row["parts"][part]["median"] / largest for part in (*PARTS, "decode")}
            marks[name] = f"{row['gain']['median']:.2f}x"
    return Bars(f"{each['model'].rpartition('/')[2]}, batch {largest}: seconds a page", bars, marks)
