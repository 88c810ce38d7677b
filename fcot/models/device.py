"""Choose where to run, by name."""

import torch

from fcot.errors import UserError


def device_of(name: str) -> torch.device:
    """Return the device to run on; "auto" is an accelerator if there is one.

    Raises:
        UserError: If there is no such device.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # either, depending on how torch was built
        reason = str(error).splitlines()[0]
        raise UserError(f"There is no device {name!r} here ({reason}).\nGive --device cpu, or none.") from error
