"""Where log lines go, for commands that no twistd sets up logging for."""

from typing import TextIO

from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)


def log_to(stream: TextIO, level: str = "info") -> None:
    """Send log lines of a level and above to a stream, as text, and nothing to anywhere else.

    Standard streams are left alone: whoever prints still prints where they did.

    Args:
        stream: open for writing.
        level: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
    """
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    observer = FilteringLogObserver(textFileLogObserver(stream), [predicate])
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=False, redirectStandardIO=False)
