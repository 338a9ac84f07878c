"""A transport of a separate package, installed beside erlmcp: found, listed, and served through."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange, ITransport
from tests.daemon import ERLMCP, ROOT, Daemon, free_port
from tests.doubles import OpenLimits, RecordingChannel, Stream, context, echo, hold

PACKAGE = Path(__file__).parent / "plugin_package"
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}


def frame(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


def unframe(data: bytes) -> list[bytes]:
    messages = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        messages.append(data[4:end])
        data = data[end:]
    return messages


class Installed(SynchronousTestCase):
    """A copy of the package, on the path of processes of its own: Twisted writes its plugin cache there."""

    def setUp(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.place = Path(folder) / "site"
        shutil.copytree(PACKAGE, self.place, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        self.path = os.pathsep.join([str(self.place), str(ROOT)])

    def test_it_is_a_package_of_its_own(self) -> None:
        self.assertFalse((PACKAGE / "twisted" / "__init__.py").exists())
        self.assertFalse((PACKAGE / "twisted" / "plugins" / "__init__.py").exists())

    def test_it_is_listed(self) -> None:
        done = subprocess.run(
            [*ERLMCP, "plugins"],
            env={**os.environ, "PYTHONPATH": self.path},
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        listed = done.stdout.split()
        for name in ("frames", "http", "stdio", "tcp"):
            self.assertIn(name, listed)
        self.assertTrue((self.place / "twisted" / "plugins" / "dropin.cache").exists())

    def test_it_serves_the_daemons_tools(self) -> None:
        port = free_port()
        options = ["--listen", f"frames:tcp:{port}:interface=127.0.0.1"]
        with Daemon(options, [port], extra={"PYTHONPATH": self.path}) as daemon:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(frame(json.dumps(CALL).encode()))
                with client.makefile("rb") as stream:
                    size = int.from_bytes(stream.read(4), "big")
                    answer = json.loads(stream.read(size))
            self.assertEqual(daemon.stop(), 0)
        self.assertEqual(answer["id"], 1)
        self.assertTrue(answer["result"]["tools"])


class Frames(SynchronousTestCase):
    """The example keeps what its how-to promises."""

    def setUp(self) -> None:
        sys.path.insert(0, str(PACKAGE))
        self.addCleanup(sys.path.remove, str(PACKAGE))
        from erlmcp_frames import FramesTransport

        self.transport = FramesTransport()

    def connect(self, answer: Any = echo, largest: int = 100, **limits: Any) -> None:
        self.clock = MemoryReactorClock()
        self.channel = RecordingChannel(answer)
        self.limits = OpenLimits(**limits)
        self.listener: Any = self.transport.listener(
            context(self.channel, self.limits, self.clock, "tcp:80"),
            self.transport.options(largest=largest),
        )
        self.successResultOf(self.listener.bind())
        self.connection: Any = self.clock.tcpServers[0][1].buildProtocol(None)
        self.stream = Stream(self.clock, self.connection)

    def test_provides_its_interfaces(self) -> None:
        verifyObject(ITransport, self.transport)
        self.connect()
        verifyObject(IExchange, self.connection)

    def test_frames_in_any_chunking(self) -> None:
        self.connect()
        for byte in frame(b"{1}") + frame(b"{2}"):
            self.stream.receive(bytes([byte]))
        self.assertEqual(unframe(self.stream.take()), [b"echo {1}", b"echo {2}"])

    def test_what_is_too_large_is_cut_and_so_is_a_web_page(self) -> None:
        for data in (frame(b"x" * 101), b"POST / HTTP/1.1\r\n\r\n" + frame(b"{}")):
            self.connect()
            self.stream.receive(data)
            self.assertTrue(self.stream.lost)
            self.assertEqual(self.channel.messages, [])

    def test_the_servers_own_limit_holds_too(self) -> None:
        self.connect(largest=1000, message=64)
        self.stream.receive(frame(b"x" * 65))
        self.assertTrue(self.stream.lost)

    def test_reading_pauses_at_the_limit_and_goes_on(self) -> None:
        self.connect(hold, in_flight=1)
        self.stream.receive(frame(b"{1}") + frame(b"{2}"))
        self.assertEqual(self.stream.producerState, "paused")
        self.connection.accept()
        self.assertEqual(self.channel.messages, [b"{1}"])
        self.clock.advance(0)
        self.assertEqual(self.channel.messages, [b"{1}", b"{2}"])
        self.assertEqual(self.stream.producerState, "paused")
        self.connection.abandon()
        self.clock.advance(0)
        self.assertEqual(self.stream.producerState, "producing")

    def test_a_peer_that_does_not_read_is_not_read_and_not_told_of_ever_more(self) -> None:
        self.connect(hold, write_buffer=100_000)
        self.stream.receive(frame(b"{1}"))
        self.connection.notify(b"x" * 150_000)
        self.assertTrue(self.connection.congested)
        self.stream.receive(frame(b"{2}"))
        self.assertEqual(self.stream.producerState, "paused")
        self.stream.take()
        self.assertEqual(self.channel.messages, [b"{1}", b"{2}"])
        for _ in range(5):
            self.connection.notify(b"x" * 100_000)
        self.assertTrue(self.stream.lost)

    def test_the_lease_and_the_idle_time(self) -> None:
        self.connect(lease=5, idle=20)
        self.clock.pump([0.5] * 12)
        self.assertTrue(self.stream.lost)
        self.connect(hold, lease=5, idle=20)
        self.stream.receive(frame(b"{1}"))
        self.clock.pump([0.5] * 60)
        self.assertFalse(self.stream.lost)
        self.connection.reply(b"one")
        self.clock.pump([0.5] * 42)
        self.assertTrue(self.stream.lost)

    def test_draining_answers_what_is_in_flight(self) -> None:
        self.connect(hold)
        self.stream.receive(frame(b"{1}"))
        drained = self.listener.drain()
        self.stream.receive(frame(b"{2}"))
        self.connection.reply(b"x" * 200_000)
        self.assertEqual(unframe(self.stream.take()), [b"x" * 200_000])
        self.clock.advance(0)
        self.successResultOf(drained)
        self.assertEqual(self.channel.messages, [b"{1}"])
        self.assertEqual(self.channel.gone, [self.connection])

    def test_the_refused_is_cut(self) -> None:
        self.connect(refusal="connections")
        self.assertTrue(self.stream.lost)
        self.clock.advance(0)
        self.assertEqual(self.channel.gone, [])
        self.successResultOf(self.listener.close())

    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.booleans())
    @settings(deadline=None, max_examples=60)
    def test_any_bytes(self, chunks: list[bytes], framed: bool) -> None:
        self.connect()
        for chunk in chunks:
            self.stream.receive(frame(chunk) if framed else chunk)
        drained = self.listener.drain()
        answers = unframe(self.stream.take())
        self.clock.advance(0)
        self.successResultOf(drained)
        if framed:
            self.assertEqual(answers, [b"echo " + chunk for chunk in chunks])
        self.assertEqual(self.limits.here, [])


class Page(SynchronousTestCase):
    """The how-to shows the package, and nothing else."""

    def test_the_how_to_shows_the_very_code(self) -> None:
        page = (ROOT / "docs" / "howto" / "transport.md").read_text()
        shown = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        text = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        self.assertEqual("\n\n".join(shown[:3]), (PACKAGE / "erlmcp_frames" / "__init__.py").read_text())
        dropin = PACKAGE / "twisted" / "plugins" / "erlmcp_frames_plugin.py"
        self.assertEqual(shown[3:], [dropin.read_text()])
        self.assertEqual(text[0], (PACKAGE / "pyproject.toml").read_text())
