"""The handshake edge: revisions 2024-11-05 to 2025-11-25 in, `Request`s; outcomes and errors out, as each knows them.

Inside there is only the modern protocol. A question to the client is, here too, an outcome of a pass: it is asked live,
and then the call passes the gates again with the answers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import UNSET
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.catalog import InvalidArguments
from erlmcp.interfaces import Complete, IExchange, NeedsInput, Outcome, Pending, Principal, Request
from erlmcp.jsonrpc import Message, encode_error, encode_result
from erlmcp.protocol import (
    HANDSHAKE_METHODS,
    McpError,
    Meta,
    Params,
    Revision,
    check_params,
    classify_session,
    down,
    down_error,
    errors,
    initialize_result,
    read_greeting,
    read_level,
)
from erlmcp.server._call import internal_error, trace_of
from erlmcp.server._events import EventStream, read_event_id, stream_owner
from erlmcp.server._handshake_call import HandshakeCall
from erlmcp.server._live import LiveQuestions, question_owner
from erlmcp.server._session import Session, is_listening
from erlmcp.server._sessions import Sessions
from erlmcp.server._subscriptions import Subscriptions
from erlmcp.server._ways import Ways
from erlmcp.telemetry import report

log = Logger()

SESSION_HEADER = b"mcp-session-id"
VERSION_HEADER = b"mcp-protocol-version"
LAST_EVENT_HEADER = b"last-event-id"
MOST_ROUNDS = 10
NO_PARAMS = Params()


class HandshakeEdge:
    """Reads handshake requests and writes their answers.

    Args:
        server_info: the ``serverInfo`` object.
        instructions: gives the text for models; empty for none.
        declared: gives the capability object of the server.
        sessions: the sessions behind tokens.
        questions: what waits for clients.
        subscriptions: who hears of changes.
        ways: to the other workers; None where there are none.
    """

    def __init__(
        self,
        server_info: dict[str, Any],
        instructions: Callable[[], str],
        declared: Callable[[], dict[str, Any]],
        sessions: Sessions,
        questions: LiveQuestions,
        subscriptions: Subscriptions,
        ways: Ways | None = None,
    ) -> None:
        self._server_info = server_info
        self._instructions = instructions
        self._declared = declared
        self._sessions = sessions
        self._questions = questions
        self._subscriptions = subscriptions
        self._ways = ways
        sessions.forgotten = subscriptions.drop
        if ways is not None:
            sessions.follow(self._ended_elsewhere, self._changed_elsewhere)
            ways.streams = self._give_stream

    @property
    def own(self) -> Mapping[str, Callable[[Request], Any]]:
        """What answers the methods that only this era has."""
        return {
            "initialize": self._initialize,
            "ping": self._ping,
            "logging/setLevel": self._set_level,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
        }

    # In

    def call(
        self, message: Message[Params], meta: Meta, exchange: IExchange, size: int, received: float
    ) -> HandshakeCall:
        """Make a call of a message without an envelope; whose it is, is not known yet."""
        params = NO_PARAMS if message.params is UNSET else message.params
        # Fields of the modern era mean nothing here.
        params.request_state = params.input_responses = UNSET
        request = Request(
            id=message.id,  # type: ignore[arg-type]
            method=message.method,  # type: ignore[arg-type]
            params=params,
            era="handshake",
            progress_token=None if meta.progress_token is UNSET else meta.progress_token,
            trace=trace_of(meta, exchange.headers),
            peer=exchange.peer,
            headers=exchange.headers,
            received=received,
            size=size,
        )
        return HandshakeCall(exchange, request, self)

    def join(self, call: HandshakeCall) -> None:
        """Find the session of a call whose principal is known, and what its method is about.

        Raises:
            McpError: no session, a lost one (HTTP 404), a wrong version header (HTTP 400), or nothing by this name.
        """
        request = call.request
        method = request.method
        if method != "initialize":
            session = call.session = self.session_of(call.exchange, request.principal, method)
            if session is not None:
                if call.on_http and request.id in session.calls:
                    raise errors.invalid_request(
                        f"the id {request.id!r} is that of a request still in flight"
                    )
                if call.on_http and call.exchange.session is None:
                    call.exchange.session = session
                if call.passage is not None:
                    # It has waited before its session was known: let it be found there from now on.
                    call.waits()
                request.version = session.revision.name
                request.capabilities = session.capabilities
                request.session = session.number
                request.client = session.client
                request.log_level = session.log_level
        known = HANDSHAKE_METHODS.get(method)
        if known is None or (known.capability is not None and known.capability not in self._declared()):
            raise errors.method_not_found(method)
        lacking = check_params(known, request.params)
        if lacking is not None:
            raise lacking
        if known.name_field is not None:
            request.name = getattr(request.params, known.name_field)
        # Mirrored headers are the modern era's: the catalog must not look for them.
        request.headers = None

    def session_of(
        self, exchange: IExchange, principal: Principal, method: str | None = "", *, wants_answer: bool = True
    ) -> Session | None:
        """The session that a message belongs to; None only for a ``ping`` before there is one, on a stream.

        Args:
            exchange: where it came from.
            principal: whose it is.
            method: the message's, None for a response.
            wants_answer: whether it is a request.

        Raises:
            McpError: there is none, or the version header is no good (-32602, HTTP 400), or it is lost (HTTP 404).
        """
        headers = exchange.headers
        text = None if headers is None else headers.get(SESSION_HEADER)
        verdict = classify_session(
            method,
            wants_answer=wants_answer,
            on_http=headers is not None,
            session=exchange.session is not None if headers is None else text is not None,
            version_header=None if headers is None else headers.get(VERSION_HEADER),
        )
        if verdict.error is not None:
            raise verdict.error
        if text is None:
            on_stream: Session | None = exchange.session
            return on_stream
        return self._sessions.find(text, principal)

    def opened(self, exchange: IExchange, principal: Principal) -> None:
        """A GET: a stream for what belongs to no call, or the rest of one that was left or lost.

        Raises:
            McpError: as `session_of`; too many are open; or the event named is none that is kept (HTTP 400).
        """
        session = cast("Session", self.session_of(exchange, principal))
        last = (exchange.headers or {}).get(LAST_EVENT_HEADER)
        place = None if last is None else read_event_id(last.decode("latin-1"))
        known = None if place is None else session.streams.get(place[0])
        ways = self._ways
        owner = "" if ways is None or place is None else stream_owner(place[0])
        theirs = ways is not None and ways.elsewhere(owner, exchange)
        if theirs and place is not None and ways is not None and not is_listening(place[0]):
            ways.forward(owner, "opened", b"", exchange, exchange.leave)
            return
        exchange.session = session
        self._keep(session)
        if last is None or (known is None and place is not None and is_listening(place[0])):
            # Also one that an earlier process began: what was sent on it is lost, what follows need not be.
            self._subscriptions.add(session)
            stream = session.listen(exchange)
            if theirs and place is not None and ways is not None:
                taking = ways.take_stream(owner, session.number, *place)
                taking.addCallbacks(lambda rest: _catch_up(stream, rest), _left_behind)
            if self._sessions.leaving:
                session.close()
            return
        if place is None or known is None or known.lost:
            raise McpError(
                errors.INVALID_REQUEST,
                "Last-Event-ID names no stream of this session that is kept",
                # Not 404, which would tell the client that its session is lost (2025-11-25, Session Management).
                status=400,
            )
        known.resume(exchange, place[1])

    async def deleted(self, exchange: IExchange, principal: Principal) -> None:
        """A DELETE: end the session for good.

        Raises:
            McpError: as `session_of`.
        """
        session = cast("Session", self.session_of(exchange, principal))
        _cancel_all(session)
        await self._sessions.end(session)
        exchange.reply(b"", 204)

    def closed(self, exchange: IExchange) -> None:
        """A connection has ended."""
        session: Session | None = exchange.session
        if session is None:
            return
        if exchange.headers is None:
            self._questions.closed(exchange)
            self._subscriptions.drop(session)
            self._sessions.ended((session.number,))
        else:
            session.disconnected(exchange)

    def response(self, message: Message[Params], exchange: IExchange, principal: Principal) -> None:
        """A client's answer to a question; one that nobody waits for is taken and dropped.

        Raises:
            McpError: as `session_of`.
        """
        session = self.session_of(exchange, principal, None, wants_answer=False)
        if session is not None and not self._questions.answered(session, message):
            owner = question_owner(message.id)
            if self._ways is not None and self._ways.elsewhere(owner, exchange):
                self._ways.forward(owner, "received", msgspec.json.encode(message), exchange, exchange.accept)
                return
            log.debug("nobody waits for the response {id}", id=message.id)
        exchange.accept()

    def keep(self, session: Session) -> bool:
        """See `Sessions.keep`."""
        return self._sessions.keep(session)

    def let_go(self, session: Session) -> None:
        """See `Sessions.let_go`."""
        self._sessions.let_go(session)

    # Through

    def resumption(self, call: HandshakeCall) -> Pending[Outcome] | None:
        """See `erlmcp.server._call.Edge`."""
        answers, call.answers = call.answers, None
        refusal, call.refusal = call.refusal, None
        if call.running is not None:
            if refusal is not None:
                return call.running.refuse(refusal)
            if answers is not None:
                return call.running.resume(call.request, answers)
        if refusal is not None:
            raise refusal
        if answers is not None:
            call.request.params.input_responses = msgspec.Raw(msgspec.json.encode(answers))
        return None

    async def _initialize(self, request: Request) -> Complete:
        call = cast("HandshakeCall", request.conversation)
        greeting = read_greeting(request.params)
        exchange = call.exchange
        if exchange.headers is None:
            if exchange.session is not None:
                raise errors.invalid_request("this connection is initialized already")
            session = exchange.session = self._sessions.on_stream(greeting, exchange)
            self._subscriptions.add(session)
        else:
            token = await self._sessions.mint(greeting, request.principal, request.peer.host)
            call.reply_headers = ((b"Mcp-Session-Id", token.encode()),)
        request.version = greeting.revision.name
        return Complete(
            initialize_result(greeting.revision, self._declared(), self._server_info, self._instructions())
        )

    def _ping(self, request: Request) -> Complete:  # noqa: ARG002 - there is nothing to say
        return Complete({})

    async def _set_level(self, request: Request) -> Complete:
        session = self._session(request)
        session.log_level = read_level(request.params)
        await self._sessions.store(session)
        return Complete({})

    async def _subscribe(self, request: Request) -> Complete:
        session = self._session(request)
        ready = self._subscriptions.watch(session, request, request.params.uri)
        await self._sessions.store(session)
        if ready is not None:
            await ready
        return Complete({})

    async def _unsubscribe(self, request: Request) -> Complete:
        session = self._session(request)
        self._subscriptions.unwatch(session, request.params.uri)
        await self._sessions.store(session)
        return Complete({})

    def _session(self, request: Request) -> Session:
        return cast("Session", cast("HandshakeCall", request.conversation).session)

    # Out

    def finish(self, call: HandshakeCall, outcome: Complete | NeedsInput) -> Deferred[None] | None:
        """Answer a call with its outcome, or ask its client what the outcome asks."""
        try:
            if isinstance(outcome, NeedsInput):
                return self._ask(call, outcome)
            fields = outcome.fields
            if call.session is not None:
                tool = getattr(call.request.target, "wire", None)
                fields = down(call.request.method, fields, call.session.revision, tool)
            message = encode_result(call.request.id, fields)
        except Exception as error:  # noqa: BLE001 - whatever an outcome cannot be made into an answer for
            if call.running is not None and not call.running.ended:
                call.running.cancel()
            self.fail(call, error)
            return None
        call.answer(message)
        return None

    def fail(self, call: HandshakeCall, error: BaseException) -> None:
        """Answer a call with the error that it came to."""
        request = call.request
        revision = None if call.session is None else call.session.revision
        if isinstance(error, InvalidArguments):
            if revision is None or revision.argument_errors_in_result:
                content = [{"type": "text", "text": str(error)}]
                self.finish(call, Complete({"content": content, "isError": True}))
                return
            error = errors.invalid_params(str(error))
        elif isinstance(error, CancelledError) and request.cancelled:
            error = errors.shutting_down()
        elif not isinstance(error, McpError):
            reference = report(log, "{method} {name} of request {id} failed [{reference}]", error, request)
            error = internal_error(reference)
        if call.stream is not None:
            call.answer(self._spell(request.id, error, request.method, revision))
        else:
            call.settled = True
            self.refuse(call.exchange, request.id, error, revision, request.method)

    def refuse(
        self,
        exchange: IExchange,
        id: int | str | None,  # noqa: A002 - JSON-RPC's own name
        error: McpError,
        revision: Revision | None,
        method: str = "",
    ) -> None:
        """Answer a message with an error; in this era most errors travel with HTTP 200."""
        exchange.reply(
            self._spell(id, error, method, revision),
            200 if error.code == errors.METHOD_NOT_FOUND else error.http_status(modern=False),
            error.headers,
        )

    def _spell(
        self,
        id: int | str | None,  # noqa: A002 - JSON-RPC's own name
        error: McpError,
        method: str,
        revision: Revision | None,
    ) -> bytes:
        code, text, data = error.code, error.message, error.data
        if revision is not None:
            code, text, data = down_error(error, method, revision)
        try:
            return encode_error(id, code, text, data)
        except (TypeError, ValueError, OverflowError):
            log.failure("the data of an error cannot be sent: {data!r}", data=data)
            return encode_error(id, code, text)

    def _give_stream(self, number: str, name: str, after: int) -> list[bytes]:
        """Another worker takes a stream over: its client came there."""
        session, rest = self._sessions.give_stream(number, name, after)
        if session is not None and not session.listens:
            self._subscriptions.drop(session)
        return rest

    def _ended_elsewhere(self, session: Session) -> None:
        _cancel_all(session)
        session.end()
        self._sessions.forget(session)

    def _changed_elsewhere(self, session: Session, level: str, uris: Sequence[str]) -> None:
        session.log_level = level
        self._subscriptions.rewatch(session, uris)

    def _keep(self, session: Session) -> None:
        if not self._sessions.keep(session):
            raise errors.overloaded("too many sessions have streams or calls open; try again later")

    def _ask(self, call: HandshakeCall, outcome: NeedsInput) -> Deferred[None]:
        for question in outcome.questions.values():
            call.permit(question)
        if call.running is None or call.running.ended:
            call.running = None
            call.rounds += 1
            if call.rounds > MOST_ROUNDS:
                raise errors.internal(f"the backend has asked for input {MOST_ROUNDS} times and is not done")
            call.request.params.request_state = UNSET if outcome.state is None else outcome.state
            call.request.params.input_responses = UNSET
            if not outcome.questions:
                # A state alone: the backend wants to be asked again, and its client has nothing to say.
                return succeed(None)
        if call.on_http and call.session is not None:
            self._keep(call.session)
        return self._questions.ask(call, outcome.questions)


def _cancel_all(session: Session) -> None:
    for call in list(session.calls.values()):
        call.request.cancel()
        if call.passage is not None:
            call.passage.cancel()


def _catch_up(stream: EventStream, rest: Sequence[bytes]) -> None:
    for message in rest:
        stream.send(message)


def _left_behind(failure: Failure) -> None:
    log.debug("what was kept of a stream is lost: {why}", why=failure.getErrorMessage())
