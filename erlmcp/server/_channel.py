"""The house as one listener's transport sees it: messages in; era, pipeline and answer behind.

One failure domain per connection: what is in flight is kept on the exchange that it came by, and dies with it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from msgspec import UNSET
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.interfaces import IChannel, ICounters, IExchange, Outcome, Pending, Principal, Request
from erlmcp.jsonrpc import Codec, MalformedMessage, Message, encode_notification
from erlmcp.protocol import (
    Decision,
    McpError,
    Meta,
    Params,
    check_batch,
    classify_notification,
    classify_request,
    classify_response,
    errors,
    read_meta,
    refuse_array,
)
from erlmcp.server._batch import BatchExchange
from erlmcp.server._call import Call, Cancellable
from erlmcp.server._drive import Drive, begin
from erlmcp.server._handshake import SESSION_HEADER, VERSION_HEADER, HandshakeEdge
from erlmcp.server._handshake_call import HandshakeCall
from erlmcp.server._in_flight import InFlight
from erlmcp.server._modern import ModernEdge
from erlmcp.server._parking import owner_gone, owner_of
from erlmcp.server._pipeline import Pipeline
from erlmcp.server._ways import Ways
from erlmcp.telemetry import Logger

log = Logger()


@implementer(IChannel)
class Channel:
    """Takes the messages of one listener.

    Args:
        codec: reads messages within the listener's limits.
        modern, handshake: the edges of the two eras.
        pipeline: the gates and what lies behind.
        counters: counts answers that never reached the pipeline.
        seconds: a clock for durations.
        in_flight: the server's own table of calls that wait, for draining.
        ways: to the other workers; None where there are none.
    """

    def __init__(
        self,
        codec: Codec[Params],
        modern: ModernEdge,
        handshake: HandshakeEdge,
        pipeline: Pipeline,
        counters: ICounters,
        seconds: Callable[[], float],
        in_flight: InFlight,
        ways: Ways | None = None,
    ) -> None:
        self._codec = codec
        self._modern = modern
        self._handshake = handshake
        self._pipeline = pipeline
        self._counters = counters
        self._seconds = seconds
        self._in_flight = in_flight
        self._ways = ways

    def received(self, message: bytes, exchange: IExchange) -> None:
        """See `IChannel`."""
        received = self._seconds()
        try:
            decoded = self._codec.decode(message)
        except MalformedMessage as bad:
            if bad.batch:
                self._batch(message, exchange, received)
            else:
                self._malformed(exchange, bad)
            return
        if decoded.method is not UNSET and decoded.id is not UNSET:
            self._request(decoded, exchange, len(message), received, message)
        else:
            self._message(decoded, exchange, len(message), received)

    def closed(self, exchange: IExchange) -> None:
        """See `IChannel`."""
        for call in list(exchange.calls.values()):
            if not call.survives:
                self._give_up(call)
        self._handshake.closed(exchange)
        if self._ways is not None:
            self._ways.closed(exchange)

    def opened(self, exchange: IExchange) -> None:
        """See `IChannel`."""
        self._identified(exchange, lambda principal: self._handshake.opened(exchange, principal))

    def deleted(self, exchange: IExchange) -> None:
        """See `IChannel`."""
        self._identified(exchange, lambda principal: self._handshake.deleted(exchange, principal))

    def _message(
        self,
        message: Message[Params],
        exchange: IExchange,
        size: int,
        received: float,
    ) -> None:
        if message.method is not UNSET:
            if message.id is not UNSET:
                self._request(message, exchange, size, received, None)
            else:
                self._notification(message, exchange)
        else:
            session = exchange.headers is not None and SESSION_HEADER in exchange.headers
            verdict = classify_response(on_http=exchange.headers is not None, session=session)
            if verdict.error is not None:
                self._refuse(exchange, None, verdict.error, "")
            elif exchange.headers is None and exchange.session is None:
                # Nobody here has asked.
                exchange.accept()
            else:
                self._identified(
                    exchange, lambda principal: self._handshake.response(message, exchange, principal)
                )

    def _identified(self, exchange: IExchange, act: Callable[[Principal], Awaitable[None] | None]) -> None:
        """Do something for whoever it is, where there is no request to take through all gates."""
        request = Request(id=0, method="", era="handshake", peer=exchange.peer, headers=exchange.headers)

        async def acted() -> None:
            identifying = self._pipeline.identify(request)
            if identifying is not None:
                await identifying
            waiting = act(request.principal)
            if waiting is not None:
                await waiting

        def failed(error: BaseException) -> None:
            if isinstance(error, McpError):
                self._counters.error("", error.code)
                self._handshake.refuse(exchange, None, error, None)
            else:
                log.failure("answering an HTTP request failed", Failure(error))
                self._handshake.refuse(exchange, None, errors.internal(), None)

        try:
            begun = begin(acted())
        except Exception as error:  # noqa: BLE001 - a refusal, or a defect that is logged
            failed(error)
            return
        if isinstance(begun, Drive):
            begun.then(_nothing, failed)

    def _batch(self, message: bytes, exchange: IExchange, received: float) -> None:
        """Rule f: an array, where 2025-03-26 was negotiated."""

        def taken(principal: Principal) -> None:
            session = self._handshake.session_of(exchange, principal)
            if session is None or not session.revision.batches:
                raise refuse_array()
            try:
                parts = self._codec.decode_batch(message)
            except MalformedMessage as bad:
                raise McpError(bad.code, bad.message, bad.data, status=400) from None
            calls = [_method_and_meta(part) for part in parts if isinstance(part, Message)]
            problem = check_batch(session.revision, calls)
            if problem is not None:
                raise problem
            exchange.session = session
            batch = BatchExchange(exchange, len(parts))
            for part in parts:
                if isinstance(part, MalformedMessage):
                    self._malformed(batch, part)
                else:
                    self._message(part, batch, len(message), received)

        if (exchange.headers is None and exchange.session is None) or (
            exchange.headers is not None and SESSION_HEADER not in exchange.headers
        ):
            self._refuse(exchange, None, refuse_array(), "")
        else:
            self._identified(exchange, taken)

    def _malformed(self, exchange: IExchange, bad: MalformedMessage) -> None:
        if bad.is_notification and exchange.headers is None:
            # A notification is never answered (JSON-RPC 2.0, section 4.1); only HTTP has a status to say it with.
            self._counters.error("", bad.code)
            exchange.accept()
            return
        status = 400 if bad.is_notification else None
        self._refuse(exchange, bad.id, McpError(bad.code, bad.message, bad.data, status=status), "")

    def _request(
        self,
        message: Message[Params],
        exchange: IExchange,
        size: int,
        received: float,
        whole: bytes | None,
    ) -> None:
        request_id: int | str = message.id  # type: ignore[assignment]
        method: str = message.method  # type: ignore[assignment]
        params = message.params
        try:
            meta = read_meta(UNSET if params is UNSET else params.meta)
            headers = exchange.headers
            version = None if headers is None else headers.get(VERSION_HEADER)
            verdict = classify_request(method, meta, version)
            if verdict.error is not None:
                raise verdict.error
            if request_id in exchange.calls:
                raise errors.invalid_request(f"the id {request_id!r} is that of a request still in flight")
            if verdict.decision is Decision.MODERN:
                request = self._modern.request(message, meta, exchange, size, received)
                if self._ways is not None and request.params.request_state is not UNSET and whole is not None:
                    owner = owner_of(request.params.request_state)
                    if self._ways.elsewhere(owner, exchange):
                        self._forward(owner, whole, exchange, request)
                        return
                call = Call(exchange, request, self._modern)
            else:
                call = self._handshake.call(message, meta, exchange, size, received)
                request = call.request
        except McpError as error:
            self._refuse(exchange, request_id, error, method)
            return
        request.conversation = call
        self._pass(call, self._pipeline.run if call.edge is self._modern else self._join)

    def _forward(self, owner: str, whole: bytes, exchange: IExchange, request: Request) -> None:
        """A retry of a call that is parked with another worker."""

        def lost() -> None:
            self._refuse(exchange, request.id, owner_gone(), request.method)

        assert self._ways is not None  # noqa: S101 - asked by the caller
        self._ways.forward(owner, "received", whole, exchange, lost)

    def _join(self, request: Request) -> Outcome | Pending[Outcome]:
        """A handshake request: whose it is must be known before its session can be."""
        call = cast("HandshakeCall", request.conversation)
        identifying = self._pipeline.identify(request)
        if identifying is not None:
            return begin(self._join_later(call, identifying))
        self._handshake.join(call)
        return self._pipeline.run(request)

    async def _join_later(self, call: HandshakeCall, identifying: Pending[None]) -> Outcome:
        await identifying
        self._handshake.join(call)
        passage = self._pipeline.run(call.request)
        return await passage if isinstance(passage, Pending) else passage

    def _pass(self, call: Call, run: Callable[[Request], Outcome | Pending[Outcome]]) -> None:
        """Take a call through the gates, once."""
        try:
            passage = run(call.request)
        except BaseException as error:
            self._fail(call, error)
            call.over()
            if isinstance(error, KeyboardInterrupt):
                raise
            return
        if isinstance(passage, Pending):
            self._wait(call, passage)
            passage.then(self._passed, self._failed, call)
            if call.settled:
                passage.cancel()  # its client gave it up within this very step
        else:
            self._finish(call, passage)

    def _finish(self, call: Call, outcome: Outcome) -> None:
        asking = call.edge.finish(call, outcome)
        if asking is None:
            call.over()
        else:
            self._wait(call, asking)
            asking.addCallbacks(self._answered, self._not_answered, callbackArgs=(call,), errbackArgs=(call,))
            asking.addErrback(_report)

    def _answered(self, _: None, call: Call) -> None:
        """A client has answered, or will not: its call passes the gates again."""
        self._settle(call)
        if not call.settled:
            self._pass(call, self._pipeline.run)

    def _wait(self, call: Call, passage: Cancellable) -> None:
        call.passage = passage
        call.waits()
        self._in_flight.add(call)

    def _passed(self, outcome: Outcome, call: Call) -> None:
        self._settle(call)
        if not call.settled:
            self._finish(call, outcome)

    def _not_answered(self, failure: Failure, call: Call) -> None:
        self._failed(cast("BaseException", failure.value), call)

    def _failed(self, error: BaseException, call: Call) -> None:
        self._settle(call)
        if not call.settled:
            self._fail(call, error)
            call.over()

    def _settle(self, call: Call) -> None:
        call.ended()
        self._in_flight.discard(call)

    def _fail(self, call: Call, error: BaseException) -> None:
        if isinstance(error, McpError):
            self._counters.error(call.request.method, error.code)
        call.edge.fail(call, error)

    def _notification(self, message: Message[Params], exchange: IExchange) -> None:
        on_http = exchange.headers is not None
        version = None if exchange.headers is None else exchange.headers.get(VERSION_HEADER)
        method: str = message.method  # type: ignore[assignment]
        verdict = classify_notification(method, on_http=on_http, version_header=version)
        if verdict.decision is Decision.CANCEL:
            if not self._cancel(message, exchange.calls) and self._ways is not None:
                again = _cancellation(message)
                if again is not None:
                    self._ways.again(again, exchange)
        elif on_http and verdict.decision is Decision.HANDSHAKE:

            def noted(principal: Principal) -> None:
                session = self._handshake.session_of(exchange, principal, method, wants_answer=False)
                if session is not None and method == "notifications/cancelled":
                    again = None if self._cancel(message, session.calls) else _cancellation(message)
                    if again is not None and self._ways is not None:
                        self._ways.everywhere(again, exchange)
                exchange.accept()

            self._identified(exchange, noted)
            return
        exchange.accept()

    def _cancel(self, message: Message[Params], calls: Mapping[int | str, Call]) -> bool:
        """Cancel what a client names; false if it is not here."""
        if not isinstance(message.params, Params):
            return True
        call = calls.get(message.params.request_id)  # type: ignore[arg-type]  # UNSET finds none
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
        return call is not None

    def _give_up(self, call: Call) -> None:
        """The client wants no answer any more: stop the work, free what it holds, send nothing."""
        call.settled = True
        self._settle(call)
        call.request.cancel()
        if call.passage is not None:
            call.passage.cancel()
        if call.running is not None:
            call.running.cancel()
        call.over()
        call.abandon()

    def _refuse(self, exchange: IExchange, id: int | str | None, error: McpError, method: str) -> None:  # noqa: A002
        self._counters.error(method, error.code)
        self._modern.refuse(exchange, id, error)


def _cancellation(message: Message[Params]) -> bytes | None:
    """A client's cancellation, for other workers: what it names may be theirs."""
    number = message.params.request_id if isinstance(message.params, Params) else UNSET
    if not isinstance(number, (int, str)):
        return None
    return encode_notification("notifications/cancelled", {"requestId": number})


def _method_and_meta(message: Message[Params]) -> tuple[str, Meta]:
    params = message.params
    meta = read_meta(UNSET if params is UNSET else params.meta)
    return "" if message.method is UNSET else message.method, meta


def _nothing(*_: object) -> None:
    """All is done."""


def _report(failure: Failure) -> None:
    log.failure("answering a call failed", failure)
