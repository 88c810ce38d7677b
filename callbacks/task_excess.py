"""What dev pages say of a run's tasks: losses before and after it, weights for the next, and tasks to beware of."""

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from callbacks.dev_losses import DevLosses, lower, mean_losses, paired, rises
from fcot.files.markdown import table
from fcot.training.conclusion_losses import Losses
from shards.feed.task_weights import RULES, excess_weights


class TaskExcess:
    """Follows the dev losses of a run, and says at its end what rule `excess` makes of them."""

    def __init__(self) -> None:
        self.dev: DevLosses | None = None
        self.before: Losses = {}  # when the run began
        self.lowest: Losses = {}  # of each task, whenever its mean was lowest
        self.now: Losses = {}
        self.step = -1  # of the last measurement

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured, in plain types."""
        return {"before": self.before, "lowest": self.lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint has."""
        self.before, self.lowest = state.get("before", {}), state.get("lowest", {})

    def start(self, dev: DevLosses) -> None:
        """Measure at the beginning of a run; one that is resumed has done so."""
        self.dev = dev
        if not self.before:
            self.before = self.lowest = dev.student()

    def measure(self, step: int) -> None:
        """Measure after a step, once."""
        if self.dev is not None and step != self.step:
            self.now, self.step = self.dev.student(), step
            self.lowest = lower(self.lowest, self.now)

    def report(
        self, step: int, report: Mapping[str, Any], reads: Mapping[str, float], generation_tasks: Collection[str]
    ) -> dict[str, Any]:
        """Measure at the end of a run, and return what takes the place of rule loss in its report.

        Args:
            step: The last.
            report: By rule loss, with the `sizes` of tasks and how many of their samples were `read`.
            reads: How often an epoch of this run reads a sample of each task.
            generation_tasks: Tasks that are not read more often.
        """
        assert self.dev is not None
        self.measure(step)
        sizes, seed = report["sizes"], int(os.environ.get("PL_GLOBAL_SEED", "0"))
        trained = {task: losses for task, losses in self.now.items() if task in sizes}
        found = excess_weights(*paired(trained, self.dev.teacher()), sizes, generation_tasks, seed=seed)
        before, risen = mean_losses(self.before), rises(self.lowest, self.now, reads)
        dev = {
            task: {
                "loss_before": before.get(task),
                **asdict(row),
                "reads_by_weights": reads.get(task, 1.0),
                "reads": report["read"].get(task, 0) / sizes[task],
                "rise": risen.get(task, 0.0),
            }
            for task, row in found.items()
        }
        return {
            "dev": dev,
            "weights": {task: row.weight for task, row in found.items()},
            "weights_by_loss": report["weights"],
            "rule": "excess",
            "formula": RULES["excess"],
        }

    @staticmethod
    def table(report: Mapping[str, Any]) -> str:
        """Return a table of a report, and a sentence for each task to beware of."""
        head = ["task", "dev pages", "loss before", "loss now", "teacher's", "excess", "reads", "weight", "next"]
        rows = [
            [
                task,
                str(row["samples"]),
                "" if row["loss_before"] is None else f"{row['loss_before']:.3f}",
                f"{row['loss']:.3f}",
                f"{row['teacher_loss']:.3f}",
                f"{row['excess']:.3f} ± {row['standard_error']:.3f}",
                f"{row['reads']:.2f}",
                f"{row['reads_by_weights']:.2f}",
                f"{row['weight']:.2f}",
            ]
            for task, row in report["dev"].items()
        ]
        said = [
            f"Beware: {task} is read {row['reads_by_weights']:.2f} times an epoch, and its dev loss has risen by "
            f"{row['rise']:.3f} from its lowest. Give it a lower weight, or train for fewer steps."
            for task, row in report["dev"].items()
            if row["rise"]
        ]
        notes = (
            "Losses on dev pages in nats a token; how often this run read a sample, and by which weight in an epoch."
        )
        return "\n".join([table(head, rows, [":--", *["--:"] * 8]), notes, *said])
