"""The admin socket: who is answered, what is refused, what is bounded; and ``erlmcp status`` on a real daemon."""

import contextlib
import io
import json
import os
import socket
import stat
import struct
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import TestCase

from twisted.internet.defer import Deferred, fail
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.admin import SOCKET, AdminError, AdminService, as_text, ask
from erlmcp.admin import _ask as asking
from erlmcp.admin import _service as service
from erlmcp.cli import main
from tests.daemon import ERLMCP, PATIENCE, Daemon, environment, free_port


class Handle:
    """A socket whose peer is somebody."""

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def getsockopt(self, *_which: int) -> bytes:
        return struct.pack("3i", 1, self.uid, 1)


class Transport(StringTransport):
    aborted = False

    def __init__(self, uid: int) -> None:
        super().__init__()
        self.handle = Handle(uid)

    def getHandle(self) -> Handle:  # noqa: N802 - Twisted's name
        return self.handle

    def abortConnection(self) -> None:
        self.aborted = True


class SocketTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.folder = Path(self.mktemp())
        self.answers: dict[str, Any] = {"one": lambda question: {"got": question}}
        self.service = AdminService(self.reactor, self.folder, self.answers)

    def connected(self, uid: int | None = None) -> tuple[Any, Transport]:
        ((_, factory, *_rest),) = self.reactor.unixServers[-1:]
        line = factory.buildProtocol(None)
        transport = Transport(os.geteuid() if uid is None else uid)
        if line is not None:
            line.makeConnection(transport)
        return line, transport

    def said(self, transport: Transport) -> list[Any]:
        lines = [json.loads(line) for line in transport.value().splitlines()]
        transport.clear()
        return lines


class PlaceTests(SocketTestCase):
    """The directory and the socket."""

    def test_made(self) -> None:
        self.service.startService()
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        ((path, _, _backlog, mode, lock),) = self.reactor.unixServers
        self.assertEqual((path, mode, lock), (str(self.folder / SOCKET), 0o600, True))
        self.assertEqual(self.service.detail(), {"socket": path})

    def test_open_to_others(self) -> None:
        self.folder.mkdir(mode=0o755)
        error = self.assertRaises(ValueError, self.service.startService)
        self.assertIn("can be entered by others (mode 755): make it 700", str(error))

    def test_no_directory(self) -> None:
        self.folder.symlink_to("/")
        self.assertIn("is no directory", str(self.assertRaises(ValueError, self.service.startService)))
        missing = AdminService(self.reactor, self.folder.with_name("a") / "b", {})
        error = self.assertRaises(ValueError, missing.startService)
        self.assertIn("cannot be made: No such file or directory; make ", str(error))
        file = self.folder.with_name("file")
        file.write_text("")
        error = self.assertRaises(ValueError, AdminService(self.reactor, file, {}).startService)
        self.assertIn("is no directory", str(error))

    def test_of_somebody_else(self) -> None:
        self.folder.mkdir(mode=0o700)
        self.patch(service.os, "geteuid", lambda: 12345)
        self.assertIn("belongs to the user", str(self.assertRaises(ValueError, self.service.startService)))

    def test_stop_before_the_start(self) -> None:
        self.successResultOf(self.service.stopService())


class LineTests(SocketTestCase):
    """Questions and answers."""

    def setUp(self) -> None:
        super().setUp()
        self.service.startService()

    def test_answers(self) -> None:
        line, transport = self.connected()
        line.dataReceived(b'{"ask": "one", "more": 1}\n')
        self.assertEqual(self.said(transport), [{"answer": {"got": {"more": 1}}}])
        self.answers["late"] = lambda _: Deferred().addErrback(lambda _: None)
        self.answers["two"] = lambda _: [1]
        line.dataReceived(b'{"ask": "two"}\n')
        self.assertEqual(self.said(transport), [{"answer": [1]}])

    def test_one_at_a_time(self) -> None:
        waiting: Deferred[int] = Deferred()
        self.answers["late"] = lambda _: waiting
        line, transport = self.connected()
        line.dataReceived(b'{"ask": "late"}\n{"ask": "one"}\n')
        self.assertEqual(self.said(transport), [{"error": "one question at a time"}])
        waiting.callback(7)
        self.assertEqual(self.said(transport), [{"answer": 7}])

    def test_what_is_no_question(self) -> None:
        line, transport = self.connected()
        line.dataReceived(b'nonsense\n[]\n{"ask": 1}\n{"ask": "three"}\n')
        said = [one["error"] for one in self.said(transport)]
        self.assertIn("a question is a JSON object on a line", said[0])
        self.assertIn("a question is a JSON object on a line", said[1])
        self.assertEqual(said[3], "there is no answer to 'three'; those known are one")
        line.dataReceived(b"x" * 70_000)
        self.assertEqual(self.said(transport), [{"error": "a question has at most 65536 bytes"}])
        self.assertTrue(transport.disconnecting)

    def test_failures(self) -> None:
        self.answers["wrong"] = lambda _: fail(ValueError("not so"))
        self.answers["broken"] = lambda _: {}[1] if False else 1 / 0
        self.answers["odd"] = lambda _: object()
        line, transport = self.connected()
        line.dataReceived(b'{"ask": "wrong"}\n{"ask": "broken"}\n')
        self.assertEqual(self.said(transport), [{"error": "not so"}, {"error": "division by zero"}])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        line.dataReceived(b'{"ask": "odd"}\n')
        self.assertIn("unsupported", self.said(transport)[0]["error"])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_others(self) -> None:
        """Root is answered, nobody else is."""
        _, transport = self.connected(uid=os.geteuid() + 1)
        self.assertIn("own user and root", self.said(transport)[0]["error"])
        self.assertTrue(transport.disconnecting)
        line, transport = self.connected(uid=0)
        line.dataReceived(b'{"ask": "one"}\n')
        self.assertEqual(self.said(transport), [{"answer": {"got": {}}}])

    def test_bounds(self) -> None:
        lines = [self.connected() for _ in range(service.CONNECTIONS)]
        self.assertIsNone(self.connected()[0])
        lines[0][0].connectionLost()
        self.assertIsNotNone(self.connected()[0])
        self.reactor.advance(service.LEASE)
        self.assertFalse(lines[0][1].aborted)
        self.assertTrue(lines[1][1].aborted)
        lines[1][0].connectionLost()

    def test_stop(self) -> None:
        _, transport = self.connected()
        waiting: Deferred[int] = Deferred()
        self.answers["late"] = lambda _: waiting
        line, other = self.connected()
        line.dataReceived(b'{"ask": "late"}\n')
        self.successResultOf(self.service.stopService())
        self.assertTrue(transport.disconnecting)
        line.connectionLost()
        line.connected = 0
        waiting.callback(1)
        self.assertEqual(other.value(), b"")


class AskTests(TestCase):
    """`ask`, where something is wrong."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def serve(self, answer: bytes | None) -> None:
        """Say this to whoever asks; None to say nothing, and not hang up."""
        listening = self.enterContext(contextlib.closing(socket.socket(socket.AF_UNIX)))
        listening.bind(str(self.folder / SOCKET))
        listening.listen(1)

        def once() -> None:
            with listening.accept()[0] as line:
                line.recv(1000)
                if answer is None:
                    line.recv(1000)
                else:
                    line.sendall(answer)

        thread = threading.Thread(target=once)
        thread.start()
        self.addCleanup(thread.join)

    def failed(self, **options: Any) -> str:
        with self.assertRaises(AdminError) as caught:
            ask(self.folder, "status", **options)
        return str(caught.exception)

    def test_nobody(self) -> None:
        self.assertIn("no daemon runs there", self.failed())
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(self.folder / SOCKET))
        self.assertIn("its daemon has gone", self.failed())

    def test_silent(self) -> None:
        self.serve(None)
        self.assertIn("has not answered within 0.1 s", self.failed(timeout=0.1))

    def test_hangs_up(self) -> None:
        self.serve(b'{"ans')
        self.assertIn("has hung up without an answer", self.failed())

    def test_error(self) -> None:
        self.serve(b'{"error": "not you"}\n')
        self.assertIn("not you", self.failed())

    def test_too_long(self) -> None:
        before = asking.MOST
        self.addCleanup(setattr, asking, "MOST", before)
        asking.MOST = 3
        self.serve(b'{"answer": 1}')
        self.assertEqual(ask(self.folder, "status"), 1)

    def test_path(self) -> None:
        with self.assertRaisesRegex(AdminError, "too long"):
            ask(Path("/" + "x" * 200), "status")


class StatusTests(TestCase):
    """``erlmcp status``."""

    def test_text(self) -> None:
        part = {
            "name": "a",
            "state": "up",
            "since": 0.0,
            "restarts": 2,
            "error": "x" * 200,
            "detail": {
                "sessions": 2,
                "waiting": 0,
                "breaker": "open",
                "addresses": ["one", "two"],
                "more": {},
            },
            "children": [],
        }
        root = {
            **part,
            "name": "erlmcp",
            "error": None,
            "detail": {"refusing": "it is\ntired"},
            "children": [part],
        }
        lines = as_text({"version": "1", "pid": 2, "unready": "draining", "tree": root}).splitlines()
        self.assertEqual(lines[0], "erlmcp 1, pid 2: not ready: draining; 0 in flight, 0 parked")
        self.assertEqual(
            lines[2].split(), ["erlmcp", "up", "1970-01-01", "00:00:00Z", "2", "it", "is", "tired"]
        )
        self.assertTrue(lines[3].startswith("  a "))
        self.assertIn("sessions 2, breaker open, addresses one two", lines[3])
        self.assertNotIn("waiting", lines[3])
        self.assertTrue(lines[3].endswith("x…"))
        self.assertEqual(
            as_text({"version": "1", "pid": 2, "unready": None, "tree": None}),
            "erlmcp 1, pid 2: ready; 0 in flight, 0 parked",
        )

    def test_not_ready(self) -> None:
        from erlmcp.cli import _status

        report = {"version": "1", "pid": 2, "unready": "draining", "tree": None}
        before = _status.ask
        self.addCleanup(setattr, _status, "ask", before)
        _status.ask = lambda *_: report
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(main(["status"]), 3)
        self.assertIn("not ready: draining", said.getvalue())

    def test_no_daemon(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(main(["status", "--runtime", "/nowhere"]), 1)
        self.assertIn("erlmcp status: there is no /nowhere/admin.sock", said.getvalue())

    def test_real_daemon(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        port, runtime = free_port(), folder / "run"
        config = folder / "erlmcp.toml"
        config.write_text(
            f"[server]\nruntime = '{runtime}'\n[[provider]]\nuse = 'erlmcp.examples.demo:provider'\n"
            f"[[listen]]\nname = 'main'\ntransport = 'http'\nendpoint = 'tcp:{port}:interface=127.0.0.1'\n"
        )
        with Daemon(["--config", str(config)], [port]) as daemon:
            self.wait_for(runtime)
            self.assertEqual(stat.S_IMODE((runtime / SOCKET).stat().st_mode), 0o600)
            done = self.status("--json", "--runtime", str(runtime))
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertEqual(report["pid"], daemon.pid)
            tree = report["tree"]
            names = [child["name"] for child in tree["children"]]
            self.assertEqual(names, ["engine", "backends", "frontends", "admin", "watchdog"])
            (listener,) = tree["children"][2]["children"]
            self.assertEqual((listener["name"], listener["state"]), ("listen:main", "up"))
            self.assertEqual(listener["detail"]["addresses"], [f"127.0.0.1:{port}"])
            done = self.status(RUNTIME_DIRECTORY=str(runtime))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(f"pid {daemon.pid}: ready", done.stdout)
            self.assertRegex(done.stdout, r"\n    provider:demo +up ")
            self.assertEqual(daemon.stop(), 0, daemon.output())
        self.assertEqual(list(runtime.iterdir()), [])

    def wait_for(self, runtime: Path) -> None:
        """The listener is bound before the admin socket."""
        import time

        deadline = time.monotonic() + PATIENCE
        while not (runtime / SOCKET).exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def status(self, *options: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*ERLMCP, "status", *options],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=environment(extra),
        )
