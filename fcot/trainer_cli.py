"""Verbs of the trainer: LightningCLI with short errors, safe checkpoints and quiet logs."""

import logging
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

# torch 2.13 deprecates what Lightning 2.6 still calls at every step.
# https://github.com/Lightning-AI/pytorch-lightning/issues/21255
warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)

from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import callbacks
from fcot.errors import UserError
from fcot.explain import RaisesParseError
from fcot.module import PageModule
from fcot.plugins import load_declared
from fcot.trainer import Trainer
from fcot.verbs import PROGRAM, VERBS
from shards.datamodule import Shards

NAMED_CHECKPOINTS = ("last", "best", "hpc")


class Parser(RaisesParseError, LightningArgumentParser):
    """Lightning's parser with errors of a few lines."""


class TrainerCLI(LightningCLI):
    """LightningCLI for `PageModule` and `Shards`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs and the arguments they do not offer; checkpoints are always read weights_only."""
        return {verb: {*skipped, "weights_only"} for verb, skipped in LightningCLI.subcommands().items()}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; Lightning's own warns that arguments came from within Python."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        # Lightning reads the whole file on every rank for hyperparameters, which then beat the command line.
        path = self._get(self.config, "ckpt_path") if "subcommand" in self.config else None

    def before_instantiate_classes(self) -> None:
        """Check the checkpoint's path early, and keep the run's configuration apart from a test's."""
