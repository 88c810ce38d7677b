"""The curves of the trainings, from their TensorBoard files."""

import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from fcot.report.cells import Picture
from fcot.report.plots import draw_curves
from fcot.report.runs import NAME, by_age, name_of

REALIGNMENT = {
    "train/kl": "KL to the teacher",
    "train/ce": "cross-entropy",
    "train/agreement": "agreement of top tokens",
}
OF_A_STUDENT = re.compile(r"(?P<tag>(?:train|val)/(?:kl|ce|agreement))_r(?P<ratio>\d+)")
EVENTS = "events.out.tfevents.*"

Scalars = dict[str, list[tuple[int, float]]]  # by tag: (step, value)


def training_section(run: Path, missing: list[str]) -> dict[str, Any]:
    """Return what the section shows; says in `missing` which trainings left no curves."""
    every = by_student(find_scalars(run))
    found = {name: scalars for name, scalars in every.items() if "train/loss" in scalars}
    realigned = {name: scalars for name, scalars in found.items() if "train/kl" in scalars}
    trained = {name: scalars for name, scalars in found.items() if name not in realigned}
    parts: list[tuple[Picture, str] | str] = []
    if realigned:
        logged = {tag for scalars in realigned.values() for tag in scalars}
        panels = {title: curves(realigned, tag) for tag, title in REALIGNMENT.items() if tag in logged}
        alt = "KL, cross-entropy and agreement with the teacher over the steps of re-alignment"
        caption = (
            "Re-alignment. KL: how far the student's distribution of the next token is from the teacher's. "
            "Agreement: how often both find the same token most likely."
        )
        parts.append((Picture(draw_curves(panels), alt, width=980), caption))
    else:
        missing.append("No curves of a re-alignment were found.")
        parts.append(missing[-1])
    if trained:
        alt = "Loss over the steps of post-training"
        plot = Picture(draw_curves({"cross-entropy on answers": curves(trained, "train/loss")}), alt, width=640)
        parts.append((plot, "Post-training. The loss is the cross-entropy of the answers' tokens."))
    else:
        missing.append("No curves of a post-training were found.")
        parts.append(missing[-1])
    return {"found": bool(found), "parts": parts}


def by_student(trainings: Mapping[str, Scalars]) -> dict[str, Scalars]:
    """Return trainings with those of several students (`train/kl_r2`, `train/kl_r4`) taken apart, "NAME-r2" each."""
    found: dict[str, Scalars] = {}
    for name, scalars in trainings.items():
        parts: dict[str, Scalars] = {}
        for tag, points in scalars.items():
            match = OF_A_STUDENT.fullmatch(tag)
            if match:
                parts.setdefault(match["ratio"], {})[match["tag"]] = points
        base = NAME.fullmatch(name)["role"]  # type: ignore[index]  # matches any name
        shared = {"train/loss": scalars["train/loss"]} if "train/loss" in scalars else {}
        found |= {f"{base}-r{ratio}": shared | part for ratio, part in parts.items()} or {name: scalars}
    return found


def curves(trainings: Mapping[str, Scalars], tag: str) -> dict[str, dict[str, Any]]:
    """Return a tag of each training as a panel's curves."""
    found = {}
    for name, scalars in trainings.items():
        ratio = 1 if name == "teacher-sft" else NAME.fullmatch(name)["ratio"]  # type: ignore[index]  # matches any
        ratio = int(ratio) if ratio else None
        label = {None: name, 1: "teacher (control)"}.get(ratio, f"ratio {ratio}")
        label = f"{label}, {name}" if label in found else label
        held_out = scalars.get(tag.replace("train/", "val/"), [])
        found[label] = {"ratio": ratio, "train": scalars.get(tag, []), "val": held_out}
    return found


def find_scalars(run: Path) -> dict[str, Scalars]:
    """Return the scalars of every training below a folder, by the training's name."""
    found: dict[str, Scalars] = {}
    for path in by_age(run.rglob(EVENTS)):
        for tag, points in read_scalars(path).items():
            known = found.setdefault(name_of(path.parent, run), {}).setdefault(tag, [])
            # Steps that a run repeats after it was resumed or restarted replace the earlier ones.
            known[:] = [point for point in known if point[0] < points[0][0]] + points
    return dict(sorted(found.items()))


def read_scalars(path: Path) -> Scalars:
    """Return the finite scalars of one event file."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    events = EventAccumulator(str(path), size_guidance={"scalars": 0})  # 0: all of them
    events.Reload()
    found = {
        tag: [(event.step, float(event.value)) for event in events.Scalars(tag) if isfinite(event.value)]
        for tag in events.Tags()["scalars"]
    }
    return {tag: points for tag, points in found.items() if points}
