"""Verbs of the trainer: LightningCLI with short errors, safe checkpoints and quiet logs."""

import logging
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import yaml
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.fabric.utilities.exceptions import MisconfigurationException

import callbacks
from fcot.errors import UserError
from fcot.explain import RaisesParseError
from fcot.module import PageModule
from fcot.plugins import load_declared
from fcot.trainer import Trainer
from fcot.verbs import PROGRAM, VERBS
from shards.datamodule import Shards

MODULES = ("fcot.sft", "fcot.realign")
NAMED_CHECKPOINTS = ("last", "best", "hpc")


def run_trainer(words: list[str]) -> None:
    """Run a verb of the trainer.

    Args:
        words: The verb and its options.

    Raises:
        UserError: If what the options describe cannot be built or run.
        ParseError: If they cannot be read.
    """
    quieten()
    load_classes()
    descriptions = {name: {"description": VERBS[name].summary} for name in TrainerCLI.subcommands()}
    try:
        TrainerCLI(
            PageModule,
            Shards,
            trainer_class=Trainer,
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={"prog": PROGRAM, **descriptions},
            args=words,
        )
    except MisconfigurationException as error:  # what Lightning calls a user error
        raise UserError(str(error)) from error


def load_classes() -> None:
    """Import all callbacks, modules and plugins, so that short class names are known in configurations."""
    for module in iter_modules(callbacks.__path__, "callbacks."):
        import_module(module.name)
    for name in MODULES:
        import_module(name)
    load_declared()


def quieten() -> None:
    """Silence lines that tell a user nothing."""
    # Lightning still makes a LeafSpec at every step: https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # advertisements of other products: https://github.com/Lightning-AI/pytorch-lightning/issues/21294
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(is_no_tip)


def is_no_tip(record: logging.LogRecord) -> bool:
    """Return whether a log record is more than a tip."""
    return "💡 Tip" not in str(record.msg)


class Parser(RaisesParseError, LightningArgumentParser):
    """Lightning's parser with errors of a few lines."""


class TrainerCLI(LightningCLI):
    """LightningCLI for `PageModule` and `Shards`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs and the arguments they do not offer: checkpoints are always read weights-only."""
        return {verb: {*skipped, "weights_only"} for verb, skipped in LightningCLI.subcommands().items()}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; Lightning's own warns that the words came from within Python."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the checkpoint closed: Lightning reads all of it for settings that then beat the command line."""

    def before_instantiate_classes(self) -> None:
        """Refuse a checkpoint that is not there, and keep a test's configuration apart from the training's."""
        path = self._get(self.config, "ckpt_path")
        if path and path not in NAMED_CHECKPOINTS and "://" not in path and not Path(path).exists():
            raise UserError(
                f"There is no checkpoint at {path!r}.\n"
                "Give a file, or `--ckpt_path last` for the newest one in the run's own folder."
            )
        filename = "config.yaml" if self.subcommand == "fit" else f"config_{self.subcommand}.yaml"
        self.save_config_kwargs = {"config_filename": filename, "overwrite": True}

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; a value that a constructor refuses is the user's to mend."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise UserError(str(error)) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with this project's progress bar where the configuration names none."""
        trainer = self._get(self.config_init, "trainer")
        chosen = trainer.get("callbacks") or []
        chosen = list(chosen) if isinstance(chosen, list) else [chosen]
        wanted = trainer.get("enable_progress_bar") is not False
        if (
            wanted
            and not any(isinstance(callback, ProgressBar) for callback in chosen)
            and find_spec("callbacks.progress")
        ):
            kwargs["callbacks"] = [*chosen, import_module("callbacks.progress").Progress()]
        built: Trainer = super().instantiate_trainer(**kwargs)
        return built

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if kwargs.get("ckpt_path") == "last" and subcommand != "fit" and not self.trainer.last_checkpoints():
            raise UserError(
                f"There is no last checkpoint in {self.trainer.default_root_dir}.\n"
                f"Train first, or give the --trainer.default_root_dir of the run that you want to {subcommand}."
            )
        return {**kwargs, "weights_only": True}


def from_config(path: Path) -> tuple[Trainer, PageModule, Shards]:
    """Build trainer, module and data from the config.yaml of a run, without running anything."""
    quieten()
    load_classes()
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    cli = TrainerCLI(
        PageModule,
        Shards,
        trainer_class=Trainer,
        subclass_mode_model=True,
        auto_configure_optimizers=False,
        save_config_callback=None,
        parser_class=Parser,
        run=False,
        args={key: settings[key] for key in ("seed_everything", "trainer", "model", "data") if key in settings},
    )
    return cli.trainer, cli.model, cli.datamodule
