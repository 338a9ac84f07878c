"""The gates, in their fixed order. A gate passes a request on or refuses it; nothing else may refuse."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from operator import length_hint

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
    Pending,
    Request,
)
from erlmcp.protocol import McpError
from erlmcp.server._drive import begin

_Check = Callable[[Request], Awaitable[None] | None]


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
        dispatch: gate 8: gives the outcome, or what will have it.
        counters: where each pass is counted.
        seconds: a clock for durations (`time.perf_counter`).
    """

    def __init__(
        self,
        gates: Gates,
        dispatch: Callable[[Request], Outcome | Pending[Outcome]],
        counters: ICounters,
        seconds: Callable[[], float],
    ) -> None:
        self._identity: tuple[_Check, ...] = (gates.limits.check, gates.authenticate.check)
        self._inner: tuple[_Check, ...] = (
            gates.authorize.check,
            gates.rate.check,
            gates.validate.check,
            gates.admit.check,
            gates.record.intent,
        )
        self._all = self._identity + self._inner
        self._admit = gates.admit
        self._record = gates.record
        self._check_answer = gates.check_answer
        self._dispatch = dispatch
        self._counters = counters
        self._seconds = seconds

    def identify(self, request: Request) -> Pending[None] | None:
        """Pass gates 1 and 2 alone: where it must be known whose a message is before it can be read in full.

        Returns:
            What to wait for, if a gate takes its time; None if the request is identified.

        Raises:
            erlmcp.protocol.McpError: a refusal.
        """
        return begin(self._identify(request))

    async def _identify(self, request: Request) -> None:
        for check in self._identity:
            waiting = check(request)
            if waiting is not None:
                await waiting
        request.identified = True

    def run(self, request: Request) -> Outcome | Pending[Outcome]:
        """Take a request through all gates.

        Returns:
            The outcome; where a gate or the backend takes its time, what will have it, or will fail as below.

        Raises:
            erlmcp.protocol.McpError: a refusal, or the backend's own protocol error.
            BaseException: whatever else went wrong behind the gates.
        """
        gates = iter(self._inner if request.identified else self._all)
        dispatched = False
        waiting = None
        try:
            for check in gates:
                waiting = check(request)
                if waiting is not None:
                    break
            else:
                dispatched = True
                answer = self._dispatch(request)
        except BaseException as error:
            recording = self._lost(request, error, gates, dispatched=dispatched)
            if recording is None:
                raise
            return begin(_raise_after(recording, error))
        if waiting is not None:
            return begin(self._run_later(request, gates, waiting))
        if isinstance(answer, (Complete, NeedsInput)):
            return self.leave(request, answer)
        return _Passage(self, request, answer)

    async def _run_later(
        self, request: Request, gates: Iterator[_Check], waiting: Awaitable[None]
    ) -> Outcome:
        """The rest of `run`, from a gate on that takes its time."""
        dispatched = False
        try:
            await waiting
            for check in gates:
                again = check(request)
                if again is not None:
                    await again
            dispatched = True
            answer = self._dispatch(request)
            outcome = answer if isinstance(answer, (Complete, NeedsInput)) else await answer
        except GeneratorExit:
            raise  # the process ends: nothing can be awaited any more
        except BaseException as error:
            recording = self._lost(request, error, gates, dispatched=dispatched)
            if recording is not None:
                await recording
            raise
        left = self.leave(request, outcome)
        return left if isinstance(left, (Complete, NeedsInput)) else await left

    def leave(self, request: Request, outcome: Outcome) -> Outcome | Pending[Outcome]:
        """Take a request out again, with its backend's outcome; returns and raises as `run` does."""
        try:
            self._check_answer(request, outcome)
        except BaseException as error:  # noqa: BLE001 - told to the client, as the backend's own would be
            return self._fail(request, error)
        self._admit.release(request)
        word = "complete" if type(outcome) is Complete else "input_required"
        if word == "complete" and outcome.fields.get("isError"):  # type: ignore[union-attr]
            word = "error"
        self._counters.request(request, word, self._seconds() - request.received)
        recording = self._record.outcome(request, outcome, None)
        return outcome if recording is None else begin(_give_after(recording, outcome))

    def lose(self, request: Request, error: BaseException) -> Awaitable[None] | None:
        """Take a request out again that its backend has failed; what has to be waited for before that is told."""
        return self._lost(request, error, (), dispatched=True)

    def _fail(self, request: Request, error: BaseException) -> Outcome | Pending[Outcome]:
        recording = self.lose(request, error)
        if recording is None:
            raise error
        return begin(_raise_after(recording, error))

    def _lost(
        self, request: Request, error: BaseException, gates: Iterable[_Check], *, dispatched: bool
    ) -> Awaitable[None] | None:
        """Count a request without an outcome; `gates` are those it has not come to, admission and intent the last."""
        if not length_hint(gates):
            self._admit.release(request)
        # Past its deadline a request is cancelled too, so that its backend stops; its client still gets the error.
        given_up = request.cancelled and not isinstance(error, McpError)
        word = "cancelled" if given_up else "error" if dispatched else "refused"
        self._counters.request(request, word, self._seconds() - request.received)
        return self._record.outcome(request, None, error)


class _Passage(Pending[Outcome]):
    """A request that waits for its backend."""

    __slots__ = ("_answer", "_pipeline", "_request")

    def __init__(self, pipeline: Pipeline, request: Request, answer: Pending[Outcome]) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._request = request
        self._answer = answer
        answer.then(self._answered, self._failed_with)

    def cancel(self) -> None:
        # What it waited for may be parked since, and goes on then without it.
        if not self.over:
            self._answer.cancel()

    def _answered(self, outcome: Outcome) -> None:
        try:
            left = self._pipeline.leave(self._request, outcome)
        except BaseException as error:  # noqa: BLE001 - who waits for it judges it
            self.fail(error)
        else:
            self._left(left)

    def _failed_with(self, error: BaseException) -> None:
        # Not raised here: its traceback would hold frames that hold it, and the request, until the collector comes.
        try:
            recording = self._pipeline.lose(self._request, error)
        except BaseException as worse:  # noqa: BLE001 - likewise
            self.fail(worse)
            return
        if recording is None:
            self.fail(error)
        else:
            self._left(begin(_raise_after(recording, error)))

    def _left(self, left: Outcome | Pending[Outcome]) -> None:
        if isinstance(left, Pending):
            left.then(self.succeed, self.fail)
        else:
            self.succeed(left)


async def _give_after(recording: Awaitable[None], outcome: Outcome) -> Outcome:
    await recording
    return outcome


async def _raise_after(recording: Awaitable[None], error: BaseException) -> Outcome:
    await recording
    raise error
