"""Loggers with a lowest level, and the start of logging for commands that no twistd sets it up for."""

from typing import Any, ClassVar, TextIO

import twisted.logger
from twisted.logger import LogLevel, globalLogBeginner

from erlmcp.telemetry._output import Output


class Logger(twisted.logger.Logger):
    """A logger whose lines below a level go nowhere.

    twistd writes lines of every level. Those that say what one peer did are for looking closely, at `debug`: else
    whoever can connect could fill the disk.

    Attributes:
        level: the lowest level that is written, for all of these loggers.
    """

    level: ClassVar[Any] = LogLevel.info

    def emit(self, level: Any, format: str | None = None, **kwargs: object) -> None:  # noqa: A002 - Twisted's name
        """See `twisted.logger.Logger.emit`."""
        if level >= Logger.level:
            super().emit(level, format, **kwargs)


def log_from(level: str) -> None:
    """Write erlmcp's own log lines of a level and above.

    Args:
        level: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
    """
    Logger.level = LogLevel.levelWithName(level)


def log_to(stream: TextIO, level: str = "info", form: str = "text") -> None:
    """Send log lines of a level and above to a stream, and nothing to anywhere else.

    Standard streams are left alone: whoever prints still prints where they did.

    Args:
        stream: open for writing.
        level: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
        form: ``text``, ``json`` or ``journal``.
    """
    log_from(level)
    globalLogBeginner.beginLoggingTo(
        [Output(stream, form, level=level)], discardBuffer=False, redirectStandardIO=False
    )
