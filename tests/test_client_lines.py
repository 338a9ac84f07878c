"""The wire over a connection: gathering, bounds, ends; and real sockets, TLS with a client's certificate among them."""

import gc
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionLost
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp.client._lines import LineWire, line_wires
from erlmcp.client._stream import PIECE, StreamLimits
from erlmcp.client._wire import Outgoing, WireError
from erlmcp.transports import burst
from tests.certificates import write_certificate
from tests.daemon import PATIENCE
from tests.doubles import Stream


class Inbox:
    """Keeps what a wire brings."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.failures: list[tuple[Outgoing, WireError]] = []
        self.losses: list[WireError] = []
        self.fullness: list[bool] = []
        self.heard: list[Deferred[bytes]] = []
        self.gone: Deferred[WireError] = Deferred()

    def received(self, data: bytes, via: Outgoing | None) -> None:
        assert via is None
        self.lines.append(data)
        if self.heard:
            self.heard.pop(0).callback(data)

    def failed(self, outgoing: Outgoing, error: WireError) -> None:
        self.failures.append((outgoing, error))

    def ended(self, outgoing: Outgoing) -> None:
        raise AssertionError("nothing is linked on a stream")

    def lost(self, error: WireError) -> None:
        self.losses.append(error)
        self.gone.callback(error)

    def full(self, is_full: bool) -> None:
        self.fullness.append(is_full)

    def next(self) -> Deferred[bytes]:
        heard: Deferred[bytes] = Deferred()
        self.heard.append(heard)
        return heard


class Endpoint:
    """Connects when it is told to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.cancelled = False
        self.attempt: Deferred[Any] = Deferred(self.cancel)
        self.factory: Any = None

    def cancel(self, _: object) -> None:
        self.cancelled = True

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.attempt

    def accept(self) -> Stream:
        stream = Stream(self.clock, self.factory.buildProtocol(None))
        self.attempt.callback(stream.protocol)
        return stream


class WireCase(SynchronousTestCase):
    limits = StreamLimits(message=1000, outgoing=1_000_000)

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint(self.clock)
        self.inbox = Inbox()
        self.wire = LineWire(self.clock, self.endpoint, "there", self.limits)  # type: ignore[arg-type]
        self.opening = self.wire.open(self.inbox)

    def turn(self) -> None:
        self.clock.advance(0)

    def send(self, size: int = 2, count: int = 1) -> list[Outgoing]:
        sent = [Outgoing(b"{" + b" " * (size - 2) + b"}", "x") for _ in range(count)]
        for each in sent:
            self.wire.send(each)
        return sent


class OpenTests(WireCase):
    def test_opened(self) -> None:
        self.endpoint.accept()
        self.successResultOf(self.opening)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        self.endpoint.attempt.errback(Refused())
        error = self.failureResultOf(self.opening, WireError).value
        self.assertIn("no connection to there: Connection was refused", str(error))
        self.assertTrue(error.unsent)
        self.assertEqual((self.clock.getDelayedCalls(), self.inbox.losses), ([], []))

    def test_too_late(self) -> None:
        self.clock.advance(self.limits.connect)
        error = self.failureResultOf(self.opening, WireError).value
        self.assertEqual(str(error), "no connection to there: no connection within 10 s")
        self.assertTrue(self.endpoint.cancelled)

    def test_closed_meanwhile(self) -> None:
        self.successResultOf(self.wire.close())
        self.failureResultOf(self.opening, WireError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_open_yet(self) -> None:
        self.send()
        ((_, error),) = self.inbox.failures
        self.assertEqual((str(error), error.unsent), ("there is not connected", True))
        self.wire.pause()
        self.wire.resume()
        self.assertEqual((self.wire.linked, self.wire.session), (False, None))

    def test_lost_before_tls_is_agreed_upon(self) -> None:
        """A connection that TLS has still to be agreed upon for is not open; what went wrong fails the opening."""
        from twisted.internet.interfaces import ISSLTransport
        from zope.interface import directlyProvides

        protocol = self.endpoint.factory.buildProtocol(None)
        self.assertTrue(IHandshakeListener.providedBy(protocol))
        transport = StringTransport()
        directlyProvides(transport, ISSLTransport)
        protocol.makeConnection(transport)
        protocol.connectionMade()
        self.endpoint.attempt.callback(protocol)
        self.assertNoResult(self.opening)
        protocol.connectionLost(Failure(ConnectionLost("bad certificate")))
        error = self.failureResultOf(self.opening, WireError).value
        self.assertIn("bad certificate", str(error))
        self.assertEqual(self.inbox.losses, [])


class OpenedCase(WireCase):
    def setUp(self) -> None:
        super().setUp()
        self.stream = self.endpoint.accept()
        self.successResultOf(self.opening)


class SendTests(OpenedCase):
    def test_a_turns_messages_leave_together(self) -> None:
        self.send(count=3)
        self.assertEqual(self.stream.value(), b"")
        self.turn()
        self.assertEqual((self.stream.value(), self.stream.writes), (b"{}\n" * 3, 1))
        self.wire.abandon(Outgoing(b"{}"))

    def test_in_pieces(self) -> None:
        self.send(size=PIECE // 2, count=4)
        self.turn()
        self.assertEqual(self.stream.writes, 1)
        self.assertLess(len(self.stream.value()), 2 * PIECE)
        self.assertEqual(len(self.stream.take()), 4 * (PIECE // 2 + 1))

    def test_more_while_the_server_does_not_read(self) -> None:
        self.send(size=PIECE)
        self.turn()
        self.send()
        self.assertEqual(self.clock.getDelayedCalls(), [], "there is no use in a turn")
        self.assertEqual(len(self.stream.value()), PIECE + 1)
        self.assertEqual(self.stream.take()[-4:], b"\n{}\n")

    def test_full(self) -> None:
        """It is said once, at a quarter of the bound, and taken back when all has left."""
        self.send(size=100_000, count=9)
        self.assertEqual(self.inbox.fullness, [True])
        self.turn()
        self.send(size=100_000, count=9)
        ((_, error), *_) = self.inbox.failures
        self.assertTrue(error.unsent)
        self.assertIn("there does not take what it is sent", str(error))
        self.assertIn("this message has 100001, and 1000000 may wait", str(error))
        self.assertEqual(self.inbox.fullness, [True])
        self.stream.take()
        self.assertEqual(self.inbox.fullness, [True, False])

    def test_lost(self) -> None:
        """What has not left can be sent again; what has left, nobody knows."""
        self.send(size=PIECE)
        self.turn()
        waiting = self.send(count=2)
        self.stream._lose(ConnectionLost())
        self.turn()
        self.assertEqual([each for each, _ in self.inbox.failures], waiting)
        self.assertTrue(all(error.unsent for _, error in self.inbox.failures))
        (error,) = self.inbox.losses
        self.assertIn("the connection to there is lost: Connection to the other side was lost", str(error))
        self.assertFalse(error.unsent)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(self.wire.close())

    def test_lost_before_the_turn(self) -> None:
        waiting = self.send(count=2)
        self.wire.disconnected(Failure(ConnectionLost()))
        self.assertEqual([each for each, _ in self.inbox.failures], waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_sent_by_who_hears_of_the_loss(self) -> None:
        """It fails at once, and does not wait for a connection that will not come."""
        self.send(count=2)
        failed = self.inbox.failed

        def again(outgoing: Outgoing, error: WireError) -> None:
            failed(outgoing, error)
            if len(self.inbox.failures) == 1:
                self.wire.send(outgoing)

        self.inbox.failed = again  # type: ignore[method-assign]
        self.wire.disconnected(Failure(ConnectionLost()))
        self.assertEqual(len(self.inbox.failures), 3)


class ReceiveTests(OpenedCase):
    def test_lines(self) -> None:
        self.stream.receive(b'{"a":1}\r\n\n{"b"')
        self.stream.receive(b":2}\nno JSON\n")
        self.assertEqual(self.inbox.lines, [b'{"a":1}', b'{"b":2}', b"no JSON"])

    def test_those_of_one_read_are_a_burst(self) -> None:
        """Whoever is answered with them is answered together; one alone is not held up."""
        received = self.inbox.received
        depths: list[int] = []

        def note(data: bytes, via: Outgoing | None) -> None:
            depths.append(burst.depth)
            received(data, via)

        self.inbox.received = note  # type: ignore[method-assign]
        self.stream.receive(b"{}\n")
        self.stream.receive(b"{}\n{}\n")
        self.assertEqual((depths, burst.depth), ([0, 1, 1], 0))

    def test_overlong(self) -> None:
        """It is thrown away and counted; what follows is whole."""
        self.stream.receive(b"x" * 5000 + b"\n{}\n")
        self.assertEqual((self.inbox.lines, self.wire.skipped), ([b"{}"], 1))

    def test_pause(self) -> None:
        self.wire.pause()
        self.assertEqual(self.stream.producerState, "paused")
        self.wire.resume()
        self.assertEqual(self.stream.producerState, "producing")

    def test_the_server_closes(self) -> None:
        self.stream.loseConnection()
        self.stream.unregisterProducer()
        self.turn()
        self.assertEqual(str(self.inbox.losses[0]), "the connection to there is lost: the server closed it")
        self.send()
        self.assertEqual(str(self.inbox.failures[0][1]), "there is not connected")

    def test_closed_between_two_lines(self) -> None:
        received = self.inbox.received

        def close(data: bytes, via: Outgoing | None) -> None:
            received(data, via)
            self.wire.close()

        self.inbox.received = close  # type: ignore[method-assign]
        self.stream.receive(b"{}\n{}\n")
        self.turn()
        self.assertEqual(len(self.inbox.lines), 1)


class CloseTests(OpenedCase):
    def test_what_was_sent_leaves(self) -> None:
        self.send(size=PIECE)
        self.turn()
        self.send(count=2)
        self.wire.pause()
        closed = [self.wire.close(), self.wire.close()]
        self.send()
        self.assertEqual(len(self.inbox.failures), 1)
        self.assertTrue(self.stream.take().endswith(b"}\n{}\n{}\n"))
        self.turn()
        for each in closed:
            self.successResultOf(each)
        self.assertEqual((self.inbox.losses, self.clock.getDelayedCalls()), ([], []))
        self.successResultOf(self.wire.close())

    def test_a_server_that_takes_nothing(self) -> None:
        self.send(size=PIECE)
        self.turn()
        closed = self.wire.close()
        self.clock.advance(self.limits.close - 0.1)
        self.assertNoResult(closed)
        self.clock.advance(0.1)
        self.turn()
        self.successResultOf(closed)
        self.assertEqual(self.inbox.losses, [])

    def test_nothing_keeps_it(self) -> None:
        import weakref

        self.successResultOf(self.close_and_turn())
        wire = weakref.ref(self.wire)
        del self.wire, self.stream, self.endpoint, self.opening
        gc.collect()
        self.assertIsNone(wire())

    def close_and_turn(self) -> Deferred[None]:
        closed = self.wire.close()
        self.turn()
        return closed


class MakerTests(SynchronousTestCase):
    def test_descriptions(self) -> None:
        for wrong in ("", "nonesuch:1", "tcp:", "tls:localhost:1:trustRoots=/none/such", "unix"):
            with self.assertRaisesRegex(ValueError, "describes no endpoint to connect to"):
                line_wires(reactor, wrong)

    def test_peer(self) -> None:
        self.assertEqual(line_wires(reactor, "tcp:127.0.0.1:1")().peer, "tcp:127.0.0.1:1")
        make = line_wires(reactor, "tcp:127.0.0.1:1", peer="upstream")
        self.assertEqual(make().peer, "upstream")
        self.assertIsNot(make(), make())

    def test_a_failing_endpoint(self) -> None:
        endpoint = Endpoint(Clock())
        endpoint.attempt = fail(Refused())
        wire = LineWire(endpoint.clock, endpoint, "there")  # type: ignore[arg-type]
        self.failureResultOf(wire.open(Inbox()), WireError)


class Echo(Protocol):
    """A server that says back what it hears, and closes when it hears nothing sensible."""

    def dataReceived(self, data: bytes) -> None:
        if b"leave" in data:
            self.transport.loseConnection()
        else:
            self.transport.write(data)


class SocketTests(TestCase):
    timeout = 2 * PATIENCE

    async def listen(self, description: str) -> Any:
        port = await serverFromString(reactor, description).listen(Factory.forProtocol(Echo))
        self.addCleanup(port.stopListening)
        return port

    def folder(self) -> Path:
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        return path

    async def talk(self, description: str) -> None:
        inbox = Inbox()
        wire = line_wires(reactor, description)()
        await wire.open(inbox)
        heard = inbox.next()
        for _ in range(3000):
            wire.send(Outgoing(b'{"x":"' + b"y" * 1000 + b'"}'))
        await heard
        while len(inbox.lines) < 3000:
            await inbox.next()
        wire.send(Outgoing(b'"leave"'))
        self.assertIn("is lost", str(await inbox.gone))
        await wire.close()
        again = line_wires(reactor, description)()
        await again.open(Inbox())
        again.send(Outgoing(b"{}"))
        await again.close()

    async def test_tcp(self) -> None:
        port = await self.listen("tcp:0:interface=127.0.0.1")
        await self.talk(f"tcp:127.0.0.1:{port.getHost().port}")

    async def test_unix(self) -> None:
        # A path of a socket is short.
        import tempfile

        path = f"{self.enterContext(tempfile.TemporaryDirectory())}/s"
        await self.listen(f"unix:{path}")
        await self.talk(f"unix:{path}")

    async def test_tls_with_a_clients_certificate(self) -> None:
        folder = self.folder()
        for name in ("server", "client", "other"):
            write_certificate(folder / f"{name}.pem")
        trust = folder / "trust"
        trust.mkdir()
        (trust / "server.pem").write_bytes((folder / "server.pem").read_bytes())
        clients = folder / "clients"
        clients.mkdir()
        (clients / "client.pem").write_bytes((folder / "client.pem").read_bytes())
        from twisted.internet import ssl

        authority = ssl.Certificate.loadPEM((folder / "client.pem").read_bytes())
        own = ssl.PrivateCertificate.loadPEM((folder / "server.pem").read_bytes())
        listening = reactor.listenSSL(  # type: ignore[attr-defined]
            0, Factory.forProtocol(Echo), own.options(authority), interface="127.0.0.1"
        )
        self.addCleanup(listening.stopListening)
        base = f"tls:localhost:{listening.getHost().port}:trustRoots={trust}"
        base += ":endpoint=tcp\\:127.0.0.1\\:" + str(listening.getHost().port)
        await self.talk(f"{base}:certificate={folder}/client.pem:privateKey={folder}/client.pem")
        # Nobody vouches for this one; the server says so after the handshake, as TLS 1.3 has it.
        inbox = Inbox()
        wire = line_wires(reactor, f"{base}:certificate={folder}/other.pem:privateKey={folder}/other.pem")()
        try:
            await wire.open(inbox)
        except WireError as error:
            said = str(error)
        else:
            said = str(await inbox.gone)
        self.assertRegex(said, "(?i)tls|ssl")
        await wire.close()

    async def test_tls_with_a_server_that_nobody_vouches_for(self) -> None:
        folder = self.folder()
        write_certificate(folder / "server.pem")
        pem = str(folder / "server.pem")
        port = await self.listen(f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}")
        wire = line_wires(reactor, f"tls:localhost:{port.getHost().port}")()
        with self.assertRaisesRegex(WireError, "no connection to tls:localhost.*(?i:certificate)") as caught:
            await wire.open(Inbox())
        self.assertTrue(caught.exception.unsent)
