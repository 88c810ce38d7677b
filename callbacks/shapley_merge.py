"""Merge the snapshots of a run with Shapley weights when training ends."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from callbacks.snapshots import Snapshots
from fcot.batch import Batch
from fcot.errors import UserError, nearest
from fcot.files.atomic_folder import check_output
from fcot.files.weights import open_weights
from fcot.merge import MAX_EXACT_PLAYERS, MERGE_METHODS, MERGED, MergeReport, merge_snapshots
from fcot.models.sampling import GREEDY
from fcot.models.sharded_tensors import shared_like
from fcot.models.sharding import is_sharded
from fcot.models.student import save_student
from fcot.runtime.processes import first_alone
from fcot.runtime.run_folder import run_folder
from fcot.training.base_task import BaseTask
from shards.feed.halves import Half

VALUES = {"answers": "mean score of answers over tasks", "tokens": "mean answer-token accuracy over tasks"}
BASES = ("init", "final")
PATIENCE = timedelta(days=2)  # of the processes that wait for the first one to merge

Utility = Callable[[Mapping[str, Tensor]], float]


class ShapleyMerge(Callback):
    """Merges the snapshots of a run: θ* = θ_base + Σ wᵢ (θᵢ − θ_base), w from Shapley values (FCoT-VL, 3.3).

    A coalition's value is the score of its members' mean on dev pages. The merged folder also gets `merge.json` (every
    score, φ, weights, controls, what was kept and why) and `merge.png`. With fewer than two snapshots, or under
    fast_dev_run, it does nothing but say so.

    Args:
        base: θ_base: "init" (the weights before the first step), "final", or a model folder.
        method: What to keep: shapley, average, final, best_single, …, or "auto": the last snapshot, unless the method
            that scores best on half of the dev pages beats it on the other half, where both answer the questions and
            the paired 95 % interval of their mean scores' difference must lie above zero.
        options: Options of the named method, such as `{density: 0.2}`.
        value: What a coalition is scored by, a mean over tasks: "answers", the metrics of generated answers, or
            "tokens", the share of answer tokens predicted right after the reference's, which takes a single pass.
        samples: Dev pages to use (default: all). A coalition is scored on them, on half of them by "auto".
        random_draws: Draws of the random-search control (default: as many as coalitions).
        permutations: Orders to sample the Shapley values from, which more than 8 snapshots need (default: exact).
        task_arithmetic_scale: Scale of the task-arithmetic control.
        utility: Scores weights in place of `value`: a function, or a class whose objects are called with a mapping of
            tensors; higher is better. Its scores are found again by a merge that goes on where it was interrupted if it
            has an attribute `fingerprint`, a text that changes with what it computes.
        seed: Seed of the random search.
        folder: Where to write (default: `merged` in the run folder).
        overwrite: Replace a merged folder that is already there.
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
        overwrite: bool = False,
    ) -> None:
        if method != "auto" and method not in MERGE_METHODS:
            raise UserError(f"ShapleyMerge.method is {method!r}.{nearest(method, [*MERGE_METHODS, 'auto'])}")
        if value not in VALUES:
            raise UserError(f"ShapleyMerge.value is {value!r}.{nearest(value, VALUES)}")
        self.base, self.method, self.value, self.samples = base, method, value, samples
        self.permutations = permutations
        self.random_draws, self.task_arithmetic_scale = random_draws, task_arithmetic_scale
        self.seed, self.folder, self.overwrite = seed, folder, overwrite
        self.options, self.utility = options or {}, utility
        self.check_options()

    def check_options(self) -> None:
        """Refuse options that no method takes.

        Raises:
            UserError: If the method has no such option, needs one, or none is named.
        """
        if self.method != "auto":
            MERGE_METHODS.check_options(self.method, self.options)
        elif self.options:
            raise UserError(f"Options {self.options} are of no method.\nName the method that they are of.")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to train for hours towards a merge that cannot be.

        Raises:
            UserError: If the merged folder is there and may not be replaced, the base is missing, there are too many
                snapshots, or several students.
        """
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if isinstance(pl_module, BaseTask) and len(pl_module.branches) > 1:
            raise UserError(
                f"ShapleyMerge merges one student, and this run trains {', '.join(pl_module.branches)}.\n"
                "Give one ratio, or leave the callback out and post-train each student by itself."
            )
        output = self.folder or run_folder(trainer) / "merged"
        snapshots = snapshots_of(trainer)
        players = len(snapshots.due(trainer.max_steps)) if snapshots else 0
        self.check(output, players, "ShapleyMerge.overwrite: true, or another trainer.default_root_dir")

    def check(self, output: Path, players: int, allow: str) -> None:
        """Refuse what the merge could not do.

        Args:
            output: Where the merged model is to be written.
            players: How many snapshots there are, or will be.
            allow: What to set so that an earlier merged model is replaced, or another folder taken.

        Raises:
            UserError: If the output may not be replaced, the base is missing or there are too many snapshots.
        """
        check_output(output, MERGED, overwrite=self.overwrite, advice=f"Give {allow}, or move it.")
        if self.permutations is None and players > MAX_EXACT_PLAYERS:
            raise UserError(
                f"{players} snapshots have {2**players} coalitions; up to {MAX_EXACT_PLAYERS} snapshots are valued "
                "by all of theirs.\nGive ShapleyMerge.permutations, such as 20, to sample them."
            )
        if self.base not in BASES and not Path(self.base).exists():
            raise UserError(
                f"ShapleyMerge.base is {self.base!r}, and there is no such model folder.{nearest(self.base, BASES)}"
            )

    def check_files(self, snapshots: Snapshots) -> None:
        """Refuse to begin a merge whose weights cannot be opened; only their headers are read.

        Args:
            snapshots: Knows the folders.

        Raises:
            UserError: If the base or a snapshot is missing, or is no safetensors.
        """
        base = self._base(snapshots)
        for folder in (base, *snapshots.folders().values()):
            try:
                open_weights(folder)
            except (OSError, ValueError) as error:
                other = "Give another base: final (the last snapshot), or the folder of the model that was trained."
                remedy = other if folder == base else "Train again, or move it away to merge the others."
                wrong = str(error).replace("\n", " ").split(". ")[0]
                raise UserError(f"{folder} cannot be merged ({wrong}).\n{remedy}") from error

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge, unless there is nothing to merge."""
        run = run_folder(trainer)
        snapshots = snapshots_of(trainer)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.print("ShapleyMerge: nothing to merge in a fast_dev_run.")
            return
        # the first process may still be writing the last one while others look
        count = trainer.strategy.broadcast(0 if snapshots is None else len(snapshots.folders()))
        if snapshots is None or count < 2:
            trainer.print(f"Nothing was merged: this run kept {count} snapshots, and a merge takes at least 2.")
        elif isinstance(pl_module, BaseTask):
            data: LightningDataModule = trainer.datamodule  # type: ignore[attr-defined]

            def merge() -> None:
                with pl_module.whole_weights():
                    self.merge(pl_module, data, snapshots, run, tell=trainer.print)

            first_alone(trainer, merge, PATIENCE)
            if is_sharded(pl_module.pair):  # the merge had weights of its own
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
            tell: Takes lines of progress.
        """
        self.check_files(snapshots)
        student = module.pair.student
        before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
        output = self.folder or run / "merged"
        pages = CachedLoader(
            data.loader("dev", with_prompts=True, layout=module.layout, limit=self._dev_samples(data), whole=True)  # type: ignore[attr-defined]
        )
        halved = self.method == "auto"
        loader = Half(pages) if halved else pages

        def utility(weights: Mapping[str, Tensor]) -> float:
            load(student, weights.items())
            return module.evaluate(loader).mean() if self.value == "answers" else module.token_accuracy(loader)

        def confirm(weights: Mapping[str, Tensor]) -> Mapping[str, list[float]]:
            load(student, weights.items())
            tell("ShapleyMerge: the other half of the dev pages is read, to confirm a candidate or not")
            return module.evaluate(Half(pages, second=True)).by_task()

        def finish(folder: Path, merged: Iterator[tuple[str, Tensor]]) -> None:
            load(student, merged)
            save_student(student, folder, module.folder.path, max_tiles=module.max_tiles)

        def progress(stage: str, done: int, total: int) -> None:
            if done == total or done % 8 == 0:
                tell(f"ShapleyMerge: {stage} {done}/{total}")

        folders = snapshots.folders()
        try:
            report = merge_snapshots(
                self._base(snapshots),
                folders,
                self.utility or utility,
                output,
                method=self.method,
                random_draws=self.random_draws,
                options=self._options(),
                seed=self.seed,
                finish=finish,
                progress=progress,
                describe={
                    "split": "dev",
                    "n": sum(len(batch) for batch in loader),
                    "metric": "own utility" if self.utility else VALUES[self.value],
                },
                utility_fingerprint=self._fingerprint(module, data),
                confirm=confirm,
                permutations=self.permutations,
                overwrite=self.overwrite,
            )
        except BaseException:
            load(student, before.items())
            raise
        tell(_told(report, output))
        return report

    def _options(self) -> dict[str, dict[str, Any]]:
        """Return the options of methods, by their names."""
        scale = {"scale": self.task_arithmetic_scale}
        given = {name: dict(scale) for name in ("task_arithmetic_mean", "task_arithmetic_sum")}
        return given if self.method == "auto" else given | {self.method: {**given.get(self.method, {}), **self.options}}

    def _base(self, snapshots: Snapshots) -> Path:
        if self.base == "init":
            return snapshots.base
        if self.base == "final":
            return list(snapshots.folders().values())[-1]
        return Path(self.base)

    def _fingerprint(self, module: BaseTask, data: LightningDataModule) -> str:
        """Return what a score depends on besides the weights: cached scores of another utility do not count."""
        if self.utility:  # nothing tells one function from another, or from itself with a line changed
            return getattr(self.utility, "fingerprint", None) or uuid4().hex
        pages: str = data.fingerprint("dev")  # type: ignore[attr-defined]
        layout = module.layout
        answers = [module.max_new_tokens, layout.max_tiles, module.max_length, module.metrics]
        answers += [] if module.sampling == GREEDY else [asdict(module.sampling)]
        answers += [module.reducer_settings] if module.reducer_settings else []
        part = "half" if self.method == "auto" else "all"
        return json.dumps([pages, self.value, self._dev_samples(data), part, *answers])

    def _dev_samples(self, data: LightningDataModule) -> int | None:
        known: int | None = data.size("dev")  # type: ignore[attr-defined]
        return known if self.samples is None else min(self.samples, known or self.samples)


class CachedLoader:
    """Iterates over a loader's batches again and again, decoding them once if they fit in memory.

    Args:
        loader: Gives the same batches each time.
        most: Bytes of tiles to keep; beyond, every pass reads the loader anew.
    """

    def __init__(self, loader: Iterable[Batch], most: int = 2**30) -> None:
        self.loader, self.most = loader, most
        self.kept: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self.kept is not None:
            yield from self.kept
            return
        kept: list[Batch] | None = []
        size = 0
        for batch in self.loader:
            size += batch.tiles.nbytes
            kept = None if kept is None or size > self.most else [*kept, batch]
            yield batch
        self.kept = kept


def snapshots_of(trainer: Trainer) -> Snapshots | None:
    """Return the callback that keeps snapshots, if there is one."""
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, Snapshots)), None)


def load(student: torch.nn.Module, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Copy weights into a model tensor by tensor, so that no second model is in memory."""
    own = student.state_dict()
    with torch.no_grad():
        for name, tensor in weights:
            own[name].copy_(shared_like(tensor, own[name]))


def _told(report: MergeReport, output: Path) -> str:
    phi = ", ".join(f"{name} {value:+.4f}" for name, value in report.shapley.items())
    return f"ShapleyMerge: {report.choice['why']}.\n  Shapley values: {phi}\n  Merged model: {output}"
