"""The calls of a server that wait for something."""

from twisted.internet.defer import Deferred

from erlmcp.server._call import Call


class InFlight:
    """The calls of a server that wait for something; draining waits for them."""

    def __init__(self) -> None:
        self._calls: dict[Call, None] = {}
        self._empty: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> None:
        """A call waits."""
        self._calls[call] = None

    def discard(self, call: Call) -> None:
        """A call has ended."""
        self._calls.pop(call, None)
        if not self._calls:
            waiting, self._empty = self._empty, []
            for one in waiting:
                one.callback(None)

    def empty(self) -> Deferred[None]:
        """Fires when no call waits."""
        fired: Deferred[None] = Deferred()
        if self._calls:
            self._empty.append(fired)
        else:
            fired.callback(None)
        return fired

    def cancel(self) -> None:
        """End all that still waits; their clients are told that the server ends."""
        for call in list(self._calls):
            call.request.cancel()
            if call.passage is not None:
                call.passage.cancel()
