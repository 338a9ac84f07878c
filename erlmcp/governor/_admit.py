"""Gate 6: is there room for one more, and by when must it be done?"""

from collections.abc import Callable

from zope.interface import implementer

from erlmcp.interfaces import IAdmission, Request
from erlmcp.protocol import errors

UNBOUNDED = frozenset({"subscriptions/listen"})
"""Methods whose answer comes when the client has heard enough: no deadline, and the server bounds their number."""


@implementer(IAdmission)
class AdmitGate:
    """Gives each request its deadline, and bounds how many are at work at once in the process.

    Args:
        seconds: the reactor's clock.
        timeout: seconds, for requests whose target has no timeout of its own.
        concurrency: how many may be at work at once.

    Attributes:
        under_way: how many are.
    """

    __slots__ = ("_concurrency", "_seconds", "_timeout", "under_way")

    def __init__(
        self, seconds: Callable[[], float], *, timeout: float = 60.0, concurrency: int = 10_000
    ) -> None:
        self._seconds = seconds
        self._timeout = timeout
        self._concurrency = concurrency
        self.under_way = 0

    def check(self, request: Request) -> None:
        """See `IGate`."""
        if request.method in UNBOUNDED:
            return
        if self.under_way >= self._concurrency:
            raise errors.overloaded(
                f"{self._concurrency} requests are at work, which is this server's limit",
                {"rule": "concurrency"},
            )
        self.under_way += 1
        timeout = None if request.target is None else request.target.timeout
        request.deadline = self._seconds() + (self._timeout if timeout is None else timeout)

    def release(self, request: Request) -> None:
        """See `IAdmission`."""
        if request.method not in UNBOUNDED:
            self.under_way -= 1
