"""Whose log lines twistd and twist write: ours, in the configured form, unless the command line names an observer."""

import os
import signal
import sys
from collections.abc import MutableMapping
from types import FrameType
from typing import Any, TextIO, cast

import msgspec
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.logfile import LogFile

from erlmcp.config import TelemetrySettings
from erlmcp.systemd import read_by_journal
from erlmcp.telemetry import Output, RequestFailure, log_from

_OBSERVER = "erlmcp.tap._logging.twistd_observer"

_arranged: "_Arranged | None" = None


class _Arranged:
    """What `twistd_observer` goes by: twistd calls it without arguments, once, long after the options are read."""

    def __init__(self, telemetry: TelemetrySettings, logfile: str | None, *, daemon: bool) -> None:
        self.telemetry = telemetry
        self.logfile = logfile
        self.daemon = daemon


def configure(telemetry: TelemetrySettings) -> None:
    """Set what holds for every log line, wherever it is written."""
    log_from(telemetry.log_level)
    RequestFailure.shows_arguments = telemetry.log_arguments


def arrange(options: MutableMapping[str, Any] | None, telemetry: TelemetrySettings) -> None:
    """See to it that the program that runs us writes its log as configured.

    Args:
        options: twistd's or twist's own, None where there are none. An observer that is named there, or syslog, is
            what the operator wants: it is left alone.
        telemetry: the ``[telemetry]`` table.
    """
    global _arranged  # noqa: PLW0603 - twistd takes the name of a function, and calls it without arguments
    if options is None:
        return
    if "fileLogObserverFactory" in options:
        if telemetry.log is None and options.get("logFormat") == "json":
            telemetry = msgspec.structs.replace(telemetry, log="json")
        options["fileLogObserverFactory"] = lambda stream: observer(telemetry, stream)
    elif "logger" in options and options["logger"] is None and not options.get("syslog"):
        _arranged = _Arranged(telemetry, options.get("logfile"), daemon=not options.get("nodaemon"))
        options["logger"] = _OBSERVER


def observer(telemetry: TelemetrySettings, stream: TextIO) -> Output:
    """An observer that writes to a stream as configured."""
    form = telemetry.log
    if form is None:
        form = "journal" if _is_journal(stream) else "text"
    return Output(stream, form, level=telemetry.log_level)


def twistd_observer() -> Output:
    """What twistd calls for its log observer; where it would write itself, this one writes.

    Raises:
        SystemExit: a daemon in the background has no standard output to write to.
    """
    arranged = _arranged or _Arranged(TelemetrySettings(), None, daemon=False)
    name = arranged.logfile
    if name == "-" and arranged.daemon:
        raise SystemExit("Daemons cannot log to stdout: name a file, as in --logfile=erlmcp.log")
    if name == "-" or (not name and not arranged.daemon):
        return observer(arranged.telemetry, sys.stdout)
    file = LogFile.fromFullPath(name or "twistd.log")
    _rotate_when_told(file)
    return observer(arranged.telemetry, cast("TextIO", file))


def _rotate_when_told(file: Any) -> None:
    """On SIGUSR1, as twistd does."""
    if signal.getsignal(signal.SIGUSR1) not in {signal.SIG_DFL, None}:
        return

    def rotate(_number: int, _frame: FrameType | None) -> None:
        from twisted.internet import reactor

        cast("IReactorFromThreads", reactor).callFromThread(file.rotate)

    signal.signal(signal.SIGUSR1, rotate)


def _is_journal(stream: TextIO) -> bool:
    try:
        return read_by_journal(stream.fileno(), os.environ)
    except (AttributeError, OSError, ValueError):
        return False
