"""The reactor's delayed calls by a clock that is never set.

The reactor's own clock is the system's: a wheel on it would turn wildly when that is set forward, and stand still when
it is set back.
"""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IReactorTime)
class SteadyClock:
    """A clock for `erlmcp.timing.Wheel`.

    Args:
        reactor: makes the delayed calls.
        steady: seconds that only grow.
    """

    def __init__(self, reactor: IReactorTime, steady: Callable[[], float]) -> None:
        self._reactor = reactor
        self._steady = steady

    def seconds(self) -> float:
        """Now."""
        return self._steady()

    def callLater(  # noqa: N802 - Twisted's name
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002 - Twisted's name
        *args: object,
        **kwargs: object,
    ) -> IDelayedCall:
        """Call a function once."""
        return self._reactor.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:  # noqa: N802 - Twisted's name
        """What the reactor has still to call."""
        return self._reactor.getDelayedCalls()
