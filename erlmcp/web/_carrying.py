"""What the connections of either version share: whose they are, and how their end is told."""

from typing import Final, Protocol

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from erlmcp.timing import Wheel
from erlmcp.web._options import Options
from erlmcp.web._ticket import Ticket
from erlmcp.web._types import Origin, WebError

CLOSING_TIME: Final = 5.0
"""Seconds for the end of a connection in order, after which it is cut."""


class Connection(Protocol):
    """A connection that carries requests.

    Attributes:
        usable: whether a request may be sent on it now.
    """

    @property
    def usable(self) -> bool: ...

    def begin(self, ticket: Ticket) -> bool:
        """Send a request; False if nothing of it has left and the connection is gone."""

    def close(self) -> None:
        """End it now; what is under way fails."""


class Home(Protocol):
    """To whom a connection belongs: the requests to one origin.

    Attributes:
        origin: where the connection leads.
        authority: the same, as a request says it.
        options: the pool's.
        wheel: time limits.
    """

    origin: Origin
    authority: bytes
    options: Options
    wheel: Wheel

    def seconds(self) -> float:
        """What the clock says."""

    def freed(self, connection: Connection) -> None:
        """It can take a request, or one more."""

    def again(self, ticket: Ticket, error: WebError) -> None:
        """A request was provably not acted on: send it on another connection, or let it fail with `error`."""

    def flush_soon(self, connection: "Flushing") -> None:
        """Call its `flush` once, in this turn of the reactor or the next."""

    def closing(self, connection: Connection) -> None:
        """It takes no more requests."""

    def gone(self, connection: Connection) -> None:
        """It is no longer there."""


class Flushing(Protocol):
    """A connection that gathers what it writes."""

    def flush(self) -> None:
        """Write what was gathered."""


def is_clean(reason: Failure) -> bool:
    """Whether the peer has closed in order: over TLS, with its own word for it (RFC 9112, 9.8)."""
    return reason.check(ConnectionDone) is not None


def describe(reason: Failure, *, clean: bool = False) -> str:
    """A failure for the end of a message: with a colon, unless there is nothing to say."""
    if clean:
        return ""
    error = reason.value
    if isinstance(error, VerificationError):
        return ": the server's certificate is for another name"
    if isinstance(error, SSL.Error):
        words = [entry[-1] for entry in error.args[0] if entry] if error.args else []
        return f": {'; '.join(map(str, words)) or 'broken off'}"
    said = reason.getErrorMessage() or type(error).__name__
    return f": {said.rstrip('.')}"
