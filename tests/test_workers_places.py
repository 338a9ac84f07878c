"""Where the daemon listens: sockets for slots, doors, and the listeners that adopt them; and what workers log."""

import errno
import io
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp.transports import BindError
from erlmcp.workers import AdoptingReactor, LogReader, Place, _logs, passed
from erlmcp.workers._adopting import spell
from erlmcp.workers._places import Door


def accept_all(one: socket.socket) -> int:
    """How many wait on a listening socket."""
    count = 0
    while True:
        try:
            one.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


class SlotTests(SynchronousTestCase):
    """TCP."""

    def place(self, description: str, former: tuple[Place, ...] = ()) -> Place:
        place = Place("mcp", description)
        self.addCleanup(place.shut)
        self.successResultOf(place.bind(MemoryReactorClock(), 2, lambda *_: None, former))
        return place

    def test_connections_are_spread_over_slots(self) -> None:
        place = self.place("tcp:0:interface=127.0.0.1")
        (address,) = place.addresses
        ends = [socket.create_connection((address.host, address.port)) for _ in range(100)]
        counts = [accept_all(slot[0]) for slot in place.sockets]
        for end in ends:
            end.close()
        self.assertEqual(sum(counts), 100)
        self.assertGreater(min(counts), 10)

    def test_a_port_of_another_daemon(self) -> None:
        """It would be shared with it, unasked."""
        port = self.place("tcp:0:interface=127.0.0.1").addresses[0].port
        other = Place("mcp", f"tcp:{port}:interface=127.0.0.1")
        failure = self.failureResultOf(other.bind(MemoryReactorClock(), 2, lambda *_: None), BindError)
        self.assertIn("Address already in use", str(failure.value))
        self.assertEqual(other.sockets, [])

    def test_a_port_of_its_own(self) -> None:
        """Another endpoint on the same port: it has the same sockets, whatever becomes of the former."""
        first = self.place("tcp:0:interface=127.0.0.1")
        port = first.addresses[0].port
        second = self.place(f"tcp:{port}:interface=127.0.0.1:backlog=7", (first,))
        first.shut()
        with socket.create_connection(("127.0.0.1", port)):
            self.assertEqual(sum(accept_all(slot[0]) for slot in second.sockets), 1)

    def test_ipv6(self) -> None:
        place = self.place("tcp:0:interface=\\:\\:1")
        self.assertIsInstance(place.addresses[0], IPv6Address)

    def test_tls_is_the_workers(self) -> None:
        class Endpoint:
            def listen(self, factory: Any) -> Any:
                return None

        place = Place("mcp", "tcp:0")
        from erlmcp.workers._places import _Binding

        place.sockets = [[], []]
        binding = _Binding(MemoryReactorClock(), place, lambda _: None, ())
        self.assertTrue(IReactorTCP.providedBy(binding))
        port = binding.listenSSL(0, Factory(), None, interface="127.0.0.1")
        port.startListening()
        port.stopListening()
        self.assertEqual(len(place.ports()), 1)
        place.shut()


class Greeting(Protocol):
    def connectionMade(self) -> None:
        self.transport.write(b"hello")  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


class Reading(Protocol):
    def __init__(self, done: Deferred[bytes]) -> None:
        self.done, self.got = done, b""

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(self.got)


class AdoptingTests(TestCase):
    """A worker's listeners, on real sockets."""

    def read(self, address: Any) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()
        factory = Factory.forProtocol(lambda: Reading(done))  # type: ignore[arg-type]
        factory.doStart = factory.doStop = factory.startedConnecting = lambda *_: None  # type: ignore[assignment,attr-defined,method-assign]
        factory.clientConnectionLost = lambda *_: None  # type: ignore[attr-defined]
        if isinstance(address, str):
            reactor.connectUNIX(address, factory)  # type: ignore[attr-defined]
        else:
            reactor.connectTCP(address.host, address.port, factory)  # type: ignore[attr-defined]
        return done

    async def test_tcp(self) -> None:
        place = Place("mcp", "tcp:0:interface=127.0.0.1")
        await place.bind(reactor, 1, lambda *_: None)
        adopting = AdoptingReactor(reactor, [os.dup(place.sockets[0][0].fileno())])
        self.assertTrue(IReactorTCP.providedBy(adopting))
        # As often as it is asked: a listener that was lost is made anew.
        for _ in range(2):
            port = await serverFromString(adopting, "tcp:1:interface=127.0.0.1").listen(
                Factory.forProtocol(Greeting)
            )
            self.assertEqual(await self.read(place.addresses[0]), b"hello")
            await port.stopListening()
        adopting.release()
        with self.assertRaises(OSError):
            adopting.listenTCP(1, Factory())
        await place.shut()

    async def test_unix(self) -> None:
        path = str(Path(tempfile.mkdtemp()) / "s")
        adopting = AdoptingReactor(reactor, (), f"unix:{path}")
        place = Place("mcp", f"unix:{path}")
        await place.bind(reactor, 2, lambda _, one: adopting.take(one.detach()))
        self.assertEqual((place.ports(), spell(place.addresses[0])), ([], f"unix:{path}"))
        # Nobody listens yet: it is closed.
        self.assertEqual(await self.read(path), b"")
        port = await serverFromString(adopting, "unix:passed").listen(Factory.forProtocol(Greeting))
        self.assertEqual(port.getHost(), UNIXAddress(path))
        found = await gatherResults([self.read(path) for _ in range(3)])
        self.assertEqual(found, [b"hello"] * 3)
        port.stopListening()
        port.stopListening()
        await place.shut()
        self.assertRaises(FileNotFoundError, os.stat, path)

    def test_a_connection_that_has_gone(self) -> None:
        adopting = AdoptingReactor(reactor, (), "tcp:127.0.0.1:5")
        port: Any = adopting.adoptStreamPort(3, socket.AF_INET, Factory.forProtocol(Greeting))
        self.assertEqual(port.getHost(), IPv4Address("TCP", "127.0.0.1", 5))
        never = socket.socket()
        adopting.take(os.dup(never.fileno()))
        never.close()
        other = AdoptingReactor(reactor, (), "tcp:::1:5").listenUNIX("x", Factory())
        self.assertEqual(other.getHost(), IPv6Address("TCP", "::1", 5))
        port.stopListening()
        other.stopListening()

    def test_descriptions(self) -> None:
        for given, wanted in (
            ("tcp:1", "tcp:1"),
            ("systemd:domain=INET:index=0", "unix:passed"),
            ("haproxy:systemd:domain=INET:index=0", "haproxy:unix:passed"),
            ("haproxy:tcp:1", "haproxy:tcp:1"),
        ):
            self.assertEqual(passed(given), wanted)
            self.assertEqual(AdoptingReactor(reactor).describe(given), wanted)
        self.assertEqual(spell(IPv4Address("TCP", "1.2.3.4", 5)), "tcp:1.2.3.4:5")


class DoorTests(SynchronousTestCase):
    """What accepting may come to."""

    def door(self, *errors: OSError) -> tuple[Door, MemoryReactorClock, list[Any]]:
        class Port:
            def __init__(self) -> None:
                self.socket = self
                self.left = list(errors)

            def fileno(self) -> int:
                return 77

            def accept(self) -> Any:
                raise self.left.pop(0)

        clock = MemoryReactorClock()
        accepted: list[Any] = []
        door = Door(clock, Port(), accepted.append)
        door.start()
        return door, clock, accepted

    def test_nobody_there(self) -> None:
        door, clock, accepted = self.door(BlockingIOError(), ConnectionAbortedError())
        door.doRead()
        door.doRead()
        self.assertEqual((accepted, door.fileno(), clock.getReaders()), ([], 77, [door]))
        door.connectionLost(Failure(OSError()))
        self.assertEqual(door.logPrefix(), "door")

    def test_no_descriptors_left(self) -> None:
        """It rests a moment, and does not spin."""
        door, clock, _ = self.door(OSError(errno.EMFILE, "too many"), OSError(errno.EPERM, "no"))
        door.doRead()
        self.assertEqual(clock.getReaders(), [])
        clock.advance(1)
        self.assertEqual(clock.getReaders(), [door])
        door.doRead()
        self.assertEqual(clock.getReaders(), [door])
        door.stop()
        self.assertEqual(clock.getReaders(), [])

    def test_stopped_while_it_rests(self) -> None:
        door, clock, _ = self.door(OSError(errno.EMFILE, "too many"))
        door.doRead()
        door.stop()
        self.assertEqual(clock.getDelayedCalls(), [])


class LogTests(SynchronousTestCase):
    """What a worker writes, and its parent reads."""

    def setUp(self) -> None:
        self.events: list[Any] = []
        self.reader = LogReader(3, publish=self.events.append)

    def test_events(self) -> None:
        from twisted.logger import eventAsJSON

        line = eventAsJSON(
            {
                "log_format": "x is {x}",
                "x": 5,
                "log_level": LogLevel.warn,
                "log_namespace": "n",
                "log_time": 1.0,
            }
        )
        data = (line + "\n").encode() * 2
        for cut in range(0, len(data), 7):
            self.reader.feed(data[cut : cut + 7])
        self.assertEqual([event["worker"] for event in self.events], [3, 3])
        self.assertEqual((self.events[0]["x"], self.events[0]["log_level"]), (5, LogLevel.warn))

    def logged(self) -> list[Any]:
        from twisted.logger import globalLogPublisher

        found: list[Any] = []
        globalLogPublisher.addObserver(found.append)
        self.addCleanup(globalLogPublisher.removeObserver, found.append)
        return found

    def test_what_is_no_event(self) -> None:
        found = self.logged()
        self.reader.feed(b"Segmentation fault\r\n\n" + json.dumps([1]).encode() + b"\n{}\nand the rest")
        self.reader.end()
        self.reader.end()
        self.assertEqual(
            [event["text"] for event in found], ["Segmentation fault", "[1]", "{}", "and the rest"]
        )
        self.assertEqual(self.events, [])

    def test_plain_text(self) -> None:
        found = self.logged()
        LogReader(1, plain=True).feed(b'{"log_level": 1}\n')
        self.assertEqual(found[0]["text"], '{"log_level": 1}')

    def test_lines_without_end(self) -> None:
        self.patch(_logs, "LONGEST", 100)
        found = self.logged()
        self.reader.feed(b"x" * 101)
        self.assertEqual((len(found), self.reader._rest), (1, b""))

    def test_written(self) -> None:
        """Round trip: a failure becomes its text, what cannot be told does not silence the rest."""
        observers: list[Any] = []

        class Beginner:
            def beginLoggingTo(self, given: Any, **_: Any) -> None:  # noqa: N802
                observers.extend(given)

        self.patch(_logs, "globalLogBeginner", Beginner())
        stream = io.StringIO()
        _logs.log_to_parent(stream)
        try:
            raise KeyError("k")
        except KeyError:
            failure = Failure()
        observers[0](
            {"log_format": "failed", "log_level": LogLevel.error, "log_failure": failure, "log_time": 1.0}
        )
        observers[0](
            {"log_format": "{bad!r}", "log_level": LogLevel.info, "bad": Untellable(), 5: "not a name"}
        )
        self.reader.feed(stream.getvalue().encode())
        self.assertIn("KeyError", self.events[0]["log_traceback"])
        self.assertEqual(len(self.events), 2)


class Untellable:
    def __repr__(self) -> str:
        raise ValueError("no")
