"""One request to an upstream: on whose session it is made, and whether it is made again when nothing came of it.

It is made again only where the first has provably done nothing, or where doing it twice does no harm; for each reason
once, and as long as the upstream's retry budget lasts.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from erlmcp.client import (
    NO_PLACE,
    Attempt,
    ClientError,
    Disconnected,
    Edge,
    Identity,
    ServerError,
    mirrored_headers,
    needs_input,
)
from erlmcp.gateway._carrier import Carrier
from erlmcp.gateway._errors import gone, is_authorization
from erlmcp.gateway._leases import EVERYBODY, Gone, Seat, Whose
from erlmcp.gateway._meta import foreign_meta
from erlmcp.gateway._session import UpstreamCall, UpstreamSession
from erlmcp.interfaces import Principal, Request, ToolDefinition
from erlmcp.protocol import errors

log = Logger(namespace="erlmcp.gateway")

CALMING: Final = 1.0
"""Seconds in which a process of ours that was told to give a call up has to answer anything at all."""
_HARMLESS: Final = frozenset({"resources/read", "prompts/get", "completion/complete"})
_NO_CAPABILITIES: Final = b"{}"
_MOST_IDENTITIES: Final = 256
_MISUNDERSTOOD: Final = frozenset({errors.INVALID_REQUEST, -32000, -32001})
"""What servers of the handshake era answer, beside such a status, to what they do not know."""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Made(NamedTuple):
    """What came of a request.

    Attributes:
        raw: the result.
        modern: whether the upstream may have answered with questions.
        state: goes before a state that this result has: which session the call waits in, if it has to be that one.
    """

    raw: Raw
    modern: bool
    state: str = ""


class Trial:
    """A request that is being made on a session.

    Attributes:
        seat: the session, as it was lent.
        attempt: the request.
        modern: the era that it is made in.
        error: what it is known to have failed with.
    """

    __slots__ = ("attempt", "error", "modern", "seat")

    def __init__(self, seat: Seat, attempt: Attempt, *, modern: bool) -> None:
        self.seat = seat
        self.attempt = attempt
        self.modern = modern
        self.error: BaseException | None = None

    async def result(self) -> Raw:
        """Wait for its raw result; raises what it fails with."""
        error, self.error = self.error, None
        if error is not None:
            raise error
        return await self.attempt.done


class Attempts:
    """Makes requests to one upstream.

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

    def begin(self, call: UpstreamCall, method: str, params: dict[str, Any]) -> Trial | None:
        """Make a request at once; None if something has to be waited for before, which `make` does.

        Most requests are this one: their session is there, connected, and to be shared. What comes of it is waited
        for with callbacks. A result is the caller's after `succeeded`; with anything else `make` goes on.
        """
        upstream = self._upstream
        request = call.request
        capabilities = _capabilities(request)
        if upstream.own or (upstream.era != "modern" and self._alone(capabilities)):
            return None
        seat = upstream.leases.usual(self._whose(request, capabilities))
        if seat is None:
            return None
        edge = seat.member.connection.edge
        if edge is None:
            return None
        upstream.leases.lend(seat)
        try:
            return self._tried(call, seat, edge, method, params, capabilities)
        except BaseException:
            upstream.leases.give_back(seat)
            raise

    def succeeded(self, trial: Trial) -> None:
        """A request of `begin` has its result."""
        trial.seat.member.end(trial.attempt)
        self._upstream.leases.give_back(trial.seat)

    async def make(
        self, call: UpstreamCall, method: str, params: dict[str, Any], trial: Trial | None = None
    ) -> Made:
        """Make a request, again where that is right.

        Args:
            call: whose it is.
            method: the request's.
            params: the request's.
            trial: what `begin` has made of it already, if it has.

        Raises:
            ClientError: what came instead of a result.
            Exhausted: there is no session for it, nor a place in the queue.
            McpError: the process that it has to go on in has gone.
        """
        tried: set[str] = set()
        doubt: _Doubt | None = None
        while True:
            why = await self._once(call, method, params, tried, doubt, trial)
            if isinstance(why, Made):
                return why
            trial = doubt = None
            if isinstance(why, _Doubt):
                doubt = why
                tried.add("era")
                continue
            tried.add(why)
            if why == "headers":
                await self._upstream.relist("tools")

    async def _once(
        self,
        call: UpstreamCall,
        method: str,
        params: dict[str, Any],
        tried: set[str],
        doubt: "_Doubt | None",
        trial: Trial | None,
    ) -> "Made | str | _Doubt":
        """What came of it, or why it is made again."""
        request = call.request
        upstream = self._upstream
        capabilities = _capabilities(request)
        wanted, params = self._place(params)
        if trial is None:
            call.under_way = False
            seat = await self._taken(request, capabilities, wanted)
            call.under_way = True
        else:
            seat = trial.seat
        session: UpstreamSession = seat.member
        broken = kept = False
        try:
            if trial is None:
                edge = await self._edge(session, wanted, doubt)
                trial = self._tried(call, seat, edge, method, params, capabilities)
            return await self._made(trial, request, back=wanted is not None)
        except Disconnected as error:
            # One that could not be connected is as good as before: it knows when to try again.
            broken = error.session_lost or (
                session.connection.edge is None and not session.connection.failures
            )
            why = None if is_authorization(error) else self._why_again(error, call, session, tried)
            if wanted is not None:
                raise (gone(upstream.name) if error.unsent else error) from error
            if why is None:
                raise
            call.lost |= why == "harmless"
            if why == "era":
                broken = True
                return self._doubt(error, session)
            return why
        except ServerError as error:
            mistake = self._mistake(error, request, session)
            if mistake is None or mistake in tried or not upstream.budget.spend(self._seconds()):
                raise
            broken = mistake != "headers"
            return self._doubt(error, session) if mistake == "era" else mistake
        except CancelledError:
            if upstream.own and call.sent:
                kept = True
                self._calm(seat, session, request)
            raise
        finally:
            if not kept:
                upstream.leases.give_back(seat, broken=broken)

    async def _edge(self, session: UpstreamSession, wanted: "_Place | None", doubt: "_Doubt | None") -> Edge:
        """What a request is made over, once it is connected."""
        if wanted is not None and not wanted.stands(session):
            raise gone(self._upstream.name)
        edge = session.connection.edge or await session.connection.connected()
        if doubt is not None and edge.asks_again == doubt.modern:
            # It is what it was: that was its answer, and it may have acted before it gave it.
            raise doubt.error
        return edge

    def _tried(
        self,
        call: UpstreamCall,
        seat: Seat,
        edge: Edge,
        method: str,
        params: dict[str, Any],
        capabilities: bytes,
    ) -> Trial:
        request = call.request
        attempt = seat.member.begin(
            call,
            edge,
            method,
            params,
            identity=self._identity(capabilities),
            headers=self._mirrored(request),
            meta=foreign_meta(request),
        )
        return Trial(seat, attempt, modern=edge.asks_again)

    def _alone(self, capabilities: bytes) -> bool:
        """Whether nobody else may use the session meanwhile: on a stream nothing says whose question it is."""
        upstream = self._upstream
        return upstream.own or (
            upstream.stream and capabilities != _NO_CAPABILITIES and upstream.era != "modern"
        )

    async def _taken(self, request: Request, capabilities: bytes, wanted: "_Place | None") -> Seat:
        upstream = self._upstream
        leases = upstream.leases
        whose = self._whose(request, capabilities)
        place = None
        if wanted is not None:
            place = leases.seat(wanted.number)
            if place is None:
                raise gone(upstream.name)
        try:
            taken = leases.take(whose, alone=self._alone(capabilities), wanted=place)
            return await taken if isinstance(taken, Deferred) else taken
        except Gone:
            raise gone(upstream.name) from None

    async def _made(self, trial: Trial, request: Request, *, back: bool) -> Made:
        """The result of a trial; `back` if its client has come back for a call that waits in its process."""
        upstream = self._upstream
        try:
            raw = await trial.result()
        finally:
            trial.seat.member.end(trial.attempt)
        if back:
            upstream.leases.unpark(trial.seat)
        if not upstream.own or needs_input(raw, request.method, upstream.name) is None:
            return Made(raw, trial.modern)
        # The call waits in this very process: that must be there when its client comes back.
        seat = trial.seat
        upstream.leases.park(seat)
        return Made(raw, trial.modern, f"{seat.number}.{seat.member.lives}.")

    def _place(self, params: dict[str, Any]) -> "tuple[_Place | None, dict[str, Any]]":
        """In which process a call of ours waits, and its parameters as that process knows them."""
        state = params.get("requestState")
        if not self._upstream.own or not isinstance(state, str):
            return None, params
        number, _, rest = state.partition(".")
        life, _, state = rest.partition(".")
        return _Place(int(number), int(life)), {**params, "requestState": state}

    def _calm(self, seat: Seat, session: UpstreamSession, request: Request) -> None:
        """A process of ours was told to give a call up: see that it does, before another call comes to it."""
        upstream = self._upstream
        target = request.target
        interruptible = isinstance(target, ToolDefinition) and target.interruptible

        def calm(_: Any) -> None:
            upstream.leases.give_back(seat)

        def end(why: str) -> None:
            upstream.has_ended(f"{request.method} {request.name}: {why}")
            upstream.leases.give_back(seat, broken=True)

        if request.deadline and self._seconds() >= request.deadline:
            end("not done in time")
        elif not interruptible:
            # What runs in a thread runs on, whoever waits for it.
            end("given up by its client")
        elif session.connection.edge is None:
            end("lost")
        else:
            session.ping(CALMING).addCallbacks(calm, lambda _: end("does not react"))

    def _doubt(self, error: ClientError, session: UpstreamSession) -> "_Doubt":
        """The upstream may be of the other era now: find that out before it is asked again."""
        self._upstream.may_be_another()
        return _Doubt(error, modern=session.edge is not None and session.edge.asks_again)

    def _why_again(
        self, error: Disconnected, call: UpstreamCall, session: UpstreamSession, tried: set[str]
    ) -> str | None:
        """Why a lost request may be made again: nothing was executed, or it does no harm."""
        modern = self._upstream.era == "modern"
        if error.session_lost:
            why = "session"
        elif error.unsent and session.connection.failures:
            return None  # there is no way there: it was tried just now
        elif error.unsent:
            why = "unsent"
        elif modern and error.status in NO_PLACE:
            why = "era"
        elif error.status is None and repeatable(call.request) and not call.asked:
            why = "harmless"
        else:
            return None
        if why in tried or not self._upstream.budget.spend(self._seconds()):
            return None
        return why

    def _mistake(self, error: ServerError, request: Request, session: UpstreamSession) -> str | None:
        """What this hop has to correct before it asks again; None if it is not its mistake.

        A server that refuses what it is sent for its form has executed nothing.
        """
        if error.method != request.method:
            return None
        if error.code == errors.HEADER_MISMATCH:
            return "headers" if request.method == "tools/call" else None
        if error.code == errors.UNSUPPORTED_VERSION:
            return "era"
        if error.answered_with not in NO_PLACE:
            return None
        # Within a session, errors of calls travel with 200; it may be the session that it does not take any more.
        within = session.edge is None or not session.edge.asks_again
        if error.code in _MISUNDERSTOOD:
            return "session" if within else "era"
        return "era" if within else None

    # whose it is

    def sharing_context(self, request: Request) -> str:
        """Whom an answer may be shared with: those who would be asked for on the same session."""
        if self._upstream.era == "modern":
            return self._context(request.principal)
        whose = self._whose(request, _capabilities(request))
        return self._context(request.principal) if self._upstream.leases.shares else repr(whose.key)

    def serves_alone(self, request: Request) -> bool:
        """Whether the session that this is asked for on serves its principal alone."""
        return bool(self._whose(request, _NO_CAPABILITIES).principal)

    def _whose(self, request: Request, capabilities: bytes) -> Whose:
        principal = request.principal
        context = self._context(principal)
        if self._upstream.era == "modern":
            return Whose(context, who=principal) if context else EVERYBODY
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


class _Doubt(NamedTuple):
    """Why the upstream may be of another era than before: an error that servers of the other one give.

    Attributes:
        error: what it answered.
        modern: which era it was thought to be of.
    """

    error: ClientError
    modern: bool


class _Place(NamedTuple):
    """The process in which a call waits: the session's number, and which of its lives."""

    number: int
    life: int

    def stands(self, session: UpstreamSession) -> bool:
        """Whether that very process is still there."""
        return session.lives == self.life and session.edge is session.connection.edge is not None


def repeatable(request: Request) -> bool:
    """Whether making it twice does no harm."""
    target = request.target
    return request.method in _HARMLESS or (
        isinstance(target, ToolDefinition) and (target.read_only or target.idempotent or target.replay)
    )


def _capabilities(request: Request) -> bytes:
    """What the client can be asked, as the upstream is told it: no more than the client itself has declared."""
    declared = request.capabilities
    if declared is None or (
        declared.elicitation is UNSET and declared.sampling is UNSET and declared.roots is UNSET
    ):
        return _NO_CAPABILITIES
    known = {
        name: value
        for name in ("elicitation", "sampling", "roots")
        if (value := getattr(declared, name)) is not UNSET
    }
    return _encode(known)
