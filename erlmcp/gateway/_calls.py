"""Requests carried to an upstream of either era: sent, asked about, sent again where that does no harm, answered.

Which era it is decides only where its questions come from: in a result (modern), or live in the middle (handshake).
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from erlmcp.client import BadAnswer, ClientError, ServerError, needs_input
from erlmcp.gateway._attempts import Attempts, Carrier, foreign_keys, repeatable
from erlmcp.gateway._errors import (
    URL_NEEDED,
    is_authorization,
    too_late,
    translate,
    unavailable,
    url_questions,
)
from erlmcp.gateway._leases import Exhausted
from erlmcp.gateway._rewriting import (
    own_params,
    rewrite_error_data,
    rewrite_fields,
    rewrite_question,
)
from erlmcp.gateway._session import UpstreamCall
from erlmcp.governor import Refused, Report
from erlmcp.interfaces import Complete, NeedsInput, Outcome, Principal, Request
from erlmcp.protocol import McpError, errors

log = Logger(namespace="erlmcp.gateway")

_MOST_VISITS: Final = 3
"""How often a handshake upstream may ask for visits to URLs within one call."""
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_HOP: Final = frozenset({"resultType"})


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
        self._seconds = seconds
        self._attempts = Attempts(upstream, context, seconds)

    def sharing_context(self, request: Request) -> str:
        """Whom an answer may be shared with: those who would be asked for on the same session."""
        return self._attempts.sharing_context(request)

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
        verdict = _Verdict(upstream, ticket, self._seconds, asks)
        call = UpstreamCall(request, upstream.naming, verdict.asked)
        report = Report.NEITHER
        ended = "error"
        try:
            outcome = await self._carried(call, received)
            report = Report.GOOD
            ended = "input_required" if isinstance(outcome, NeedsInput) else "complete"
        except ServerError as error:
            report = Report.BAD if _is_theirs(error) and call.refusal is None else Report.GOOD
            if call.refusal is not None and call.refusal.code == errors.MISSING_CAPABILITY:
                # It could not go on without an answer that its client cannot give.
                raise call.refusal from error
            raise self._translated(error, call) from error
        except Exhausted as error:
            ended = "refused"
            raise errors.overloaded(
                f"The upstream {upstream.name}: {error}", {"upstream": upstream.name}
            ) from error
        except ClientError as error:
            ended = "lost"
            # That one principal's token is no good says nothing of the upstream.
            report = Report.NEITHER if is_authorization(error) else Report.BAD
            raise self._translated(error, call) from error
        except CancelledError:
            ended = "cancelled"
            # By our own deadline, unless the time was its client's, or nobody has asked the upstream yet.
            late = request.deadline and self._seconds() >= request.deadline
            report = Report.BAD if late and call.under_way and not call.asking else Report.NEITHER
            if late:
                raise too_late(
                    request, upstream.name, sent=call.sent, repeatable=repeatable(request)
                ) from None
            raise
        finally:
            upstream.tally.count(ended)
            verdict.settle(report)
        return outcome

    async def _carried(self, call: UpstreamCall, received: Callable[[Raw], None] | None) -> Outcome:
        upstream = self._upstream
        request = call.request
        params = own_params(request.method, request.params, upstream.naming)
        if request.params.input_responses is not UNSET:
            params["inputResponses"] = request.params.input_responses
        if request.params.request_state is not UNSET:
            params["requestState"] = request.params.request_state
        visits = 0
        while True:
            try:
                made = await self._attempts.make(call, request.method, params)
            except ServerError as error:
                questions = url_questions(error) if error.code == URL_NEEDED else {}
                visits += 1
                if not questions or visits > _MOST_VISITS:
                    raise
                # It has done nothing yet: it wants the user to have been somewhere first (2025-11-25).
                answers = await call.ask(questions)
                if any(one.get("action") != "accept" for one in answers.values()):
                    raise
                continue
            outcome = self.outcome(made.raw, request, modern=made.modern)
            if made.state and isinstance(outcome, NeedsInput) and outcome.state is not None:
                outcome = NeedsInput(outcome.questions, made.state + outcome.state, here=True)
            elif upstream.child and isinstance(outcome, NeedsInput):
                # Another worker, and whoever comes after a reload, has a process of its own, which knows nothing of it.
                outcome.here = outcome.state is not None
            if received is not None:
                received(made.raw)
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
                foreign = foreign_keys(meta)
                if foreign:
                    fields["_meta"] = dict(foreign)
                else:
                    del fields["_meta"]
            for name in _HOP:
                fields.pop(name, None)
        except msgspec.DecodeError as error:
            raise BadAnswer(upstream.name, f"{request.method}: {error}") from error
        return Complete(fields)

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


class _Verdict:
    """What the breaker is told of one call: once, and no later than when somebody else's time begins."""

    __slots__ = ("_asks", "_seconds", "_ticket", "_told", "_upstream")

    def __init__(
        self, upstream: Carrier, ticket: int, seconds: Callable[[], float], asks: Callable[[], None] | None
    ) -> None:
        self._upstream = upstream
        self._ticket = ticket
        self._seconds = seconds
        self._asks = asks
        self._told = False

    def asked(self) -> None:
        """It asks the client something: it is well, and the client may take its time."""
        self.settle(Report.GOOD)
        if self._asks is not None:
            self._asks()

    def settle(self, report: Report) -> None:
        if not self._told:
            self._told = True
            # In a process of ours, what fails is one tool: the others need not be kept from it.
            harm = report is Report.BAD and self._upstream.own
            self._upstream.breaker.settle(self._ticket, Report.NEITHER if harm else report, self._seconds())
