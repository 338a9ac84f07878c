"""Servers under measurement: real processes on one core, started, watched and ended by their id."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE = 0
LOAD_CORE = 1


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _pinned_to(core: int) -> Callable[[], None]:
    available = sorted(os.sched_getaffinity(0) | {SERVER_CORE})
    chosen = core if core in available else available[0]
    return lambda: os.sched_setaffinity(0, {chosen})


def free_port() -> int:
    """A loopback port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server process, pinned to the server's core.

    Args:
        command: what to run; no shell is involved.
        log: where its standard error goes (and its standard output, unless `pipes`).
        pipes: whether its standard streams are pipes for a stdio client.
        environment: variables added to ours.
        ports: loopback ports that must accept before it counts as started.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        pipes: bool = False,
        environment: Mapping[str, str] | None = None,
        ports: Sequence[int] = (),
    ) -> None:
        self.command = list(command)
        self.log = log
        self.pipes = pipes
        self.environment = dict(environment or {})
        self.ports = tuple(ports)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        core = _pinned_to(SERVER_CORE)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE if self.pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.pipes else log,
                stderr=log,
                bufsize=0,
                cwd=self.log.parent,
                env={**os.environ, **self.environment},
                preexec_fn=core,  # noqa: PLW1509 - no threads run here
            )
        try:
            for port in self.ports:
                self._accepts(port, 60.0)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def _accepts(self, port: int, patience: float) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.running.poll() is not None:
                raise RuntimeError(f"{self.command} exited with {self.running.returncode}:\n{self.tail()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
            time.sleep(0.002)
        raise RuntimeError(f"{self.command} does not listen on {port} after {patience:.0f} s:\n{self.tail()}")

    def wait(self, seconds: float) -> None:
        """Give it some time; an error if it ends meanwhile."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.running.wait(seconds)
            raise RuntimeError(f"{self.command} exited with {status}:\n{self.tail()}")

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process; an error if it was never started."""
        if self.process is None:
            raise RuntimeError("not started")
        return self.process

    def tail(self) -> str:
        """The end of its log, for error messages."""
        return self.log.read_text(errors="replace")[-1500:]

    def processor_seconds(self) -> float:
        """Processor time used so far, user and system."""
        fields = Path(f"/proc/{self.running.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_kib(self) -> int:
        """Resident memory in KiB."""
        for line in Path(f"/proc/{self.running.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("the kernel tells no VmRSS")

    def end(self) -> None:
        """End this process, and no other: ask, then insist."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2.0)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run_pinned(
    command: Sequence[str], *, patience: float, environment: Mapping[str, str] | None = None
) -> str:
    """Run a load generator on the load core and give what it prints."""
    done = subprocess.run(
        list(command),
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
        env={**os.environ, **(environment or {})},
        preexec_fn=_pinned_to(LOAD_CORE),
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout


@contextlib.contextmanager
def beside_the_load(server: "Server") -> Iterator[None]:
    """Let a server share the load's core for a while: nobody has to wake a core that sleeps."""
    if cores() < 2:
        yield
        return
    before = os.sched_getaffinity(server.running.pid)
    _move(server, {LOAD_CORE})
    try:
        yield
    finally:
        _move(server, before)


def _move(server: "Server", to: set[int]) -> None:
    for thread in Path(f"/proc/{server.running.pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), to)


@contextlib.contextmanager
def load_core() -> Iterator[None]:
    """Keep this process, which is a load generator itself, on the load core for a while."""
    before = os.sched_getaffinity(0)
    _pinned_to(LOAD_CORE)()
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
