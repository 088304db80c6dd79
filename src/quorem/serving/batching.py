"""Batches: one thread owns the model, and gathers what waits for the same operation into one call of it."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

Compute = Callable[[list[Any]], Sequence[Any]]
"""Rows -> a result for each, in order."""


class Overloaded(Exception):
    """More rows wait than may: the request was refused."""


@dataclass
class Job:
    """Rows of one request that are computed together.

    Attributes:
        key: jobs of the same key may share a batch.
        compute: what makes results of the rows, the same for all jobs of a key.
        rows: at most as many as a batch has.
        since: when it was handed in, by time.monotonic.
        found: its results.
    """

    key: Hashable
    compute: Compute
    rows: list[Any]
    since: float = field(default_factory=time.monotonic)
    found: "Future[Sequence[Any]]" = field(default_factory=Future)


class Batcher:
    """Calls of a model from an event loop, in batches, on one thread of its own.

    A batch begins with the oldest job and takes others of its key until it is full or the oldest has waited long
    enough; whatever has gathered while the model was busy is taken without waiting. A request of more rows than a
    batch is cut, so that a small one waits for one batch of it at most.

    Args:
        max_batch: rows of a batch.
        max_wait: seconds that the first job waits for others.
        max_queue: rows that may wait.
    """

    def __init__(self, *, max_batch: int, max_wait: float, max_queue: int) -> None:
        self.max_batch, self.max_wait, self.max_queue = max_batch, max_wait, max_queue
        self.batches = self.rows = 0  # computed so far
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="quorem-model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Refuse what waits, finish the batch that is being computed and end the thread."""
        with self._changed:
            self._closed = True
            left, self._jobs = self._jobs, deque()
            self._changed.notify_all()
        for job in left:
            job.found.cancel()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether rows are taken and computed."""
        return self._thread.is_alive() and not self._closed

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        with self._changed:
            return self._waiting()

    async def __call__(self, key: Hashable, compute: Compute, rows: list[Any], *, timeout: float) -> list[Any]:
        """The results of rows, in order.

        Args:
            key: of the operation and its options.
            compute: what makes results of rows.
            rows: any number.
            timeout: seconds; what is not begun by then is not computed.

        Raises:
            Overloaded: if too much waits already.
            TimeoutError: if it takes longer.
            Exception: what `compute` raised for these rows.
        """
        size = self.max_batch
        jobs = [Job(key, compute, rows[start : start + size]) for start in range(0, len(rows), size)]
        with self._changed:
            if self._closed or self._waiting() + len(rows) > self.max_queue:
                raise Overloaded
            self._jobs.extend(jobs)
            self._changed.notify()
        async with asyncio.timeout(timeout):
            pieces = await asyncio.gather(*(asyncio.wrap_future(job.found) for job in jobs))
        return [each for piece in pieces for each in piece]

    def _waiting(self) -> int:
        return sum(len(job.rows) for job in self._jobs if not job.found.cancelled())

    def _work(self) -> None:
        while batch := self._next():
            running = [job for job in batch if job.found.set_running_or_notify_cancel()]
            if running:
                _compute(running)
                self.batches, self.rows = self.batches + 1, self.rows + sum(len(job.rows) for job in running)
            batch = running = []  # no results are kept while the thread waits

    def _next(self) -> list[Job]:
        """Jobs of one key that fit into a batch, once there are some; none after `close`."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return []
                self._drop_cancelled()
                if self._jobs:
                    break
            first = self._jobs[0]
            while not self._is_full(first) and (left := first.since + self.max_wait - time.monotonic()) > 0:
                self._changed.wait(left)
                if self._closed:
                    return []
            return self._take(first)

    def _drop_cancelled(self) -> None:
        self._jobs = deque(job for job in self._jobs if not job.found.cancelled())

    def _is_full(self, first: Job) -> bool:
        return sum(len(job.rows) for job in self._jobs if job.key == first.key) >= self.max_batch

    def _take(self, first: Job) -> list[Job]:
        """The first job and the next ones of its key that fit; the others stay, in order."""
        taken, kept, room, full = list[Job](), deque[Job](), self.max_batch, False
        for job in self._jobs:
            same = job.key == first.key
            full = full or (same and len(job.rows) > room)  # nobody is overtaken
            if same and not full:
                taken.append(job)
                room -= len(job.rows)
            else:
                kept.append(job)
        self._jobs = kept
        return taken


def _compute(jobs: list[Job]) -> None:
    """Results for all jobs by one call; where it fails, by a call for each, so that one bad row spoils no other."""
    rows = [row for job in jobs for row in job.rows]
    try:
        found = jobs[0].compute(rows)
        if len(found) != len(rows):
            raise RuntimeError(f"{len(found)} results for {len(rows)} rows")
    except Exception as error:
        if len(jobs) == 1:
            jobs[0].found.set_exception(error)
            return
        for job in jobs:
            _compute([job])
        return
    start = 0
    for job in jobs:
        job.found.set_result(found[start : start + len(job.rows)])
        start += len(job.rows)
