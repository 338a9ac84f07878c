"""The engine of one process: everything in its memory, what must outlive a restart in a file as well."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from erlmcp.engine._arguments import check_give, check_key, check_put, check_register, check_take
from erlmcp.engine._bounds import Bounds, check_name
from erlmcp.engine._buckets import Buckets
from erlmcp.engine._clock import SteadyClock
from erlmcp.engine._file import EngineFile, EngineFileError, Row
from erlmcp.engine._records import NAMES, Holding, Record, Records
from erlmcp.engine._watches import Changes, Hints, check_room
from erlmcp.engine._writes import Writes
from erlmcp.interfaces import (
    Conflict,
    EngineError,
    Grant,
    IEngine,
    KeyChange,
    KeySnapshot,
    Lease,
    LeaseLost,
    NameTaken,
    Stored,
)
from erlmcp.timing import Wheel


@implementer(IEngine)
class EmbeddedEngine:
    """An engine in this process.

    Every Deferred has fired when it is returned, but for durable changes: those fire when they are in the file.
    Without a file nothing is durable, and `durable` changes nothing.

    Args:
        reactor: what it runs on; provides `IReactorTime` and, for the file, `IReactorFromThreads`.
        file: what outlives a restart, read by `start`; None for nothing.
        bounds: how much there may be.
        wall: seconds since the epoch.
        steady: seconds of a clock that is never set.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        file: Path | None = None,
        bounds: Bounds | None = None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._path = file
        self._bounds = bounds = bounds or Bounds()
        self._wall = wall
        self._steady = steady
        self._wheel = Wheel(SteadyClock(reactor, steady), tick=1.0, slots=512)
        self._records = Records(bounds, wall, steady)
        self._holdings: dict[str, Holding] = {}
        self._buckets = Buckets(bounds.buckets)
        self._changes = Changes(reactor, bounds, self._first(), self._snapshot)
        self._hints = Hints(reactor, bounds.hints)
        self._writes: Writes | None = None
        self._open = file is None
        self._closing: Deferred[None] | None = None

    @property
    def entries(self) -> int:
        """How many keys there are, with those that are over and not removed yet."""
        return len(self._records)

    @property
    def memory(self) -> int:
        """How many bytes they count."""
        return self._records.memory

    @property
    def failures(self) -> int:
        """How many transactions on the file have failed."""
        return 0 if self._writes is None else self._writes.failures

    @property
    def trouble(self) -> str | None:
        """Why durable changes are not written now; None if they are."""
        return None if self._writes is None else self._writes.trouble

    def start(self) -> None:
        """Read the file, if there is to be one, and make it if it is missing. Blocks; called before the reactor runs.

        Raises:
            EngineFileError: it cannot be used; the message names it.
        """
        if self._path is None or self._open or self._closing is not None:
            return
        file = EngineFile(self._path)
        try:
            self._changes.revision = file.begin(self._first())
            self._load(file.rows(self._wall(), self._bounds.entries))
        except EngineFileError:
            file.close()
            raise
        self._writes = Writes(self._reactor, file, self._bounds.writes)
        self._open = True

    def close(self) -> Deferred[None]:
        """Write what is not written yet, and end. Nothing can be changed any more. Safe to call twice."""
        if self._closing is None:
            self._open = False
            self._wheel.stop()
            self._changes.stop()
            self._hints.stop()
            self._closing = succeed(None) if self._writes is None else self._writes.close()
        waiting: Deferred[None] = Deferred()
        self._closing.addBoth(lambda _: waiting.callback(None))
        return waiting

    def peek(self, key: str) -> Stored | None:
        """See `IEngine`."""
        return self._records.peek(key)

    def get(self, key: str) -> Deferred[Stored | None]:
        """See `IEngine`."""
        return succeed(self._records.peek(key))

    def put(
        self,
        key: str,
        value: bytes,
        *,
        expires: float | None = None,
        lease: Lease | None = None,
        expect: int | None = None,
        durable: bool = False,
    ) -> Deferred[int]:
        """See `IEngine`."""
        check_put(key, value, expires, lease, durable=durable)
        try:
            self._check_open()
            before = self._expected(key, expect)
            holding = None if lease is None else self._holding(lease)
            self._records.check_room(key, value)
            written = self._writes is not None and (durable or (before is not None and before.durable))
            if written and self._writes is not None:
                self._writes.check_room()
        except EngineError as error:
            return fail(error)
        row = Row(value, self._changes.add(key, value), expires)
        self._set(key, row, holding).durable = durable
        if not written or self._writes is None:
            return succeed(row.revision)
        return self._writes.write(key, row if durable else None).addCallback(lambda _: row.revision)

    def delete(self, key: str, *, expect: int | None = None) -> Deferred[bool]:
        """See `IEngine`."""
        check_key(key)
        try:
            self._check_open()
            before = self._expected(key, expect)
            if before is None:
                return succeed(before is not None)
            if before.durable and self._writes is not None:
                self._writes.check_room()
        except EngineError as error:
            return fail(error)
        self._records.pop(key)
        self._changes.add(key, None)
        if not before.durable or self._writes is None:
            return succeed(before is not None)
        return self._writes.write(key, None).addCallback(lambda _: True)

    def register(self, name: str, owner: str, seconds: float) -> Deferred[Lease]:
        """See `IEngine`."""
        check_register(name, owner, seconds)
        key = NAMES + name
        try:
            self._check_open()
            held = self._live(name)
            if held is not None and held.lease.owner != owner:
                raise NameTaken(name, held.lease.owner)
            self._records.check_room(key, owner.encode())
        except EngineError as error:
            return fail(error)
        if held is not None:
            self._end(held)
        revision = self._changes.add(key, owner.encode())
        holding = Holding(Lease(name, owner, revision, seconds), self._steady() + seconds)
        self._holdings[name] = holding
        self._set(key, Row(owner.encode(), revision, None), holding)
        holding.timer = self._wheel.after(seconds, self._lapse, holding)
        return succeed(holding.lease)

    def renew(self, lease: Lease) -> Deferred[None]:
        """See `IEngine`."""
        try:
            self._check_open()
            holding = self._holding(lease)
        except EngineError as error:
            return fail(error)
        holding.until = self._steady() + lease.seconds
        return succeed(None)

    def release(self, lease: Lease) -> Deferred[None]:
        """See `IEngine`."""
        try:
            self._check_open()
        except EngineError as error:
            return fail(error)
        holding = self._live(lease.name)
        if holding is not None and holding.lease == lease:
            self._end(holding)
        return succeed(None)

    def lookup(self, name: str) -> Deferred[Stored | None]:
        """See `IEngine`."""
        return self.get(NAMES + name)

    def watch(
        self, prefix: str, watcher: Callable[[KeyChange | KeySnapshot], None], since: int | None = None
    ) -> Callable[[], None]:
        """See `IEngine`."""
        check_room(self._changes, self._hints, self._bounds.watchers)
        return self._changes.watch(prefix, watcher, since)

    def take(self, bucket: str, want: int, minimum: int = 1, *, rate: float, burst: float) -> Deferred[Grant]:
        """See `IEngine`."""
        check_take(bucket, want, minimum, rate, burst)
        try:
            self._check_open()
            return succeed(self._buckets.take(bucket, want, minimum, rate, burst, self._steady()))
        except EngineError as error:
            return fail(error)

    def give(self, bucket: str, count: int, *, rate: float) -> Deferred[None]:
        """See `IEngine`."""
        check_give(count, rate)
        self._buckets.give(bucket, count, rate, self._steady())
        return succeed(None)

    def publish(self, topic: str, payload: bytes) -> None:
        """See `IEngine`."""
        self._hints.publish(topic, payload)

    def subscribe(self, topic: str, hearer: Callable[[bytes], None]) -> Callable[[], None]:
        """See `IEngine`."""
        check_name("topic", topic)
        check_room(self._changes, self._hints, self._bounds.watchers)
        return self._hints.subscribe(topic, hearer)

    def _first(self) -> int:
        """Where revisions begin: past those of an earlier process, whose watchers may come with them."""
        return max(0, int(self._wall())) << 24

    def _check_open(self) -> None:
        if not self._open:
            raise EngineError(
                "the engine is closed" if self._closing is not None else "the engine has not started"
            )

    def _expected(self, key: str, expect: int | None) -> Record | None:
        """The record under a key, which is at the expected revision; None if there is none."""
        record = self._records.get(key)
        if record is not None and self._records.over(record):
            self._remove(key)
            record = None
        if expect is not None:
            revision = 0 if record is None else record.stored.revision
            if revision != expect:
                raise Conflict(key, expect, revision)
        return record

    def _live(self, name: str) -> Holding | None:
        """Who holds a name now."""
        holding = self._holdings.get(name)
        if holding is not None and self._steady() >= holding.until:
            self._end(holding)
            return None
        return holding

    def _holding(self, lease: Lease) -> Holding:
        holding = self._live(lease.name)
        if holding is None or holding.lease != lease:
            raise LeaseLost(lease)
        return holding

    def _end(self, holding: Holding) -> None:
        """A lease is over: its name is free, and what was under it is gone."""
        holding.timer.cancel()
        del self._holdings[holding.lease.name]
        for key in sorted(holding.keys):
            self._remove(key)

    def _lapse(self, holding: Holding) -> None:
        left = holding.until - self._steady()
        if left > 0:
            holding.timer = self._wheel.after(left, self._lapse, holding)
        else:
            self._end(holding)

    def _set(self, key: str, row: Row, holding: Holding | None) -> Record:
        left = 0.0 if row.expires is None else row.expires - self._wall()
        record = Record(Stored(row.value, row.revision), row.expires, self._steady() + left)
        record.holding = holding
        self._records.set(key, record)
        if row.expires is not None:
            record.timer = self._wheel.after(left, self._expire, key, record)
        return record

    def _expire(self, key: str, record: Record) -> None:
        if self._records.over(record):
            self._remove(key)
        else:
            # One of the clocks does not agree yet.
            left = max(record.until - self._steady(), (record.expires or 0.0) - self._wall())
            record.timer = self._wheel.after(left, self._expire, key, record)

    def _remove(self, key: str) -> None:
        record = self._records.pop(key)
        self._changes.add(key, None)
        if record is not None and record.durable and self._writes is not None:
            self._writes.add(key, None)

    def _snapshot(self, prefix: str) -> KeySnapshot:
        """All there is, once what is over is gone: what a snapshot leaves out must not be back when a clock is set."""
        for key, record in self._records.under(prefix):
            if record.holding is not None and self._records.over(record):
                self._live(record.holding.lease.name)
            elif self._records.over(record):
                self._remove(key)
        entries = {key: record.stored for key, record in self._records.under(prefix)}
        return KeySnapshot(entries, self._changes.revision)

    def _load(self, rows: list[tuple[str, Row]]) -> None:
        for key, row in rows:
            try:
                self._records.check_room(key, row.value)
            except EngineError:
                raise EngineFileError(
                    f"{self._path} has more than the {self._bounds.memory} bytes of entries that [engine] memory allows"
                ) from None
            self._set(key, row, None).durable = True
