"""What an HTTP connection can be waiting for; the machine is drawn in ``docs/machines/http-connection.md``."""

from enum import IntEnum
from typing import Final


class Phase(IntEnum):
    """What a connection waits for."""

    FRESH = 0
    IDLE = 1
    HEAD = 2
    BODY = 3
    ANSWER = 4
    STREAM = 5
    CLOSING = 6
    GONE = 7


# A member looked up in its class costs as much as a call, and a request looks at a handful.
FRESH: Final = Phase.FRESH
IDLE: Final = Phase.IDLE
HEAD: Final = Phase.HEAD
BODY: Final = Phase.BODY
ANSWER: Final = Phase.ANSWER
STREAM: Final = Phase.STREAM
CLOSING: Final = Phase.CLOSING
GONE: Final = Phase.GONE
