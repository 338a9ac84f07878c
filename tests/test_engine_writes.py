"""Durable changes on their way: what is one transaction, who waits, what a file that fails means, the end."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.engine import Bounds, EmbeddedEngine, _writes
from erlmcp.engine._file import Row
from erlmcp.engine._writes import Writes
from erlmcp.interfaces import EngineError, EngineFull, NotDurable
from tests.test_engine_embedded import WAIT, Reactor


class File:
    """Notes transactions; each waits until it may go on, and fails if it is told to."""

    file = Path("somewhere/engine.db")

    def __init__(self) -> None:
        self.transactions: list[dict[str, Row | None]] = []
        self.go = threading.Semaphore(0)
        self.error: Exception | None = None
        self.close_error: Exception | None = None
        self.closed = False

    def write(self, changes: list[tuple[str, Row | None]]) -> None:
        assert self.go.acquire(timeout=WAIT)
        if self.error is not None:
            raise self.error
        self.transactions.append(dict(changes))

    def close(self) -> None:
        self.closed = True
        if self.close_error is not None:
            raise self.close_error


def row(number: int) -> Row:
    return Row(b"%d" % number, number, None)


class WritesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.file = File()
        self.writes = Writes(self.reactor, self.file, 5)  # type: ignore[arg-type]
        self.addCleanup(self.end)

    def end(self) -> None:
        self.file.error = None
        self.file.go.release(1000)
        self.reactor.settle(self.writes.close())

    def turn(self) -> None:
        self.reactor.advance(0)

    def deliver(self) -> None:
        """What the thread has sent."""
        act, rest = self.reactor.inbox.get(timeout=WAIT)
        act(*rest)

    def done(self) -> None:
        self.file.go.release()
        self.deliver()


class TransactionTests(WritesTestCase):
    """What goes together."""

    def test_what_a_turn_brings(self) -> None:
        first, second = self.writes.write("a", row(1)), self.writes.write("b", None)
        self.writes.add("c", row(3))
        self.assertEqual(len(self.writes), 3)
        self.turn()
        self.assertNoResult(first)
        self.done()
        self.assertEqual(self.file.transactions, [{"a": row(1), "b": None, "c": row(3)}])
        self.assertEqual([self.successResultOf(one) for one in (first, second)], [None, None])

    def test_what_came_meanwhile(self) -> None:
        """The last change of each key is what is written; all who wait for the key hear of it."""
        first = self.writes.write("a", row(1))
        self.turn()
        late = [
            self.writes.write("a", row(2)),
            self.writes.write("a", row(3)),
            self.writes.write("b", row(4)),
        ]
        self.turn()
        self.done()
        self.successResultOf(first)
        for one in late:
            self.assertNoResult(one)
        self.turn()
        self.done()
        self.assertEqual(self.file.transactions, [{"a": row(1)}, {"a": row(3), "b": row(4)}])
        for one in late:
            self.successResultOf(one)

    def test_no_more_than_a_batch(self) -> None:
        self.patch(_writes, "_BATCH", 2)
        waiting = [self.writes.write(key, row(1)) for key in "abc"]
        self.turn()
        self.done()
        self.turn()
        self.done()
        self.assertEqual([list(one) for one in self.file.transactions], [["a", "b"], ["c"]])
        for one in waiting:
            self.successResultOf(one)

    def test_cancelled(self) -> None:
        """Who stops waiting does not stop the change."""
        waiting = self.writes.write("a", row(1))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.turn()
        self.done()
        self.assertEqual(self.file.transactions, [{"a": row(1)}])

    def test_room(self) -> None:
        for _ in range(4):
            self.writes.write("a", row(1))
        self.writes.check_room()
        self.writes.write("a", row(1))
        self.assertRaises(EngineFull, self.writes.check_room)
        self.turn()
        self.assertRaises(EngineFull, self.writes.check_room)
        self.done()
        self.writes.check_room()
        for key in "abcde":
            self.writes.add(key, None)
        self.assertRaises(EngineFull, self.writes.check_room)


class FailureTests(WritesTestCase):
    """A file that cannot be written."""

    def fail(self, waiting: Deferred[None]) -> str:
        self.turn()
        self.done()
        return str(self.failureResultOf(waiting, NotDurable).value)

    def setUp(self) -> None:
        super().setUp()
        self.file.error = sqlite3.OperationalError("database or disk is full")

    def test_tried_again(self) -> None:
        self.assertEqual(
            self.fail(self.writes.write("a", row(1))), "it is not written: database or disk is full"
        )
        self.assertEqual((self.writes.trouble, self.writes.failures), ("database or disk is full", 1))
        newer = self.writes.write("a", row(2))
        other = self.writes.write("b", row(3))
        self.turn()
        self.assertNoResult(newer)
        self.file.error = None
        self.reactor.advance(1.0)
        self.done()
        self.successResultOf(newer)
        self.successResultOf(other)
        self.assertEqual(self.file.transactions, [{"a": row(2), "b": row(3)}])
        self.assertEqual((self.writes.trouble, self.writes.failures), (None, 1))

    def test_for_a_while(self) -> None:
        """Each second, and not sooner, whatever comes meanwhile."""
        self.fail(self.writes.write("a", row(1)))
        self.reactor.advance(1.0)
        self.done()
        self.assertEqual((self.writes.failures, self.file.transactions), (2, []))
        newer = self.writes.write("b", row(2))
        self.reactor.advance(0.9)
        self.assertNoResult(newer)
        self.file.error = None
        self.reactor.advance(0.1)
        self.done()
        self.assertEqual(self.file.transactions, [{"a": row(1), "b": row(2)}])
        self.successResultOf(newer)

    def test_the_newer_change_stays(self) -> None:
        old = self.writes.write("a", row(1))
        kept = self.writes.write("b", row(2))
        self.turn()
        newer = self.writes.write("a", row(3))
        self.done()
        for one in (old, kept):
            self.failureResultOf(one, NotDurable)
        self.file.error = None
        self.reactor.advance(1.0)
        self.done()
        self.assertEqual(self.file.transactions, [{"b": row(2), "a": row(3)}])
        self.successResultOf(newer)

    def test_the_end(self) -> None:
        """What cannot be written then is given up."""
        first = self.writes.write("a", row(1))
        self.turn()
        left = self.writes.write("b", row(2))
        end = self.writes.close()
        self.assertIs(self.writes.close(), end)
        self.done()
        for one in (first, left):
            self.failureResultOf(one, NotDurable)
        self.turn()
        self.deliver()
        self.successResultOf(end)
        self.assertTrue(self.file.closed)

    def test_the_end_after_a_failure(self) -> None:
        """It is not waited for until it would be tried again."""
        self.fail(self.writes.write("a", row(1)))
        self.file.error = None
        end = self.writes.close()
        self.turn()
        self.done()
        self.turn()
        self.deliver()
        self.successResultOf(end)
        self.assertEqual(self.file.transactions, [{"a": row(1)}])

    def test_closing_fails(self) -> None:
        self.file.close_error = sqlite3.OperationalError("disk I/O error")
        self.reactor.settle(self.writes.close())
        self.assertEqual(len(self.flushLoggedErrors(sqlite3.OperationalError)), 1)


class EngineTests(SynchronousTestCase):
    """The engine with such a file."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.path = Path(self.mktemp()) / "engine.db"
        self.engine = EmbeddedEngine(self.reactor, file=self.path, bounds=Bounds(writes=2))
        self.engine.start()
        self.addCleanup(self.end)

    def end(self) -> None:
        self.reactor.settle(self.engine.close())

    def settle(self, deferred: Deferred[Any]) -> Any:
        return self.reactor.settle(deferred)

    def test_not_before_it_is_written(self) -> None:
        waiting = self.engine.put("k", b"v", durable=True)
        self.assertNoResult(waiting)
        self.assertEqual(self.engine.peek("k").value, b"v", "in memory it is at once")
        self.settle(waiting)
        for change in (
            lambda: self.engine.put("k", b"w", durable=True),
            lambda: self.engine.put("k", b"x"),
        ):
            waiting = change()
            self.assertNoResult(waiting)
            self.settle(waiting)
        self.successResultOf(self.engine.put("k", b"y"))
        self.settle(self.engine.put("k", b"z", durable=True))
        waiting = self.engine.delete("k")
        self.assertNoResult(waiting)
        self.assertIs(self.settle(waiting), True)

    def test_full(self) -> None:
        """Nothing is changed when there is no room to write it; what is not durable goes on."""
        waiting = [self.engine.put(key, b"", durable=True) for key in "ab"]
        for change in (self.engine.put("c", b"", durable=True), self.engine.delete("a")):
            self.assertIn(
                "2 durable changes are not written yet", str(self.failureResultOf(change, EngineFull))
            )
        self.assertIsNone(self.engine.peek("c"))
        self.assertIsNotNone(self.engine.peek("a"))
        self.successResultOf(self.engine.put("d", b""))
        for one in waiting:
            self.settle(one)

    def test_failure(self) -> None:
        """A change that cannot be written holds in memory."""
        self.assertEqual((self.engine.trouble, self.engine.failures), (None, 0))

        def fail(changes: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        file = self.engine._writes._file
        self.patch(file, "write", fail)
        self.assertIsInstance(self.settle(self.engine.put("k", b"v", durable=True)), NotDurable)
        self.assertEqual(self.engine.peek("k").value, b"v")
        self.assertEqual((self.engine.trouble, self.engine.failures), ("disk I/O error", 1))

    def test_closed(self) -> None:
        waiting = self.engine.put("k", b"v", durable=True)
        lease = self.successResultOf(self.engine.register("n", "o", 10))
        first, second = self.engine.close(), self.engine.close()
        self.settle(second)
        self.successResultOf(first)
        self.successResultOf(waiting)
        for refused in (
            self.engine.put("k", b""),
            self.engine.delete("k"),
            self.engine.register("n", "o", 10),
            self.engine.renew(lease),
            self.engine.release(lease),
            self.engine.take("b", 1, rate=1, burst=1),
        ):
            self.assertIn("the engine is closed", str(self.failureResultOf(refused, EngineError)))
        self.engine.start()
        self.assertEqual(self.engine.peek("k").value, b"v")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_not_started(self) -> None:
        engine = EmbeddedEngine(self.reactor, file=self.path.with_name("other.db"))
        self.assertIn("has not started", str(self.failureResultOf(engine.put("k", b""), EngineError)))
        self.assertFalse(self.path.with_name("other.db").exists())
        self.successResultOf(engine.close())
