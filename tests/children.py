"""Children for tests: who hears of one, and whether a process is there."""

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from erlmcp.processes import Child, ChildLimits, Command, Exit, Grace
from tests.daemon import PATIENCE

QUICK = Grace(close=0.1, terminate=0.1, kill=5.0)
PATIENT = Grace(close=PATIENCE, terminate=PATIENCE, kill=PATIENCE)


def sh(script: str, **options: Any) -> Command:
    """A command that is a shell script."""
    return Command(("/bin/sh", "-c", script), **options)


def python(script: str, **options: Any) -> Command:
    """A command that is a Python script."""
    return Command((sys.executable, "-S", "-E", "-c", script), **options)


def present(pid: int) -> bool:
    """Whether a process is there; one that has ended, and was not reaped, is."""
    return Path(f"/proc/{pid}").exists()


def running(pid: int) -> bool:
    """Whether a process has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for something outside of this process."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.01)


class Ears:
    """Keeps what a child says."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.output = b""
        self.exit: Exit | None = None
        self.words: list[str] = []
        self._waiting: list[tuple[Callable[[], object], Deferred[None]]] = []

    def until(self, true: Callable[[], object]) -> Deferred[None]:
        """Fires as soon as something is true of what was heard."""
        fired: Deferred[None] = Deferred()
        self._waiting.append((true, fired))
        self.look()
        return fired

    def look(self) -> None:
        due = [each for each in self._waiting if each[0]()]
        for each in due:
            self._waiting.remove(each)
            each[1].callback(None)

    def data_received(self, data: bytes) -> None:
        self.output += data
        self.look()

    def drained(self) -> None:
        self.heard.append("drained")
        self.look()

    def closed(self, what: str) -> None:
        self.heard.append(f"closed {what}")
        self.look()

    def ended(self, exit: Exit) -> None:  # noqa: A002
        self.heard.append(str(exit))
        self.exit = exit
        self.look()

    def report(self, line: str, left_out: int) -> None:
        self.words.append(f"{line} ({left_out})" if left_out else line)
        self.look()


class ChildCase(TestCase):
    """Tests with children, none of which outlives its test."""

    timeout = 2 * PATIENCE

    def child(
        self, command: Command, *, grace: Grace | None = None, limits: ChildLimits | None = None
    ) -> tuple[Child, Ears]:
        from twisted.internet import reactor

        ears = Ears()
        child = Child(
            reactor,
            command,
            "kid",
            ears,
            grace=PATIENT if grace is None else grace,
            limits=limits,
            report=ears.report,
        )
        self.addCleanup(child.end, Grace(0, 0, 1))
        return child, ears

    def folder(self) -> Path:
        """A new folder."""
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        return path

    async def pids(self, ears: Ears, count: int = 1) -> Sequence[int]:
        """The numbers that a child prints first, one in each line."""
        await ears.until(lambda: ears.output.count(b"\n") >= count or ears.exit)
        return [int(line) for line in ears.output.split(b"\n")[:count]]


def names(folder: str) -> set[str]:
    """What is in a folder."""
    return {path.name for path in Path(folder).iterdir()}


def descriptors() -> set[int]:
    """The descriptors that this process has open."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()}
