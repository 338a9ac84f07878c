"""A bounded pool of daemonic threads with one FIFO queue, so that blocking functions never stop the reactor.

Not Twisted's: its queue has no bound, and its threads are joined, so one that hangs would keep the process.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

T = TypeVar("T")


_here = threading.local()


class QueueFull(Exception):  # noqa: N818 - it reads as what it says
    """All threads are busy and as many functions wait as may."""


class _Job:
    __slots__ = ("arguments", "call", "deferred", "keywords")

    def __init__(
        self,
        deferred: Deferred[Any],
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        self.deferred: Deferred[Any] | None = deferred
        self.call = call
        self.arguments = arguments
        self.keywords = keywords


class ThreadPool:
    """Runs functions in threads, in the order in which they came.

    Threads are started when they are needed, up to `size`, and stay. `run` and `stop` belong to the reactor's thread.

    Args:
        reactor: where results go.
        size: the most threads.
        queue: the most functions that wait for one.
        name: what the threads are called.
    """

    def __init__(self, reactor: IReactorFromThreads, size: int, queue: int, name: str = "erlmcp") -> None:
        if size < 1 or queue < 0:
            raise ValueError(
                f"a pool has at least one thread and a queue of at least 0, not {size} and {queue}"
            )
        self._reactor = reactor
        self._size = size
        self._queue = queue
        self._name = name
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._stopped = False

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._threads

    @property
    def inside(self) -> bool:
        """Whether the caller runs in one of its threads."""
        return getattr(_here, "pool", None) is self

    @property
    def waiting(self) -> int:
        """How many functions wait for a thread."""
        return max(0, len(self._waiting) - self._idle)

    def run(self, call: Callable[..., T], /, *arguments: Any, **keywords: Any) -> Deferred[T]:
        """Call the function in a thread.

        Cancelling the Deferred takes the function out of the queue; one that runs already goes on, and its result
        is dropped.

        Raises:
            QueueFull: there is no room for it.
            RuntimeError: the pool is stopped.
        """
        if self._stopped:
            raise RuntimeError("the thread pool is stopped")
        deferred: Deferred[T] = Deferred(lambda _: self._forget(job))
        job = _Job(deferred, call, arguments, keywords)
        with self._changed:
            if len(self._waiting) < self._idle:
                pass
            elif self._threads < self._size:
                self._start_thread()
            elif len(self._waiting) - self._idle >= self._queue:
                raise QueueFull(f"{self._size} threads are busy and {self._queue} functions wait for one")
            self._waiting.append(job)
            self._changed.notify()
        return deferred

    def stop(self) -> None:
        """Take no more; what waits is cancelled, what runs is abandoned. Idle threads end now, others when they can."""
        with self._changed:
            self._stopped = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in dropped:
            if job.deferred is not None:
                job.deferred.errback(CancelledError("the thread pool was stopped"))

    def _forget(self, job: _Job) -> None:
        job.deferred = None
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def _start_thread(self) -> None:
        """Start a thread; it counts as idle until it takes its first job."""
        self._threads += 1
        self._idle += 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True)
        thread.start()

    def _work(self) -> None:
        _here.pool = self
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    self._idle -= 1
                    self._threads -= 1
                    return
                job = self._waiting.popleft()
                self._idle -= 1
            result: Any
            try:
                result = job.call(*job.arguments, **job.keywords)
            except BaseException:  # noqa: BLE001 - whatever it raises is the caller's, a thread has no other reader
                result = Failure()
            with self._changed:
                self._idle += 1
                stopped = self._stopped
            if not stopped:
                self._reactor.callFromThread(self._deliver, job, result)
            del job, result

    @staticmethod
    def _deliver(job: _Job, result: Any) -> None:
        deferred, job.deferred = job.deferred, None
        if deferred is not None:
            deferred.callback(result)
