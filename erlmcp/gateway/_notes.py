"""The notifications of one call, from an upstream to the client that made it."""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct
from twisted.logger import Logger

from erlmcp.interfaces import Request
from erlmcp.protocol import LOG_LEVELS

log = Logger(namespace="erlmcp.gateway")


class _Progress(Struct):
    progress: float
    total: float | None = None
    message: str | None = None


class _Message(Struct):
    level: str
    data: object = UNSET
    logger: str | None = None


_read_progress: Final = msgspec.json.Decoder(_Progress).decode
_read_message: Final = msgspec.json.Decoder(_Message).decode


def pass_on(request: Request, method: str, params: Raw) -> None:
    """Tell the client; its edge holds back what it did not ask for. What cannot be read is logged and dropped."""
    conversation = request.conversation
    if conversation is None:
        return
    try:
        if method == "notifications/progress":
            progress = _read_progress(params)
            conversation.progress(progress.progress, progress.total, progress.message)
        elif method == "notifications/message":
            message = _read_message(params)
            if message.level in LOG_LEVELS:
                data = None if message.data is UNSET else message.data
                conversation.log(message.level, data, message.logger)
    except msgspec.DecodeError as error:
        log.info("{method} of an upstream cannot be read: {error}", method=method, error=str(error))
