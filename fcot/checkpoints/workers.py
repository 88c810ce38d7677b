"""Data workers when a job is told to end."""

import signal

SECONDS_TO_LEAVE = 60


def outlive_sigterm(worker: int) -> None:
    """Let a data worker go on when its process group gets SIGTERM: the trainer needs it until it has saved.

    Give it as `worker_init_fn`. The worker ends with its trainer, at the latest a minute after the signal.

    Args:
        worker: Number of the worker.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(SECONDS_TO_LEAVE))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
