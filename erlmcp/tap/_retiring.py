"""What has a successor, and goes: it sends nobody away who would have to come back for something that only it has."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from erlmcp.tap._assembly import Parts
from erlmcp.workers import Relay

log = Logger(namespace="erlmcp.tap")

LAST_CALL: Final = 1.0
"""Seconds in which a client that has a connection may still send something on it."""
_LOOK: Final = 0.1


class Generation:
    """A server and its listeners, once others have taken over.

    Args:
        parts: the server and what is counted.
        listeners: gives its listeners.
        relay: its way to the others; None where there are none.
        reactor: for time.
    """

    def __init__(
        self, parts: Parts, listeners: Callable[[], Sequence[Any]], relay: Relay | None, reactor: Any
    ) -> None:
        self._parts = parts
        self._listeners = listeners
        self._relay = relay
        self._reactor = reactor

    @property
    def connections(self) -> int:
        """How many there are."""
        return sum(one.active for one in self._parts.limits.values())

    async def retire(self, seconds: float) -> None:
        """Go: listen no more, answer what comes, and wait until nothing is left to wait for.

        Args:
            seconds: how long at most.
        """
        until = self._reactor.seconds() + seconds
        listeners = list(self._listeners())
        retiring = [maybeDeferred(one.retire) for one in listeners if hasattr(one, "retire")]
        # Only then: whoever is sent away finds the successor.
        self._parts.server.retire()
        await DeferredList([one.addErrback(_noted) for one in retiring])
        last_call = self._reactor.seconds() + min(LAST_CALL, seconds)
        while self._busy() and self._reactor.seconds() < until:
            await deferLater(self._reactor, _LOOK, lambda: None)
            for one in listeners:
                if hasattr(one, "sweep"):
                    one.sweep(LAST_CALL)
                elif not getattr(one, "stays", False) and self._reactor.seconds() >= last_call:
                    maybeDeferred(one.drain).addErrback(_noted)

    def _busy(self) -> bool:
        relayed = 0 if self._relay is None else self._relay.under_way
        return bool(self.connections or relayed) or not self._parts.server.quiet


def _noted(failure: Any) -> None:
    log.failure("retiring a listener failed", failure)
