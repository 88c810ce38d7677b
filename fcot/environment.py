"""The software and the machine that a report was written with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("fcot", "transformers", "lightning")


def environment() -> dict[str, str]:
    """Return versions of the packages that matter, and the names of processor and accelerator."""
    import torch

    return {
        "python": platform.python_version(),
        **{package: installed(package) for package in PACKAGES},
        "torch": str(torch.__version__),  # with its build, as in 2.13.0+cu130, which a package index may leave out
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "accelerator": accelerator(),
    }


def installed(package: str) -> str:
    """Return a package's version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def processor() -> str:
    """Return the processor's name as Linux gives it, elsewhere its family."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def accelerator() -> str:
    """Return the accelerator's name, "none" without one."""
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return "none"
    name = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(name()) if name else device.type
