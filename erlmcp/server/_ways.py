"""What a server needs of the way to the other workers of its daemon."""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from erlmcp.interfaces import IExchange


class Ways(Protocol):
    """One server's way to its like in the other workers: those of the same scope.

    Attributes:
        streams: what the others ask for a stream that belongs to no call and that is theirs from now on: (session,
            stream, event) -> the messages after the event.
    """

    streams: Callable[[str, str, int], list[bytes]]

    def elsewhere(self, owner: str, exchange: IExchange) -> bool:
        """Whether something is another worker's, and can be handed to it."""

    def forward(
        self, owner: str, way: str, message: bytes, exchange: IExchange, lost: Callable[[], None]
    ) -> None:
        """Let its owner settle a message; `lost` is called if it cannot."""

    def everywhere(self, message: bytes, exchange: IExchange) -> None:
        """Let all others have a notification."""

    def again(self, message: bytes, exchange: IExchange) -> None:
        """Let those who have messages of a connection have one more of it, which is settled here."""

    def closed(self, exchange: IExchange) -> None:
        """The client has gone."""

    def take_stream(self, owner: str, session: str, stream: str, after: int) -> Deferred[list[bytes]]:
        """Take a stream over: the messages after an event."""


class Roads(Protocol):
    """The ways of all servers of one worker; `erlmcp.workers.Relay` is one."""

    def within(self, scope: str) -> Ways:
        """That of the server of one scope; its own, as no two servers have one scope."""
