"""The engine in another process against the suite, what is said going through bytes; and what it does at the edges."""

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.engine import Bounds, EmbeddedEngine, EngineHost, RemoteEngine
from erlmcp.interfaces import EngineError, EngineFull, KeySnapshot, Stored
from tests.engine_suite import EngineSuite, run_machine
from tests.test_engine_embedded import SMALL, EmbeddedWorld


class RemoteWorld(EmbeddedWorld):
    """An embedded engine, and beside it the remote one that is looked at."""

    mirrors = True

    def begin(self) -> None:
        super().begin()
        self.home = self.engine
        self.host = EngineHost(self.home, self.reactor)
        self.guest = self.host.guest(lambda body: succeed(self.remote.told(body)))
        self.remote = RemoteEngine(self.guest.asked, self.guest_told, [""])
        self.settle(self.remote.synced)
        self.engine: Any = self.remote

    def guest_told(self, body: bytes) -> None:
        self.guest.told(body)

    def restart(self, *, kill: bool) -> None:
        self.engine = self.home
        super().restart(kill=kill)

    def end(self) -> None:
        self.engine = self.home
        super().end()


def lasting(bounds: Bounds | None = None) -> RemoteWorld:
    return RemoteWorld(Path(tempfile.mkdtemp()), bounds)


class MemoryTests(SynchronousTestCase, EngineSuite):
    """Without a file."""

    def setUp(self) -> None:
        self.world = RemoteWorld(None)
        self.addCleanup(self.world.end)

    def test_machine(self) -> None:
        run_machine(lambda: RemoteWorld(None, SMALL), examples=40, steps=40)


class FileTests(SynchronousTestCase, EngineSuite):
    """With one."""

    def setUp(self) -> None:
        self.world = lasting()
        self.addCleanup(self.world.end)

    def test_machine(self) -> None:
        run_machine(lambda: lasting(SMALL), examples=15, steps=30)


class GuestTests(SynchronousTestCase):
    """Several processes with one engine."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.home = EmbeddedEngine(self.clock, steady=self.clock.seconds)
        self.host = EngineHost(self.home, self.clock)

    def guest(self, taken: Deferred[Any] | None = None) -> RemoteEngine:
        """One more; `taken` is when it says that it has heard."""

        def say(body: bytes) -> Deferred[Any]:
            remote.told(body)
            return taken or succeed(None)

        guest = self.host.guest(say)
        remote = RemoteEngine(guest.asked, guest.told, ["session/"])
        self.guests = [*getattr(self, "guests", []), guest]
        return remote

    def test_a_change_is_answered_when_all_have_heard(self) -> None:
        slow: Deferred[Any] = Deferred()
        one, other = self.guest(), self.guest(slow)
        self.clock.advance(0)
        self.successResultOf(one.synced)
        self.clock.pump([1.0, 1.0])
        done = one.put("session/a", b"1")
        self.clock.advance(0)
        self.assertEqual(other.peek("session/a").value, b"1")  # type: ignore[union-attr]
        self.clock.advance(0)
        self.assertNoResult(done)
        slow.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_patience_ends(self) -> None:
        """A process that hangs holds nobody up for more than a second."""
        one, _ = self.guest(), self.guest(Deferred())
        done = one.put("session/a", b"1")
        self.clock.pump([0, 0, 0.5])
        self.assertNoResult(done)
        self.clock.advance(0.5)
        self.successResultOf(done)

    def test_unmirrored_keys_are_asked_for(self) -> None:
        one = self.guest()
        self.successResultOf(self.home.put("other/a", b"1"))
        self.clock.advance(0)
        self.assertEqual(one.peek("other/a"), None)
        self.assertEqual(self.successResultOf(one.get("other/a")).value, b"1")

    def test_who_has_left_hears_nothing(self) -> None:
        one = self.guest()
        heard: list[bytes] = []
        one.subscribe("t", heard.append)
        self.clock.advance(0)
        self.guests[0].left()
        self.home.publish("t", b"x")
        self.successResultOf(self.home.put("session/a", b""))
        self.clock.advance(0)
        self.assertEqual((heard, one.peek("session/a")), ([], None))

    def test_the_home_has_gone(self) -> None:
        engine = RemoteEngine(lambda _: fail(OSError("gone")), lambda _: None, [])
        self.successResultOf(engine.synced)
        self.failureResultOf(engine.get("k"), EngineError)

    def test_nobody_waits_any_more(self) -> None:
        engine = RemoteEngine(lambda _: Deferred(), lambda _: None, [])
        asking = engine.delete("k")
        asking.cancel()
        self.failureResultOf(asking, CancelledError)

    def test_bounds(self) -> None:
        engine = RemoteEngine(lambda _: Deferred(), lambda _: None, [], most=2)
        end = engine.watch("a", print)
        engine.subscribe("t", print)
        self.assertRaises(EngineFull, engine.watch, "b", print)
        end()
        end()
        engine.watch("b", print)

    def test_too_many_watch_at_home(self) -> None:
        self.home = EmbeddedEngine(self.clock, bounds=Bounds(watchers=1), steady=self.clock.seconds)
        self.host = EngineHost(self.home, self.clock)
        one = self.guest()
        one.watch("x", print)
        self.assertEqual(len(self.flushLoggedErrors(EngineFull)), 1)

    def test_a_watcher_that_fails(self) -> None:
        one = self.guest()
        seen: list[Any] = []
        one.watch("k", lambda _: 1 / 0)
        one.watch("k", seen.append)
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsInstance(seen[0], KeySnapshot)

    def test_a_snapshot_replaces_the_mirror(self) -> None:
        one = self.guest()
        self.clock.advance(0)
        revision = self.successResultOf(self.home.put("session/a", b"1"))
        self.clock.advance(0)
        self.assertEqual(one.peek("session/a"), Stored(b"1", revision))
        for number in range(5000):
            self.successResultOf(self.home.put(f"x/{number}", b""))
        self.successResultOf(self.home.delete("session/a"))
        self.clock.advance(0)
        self.assertEqual(one.peek("session/a"), None)
