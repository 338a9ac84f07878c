"""The notifications of one call, from an upstream to the client that made it."""

import msgspec
from msgspec import Raw
from twisted.logger import Logger

from erlmcp.client import read_message, read_progress
from erlmcp.interfaces import Request
from erlmcp.protocol import LOG_LEVELS

log = Logger(namespace="erlmcp.gateway")


def pass_on(request: Request, method: str, params: Raw) -> None:
    """Tell the client; its edge holds back what it did not ask for. What cannot be read is logged and dropped."""
    conversation = request.conversation
    if conversation is None:
        return
    try:
        if method == "notifications/progress":
            progress = read_progress(params)
            conversation.progress(progress.progress, progress.total, progress.message)
        elif method == "notifications/message":
            message = read_message(params)
            if message.level in LOG_LEVELS:
                conversation.log(message.level, message.data, message.logger)
    except msgspec.DecodeError as error:
        log.info("{method} of an upstream cannot be read: {error}", method=method, error=str(error))
