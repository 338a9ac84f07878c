"""Running coroutines: at once where nothing waits, and from the first wait on whenever that is over.

A request whose work is done at once must cost no Deferred (see docs/explanation/architecture.md), and
`Deferred.fromCoroutine` makes one before it knows. So the first step is taken by hand. A `Drive` takes the others: as
a coroutine in a Deferred, at a third of its cost, since it has one listener and nothing is chained to it.
"""

import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()

T = TypeVar("T")

_HURRY: Final = object()
"""Stands for what has not come while it is seen whether it has."""


class Finished(msgspec.Struct):
    """What a coroutine returned without ever waiting."""

    value: Any


def begin(coroutine: Coroutine[Any, Any, T]) -> "Finished | Drive[T]":
    """Take the first step.

    Returns:
        `Finished` with the result if the coroutine never waited, else what takes the other steps.

    Raises:
        Exception: what the coroutine raised before its first wait.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as end:
        return Finished(end.value)
    return Drive(coroutine, awaited)


class Drive(Generic[T]):
    """A coroutine that waits, and goes on when what it waits for has come.

    Its context variables are those of its first step, and its own from then on.

    Args:
        coroutine: its first step has been taken.
        awaited: what it waits for since.
    """

    __slots__ = ("_arguments", "_awaited", "_context", "_coroutine", "_done", "_early", "_failed", "_result")

    def __init__(self, coroutine: Coroutine[Any, Any, T], awaited: Any) -> None:
        self._coroutine: Coroutine[Any, Any, T] | None = coroutine
        self._context = contextvars.copy_context()
        self._awaited: Deferred[Any] | None = None
        self._early: Any = None
        self._done: Callable[..., object] | None = None
        self._failed: Callable[..., object] | None = None
        self._arguments: tuple[Any, ...] = ()
        self._result: Any = None
        self._go_on(self._wait_for(awaited))

    def then(self, done: Callable[..., object], failed: Callable[..., object], *arguments: Any) -> None:
        """Say who hears of its end, once. What they raise is logged.

        Args:
            done: called with its result and `arguments`.
            failed: called with a Failure and `arguments`.
            arguments: for either.
        """
        self._done = done
        self._failed = failed
        self._arguments = arguments
        if self._coroutine is None:
            self._tell()

    def cancel(self) -> None:
        """Cancel what it waits for: the coroutine says what comes of that. Once it has ended, this does nothing."""
        if self._awaited is not None:
            self._awaited.cancel()

    def _wait_for(self, awaited: Any) -> Any:
        """Wait; or give what has come already."""
        if not isinstance(awaited, Deferred):
            problem = (
                f"{awaited!r} is awaited, and is no Deferred; of an asyncio.Future, await Deferred.fromFuture"
            )
            return Failure(TypeError(problem))
        self._awaited = awaited
        self._early = _HURRY
        awaited.addBoth(self._came)
        early, self._early = self._early, None
        return early

    def _came(self, result: Any) -> None:
        if self._early is None:
            self._go_on(result)
        else:
            self._early = result

    def _go_on(self, result: Any) -> None:
        """Take the next step, and those after it for which nothing has to be waited for."""
        coroutine = self._coroutine
        assert coroutine is not None  # noqa: S101 - only its end takes it away
        while result is not _HURRY:
            self._awaited = None
            try:
                if isinstance(result, Failure):
                    awaited = self._context.run(result.throwExceptionIntoGenerator, coroutine)
                else:
                    awaited = self._context.run(coroutine.send, result)
            except StopIteration as end:
                self._end(end.value)
                return
            except BaseException:  # noqa: BLE001 - who hears of its end judges it
                self._end(Failure())
                return
            result = self._wait_for(awaited)

    def _end(self, result: Any) -> None:
        self._coroutine = None
        self._result = result
        if self._done is not None:
            self._tell()

    def _tell(self) -> None:
        result, self._result = self._result, None
        done, failed, arguments = self._done, self._failed, self._arguments
        self._done = self._failed = None
        self._arguments = ()
        listener: Any = failed if isinstance(result, Failure) else done
        try:
            listener(result, *arguments)
        except Exception:  # noqa: BLE001 - there is nobody above
            log.failure("what hears of a coroutine's end failed")
