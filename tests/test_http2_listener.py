"""HTTP/2 on real sockets: agreed on over TLS, begun with without, and ended as it should be."""

import socket
import ssl
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, StreamEnded
from hyperframe.frame import PingFrame
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from erlmcp.interfaces import IListener, ListenContext, WireLimits
from erlmcp.transports.http import HttpOptions, HttpTransport
from tests.certificates import write_certificate
from tests.http2_wire import head
from tests.http_wire import ANSWER, Admission, Recorder, answer, post


class Client(Protocol):
    """h2 on a socket; `ended` fires when the connection is gone."""

    def __init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.bodies: dict[int, bytes] = {}
        self.waiting: dict[int, Deferred[bytes]] = {}
        self.codes: list[int] = []
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def ask(self, body: bytes) -> Deferred[bytes]:
        number = self.h2.get_next_available_stream_id()
        self.bodies[number] = b""
        self.waiting[number] = Deferred()
        self.h2.send_headers(number, head(body))
        for at in range(0, len(body), 16384):
            self.h2.send_data(number, body[at : at + 16384], end_stream=at + 16384 >= len(body))
        self.flush()
        return self.waiting[number]

    def dataReceived(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.take(event)
        self.flush()

    def take(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.waiting.pop(event.stream_id).callback(self.bodies.pop(event.stream_id))
        elif isinstance(event, ConnectionTerminated):
            self.codes.append(int(event.error_code))

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


class Plain(Protocol):
    """Collects what it gets until the end."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(self.data)


class Sockets(TestCase):
    """The real reactor."""

    timeout = 120

    async def listen(self, *, tls: bool, reply: Any = answer, **options: Any) -> IListener:
        self.channel = Recorder(reply)
        self.admission = Admission(WireLimits())
        endpoint = "tcp:0:interface=127.0.0.1"
        if tls:
            self.file = Path(self.mktemp())
            write_certificate(self.file)
            endpoint = f"ssl:0:privateKey={self.file}:certKey={self.file}:interface=127.0.0.1"
        context = ListenContext(
            name="web", reactor=reactor, channel=self.channel, limits=self.admission, endpoint=endpoint
        )
        listener = HttpTransport().listener(context, HttpOptions(**options))
        self.addCleanup(listener.close)
        await listener.bind()
        return listener

    async def connect(self, listener: IListener, client: Any, offers: tuple[bytes, ...] = ()) -> Any:
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.addresses[0].port)
        if offers:
            trust = Certificate.loadPEM(self.file.read_text())
            endpoint = wrapClientTLS(
                optionsForClientTLS("localhost", trust, acceptableProtocols=list(offers)), endpoint
            )
        connected = await connectProtocol(endpoint, client)
        self.addCleanup(lambda: connected.ended.called or connected.transport.abortConnection())
        return connected

    async def test_agreed_on(self) -> None:
        listener = await self.listen(tls=True)
        client = await self.connect(listener, Client(), (b"h2", b"http/1.1"))
        answers = [client.ask(b"%d" % turn) for turn in range(20)]
        for each in answers:
            self.assertEqual(await each, ANSWER)
        self.assertEqual(client.transport.negotiatedProtocol, b"h2")
        [peer] = self.admission.here
        self.assertTrue(peer.secure)
        client.transport.loseConnection()
        await client.ended
        await listener.close()
        self.assertEqual(self.admission.here, [])

    async def test_not_offered(self) -> None:
        listener = await self.listen(tls=True, http2=False)
        client = await self.connect(listener, Plain(), (b"h2", b"http/1.1"))
        client.transport.write(post(connection="close"))
        self.assertIn(ANSWER, await client.ended)

    async def test_the_other_version(self) -> None:
        listener = await self.listen(tls=True)
        client = await self.connect(listener, Plain(), (b"http/1.1",))
        client.transport.write(post(connection="close"))
        self.assertIn(ANSWER, await client.ended)

    async def test_without_a_word_about_it(self) -> None:
        """A client of TLS that knows nothing of ALPN speaks HTTP/1.1."""
        listener = await self.listen(tls=True)

        def ask() -> bytes:
            context = ssl.create_default_context(cafile=str(self.file))
            address = ("127.0.0.1", listener.addresses[0].port)
            with (
                socket.create_connection(address, timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                secure.sendall(post(connection="close"))
                data = b""
                while part := secure.recv(65536):
                    data += part
                return data

        self.assertIn(ANSWER, await deferToThread(ask))

    async def test_begun_with(self) -> None:
        listener = await self.listen(tls=False, h2c=True, reply=lambda body, exchange: exchange.reply(body))
        client = await self.connect(listener, Client())
        self.assertEqual(await client.ask(b"x" * 60_000), b"x" * 60_000)
        other = await self.connect(listener, Plain())
        other.transport.write(post(connection="close"))
        self.assertIn(b"200 OK", await other.ended)

    async def test_large_answers(self) -> None:
        listener = await self.listen(
            tls=False, h2c=True, reply=lambda _, exchange: exchange.reply(b"y" * 3_000_000)
        )
        client = await self.connect(listener, Client())
        answers = [client.ask(b"1") for _ in range(3)]
        for each in answers:
            self.assertEqual(await each, b"y" * 3_000_000)

    async def test_streams(self) -> None:
        listener = await self.listen(tls=False, h2c=True, streams=2, reply=None)
        client = await self.connect(listener, Client())
        self.assertEqual(HttpOptions().streams, 100)
        waiting = [client.ask(b"1") for _ in range(2)]
        while len(self.channel.exchanges) < 2:
            await self.a_turn()
        for exchange in self.channel.exchanges:
            exchange.reply(ANSWER)
        for each in waiting:
            await each
        self.assertEqual(client.h2.remote_settings.max_concurrent_streams, 2)

    async def test_drain(self) -> None:
        listener = await self.listen(tls=False, h2c=True, reply=None)
        client = await self.connect(listener, Client())
        asked = client.ask(b"1")
        while not self.channel.exchanges:
            await self.a_turn()
        client.h2.receive_data = lambda _: []  # h2's client side takes nothing more after GOAWAY
        drained = listener.drain()
        self.channel.exchanges[0].reply(ANSWER)
        await drained
        await client.ended
        self.assertFalse(asked.called)
        self.assertEqual(self.channel.gone, [])

    async def test_flood(self) -> None:
        """The reason arrives, although the client has more to say than anybody reads."""
        listener = await self.listen(tls=False, h2c=True)
        client = await self.connect(listener, Client())
        client.transport.write(PingFrame(0, b"12345678").serialize() * 5000)
        await client.ended
        self.assertEqual(client.codes, [11])

    def a_turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)  # type: ignore[attr-defined]
        return turn
