"""The Trainer: Lightning's, with defaults that suit reading pages."""

from typing import Any

from lightning.pytorch import Trainer as LightningTrainer


class Trainer(LightningTrainer):
    """Lightning's Trainer; every option of it is available."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
