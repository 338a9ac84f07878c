"""``twistd -n erlmcp`` as a process: what it listens on, how it fails, how it ends."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from unittest import TestCase

from tests.daemon import PATIENCE, TWIST, TWISTD, Daemon, environment, free_port

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def post(url: str, method: str, **params: object) -> dict[str, object]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        **({"Mcp-Name": str(params["name"])} if "name" in params else {}),
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        result: dict[str, object] = json.load(response)["result"]
        return result


class ServingTests(TestCase):
    """It serves, says how it fares, and ends with 0 when it is told to."""

    def test_life(self) -> None:
        mcp, console = free_port(), free_port()
        with_file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "erlmcp.toml"
        with_file.write_text(
            '[[provider]]\nuse = "erlmcp.examples.demo:provider"\n'
            f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{mcp}:interface=127.0.0.1"\n'
            f'[telemetry]\nendpoint = "tcp:{console}:interface=127.0.0.1"\n'
        )
        with Daemon(["--config", str(with_file)], [mcp, console]) as daemon:
            answer = post(daemon.url, "tools/call", name="echo", arguments={"message": "hello"})
            self.assertEqual(answer["content"], [{"type": "text", "text": "hello"}])
            with urllib.request.urlopen(f"http://127.0.0.1:{console}/readyz", timeout=PATIENCE) as response:
                self.assertEqual(response.status, 200)
            with urllib.request.urlopen(f"http://127.0.0.1:{console}/metrics", timeout=PATIENCE) as response:
                self.assertIn(
                    b'erlmcp_requests_total{era="modern",method="tools/call",outcome="complete",'
                    b'tool="echo",transport="http"} 1.0',
                    response.read(),
                )
            self.assertEqual(daemon.stop(), 0, daemon.output())
            self.assertIn("SIGTERM: draining", daemon.output())

    def test_unix_socket_is_its_owners_alone(self) -> None:
        """Whatever the umask; Twisted's own default would let everybody in."""
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "mcp.sock"
        port = free_port()
        listeners = (f"tcp:unix:{path}", f"http:tcp:{port}:interface=127.0.0.1")
        options = [word for listener in listeners for word in ("--listen", listener)]
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        with Daemon(options, [port]) as daemon:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(PATIENCE)
                line.connect(str(path))
                line.sendall(b"{}\n")
                self.assertIn(b"-32600", line.recv(65536))
            self.assertEqual(daemon.stop(), 0, daemon.output())
        self.assertFalse(path.exists())

    def test_asyncio_provider(self) -> None:
        """A provider that needs asyncio gets its reactor without being asked for it."""
        with Daemon.http("tests.peers.asyncio_provider:provider") as daemon:
            answer = post(daemon.url, "tools/call", name="nap", arguments={"seconds": 0.01})
            self.assertEqual(answer["content"], [{"type": "text", "text": "in time"}])
            answer = post(daemon.url, "tools/call", name="nap", arguments={"seconds": 60})
            self.assertEqual(answer["content"], [{"type": "text", "text": "too late"}])
            self.assertIn("AsyncioSelectorReactor", daemon.output())
            self.assertEqual(daemon.stop(), 0, daemon.output())

    def test_twist(self) -> None:
        """Under twist, which has no privileged start, it listens and ends as under twistd."""
        port = free_port()
        with Daemon(["--listen", f"http:tcp:{port}:interface=127.0.0.1"], [port], under=TWIST) as daemon:
            answer = post(daemon.url, "tools/call", name="echo", arguments={"message": "hello"})
            self.assertEqual(answer["content"], [{"type": "text", "text": "hello"}])
            self.assertEqual(daemon.stop(), 0, daemon.output())

    def test_hang_up(self) -> None:
        """It takes its configuration up again, and says so."""
        with Daemon.http() as daemon:
            daemon.signal(signal.SIGHUP)
            post(daemon.url, "tools/call", name="echo", arguments={"message": "hello"})
            self.assertEqual(daemon.stop(), 0, daemon.output())
            self.assertIn("reloaded", daemon.output())


class FailingTests(TestCase):
    """It ends with another status than 0, and says why."""

    def failed(self, *options: str) -> str:
        """What it said before it exited; it must not have stayed up, nor exited with 0."""
        done = subprocess.run(
            [*TWISTD, "erlmcp", *options],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=environment(),
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_taken_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            free = free_port()
            said = self.failed(
                "--listen",
                f"http:tcp:{free}:interface=127.0.0.1",
                "--listen",
                f"tcp:tcp:{port}:interface=127.0.0.1",
            )
        self.assertIn(f"tcp:{port}:interface=127.0.0.1", said)
        self.assertIn("Address already in use", said)

    def test_taken_port_in_the_background(self) -> None:
        """Whoever starts a daemon is told that it did not come up, and no pid file says that it did."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            done = subprocess.run(
                [*TWISTD[:-2], "--pidfile=pid", "--logfile=log", "erlmcp", "--listen", f"http:{endpoint}"],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
            )
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn(endpoint, done.stdout + done.stderr)
        self.assertFalse((folder / "pid").exists())
        self.assertIn("Address already in use", (folder / "log").read_text())

    def test_wrong_endpoints_open_listeners_and_unreadable_keys(self) -> None:
        said = self.failed(
            "--listen",
            "http:tpc:1",
            "--listen",
            "tcp:tcp:0",
            "--listen",
            "http:ssl:0:privateKey=/no/such.key:interface=127.0.0.1",
        )
        self.assertIn("--listen http:tpc:1", said)
        self.assertIn("did you mean 'tcp'", said)
        self.assertIn("--listen tcp:tcp:0: listen[2].endpoint: tcp:0 is open", said)
        self.assertIn("No such file or directory '/no/such.key'", said)

    def test_a_failure_once_the_reactor_runs(self) -> None:
        """The status is carried out although the reactor has stopped in good order."""
        script = (
            "from twisted.internet import reactor; from erlmcp.tap._exit import leave_with;"
            "reactor.callWhenRunning(lambda: (leave_with(1), reactor.stop())); reactor.run(); print('after')"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            env=environment(),
        )
        self.assertEqual((done.returncode, done.stdout), (1, b"after\n"))
