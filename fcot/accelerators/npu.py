"""Ascend NPUs for Lightning: the device itself, strategies for one and for many, and mixed precision."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

NAME = "npu"
MIXED = {"bf16": "bf16-mixed", "bf16-mixed": "bf16-mixed", "16": "16-mixed", "16-mixed": "16-mixed"}


class NPUAccelerator(Accelerator):
    """An Ascend NPU, driven by torch_npu through `torch.accelerator`."""

    def setup_device(self, device: torch.device) -> None:
        """Make a device the current one of this process."""
        torch.accelerator.set_device_index(device.index or 0)

    def teardown(self) -> None:
        """Give cached memory back."""
        torch.accelerator.empty_cache()

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        """Return the device's memory statistics in bytes."""
        return dict(torch.accelerator.memory_stats(device))

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """Return device indices for a count, -1 for all, or a list such as "0,2"."""
        if isinstance(devices, list):
            return devices
        if isinstance(devices, str) and "," in devices:
            return [int(index) for index in devices.split(",") if index.strip()]
        count = int(devices)
        return list(range(NPUAccelerator.auto_device_count() if count == -1 else count))

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """Return the devices of indices."""
        return [torch.device(NAME, index) for index in devices]

    @staticmethod
    def auto_device_count() -> int:
        """Return how many devices there are."""
        return torch.accelerator.device_count() if NPUAccelerator.is_available() else 0

    @staticmethod
    def is_available() -> bool:
        """Return whether torch_npu is installed and sees a device."""
        if find_spec("torch_npu") is None:
            return False
        import_module("torch_npu")
        device = torch.accelerator.current_accelerator(check_available=True)
        return device is not None and device.type == NAME

    @staticmethod
    def name() -> str:
        """Return the name in configurations."""
        return NAME


class NPUDDPStrategy(DDPStrategy):
    """DDP over HCCL."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"process_group_backend": "hccl", **options})

    def determine_ddp_device_ids(self) -> None:
        """Return None: with device ids, Lightning opens a CUDA stream around DDP's construction."""


def npu_options(devices: int | str | list[int], precision: Any, num_nodes: int = 1) -> dict[str, Any]:
    """Return the Trainer options that Lightning would guess wrong for NPUs: strategy and precision.

    Args:
        devices: As for the Trainer.
        precision: As for the Trainer; mixed precision becomes a plugin that casts on the NPU.
        num_nodes: Machines of the run.
    """
    indices = NPUAccelerator.parse_devices(-1 if devices == "auto" else devices)
    one = len(indices) == 1 and num_nodes == 1
    strategy: Strategy = SingleDeviceStrategy(torch.device(NAME, indices[0])) if one else NPUDDPStrategy()
    mixed = MIXED.get(str(precision))
    plugin = MixedPrecision(mixed, NAME) if mixed else None  # type: ignore[arg-type]
    return {"strategy": strategy, "precision": None if mixed else precision, "plugin": plugin}


AcceleratorRegistry.register(NAME, NPUAccelerator, description="Ascend NPU", override=True)
