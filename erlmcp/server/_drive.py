"""Running coroutines: at once where nothing waits, as a Deferred from the first wait on.

A request whose work is done at once must cost no Deferred (see docs/explanation/architecture.md), and
`Deferred.fromCoroutine` makes one before it knows. So the first step is taken by hand.
"""

import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred

T = TypeVar("T")


class Finished(msgspec.Struct):
    """What a coroutine returned without ever waiting."""

    value: Any


def begin(coroutine: Coroutine[Any, Any, T]) -> Finished | Deferred[T]:
    """Take the first step.

    Returns:
        `Finished` with the result if the coroutine never waited, else a Deferred of the result. Cancelling that
        Deferred cancels what the coroutine waits for.

    Raises:
        Exception: what the coroutine raised before its first wait.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as end:
        return Finished(end.value)
    return Deferred.fromCoroutine(_rest(coroutine, awaited))


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """The rest of a coroutine whose first step has been taken, and which waits for `awaited`."""
    while True:
        try:
            value = yield awaited
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it is the coroutine's to judge
            try:
                awaited = coroutine.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
        else:
            try:
                awaited = coroutine.send(value)
            except StopIteration as end:
                result = end.value
                return result
