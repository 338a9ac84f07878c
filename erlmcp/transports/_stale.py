"""Unix sockets that a daemon has left behind when it was killed.

Twisted keeps a lock beside a socket: a symbolic link to a process id. A container starts its processes with the same
ids each time, so the id in a lock that was left behind may be somebody else's, or even our own.
"""

import errno
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

log = Logger()

_YOUNG = 5.0
"""Seconds in which somebody else may have locked and not yet bound."""


def clear_stale(path: str) -> None:
    """Remove a socket and its lock if nobody listens there; what is in use, or cannot be looked at, stays.

    Args:
        path: the socket's; its lock has ``.lock`` behind that.
    """
    lock = Path(f"{path}.lock")
    try:
        owner = os.readlink(lock)  # noqa: PTH115 - it leads nowhere
        age = time.time() - lock.lstat().st_mtime
    except OSError:
        return
    if (owner != str(os.getpid()) and age < _YOUNG) or not _nobody_there(path):
        return
    with suppress(OSError):
        if stat.S_ISSOCK(Path(path).lstat().st_mode):
            Path(path).unlink()
    with suppress(OSError):
        lock.unlink()
        log.info("{path}: removed what a daemon that was killed has left there", path=path)


def _nobody_there(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # noqa: FBT003 - Python's signature
        try:
            found = probe.connect_ex(path)
        except OSError:  # no path at all: too long
            return False
        return found in (errno.ECONNREFUSED, errno.ENOENT)
