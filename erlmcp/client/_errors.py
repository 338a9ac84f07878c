"""What can go wrong between a client and its server, each said with the server's name."""

from typing import Any, Final

from msgspec import UNSET

from erlmcp.client._wire import WireError
from erlmcp.protocol import McpError

NO_PLACE: Final = frozenset({400, 404, 405})
"""HTTP statuses by which a server says that it does not take what a client of this era sends.

Source: 2025-11-25, basic/transports, "Backwards Compatibility"."""


class ClientError(Exception):
    """Something that a `Client` was asked for did not come about.

    Attributes:
        peer: the server, as its wire names it.
    """

    def __init__(self, peer: str, message: str) -> None:
        super().__init__(f"{peer}: {message}")
        self.peer = peer


class Disconnected(ClientError):  # noqa: N818 - it reads as what it says
    """The server cannot be reached, or was lost before it answered.

    Attributes:
        unsent: nothing was executed: the call may be made again without harm.
        status: the HTTP status that came instead of an answer, or None.
        tail: the last lines of a child's standard error.
    """

    def __init__(self, peer: str, error: WireError) -> None:
        refused = error.status is not None and 400 <= error.status <= 499
        outcome = "" if error.unsent or refused else " (whether the server acted on it is unknown)"
        tail = f"; its last lines on standard error:\n{error.tail}" if error.tail else ""
        super().__init__(peer, f"{error}{outcome}{tail}")
        self.__cause__ = error
        self.unsent = error.unsent
        self.session_lost = error.session_lost
        self.status = error.status
        self.tail = error.tail


class BadAnswer(ClientError):  # noqa: N818 - it reads as what it says
    """The server answered with what is no answer to this: malformed, of the wrong shape, or nothing at all."""


class TimedOut(ClientError):  # noqa: N818 - it reads as what it says
    """No answer came in time; the server was told that nobody waits."""


class Busy(ClientError):  # noqa: N818 - it reads as what it says
    """More calls wait for their turn than the client's bound allows."""


class NotOffered(ClientError):  # noqa: N818 - it reads as what it says
    """The server does not have what was asked for: a capability, a method, a version."""


class TooManyRounds(ClientError):  # noqa: N818 - it reads as what it says
    """The server asked again and again instead of answering."""


class ServerError(McpError, ClientError):
    """The server answered with a JSON-RPC error.

    Attributes:
        code, message, data: as it sent them.
        peer, method: who answered what.
        answered_with: the HTTP status; 0 on other wires.
    """

    def __init__(
        self, peer: str, method: str, code: int, message: str, data: Any = UNSET, *, answered_with: int = 0
    ) -> None:
        McpError.__init__(self, code, message, data)
        self.peer = peer
        self.method = method
        self.answered_with = answered_with

    def __str__(self) -> str:
        return f"{self.peer}: {self.method}: {self.message} ({self.code})"
