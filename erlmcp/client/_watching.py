"""The notifications of one call, read for who wants them: progress and log messages."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw, Struct
from twisted.logger import Logger

from erlmcp.client._conversation import Watch
from erlmcp.client._results import LogMessage, Progress

log = Logger(namespace="erlmcp.client")


class ProgressNote(Struct):
    """The parameters of ``notifications/progress``, beside whose they are."""

    progress: float
    total: float | None = None
    message: str | None = None


class MessageNote(Struct):
    """The parameters of ``notifications/message``; `data` may be anything, and is None if it was left out."""

    level: str
    data: object = None
    logger: str | None = None


read_progress: Final = msgspec.json.Decoder(ProgressNote).decode
"""Reads them; raises `msgspec.DecodeError`."""
read_message: Final = msgspec.json.Decoder(MessageNote).decode
"""Reads them; raises `msgspec.DecodeError`."""


def watching(
    on_progress: Callable[[Progress], None] | None, on_log: Callable[[LogMessage], None] | None
) -> Watch | None:
    """What hears a call's notifications; None if nobody wants any. What cannot be read is logged and left out."""
    if on_progress is None and on_log is None:
        return None
    return _Watching(on_progress, on_log).heard


class _Watching:
    def __init__(
        self, on_progress: Callable[[Progress], None] | None, on_log: Callable[[LogMessage], None] | None
    ) -> None:
        self._on_progress = on_progress
        self._on_log = on_log
        self._done = float("-inf")

    def heard(self, method: str, params: Raw) -> None:
        try:
            if method == "notifications/progress" and self._on_progress is not None:
                progress = read_progress(params)
                if progress.progress > self._done:  # it must increase (basic/patterns/progress)
                    self._done = progress.progress
                    self._on_progress(Progress(progress.progress, progress.total, progress.message or ""))
            elif method == "notifications/message" and self._on_log is not None:
                message = read_message(params)
                self._on_log(LogMessage(message.level, message.data, message.logger or ""))
        except msgspec.DecodeError as error:
            log.warn("{method}: {error}", method=method, error=error)  # noqa: G010 - Twisted's name
        except Exception:  # noqa: BLE001 - a listener's failure is not the wire's
            log.failure("what listens to a call failed")
