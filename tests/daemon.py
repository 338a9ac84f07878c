"""A real daemon in a process of its own, for the tests that look at it from outside."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
TWIST = (sys.executable, "-c", "import sys; from twisted.application.twist._twist import Twist; Twist.main()")
ERLMCP = (sys.executable, "-c", "import sys; from erlmcp.cli import main; sys.exit(main())")
PATIENCE = 60.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables for a child that must import this checkout, from whatever folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **(extra or {})}


_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nothing listens on just now, another each time.

    None of those that the kernel gives to whoever connects, where that leaves any: it stays free until it is listened
    on, and while what listens on it is restarted, however many connections are made meanwhile.
    """
    ports = range(10_000, _first_ephemeral())
    chance = random.SystemRandom()  # not the one that Hypothesis seeds
    for _ in range(1000 if ports else 0):
        port = chance.choice(ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def _first_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 0


class Daemon:
    """``twistd -n erlmcp`` with the given options, up once every port in `ports` accepts.

    Used as a context manager; it always ends the process that it started, and only that.
    """

    def __init__(
        self,
        options: Sequence[str],
        ports: Sequence[int],
        *,
        extra: Mapping[str, str] | None = None,
        under: Sequence[str] = TWISTD,
    ) -> None:
        self.command = [*under, "erlmcp", *options]
        self.ports = tuple(ports)
        self.extra = extra
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def http(cls, provider: str | None = None) -> Self:
        """The daemon on a free port over HTTP alone; see `url`."""
        port = free_port()
        options = ["--listen", f"http:tcp:{port}:interface=127.0.0.1"]
        return cls([*options, *(["--provider", provider] if provider else [])], [port])

    @property
    def pid(self) -> int:
        """Of its process."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    @property
    def url(self) -> str:
        """The endpoint on the first port."""
        return f"http://127.0.0.1:{self.ports[0]}/mcp"

    def __enter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="erlmcp-test-"))
        self.log = Path(folder) / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment(self.extra),
            )
        try:
            for port in self.ports:
                self._wait_for(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        self._stack.close()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> int:
        """Ask it to end, insist after a while; gives its exit status. Once it has ended this does nothing."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    def wait(self) -> int:
        """Wait until it ends by itself; gives its exit status."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.wait(PATIENCE)

    def kill(self) -> None:
        """End it as the kernel would: without a word, in the middle of whatever it does."""
        process = self._process
        if process is None:
            raise RuntimeError("not started")
        process.kill()
        process.wait(PATIENCE)

    def _wait_for(self, port: int) -> None:
        process = self._process
        if process is None:
            raise RuntimeError("not started")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"the daemon exited with {process.returncode}:\n{self.output()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
            time.sleep(0.01)
        raise RuntimeError(f"the daemon does not listen on {port}:\n{self.output()}")

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")
