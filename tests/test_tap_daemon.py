"""The daemon's life: bound in order or not at all, ready, drained within bounds, closed."""

import os
import pty
import signal
import sys
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.tap import Daemon, Parts, StartFailed
from erlmcp.tap import _exit as exits
from erlmcp.tap._frontends import Frontend
from erlmcp.telemetry import Counters


class Reactor(MemoryReactorClock):
    """Counts how often it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1


class Listener:
    """Notes what it is told; binds, drains and closes with what it is given."""

    def __init__(self, name: str, journal: list[str], address: Any = None) -> None:
        self.name = name
        self.journal = journal
        self.addresses = (address or IPv4Address("TCP", "127.0.0.1", 1),)
        self.binding: Deferred[None] = succeed(None)
        self.draining: Deferred[None] = succeed(None)
        self.closing: Deferred[None] = succeed(None)

    def bind(self) -> Deferred[None]:
        self.journal.append(f"bind {self.name}")
        return self.binding

    def drain(self) -> Deferred[None]:
        self.journal.append(f"drain {self.name}")
        return self.draining

    def close(self) -> Deferred[None]:
        self.journal.append(f"close {self.name}")
        return self.closing


class Server:
    in_flight = 1
    parked = 0

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.draining: Deferred[None] = succeed(None)

    def drain(self) -> Deferred[None]:
        self.journal.append("drain server")
        return self.draining

    def stop(self) -> None:
        self.journal.append("stop server")


class Backend:
    def __init__(self, journal: list[str]) -> None:
        self.journal = journal

    def stop(self) -> None:
        self.journal.append("stop backend")


class Told:
    """Notes what systemd is told."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: self._told.append(name)


class DaemonTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.journal: list[str] = []
        self.server = Server(self.journal)
        self.one, self.two = (Listener(name, self.journal) for name in ("one", "two"))
        self.statuses: list[int] = []
        self.signal: Callable[[str], None] | None = None
        self.terminal = False
        self.told: list[str] = []

    def daemon(self, *listeners: Listener, open_: bool = False, console: Listener | None = None) -> Daemon:
        def signals(reactor: Any, callback: Callable[[str], None]) -> None:
            self.assertIs(reactor, self.reactor)
            self.signal = callback

        parts = Parts(
            server=cast("Any", self.server),
            frontends=[Frontend(one, f"tcp:{one.name}", open_) for one in listeners or (self.one, self.two)],
            console=None if console is None else Frontend(console, "tcp:console", False),
            backends=[Backend(self.journal), object()],
            counters=Counters(),
            keys="somewhere",
        )
        return Daemon(
            parts,
            self.reactor,
            drain=10.0,
            signals=signals,
            leave=self.statuses.append,
            hangs_up=lambda: self.terminal,
            notifier=cast("Any", Told(self.told)),
        )

    def started(self, *listeners: Listener, **options: Any) -> Daemon:
        daemon = self.daemon(*listeners, **options)
        daemon.privilegedStartService()
        daemon.startService()
        return daemon


class StartTests(DaemonTestCase):
    """Binding."""

    def test_in_order_and_once(self) -> None:
        daemon = self.daemon()
        self.assertEqual(daemon.unready, "starting")
        daemon.privilegedStartService()
        self.assertEqual(self.journal, ["bind one", "bind two"])
        daemon.startService()
        self.assertEqual(self.journal, ["bind one", "bind two"])
        self.assertIsNone(daemon.unready)

    def test_without_privileged_start(self) -> None:
        """twist calls `startService` alone."""
        daemon = self.daemon()
        daemon.startService()
        self.assertEqual(self.journal, ["bind one", "bind two"])
        self.assertIsNone(daemon.unready)

    def test_each_after_the_one_before(self) -> None:
        self.one.binding = Deferred()
        daemon = self.started()
        self.assertEqual(self.journal, ["bind one"])
        self.assertEqual(daemon.unready, "starting")
        self.one.binding.callback(None)
        self.assertEqual(self.journal, ["bind one", "bind two"])
        self.assertIsNone(daemon.unready)
        self.assertEqual(self.statuses, [])

    def test_failure(self) -> None:
        self.two.binding = fail(OSError("cannot listen on 'tcp:two': taken"))
        error = self.assertRaises(StartFailed, self.daemon().privilegedStartService)
        self.assertEqual(str(error), "cannot listen on 'tcp:two': taken")

    def test_failure_without_words(self) -> None:
        self.one.binding = fail(OSError())
        self.assertEqual(str(self.assertRaises(StartFailed, self.daemon().startService)), "OSError")

    def test_failure_once_the_reactor_runs(self) -> None:
        """Then no exception reaches twistd: the status is carried out another way."""
        self.one.binding = Deferred()
        daemon = self.started()
        self.reactor.running = True
        self.one.binding.errback(OSError("taken"))
        self.assertEqual((self.statuses, self.reactor.stops), ([1], 1))
        self.assertEqual(daemon.unready, "starting")
        self.assertNotIn("bind two", self.journal)

    def test_open(self) -> None:
        for address in (IPv4Address("TCP", "0.0.0.0", 1), IPv6Address("TCP", "::", 1)):
            listener = Listener("public", self.journal, address)
            error = self.assertRaises(StartFailed, self.daemon(listener).privilegedStartService)
            self.assertIn("public: the endpoint tcp:public is open", str(error))
            self.assertIn('auth = "none"', str(error))
            self.assertIsNone(self.started(listener, open_=True).unready)

    def test_addresses_of_other_kinds(self) -> None:
        self.assertIsNone(self.started(Listener("unix", self.journal, UNIXAddress("/x"))).unready)
        self.assertIsNone(self.started(Listener("six", self.journal, IPv6Address("TCP", "::1", 1))).unready)

    def test_console_is_bound_last_and_asks_for_readiness(self) -> None:
        console: Any = Listener("console", self.journal)
        daemon = self.started(console=console)
        self.assertEqual(self.journal, ["bind one", "bind two", "bind console"])
        self.assertIsNone(console.unready())
        self.successResultOf(daemon.stopService())
        self.assertEqual(console.unready(), "draining")


class StopTests(DaemonTestCase):
    """Draining and closing."""

    def test_order(self) -> None:
        daemon = self.started()
        self.journal.clear()
        stopping = daemon.stopService()
        self.successResultOf(stopping)
        self.assertEqual(
            self.journal,
            [
                "drain two",
                "drain one",
                "drain server",
                "stop server",
                "close two",
                "close one",
                "stop backend",
            ],
        )
        self.assertEqual(daemon.unready, "draining")
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertIs(daemon.stopService(), stopping)

    def test_waits_for_calls(self) -> None:
        self.server.draining = Deferred()
        stopping = self.started().stopService()
        self.reactor.advance(9.9)
        self.assertNotIn("stop server", self.journal)
        self.server.draining.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_but_no_longer_than_the_deadline(self) -> None:
        self.server.draining = Deferred()
        self.one.draining = Deferred()
        stopping = self.started().stopService()
        self.reactor.advance(10)
        self.assertEqual(self.journal[-1], "stop server")
        self.reactor.advance(2)
        self.successResultOf(stopping)
        self.assertIn("close one", self.journal)
        self.server.draining.callback(None)

    def test_last_answers_leave_before_connections_are_cut(self) -> None:
        """What calls are told at the deadline reaches those who read it."""
        self.server.draining = Deferred()
        self.one.draining = Deferred()
        stopping = self.started().stopService()
        self.reactor.advance(10)
        self.assertNotIn("close one", self.journal)
        self.one.draining.callback(None)
        self.successResultOf(stopping)
        self.assertIn("close one", self.journal)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nor_for_what_does_not_close(self) -> None:
        self.one.closing = Deferred()
        stopping = self.started().stopService()
        self.assertNoResult(stopping)
        self.reactor.advance(2)
        self.successResultOf(stopping)
        self.assertIn("stop backend", self.journal)

    def test_a_part_that_fails_is_logged(self) -> None:
        self.one.draining = fail(ValueError("oops"))
        self.two.closing = fail(ValueError("too"))
        self.successResultOf(self.started().stopService())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertIn("close one", self.journal)

    def test_stopped_while_binding(self) -> None:
        self.one.binding = Deferred()
        daemon = self.started()
        self.successResultOf(daemon.stopService())
        self.assertNotIn("close one", self.journal)
        self.one.binding.callback(None)
        self.assertEqual(self.journal[-1], "close one")
        self.assertNotIn("bind two", self.journal)
        self.assertEqual(daemon.unready, "draining")

    def test_signals(self) -> None:
        """The first one stops the reactor, which stops the service; the next one ends its patience."""
        self.server.draining = Deferred()
        daemon = self.started()
        assert self.signal is not None
        self.signal("SIGTERM")
        self.assertEqual(self.reactor.stops, 1)
        stopping = daemon.stopService()
        self.assertNoResult(stopping)
        self.signal("SIGTERM")
        self.reactor.advance(0)
        self.successResultOf(stopping)
        self.signal("SIGINT")
        self.assertEqual(self.reactor.stops, 1)

    def test_hang_up(self) -> None:
        """It goes on: operators send it for a reload. But not without the terminal that it was started at."""
        self.started()
        assert self.signal is not None
        with capturedLogs() as logs:
            self.signal("SIGHUP")
        self.assertEqual(self.reactor.stops, 0)
        self.assertIn("does not reload", str(logs[0]))
        self.terminal = True
        self.started()
        self.signal("SIGHUP")
        self.assertEqual(self.reactor.stops, 1)

    def test_reload(self) -> None:
        """systemd hears of its beginning, and of its end whatever came of it; but not once the end has begun."""
        daemon = self.started()
        assert self.signal is not None
        self.assertRaises(RuntimeError, daemon.take_up)
        self.reactor.hasInstalled = self.reactor.running = True
        self.told.clear()
        for end in (Deferred.callback, Deferred.errback, None):
            work: Deferred[None] = Deferred()
            daemon.reload = lambda work=work: work
            self.signal("SIGHUP")
            self.assertEqual(self.told, ["reloading"])
            if end is None:
                break
            end(work, ValueError("no good"))
            self.assertEqual(self.told, ["reloading", "ready"])
            self.told.clear()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        stopping = daemon.stopService()
        work.callback(None)
        self.assertNotIn("ready", self.told)
        self.reactor.advance(0)
        self.successResultOf(stopping)

    def test_ended_listeners(self) -> None:
        """When every listener has come to an end by itself, there is nothing left to run for."""
        self.reactor.running = True
        ended: list[Deferred[None]] = [Deferred(), Deferred()]
        for listener, one in zip((self.one, self.two), ended, strict=True):
            cast("Any", listener).exhausted = one
        self.started()
        ended[0].callback(None)
        self.assertEqual(self.reactor.stops, 0)
        ended[1].callback(None)
        self.assertEqual(self.reactor.stops, 1)

    def test_ended_while_stopping(self) -> None:
        self.reactor.running = True
        ended: Deferred[None] = Deferred()
        cast("Any", self.one).exhausted = ended
        daemon = self.started(self.one)
        self.successResultOf(daemon.stopService())
        ended.callback(None)
        self.assertEqual(self.reactor.stops, 0)


class ExitTests(SynchronousTestCase):
    """Statuses and signals."""

    def test_start_failed(self) -> None:
        """The interpreter prints it and exits with 1; twistd takes it for the failure that it is."""
        error = StartFailed("why")
        self.assertIsInstance(error, SystemExit)
        self.assertIsInstance(error, Exception)
        self.assertEqual(error.code, "why")

    def test_on_terminal(self) -> None:
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        with os.fdopen(theirs) as terminal:
            self.patch(sys, "stdin", terminal)
            self.assertTrue(exits.on_terminal())
        self.assertFalse(exits.on_terminal())
        self.patch(sys, "stdin", None)
        self.assertFalse(exits.on_terminal())

    def test_stop_signals(self) -> None:
        installed: dict[int, Any] = {}
        self.patch(signal, "signal", installed.__setitem__)
        reactor = Reactor()
        started: list[Callable[[], None]] = []
        threads: list[tuple[Any, ...]] = []
        self.patch(reactor, "callWhenRunning", started.append)
        cast("Any", reactor).callFromThread = lambda *call: threads.append(call)
        exits.on_stop_signals(reactor, print)
        self.assertEqual(set(installed), {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        installed.clear()
        started[0]()
        self.assertEqual(set(installed), {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        installed[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual(threads, [(print, "SIGTERM")])

    def test_leave_with(self) -> None:
        registered: list[tuple[Any, ...]] = []
        left: list[int] = []
        self.patch(exits.atexit, "register", lambda *call: registered.append(call))
        self.patch(exits.os, "_exit", left.append)
        exits.leave_with(1)
        self.assertEqual(left, [])
        ((function, *arguments),) = registered
        self.patch(sys, "stdout", None)
        function(*arguments)
        self.assertEqual(left, [1])
