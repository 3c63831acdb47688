"""Several workers that share jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from ofa_tvm.devices.workers.worker import Message, Worker


class WorkerPool:
    """Runs jobs on whichever worker is free.

    Args:
        workers: the workers, which are closed with the pool.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._free: Queue[Worker] = Queue()
        for worker in workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(len(workers))

    def start(self) -> None:
        """Wait until all workers are warm.

        Raises:
            DeviceUnreachable: one could not start.
        """
        for worker in self._workers:
            worker.start()

    def map(self, job: str, timeout_s: float, arguments: Sequence[Mapping[str, object]]) -> Iterator[Message]:
        """Answers of a job for each set of arguments, in order, as they come; see ``Worker.call``."""
        return self._threads.map(lambda values: self._call(job, timeout_s, values), arguments)

    def _call(self, job: str, timeout_s: float, arguments: Mapping[str, object]) -> Message:
        worker = self._free.get()
        try:
            return worker.call(job, timeout_s, **arguments)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End all workers; jobs that wait are not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()
