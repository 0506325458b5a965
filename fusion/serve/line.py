"""A bounded line of jobs and the one thread that does them, in order: nothing waits that was not counted."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

_REMEMBERED = 16  # jobs whose time tells how long the next ones will take

Result = TypeVar("Result")


class LineFull(Exception):  # noqa: N818 (it says what is the case)
    """There is no room for another job."""

    def __init__(self, limit: int, retry_after: int) -> None:
        super().__init__(f"the queue is full ({limit} requests wait): try again in about {retry_after} s")
        self.retry_after = retry_after  # s, a guess by the time that the last jobs took


class LineClosed(Exception):  # noqa: N818
    """The worker is shutting down."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down")


@dataclass(frozen=True)
class Place:
    """A job that waits, as others see it."""

    name: str
    position: int  # in the line, from 1
    seconds: float  # since it came


@dataclass(frozen=True)
class LineState:
    """What a line looks like at one moment."""

    limit: int  # jobs that may wait
    busy: bool  # a job is in hand
    waiting: tuple[Place, ...]  # the others, the next first
    done: int  # jobs that came to their end, well or not


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[], Any]
    name: str
    future: Future[Any] = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)


class Line:
    """One worker thread. Besides the job in hand `limit` may wait; a job whose future is cancelled leaves the line."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._jobs: deque[_Job] = deque()
        self._in_hand: _Job | None = None
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._done = 0
        self._closed = False
        self._change = threading.Condition()  # reentrant: a signal may come while its own thread holds it
        self._thread = threading.Thread(target=self._run, name="emerseg-worker", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Result], name: str = "") -> Future[Result]:
        """What becomes of `work`, once its turn came. Raises what `check_room` raises."""
        job = _Job(work, name)
        with self._change:
            self.check_room()
            self._jobs.append(job)
            self._change.notify_all()
        job.future.add_done_callback(lambda future: self._leave(job))
        return job.future

    def check_room(self) -> None:
        """LineFull if no more job may wait, LineClosed once `refuse` was called."""
        with self._change:
            if self._closed:
                raise LineClosed
            if len(self._jobs) + (self._in_hand is not None) > self.limit:
                raise self.full()

    def full(self) -> LineFull:
        """The error that there is no room; by the time of the last jobs it says when there may be."""
        with self._change:
            mean = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
        return LineFull(self.limit, max(1, math.ceil(mean)))

    @property
    def state(self) -> LineState:
        """The line at this moment."""
        now = time.monotonic()
        with self._change:
            places = (Place(job.name, number, now - job.came) for number, job in enumerate(self._jobs, start=1))
            return LineState(self.limit, self._in_hand is not None, tuple(places), self._done)

    def refuse(self) -> None:
        """Take no more jobs. Those that wait end with LineClosed; the one in hand is finished."""
        with self._change:
            self._closed = True
            dropped = list(self._jobs)
            self._jobs.clear()
            self._change.notify_all()
        for job in dropped:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(LineClosed())

    def close(self) -> None:
        """The same, and wait for the job in hand."""
        self.refuse()
        self._thread.join()

    def _leave(self, job: _Job) -> None:
        with self._change:
            if job in self._jobs:
                self._jobs.remove(job)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return
                job = self._in_hand = self._jobs.popleft()
            self._do(job)
            # Nothing of a job outlives it here: it may hold a large image.
            del job

    def _do(self, job: _Job) -> None:
        start = time.monotonic()
        if not job.future.set_running_or_notify_cancel():
            self._end(None)
            return
        try:
            result = job.work()
        except BaseException as error:
            self._end(start)
            job.future.set_exception(error)
        else:
            self._end(start)
            job.future.set_result(result)

    def _end(self, start: float | None) -> None:
        """Before others hear of it: whoever has an answer sees it in the state."""
        with self._change:
            self._in_hand = None
            if start is not None:
                self._seconds.append(time.monotonic() - start)
                self._done += 1
