"""The house as one listener's transport sees it: messages in; era, pipeline and answer behind.

One failure domain per connection: what is in flight is kept on the exchange that it came by, and dies with it.
"""

from collections.abc import Callable
from typing import cast

from msgspec import UNSET, UnsetType
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.interfaces import IChannel, ICounters, IExchange, Outcome
from erlmcp.jsonrpc import Codec, MalformedMessage, Message
from erlmcp.protocol import (
    Decision,
    McpError,
    Params,
    classify_notification,
    classify_request,
    classify_response,
    errors,
    read_meta,
    refuse_handshake,
)
from erlmcp.server._call import Call
from erlmcp.server._drive import Finished, begin
from erlmcp.server._modern import ModernEdge
from erlmcp.server._pipeline import Pipeline
from erlmcp.telemetry import Logger

log = Logger()

VERSION_HEADER = b"mcp-protocol-version"


@implementer(IChannel)
class Channel:
    """Takes the messages of one listener.

    Args:
        codec: reads messages within the listener's limits.
        edge: the modern edge.
        pipeline: the gates and what lies behind.
        counters: counts answers that never reached the pipeline.
        seconds: a clock for durations.
        in_flight: the server's own table of calls that wait, for draining.
    """

    def __init__(
        self,
        codec: Codec[Params],
        edge: ModernEdge,
        pipeline: Pipeline,
        counters: ICounters,
        seconds: Callable[[], float],
        in_flight: "InFlight",
    ) -> None:
        self._codec = codec
        self._edge = edge
        self._pipeline = pipeline
        self._counters = counters
        self._seconds = seconds
        self._in_flight = in_flight

    def received(self, message: bytes, exchange: IExchange) -> None:
        """See `IChannel`."""
        received = self._seconds()
        try:
            decoded = self._codec.decode(message)
        except MalformedMessage as bad:
            self._malformed(exchange, bad)
            return
        if decoded.method is not UNSET:
            if decoded.id is not UNSET:
                self._request(decoded, exchange, len(message), received)
            else:
                self._notification(decoded, exchange)
        else:
            verdict = classify_response(on_http=exchange.headers is not None)
            if verdict.error is not None:
                self._refuse(exchange, None, verdict.error, "")
            else:
                # Nobody here has asked: the handshake edge will know responses, a modern server has none to expect.
                exchange.accept()

    def closed(self, exchange: IExchange) -> None:
        """See `IChannel`."""
        for call in list(exchange.calls.values()):
            self._give_up(call)

    def _malformed(self, exchange: IExchange, bad: MalformedMessage) -> None:
        if bad.is_notification and exchange.headers is None:
            # A notification is never answered (JSON-RPC 2.0, section 4.1); only HTTP has a status to say it with.
            self._counters.error("", bad.code)
            exchange.accept()
            return
        status = 400 if bad.is_notification else None
        self._refuse(exchange, bad.id, McpError(bad.code, bad.message, bad.data, status=status), "")

    def _request(self, message: Message[Params], exchange: IExchange, size: int, received: float) -> None:
        request_id: int | str = message.id  # type: ignore[assignment]
        method: str = message.method  # type: ignore[assignment]
        params = message.params
        try:
            meta = read_meta(UNSET if params is UNSET else params.meta)
            headers = exchange.headers
            version = None if headers is None else headers.get(VERSION_HEADER)
            verdict = classify_request(method, meta, version)
            if verdict.decision is not Decision.MODERN:
                raise verdict.error or refuse_handshake(method, _requested(params), meta)
            if request_id in exchange.calls:
                raise errors.invalid_request(f"the id {request_id!r} is that of a request still in flight")
            request = self._edge.request(message, meta, exchange, size, received)
        except McpError as error:
            self._refuse(exchange, request_id, error, method)
            return
        call = Call(exchange, request)
        request.conversation = call
        try:
            begun = begin(self._pipeline.run(request))
        except BaseException as error:
            self._fail(call, error)
            call.over()
            if isinstance(error, KeyboardInterrupt):
                raise
            return
        if isinstance(begun, Finished):
            self._edge.finish(call, begun.value)
            call.over()
        else:
            self._wait(call, begun)

    def _wait(self, call: Call, passage: Deferred[Outcome]) -> None:
        call.passage = passage
        call.exchange.calls[call.request.id] = call
        self._in_flight.add(call)
        passage.addCallbacks(self._passed, self._failed, callbackArgs=(call,), errbackArgs=(call,))
        passage.addErrback(lambda failure: log.failure("answering a call failed", failure))

    def _passed(self, outcome: Outcome, call: Call) -> None:
        self._settle(call)
        if not call.settled:
            self._edge.finish(call, outcome)
            call.over()

    def _failed(self, failure: Failure, call: Call) -> None:
        self._settle(call)
        if not call.settled:
            self._fail(call, cast("BaseException", failure.value))
            call.over()

    def _settle(self, call: Call) -> None:
        call.exchange.calls.pop(call.request.id, None)
        self._in_flight.discard(call)

    def _fail(self, call: Call, error: BaseException) -> None:
        if isinstance(error, McpError):
            self._counters.error(call.request.method, error.code)
        self._edge.fail(call, error)

    def _notification(self, message: Message[Params], exchange: IExchange) -> None:
        on_http = exchange.headers is not None
        version = None if exchange.headers is None else exchange.headers.get(VERSION_HEADER)
        method: str = message.method  # type: ignore[assignment]
        verdict = classify_notification(method, on_http=on_http, version_header=version)
        if verdict.decision is Decision.CANCEL and isinstance(message.params, Params):
            call = exchange.calls.get(message.params.request_id)  # type: ignore[arg-type]  # UNSET finds none
            if call is not None:
                self._give_up(call)
                reason = message.params.reason
                log.debug(
                    "{method} {name} of request {id} was cancelled: {reason}",
                    method=call.request.method,
                    name=call.request.name,
                    id=call.request.id,
                    reason="no reason given" if reason is UNSET else reason[:200],
                )
        exchange.accept()

    def _give_up(self, call: Call) -> None:
        """The client wants no answer any more: stop the work, free what it holds, send nothing."""
        call.settled = True
        self._settle(call)
        call.request.cancel()
        if call.passage is not None:
            call.passage.cancel()
        call.over()
        call.exchange.abandon()

    def _refuse(self, exchange: IExchange, id: int | str | None, error: McpError, method: str) -> None:  # noqa: A002
        self._counters.error(method, error.code)
        self._edge.refuse(exchange, id, error)


class InFlight:
    """The calls of a server that wait for something; draining waits for them."""

    def __init__(self) -> None:
        self._calls: dict[Call, None] = {}
        self._empty: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> None:
        """A call waits."""
        self._calls[call] = None

    def discard(self, call: Call) -> None:
        """A call has ended."""
        self._calls.pop(call, None)
        if not self._calls:
            waiting, self._empty = self._empty, []
            for one in waiting:
                one.callback(None)

    def empty(self) -> Deferred[None]:
        """Fires when no call waits."""
        fired: Deferred[None] = Deferred()
        if self._calls:
            self._empty.append(fired)
        else:
            fired.callback(None)
        return fired

    def cancel(self) -> None:
        """End all that still waits; their clients are told that the server ends."""
        for call in list(self._calls):
            call.request.cancel()
            if call.passage is not None:
                call.passage.cancel()


def _requested(params: Params | UnsetType) -> str | None:
    if isinstance(params, Params) and isinstance(params.protocol_version, str):
        return params.protocol_version
    return None
