"""Requests carried to an upstream of either era: sent, asked about, sent again where that does no harm, answered.

Which era it is decides only where its questions come from: in a result (modern), or live in the middle (handshake).
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET, Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from erlmcp.client import (
    BadAnswer,
    ClientError,
    Disconnected,
    Identity,
    ServerError,
    mirrored_headers,
    needs_input,
)
from erlmcp.gateway._errors import URL_NEEDED, is_authorization, translate, unavailable, url_questions
from erlmcp.gateway._leases import Exhausted, Leases, Whose
from erlmcp.gateway._metrics import Tally
from erlmcp.gateway._names import Naming
from erlmcp.gateway._rewriting import (
    carried_meta,
    own_params,
    rewrite_error_data,
    rewrite_fields,
    rewrite_question,
)
from erlmcp.gateway._session import UpstreamCall, UpstreamSession
from erlmcp.governor import Breaker, Refused, Report, RetryBudget
from erlmcp.interfaces import Complete, NeedsInput, Outcome, Principal, Request, ToolDefinition
from erlmcp.protocol import McpError, errors

log = Logger(namespace="erlmcp.gateway")

_HARMLESS: Final = frozenset({"resources/read", "prompts/get", "completion/complete"})
_NO_CAPABILITIES: Final = b"{}"
_MOST_VISITS: Final = 3
"""How often a handshake upstream may ask for visits to URLs within one call."""
_MOST_IDENTITIES: Final = 256
_encode: Final = msgspec.json.Encoder().encode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_HOP: Final = frozenset({"resultType"})


class Carrier(Protocol):
    """What carries calls; see `erlmcp.gateway.Upstream`."""

    @property
    def name(self) -> str:
        """The upstream's name."""

    @property
    def naming(self) -> Naming:
        """The names that it has here."""

    @property
    def leases(self) -> Leases:
        """Its sessions."""

    @property
    def era(self) -> str | None:
        """Its era; None while that is not known."""

    @property
    def stream(self) -> bool:
        """Whether it speaks over a stream."""

    @property
    def breaker(self) -> Breaker:
        """Whether it is asked at all."""

    @property
    def budget(self) -> RetryBudget:
        """How many calls may be made again."""

    @property
    def tally(self) -> Tally:
        """What became of its calls."""

    def identity(self, capabilities: dict[str, Any]) -> Identity:
        """Who it is told that a client with these capabilities is."""

    def relist(self, *kinds: str) -> Awaitable[None]:
        """Fetch its lists again."""

    def tool(self, name: str) -> ToolDefinition | None:
        """The definition of a tool, by its name here."""


class Calls:
    """Carries the requests to one upstream.

    Args:
        upstream: what they are carried to.
        context: gives a principal's authorization context there; empty for what all share.
        seconds: the reactor's time.
    """

    def __init__(
        self, upstream: Carrier, context: Callable[[Principal], str], seconds: Callable[[], float]
    ) -> None:
        self._upstream = upstream
        self._context = context
        self._seconds = seconds
        self._identities: OrderedDict[bytes, Identity] = OrderedDict()

    async def dispatch(
        self,
        request: Request,
        *,
        received: Callable[[Raw], None] | None = None,
        asks: Callable[[], None] | None = None,
    ) -> Outcome:
        """Answer a request; see `erlmcp.interfaces.IBackend`.

        Args:
            request: what was asked.
            received: gets the result as it came.
            asks: called before the client is asked anything live.

        Raises:
            McpError: the upstream's error, or why there is no answer.
        """
        upstream = self._upstream
        now = self._seconds()
        ticket = upstream.breaker.admit(now)
        if isinstance(ticket, Refused):
            upstream.tally.count("refused")
            raise unavailable(upstream.name, ticket.why, ticket.retry_after)
        upstream.budget.called(now)
        report = Report.NEITHER
        ended = "error"
        try:
            outcome = await self._carried(request, received, asks)
            report = Report.GOOD
            ended = "input_required" if isinstance(outcome, NeedsInput) else "complete"
        except ServerError as error:
            report = Report.BAD if _is_theirs(error) else Report.GOOD
            raise self._translated(error, request) from error
        except Exhausted as error:
            ended = "refused"
            raise errors.overloaded(
                f"The upstream {upstream.name}: {error}", {"upstream": upstream.name}
            ) from error
        except ClientError as error:
            ended = "lost"
            # That one principal's token is no good says nothing of the upstream.
            report = Report.NEITHER if is_authorization(error) else Report.BAD
            raise self._translated(error, request) from error
        except CancelledError:
            ended = "cancelled"
            # Gave up: its client, or our own deadline, which says that the upstream was too slow.
            report = Report.NEITHER if request.cancelled or self._seconds() < request.deadline else Report.BAD
            raise
        finally:
            upstream.tally.count(ended)
            upstream.breaker.settle(ticket, report, self._seconds())
        return outcome

    async def _carried(
        self, request: Request, received: Callable[[Raw], None] | None, asks: Callable[[], None] | None
    ) -> Outcome:
        upstream = self._upstream
        method = request.method
        params = own_params(method, request.params, upstream.naming)
        if request.params.input_responses is not UNSET:
            params["inputResponses"] = request.params.input_responses
        if request.params.request_state is not UNSET:
            params["requestState"] = request.params.request_state
        call = UpstreamCall(request, upstream.naming, asks)
        visits = 0
        while True:
            try:
                raw, modern = await self._made(call, method, params)
            except ServerError as error:
                questions = url_questions(error) if error.code == URL_NEEDED else {}
                visits += 1
                if not questions or visits > _MOST_VISITS:
                    raise
                # It has done nothing yet: it wants the user to have been somewhere first (2025-11-25).
                if asks is not None:
                    asks()
                answers = await request.ask(questions)
                if any(one.get("action") != "accept" for one in answers.values()):
                    raise
                continue
            outcome = self.outcome(raw, request, modern=modern)
            if received is not None:
                received(raw)
            return outcome

    async def _made(self, call: UpstreamCall, method: str, params: dict[str, Any]) -> tuple[Raw, bool]:
        """Make the request; a second time where the first has provably, or harmlessly, done nothing."""
        request = call.request
        upstream = self._upstream
        capabilities = _capabilities(request)
        tried: set[str] = set()
        while True:
            whose = self._whose(request, capabilities)
            alone = upstream.stream and upstream.era != "modern" and capabilities != _NO_CAPABILITIES
            taken = upstream.leases.take(whose, alone=alone)
            seat = await taken if isinstance(taken, Deferred) else taken
            session: UpstreamSession = seat.member
            broken = False
            try:
                raw, edge = await session.perform(
                    call,
                    method,
                    params,
                    identity=self._identity(capabilities),
                    headers=self._mirrored(request),
                    meta=foreign_meta(request),
                )
            except Disconnected as error:
                broken = session.connection.edge is None or error.session_lost
                if error.session_lost and session.connection.edge is not None:
                    session.connection.drop(session.connection.edge)
                why = None if is_authorization(error) else self._why_again(error, request, tried)
                if why is None:
                    raise
            except ServerError as error:
                if error.code != errors.HEADER_MISMATCH or "headers" in tried or method != "tools/call":
                    raise
                why = "headers"
            else:
                return raw, edge.asks_again
            finally:
                upstream.leases.give_back(seat, broken=broken)
            tried.add(why)
            if why == "headers":
                await upstream.relist("tools")

    def _why_again(self, error: Disconnected, request: Request, tried: set[str]) -> str | None:
        """Why a lost request may be made again: nothing was executed, or it does no harm."""
        if error.session_lost:
            why = "session"
        elif error.unsent:
            why = "unsent"
        elif error.status is None and _repeatable(request):
            why = "harmless"
        else:
            return None
        if why in tried or not self._upstream.budget.spend(self._seconds()):
            return None
        return why

    # whose it is

    def sharing_context(self, request: Request) -> str:
        """Whom an answer may be shared with: those who would be asked for on the same session."""
        if self._upstream.era == "modern":
            return self._context(request.principal)
        whose = self._whose(request, _capabilities(request))
        return self._context(request.principal) if self._upstream.leases.shares else repr(whose.key)

    def _whose(self, request: Request, capabilities: bytes) -> Whose:
        principal = request.principal
        context = self._context(principal)
        if self._upstream.era == "modern":
            return Whose(context, who=principal)
        person = context or ("" if principal.kind == "anonymous" else f"{principal.kind}:{principal.id}")
        return Whose(person, capabilities, request.session, principal)

    def _identity(self, capabilities: bytes) -> Identity:
        identity = self._identities.get(capabilities)
        if identity is None:
            identity = self._upstream.identity(_decode(capabilities))
            self._identities[capabilities] = identity
            if len(self._identities) > _MOST_IDENTITIES:
                self._identities.popitem(last=False)
        return identity

    def _mirrored(self, request: Request) -> tuple[tuple[bytes, bytes], ...]:
        if request.method != "tools/call":
            return ()
        tool = self._upstream.tool(request.name) or request.target
        if not tool.header_parameters or request.arguments is None:
            return ()
        return mirrored_headers(tool.header_parameters, request.arguments)

    # what comes of it

    def outcome(self, raw: Raw, request: Request, *, modern: bool) -> Outcome:
        """What a result comes to here.

        Args:
            raw: the result, as it came.
            request: what it answers.
            modern: whether it came of a modern upstream, which may need input.

        Raises:
            BadAnswer: it is none.
        """
        upstream = self._upstream
        if modern:
            required = needs_input(raw, request.method, upstream.name)
            if required is not None:
                state = None if required.request_state is UNSET else required.request_state
                questions = {
                    key: rewrite_question(question, upstream.naming)
                    for key, question in required.input_requests.items()
                }
                return NeedsInput(questions, state)
        try:
            fields: dict[str, Any] = rewrite_fields(request.method, _members(raw), upstream.naming)
            meta = fields.get("_meta")
            if meta is not None:
                fields["_meta"] = carried_meta(meta)
                if not fields["_meta"]:
                    del fields["_meta"]
            for name in _HOP:
                fields.pop(name, None)
        except msgspec.DecodeError as error:
            raise BadAnswer(upstream.name, f"{request.method}: {error}") from error
        return Complete(fields)

    def _translated(self, error: ClientError, request: Request) -> McpError:
        upstream = self._upstream
        # A child's last words may be of another's call, unless its session is this caller's own.
        theirs = request.principal.kind != "anonymous" and not upstream.leases.shares
        said = translate(error, request, upstream.name, theirs=theirs, repeatable=_repeatable(request))
        said.data = rewrite_error_data(said.data, upstream.naming)
        if said.code in {errors.INTERNAL_ERROR, errors.OUTCOME_UNKNOWN, errors.OVERLOADED}:
            fields = {"upstream": upstream.name, "method": request.method, "error": str(error)}
            log.warn("{upstream}: {method}: {error}", **fields)  # noqa: G010 - Twisted's name
        return said


def _repeatable(request: Request) -> bool:
    target = request.target
    return request.method in _HARMLESS or (
        isinstance(target, ToolDefinition) and (target.read_only or target.idempotent)
    )


def _is_theirs(error: ServerError) -> bool:
    """Whether the upstream says that it fails, rather than that the request is wrong."""
    return error.code in {
        errors.INTERNAL_ERROR,
        errors.OVERLOADED,
        errors.SHUTTING_DOWN,
        errors.DEADLINE_EXCEEDED,
    }


def _capabilities(request: Request) -> bytes:
    """What the client can be asked, as the upstream is told it: no more than the client itself has declared."""
    declared = request.capabilities
    if declared is None:
        return _NO_CAPABILITIES
    known = {
        name: value
        for name in ("elicitation", "sampling", "roots")
        if (value := getattr(declared, name)) is not UNSET
    }
    return _encode(known) if known else _NO_CAPABILITIES


def foreign_meta(request: Request) -> dict[str, Any] | None:
    """The keys of the client's `_meta` that belong to no hop, and its trace."""
    meta = request.params.meta
    found: dict[str, Any] = {}
    if meta is not UNSET and len(meta) > 2:
        found = _others(bytes(meta))
    if request.trace:
        found = {**found, **request.trace}
    return found or None


_remembered: Final[OrderedDict[bytes, dict[str, Any]]] = OrderedDict()


def _others(meta: bytes) -> dict[str, Any]:
    """The keys of an envelope that are not its own; the last few hundred envelopes are remembered."""
    found = _remembered.get(meta)
    if found is None:
        found = {name: Raw(bytes(value)) for name, value in carried_meta(Raw(meta)).items()}
        if len(meta) <= 1024:
            _remembered[meta] = found
            if len(_remembered) > 512:
                _remembered.popitem(last=False)
    return found
