"""The engine's file: made for its owner alone, checked, refused with a reason, whole after a kill."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.engine import Bounds, EmbeddedEngine, EngineFileError, inspect
from erlmcp.engine._file import EngineFile, Row
from tests.daemon import ROOT, environment
from tests.test_engine_embedded import Reactor


class FileTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "state" / "engine.db"

    def opened(self) -> EngineFile:
        file = EngineFile(self.path)
        self.addCleanup(file.close)
        return file

    def made(self) -> None:
        EngineFile(self.path).close()

    def refusal(self) -> str:
        """Why it cannot be used. Looking at it and using it say the same."""
        said = str(self.assertRaises(EngineFileError, self.start))
        self.assertTrue(said.startswith(f"{self.path} "), said)
        return said

    def start(self, **bounds: int) -> None:
        engine = EmbeddedEngine(Reactor(), file=self.path, bounds=Bounds(**bounds))
        engine.start()
        self.addCleanup(engine._writes._file.close)

    def looked(self) -> str:
        return str(self.assertRaises(EngineFileError, inspect, self.path))

    def alter(self, *statements: str) -> None:
        base = sqlite3.connect(self.path, isolation_level=None)
        for statement in statements:
            base.execute(statement)
        base.close()


class MakingTests(FileTestCase):
    """A file that is missing."""

    def test_made(self) -> None:
        self.assertFalse(inspect(self.path))
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        file = self.opened()
        file.write([("k", Row(b"v", 1, None))])
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)
        for path in self.path.parent.iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)
        self.assertTrue(inspect(self.path))

    def test_empty(self) -> None:
        """A process that was killed while it made the file."""
        self.path.parent.mkdir()
        self.path.touch(mode=0o600)
        self.assertFalse(inspect(self.path))
        self.assertEqual(self.opened().rows(0.0, 1), [])

    def test_without_a_folder(self) -> None:
        self.path = self.folder / "no" / "such" / "engine.db"
        self.assertIn("cannot be made: No such file or directory", self.refusal())

    def test_revisions_grow(self) -> None:
        first = self.opened().begin(5)
        self.assertGreaterEqual(first, 5)
        self.assertRaises(EngineFileError, EngineFile, self.path)

    def test_lives(self) -> None:
        """A new life is past all revisions of the one before, whatever the clock says."""
        seen = []
        for least in (1 << 50, 0, 1 << 51):
            file = EngineFile(self.path)
            seen.append(file.begin(least))
            file.close()
        self.assertEqual(seen[0], 1 << 50)
        self.assertEqual(seen[1], seen[0] + (1 << 42))
        self.assertEqual(seen[2], 1 << 51)


class RefusalTests(FileTestCase):
    """A file that cannot be used."""

    def test_open_to_others(self) -> None:
        self.made()
        self.path.chmod(0o640)
        self.assertIn(
            f"has mode 0640, so that others can read or change it: chmod 600 {self.path}", self.refusal()
        )
        self.assertEqual(self.looked(), self.refusal())

    def test_unreadable(self) -> None:
        self.path.mkdir(parents=True)
        self.assertIn("cannot be read: Is a directory", self.refusal())
        self.assertEqual(self.looked(), self.refusal())

    def test_something_else(self) -> None:
        self.path.parent.mkdir()
        for text in (b"hello\n", b"SQLite format 3\0 and no more"):
            self.path.write_bytes(text)
            self.path.chmod(0o600)
            self.assertIn("is no SQLite database, or is corrupt: move it away", self.refusal())
            self.assertEqual(self.looked(), self.refusal())

    def test_another_database(self) -> None:
        self.path.parent.mkdir()
        self.path.touch(mode=0o600)
        self.alter("CREATE TABLE x (y)")
        self.assertIn("is a database of something else", self.refusal())
        self.assertEqual(self.looked(), self.refusal())

    def test_newer(self) -> None:
        self.made()
        self.alter("PRAGMA user_version = 2")
        self.assertIn("is of version 2, of a newer erlmcp; this one knows version 1", self.refusal())
        self.assertEqual(self.looked(), self.refusal())

    def test_torn(self) -> None:
        """Its head is well, the rest is not."""
        file = EngineFile(self.path)
        file.write((f"k{number}", Row(b"v" * 1000, number, None)) for number in range(100))
        file.close()
        whole = self.path.read_bytes()
        for cut in (whole[:4096], whole[:4096] + b"\xff" * (len(whole) - 4096)):
            self.path.write_bytes(cut)
            self.assertIn("is corrupt (", self.refusal())
        self.assertTrue(inspect(self.path), "which its head does not tell")

    def test_no_such_table(self) -> None:
        self.made()
        self.alter("DROP TABLE life")
        self.assertIn("cannot be used: no such table: life", self.refusal())

    def test_no_life(self) -> None:
        self.made()
        self.alter("DELETE FROM life")
        self.assertIn("is corrupt (", self.refusal())

    def test_rows_that_are_none(self) -> None:
        self.made()
        for row in (
            "x'00', x'00', 1, NULL",
            "'k', 'text', 1, NULL",
            "'k', x'00', 'r', NULL",
            "'k', x'00', 1, 'e'",
        ):
            self.alter("DELETE FROM entry", f"INSERT INTO entry VALUES ({row})")
            self.assertIn("has a row that is no entry", self.refusal())

    def test_more_than_there_may_be(self) -> None:
        file = EngineFile(self.path)
        file.write((f"k{number}", Row(b"v" * 1000, number, None)) for number in range(3))
        file.close()
        said = str(self.assertRaises(EngineFileError, self.start, entries=2))
        self.assertIn("more than the 2 entries that [engine] entries allows", said)
        said = str(self.assertRaises(EngineFileError, self.start, memory=3000))
        self.assertIn("more than the 3000 bytes of entries that [engine] memory allows", said)
        self.start(entries=3)

    def test_in_use(self) -> None:
        """One daemon has it; another one, in whatever process, does not get it."""
        self.opened()
        self.assertIn("is in use by another process: a state directory is for one daemon", self.refusal())


class WritingTests(FileTestCase):
    """What goes in comes out."""

    def test_all_or_none(self) -> None:
        file = self.opened()
        file.write([("a", Row(b"1", 1, None)), ("b", Row(b"2", 2, 50.0))])
        bad = [("a", None), ("c", Row(b"3", "no text fits", None))]
        bad[1] = ("c", Row(None, 3, None))
        self.assertRaises(sqlite3.IntegrityError, file.write, bad)
        self.assertEqual(sorted(file.rows(0.0, 9)), [("a", Row(b"1", 1, None)), ("b", Row(b"2", 2, 50.0))])
        file.write([("a", None), ("b", Row(b"4", 4, 60.0)), ("none", None)])
        self.assertEqual(file.rows(59.0, 9), [("b", Row(b"4", 4, 60.0))])
        self.assertEqual(file.rows(60.0, 9), [])
        self.assertEqual(file.rows(0.0, 9), [], "what has expired is dropped from it")


CONFIRM = """
import sys, time
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from erlmcp.engine import EmbeddedEngine

async def main():
    engine = EmbeddedEngine(reactor, file=Path(sys.argv[1]))
    engine.start()
    number = 0
    while True:
        await engine.put(f"key/{number % 50}", b"%d" % number, durable=True, expires=time.time() + 1000)
        print(number, flush=True)
        number += 1

def begin():
    Deferred.fromCoroutine(main()).addErrback(lambda failure: failure.printTraceback()).addBoth(end)

def end(_):
    reactor.stop()

reactor.callWhenRunning(begin)
reactor.run()
"""


class KillTests(FileTestCase):
    """A process that is killed."""

    def test_what_was_confirmed_is_there(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", CONFIRM, str(self.path)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        last = 0
        while last < 200:
            last = int(process.stdout.readline())
        self.assertIn("is in use by another process", self.refusal())
        process.send_signal(signal.SIGKILL)
        last = int([str(last), *process.stdout.read().split()][-1])
        process.wait()
        shutil.copytree(self.path.parent, self.folder / "copy")
        engine = EmbeddedEngine(Reactor(), file=self.path)
        engine.start()
        self.addCleanup(engine._writes._file.close)
        found = sorted(int(engine.peek(f"key/{number}").value) for number in range(50))
        # The last confirmed ones are all there; the one that was under way may be.
        self.assertIn(found, [list(range(last - 49, last + 1)), list(range(last - 48, last + 2))])
