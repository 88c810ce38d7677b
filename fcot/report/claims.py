"""What the rows say, in plain sentences with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcot.evaluation.records import as_text
from fcot.report.rows import difference_to, final, plain, share, signed, tasks_of, with_role
from fcot.report.runs import TestedModel

SHARES = {1: "All", 2: "Half", 4: "A quarter"}


def claims_of(rows: Sequence[Mapping[str, Any]], scored: Sequence[TestedModel]) -> dict[int, list[str]]:
    """Return, by ratio, one sentence for each thing that was compared, the main one first."""
    by_name = {row["name"]: row for row in rows}
    found = {}
    for ratio in sorted({model.ratio for model in scored} - {1}):
        said = [
            against_teacher(by_name, scored, ratio),
            against_control(by_name, scored, ratio),
            by_realignment(scored, ratio),
            by_merge(scored, ratio),
        ]
        found[ratio] = [sentence for sentence in said if sentence]
    return {ratio: said for ratio, said in found.items() if said}


def against_teacher(rows: Mapping[str, Mapping[str, Any]], scored: Sequence[TestedModel], ratio: int) -> str | None:
    """Say how much of the teacher's score the last student reaches."""
    model, teacher = final(scored, ratio), with_role(scored, "teacher")
    if model is None:
        return None
    row = rows[model.name]
    tokens = f"{row['visual_tokens']:.1f}"
    if teacher:
        tokens += f" instead of {teacher.row['visual_tokens']:.1f}"
    tested = f"{len(tasks_of([row]))} tasks, split {row['split']}, n = {row['n']}, seed {row['seed']}"
    who = f"{portion(ratio)} of the visual tokens ({tokens} a page), the {model.label.lower()} student"
    if "vs_teacher" in row:
        reached = f"reaches {share(row['vs_teacher'])} of its teacher's mean score"
        return f"With {who} {reached} (paired 95 % interval; {tested})."
    return f"With {who} scores {as_text(row['scores']['mean'])} (95 % interval; {tested})."


def portion(ratio: int) -> str:
    """Return "half" for ratio 2."""
    return SHARES[ratio].lower() if ratio in SHARES else f"1/{ratio}"


def against_control(rows: Mapping[str, Mapping[str, Any]], scored: Sequence[TestedModel], ratio: int) -> str | None:
    """Say how the last student compares with a teacher that was trained like it."""
    model = final(scored, ratio)
    if model is None or model.role not in ("sft", "merged") or "vs_control" not in rows[model.name]:
        return None
    compared = rows[model.name]["vs_control"]
    return (
        f"Against the control, a teacher with all its visual tokens and the same post-training, the "
        f"{model.label.lower()} student at ratio {ratio} reaches {share(compared)} of the mean score."
    )


def by_realignment(scored: Sequence[TestedModel], ratio: int) -> str | None:
    """Say what re-alignment alone changed."""
    start, realigned = with_role(scored, "start", ratio), with_role(scored, "realigned", ratio)
    if not start or not realigned or not (change := plain(difference_to(realigned, start))):
        return None
    before, after = (model.row["scores"]["mean"]["mean"] for model in (start, realigned))
    return (
        f"Re-alignment alone moves the mean score at ratio {ratio} from {before:.3f} (pooled start) to {after:.3f}: "
        f"{signed(change)}{verdict(change)}."
    )


def by_merge(scored: Sequence[TestedModel], ratio: int) -> str | None:
    """Say what merging changed against the last snapshot."""
    last, merged = with_role(scored, "sft", ratio), with_role(scored, "merged", ratio)
    if not last or not merged or not (change := plain(difference_to(merged, last))):
        return None
    if change["low"] == change["high"] == 0:
        return f"At ratio {ratio}, the merge answers as the last snapshot does; the section on it says why it was kept."
    return (
        f"At ratio {ratio}, merging the snapshots moves the mean score by {signed(change)} against the last one"
        f"{verdict(change)}."
    )


def verdict(change: Mapping[str, Any]) -> str:
    """Return a remark if an interval of a difference includes 0."""
    return ", which these pages cannot tell from no change" if change["low"] <= 0 <= change["high"] else ""
