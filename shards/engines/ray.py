"""Tasks of a Ray cluster; Ray runs a task again whose worker or machine died."""

import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fcot.errors import UserError
from shards.engines.engine import SECONDS, TRIES, Engine, Job, WorkerDiedError, needed
from shards.engines.local import cores

T = TypeVar("T")

OBJECTS_BYTES = 256 * 2**20  # shared memory of a cluster that is started here: results are hashes
CURRENT = Path("/tmp/ray/ray_current_cluster")  # where `ray start` leaves its address
# Of a cluster that is started here, which runs whatever it is sent: it listens on the loopback address alone, as Ray's
# do on Windows and macOS (https://github.com/ray-project/ray/issues/18730), and obeys this process alone.
PRIVATE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


class Ray(Engine):
    """Tasks of a Ray cluster; without an address, of one that is started on this machine for the command."""

    def open(self) -> None:
        """Connect, or start workers.

        Raises:
            UserError: If Ray is not installed, or there is no cluster at the address.
        """
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read on import: nothing is reported to anybody
        if self.address is None:
            os.environ.update(PRIVATE)
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once in a process
            os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise, where others compute all but a halt
            needed("ray", "ray").init(
                "local",
                num_cpus=self.workers or cores(),
                object_store_memory=OBJECTS_BYTES,
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
            return
        ray = needed("ray", "ray")
        self._reach()
        try:
            ray.init(self.address, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def close(self) -> None:
        """Disconnect, and end the cluster if it was started here."""
        needed("ray", "ray").shutdown()

    def run(self, function: Callable[..., T], jobs: Sequence[Job]) -> Iterator[T]:
        """Yield the result of each job."""
        ray = needed("ray", "ray")
        task = ray.remote(num_cpus=1, max_retries=TRIES - 1)(call)
        shared = ray.put(function)  # once, not with every job: an importer may hold a million records
        waiting = [task.remote(shared, *job) for job in jobs]
        try:
            while waiting:
                yield ray.get(waiting.pop(0))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # as the job raised it; Ray's own text is a traceback
        except ray.exceptions.RayError as error:
            raise WorkerDiedError(str(error).strip().splitlines()[0]) from error
        finally:
            # Of a task that has just ended it would end this process at times: Ray takes the end and the cancellation
            # for two ends (https://github.com/ray-project/ray/pull/54527)
            unfinished = ray.wait(waiting, num_returns=len(waiting), timeout=0)[1] if waiting else []
            for each in unfinished:
                ray.cancel(each)

    def _reach(self) -> None:
        """Refuse an address where nothing listens, for which Ray itself waits many minutes."""
        address = str(self.address)
        if address == "auto":  # where Ray looks itself; the file outlives a cluster that was killed
            address = os.environ.get("RAY_ADDRESS") or (CURRENT.read_text("utf-8") if CURRENT.is_file() else "")
        host, colon, port = address.strip().removeprefix("ray://").rpartition(":")
        if not (colon and port.isdecimal()):
            return  # of which Ray knows at once
        try:
            socket.create_connection((host, int(port)), SECONDS).close()
        except OSError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UserError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return UserError(
            f"There is no Ray cluster at {self.address} ({reason}).\n"
            "Start one with ray start --head, on this machine or with this one among its nodes, or leave --address out."
        )


def call(function: Callable[..., Any], *job: Any) -> Any:
    """Run a job in a worker."""
    return function(*job)
