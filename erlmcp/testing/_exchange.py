"""A transport's side of an exchange, kept in memory."""

from typing import Any

import msgspec
from zope.interface import implementer

from erlmcp.interfaces import IExchange, Peer


@implementer(IExchange)
class MemoryExchange:
    """Keeps what the server sends.

    Attributes:
        replies: decoded answers with their HTTP statuses, in order.
        notifications: decoded notifications, in order.
        written: all decoded messages, in the order they were sent.
        events: the SSE event id of each notification, empty for none.
        primed: the event id and the milliseconds of each `prime`.
        accepted, abandoned, left: how many messages were settled without an answer.
        reply_headers: the header fields of each answer.

    Args:
        headers: HTTP header fields, None for a stream.
        streaming: whether notifications can be sent.
        peer: where messages are said to come from.
    """

    def __init__(
        self, headers: dict[bytes, bytes] | None = None, *, streaming: bool = True, peer: Peer | None = None
    ) -> None:
        self.peer = peer or Peer(transport="memory" if headers is None else "http", listener="test")
        self.headers = headers
        self.calls: dict[int | str, Any] = {}
        self.session: Any = None
        self.streaming = streaming
        self.congested = False
        self.replies: list[tuple[int, dict[str, Any]]] = []
        self.reply_headers: list[tuple[tuple[bytes, bytes], ...]] = []
        self.notifications: list[dict[str, Any]] = []
        self.written: list[dict[str, Any]] = []
        self.events: list[str] = []
        self.primed: list[tuple[str, int]] = []
        self.accepted = 0
        self.abandoned = 0
        self.left = 0

    def reply(self, message: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """See `IExchange`. An answer without content, as to a DELETE, is kept as an empty object."""
        decoded = msgspec.json.decode(message or b"{}")
        self.replies.append((status, decoded))
        self.reply_headers.append(headers)
        self.written.append(decoded)

    def notify(self, message: bytes, event: str = "") -> None:
        """See `IExchange`."""
        decoded = msgspec.json.decode(message)
        self.notifications.append(decoded)
        self.events.append(event)
        self.written.append(decoded)

    def prime(self, event: str, retry: int) -> None:
        """See `IExchange`."""
        self.primed.append((event, retry))

    def leave(self) -> None:
        """See `IExchange`."""
        self.left += 1

    def accept(self) -> None:
        """See `IExchange`."""
        self.accepted += 1

    def abandon(self) -> None:
        """See `IExchange`."""
        self.abandoned += 1

    @property
    def status(self) -> int:
        """The HTTP status of the only answer."""
        [(status, _)] = self.replies
        return status

    @property
    def answer(self) -> dict[str, Any]:
        """The only answer."""
        [(_, message)] = self.replies
        return message

    @property
    def result(self) -> dict[str, Any]:
        """The result in the only answer; an AssertionError shows the error if it is one."""
        answer = self.answer
        if "result" not in answer:
            raise AssertionError(f"an error was answered: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    @property
    def error(self) -> dict[str, Any]:
        """The error in the only answer; an AssertionError shows the result if it is one."""
        answer = self.answer
        if "error" not in answer:
            raise AssertionError(f"a result was answered: {answer['result']}")
        error: dict[str, Any] = answer["error"]
        return error
