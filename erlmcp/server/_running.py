"""Work of a backend that did not end at once: who waits for it, what it asks, and until when it may run.

A running work outlives the request that began it when it asks the client: it is parked, and the client's retry,
a request of its own, goes on waiting for it. See docs/machines/running.md.
"""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from erlmcp.interfaces import NeedsInput, Outcome, Pending, Request
from erlmcp.protocol import McpError, errors
from erlmcp.server._asks import Asks
from erlmcp.telemetry import about, report
from erlmcp.timing import Entry, Wheel

log = Logger()


class Running(Pending[Outcome]):
    """One backend's work under way. Itself it is what comes first of that: its end, or questions that it has.

    Args:
        request: the request that began it; the backend holds on to it, so a retry refreshes it in place.
        asks: its questions; None if it has none yet, and was given no answers.
        work: gives its outcome.
        wheel: for the deadline.
        clock: the clock that `Request.deadline` is on.
    """

    __slots__ = (
        "_asks",
        "_began",
        "_clock",
        "_deadline",
        "_end",
        "_stopped",
        "_surfacing",
        "_waiter",
        "_wheel",
        "_work",
        "request",
    )

    def __init__(
        self,
        request: Request,
        asks: Asks | None,
        work: Deferred[Outcome] | Pending[Outcome],
        wheel: Wheel,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.request = request
        self._asks = asks
        self._work = work
        self._end: Outcome | BaseException | None = None
        self._stopped = False
        self._wheel = wheel
        self._clock = clock
        self._waiter: Pending[Outcome] | None = None
        self._surfacing: Any = None
        self._deadline: Entry | None = None
        self._began = 0.0
        if asks is not None:
            asks.on_question = self._asked

    @property
    def asks(self) -> Asks:
        """Its questions."""
        asks = self._asks
        if asks is None:
            asks = self._asks = Asks({})
            if self.ended:
                asks.close()
            else:
                asks.on_question = self._asked
        return asks

    def begin(self) -> None:
        """Wait for the work, once. After questions there is `resume`."""
        self._wait(self)
        work = self._work
        if isinstance(work, Pending):
            work.then(self._done, self._failed)
        else:
            work.addCallbacks(self._done, lambda failure: self._failed(failure.value))
        if self._asks is not None:
            self._surface()

    def resume(self, retry: Request, answers: dict[str, Any]) -> Pending[Outcome]:
        """Go on with a retry's answers: its identity, capabilities, deadline and way back replace the old ones."""
        request = self.request
        # Whatever the work logs from now on, this is what its caller can be told.
        retry.refer()
        request.answers = [*(request.answers or ())[-1:], answers]
        for name in (
            "id",
            "capabilities",
            "client",
            "log_level",
            "progress_token",
            "trace",
            "span",
            "reference",
            "peer",
            "headers",
            "principal",
            "deadline",
            "received",
            "conversation",
        ):
            setattr(request, name, getattr(retry, name))
        waiter = self._wait(_Waiter(self))
        self.asks.answer(answers)
        # What the retry left unanswered is asked again at once, with whatever the work has asked since.
        self._surface()
        return waiter

    def refuse(self, error: Exception) -> Pending[Outcome]:
        """Go on without answers: whoever asked gets the error."""
        waiter = self._wait(_Waiter(self))
        self.asks.refuse(error)
        self._surface()
        return waiter

    @property
    def ended(self) -> bool:
        """Whether the work has come to its result."""
        return self._end is not None

    def cancel(self) -> None:
        """Stop the work, once; whoever waits for it gets a CancelledError."""
        if self._stopped:
            return
        self._stopped = True
        self.request.cancel()
        self._work.cancel()
        self._close()
        self._settle(CancelledError())
        self.request.conversation = None

    def _wait(self, waiter: Pending[Outcome]) -> Pending[Outcome]:
        self._waiter = waiter
        if self._end is not None:
            self._settle(self._end)
            return waiter
        if self.request.deadline:
            self._began = self._clock.seconds()
            remaining = self.request.deadline - self._began
            self._deadline = self._wheel.after(max(0.0, remaining), self._expired)
        return waiter

    def _asked(self) -> None:
        # Questions of one turn of the reactor go out together, so a coroutine may ask several at once.
        if self._waiter is not None and self._surfacing is None:
            self._surfacing = self._clock.callLater(0, self._surface_later)

    def _surface_later(self) -> None:
        self._surfacing = None
        self._surface()

    def _surface(self) -> None:
        asks = self._asks
        if asks is not None and self._waiter is not None and (questions := asks.open):
            self._settle(NeedsInput(questions))

    def _close(self) -> None:
        """Nobody will answer any more."""
        if self._asks is not None:
            self._asks.close()

    def _expired(self) -> None:
        self._deadline = None
        waiter, self._waiter = self._waiter, None
        self._stopped = True
        self.request.cancel()
        self._work.cancel()
        self._close()
        log.warn("{method} {name} of request {id} was not done in time [{reference}]", **about(self.request))  # noqa: G010
        self._waiter = waiter
        ended = self._end
        if isinstance(ended, McpError):
            # The backend knows more of it: who was asked, and whether it may be done yet.
            self._settle(ended)
            return
        seconds = round(self.request.deadline - self._began, 3)
        self._settle(errors.deadline_exceeded(seconds, self.request.refer()))

    def _done(self, outcome: Outcome) -> None:
        self._end = outcome
        if self._asks is not None:
            self._asks.close()
        self._settle(outcome)

    def _failed(self, error: BaseException) -> None:
        self._end = error
        self._close()
        told_to_stop = isinstance(error, CancelledError) or (
            self.request.cancelled and isinstance(error, McpError)
        )
        if self._waiter is None and not told_to_stop:
            report(
                log,
                "{method} {name} failed after its caller had gone [{reference}]",
                error,
                self.request,
            )
        self._settle(error)

    def _settle(self, result: Outcome | BaseException) -> None:
        if self._surfacing is not None:
            self._surfacing.cancel()
            self._surfacing = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        if isinstance(result, BaseException):
            waiter.fail(result)
        else:
            waiter.succeed(result)


class _Waiter(Pending[Outcome]):
    """Somebody who waits for what comes next of a work that has asked something."""

    __slots__ = ("_running",)

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running

    def stop(self) -> None:
        self._running.cancel()
