"""How the process ends: with which status, and on which signals.

twistd says nothing of a service that fails once the reactor runs, and ends a terminated daemon with the signal itself
(status 143 to a shell). A daemon that its operator stops has ended well, and one that failed has not.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANG_UP = signal.SIGHUP


class StartFailed(SystemExit, Exception):  # noqa: N818 - it is the event, not a mistake in a value
    """The daemon cannot start; the message says what and why.

    It is a `SystemExit`, so that the interpreter prints the message and exits with 1; and an `Exception`, so that
    twistd removes its pid file on the way, and tells the process that waits for a daemon to come up.
    """


def leave_with(status: int) -> None:
    """End the process with a status, whatever the code that runs the reactor makes of its end.

    The reactor stops as usual first; this takes effect when the interpreter exits.
    """
    atexit.register(_leave, status)


def on_stop_signals(reactor: Any, callback: Callable[[str], None]) -> None:
    """Call back in the reactor's thread, with the signal's name, instead of what the reactor does on a stop signal.

    The hang-up comes, too: left alone it would end the process at once.

    Args:
        reactor: provides ``IReactorCore`` and ``IReactorFromThreads``; its own signal handling comes first.
        callback: called for each signal.
    """

    def received(number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(callback, signal.Signals(number).name)

    def install() -> None:
        for number in (*STOP_SIGNALS, HANG_UP):
            signal.signal(number, received)

    # At once, since a daemon may be told to end before its reactor runs; and again over the handlers that the
    # reactor installs when it starts.
    install()
    reactor.callWhenRunning(install)


def on_terminal() -> bool:
    """Whether this process is somebody's at a terminal, whose end is its own."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def _leave(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)
