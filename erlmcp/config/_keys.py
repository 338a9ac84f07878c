"""The sealing keys: read from a secret, kept in the state directory, or made for this process alone."""

import base64
import binascii
import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from erlmcp.config._model import ServerSettings

KEY_BYTES = 32
KEY_FILE = "keys"


class SealingKeys(msgspec.Struct, frozen=True):
    """Keys, newest first, and where they are from, for the log."""

    keys: tuple[bytes, ...]
    origin: str


def new_key() -> str:
    """A new key as one line: 32 random bytes in unpadded base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode()


def parse_keys(text: bytes) -> tuple[bytes, ...]:
    """Keys, one on a line; empty lines and those that begin with ``#`` are left out.

    Raises:
        ValueError: a line is no key, or there is none. The message says which line, never what is on it.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith(b"#"):
            continue
        try:
            key = base64.b64decode(word + b"=" * (-len(word) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(
                f"line {number} is no sealing key: a key is {KEY_BYTES} bytes in base64url, such as"
                " `erlmcp key new` prints"
            )
        keys.append(key)
    if not keys:
        raise ValueError("there is no sealing key in it: `erlmcp key new` prints one")
    return tuple(keys)


def state_directory(server: ServerSettings, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where what outlives the process is kept: ``[server] state``, else systemd's, else nowhere."""
    if server.state is not None:
        return Path(server.state)
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else None


def runtime_directory(server: ServerSettings, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where the admin socket is: ``[server] runtime``, else systemd's, else nowhere."""
    if server.runtime is not None:
        return Path(server.runtime)
    given = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(given) if given else None


def sealing_keys(
    server: ServerSettings, environ: Mapping[str, str] = os.environ, *, make: bool = True
) -> SealingKeys:
    """The keys that continuations and cursors are sealed with.

    Args:
        server: the ``[server]`` table.
        environ: the environment.
        make: whether a missing key file may be made (``erlmcp check`` only looks).

    Raises:
        ValueError: they cannot be had; the message says from where and why.
    """
    if server.keys is not None:
        return SealingKeys(parse_keys(server.keys.read(environ)), "the configured secret")
    folder = state_directory(server, environ)
    if folder is None:
        return _ephemeral("this process alone: there is no state directory, so a restart forgets them")
    file = folder / KEY_FILE
    try:
        return _stored(file)
    except FileNotFoundError:
        pass
    if not make:
        return _ephemeral(f"{file}, which the daemon makes when it starts")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _write_once(file, f"{new_key()}\n".encode())
    except OSError as error:
        raise ValueError(f"{file} cannot be made: {error.strerror}") from None
    return _stored(file)


def _ephemeral(origin: str) -> SealingKeys:
    return SealingKeys((secrets.token_bytes(KEY_BYTES),), origin)


def _stored(file: Path) -> SealingKeys:
    try:
        with file.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            text = stream.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise ValueError(
            f"{file} has mode {mode:04o}, so that others can read the sealing keys: chmod 600 {file}"
        )
    try:
        return SealingKeys(parse_keys(text), str(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _write_once(file: Path, text: bytes) -> None:
    """Make the file whole or not at all, and never over one that another process has just made."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, text)
        folder = file.parent.stat()
        if os.geteuid() == 0 and folder.st_uid != 0:
            # Root makes it for the user that the daemon becomes (--uid), who must read it where it starts as itself.
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(draft)
    finally:
        os.close(descriptor)
        draft.unlink()
