"""The command line: `python -m fcot VERB …`."""

import sys


def main(args: list[str] | None = None) -> None:
    """Run a verb."""
    from lightning.pytorch.cli import LightningCLI

    from fcot.module import PageModule
    from fcot.trainer import Trainer
    from shards.datamodule import Shards
    import fcot.sft

    LightningCLI(
        PageModule,
        Shards,
        trainer_class=Trainer,
        subclass_mode_model=True,
        args=args if args is not None else sys.argv[1:],
        auto_configure_optimizers=False,
    )
