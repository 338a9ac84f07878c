"""HTTP listeners on real endpoints: TCP, TLS and unix sockets on this machine."""

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IListener, ITransport, ListenContext, WireLimits
from erlmcp.transports import BindError, EndpointError
from erlmcp.transports.http import HttpOptions, HttpTransport
from tests.certificates import write_certificate
from tests.http_wire import ANSWER, BODY, Admission, Recorder, answer, events, parse, post

# A ClientHello for TLS 1.1 with two cipher suites, as RFC 4346, 7.4.1.2 has it; OpenSSL 3 would not send one.
_HELLO = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x04\xc0\x13\x00\x2f" + b"\x01\x00"
OLD_HELLO = (
    b"\x16\x03\x01"
    + (len(_HELLO) + 4).to_bytes(2)
    + b"\x01"
    + len(_HELLO).to_bytes(3)
    + _HELLO  # no extensions
)
PROTOCOL_VERSION_ALERT = b"\x02\x46"


class Client(Protocol):
    """Collects what it gets; each `until` fires once what it waits for has come."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[None] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[None]]] = []

    def until(self, what: bytes) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._waiting.append((what, waiting))
        self.dataReceived(b"")
        return waiting

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        ready = [each for each in self._waiting if each[0] in self.data]
        for each in ready:
            self._waiting.remove(each)
            each[1].callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


class Loopback(TestCase):
    """The real reactor."""

    timeout = 120

    def listen(
        self,
        endpoint: str = "tcp:0:interface=127.0.0.1",
        reply: Any = answer,
        limits: WireLimits | None = None,
        **options: Any,
    ) -> IListener:
        self.channel = Recorder(reply)
        self.admission = Admission(limits or WireLimits())
        context = ListenContext(
            name="web", reactor=reactor, channel=self.channel, limits=self.admission, endpoint=endpoint
        )
        listener = HttpTransport().listener(context, HttpOptions(**options))
        self.addCleanup(listener.close)
        return listener

    async def connect(self, listener: IListener) -> Client:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.addresses[0].port)
        client: Client = await connectProtocol(endpoint, Client())
        self.addCleanup(lambda: client.transport.abortConnection())
        return client

    def test_interfaces(self) -> None:
        verifyObject(ITransport, HttpTransport())
        verifyObject(IListener, self.listen())

    async def test_tcp(self) -> None:
        listener = self.listen()
        await listener.bind()
        client = await self.connect(listener)
        for _ in range(2):
            client.transport.write(post())
            await client.until(ANSWER)
            self.assertEqual(parse(client.data)[0].body, ANSWER)
            client.data = b""
        [peer] = self.admission.here
        self.assertEqual((peer.host, peer.secure, peer.uid), ("127.0.0.1", False, None))
        client.transport.loseConnection()
        await client.ended
        await listener.close()
        self.assertEqual(self.admission.here, [])

    async def test_large_both_ways(self) -> None:
        body = json.dumps("x" * 3_000_000).encode()
        listener = self.listen(reply=lambda message, exchange: exchange.reply(message))
        await listener.bind()
        client = await self.connect(listener)
        client.transport.write(post(body) + post(b"1", connection="close"))
        await client.ended
        self.assertEqual([each.body for each in parse(client.data)], [body, b"1"])

    async def test_refusal_reaches_a_client_that_still_sends(self) -> None:
        listener = self.listen(limits=WireLimits(message=1_000_000))
        await listener.bind()
        client = await self.connect(listener)
        client.transport.write(post(b"x" * 1_500_000))
        await client.ended
        self.assertEqual(parse(client.data)[0].status, 413)

    async def test_disconnect_cancels(self) -> None:
        listener = self.listen(reply=lambda _, exchange: exchange.notify(b"1"))
        await listener.bind()
        gone: Deferred[Any] = Deferred()
        self.channel.closed = gone.callback  # type: ignore[method-assign]
        client = await self.connect(listener)
        client.transport.write(post())
        await client.until(b"data: 1")
        client.transport.loseConnection()
        self.assertIs(await gone, self.channel.exchanges[0])

    async def test_half_close_cancels(self) -> None:
        listener = self.listen(reply=None)
        await listener.bind()
        gone: Deferred[Any] = Deferred()
        self.channel.closed = gone.callback  # type: ignore[method-assign]
        client = await self.connect(listener)
        client.transport.write(post())
        client.transport.loseWriteConnection()
        await gone
        await client.ended

    async def test_half_close_after_an_answer_at_once(self) -> None:
        listener = self.listen()
        await listener.bind()
        client = await self.connect(listener)
        client.transport.write(post())
        client.transport.loseWriteConnection()
        await client.ended
        self.assertEqual(parse(client.data)[0].body, ANSWER)

    async def test_a_reader_that_stalls_is_cut(self) -> None:
        listener = self.listen(reply=None, limits=WireLimits(write_buffer=100_000))
        await listener.bind()
        gone: Deferred[Any] = Deferred()
        self.channel.closed = gone.callback  # type: ignore[method-assign]
        asked: Deferred[Any] = Deferred()
        self.channel.answer = lambda message, exchange: asked.callback(exchange)
        client = await self.connect(listener)
        client.transport.pauseProducing()
        client.transport.write(post())
        exchange = await asked
        sent = 0
        congested_at = None
        while not gone.called:
            exchange.notify(b"x" * 100_000)
            sent += 100_000
            if exchange.congested and congested_at is None:
                congested_at = sent
            self.assertLess(sent, 100_000_000)
            tick: Deferred[None] = Deferred()
            reactor.callLater(0, tick.callback, None)
            await tick
        assert congested_at is not None
        self.assertLess(congested_at, sent)

    async def test_drain(self) -> None:
        listener = self.listen(reply=None)
        await listener.bind()
        idle = await self.connect(listener)
        busy = await self.connect(listener)
        asked: Deferred[Any] = Deferred()
        self.channel.answer = lambda message, exchange: asked.callback(exchange)
        busy.transport.write(post())
        exchange = await asked
        drained = listener.drain()
        await idle.ended
        self.assertFalse(drained.called)
        exchange.reply(ANSWER)
        await drained
        await busy.ended
        [got] = parse(busy.data)
        self.assertEqual((got.body, got.fields["connection"]), (ANSWER, "close"))
        await listener.drain()

    async def test_drain_with_streams(self) -> None:
        """A session's stream ends when the channel leaves it, one of 2024-11-05 once it is answered."""
        listener = self.listen(reply=None, sse="/sse")
        await listener.bind()
        opened: Deferred[Any] = Deferred()
        self.channel.on_open = opened.callback
        stream, old, other = [await self.connect(listener) for _ in range(3)]
        stream.transport.write(
            post(b"", method=b"GET", accept="text/event-stream", mcp_session_id="s", drop=("content-length",))
        )
        old.transport.write(post(b"", method=b"GET", target=b"/sse", drop=("content-length",)))
        await old.until(b"\n\n")
        endpoint = old.data.rpartition(b"data: ")[2].split(b"\n")[0]
        other.transport.write(post(target=endpoint))
        await other.until(b"\r\n\r\n")
        self.assertEqual(parse(other.data)[0].status, 202)
        exchange = await opened
        await stream.until(b"\r\n\r\n")
        drained = listener.drain()
        await other.ended
        self.channel.exchanges[0].reply(ANSWER)
        await old.ended
        self.assertIn(b"event: message\ndata: " + ANSWER, old.data)
        self.assertFalse(drained.called)
        exchange.notify(BODY, "a.1")
        exchange.leave()
        await stream.ended
        self.assertEqual(parse(stream.data)[0].body, b"id: a.1\ndata: " + BODY + b"\n\n")
        await drained
        self.assertEqual(self.channel.gone, self.channel.exchanges)

    async def test_close(self) -> None:
        listener = self.listen(reply=None)
        await listener.bind()
        clients = [await self.connect(listener) for _ in range(3)]
        asked: Deferred[Any] = Deferred()
        self.channel.answer = lambda message, exchange: asked.callback(exchange)
        clients[0].transport.write(post())
        exchange = await asked
        drained = listener.drain()
        await listener.close()
        await drained
        self.assertEqual(self.channel.gone, [exchange])
        for client in clients:
            await client.ended

    async def test_taken_port(self) -> None:
        listener = self.listen()
        await listener.bind()
        endpoint = f"tcp:{listener.addresses[0].port}:interface=127.0.0.1"
        failure = await self.assertFailure(self.listen(endpoint).bind(), BindError)
        self.assertIn(endpoint, str(failure))
        self.assertIn("in use", str(failure))

    def socket_path(self) -> str:
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    async def test_unix(self) -> None:
        path = self.socket_path()
        listener = self.listen(f"unix:{path}")
        await listener.bind()
        client: Client = await connectProtocol(UNIXClientEndpoint(reactor, path), Client())
        client.transport.write(post(host="anything.example", connection="close"))
        await client.ended
        self.assertEqual(parse(client.data)[0].body, ANSWER)
        peer = self.channel.exchanges[0].peer
        self.assertEqual((peer.address, peer.host, peer.uid), ("unix", "", os.getuid()))

    def secure_endpoints(self) -> tuple[list[str], Certificate]:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        file = directory / "localhost.pem"
        certificate = Certificate.load(write_certificate(file))
        return [
            f"ssl:0:privateKey={file}:certKey={file}:interface=127.0.0.1",
            f"tls:{directory}:0:interface=127.0.0.1",
        ], certificate

    async def test_tls(self) -> None:
        endpoints, certificate = self.secure_endpoints()
        for endpoint in endpoints:
            listener = self.listen(endpoint)
            await listener.bind()
            address = listener.addresses[0]
            plain = TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)
            options = optionsForClientTLS("localhost", trustRoot=certificate)
            client: Client = await connectProtocol(wrapClientTLS(options, plain), Client())
            client.transport.write(post() + post(method=b"GET"))
            await client.until(b"messages are sent")
            self.assertEqual([each.status for each in parse(client.data)], [200, 405])
            self.assertEqual(client.transport.getHandle().get_protocol_version_name(), "TLSv1.3")
            peer = self.channel.exchanges[0].peer
            self.assertEqual((peer.secure, peer.certificate, peer.host), (True, None, "127.0.0.1"))
            client.transport.write(post(connection="close"))
            await client.ended
            await listener.close()

    async def test_tls_refusal_that_closes(self) -> None:
        endpoints, certificate = self.secure_endpoints()
        listener = self.listen(endpoints[0], limits=WireLimits(message=1000))
        await listener.bind()
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.addresses[0].port)
        options = optionsForClientTLS("localhost", trustRoot=certificate)
        client: Client = await connectProtocol(wrapClientTLS(options, plain), Client())
        client.transport.write(post(b"x" * 1001))
        await client.ended
        self.assertEqual(parse(client.data)[0].status, 413)

    async def test_tls_drain(self) -> None:
        endpoints, certificate = self.secure_endpoints()
        listener = self.listen(endpoints[0])
        await listener.bind()
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.addresses[0].port)
        options = optionsForClientTLS("localhost", trustRoot=certificate)
        client: Client = await connectProtocol(wrapClientTLS(options, plain), Client())
        client.transport.write(post())
        await client.until(ANSWER)
        await listener.drain()
        await client.ended

    async def test_tls_1_1_is_refused(self) -> None:
        for endpoint in self.secure_endpoints()[0]:
            listener = self.listen(endpoint)
            await listener.bind()
            client = await self.connect(listener)
            client.transport.write(OLD_HELLO)
            await client.ended
            self.assertEqual((client.data[:1], client.data[-2:]), (b"\x15", PROTOCOL_VERSION_ALERT))
            self.assertEqual(self.channel.messages, [])
            await listener.close()

    async def test_plain_http_to_tls(self) -> None:
        listener = self.listen(self.secure_endpoints()[0][0])
        await listener.bind()
        client = await self.connect(listener)
        client.transport.write(post())
        await client.ended
        self.assertEqual(self.channel.messages, [])

    async def test_proxy_protocol(self) -> None:
        listener = self.listen("haproxy:tcp:0:interface=127.0.0.1")
        await listener.bind()
        client = await self.connect(listener)
        client.transport.write(b"PROXY TCP4 203.0.113.9 192.0.2.1 5 80\r\n" + post())
        await client.until(ANSWER)
        self.assertEqual(self.channel.exchanges[0].peer.host, "203.0.113.9")
        await listener.drain()
        await client.ended

    async def test_stream_over_tcp(self) -> None:
        listener = self.listen(reply=None)
        await listener.bind()
        asked: Deferred[Any] = Deferred()
        self.channel.answer = lambda message, exchange: asked.callback(exchange)
        client = await self.connect(listener)
        client.transport.write(post())
        exchange = await asked
        exchange.notify(BODY)
        await client.until(BODY)
        exchange.reply(ANSWER)
        await client.until(ANSWER)
        self.assertEqual(events(parse(client.data)[0].body), [BODY.decode(), ANSWER.decode()])


class Options(SynchronousTestCase):
    """What may be configured."""

    def make(self, endpoint: str = "tcp:1", **options: Any) -> IListener:
        context = ListenContext(
            name="web", reactor=Clock(), channel=Recorder(), limits=Admission(WireLimits()), endpoint=endpoint
        )
        return HttpTransport().listener(context, HttpOptions(**options))

    def test_defaults(self) -> None:
        options = HttpOptions()
        self.assertEqual((options.path, options.origins, options.hosts), ("/mcp", (), ()))
        self.assertEqual(self.make().name, "web")
        self.assertEqual(self.make().addresses, ())

    def test_good(self) -> None:
        for options in (
            {"path": "/"},
            {"path": "/a/b.c"},
            {"origins": ("https://a.example", "http://b:8080", "http://[::1]:80")},
            {"hosts": ("a.example", "a.example:8443", "[::1]")},
        ):
            self.make(**options)

    def test_bad(self) -> None:
        for options, says in (
            ({"path": "mcp"}, "path: 'mcp'"),
            ({"path": ""}, "path: ''"),
            ({"path": "/mcp?x"}, "path: '/mcp?x'"),
            ({"origins": ("*",)}, "origins: '*'"),
            ({"origins": ("https://a.example/",)}, "'https://a.example/'"),
            ({"origins": ("a.example",)}, "origins: 'a.example'"),
            ({"origins": ("https://ä.example",)}, "origins:"),
            ({"hosts": ("https://a.example",)}, "hosts: 'https://a.example'"),
            ({"hosts": ("",)}, "hosts: ''"),
        ):
            error = self.assertRaises(ValueError, self.make, **options)
            self.assertIn(says, str(error))

    def test_bad_endpoints(self) -> None:
        for endpoint, says in (
            ("tpc:80", "did you mean 'tcp'"),
            ("ssl:0:privateKey=/nowhere/key.pem", "/nowhere/key.pem"),
            ("tls:/nowhere:0", "/nowhere"),
        ):
            error = self.assertRaises(EndpointError, self.make, endpoint)
            self.assertIn(endpoint, str(error))
            self.assertIn(says, str(error))

    async def _end(self, listener: IListener) -> None:
        await listener.drain()
        await listener.close()

    def test_never_bound(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self._end(self.make())))
