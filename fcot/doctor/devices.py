"""The devices of this machine."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from fcot.environment import accelerator, processor


@dataclass(frozen=True)
class Devices:
    """Processor, accelerators and their memory in bytes; 0 where it is unknown.

    Attributes:
        processor: Name of the processor.
        cores: Its cores.
        ram: Memory of the machine.
        kind: Type of device that training would run on, as torch names it: cpu, cuda, npu, …
        accelerator: Name of the accelerator, "none" without one.
        count: How many accelerators there are.
        memory: Memory of one accelerator.
        disk: Free space in the working folder.
    """

    processor: str
    cores: int
    ram: int
    kind: str
    accelerator: str
    count: int
    memory: int
    disk: int

    @property
    def room(self) -> int:
        """Memory of one device that training would run on."""
        return self.memory if self.count else self.ram


def devices() -> Devices:
    """Look at this machine."""
    device = torch.accelerator.current_accelerator(check_available=True)
    memory = 0
    if device is not None:
        ask = getattr(torch.get_device_module(device), "mem_get_info", None)  # not every accelerator tells
        memory = int(ask()[1]) if ask else 0
    return Devices(
        processor=processor(),
        cores=os.cpu_count() or 0,
        ram=_ram(),
        kind="cpu" if device is None else device.type,
        accelerator=accelerator(),
        count=0 if device is None else torch.accelerator.device_count(),
        memory=memory,
        disk=shutil.disk_usage(Path.cwd()).free,
    )


def _ram() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return 0
