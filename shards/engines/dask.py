"""Workers of a Dask cluster; its scheduler gives a job to another worker if one dies."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from fcot.errors import UserError
from shards.engines.engine import SECONDS, Engine, Job, WorkerDiedError, needed
from shards.engines.local import cores

T = TypeVar("T")


class Dask(Engine):
    """Workers of a Dask cluster; without an address, of one that is started on this machine for the command."""

    _cluster: Any = None
    _client: Any = None

    def open(self) -> None:
        """Connect, or start workers.

        Raises:
            UserError: If Dask is not installed, no scheduler answers, or its workers are none or have several threads.
        """
        distributed = needed("distributed", "dask")
        if self.address is None:
            self._cluster = distributed.LocalCluster(
                n_workers=self.workers or cores(),
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                memory_limit=0,  # as much as processes without Dask may take
                silence_logs=logging.CRITICAL,  # of a worker that died and was made up for
            )
        try:
            self._client = distributed.Client(self._cluster or self.address, timeout=SECONDS, set_as_default=False)
            self._client.wait_for_workers(1, timeout=SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            self.close()
            what = "a Dask scheduler" if self._client is None else "a Dask worker"
            raise UserError(
                f"There is no {what.removeprefix('a ')} at {self.address} ({error}).\n"
                "Start dask scheduler and dask worker, and give the address that the scheduler prints, "
                "such as tcp://HOST:8786."
            ) from error
        self._refuse_threads()

    def _refuse_threads(self) -> None:
        """Refuse workers that run several jobs in a process: neither Matplotlib nor PDFium may be called so."""
        for name, worker in self._client.scheduler_info(n_workers=-1)["workers"].items():
            if worker["nthreads"] > 1:
                self.close()
                raise UserError(
                    f"The Dask worker {name} has {worker['nthreads']} threads; shards are written by one a process.\n"
                    f"Start it with: dask worker --nworkers {worker['nthreads']} --nthreads 1 {self.address}"
                )

    def close(self) -> None:
        """Disconnect, and end the workers that were started here."""
        for each in (self._client, self._cluster):
            if each is not None:
                each.close()

    def run(self, function: Callable[..., T], jobs: Sequence[Job]) -> Iterator[T]:
        """Yield the result of each job."""
        distributed = needed("distributed", "dask")
        waiting = self._client.map(function, *zip(*jobs, strict=True), pure=False, batch_size=None)
        try:
            for each in waiting:
                yield each.result()
        except distributed.scheduler.KilledWorker as error:
            raise WorkerDiedError(f"the last one at {error.last_worker.address}") from error
        except CancelledError as error:
            raise UserError(
                f"The Dask scheduler at {self.address} ended before its jobs.\nStart it and run the same command again."
            ) from error
        finally:
            self._client.cancel(waiting, force=True)
