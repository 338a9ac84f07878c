"""The gates, in their fixed order. A gate passes a request on or refuses it; nothing else may refuse."""

from collections.abc import Awaitable, Callable

import msgspec

from erlmcp.interfaces import (
    Complete,
    IAdmission,
    IAuthorize,
    ICounters,
    IGate,
    IRecord,
    NeedsInput,
    Outcome,
    Request,
)
from erlmcp.protocol import McpError


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """What `tap` gives to the pipeline, by the question that each asks; their order is the pipeline's own.

    Attributes:
        limits: (1) is the message within what its connection may send?
        authenticate: (2) whose is it? Sets `Request.principal`.
        authorize: (3) may this principal use this method on this name?
        rate: (4) may it do so now?
        validate: (5) does somebody answer the name, and are the arguments right? Sets `target` and `arguments`.
        admit: (6) is there room, and by when must it be done? Sets `deadline`.
        record: (7, 10) the receipt's two halves.
        check_answer: (9) is the answer what was promised? Called with the request and its outcome.
    """

    limits: IGate
    authenticate: IGate
    authorize: IAuthorize
    rate: IGate
    validate: IGate
    admit: IAdmission
    record: IRecord
    check_answer: Callable[[Request, Outcome], None]


class Pipeline:
    """One pass of a request through the gates to whoever answers it, and back.

    Args:
        gates: the gates.
        dispatch: gate 8: gives the outcome, or an awaitable of it.
        counters: where each pass is counted.
        seconds: a clock for durations (`time.perf_counter`).
    """

    def __init__(
        self,
        gates: Gates,
        dispatch: Callable[[Request], Outcome | Awaitable[Outcome]],
        counters: ICounters,
        seconds: Callable[[], float],
    ) -> None:
        self._first = (gates.limits.check, gates.authenticate.check)
        self._checks = (gates.authorize.check, gates.rate.check, gates.validate.check)
        self._all_checks = self._first + self._checks
        self._admit = gates.admit
        self._record = gates.record
        self._check_answer = gates.check_answer
        self._dispatch = dispatch
        self._counters = counters
        self._seconds = seconds

    async def identify(self, request: Request) -> None:
        """Pass gates 1 and 2 alone: where it must be known whose a message is before it can be read in full.

        Raises:
            erlmcp.protocol.McpError: a refusal.
        """
        for check in self._first:
            waiting = check(request)
            if waiting is not None:
                await waiting
        request.identified = True

    async def run(self, request: Request) -> Outcome:
        """Take a request through all gates. Does not wait unless a gate or the backend does.

        Raises:
            erlmcp.protocol.McpError: a refusal, or the backend's own protocol error.
            BaseException: whatever else went wrong behind the gates.
        """
        outcome: Outcome | None = None
        dispatched = False
        try:
            for check in self._checks if request.identified else self._all_checks:
                waiting = check(request)
                if waiting is not None:
                    await waiting
            waiting = self._admit.check(request)
            if waiting is not None:
                await waiting
            try:
                waiting = self._record.intent(request)
                if waiting is not None:
                    await waiting
                dispatched = True
                answer = self._dispatch(request)
                # Only an outcome is an answer already; whatever else a backend returns is waited for.
                outcome = answer if isinstance(answer, (Complete, NeedsInput)) else await answer
                self._check_answer(request, outcome)
            finally:
                self._admit.release(request)
        except GeneratorExit:
            raise  # the process ends: nothing can be awaited any more
        except BaseException as error:
            waiting = self._record.outcome(request, None, error)
            if waiting is not None:
                await waiting
            # Past its deadline a request is cancelled too, so that its backend stops; its client still gets the error.
            given_up = request.cancelled and not isinstance(error, McpError)
            word = "cancelled" if given_up else "error" if dispatched else "refused"
            self._counters.request(request, word, self._seconds() - request.received)
            raise
        waiting = self._record.outcome(request, outcome, None)
        if waiting is not None:
            await waiting
        word = "complete" if type(outcome) is Complete else "input_required"
        if word == "complete" and outcome.fields.get("isError"):  # type: ignore[union-attr]
            word = "error"
        self._counters.request(request, word, self._seconds() - request.received)
        return outcome
