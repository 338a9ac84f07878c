"""Durable changes on their way to the file: collected in the reactor, written in a thread.

One transaction takes all that came while the one before was under way.
"""

from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.engine._file import EngineFile, Row
from erlmcp.interfaces import EngineFull, NotDurable
from erlmcp.pool import ThreadPool

log = Logger()

_BATCH = 1000
"""Rows in one transaction: what is left comes in the next one."""

_AGAIN = 1.0
"""Seconds from a failed transaction to the next."""


class _Write:
    """What a key is to become in the file, and who waits for it."""

    __slots__ = ("row", "waiting")

    def __init__(self, row: Row | None) -> None:
        self.row = row
        self.waiting: list[Deferred[None]] = []


class Writes:
    """Brings changes to the file, the last one of each key.

    Args:
        reactor: what it runs on.
        file: where to; only the thread uses it from now on.
        most: changes and those who wait for them, each, that are not written yet.
    """

    def __init__(self, reactor: Any, file: EngineFile, most: int) -> None:
        self.trouble: str | None = None
        self.failures = 0
        self._reactor = reactor
        self._file = file
        self._most = most
        self._thread = ThreadPool(reactor, size=1, queue=1, name="erlmcp-engine")
        self._due: dict[str, _Write] = {}
        self._waiting = 0
        self._busy = False
        self._timer: Any = None
        self._closing = False
        self._closed: Deferred[None] = Deferred()

    def __len__(self) -> int:
        """Changes that are not in a transaction yet."""
        return len(self._due)

    def check_room(self) -> None:
        """See that another change may come. Raises EngineFull."""
        if self._waiting >= self._most or len(self._due) >= self._most:
            raise EngineFull(f"{self._most} durable changes are not written yet")

    def add(self, key: str, row: Row | None) -> None:
        """Have a change written that nobody waits for."""
        self._add(key, row)

    def write(self, key: str, row: Row | None) -> Deferred[None]:
        """Have a change written; the Deferred fires when it is, or fails with `NotDurable`."""
        done: Deferred[None] = Deferred()
        self._add(key, row).waiting.append(done)
        self._waiting += 1
        return done

    def close(self) -> Deferred[None]:
        """Write what is left, then close the file. What cannot be written is given up, and said in the log."""
        if not self._closing:
            self._closing = True
            if self._timer is not None:
                self._timer.cancel()
            if not self._busy:
                self._wake()
        return self._closed

    def _add(self, key: str, row: Row | None) -> _Write:
        write = self._due.get(key)
        if write is None:
            write = self._due[key] = _Write(row)
        else:
            write.row = row
        if self._timer is None and not self._busy:
            self._wake()
        return write

    def _wake(self) -> None:
        """Go on in the next turn, so that what this one brings is one transaction; later where the last one failed."""
        patient = self.trouble is not None and not self._closing
        self._timer = self._reactor.callLater(_AGAIN if patient else 0.0, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._busy = True
        if self._due:
            batch = dict(islice(self._due.items(), _BATCH))
            for key in batch:
                del self._due[key]
            rows = [(key, write.row) for key, write in batch.items()]
            self._thread.run(self._file.write, rows).addBoth(self._written, batch)
        else:
            self._thread.run(self._file.close).addBoth(self._end)

    def _written(self, result: Failure | None, batch: dict[str, _Write]) -> None:
        self._busy = False
        waiting = [done for write in batch.values() for done in write.waiting]
        self._waiting -= len(waiting)
        if isinstance(result, Failure):
            self._note(result, batch)
            for done in waiting:
                done.errback(NotDurable(f"it is not written: {self.trouble}"))
        else:
            if self.trouble is not None:
                log.info("{file} is written again", file=self._file.file)
            self.trouble = None
            for done in waiting:
                done.callback(None)
        if self._timer is None and (self._due or self._closing):
            self._wake()

    def _note(self, failure: Failure, batch: dict[str, _Write]) -> None:
        if self.trouble is None:
            log.error(
                "{file} cannot be written: {error}", file=self._file.file, error=failure.getErrorMessage()
            )
        self.trouble = failure.getErrorMessage()
        self.failures += 1
        if self._closing:
            left = len(batch) + len(self._due)
            log.error("{left} durable changes are given up", left=left)
            for write in self._due.values():
                for done in write.waiting:
                    done.errback(NotDurable(f"it is not written: {self.trouble}"))
            self._due.clear()
            return
        # What came for a key meanwhile is newer; the rest is tried again, before it.
        for write in batch.values():
            write.waiting = []
        self._due = {**batch, **self._due}

    def _end(self, result: Failure | None) -> None:
        if isinstance(result, Failure):
            log.failure("closing {file} failed", result, file=self._file.file)
        self._thread.stop()
        self._closed.callback(None)
