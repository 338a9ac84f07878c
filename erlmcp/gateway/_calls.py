"""Requests carried to an upstream of either era: sent, asked about, sent again where that does no harm, answered.

Which era it is decides only where its questions come from: in a result (modern), or live in the middle (handshake).
"""

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.client import BadAnswer, ClientError, ServerError, needs_input
from erlmcp.gateway._attempts import Attempts, Trial, repeatable
from erlmcp.gateway._carrier import Carrier
from erlmcp.gateway._errors import (
    URL_NEEDED,
    is_authorization,
    too_late,
    translate,
    unavailable,
    url_questions,
)
from erlmcp.gateway._leases import Exhausted
from erlmcp.gateway._meta import foreign_keys
from erlmcp.gateway._rewriting import (
    own_params,
    rewrite_error_data,
    rewrite_fields,
    rewrite_question,
)
from erlmcp.gateway._session import UpstreamCall
from erlmcp.governor import Refused, Report
from erlmcp.interfaces import Complete, NeedsInput, Outcome, Pending, Request
from erlmcp.protocol import McpError, errors

log = Logger(namespace="erlmcp.gateway")

_MOST_VISITS: Final = 3
"""How often a handshake upstream may ask for visits to URLs within one call."""
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_COMPLETE: Final = b'"complete"'


class Calls:
    """Carries the requests to one upstream.

    Args:
        upstream: what they are carried to.
        attempts: makes the requests.
        seconds: the reactor's time.
    """

    def __init__(self, upstream: Carrier, attempts: Attempts, seconds: Callable[[], float]) -> None:
        self._upstream = upstream
        self._attempts = attempts
        self._seconds = seconds

    def dispatch(
        self,
        request: Request,
        *,
        received: Callable[[Raw], None] | None = None,
        asks: Callable[[], None] | None = None,
    ) -> Pending[Outcome]:
        """Answer a request; see `erlmcp.interfaces.IBackend`.

        Args:
            request: what was asked.
            received: gets the result as it came.
            asks: called before the client is asked anything live.

        Returns:
            What will have the outcome, or a `McpError`: the upstream's, or why there is none.

        Raises:
            McpError: the upstream is not asked.
        """
        upstream = self._upstream
        now = self._seconds()
        ticket = upstream.breaker.admit(now)
        if isinstance(ticket, Refused):
            upstream.tally.count("refused")
            raise unavailable(upstream.name, ticket.why, ticket.retry_after)
        upstream.budget.called(now)
        call = _Carried(request, upstream, ticket, self._seconds, received, asks)
        try:
            params = self._params(request)
            trial = self._attempts.begin(call, request.method, params)
        except BaseException as error:
            said = self._missed(error, call)
            if said is error:
                raise
            raise said from error
        if trial is None:
            self._wait(call, params, None)
        else:
            # The usual call costs no coroutine: what comes of its trial is its outcome, or else there is more to do.
            call.waits_for = done = trial.attempt.done
            done.then(self._succeeded, self._failed, call, params, trial)
        return call

    def _succeeded(self, raw: Raw, call: "_Carried", _params: dict[str, Any], trial: Trial) -> None:
        try:
            self._attempts.succeeded(trial)
            call.come(self._outcome(raw, call, modern=trial.modern))
        except BaseException as error:  # noqa: BLE001 - who waits for it judges it
            self._end(error, call)

    def _failed(self, error: BaseException, call: "_Carried", params: dict[str, Any], trial: Trial) -> None:
        trial.error = error
        self._wait(call, params, trial)

    def _wait(self, call: "_Carried", params: dict[str, Any], trial: Trial | None) -> None:
        """Carry a call that waits for more than an answer: for a session, or because its first trial has failed."""
        waiting = Deferred.fromCoroutine(self._carried(call, params, trial))
        call.waits_for = waiting
        waiting.addCallback(call.come).addErrback(self._has_failed, call)

    def _has_failed(self, failure: Failure, call: "_Carried") -> None:
        self._end(cast("BaseException", failure.value), call)

    def _end(self, error: BaseException, call: "_Carried") -> None:
        said = self._missed(error, call)
        if said is not error:
            said.__cause__ = error
        call.fail(said)

    def _missed(self, error: BaseException, call: "_Carried") -> BaseException:
        """Count a call that has no outcome, and say what its client is told."""
        upstream = self._upstream
        request = call.request
        if isinstance(error, ServerError):
            call.over_as("error", Report.BAD if _is_theirs(error) and call.refusal is None else Report.GOOD)
            if call.refusal is not None and call.refusal.code == errors.MISSING_CAPABILITY:
                # It could not go on without an answer that its client cannot give.
                return call.refusal
            return self._translated(error, call)
        if isinstance(error, Exhausted):
            call.over_as("refused", Report.NEITHER)
            return errors.overloaded(f"The upstream {upstream.name}: {error}", {"upstream": upstream.name})
        if isinstance(error, ClientError):
            # That one principal's token is no good says nothing of the upstream.
            call.over_as("lost", Report.NEITHER if is_authorization(error) else Report.BAD)
            return self._translated(error, call)
        if isinstance(error, CancelledError):
            # By our own deadline, unless the time was its client's, or nobody has asked the upstream yet.
            late = request.deadline and self._seconds() >= request.deadline
            call.over_as(
                "cancelled", Report.BAD if late and call.under_way and not call.asking else Report.NEITHER
            )
            if late:
                return too_late(request, upstream.name, sent=call.sent, repeatable=repeatable(request))
            return error
        call.over_as("error", Report.NEITHER)
        return error

    def _params(self, request: Request) -> dict[str, Any]:
        params = own_params(request.method, request.params, self._upstream.naming)
        if request.params.input_responses is not UNSET:
            params["inputResponses"] = request.params.input_responses
        if request.params.request_state is not UNSET:
            params["requestState"] = request.params.request_state
        return params

    async def _carried(self, call: "_Carried", params: dict[str, Any], trial: Trial | None) -> Outcome:
        visits = 0
        while True:
            try:
                made = await self._attempts.make(call, call.request.method, params, trial)
            except ServerError as error:
                trial = None
                questions = url_questions(error) if error.code == URL_NEEDED else {}
                visits += 1
                if not questions or visits > _MOST_VISITS:
                    raise
                # It has done nothing yet: it wants the user to have been somewhere first (2025-11-25).
                answers = await call.ask(questions)
                if any(one.get("action") != "accept" for one in answers.values()):
                    raise
                continue
            return self._outcome(made.raw, call, modern=made.modern, place=made.state)

    def _outcome(self, raw: Raw, call: "_Carried", *, modern: bool, place: str = "") -> Outcome:
        outcome = self.outcome(raw, call.request, modern=modern)
        if isinstance(outcome, NeedsInput):
            if place and outcome.state is not None:
                outcome = NeedsInput(outcome.questions, place + outcome.state, here=True)
            elif self._upstream.child:
                # Another worker, and whoever comes after a reload, has a process of its own, which knows nothing of it.
                outcome.here = outcome.state is not None
        if call.received is not None:
            call.received(raw)
        return outcome

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
        try:
            members = _members(raw)
        except msgspec.DecodeError as error:
            raise BadAnswer(upstream.name, f"{request.method}: {error}") from error
        kind = members.pop("resultType", None)
        if modern and kind is not None and bytes(kind) != _COMPLETE:
            required = needs_input(raw, request.method, upstream.name)
            if required is not None:
                state = None if required.request_state is UNSET else required.request_state
                questions = {
                    key: rewrite_question(question, upstream.naming)
                    for key, question in required.input_requests.items()
                }
                return NeedsInput(questions, state)
        # Its kind, and what of its `_meta` is the protocol's own, belong to that hop.
        meta = members.pop("_meta", None)
        fields: dict[str, Any] = rewrite_fields(request.method, members, upstream.naming)
        foreign = None if meta is None else foreign_keys(meta)
        return Complete({**fields, "_meta": dict(foreign)} if foreign else fields)

    def _translated(self, error: ClientError, call: UpstreamCall) -> McpError:
        upstream = self._upstream
        request = call.request
        theirs = self._attempts.serves_alone(request)
        said = translate(
            error, request, upstream.name, theirs=theirs, repeatable=repeatable(request), lost=call.lost
        )
        if isinstance(error, ServerError) and said.data is error.data:
            said.data = rewrite_error_data(said.data, upstream.naming)
        if said.code in {errors.INTERNAL_ERROR, errors.OUTCOME_UNKNOWN, errors.OVERLOADED}:
            fields = {"upstream": upstream.name, "method": request.method, "error": str(error)}
            log.warn("{upstream}: {method}: {error}", **fields)  # noqa: G010 - Twisted's name
        return said


def _is_theirs(error: ServerError) -> bool:
    """Whether the upstream says that it fails, rather than that the request is wrong."""
    return error.code in {
        errors.INTERNAL_ERROR,
        errors.OVERLOADED,
        errors.SHUTTING_DOWN,
        errors.DEADLINE_EXCEEDED,
    }


class _Carried(UpstreamCall):
    """A call, and what the breaker is told of it: once, and no later than when somebody else's time begins.

    Attributes:
        received: gets its result as it came.
        waits_for: what it is carried by now.
    """

    __slots__ = ("_asks", "_seconds", "_ticket", "_told", "_upstream", "received", "waits_for")

    def __init__(
        self,
        request: Request,
        upstream: Carrier,
        ticket: int,
        seconds: Callable[[], float],
        received: Callable[[Raw], None] | None,
        asks: Callable[[], None] | None,
    ) -> None:
        super().__init__(request, upstream.naming)
        self.received = received
        self._upstream = upstream
        self._ticket = ticket
        self._seconds = seconds
        self._asks = asks
        self._told = False
        self.waits_for: Pending[Any] | Deferred[Any] | None = None

    def cancel(self) -> None:
        """Its client gives it up, or its time is over: what it waits for says what comes of that."""
        if self.waits_for is not None:
            self.waits_for.cancel()

    def come(self, outcome: Outcome) -> None:
        """It has its outcome."""
        self.over_as("input_required" if isinstance(outcome, NeedsInput) else "complete", Report.GOOD)
        self.waits_for = None
        self.succeed(outcome)

    def will_ask(self) -> None:
        """The upstream is well, and the client may take its time."""
        if not self._told:
            self._settle(Report.GOOD)
        if self._asks is not None:
            self._asks()

    def over_as(self, ended: str, report: Report) -> None:
        """It has ended so, for the counts and for the breaker."""
        self._upstream.tally.count(ended)
        if not self._told:
            self._settle(report)

    def _settle(self, report: Report) -> None:
        self._told = True
        # In a process of ours, what fails is one tool: the others need not be kept from it.
        harm = report is Report.BAD and self._upstream.own
        self._upstream.breaker.settle(self._ticket, Report.NEITHER if harm else report, self._seconds())
