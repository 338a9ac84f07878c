"""Whether what a process writes on a stream is read by systemd's journal."""

import os
from collections.abc import Mapping


def read_by_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether a descriptor is the very stream that systemd has connected to its journal.

    A program further down inherits the variable, but may have its streams redirected: so the device and inode are
    compared (systemd.exec(5), ``$JOURNAL_STREAM``).

    Args:
        descriptor: such as 1 or 2.
        environ: the environment.
    """
    device, colon, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    if not colon:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (str(found.st_dev), str(found.st_ino)) == (device, inode)
