"""A reactor for a worker's listeners: what they bind is bound already, and comes from the parent."""

import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import directlyProvides, implementer, providedBy

log = Logger()

_WRAPPER = "haproxy:"


def passed(description: str) -> str:
    """The description for a worker of an endpoint that its parent was given by systemd: its connections are handed on.

    The descriptors that systemd speaks of are the parent's.
    """
    inner = description.removeprefix(_WRAPPER)
    if not inner.startswith("systemd:"):
        return description
    return description[: len(description) - len(inner)] + "unix:passed"


def spell(address: Any) -> str:
    """An address as text for a worker: ``unix:PATH`` or ``tcp:HOST:PORT``."""
    host = getattr(address, "host", None)
    if host is not None:
        return f"tcp:{host}:{address.port}"
    name = getattr(address, "name", None) or b""
    return f"unix:{os.fsdecode(name)}"


class AdoptingReactor:
    """The reactor as one listener sees it.

    An endpoint that listens on TCP gets the sockets that the parent has bound for this worker's slot; one that would
    listen otherwise gets the connections that the parent hands on.

    Args:
        reactor: the reactor.
        sockets: descriptors of the slot's listening sockets, non-blocking, in the order in which they are asked for;
            they are its own.
        address: where the parent accepts, as `spell` has it; empty where it does not.
    """

    def __init__(self, reactor: Any, sockets: Sequence[int] = (), address: str = "") -> None:
        self._reactor = reactor
        self._sockets = list(sockets)
        self._next = 0
        self._address = address
        self._handed: list[HandedPort] = []
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def describe(self, description: str) -> str:
        """The description of an endpoint, as it is to be read here."""
        return passed(description)

    def listenTCP(  # noqa: N802 - Twisted's name
        self,
        port: int,
        factory: Any,
        backlog: int = 50,  # noqa: ARG002 - the parent has seen to it
        interface: str = "",
    ) -> IListeningPort:
        """Listen on the slot's next socket.

        Raises:
            OSError: the parent has bound none for it.
        """
        if not self._sockets:
            raise OSError(f"the parent has bound nothing for port {port} on {interface or 'all addresses'}")
        # A listener that is made anew after it was lost asks again for the same.
        descriptor = self._sockets[self._next % len(self._sockets)]
        self._next += 1
        with socket.socket(fileno=os.dup(descriptor)) as one:
            family = one.family
        made: IListeningPort = self._reactor.adoptStreamPort(descriptor, family, factory)
        return made

    def listenSSL(  # noqa: N802 - Twisted's name
        self, port: int, factory: Any, contexts: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Likewise, with TLS on top."""
        return self.listenTCP(port, TLSMemoryBIOFactory(contexts, False, factory), backlog, interface)  # noqa: FBT003 - Twisted's signature

    def listenUNIX(self, address: str, factory: Any, *_: Any, **__: Any) -> IListeningPort:  # noqa: N802 - Twisted's
        """Take the connections that the parent hands on."""
        port = HandedPort(self._reactor, factory, self._address or f"unix:{address}")
        port.startListening()
        self._handed.append(port)
        return port

    def adoptStreamPort(  # noqa: N802 - Twisted's name
        self,
        descriptor: int,
        family: int,  # noqa: ARG002 - each connection has its own
        factory: Any,
    ) -> IListeningPort:
        """Likewise."""
        return self.listenUNIX(str(descriptor), factory)

    def release(self) -> None:
        """Nothing will listen here any more: what is held of the sockets is closed."""
        sockets, self._sockets = self._sockets, []
        for descriptor in sockets:
            os.close(descriptor)

    def take(self, descriptor: int) -> None:
        """A connection has been handed on; the descriptor is closed once it has been taken."""
        port = next((one for one in self._handed if one.listening), None)
        if port is None:
            os.close(descriptor)
        else:
            port.take(descriptor)


@implementer(IListeningPort)
class HandedPort:
    """A port whose connections come from elsewhere.

    Args:
        reactor: what adopts them.
        factory: makes their protocols.
        address: where they are accepted, as `spell` has it.
    """

    def __init__(self, reactor: Any, factory: Any, address: str) -> None:
        self.listening = False
        self._reactor = reactor
        self._factory = factory
        self._address = address

    def startListening(self) -> None:  # noqa: N802 - Twisted's name
        """See `IListeningPort`."""
        self._factory.doStart()
        self.listening = True

    def stopListening(self) -> None:  # noqa: N802 - Twisted's name
        """See `IListeningPort`."""
        if self.listening:
            self.listening = False
            self._factory.doStop()

    def getHost(self) -> IAddress:
        """See `IListeningPort`."""
        kind, _, name = self._address.partition(":")
        if kind == "unix":
            return UNIXAddress(name)
        host, _, port = name.rpartition(":")
        made = IPv6Address if ":" in host else IPv4Address
        return made("TCP", host, int(port))

    def take(self, descriptor: int) -> None:
        """Make a connection of a connected socket."""
        try:
            with socket.socket(fileno=os.dup(descriptor)) as one:
                one.setblocking(False)  # noqa: FBT003 - Python's signature
                family = one.family
            self._reactor.adoptStreamConnection(descriptor, family, self._factory)
        except OSError as error:
            log.debug("a connection that was handed on has gone already: {why}", why=error.strerror)
        finally:
            os.close(descriptor)
