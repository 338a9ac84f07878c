"""The servers of one process: one of everything, and one for each view of a part."""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from erlmcp.interfaces import IChannel
from erlmcp.jsonrpc import Limits
from erlmcp.server._server import Server


class Views:
    """Servers that begin and end together. What they share (gates, counters, engine) they were made with.

    Args:
        main: the one of everything.
        others: those of the views, by their names.

    Attributes:
        main: as above.
    """

    def __init__(self, main: Server, others: Mapping[str, Server] | None = None) -> None:
        self.main = main
        self._others = dict(others or {})
        self._all = (main, *self._others.values())

    def view(self, name: str) -> Server:
        """The server of a view; the one of everything for the empty name. KeyError if there is none."""
        return self._others[name] if name else self.main

    def channel(self, limits: Limits | None = None, view: str = "") -> IChannel:
        """The channel for one listener, or for one path of it.

        Args:
            limits: its own limits of a message's size and shape.
            view: which view it shows; empty for everything.

        Raises:
            KeyError: there is no such view.
        """
        return self.view(view).channel(limits)

    @property
    def in_flight(self) -> int:
        """How many calls wait for something, subscriptions included."""
        return sum(one.in_flight for one in self._all)

    @property
    def parked(self) -> int:
        """How many calls wait for their client's answer."""
        return sum(one.parked for one in self._all)

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way or parked, and no client is to come back for an answer."""
        return all(one.quiet for one in self._all)

    def retire(self) -> None:
        """Another process has taken over: end what clients can have there, and go on with the rest."""
        for one in self._all:
            one.retire()

    def drain(self) -> Deferred[None]:
        """End subscriptions gracefully and parked calls at once; fires when no call is left."""
        drained: Deferred[Any] = DeferredList([one.drain() for one in self._all])
        return drained.addCallback(lambda _: None)

    def stop(self) -> None:
        """End all that is left, now."""
        for one in self._all:
            one.stop()
