"""One incarnation of a child: a service that is started, watched, and stopped within its time."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.supervision._terms import ChildSpec, NotReady

log = Logger(namespace="erlmcp.supervision")


class Incarnation:
    """A service from its start to its end.

    Args:
        spec: what it is.
        attempt: which one this is.
        service: what the spec's factory has made.
        clock: for its deadlines.
        path: its name with those of the supervisors above, for logs.

    Attributes:
        service, attempt: as given.
    """

    __slots__ = ("_clock", "_gone", "_over", "_path", "_ready", "_spec", "_timer", "attempt", "service")

    def __init__(self, spec: ChildSpec, attempt: int, service: Any, clock: IReactorTime, path: str) -> None:
        self.attempt = attempt
        self.service = service
        self._spec = spec
        self._clock = clock
        self._path = path
        self._ready = False
        self._over = False  # whether its end has been told, or need not be
        self._timer: Any = None
        self._gone: list[Deferred[None]] | None = (
            None  # who waits until it has stopped, once it is being stopped
        )

    def start(
        self,
        ready: Callable[[], None],
        failed: Callable[[Exception], None],
        exited: Callable[[Exception | None], None],
    ) -> None:
        """Start the service.

        Args:
            ready: called once it is up.
            failed: called instead, when it did not come up and nothing is left of it.
            exited: called after `ready`, when it has ended by itself (normally, or with an error) and nothing is left.
        """

        def over(error: Exception | None) -> None:
            if self._over:
                return
            self._over = True
            if self._ready:
                self.stop().addCallback(lambda _: exited(error))
            else:
                reason = error or NotReady("it ended before it was ready")
                self.stop().addCallback(lambda _: failed(reason))

        def up(_result: object) -> None:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            if not self._over:
                self._ready = True
                ready()

        starting: Deferred[Any] = maybeDeferred(self.service.startService)
        if not starting.called:
            late = NotReady(f"it was not ready within {self._spec.ready:g} s")
            self._timer = self._clock.callLater(self._spec.ready, over, late)
        starting.addCallbacks(up, lambda failure: over(_error(failure)))
        starting.addErrback(self._log, "has a fault in what follows its start")
        ended: Deferred[Any] | None = getattr(self.service, "ended", None)
        if ended is not None:
            ended.addCallbacks(lambda _: over(None), lambda failure: over(_error(failure)))

    def release(self) -> None:
        """Its end need not be told any more: it is being stopped."""
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def stop(self) -> Deferred[None]:
        """Stop the service within its time; fires when it has stopped, or its time is up. Never fails."""
        waiting: Deferred[None] = Deferred()
        if self._gone is not None:
            if not self._gone:
                return succeed(None)
            self._gone.append(waiting)
            return waiting
        self._gone = [waiting]
        self.release()
        kill = getattr(self.service, "kill", None)
        patience = self._spec.shutdown
        if patience == "kill":
            stopping: Deferred[Any] = maybeDeferred(self.service.stopService if kill is None else kill)
            stopping.addErrback(self._log, "could not be killed")
            self._settle()
            return waiting
        stopping = maybeDeferred(self.service.stopService)
        stopping.addErrback(self._log, "failed while it stopped")
        if patience == "forever" or stopping.called:
            stopping.addCallback(lambda _: self._settle())
            return waiting
        timer = self._clock.callLater(patience, self._give_up, kill)

        def stopped(_result: object) -> None:
            if timer.active():
                timer.cancel()
            self._settle()

        stopping.addCallback(stopped)
        return waiting

    def _give_up(self, kill: Callable[[], Any] | None) -> None:
        log.warn(  # noqa: G010 - Twisted's name
            "{child} has not stopped within {patience:g} s", child=self._path, patience=self._spec.shutdown
        )
        if kill is not None:
            maybeDeferred(kill).addErrback(self._log, "could not be killed")
        self._settle()

    def _settle(self) -> None:
        waiting, self._gone = self._gone or [], []
        for one in waiting:
            one.callback(None)

    def _log(self, failure: Failure, what: str) -> None:
        log.failure("{child} {what}", failure, child=self._path, what=what)


def _error(failure: Failure) -> Exception:
    error = failure.value
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
