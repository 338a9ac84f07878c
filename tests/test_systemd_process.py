"""A real daemon as systemd runs it: it says how it fares, is fed its sockets, and reads its credentials."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from unittest import TestCase

from tests.daemon import PATIENCE, TWISTD, Daemon, environment, free_port
from tests.test_tap_process import post


class ManagerTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.notify = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.notify.bind(str(self.folder / "notify"))
        self.notify.settimeout(PATIENCE)
        self.environment = {"NOTIFY_SOCKET": str(self.folder / "notify")}

    def hears(self, word: str) -> list[str]:
        """Wait for a message that begins so; its lines."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            lines = self.notify.recv(4096).decode().split("\n")
            if lines[0].startswith(word):
                return lines
        raise AssertionError(f"systemd was not told {word}")


class NotifyTests(ManagerTestCase):
    """``Type=notify``, ``WatchdogSec=``."""

    def test_life(self) -> None:
        port = free_port()
        options = ["--listen", f"http:tcp:{port}:interface=127.0.0.1"]
        extra = {**self.environment, "WATCHDOG_USEC": "400000"}
        with Daemon(options, [], extra=extra) as daemon:
            daemon.ports = (port,)
            self.hears("READY=1")
            # Not before: whoever waits for it may connect at once.
            post(daemon.url, "tools/call", name="echo", arguments={"message": "hello"})
            self.hears("WATCHDOG=1")
            self.hears("WATCHDOG=1")
            self.assertEqual(daemon.stop(), 0, daemon.output())
            stopping = self.hears("STOPPING=1")
            self.assertTrue(stopping[1].startswith("EXTEND_TIMEOUT_USEC="), stopping)

    def test_a_reactor_that_hangs(self) -> None:
        """It is not fed by a process that is there, but by one that works: one that is stopped feeds nobody."""
        port = free_port()
        options = ["--listen", f"http:tcp:{port}:interface=127.0.0.1"]
        with Daemon(options, [port], extra={**self.environment, "WATCHDOG_USEC": "200000"}) as daemon:
            self.hears("WATCHDOG=1")
            daemon.signal(signal.SIGSTOP)
            self.addCleanup(daemon.signal, signal.SIGCONT)
            self.notify.settimeout(1.0)
            with self.assertRaises(TimeoutError):
                while True:  # what was sent before it stopped
                    self.notify.recv(4096)
            daemon.signal(signal.SIGCONT)
            self.notify.settimeout(PATIENCE)
            self.hears("WATCHDOG=1")
            self.assertEqual(daemon.stop(), 0, daemon.output())

    def test_a_failed_start(self) -> None:
        """Nobody is told that it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            options = ["--listen", f"http:tcp:{taken.getsockname()[1]}:interface=127.0.0.1"]
            done = subprocess.run(
                [*TWISTD, "erlmcp", *options],
                env=environment(self.environment),
                capture_output=True,
                timeout=PATIENCE,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        self.assertEqual(done.returncode, 1)
        self.notify.settimeout(0.0)
        self.assertRaises(BlockingIOError, self.notify.recv, 4096)


class ActivationTests(ManagerTestCase):
    """``erlmcp.socket``: systemd holds the sockets, and passes them."""

    def test_inherited(self) -> None:
        """By name, for TCP and for a unix socket; what came before the start is answered after it."""
        with (
            socket.create_server(("127.0.0.1", 0)) as inet,
            socket.socket(socket.AF_UNIX) as unix,
        ):
            unix.bind(str(self.folder / "mcp.sock"))
            unix.listen()
            port = inet.getsockname()[1]
            early = self.enterContext(socket.socket(socket.AF_UNIX))
            early.settimeout(PATIENCE)
            early.connect(str(self.folder / "mcp.sock"))
            early.sendall(b"{}\n")
            # As systemd does it: from 3 on, and named to the process that they are for by its own id.
            script = (
                "import os, sys; a, b = int(sys.argv[1]), int(sys.argv[2]);"
                "os.dup2(a, 103); os.dup2(b, 104); os.dup2(103, 3); os.dup2(104, 4); os.close(103); os.close(104);"
                "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='mcp:local');"
                "os.execv(sys.argv[3], sys.argv[3:])"
            )
            command = [
                *(sys.executable, "-c", script, str(inet.fileno()), str(unix.fileno()), *TWISTD, "erlmcp"),
                *(
                    "--listen",
                    "http:systemd:domain=INET:name=mcp",
                    "--listen",
                    "tcp:systemd:domain=UNIX:name=local",
                ),
            ]
            log = self.enterContext((self.folder / "log").open("wb+"))
            process = subprocess.Popen(
                command,
                env=environment(self.environment),
                pass_fds=(inet.fileno(), unix.fileno()),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
            try:
                self.hears("READY=1")
                self.assertIn(b"-32600", early.recv(65536))
                url = f"http://127.0.0.1:{port}/mcp"
                answer = post(url, "tools/call", name="echo", arguments={"message": "hello"})
                self.assertEqual(answer["content"], [{"type": "text", "text": "hello"}])
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(PATIENCE), 0, (self.folder / "log").read_text())
            except BaseException:
                process.kill()
                process.wait()
                print((self.folder / "log").read_text())
                raise
            # They are systemd's: it has them still, and the path is still there.
            self.assertTrue((self.folder / "mcp.sock").exists())


class CredentialTests(ManagerTestCase):
    """``LoadCredential=``."""

    def test_keys(self) -> None:
        key = urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=")
        (self.folder / "erlmcp-keys").write_bytes(key)
        config = self.folder / "erlmcp.toml"
        port = free_port()
        config.write_text(
            '[server]\nkeys = { credential = "erlmcp-keys" }\n'
            '[[provider]]\nuse = "erlmcp.examples.demo:provider"\n'
            f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
        )
        extra = {**os.environ, **self.environment, "CREDENTIALS_DIRECTORY": str(self.folder)}
        with Daemon(["--config", str(config)], [port], extra=extra) as daemon:
            self.hears("READY=1")
            self.assertEqual(daemon.stop(), 0, daemon.output())
            self.assertIn("sealing keys: the configured secret", daemon.output())
            self.assertNotIn(key.decode(), daemon.output())
