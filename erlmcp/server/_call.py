"""One call: a request on its way through the house, and the way back to its client."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from erlmcp.interfaces import Complete, IConversation, IExchange, NeedsInput, Outcome, Pending, Request
from erlmcp.jsonrpc import encode_notification
from erlmcp.protocol import (
    METHODS,
    McpError,
    Meta,
    Params,
    at_least,
    errors,
    notifications,
    read_trace,
    trace_of_headers,
)
from erlmcp.server._asks import Asks

if TYPE_CHECKING:
    from erlmcp.server._running import Running


class Cancellable(Protocol):
    """What a call waits for: a `Pending`, or a Deferred."""

    def cancel(self) -> None:
        """Wait no longer."""


class Edge(Protocol):
    """What an era makes of a call's end."""

    def finish(self, call: Any, outcome: Complete | NeedsInput) -> "Deferred[None] | None":
        """Answer with an outcome; or a Deferred after which the call passes the gates again."""

    def fail(self, call: Any, error: BaseException) -> None:
        """Answer with an error."""

    def resumption(self, call: Any) -> Pending[Outcome] | None:
        """What a call that passes again goes on with, None where the request is to be dispatched (again)."""


@implementer(IConversation)
class Call:
    """A modern client's request in flight; its conversation with that client.

    Attributes:
        exchange: the way back.
        request: what was asked.
        edge: what writes its answer.
        passage: its pass through the pipeline, to be cancelled; None while that has not waited.
        running: the work behind it, once that waits.
        settled: whether it has been answered or given up; nothing is sent for it then.
    """

    __slots__ = ("_asks", "_progress", "edge", "exchange", "passage", "request", "running", "settled")

    def __init__(self, exchange: IExchange, request: Request, edge: "Edge") -> None:
        self.exchange = exchange
        self.request = request
        self.edge = edge
        self.passage: Cancellable | None = None
        self.running: Running | None = None
        self.settled = False
        self._asks: Asks | None = None
        self._progress: float | None = None

    @property
    def pings(self) -> bool:
        """See `IConversation`: this era has no ping (2026-07-28, changelog)."""
        return False

    @property
    def survives(self) -> bool:
        """Whether the end of its connection leaves it running."""
        return False

    @property
    def asks(self) -> Asks:
        """The questions of the work behind this call."""
        if self._asks is None:
            running = self.running
            self._asks = Asks(answers_of(self.request.params)) if running is None else running.asks
        return self._asks

    @property
    def asked(self) -> Asks | None:
        """The same; None while nothing was asked and no answer was given unasked: most calls never ask."""
        given = self._asks is not None or self.request.params.input_responses is not msgspec.UNSET
        return self.asks if given else None

    def expect(self) -> None:
        """Read the answers that came unasked, before any work begins that would have to be undone.

        Raises:
            McpError: -32602, they are not an object of objects.
        """
        self._asks = Asks(answers_of(self.request.params))

    def take_over(self, running: "Running") -> None:
        """Carry on a conversation that an earlier request of the same client began."""
        former = cast("Call | None", running.request.conversation)
        self.running = running
        self._asks = running.asks
        if former is not None:
            self._progress = former._progress  # noqa: SLF001 - of its own kind

    def over(self) -> None:
        """Nothing more comes of this call, unless its work is parked: let go of the work, and of its result.

        Request, call and work hold each other: they would go, with a large result, when the collector gets to it.
        """
        running = self.running
        if running is not None:
            if not running.ended:
                return
            running.request.conversation = None
            self.running = None
        self.request.conversation = None

    def ask(self, questions: dict[str, dict[str, Any]]) -> Deferred[dict[str, dict[str, Any]]]:
        """See `IConversation`."""
        if self.settled and self.running is None:
            raise RuntimeError("the call has ended: its client cannot be asked any more")
        if not METHODS[self.request.method].may_ask:
            raise errors.internal(f"{self.request.method} may not ask its client for input")
        return self.asks.put(questions, permitted=self.permit)

    def permit(self, question: dict[str, Any]) -> None:
        """Refuse a question that the client's capabilities do not cover (-32021; basic/index, _meta)."""
        missing = self.request.capabilities.missing_for(question)
        if missing is not None:
            raise errors.missing_capability(missing)

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """See `IConversation`. Values that do not increase are dropped (basic/patterns/progress)."""
        token = self.request.progress_token
        if token is None or not self._open_for_notifications():
            return
        if self._progress is not None and progress <= self._progress:
            return
        self._progress = progress
        self.tell(*notifications.progress(token, progress, total, message))

    def log(self, level: str, data: Any, logger: str | None) -> None:
        """See `IConversation`. Nothing is sent for a request without a log level (server/utilities/logging)."""
        threshold = self.request.log_level
        if threshold is None or not at_least(level, threshold) or not self._open_for_notifications():
            return
        self.tell(*notifications.log_message(level, data, logger))

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification of this call, as its client's revision has it."""
        self.send(encode_notification(method, params))

    def send(self, message: bytes) -> None:
        """Send a message of this call before its answer."""
        self.exchange.notify(message)

    def leave(self) -> None:
        """See `IConversation`: there is nothing to come back to in this era."""

    def abandon(self) -> None:
        """Its client wants no answer any more."""
        self.exchange.abandon()

    def waits(self) -> None:
        """It is not done yet: note it where it can be found by its id."""
        self.exchange.calls[self.request.id] = self

    def ended(self) -> None:
        """It is done."""
        if self.exchange.calls.get(self.request.id) is self:
            del self.exchange.calls[self.request.id]

    def _open_for_notifications(self) -> bool:
        return not self.settled and self.exchange.streaming and not self.exchange.congested


def answers_of(params: Params) -> dict[str, Any]:
    """The ``inputResponses`` of a request, by key; empty if it has none.

    Raises:
        McpError: -32602, they are not an object of objects.
    """
    if isinstance(params.input_responses, msgspec.UnsetType):
        return {}
    try:
        return msgspec.json.decode(params.input_responses, type=dict[str, dict[str, Any]])
    except msgspec.ValidationError as error:
        raise errors.invalid_params(f"inputResponses must map each key to a result object: {error}") from None


def trace_of(meta: Meta, headers: Mapping[bytes, bytes] | None) -> dict[str, str] | None:
    """The trace context of a request: that of its `_meta`, which belongs to this very message, else of its headers."""
    if meta.traceparent is not msgspec.UNSET or meta.baggage is not msgspec.UNSET:
        return read_trace(meta.traceparent, meta.tracestate, meta.baggage)
    if headers is not None and (b"traceparent" in headers or b"baggage" in headers):
        return trace_of_headers(headers)
    return None


def internal_error(reference: str) -> McpError:
    """-32603 for what clients must not see, with the reference that the log has it under."""
    return errors.internal(f"Internal error; the log has it as {reference}", {"requestId": reference})
