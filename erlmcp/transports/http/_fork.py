"""One listener, several paths: each with a channel of its own."""

from collections.abc import Mapping

from zope.interface import implementer

from erlmcp.interfaces import IChannel, IExchange


@implementer(IChannel)
class Fork:
    """Gives each exchange to the channel of the path that it came in by.

    Args:
        main: the channel of the listener's own path.
        views: the channels of its further paths.
    """

    __slots__ = ("_main", "_views")

    def __init__(self, main: IChannel, views: Mapping[bytes, IChannel]) -> None:
        self._main = main
        self._views = views

    def received(self, message: bytes, exchange: IExchange) -> None:
        """See `IChannel`."""
        self._of(exchange).received(message, exchange)

    def closed(self, exchange: IExchange) -> None:
        """See `IChannel`."""
        self._of(exchange).closed(exchange)

    def opened(self, exchange: IExchange) -> None:
        """See `IChannel`."""
        self._of(exchange).opened(exchange)

    def deleted(self, exchange: IExchange) -> None:
        """See `IChannel`."""
        self._of(exchange).deleted(exchange)

    def _of(self, exchange: IExchange) -> IChannel:
        path: bytes = exchange.path  # type: ignore[attr-defined]  # each exchange of this transport has one
        return self._views[path] if path else self._main
