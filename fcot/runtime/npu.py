"""Ascend NPUs for Lightning: the device itself, strategies for one and for many, and mixed precision."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

NAME = "npu"
MIXED: dict[str, Literal["16-mixed", "bf16-mixed"]] = {
    **dict.fromkeys(("16", "16-mixed"), "16-mixed"),
    **dict.fromkeys(("bf16", "bf16-mixed"), "bf16-mixed"),
}


class NPUAccelerator(Accelerator):
    """An Ascend NPU, driven by torch_npu through `torch.accelerator`."""

    def setup_device(self, device: torch.device) -> None:
        """Make a device the current one of this process."""
        torch.accelerator.set_device_index(device.index or 0)

    def teardown(self) -> None:
        """Give cached memory back."""
        # torch.accelerator's fails with torch_npu's allocator: https://github.com/vllm-project/speculators/pull/1025
        torch.get_device_module(NAME).empty_cache()

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


def npu_strategy(devices: int | str | list[int], num_nodes: int = 1) -> Strategy:
    """Return the strategy for devices given as for the Trainer; Lightning would put a single one on the CPU."""
    indices = NPUAccelerator.parse_devices(-1 if devices == "auto" else devices)
    alone = len(indices) == 1 and num_nodes == 1
    return SingleDeviceStrategy(torch.device(NAME, indices[0])) if alone else NPUDDPStrategy()


def npu_precision(precision: Any) -> MixedPrecision | None:
    """Return a plugin for mixed precision, None for any other; Lightning's own would cast on CUDA devices."""
    mixed = MIXED.get(str(precision))
    return MixedPrecision(mixed, NAME) if mixed else None


AcceleratorRegistry.register(NAME, NPUAccelerator, description="Ascend NPU", override=True)
