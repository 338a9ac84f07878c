"""What systemd is told, over a real datagram socket, and when the watchdog is fed."""

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.systemd import Notifier, Watchdog, read_by_journal


class Manager:
    """Systemd's end of the notify socket."""

    def __init__(self, case: SynchronousTestCase, *, abstract: bool = False) -> None:
        folder = tempfile.TemporaryDirectory()
        case.addCleanup(folder.cleanup)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case.addCleanup(self.socket.close)
        self.socket.setblocking(False)
        path = str(Path(folder.name) / "notify")
        self.socket.bind("\0" + path if abstract else path)
        self.address = "@" + path if abstract else path

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


class NotifierTests(SynchronousTestCase):
    """`Notifier`."""

    def notifier(self, manager: Manager) -> Notifier:
        made = Notifier({"NOTIFY_SOCKET": manager.address}, monotonic=lambda: 1_234_567_890)
        self.addCleanup(made.close)
        return made

    def test_states(self) -> None:
        manager = Manager(self)
        notifier = self.notifier(manager)
        self.assertTrue(notifier.active)
        notifier.ready("2 listeners")
        notifier.reloading()
        notifier.ready()
        notifier.stopping("draining", extend=14.5)
        notifier.stopping()
        notifier.alive()
        self.assertEqual(
            manager.heard(),
            [
                "READY=1\nSTATUS=2 listeners",
                "RELOADING=1\nMONOTONIC_USEC=1234567",
                "READY=1",
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=14500000\nSTATUS=draining",
                "STOPPING=1",
                "WATCHDOG=1",
            ],
        )

    def test_status_is_one_line_bounded_and_said_once(self) -> None:
        manager = Manager(self)
        notifier = self.notifier(manager)
        notifier.status("a\nREADY=1")
        notifier.status("a\nREADY=1")
        notifier.status("x" * 1000)
        self.assertEqual(manager.heard(), ["STATUS=a READY=1", "STATUS=" + "x" * 200])

    def test_abstract(self) -> None:
        manager = Manager(self, abstract=True)
        self.notifier(manager).ready()
        self.assertEqual(manager.heard(), ["READY=1"])

    def test_nobody_listens(self) -> None:
        notifier = Notifier({})
        self.assertFalse(notifier.active)
        with capturedLogs() as logged:
            notifier.ready("up")
            notifier.close()
        self.assertEqual(logged, [])

    def test_nonsense(self) -> None:
        with capturedLogs() as logged:
            self.assertFalse(Notifier({"NOTIFY_SOCKET": "vsock:2:1"}).active)
        self.assertEqual(logged[0]["address"], "vsock:2:1")

    def test_a_manager_that_is_gone(self) -> None:
        """A warning, no error; and once it is back, it is told again."""
        manager = Manager(self)
        notifier = self.notifier(manager)
        Path(manager.address).unlink()
        with capturedLogs() as logged:
            notifier.ready()
        self.assertEqual(logged[0]["state"], "READY=1")
        again = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(again.close)
        again.bind(manager.address)
        notifier.ready()
        self.assertEqual(again.recv(100), b"READY=1")


class Reactor(Clock):
    """A clock that takes calls from threads, and gives them back when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = False

    def callFromThread(self, function: Any, *arguments: Any) -> None:  # noqa: N802
        if not self.stuck:
            function(*arguments)


class WatchdogTests(SynchronousTestCase):
    """`Watchdog`."""

    def setUp(self) -> None:
        self.manager = Manager(self)
        self.reactor = Reactor()
        self.reason: str | None = None

    def watchdog(self, **environ: str) -> Watchdog:
        notifier = Notifier({"NOTIFY_SOCKET": self.manager.address})
        made = Watchdog(notifier, self.reactor, environ, healthy=lambda: self.reason, pid=lambda: 77)
        self.addCleanup(notifier.close)
        made.startService()
        return made

    def fed(self, seconds: float, step: float = 0.25) -> int:
        count = 0
        for _ in range(round(seconds / step)):
            self.reactor.advance(step)
            # At once: a socket keeps no more than a few datagrams.
            count += self.manager.heard().count("WATCHDOG=1")
        return count

    def test_fed_at_half_the_time(self) -> None:
        watchdog = self.watchdog(WATCHDOG_USEC="20000000", WATCHDOG_PID="77")
        self.assertEqual(watchdog.interval, 10.0)
        self.assertEqual(self.fed(8.75), 0)
        self.assertEqual(self.fed(1.5), 1)
        self.assertGreaterEqual(self.fed(100.0), 10)
        watchdog.stopService()
        self.assertEqual(self.fed(60.0), 0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_short_one(self) -> None:
        watchdog = self.watchdog(WATCHDOG_USEC="500000")
        self.assertEqual(self.fed(10.0), 40)
        watchdog.stopService()

    def test_not_asked_for(self) -> None:
        for environ in ({}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}):
            with capturedLogs():
                watchdog = self.watchdog(**environ)
            self.assertIsNone(watchdog.interval)
            self.assertEqual(self.fed(10.0), 0)
            watchdog.stopService()

    def test_withheld(self) -> None:
        """A reason, logged once, then health again."""
        watchdog = self.watchdog(WATCHDOG_USEC="2000000")
        self.reason = "the root has failed"
        with capturedLogs() as logged:
            self.assertEqual(self.fed(5.0), 0)
        self.assertEqual([one["reason"] for one in logged], ["the root has failed"])
        self.reason = None
        self.assertEqual(self.fed(5.0), 5)
        watchdog.stopService()

    def test_a_reactor_that_does_not_come_round(self) -> None:
        watchdog = self.watchdog(WATCHDOG_USEC="2000000")
        self.reactor.stuck = True
        self.assertEqual(self.fed(5.0), 0)
        watchdog.stopService()
        self.reactor.stuck = False
        watchdog._feed()
        self.assertEqual(self.manager.heard(), [])

    def test_lag(self) -> None:
        watchdog = self.watchdog()
        self.reactor.advance(1.0)
        self.assertEqual(watchdog.lag, 0.0)
        self.reactor.advance(1.75)
        self.assertEqual((watchdog.lag, watchdog.worst), (0.75, 0.75))
        self.reactor.advance(1.0)
        self.assertEqual((watchdog.lag, watchdog.worst), (0.0, 0.75))
        watchdog.stopService()
        watchdog.stopService()


class JournalTests(SynchronousTestCase):
    """`read_by_journal`."""

    def test_the_stream_itself(self) -> None:
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        found = os.fstat(write)
        journal = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        self.assertTrue(read_by_journal(write, journal))
        self.assertFalse(read_by_journal(write, {}))
        self.assertFalse(read_by_journal(write, {"JOURNAL_STREAM": "1:2"}))
        os.close(write)
        self.assertFalse(read_by_journal(write, journal))
