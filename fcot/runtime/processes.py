"""Work that one of several processes does while the others wait."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lightning.pytorch import Trainer
from torch import distributed

from fcot.errors import UserError


def first_alone(trainer: Trainer, work: Callable[[], object], patience: timedelta) -> None:
    """Do work on the first process; the others wait for it, and raise an error if it fails or dies.

    They wait in a separate process group on the CPU, because the usual timeout is meant for steps and the work may take
    hours. The work must not contain collectives.

    Args:
        trainer: Whose processes these are.
        work: What to do.
        patience: How long to wait at most.

    Raises:
        UserError: On the others, if the work failed; on the first process its own error is passed on.
    """
    if trainer.world_size == 1:
        work()
        return
    group = distributed.new_group(backend="gloo", timeout=patience)
    error: BaseException | None = None
    if trainer.is_global_zero:
        try:
            work()
        except BaseException as found:
            error = found
    failed = [error is not None]
    distributed.broadcast_object_list(failed, src=0, group=group)
    distributed.destroy_process_group(group)
    if error is not None:
        raise error
    if failed[0]:
        raise UserError("The first process failed while this one waited.\nIts own message says why.")


def of_all(value: Any) -> list[Any]:
    """Return a small plain value from each process, in rank order; every process must call this."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
