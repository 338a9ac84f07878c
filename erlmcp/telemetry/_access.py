"""The access log: a line for a share of the requests, where the operator wants one."""

import random
from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from erlmcp.interfaces import ICounters, Request
from erlmcp.telemetry._failures import about

log = Logger(namespace="erlmcp.access")


@implementer(ICounters)
class AccessLog:
    """Counts like the counters that it is wrapped around, and logs a share of what is counted.

    Args:
        counters: where requests and errors are counted.
        share: of all requests, more than 0 and at most 1.
        draw: a number of at least 0 and below 1, even over all.
    """

    def __init__(
        self,
        counters: ICounters,
        share: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._counters = counters
        self._share = share
        self._draw = draw

    def request(self, request: Request, outcome: str, seconds: float) -> None:
        """See `ICounters`."""
        self._counters.request(request, outcome, seconds)
        if self._draw() < self._share:
            log.info(
                "{peer} {method} {name} {outcome} in {milliseconds} ms [{reference}]",
                outcome=outcome,
                milliseconds=round(seconds * 1000, 3),
                size=request.size,
                transport=request.peer.transport,
                listener=request.peer.listener,
                era=request.era,
                version=request.version,
                share=self._share,
                **about(request),
            )

    def error(self, method: str, code: int) -> None:
        """See `ICounters`."""
        self._counters.error(method, code)
