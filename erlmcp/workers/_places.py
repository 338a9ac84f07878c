"""Where the daemon listens, as its parent process holds it: a socket for each worker's slot, or a door to hand from.

TCP ports are bound once for each slot (``SO_REUSEPORT``): the kernel spreads connections over the slots, and those that
wait in a slot whose worker has died wait for its successor. What cannot be bound so (unix sockets, those of systemd)
the parent accepts itself, and hands each connection to the worker with the fewest.
"""

import errno
import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import directlyProvides, implementer, providedBy

from erlmcp.transports import listen, parse

log = Logger()

_ACCEPTS = 64
"""Connections that are taken in one turn."""
_REST = 0.5
"""Seconds without accepting when the system has no more descriptors."""


class Place:
    """What one endpoint is bound to.

    Args:
        name: the listener's.
        description: the endpoint's.

    Attributes:
        sockets: for each slot those that its worker listens on, in the order in which the endpoint asks for them.
        doors: where the parent accepts.
        addresses: where it listens.
    """

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.sockets: list[list[socket.socket]] = []
        self.doors: list[Door] = []
        self.addresses: tuple[Any, ...] = ()
        self._port: Any = None

    def bind(
        self,
        reactor: Any,
        slots: int,
        accepted: Callable[[str, socket.socket], None],
        former: Iterable["Place"] = (),
    ) -> Deferred[None]:
        """Bind.

        Args:
            reactor: what doors are read with.
            slots: how many workers there are.
            accepted: takes the connections of doors, by the listener's name; they are its own.
            former: places that this one may have ports of, which then stay open whatever becomes of the former.

        Returns:
            fails with `erlmcp.transports.BindError`; then nothing is left bound.

        Raises:
            erlmcp.transports.EndpointError: there can be no such endpoint.
        """
        self.sockets = [[] for _ in range(slots)]
        factory = _Nobody()
        binding = _Binding(reactor, self, lambda one: accepted(self.name, one), former)
        endpoint = parse(binding, self.description)

        def bound(port: Any) -> None:
            self._port = port
            self.addresses = (port.getHost(),)

        def failed(failure: Any) -> Any:
            self.shut()
            return failure

        return listen(endpoint, self.description, factory).addCallbacks(bound, failed)

    def ports(self) -> list[list[socket.socket]]:
        """For each port the sockets of all slots."""
        return [list(slots) for slots in zip(*self.sockets, strict=True)]

    def shut(self) -> Deferred[Any]:
        """Accept no more, and close; fires when it is done."""
        for slot in self.sockets:
            for one in slot:
                one.close()
        self.sockets = []
        doors, self.doors = self.doors, []
        for door in doors:
            door.stop()
        port, self._port = self._port, None
        return succeed(None) if port is None else maybeDeferred(port.stopListening)


class _Binding:
    """A reactor whose ports are bound for workers to serve, and not served here."""

    def __init__(
        self,
        reactor: Any,
        place: Place,
        accepted: Callable[[socket.socket], None],
        former: Iterable[Place],
    ) -> None:
        self._reactor = reactor
        self._former = [slots for each in former for slots in each.ports()]
        self._place = place
        self._accepted = accepted
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(  # noqa: N802 - Twisted's name
        self,
        port: int,
        factory: Any,  # noqa: ARG002 - nobody is served here
        backlog: int = 50,
        interface: str = "",
    ) -> "_Bound":
        """One socket for each slot."""
        place = self._place
        wanted = (interface or "0.0.0.0", port)  # noqa: S104 - what no interface means
        mine = next((slots for slots in self._former if slots[0].getsockname()[:2] == wanted), None)
        if mine is not None:
            for slot, one in zip(place.sockets, mine, strict=True):
                slot.append(one.dup())
            return _Bound(place.sockets[0][-1])
        try:
            for slot in place.sockets:
                one = _reusable(port, interface, backlog, first=slot is place.sockets[0])
                port = one.getsockname()[1]
                slot.append(one)
        except OSError as error:
            raise CannotListenError(interface, port, error) from error
        return _Bound(place.sockets[0][-1])

    def listenSSL(  # noqa: N802 - Twisted's name
        self,
        port: int,
        factory: Any,
        contexts: Any,  # noqa: ARG002 - the worker has its own
        backlog: int = 50,
        interface: str = "",
    ) -> "_Bound":
        """As TCP: what is on top is the worker's."""
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(self, *arguments: Any, **named: Any) -> IListeningPort:  # noqa: N802 - Twisted's name
        """A door."""
        return self._door(self._reactor.listenUNIX(*arguments, **named))

    def adoptStreamPort(self, *arguments: Any, **named: Any) -> IListeningPort:  # noqa: N802 - Twisted's name
        """A door, that of systemd."""
        return self._door(self._reactor.adoptStreamPort(*arguments, **named))

    def _door(self, port: Any) -> IListeningPort:
        # Twisted has bound it, and will remove what it made; accepting is ours.
        port.stopReading()
        door = Door(self._reactor, port, self._accepted)
        self._place.doors.append(door)
        door.start()
        made: IListeningPort = port
        return made


@implementer(IListeningPort)
class _Bound:
    """The port of sockets that are listened on elsewhere."""

    def __init__(self, one: socket.socket) -> None:
        host, port = one.getsockname()[:2]
        kind = IPv6Address if one.family == socket.AF_INET6 else IPv4Address
        self._address = kind("TCP", host, port)

    def startListening(self) -> None:  # noqa: N802 - Twisted's name
        """It has been started."""

    def stopListening(self) -> None:  # noqa: N802 - Twisted's name
        """Its sockets are closed by their place."""

    def getHost(self) -> Any:
        """Where it is bound."""
        return self._address


@implementer(IReadDescriptor)
class Door:
    """Accepts the connections of a listening socket, and hands them on.

    Args:
        reactor: what it is read with.
        port: Twisted's port of the socket, which does not read it.
        accepted: takes each connection.
    """

    def __init__(self, reactor: Any, port: Any, accepted: Callable[[socket.socket], None]) -> None:
        self._reactor = reactor
        self._port = port
        self._accepted = accepted
        self._resting: Any = None

    def start(self) -> None:
        """Begin."""
        self._resting = None
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Accept no more."""
        self._reactor.removeReader(self)
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def fileno(self) -> int:
        """See `IReadDescriptor`."""
        number: int = self._port.fileno()
        return number

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's name
        """See `IReadDescriptor`."""
        return "door"

    def doRead(self) -> None:  # noqa: N802 - Twisted's name
        """See `IReadDescriptor`."""
        for _ in range(_ACCEPTS):
            try:
                one, _address = self._port.socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                log.error("cannot accept: {why}", why=error.strerror)  # noqa: TRY400 - no place in our code
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.stop()
                    self._resting = self._reactor.callLater(_REST, self.start)
                return
            self._accepted(one)

    def connectionLost(self, reason: Any) -> None:
        """See `IReadDescriptor`: its port has been closed."""


class _Nobody(Factory):
    """Never asked for a protocol: connections are not made here."""

    noisy = False


def _reusable(port: int, interface: str, backlog: int, *, first: bool) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not first:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((interface, port))
        # The first is bound without: a port that another daemon has must not be shared with it unasked.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.listen(backlog)
        one.setblocking(False)  # noqa: FBT003 - Python's signature
    except BaseException:
        one.close()
        raise
    return one
