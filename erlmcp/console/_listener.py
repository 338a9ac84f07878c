"""The listener of the console: few connections, each short."""

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.console._site import console_site
from erlmcp.interfaces import IListener
from erlmcp.transports import listen, parse

CONNECTIONS = 64
"""How many there may be at once; an operator's tools need a handful."""

LEASE = 20.0
"""Seconds that a connection may last, however slowly it sends or reads."""


class _Leased(ProtocolWrapper):
    """A connection that is cut when its time is up."""

    _lease: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin the lease."""
        self._lease = self.factory.reactor.callLater(LEASE, self.abortConnection)
        super().connectionMade()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End it."""
        if self._lease is not None and self._lease.active():
            self._lease.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Bounded(WrappingFactory):
    protocol = _Leased
    noisy = False

    def __init__(self, wrapped: Any, reactor: Any) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        wrapped.noisy = False
        self.reactor = reactor

    def buildProtocol(self, addr: Any) -> Any:
        """Refuse what is too much."""
        return None if len(self.protocols) >= CONNECTIONS else super().buildProtocol(addr)


@implementer(IListener)
class ConsoleListener:
    """Serves health and metrics on an endpoint of its own.

    Args:
        reactor: what it listens with.
        endpoint: a Twisted endpoint description.
        metrics: gives the text of ``/metrics``, or a Deferred of it.
        hosts: names that Host may have besides loopback's and IP addresses.

    Attributes:
        name: for logs.
        addresses: where it listens, once bound.
        unready: says why requests should go elsewhere now; None if they need not.

    Raises:
        ValueError: there can be no such endpoint.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: str,
        *,
        metrics: Callable[[], bytes | Deferred[bytes]],
        hosts: Collection[str] = (),
    ) -> None:
        self.name = "telemetry"
        self.addresses: tuple[Any, ...] = ()
        self.unready: Callable[[], str | None] = lambda: "starting"
        self._endpoint = parse(reactor, endpoint)
        self._description = endpoint
        site = console_site(metrics=metrics, unready=self._unready, hosts=hosts, reactor=reactor)
        self._factory = _Bounded(site, reactor)
        self._port: Any = None

    def _unready(self) -> str | None:
        return self.unready()

    def bind(self) -> Deferred[None]:
        """See `IListener`."""

        def bound(port: Any) -> None:
            self._port = port
            self.addresses = (port.getHost(),)

        return listen(self._endpoint, self._description, self._factory).addCallback(bound)

    def drain(self) -> Deferred[None]:
        """See `IListener`. Health is asked for until the end: it goes on."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """See `IListener`."""
        port, self._port = self._port, None
        for connection in list(self._factory.protocols):
            connection.abortConnection()
        return (
            succeed(None) if port is None else maybeDeferred(port.stopListening).addCallback(lambda _: None)
        )
