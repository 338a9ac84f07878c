"""Where registrations and tokens are kept between runs: in a file that its owner alone can read, or in memory."""

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

_MAX_ENTRIES: Final = 1000
_MAX_BYTES: Final = 4 * 1024 * 1024


class StoreKey(NamedTuple):
    """What a record is kept under.

    Attributes:
        kind: ``client`` (a registration), ``token`` (tokens and what they are bound to) or ``server`` (which
            authorization server a resource last named).
        principal: for whom.
        issuer: the authorization server; empty for ``server``. What one server issued is never shown to another.
        resource: the MCP server; empty for a registration, which serves all resources of an authorization server.
    """

    kind: str
    principal: str
    issuer: str
    resource: str


class CredentialStore(Protocol):
    """Keeps JSON objects. Calls do not wait for anything but the disk."""

    def load(self, key: StoreKey) -> dict[str, Any] | None:
        """What was saved last, or None."""

    def save(self, key: StoreKey, record: Mapping[str, Any]) -> None:
        """Keep a record; the oldest is dropped where there are too many."""

    def forget(self, key: StoreKey) -> None:
        """Drop a record, if there is one."""


class MemoryStore:
    """Keeps credentials as long as the process lives."""

    def __init__(self) -> None:
        self._records: dict[StoreKey, dict[str, Any]] = {}

    def load(self, key: StoreKey) -> dict[str, Any] | None:
        """See `CredentialStore`."""
        record = self._records.get(key)
        return None if record is None else dict(record)

    def save(self, key: StoreKey, record: Mapping[str, Any]) -> None:
        """See `CredentialStore`."""
        self._records.pop(key, None)
        if len(self._records) >= _MAX_ENTRIES:
            del self._records[next(iter(self._records))]
        self._records[key] = dict(record)

    def forget(self, key: StoreKey) -> None:
        """See `CredentialStore`."""
        self._records.pop(key, None)


class FileStore:
    """Keeps credentials in one file of mode 0600, replaced as a whole, so that no reader sees half of it.

    Several processes may share it: a change takes a lock beside the file.

    Args:
        path: the file; ``~`` is the home directory. Its directory is made, with mode 0700, if it is not there.

    Raises:
        ValueError: others can read or write the file, it is not this user's, or it is not a store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._read()

    def load(self, key: StoreKey) -> dict[str, Any] | None:
        """See `CredentialStore`. Reads the file each time: another process may have renewed a token."""
        return self._read().get(key)

    def save(self, key: StoreKey, record: Mapping[str, Any]) -> None:
        """See `CredentialStore`."""
        with self._locked():
            records = self._read()
            records.pop(key, None)
            if len(records) >= _MAX_ENTRIES:
                del records[next(iter(records))]
            records[key] = dict(record)
            self._write(records)

    def forget(self, key: StoreKey) -> None:
        """See `CredentialStore`."""
        with self._locked():
            records = self._read()
            if records.pop(key, None) is not None:
                self._write(records)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Nobody else's link says where it is made.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(f"{self._path}.lock", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> dict[StoreKey, dict[str, Any]]:
        try:
            with open(self._path, "rb", opener=_at_once) as file:
                self._check(os.fstat(file.fileno()))
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError("it is too large")
            rows = json.loads(data)["credentials"]
            return {StoreKey(*map(str, row["key"])): dict(row["record"]) for row in rows}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{self._path} is no file of credentials: {error}; move it away to begin anew"
            ) from None

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{self._path} is no regular file: name one, or one that is not there yet")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise ValueError(
                f"{self._path} has mode {mode:04o}, so others may read it: chmod 600 {self._path}"
            )
        if status.st_uid != os.geteuid():
            raise ValueError(
                f"{self._path} belongs to user {status.st_uid}, not to {os.geteuid()}, who uses it"
            )

    def _write(self, records: Mapping[StoreKey, Mapping[str, Any]]) -> None:
        rows = [{"key": list(key), "record": record} for key, record in records.items()]
        data = json.dumps({"credentials": rows}, indent=1).encode()
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise


def _at_once(path: str, flags: int) -> int:
    # To open a FIFO would wait for its writer otherwise.
    return os.open(path, flags | os.O_NONBLOCK)
