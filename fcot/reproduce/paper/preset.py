"""What is run: a file of settings, such as configs/reproduce/tiny.yaml."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from fcot.errors import UserError, nearest
from fcot.merge.methods import MERGE_METHODS

EXAMPLE = "configs/reproduce/tiny.yaml"


@dataclass(frozen=True)
class Preset:
    """The settings of a re-run. Commands are as they are typed behind `fcot`; what stands in braces is filled in.

    Attributes:
        title: Where it is run.
        teacher: Folder of the model to compress.
        realign: Options of every re-alignment.
        post_train: Options of every post-training.
        test: Command that scores a model: `test …`, or `evaluate … {model} --output {output}` for public benchmarks.
        seeds: Of the runs.
        ratios: Of the students.
        modules: Compressors that table 3 compares, at the first ratio; the first of them is that of all other tables.
        rivals: Training-free reducers of the teacher, with their options.
        draw: Commands that draw pages, if any.
        draw_for_each_seed: The same, for each seed.
        time: Command of table 5.
        merging: Command of table 4, where it has runs of its own.
        merges: Else merge methods, such as "average": table 4 is then of the snapshots of figure 5's post-trainings.
        looks: Command of figure 6.
        pages: Pages that a re-alignment and a post-training read, and rows of the benchmarks, to count what it costs.
        size: Size of the model that is counted, such as 2b; None counts nothing.
        about: What is not as in the paper, for the page.
        side_by_side: Run trainings beside each other, one a core; else one at a time, as each takes all devices.
    """

    title: str
    teacher: str
    realign: str
    post_train: str
    test: str
    seeds: tuple[int, ...] = (0, 1, 2)
    ratios: tuple[int, ...] = (2, 4)
    modules: tuple[str, ...] = ("conv", "pool", "qformer")
    rivals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    draw: tuple[str, ...] = ()
    draw_for_each_seed: tuple[str, ...] = ()
    time: str = ""
    merging: str = ""
    merges: tuple[str, ...] = ()
    looks: str = ""
    pages: Mapping[str, int] = field(default_factory=dict)
    size: str | None = None
    about: str = ""
    side_by_side: bool = True

    @property
    def scores_benchmarks(self) -> bool:
        """Whether public benchmarks are scored."""
        return self.test.split()[0] == "evaluate"

    def lacks(self, part: str) -> str:
        """Return which key a table or figure needs and the preset does not give; empty if it can be made."""
        keys = {"table4": ("merges", "merging"), "table5": ("time",), "figure6": ("looks",)}.get(part, ())
        return keys[0] if keys and not any(getattr(self, key) for key in keys) else ""


def read_preset(file: Path) -> Preset:
    """Read a preset.

    Raises:
        UserError: If it is missing, is not YAML, has a key that is unknown or missing, names an unknown merge
            method, or says twice how table 4 is made.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"The preset {str(file)!r} cannot be read: {error}\nGive a file such as {EXAMPLE}.") from None
    if not isinstance(content, dict):
        raise UserError(f"The preset {str(file)!r} does not hold keys and values.\nWrite it like {EXAMPLE}.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Preset)
    try:
        preset: Preset = Preset(**parser.parse_object(content).as_dict())
    except ArgumentError as error:
        said = str(error).strip().splitlines()[0].removeprefix("error: ")
        raise UserError(f"The preset {str(file)!r} cannot be used: {said}\nWrite it like {EXAMPLE}.") from None
    words = filled(preset.post_train)
    if "--trainer.max_steps" not in words:
        raise UserError(
            f"The preset {str(file)!r} has a post_train without --trainer.max_steps, which names the last snapshot.\n"
            f"Add it, as in {EXAMPLE}."
        )
    if preset.merging and preset.merges:
        raise UserError(
            f"The preset {str(file)!r} has both 'merging' and 'merges'.\n"
            "Keep one: table 4 is of runs of its own, or of the snapshots of figure 5's."
        )
    for method in preset.merges:
        if method not in ("auto", *MERGE_METHODS):
            raise UserError(
                f"The preset {str(file)!r} has the merge method {method!r}.{nearest(method, MERGE_METHODS)}"
            )
    return preset


def filled(command: str, **values: object) -> list[str]:
    """Return the words of a command whose braces are filled in; braces of other names stay."""
    words = shlex.split(command)
    for name, value in values.items():
        words = [word.replace(f"{{{name}}}", str(value)) for word in words]
    return words
