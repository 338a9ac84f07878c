"""The SQLite file of what outlives a restart. All of it blocks: it runs at start, and then in a thread of its own."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

FILE_NAME = "engine.db"

_MAGIC = b"SQLite format 3\0"
_APPLICATION = 0x65726C6D  # "erlm"
_VERSION = 1
_LIFE = 1 << 42
"""Revisions that one life of the process may use: a year at a hundred thousand changes a second."""

_REMEDY = (
    "move it away to start without it; deleted sessions whose time is not over would then be accepted again"
)


class EngineFileError(Exception):
    """The file cannot be used; the message names it and says why."""


class Row(NamedTuple):
    """A durable entry. `expires` is in seconds since the epoch, None for never."""

    value: bytes
    revision: int
    expires: float | None


def inspect(file: Path) -> bool:
    """Look whether a file could be the engine's, without opening it as a database.

    Returns:
        whether there is one, and it is not empty.

    Raises:
        EngineFileError: it cannot be read, others can read it, or it is something else.
    """
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            header = stream.read(100)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise EngineFileError(f"{file} cannot be read: {error.strerror}") from None
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise EngineFileError(
            f"{file} has mode {mode:04o}, so that others can read or change it: chmod 600 {file}"
        )
    if not header:
        return False
    if not header.startswith(_MAGIC) or len(header) < 100:
        raise EngineFileError(f"{file} is no SQLite database, or is corrupt: {_REMEDY}")
    if int.from_bytes(header[68:72], "big") != _APPLICATION:
        raise EngineFileError(f"{file} is a database of something else than erlmcp's engine: move it away")
    version = int.from_bytes(header[60:64], "big")
    if version > _VERSION:
        raise EngineFileError(
            f"{file} is of version {version}, of a newer erlmcp; this one knows version {_VERSION}"
        )
    return True


class EngineFile:
    """The open file. One process has it, and nobody else as long as it does.

    Args:
        file: where it is; it and its folder are made (modes 0600 and 0700) if they are missing.

    Raises:
        EngineFileError: it cannot be used.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        there = inspect(file)
        if not there:
            self._make()
        # Opened in the reactor's thread and then used in another, never in two at once.
        self._base = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._base.close()
            raise EngineFileError(_why(file, error)) from None

    def begin(self, least: int) -> int:
        """Begin a life: the revision that all changes from now on are greater than.

        Args:
            least: it is not less than this, nor than any that a life before could have used.
        """
        with self._raising():
            (last,) = self._base.execute("SELECT revision FROM life").fetchone()
            revision = max(least, int(last) + _LIFE)
            self._base.execute("UPDATE life SET revision = ?", (revision,))
        return revision

    def rows(self, now: float, most: int) -> list[tuple[str, Row]]:
        """What it has; what has expired by `now` is dropped from it.

        Args:
            now: seconds since the epoch.
            most: how many there may be.
        """
        found: list[tuple[str, Row]] = []
        with self._raising():
            self._base.execute("DELETE FROM entry WHERE expires <= ?", (now,))
            for key, value, revision, expires in self._base.execute(
                "SELECT key, value, revision, expires FROM entry LIMIT ?", (most + 1,)
            ):
                right = isinstance(key, str) and isinstance(value, bytes) and isinstance(revision, int)
                if not right or not isinstance(expires, float | None):
                    raise EngineFileError(f"{self.file} has a row that is no entry: {_REMEDY}")
                found.append((key, Row(value, revision, expires)))
        if len(found) > most:
            raise EngineFileError(
                f"{self.file} has more than the {most} entries that [engine] entries allows"
            )
        return found

    def write(self, changes: Iterable[tuple[str, Row | None]]) -> None:
        """Set and remove rows, all or none.

        Raises:
            sqlite3.Error: none was.
        """
        sets: list[tuple[str, bytes, int, float | None]] = []
        removals: list[tuple[str]] = []
        for key, row in changes:
            if row is None:
                removals.append((key,))
            else:
                sets.append((key, *row))
        self._base.execute("BEGIN IMMEDIATE")
        try:
            self._base.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?)", sets)
            self._base.executemany("DELETE FROM entry WHERE key = ?", removals)
            self._base.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors, and then there is nothing to roll back.
            with contextlib.suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close it; what was written goes from the write-ahead log to the file."""
        self._base.close()

    def _make(self) -> None:
        try:
            self.file.parent.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            raise EngineFileError(f"{self.file} cannot be made: {error.strerror}") from None

    def _prepare(self) -> None:
        # Exclusive before the first access: then no other process can open it, and there is no shared memory file.
        self._run("PRAGMA locking_mode = EXCLUSIVE")
        self._run("BEGIN IMMEDIATE")
        if not self._run("SELECT name FROM sqlite_master"):
            self._run(f"PRAGMA application_id = {_APPLICATION}")
            self._run(f"PRAGMA user_version = {_VERSION}")
            self._run(
                "CREATE TABLE entry (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL,"
                " expires REAL)"
            )
            self._run("CREATE TABLE life (revision INTEGER NOT NULL)")
            self._run("INSERT INTO life VALUES (0)")
        self._run("COMMIT")
        self._run("PRAGMA journal_mode = WAL")
        # A process that is killed loses nothing with this; a machine that loses power may lose the last moments.
        self._run("PRAGMA synchronous = NORMAL")
        said = self._run("PRAGMA quick_check(1)")
        if said != [("ok",)]:
            raise sqlite3.DatabaseError(", ".join(str(said[0][0]).splitlines()))

    def _run(self, statement: str) -> Sequence[tuple[object, ...]]:
        return self._base.execute(statement).fetchall()

    @contextlib.contextmanager
    def _raising(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, TypeError, ValueError) as error:
            raise EngineFileError(_why(self.file, error)) from None


def _why(file: Path, error: Exception) -> str:
    if "locked" in str(error):
        return f"{file} is in use by another process: a state directory is for one daemon"
    if isinstance(error, sqlite3.OperationalError):
        return f"{file} cannot be used: {error}"
    return f"{file} is corrupt ({error}): {_REMEDY}"
