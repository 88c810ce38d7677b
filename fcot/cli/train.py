"""Verbs of the trainer: LightningCLI with short errors, safe checkpoints and quiet logs."""

import logging
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from traceback import walk_tb
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.callbacks.timer import Interval
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from transformers.utils.logging import disable_progress_bar

import callbacks
from callbacks.progress import Progress
from fcot.cli.commands import PROGRAM, VERBS
from fcot.cli.explain import PlainHelp, RaisesParseError
from fcot.cli.plugins import load_declared
from fcot.errors import UserError
from fcot.runtime.checkpoints.last_checkpoint import newest_of_run
from fcot.runtime.run_folder import run_folder
from fcot.runtime.trainer import Trainer
from fcot.training.base_task import BaseTask
from shards.factory.verifiers.as_metrics import offer_verifiers
from shards.feed.datamodule import Shards

MODULES = ("fcot.training.sft", "fcot.training.realign")


def run_trainer(words: list[str]) -> None:
    """Run a verb of the trainer.

    Args:
        words: The verb and its options.

    Raises:
        UserError: If what the options describe cannot be built or run.
        ParseError: If they cannot be read.
    """
    about = {name: about_verb(name) for name in TrainerCLI.subcommands()}
    try:
        make_cli(words, parser_kwargs={"prog": PROGRAM, **about})
    except MisconfigurationException as error:  # what Lightning calls a user error
        raise UserError(str(error)) from error
    except (RuntimeError, ValueError) as error:
        if not is_refusal(error):
            raise
        raise UserError(str(error)) from error


def is_refusal(error: Exception) -> bool:
    """Return whether one of Lightning's callbacks raised the error itself: `EarlyStopping` misses its metric, say."""
    frames = list(walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__")).startswith("lightning.pytorch.callbacks.")


def about_verb(name: str) -> dict[str, Any]:
    """Return the head of a verb's help, and what formats it."""
    usage = f"{PROGRAM} {name} --config FILE [--OPTION VALUE …]\n       {PROGRAM} {name} --model.help Realign"
    return {"usage": usage, "description": VERBS[name].summary, "formatter_class": PlainHelp}


def from_config(path: Path) -> tuple[Trainer, BaseTask, Shards]:
    """Build trainer, module and data from the config.yaml of a run, without running anything.

    Raises:
        UserError: If the machine has not the devices that the run asks for.
    """
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = {key: settings[key] for key in ("seed_everything", "trainer", "model", "data") if key in settings}
    try:
        cli = make_cli(parts, run=False, save_config_callback=None)
    except MisconfigurationException as error:
        raise UserError(f"{path} cannot be followed on this machine: {error}") from error
    return cli.trainer, cli.model, cli.datamodule


def make_cli(args: list[str] | dict[str, Any], **options: Any) -> "TrainerCLI":
    """Parse words or settings, build what they describe, and run the verb if there is one."""
    quieten()
    load_classes()
    return TrainerCLI(
        BaseTask,
        Shards,
        trainer_class=Trainer,
        subclass_mode_model=True,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        parser_class=Parser,
        args=args,
        **{"save_config_callback": RunConfig, **options},
    )


def load_classes() -> None:
    """Import all callbacks, modules and plugins, so that short class names are known in configurations."""
    for module in iter_modules(callbacks.__path__, "callbacks."):
        import_module(module.name)
    for name in MODULES:
        import_module(name)
    load_declared()
    offer_verifiers()
    # jsonargparse writes defaults to YAML, and has no form for `interval: str = Interval.step` of Lightning's Timer
    yaml.SafeDumper.add_representer(Interval, lambda dumper, each: dumper.represent_str(each.value))


def quieten() -> None:
    """Silence lines that tell a user nothing."""
    # Lightning still makes a LeafSpec at every step: https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # What is frozen stays in evaluation mode on purpose (fcot.models.student_teacher.StudentTeacher.train).
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
    # advertisements of other products: https://github.com/Lightning-AI/pytorch-lightning/issues/21294
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(is_no_tip)
    disable_progress_bar()  # transformers draws one for each model it loads


def is_no_tip(record: logging.LogRecord) -> bool:
    """Return whether a log record is more than a tip."""
    return "💡 Tip" not in str(record.msg)


class Parser(RaisesParseError, LightningArgumentParser):
    """Lightning's parser with errors of a few lines."""


class RunConfig(SaveConfigCallback):
    """Saves the configuration in the run folder; a run that goes on writes it anew."""

    def save_config(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Write it, on the first process."""
        folder = run_folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, folder / self.config_filename, skip_none=False, overwrite=True, multifile=False)


class TrainerCLI(LightningCLI):
    """LightningCLI for `BaseTask` and `Shards`."""

    trainer: Trainer
    model: BaseTask

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs and the arguments they do not offer: checkpoints are always read weights-only."""
        return {verb: {*skipped, "weights_only"} for verb, skipped in LightningCLI.subcommands().items()}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse words or settings; Lightning's own warns that words came from within Python."""
        self.config = parser.parse_args(args) if isinstance(args, list) else parser.parse_object(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the checkpoint closed: Lightning reads all of it for settings that then beat the command line."""

    def before_instantiate_classes(self) -> None:
        """Refuse a checkpoint that is not there, and keep a test's configuration apart from the training's."""
        path = self._get(self.config, "ckpt_path")
        if path == "best":
            raise UserError(
                "--ckpt_path best means the best checkpoint of this process, which has trained nothing yet.\n"
                "Give the path of the checkpoint, or `--ckpt_path last` for the newest one in the run's own folder."
            )
        if path and path != "last" and not Path(path).exists():
            raise UserError(
                f"There is no checkpoint at {str(path)!r}.\n"
                "Give a folder step-….ckpt, or `--ckpt_path last` for the newest one in the run's own folder."
            )
        filename = "config.yaml" if self.subcommand == "fit" else f"config_{self.subcommand}.yaml"
        self.save_config_kwargs = {"config_filename": filename, "save_to_log_dir": False}

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; a value that a constructor refuses is the user's to mend."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException = error
            while cause.__cause__ is not None and str(cause).startswith("Does not validate against any"):
                cause = cause.__cause__  # jsonargparse wraps whatever a constructor raises in the types it tried
            raise (UserError(str(cause)) if isinstance(cause, ValueError) else cause) from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with this project's progress bar where the configuration names none."""
        trainer = self._get(self.config_init, "trainer")
        chosen = trainer.get("callbacks") or []
        chosen = list(chosen) if isinstance(chosen, list) else [chosen]
        has_bar = any(isinstance(callback, ProgressBar) for callback in chosen)
        if not has_bar and trainer.get("enable_progress_bar") is not False and not trainer.get("barebones"):
            kwargs["callbacks"] = [*chosen, Progress()]
        built = super().instantiate_trainer(**kwargs)
        assert isinstance(built, Trainer)
        return built

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if kwargs.get("ckpt_path") == "last" and subcommand != "fit":
            newest = newest_of_run(self.trainer)
            if newest is None:
                raise UserError(
                    f"There is no last checkpoint in {self.trainer.default_root_dir}.\n"
                    f"Train first, or give the --trainer.default_root_dir of the run that you want to {subcommand}."
                )
            kwargs["ckpt_path"] = str(newest)
        return {**kwargs, "weights_only": True}
