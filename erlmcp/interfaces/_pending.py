"""What comes later, for one listener: a quarter of what a Deferred costs, where nothing is chained to it."""

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

log = Logger()

T = TypeVar("T")

_Listener = tuple[Callable[..., object], Callable[..., object], tuple[Any, ...]]


class Pending(Generic[T]):
    """A result that is not there yet.

    It is settled once: with a result, with an error, or by being cancelled; what is said later is not heard. Whoever
    makes one says so, and one listener hears it: with `then`, or by awaiting it in any coroutine that Twisted drives.

    Attributes:
        over: whether it is settled.
    """

    __slots__ = ("_listener", "_result", "over")

    def __init__(self) -> None:
        self.over = False
        self._listener: _Listener | None = None
        self._result: Any = None

    def then(self, done: Callable[..., object], failed: Callable[..., object], *arguments: Any) -> None:
        """Say who hears of it, once. What they raise is logged.

        Args:
            done: called with the result and `arguments`.
            failed: called with the error and `arguments`.
            arguments: for either.
        """
        if not self.over:
            self._listener = done, failed, arguments
            return
        result, self._result = self._result, None
        if isinstance(result, _Error):
            _tell(failed, result.error, arguments)
        else:
            _tell(done, result, arguments)

    def succeed(self, result: T) -> None:
        """Here is the result."""
        if self.over:
            return
        self.over = True
        # Who listens may hold what has waited: neither is kept once it is told.
        listener, self._listener = self._listener, None
        if listener is None:
            self._result = result
            return
        try:
            listener[0](result, *listener[2])
        except Exception:  # noqa: BLE001 - there is nobody above
            log.failure("what heard of a result failed")

    def fail(self, error: BaseException) -> None:
        """There is none, for this reason."""
        if self.over:
            return
        self.over = True
        listener, self._listener = self._listener, None
        if listener is None:
            self._result = _Error(error)
        else:
            _tell(listener[1], error, listener[2])

    def cancel(self) -> None:
        """Its listener wants it no more: it hears a `CancelledError`, unless `stop` says something else first."""
        if not self.over:
            self.stop()
            self.fail(CancelledError())

    def stop(self) -> None:
        """Stop what would have brought the result: for a subclass."""

    def deferred(self) -> Deferred[T]:
        """The same as a Deferred, which is its listener: to be chained, gathered or given a limit of time.

        Cancelled, it fails at once, also where this one has yet to come to its end.
        """
        deferred: Deferred[T] = Deferred(lambda _: self.cancel())
        self.then(_give, _refuse, deferred)
        return deferred

    def __await__(self) -> Generator[Deferred[Any], None, T]:
        """Wait for it; raises its error."""
        return self.deferred().__await__()


def _tell(listener: Callable[..., object], what: Any, arguments: tuple[Any, ...]) -> None:
    try:
        listener(what, *arguments)
    except Exception:  # noqa: BLE001 - there is nobody above
        log.failure("what heard of a result failed")


def _give(result: Any, deferred: Deferred[Any]) -> None:
    if not deferred.called:
        deferred.callback(result)


def _refuse(error: BaseException, deferred: Deferred[Any]) -> None:
    if not deferred.called:
        deferred.errback(error)


class _Error:
    """An error that nobody has heard of yet."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error
