"""What goes to the server before what, where each message is a request of its own and overtakes others."""

from erlmcp.client._exchange import Exchange
from erlmcp.client._wire import Outgoing
from erlmcp.timing import Entry, Wheel


class Order:
    """Holds messages back until the server has taken ``notifications/initialized``, which servers insist on.

    Args:
        wheel: for the limit.
        limit: seconds that the server may take for it. What waited then goes all the same.
    """

    __slots__ = ("_entry", "_first", "_held", "_limit", "_wheel")

    def __init__(self, wheel: Wheel, limit: float) -> None:
        self._wheel = wheel
        self._limit = limit
        self._first: Outgoing | None = None
        self._held: dict[Outgoing, Exchange] = {}
        self._entry: Entry | None = None

    def start(self, outgoing: Outgoing, exchange: Exchange) -> None:
        """Start the exchange of a message, now or when what it waits for is done."""
        if self._first is not None:
            self._held[outgoing] = exchange
            return
        if outgoing.method == "notifications/initialized":
            self._first = outgoing
            self._entry = self._wheel.after(self._limit, self._release)
        exchange.start()

    def left(self, outgoing: Outgoing) -> None:
        """The exchange of a message is over."""
        if outgoing is self._first:
            self._release()
        elif self._held:
            self._held.pop(outgoing, None)

    def clear(self) -> None:
        """Forget what waits."""
        self._held.clear()
        self._release()

    def _release(self) -> None:
        self._first = None
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.cancel()
        # What fails at once may make someone give up others: they leave the table.
        while self._held and self._first is None:
            outgoing = next(iter(self._held))
            self.start(outgoing, self._held.pop(outgoing))
