"""Batches: several messages in one document, answered in one (revision 2025-03-26 alone)."""

from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from erlmcp.interfaces import IExchange, Peer
from erlmcp.server._events import EventStream
from erlmcp.server._session import Session


@implementer(IExchange)
class BatchExchange:
    """Collects the answers to the parts of a batch, and gives them to its exchange all at once.

    What comes before them, notifications and questions, goes there at once.

    Args:
        exchange: where the batch came from.
        parts: how many messages it has.

    Attributes:
        stream: over HTTP, the one stream that all parts share, once a part has begun it.
    """

    def __init__(self, exchange: IExchange, parts: int) -> None:
        self.stream: EventStream | None = None
        self._exchange = exchange
        self._open = parts
        self._answers: list[bytes] = []

    def begin(self, session: Session) -> EventStream:
        """The stream of this batch, begun if it is not yet."""
        if self.stream is None:
            self.stream = session.new_stream()
            self.stream.begin(self._exchange)
        return self.stream

    @property
    def peer(self) -> Peer:
        """See `IExchange`."""
        return self._exchange.peer

    @property
    def headers(self) -> Mapping[bytes, bytes] | None:
        """See `IExchange`."""
        return self._exchange.headers

    @property
    def calls(self) -> dict[int | str, Any]:
        """See `IExchange`."""
        return self._exchange.calls

    @property
    def session(self) -> Any:
        """See `IExchange`."""
        return self._exchange.session

    @property
    def streaming(self) -> bool:
        """See `IExchange`."""
        return self._exchange.streaming

    @property
    def congested(self) -> bool:
        """See `IExchange`."""
        return self._exchange.congested

    def reply(self, message: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """See `IExchange`; the parts have no statuses of their own."""
        del status, headers
        self._answers.append(message)
        self._settled()

    def notify(self, message: bytes, event: str = "") -> None:
        """See `IExchange`."""
        self._exchange.notify(message, event)

    def prime(self, event: str, retry: int) -> None:
        """See `IExchange`."""
        self._exchange.prime(event, retry)

    def accept(self) -> None:
        """See `IExchange`."""
        self._settled()

    def abandon(self) -> None:
        """See `IExchange`."""
        self._settled()

    def leave(self) -> None:
        """See `IExchange`: a part does not end the stream of the others."""
        self._settled()

    def _settled(self) -> None:
        self._open -= 1
        if self._open:
            return
        answers = b"[" + b",".join(self._answers) + b"]" if self._answers else b""
        if self.stream is not None:
            self.stream.finish(answers)
        elif answers:
            self._exchange.reply(answers)
        else:
            self._exchange.accept()
