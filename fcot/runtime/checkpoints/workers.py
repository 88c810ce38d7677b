"""How data workers end: with their job, and with their own process."""

import atexit
import os
import signal
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any
from weakref import WeakSet

SECONDS_TO_LEAVE = 60


class OutlivesSigterm:
    """Keeps a data worker running when its process group gets SIGTERM: the trainer needs it until it has saved.

    Give it as `worker_init_fn`. The worker ends with its trainer, at the latest a minute after the signal. When the
    trainer itself leaves, it says so first (`end_workers`): a process that exits sends its workers SIGTERM too, and
    waits for them without end.

    Args:
        loader: The `torch.utils.data.DataLoader` whose workers these are.
    """

    def __init__(self, loader: Any) -> None:
        self.leaving = RawValue("b", 0)  # in memory that workers share, read in a signal handler: without a lock
        _loaders.add(loader)

    def __call__(self, worker: int) -> None:
        """Set what a worker does on signals; called in it.

        Args:
            worker: Number of the worker.
        """
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self.leaving.value:
            os._exit(0)  # as torch's own workers do when their parent ends; another code is an error of the parent's
        signal.alarm(SECONDS_TO_LEAVE)


_loaders: WeakSet[Any] = WeakSet()


def end_workers() -> None:
    """Have the workers of all loaders leave now, whatever they are doing: nobody waits for their batches any more.

    A loader that is read again starts new ones.
    """
    for loader in list(_loaders):
        # torch has no public way to end workers that persist: https://github.com/pytorch/pytorch/issues/48666
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None:
            loader.worker_init_fn.leaving.value = 1
            for worker in getattr(iterator, "_workers", ()):
                worker.terminate()
            loader._iterator, loader.worker_init_fn = None, OutlivesSigterm(loader)


# Runs before multiprocessing's own function, which is registered by the import above and waits for workers.
atexit.register(end_workers)
