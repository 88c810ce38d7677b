"""Merge the snapshots of a run with Shapley weights when training ends."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from callbacks.dev_scores import VALUES, DevScores, load, restored_on_error
from callbacks.snapshots import Snapshots
from fcot.errors import UserError, nearest
from fcot.files.atomic_folder import check_output
from fcot.files.weights import open_weights
from fcot.merge import (
    MERGE_METHODS,
    MERGED,
    MergeReport,
    Utility,
    check_count,
    check_method,
    check_readable,
    merge_snapshots,
)
from fcot.models.sharding import is_sharded
from fcot.models.student_folder import save_student
from fcot.runtime.processes import first_alone
from fcot.runtime.run_folder import run_folder
from fcot.training.base_task import BaseTask

BASES = ("init", "final")
PATIENCE = timedelta(days=2)  # of the processes that wait for the first one to merge


class ShapleyMerge(Callback):
    """Merges the snapshots of a run: θ* = θ_base + Σ wᵢ (θᵢ − θ_base), w from Shapley values (FCoT-VL, 3.3).

    A coalition's value is the score of its members' mean on dev pages. The merged folder also gets `merge.json` (every
    score, φ, weights, controls, what was kept and why) and `merge.png`. With fewer than two snapshots, or under
    fast_dev_run, it only says so.

    Args:
        base: θ_base: "init" (the weights before the first step), "final", or a model folder.
        method: What to keep: shapley, average, final, best_single, …, or "auto": the last snapshot, unless the method
            that scores best on one half of the dev pages also answers better on the other half (the paired 95 %
            interval of the difference in mean score lies above zero).
        options: Options of the named method, such as `{density: 0.2}`.
        value: Score of a coalition, a mean over tasks: "answers" (metrics of generated answers, kept by page, so that
            values and weights get intervals) or "tokens" (share of answer tokens predicted right from the reference
            before them; takes a single pass).
        samples: Dev pages to use (default: all); "auto" scores coalitions on half of them.
        random_draws: Draws of the random-search control (default: as many as coalitions).
        permutations: Orders to sample the Shapley values from; required above 8 snapshots (default: exact values).
        task_arithmetic_scale: Scale of the task-arithmetic control.
        utility: Scores a mapping of tensors in place of `value`, higher being better: a function, or a class whose
            objects are called. A resumed merge reuses its scores if the utility has an attribute `fingerprint`,
            a text that changes with what it computes.
        seed: Seed of the random search.
        folder: Where to write (default: `merged` in the run folder).
        each: Folder that gets what every method makes, too, to test them all (default: only what is kept is written).
        overwrite: Replace merged folders that are already there.
    """

    def __init__(
        self,
        base: str = "init",
        method: str = "auto",
        options: dict[str, Any] | None = None,
        value: str = "answers",
        samples: int | None = None,
        random_draws: int | None = None,
        permutations: int | None = None,
        task_arithmetic_scale: float = 0.5,
        utility: Utility | None = None,
        seed: int = 0,
        folder: Path | None = None,
        each: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        check_method(method, options or {}, permutations)
        if value not in VALUES:
            raise UserError(f"ShapleyMerge.value is {value!r}.{nearest(value, VALUES)}")
        self.base, self.method, self.value, self.samples = base, method, value, samples
        self.random_draws, self.task_arithmetic_scale = random_draws, task_arithmetic_scale
        self.seed, self.permutations, self.folder, self.overwrite = seed, permutations, folder, overwrite
        self.options, self.utility, self.each = options or {}, utility, each

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to train for hours towards a merge that would fail.

        Raises:
            UserError: If the merged folder is there and may not be replaced, the base is missing, there are too many
                snapshots, or several students.
        """
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if isinstance(pl_module, BaseTask) and len(pl_module.saved_branches) > 1:
            raise UserError(
                f"ShapleyMerge merges one student, and this run trains {', '.join(pl_module.saved_branches)}.\n"
                "Give one ratio, or leave the callback out and post-train each student by itself."
            )
        output = self.folder or run_folder(trainer) / "merged"
        snapshots = Snapshots.of(trainer)
        players = len(snapshots.due(trainer.max_steps)) if snapshots else 0
        self.check(output, players, "ShapleyMerge.overwrite: true, or another trainer.default_root_dir")

    def check(self, output: Path, players: int, allow: str) -> None:
        """Refuse a merge that would fail.

        Args:
            output: Where the merged model is to be written.
            players: How many snapshots there are, or will be.
            allow: How to replace an earlier merged model or take another folder, for the message.

        Raises:
            UserError: If the output may not be replaced, the base is missing or there are too many snapshots.
        """
        for folder in [output, *(() if self.each is None else (self.each / name for name in MERGE_METHODS))]:
            check_output(folder, MERGED, overwrite=self.overwrite, advice=f"Give {allow}, or move it.")
        check_count(players, self.permutations)
        if self.base not in BASES and not Path(self.base).exists():
            raise UserError(
                f"ShapleyMerge.base is {self.base!r}, and there is no such model folder.{nearest(self.base, BASES)}"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge, unless there is nothing to merge."""
        run = run_folder(trainer)
        snapshots = Snapshots.of(trainer)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.print("ShapleyMerge: nothing to merge in a fast_dev_run.")
            return
        # the first process may still be writing the last snapshot when the others look
        count = trainer.strategy.broadcast(0 if snapshots is None else len(snapshots.folders()))
        if snapshots is None or count < 2:
            trainer.print(f"Nothing was merged: this run kept {count} snapshots, and a merge takes at least 2.")
        elif isinstance(pl_module, BaseTask):
            data: LightningDataModule = trainer.datamodule  # type: ignore[attr-defined]

            def merge() -> None:
                with pl_module.whole_weights():
                    self.merge(pl_module, data, snapshots, run, tell=trainer.print)

            first_alone(trainer, merge, PATIENCE)
            if is_sharded(pl_module.pair):  # the merge worked in a second, whole model
                load(pl_module.pair.student, open_weights(self.folder or run / "merged").items())

    def merge(
        self,
        module: BaseTask,
        data: LightningDataModule,
        snapshots: Snapshots,
        run: Path,
        tell: Callable[[str], None] = print,
    ) -> MergeReport:
        """Merge the snapshots on disk; the module ends with the merged weights, or its own if anything fails.

        Args:
            module: Whose student the snapshots are of.
            data: Gives the dev pages.
            snapshots: Knows the folders.
            run: The run folder.
            tell: Prints a line of progress.
        """
        base, folders = snapshots.base_of(self.base), snapshots.folders()
        check_readable(base, folders.values())
        student = module.pair.student
        output = self.folder or run / "merged"
        dev = DevScores(module, data, value=self.value, samples=self.samples, halved=self.method == "auto")
        utility = self.utility or dev

        def confirm(weights: Mapping[str, Tensor]) -> Mapping[str, list[float]]:
            tell("ShapleyMerge: comparing candidate and last snapshot on the other half of the dev pages")
            return dev.confirm(weights)

        def finish(folder: Path, merged: Iterator[tuple[str, Tensor]]) -> None:
            load(student, merged)
            save_student(student, folder, module.folder.path, max_tiles=module.max_tiles)

        def progress(stage: str, done: int, total: int) -> None:
            if done == total or done % 8 == 0:
                tell(f"ShapleyMerge: {stage} {done}/{total}")

        with restored_on_error(student):
            report = merge_snapshots(
                base,
                folders,
                utility,
                output,
                method=self.method,
                random_draws=self.random_draws,
                permutations=self.permutations,
                options=self._options(),
                seed=self.seed,
                finish=finish,
                progress=progress,
                describe=dev.description | ({"metric": "own utility"} if self.utility else {}),
                # without one, nothing tells a function from an edited version of it
                utility_fingerprint=getattr(utility, "fingerprint", None) or uuid4().hex,
                confirm=confirm,
                each=self.each,
                overwrite=self.overwrite,
            )
        tell(f"ShapleyMerge: {report.summary()}\n  Merged model: {output}")
        return report

    def _options(self) -> dict[str, dict[str, Any]]:
        """Return the options of methods, by their names."""
        scale = {"scale": self.task_arithmetic_scale}
        given = {name: dict(scale) for name in ("task_arithmetic_mean", "task_arithmetic_sum")}
        return given if self.method == "auto" else given | {self.method: {**given.get(self.method, {}), **self.options}}
