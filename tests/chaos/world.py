"""The daemon that is broken: started with workers, its state on a small disk of its own, and asked how it fares."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from erlmcp.admin import AdminError, ask
from tests.chaos.provider import LEDGER
from tests.daemon import TWISTD, Daemon, free_port

DISK: Final = 16
"""Megabytes of the disk that the state directory is on."""
_MOUNT: Final = f'mount -t tmpfs -o size={DISK}m,mode=700 chaos "$0" && exec "$@"'
_SHORT: Final = 20.0
"""Seconds for what is asked of the daemon aside: a busy machine takes its time."""
DRAIN: Final = 5.0


class World:
    """One daemon in a folder of its own. What looks at it blocks: call it in threads.

    Args:
        folder: where everything is kept.
        workers: how many it has.

    Attributes:
        web, lines, console: its ports.
        far: the daemon that it has as its upstream; a new one each time it is restarted.
        disk: why its state is on no disk of its own; empty if it is.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.workers = workers
        self.web, self.lines, self.console, self._far_port = (free_port() for _ in range(4))
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self._state = folder / "state"
        self._state.mkdir(mode=0o700)
        self._runtime = folder / "run"
        self._file = folder / "erlmcp.toml"
        self._written = 0
        self._read = 0
        self.far = self._upstream()
        self.write()
        self.disk = why_not()
        mounting = (*_namespaces(), "sh", "-c", _MOUNT, str(self._state))
        under = TWISTD if self.disk else (*mounting, *TWISTD)
        self.daemon = Daemon(
            ["--config", str(self._file)],
            [self.web, self.lines, self.console],
            extra={LEDGER: str(self.ledger)},
            under=under,
        )

    @contextmanager
    def with_upstream(self) -> Iterator[None]:
        """The time that there is an upstream, killed and restarted as it may be."""
        self.far.__enter__()
        try:
            yield
        finally:
            self.far.__exit__()

    def restart_far(self) -> None:
        """Start the upstream again, where it was."""
        self.far.__exit__()
        self.far = self._upstream()
        self.far.__enter__()

    def _upstream(self) -> Daemon:
        listen = f"http:tcp:{self._far_port}:interface=127.0.0.1"
        return Daemon(
            ["--listen", listen, "--provider", "tests.chaos.provider:provider"],
            [self._far_port],
            extra={LEDGER: str(self.ledger)},
        )

    def write(self) -> None:
        """Write a configuration that differs from the one before."""
        self._written += 1
        self._file.write_text(
            f"""
            [server]
            name = 'chaos {self._written}'
            state = '{self._state}'
            runtime = '{self._runtime}'
            workers = {self.workers}
            drain = {DRAIN}
            [[provider]]
            use = 'tests.chaos.provider:provider'
            [[upstream]]
            name = 'far'
            transport = 'http'
            url = 'http://127.0.0.1:{self._far_port}/mcp'
            [[listen]]
            name = 'web'
            transport = 'http'
            endpoint = 'tcp:{self.web}:interface=127.0.0.1'
            h2c = true
            [[listen]]
            name = 'lines'
            transport = 'tcp'
            endpoint = 'tcp:{self.lines}:interface=127.0.0.1'
            [telemetry]
            endpoint = 'tcp:{self.console}:interface=127.0.0.1'
            """
        )

    def pids(self) -> dict[str, int]:
        """The workers that serve: slot -> process."""
        try:
            tree = ask(self._runtime, "status", timeout=_SHORT)["tree"]
        except AdminError:
            return {}
        found = next((one for one in tree["children"] if one["name"] == "workers"), None)
        if found is None:
            return {}
        return {
            one["name"]: one["detail"]["pid"]
            for one in found["children"]
            if one["state"] == "up" and one["detail"].get("pid")
        }

    def ready(self) -> tuple[bool, str]:
        """What ``/readyz`` says."""
        try:
            with self._get("readyz") as page:
                return True, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return False, error.read().decode()
        except OSError as error:
            return False, str(error)

    def gauge(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with self._get("metrics") as page:
            lines = page.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " "))
        )

    def _get(self, page: str) -> Any:
        return urllib.request.urlopen(f"http://127.0.0.1:{self.console}/{page}", timeout=_SHORT)

    def news(self, *words: str) -> bool:
        """Whether its log has one of these since it was last asked with success."""
        text = self.daemon.output()
        ends = [found + len(word) for word in words if (found := text.find(word, self._read)) >= 0]
        if ends:
            self._read = min(ends)
        return bool(ends)

    def fill(self) -> None:
        """Fill the disk to the last byte."""
        with self._filler().open("ab", buffering=0) as file, suppress(OSError):
            for size in (65536, 512, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free(self) -> None:
        """Make room again."""
        self._filler().unlink(missing_ok=True)

    def _filler(self) -> Path:
        # The disk is mounted for the daemon alone.
        return Path(f"/proc/{self.daemon.pid}/root{self._state}/filler")

    def left(self, pids: set[int]) -> list[int]:
        """Which of these processes are still there, and no zombies."""
        return [pid for pid in pids if _alive(pid)]

    def talk(self, data: bytes, port: int, *, patience: float, lines: int | None = None) -> bytes:
        """Send bytes, and give what comes back until it is over, or so many lines, or nothing comes any more."""
        heard = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), _SHORT) as line:
            line.settimeout(patience)
            line.sendall(data)
            while (lines is None or heard.count(b"\n") < lines) and (chunk := line.recv(65536)):
                heard += chunk
        return heard


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _namespaces() -> tuple[str, ...]:
    """What lets the daemon have a mount of its own."""
    return ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--mount")


def why_not() -> str:
    """Why nothing can be mounted for a daemon alone; empty if it can."""
    if shutil.which("unshare") is None:
        return "there is no unshare"
    with tempfile.TemporaryDirectory() as folder:
        mounting = [*_namespaces(), "sh", "-c", _MOUNT, folder, "true"]
        done = subprocess.run(mounting, capture_output=True, text=True, timeout=_SHORT, check=False)
    return "" if done.returncode == 0 else f"no mount of one's own: {done.stderr.strip()}"
