"""The process's standard input and output, kept for the protocol alone."""

import contextlib
import os
import sys
from typing import NamedTuple


class StandardStreams(NamedTuple):
    """Private descriptors of what standard input and output were when the process began."""

    input: int
    output: int


_claimed: StandardStreams | None = None


def claim_standard_streams() -> StandardStreams:
    """Move standard input and output out of everybody's reach, for good.

    From then on whatever is printed goes to standard error, be it by Python, by a C library or by a child process;
    and who reads standard input finds it empty. To be called before anything else runs; calling again changes nothing.

    Returns:
        Descriptors of the real streams; children do not inherit them.

    Raises:
        OSError: standard input or output is closed.
    """
    global _claimed  # noqa: PLW0603 - the streams are the process's: there is one pair, and it is claimed once
    if _claimed is not None:
        return _claimed
    # Not `dup`: with standard error closed it would give out descriptor 2.
    import fcntl

    private = StandardStreams(
        fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3), fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    )
    # Where standard error is closed, this takes its place, and what is printed has nowhere to go.
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(2, 1)
    if null > 2:
        os.close(null)
    if sys.stderr is not None:
        # Python's own standard output writes to descriptor 1 still, but would keep a block of it back.
        sys.stdout = sys.stderr
    with contextlib.suppress(AttributeError, ValueError, OSError):
        sys.__stdout__.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _claimed = private
    return private
