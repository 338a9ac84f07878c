"""A handshake client's request in flight, and the live requests that it is asked meanwhile."""

from typing import Any, Protocol

from erlmcp.interfaces import IExchange, Request
from erlmcp.protocol import McpError, down, down_question, errors
from erlmcp.server._batch import BatchExchange
from erlmcp.server._call import Call, Edge
from erlmcp.server._events import EventStream
from erlmcp.server._session import Session


class HandshakeCalls(Edge, Protocol):
    """What a call needs of its edge."""

    def keep(self, session: Session) -> bool:
        """Keep what is alive of a session; false if there is no room."""

    def let_go(self, session: Session) -> None:
        """Something of a session has ended."""


class HandshakeCall(Call):
    """A call of a handshake client.

    On HTTP it outlives its connection: what comes after that is kept on a stream that the client may resume.

    Attributes:
        session: whose it is; None for ``initialize``, and for ``ping`` before it.
        stream: on HTTP, the stream of events that it has begun, if it has.
        rounds: how often a backend that keeps no work has asked for input.
        answers: the client's answers to what was asked last.
        refusal: why there are none.
        reply_headers: HTTP header fields for the answer.
    """

    edge: "HandshakeCalls"
    __slots__ = ("answers", "refusal", "reply_headers", "rounds", "session", "stream")

    def __init__(self, exchange: IExchange, request: Request, edge: HandshakeCalls) -> None:
        super().__init__(exchange, request, edge)
        self.session: Session | None = None
        self.stream: EventStream | None = None
        self.rounds = 0
        self.answers: dict[str, dict[str, Any]] | None = None
        self.refusal: McpError | None = None
        self.reply_headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def on_http(self) -> bool:
        """Whether it came in a POST of its own."""
        return self.exchange.headers is not None

    @property
    def batch(self) -> BatchExchange | None:
        """What it is a part of, if it came in a batch."""
        return self.exchange if isinstance(self.exchange, BatchExchange) else None

    @property
    def survives(self) -> bool:
        """Whether the end of its connection leaves it running (2025-11-25, basic/transports: it is no cancellation)."""
        return self.on_http

    @property
    def pings(self) -> bool:
        """See `IConversation`."""
        return True

    def permit(self, question: dict[str, Any]) -> None:
        """Refuse a question that this client cannot be asked: its capabilities, its revision, no stream to ask on."""
        if question["method"] == "ping":
            askable = self.session is not None
        else:
            super().permit(question)
            askable = self.session is not None and down_question(question, self.session.revision) is not None
        if not askable:
            raise errors.invalid_request(
                "this question cannot be asked in the client's revision of the protocol"
            )
        if not self.exchange.streaming:
            raise errors.invalid_request(
                "the client has to be asked, and takes no stream to ask on: Accept must list text/event-stream"
            )

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """See `Call`."""
        super().tell(method, params if self.session is None else down(method, params, self.session.revision))

    def send(self, message: bytes) -> None:
        """Send a message of this call before its answer, on its stream."""
        if self.on_http and self.session is not None:
            if self.stream is None:
                self.open_stream(self.session)
            if self.stream is not None:
                self.stream.send(message)
                return
        self.exchange.notify(message)

    def open_stream(self, session: Session) -> None:
        """Begin a stream that can be resumed, where there is room for one."""
        if not self.edge.keep(session):
            return
        if self.batch is not None:
            self.stream = self.batch.begin(session)
        else:
            self.stream = session.new_stream()
            self.stream.begin(self.exchange)

    def leave(self) -> None:
        """See `IConversation`: let the client come back for the rest, where it knows how to (2025-11-25)."""
        if self.settled or self.session is None or not (self.on_http and self.session.revision.priming):
            return
        if self.stream is None:
            self.open_stream(self.session)
        if self.stream is not None:
            self.stream.leave()

    def answer(self, message: bytes) -> None:
        """Send the answer."""
        self.settled = True
        if self.stream is None or self.batch is not None:
            self.exchange.reply(message, headers=self.reply_headers)
        else:
            self.stream.finish(message)

    def abandon(self) -> None:
        """See `Call`."""
        if self.stream is None or self.batch is not None:
            super().abandon()
        else:
            self.stream.finish()

    def _open_for_notifications(self) -> bool:
        if self.stream is None:
            return super()._open_for_notifications()
        return not (self.settled or self.stream.congested)

    def waits(self) -> None:
        """See `Call`."""
        super().waits()
        if self.on_http and self.session is not None and self.edge.keep(self.session):
            self.session.calls[self.request.id] = self

    def ended(self) -> None:
        """See `Call`."""
        super().ended()
        if self.session is not None and self.session.calls.get(self.request.id) is self:
            del self.session.calls[self.request.id]
            self.edge.let_go(self.session)
