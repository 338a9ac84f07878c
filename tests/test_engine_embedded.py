"""The embedded engine against the suite, with its file and without."""

import queue
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.engine import Bounds, EmbeddedEngine
from erlmcp.interfaces import EngineError
from tests.engine_suite import EngineSuite, run_machine

WAIT = 30.0
SMALL = Bounds(changes=6)


class Reactor(Clock):
    """A clock, and what threads have sent to it."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox: queue.Queue[Any] = queue.Queue()

    def callFromThread(self, act: Any, *rest: Any) -> None:  # noqa: N802 - Twisted's name
        self.inbox.put((act, rest))

    def settle(self, deferred: Deferred[Any]) -> Any:
        """Run until the Deferred has fired: turns of the reactor, and what comes from threads."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        while not results:
            self.advance(0)
            if not results:
                act, rest = self.inbox.get(timeout=WAIT)
                act(*rest)
        (result,) = results
        if isinstance(result, Failure):
            result.trap(EngineError)
            return result.value
        return result


class EmbeddedWorld:
    """An embedded engine on a clock of its own."""

    mirrors = False

    def __init__(self, folder: Path | None, bounds: Bounds | None = None) -> None:
        self.durable = folder is not None
        self.folder = folder
        self.bounds = bounds
        self.reactor = Reactor()
        self.offset = 1_800_000_000.0
        self.lives = 0
        self.closing: list[Any] = []
        self.begin()

    def begin(self) -> None:
        file = None if self.folder is None else self.folder / "0" / "engine.db"
        if file is not None and self.lives:
            file = file.parent.with_name(str(self.lives)) / file.name
        self.file = file
        self.engine = EmbeddedEngine(
            self.reactor, file=file, bounds=self.bounds, wall=self.wall, steady=self.reactor.seconds
        )
        self.engine.start()

    def wall(self) -> float:
        return self.offset + self.reactor.seconds()

    def wait(self, seconds: float) -> None:
        # In one leap, as a reactor that was busy would see it; and a turn for those who are told.
        self.reactor.advance(seconds)
        self.reactor.advance(0)

    def step(self, seconds: float) -> None:
        self.offset += seconds

    def settle(self, deferred: Deferred[Any]) -> Any:
        return self.reactor.settle(deferred)

    def restart(self, *, kill: bool) -> None:
        assert self.file is not None
        if not kill:
            self.settle(self.engine.close())
        # What a killed process leaves is what its files have at that moment.
        self.lives += 1
        shutil.copytree(self.file.parent, self.file.parent.with_name(str(self.lives)))
        if kill:
            self.settle(self.engine.close())
        self.begin()

    def end(self) -> None:
        self.settle(self.engine.close())
        if self.folder is not None:
            shutil.rmtree(self.folder)


def lasting(bounds: Bounds | None = None) -> EmbeddedWorld:
    return EmbeddedWorld(Path(tempfile.mkdtemp()), bounds)


class MemoryTests(SynchronousTestCase, EngineSuite):
    """Without a file."""

    def setUp(self) -> None:
        self.world = EmbeddedWorld(None)
        self.addCleanup(self.world.end)

    def test_machine(self) -> None:
        run_machine(lambda: EmbeddedWorld(None, SMALL), examples=60, steps=50)


class FileTests(SynchronousTestCase, EngineSuite):
    """With one."""

    def setUp(self) -> None:
        self.world = lasting()
        self.addCleanup(self.world.end)

    def test_machine(self) -> None:
        run_machine(lambda: lasting(SMALL), examples=25, steps=50)
