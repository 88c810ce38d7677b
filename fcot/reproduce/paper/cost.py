"""What a re-run at real size takes, counted before it starts."""

from fcot.reproduce.paper.preset import Preset
from fcot.reproduce.paper.work import Part, Work

PEAK = 989e12  # bf16 FLOP/s of an H100, dense
REACHED = 0.4  # of the peak, as well-kept trainings reach
TERA = 1e12


def costs(preset: Preset, work: Work, parts: tuple[Part, ...]) -> list[str]:
    """Return lines that say what the trainings take in FLOPs and device hours; none if no size is named.

    A page has 13 tiles, a prompt of 50 tokens and an answer of 500. A re-alignment's step is counted on the meta
    device. Post-training trains all parameters: three times the forward pass of tower, projector, student and head.

    Args:
        preset: Names the size and how many pages each stage reads.
        work: Knows the runs.
        parts: Tables and figures.
    """
    if preset.size is None:
        return []
    runs = list(dict.fromkeys(run for part in parts for run in work.runs(part)))
    lines, total = [], 0.0
    for ratio in sorted({run.ratio for run in runs}):
        realign, post_train = flops_of(preset.size, ratio)
        mine = [run for run in runs if run.ratio == ratio]
        stages = [] if ratio == 1 else [("re-alignments", realign, preset.pages.get("realign", 0))]
        stages.append(("post-trainings", post_train, preset.pages.get("post_train", 0)))
        for stage, flops, pages in stages:
            spent = len(mine) * flops * pages
            total += spent
            lines.append(
                f"{len(mine)} {stage} at ratio {ratio}: {pages:,} pages of {flops / TERA:.1f} TFLOP each, "
                f"{hours(spent):,.0f} hours of an H100"
            )
    lines.append(
        f"In all {hours(total):,.0f} hours of an H100 at {REACHED:.0%} of its peak; scoring comes on top of it, which "
        f"`fcot bench infer --model {preset.size}` counts."
    )
    return lines


def flops_of(size: str, ratio: int) -> tuple[float, float]:
    """Return the FLOPs of a page in re-alignment and in post-training."""
    from fcot.bench.step import count
    from fcot.bench.workload import Pages, model_folder

    with model_folder(size) as folder:
        parts = count(folder, [max(ratio, 2)], Pages(13, 50, 500, 1))["parts"]
    student = parts["teacher_llm" if ratio == 1 else "student_llm_forward"]
    forward = parts["vit"] + parts["projector"] + student + parts["head"]
    return sum(parts.values()) * TERA, 3 * forward * TERA


def hours(flops: float) -> float:
    """Return how long an H100 takes."""
    return flops / (PEAK * REACHED) / 3600
