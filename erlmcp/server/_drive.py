"""Running coroutines: at once where nothing waits, and from the first wait on whenever that is over.

A request whose work is done at once must cost no Deferred (see docs/explanation/architecture.md), and
`Deferred.fromCoroutine` makes one before it knows. So the first step is taken by hand, and a `Drive` takes the others.
"""

import contextvars
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from erlmcp.interfaces import Pending

T = TypeVar("T")

_HURRY: Final = object()
"""Stands for what has not come while it is seen whether it has."""


def begin(coroutine: Coroutine[Any, Any, T]) -> "T | Drive[T]":
    """Take the first step.

    Returns:
        The result if the coroutine never waited, else what takes the other steps, and has it then.

    Raises:
        Exception: what the coroutine raised before its first wait.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    return Drive(coroutine, awaited)


class Drive(Pending[T]):
    """A coroutine that waits, and goes on when what it waits for has come; its result is the coroutine's.

    Its context variables are those of its first step, and its own from then on.

    Args:
        coroutine: its first step has been taken.
        awaited: what it waits for since.
    """

    __slots__ = ("_awaited", "_context", "_coroutine", "_early", "_given_up")

    def __init__(self, coroutine: Coroutine[Any, Any, T], awaited: Any) -> None:
        super().__init__()
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._awaited: Deferred[Any] | None = None
        self._early: Any = None
        self._given_up = False
        self._go_on(self._wait_for(awaited))

    def cancel(self) -> None:
        """Cancel what it waits for, or will wait for next: the coroutine says what comes of that."""
        self._given_up = self._awaited is None
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
        while result is not _HURRY:
            self._awaited = None
            try:
                if isinstance(result, Failure):
                    awaited = self._context.run(result.throwExceptionIntoGenerator, coroutine)
                else:
                    awaited = self._context.run(coroutine.send, result)
            except StopIteration as end:
                self.succeed(end.value)
                return
            except BaseException as error:  # noqa: BLE001 - who hears of it judges it
                self.fail(error)
                return
            result = self._wait_for(awaited)
            if self._given_up and result is _HURRY:
                self.cancel()
