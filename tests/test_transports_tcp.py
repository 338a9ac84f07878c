"""The tcp listener over real loopback sockets, and in memory."""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import CertificateOptions, ClientContextFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange, IListener, ITransport
from erlmcp.transports import BindError, EndpointError, TcpTransport, _tcp
from erlmcp.transports._tcp import TcpOptions
from tests.certificates import write_certificate
from tests.doubles import OpenLimits, RecordingChannel, Stream, context, echo, hold


class Client(Protocol):
    """Collects what the server says; its end of stream is awaited."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.ended: Deferred[None] = Deferred()
        self._wanted: list[tuple[int, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        for wanted in list(self._wanted):
            if len(self.got) >= wanted[0]:
                self._wanted.remove(wanted)
                wanted[1].callback(bytes(self.got))

    def until(self, size: int) -> Deferred[bytes]:
        fired: Deferred[bytes] = Deferred()
        self._wanted.append((size, fired))
        self.dataReceived(b"")
        return fired

    def connectionLost(self, reason: Failure) -> None:
        self.ended.callback(None)


class Sockets(TestCase):
    timeout = 120

    def setUp(self) -> None:
        # Not in trial's folder: a socket's path may have 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    async def listen(self, endpoint: str, answer: Any = echo, **wire: Any) -> Any:
        self.channel = RecordingChannel(answer)
        self.limits = OpenLimits(**wire)
        listener: Any = TcpTransport().listener(
            context(self.channel, self.limits, reactor, endpoint), TcpOptions()
        )
        await listener.bind()
        self.addCleanup(listener.close)
        return listener

    async def connect(self, listener: Any) -> Client:
        (address,) = listener.addresses
        client: Client = await connectProtocol(
            TCP4ClientEndpoint(reactor, "127.0.0.1", address.port), Client()
        )
        return client

    async def test_serves_over_tcp(self) -> None:
        listener = await self.listen("tcp:0:interface=127.0.0.1")
        verifyObject(IListener, listener)
        client = await self.connect(listener)
        client.transport.write(b"{1}\n{2}\n")
        self.assertEqual(await client.until(18), b"echo {1}\necho {2}\n")
        peer = self.channel.exchanges[0].peer
        self.assertEqual((peer.transport, peer.listener, peer.host), ("tcp", "test", "127.0.0.1"))
        self.assertEqual(peer.address, f"127.0.0.1:{client.transport.getHost().port}")
        self.assertFalse(peer.secure)
        self.assertIsNone(peer.uid)
        client.transport.loseConnection()
        await client.ended
        await listener.drain()
        self.assertEqual(self.limits.here, [])

    async def test_a_client_that_half_closes_gets_what_was_answered(self) -> None:
        listener = await self.listen("tcp:0:interface=127.0.0.1")
        client = await self.connect(listener)
        client.transport.write(b"{1}\n")
        client.transport.loseWriteConnection()
        await client.ended
        self.assertEqual(client.got, b"echo {1}\n")
        self.assertEqual(self.channel.gone, self.channel.exchanges)

    async def test_a_web_page_cannot_drive_it(self) -> None:
        listener = await self.listen("tcp:0:interface=127.0.0.1")
        client = await self.connect(listener)
        client.transport.write(b'POST / HTTP/1.1\r\nHost: localhost\r\n\r\n{"method":"tools/call"}\n')
        await client.ended
        self.assertEqual(client.got, b"")
        self.assertEqual(self.channel.messages, [])

    async def test_serves_over_a_unix_socket_whose_peer_the_kernel_names(self) -> None:
        path = self.folder / "s"
        listener = await self.listen(f"unix:{path}")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        client: Any = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Client())
        client.transport.write(b"{1}\n")
        self.assertEqual(await client.until(9), b"echo {1}\n")
        peer = self.channel.exchanges[0].peer
        self.assertEqual((peer.address, peer.host, peer.uid), ("unix", "", os.getuid()))
        await listener.drain()
        await client.ended
        self.assertFalse(path.exists())

    async def test_serves_over_tls(self) -> None:
        write_certificate(self.folder / "localhost.pem")
        for endpoint in (
            f"tls:{self.folder}:0:interface=127.0.0.1",
            f"ssl:0:privateKey={self.folder / 'localhost.pem'}:interface=127.0.0.1",
        ):
            listener = await self.listen(endpoint)
            (address,) = listener.addresses
            secured = wrapClientTLS(
                CertificateOptions(), TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)
            )
            client: Any = await connectProtocol(secured, Client())
            client.transport.write(b"{1}\n" * 1000)
            self.assertEqual(await client.until(9000), b"echo {1}\n" * 1000)
            peer = self.channel.exchanges[0].peer
            self.assertTrue(peer.secure)
            self.assertIsNone(peer.certificate)
            self.assertIsNone(peer.uid)
            self.assertEqual(peer.host, "127.0.0.1")
            await listener.drain()
            await client.ended

    async def test_old_tls_is_refused(self) -> None:
        write_certificate(self.folder / "localhost.pem")
        listener = await self.listen(f"tls:{self.folder}:0:interface=127.0.0.1")
        (address,) = listener.addresses

        class Old(ClientContextFactory):
            def getContext(self) -> SSL.Context:  # noqa: N802 - Twisted's name
                made = SSL.Context(SSL.TLS_METHOD)
                made.set_max_proto_version(SSL.TLS1_1_VERSION)
                return made

        reactor.connectSSL("127.0.0.1", address.port, _once(client := Client()), Old())
        await client.ended
        self.assertEqual(self.channel.messages, [])

    async def test_a_client_certificate_is_passed_on(self) -> None:
        der = write_certificate(self.folder / "localhost.pem")
        # Twisted's endpoint strings ask for no client certificate: give the listener an endpoint that asks.
        asking = CertificateOptions(*_pair(self.folder / "localhost.pem"))
        asking.getContext().set_verify(SSL.VERIFY_PEER, lambda *_ignored: True)
        self.patch(
            _tcp,
            "parse",
            lambda reactor, description: SSL4ServerEndpoint(reactor, 0, asking, interface="127.0.0.1"),
        )
        listener = await self.listen("ssl:0")
        (address,) = listener.addresses
        shown = CertificateOptions(*_pair(self.folder / "localhost.pem"))
        client: Any = await connectProtocol(
            wrapClientTLS(shown, TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)), Client()
        )
        client.transport.write(b"{1}\n")
        await client.until(9)
        self.assertEqual(self.channel.exchanges[0].peer.certificate, der)

    async def test_behind_a_proxy_the_peer_is_who_it_says(self) -> None:
        listener = await self.listen("haproxy:tcp:0:interface=127.0.0.1")
        client = await self.connect(listener)
        client.transport.write(b"PROXY TCP4 192.0.2.7 192.0.2.8 4242 80\r\n")
        client.transport.write(b"{1}\n")
        self.assertEqual(await client.until(9), b"echo {1}\n")
        self.assertEqual(self.channel.exchanges[0].peer.address, "192.0.2.7:4242")
        self.assertEqual([peer.host for peer in self.limits.here], ["192.0.2.7"])

    async def test_drains(self) -> None:
        received: Deferred[IExchange] = Deferred()
        listener = await self.listen(
            "tcp:0:interface=127.0.0.1", lambda message, exchange: received.callback(exchange)
        )
        busy, idle = await self.connect(listener), await self.connect(listener)
        busy.transport.write(b"{1}\n")
        exchange = await received
        drained = listener.drain()
        await idle.ended
        self.assertNoResult(drained)
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", listener.addresses[0].port)).close()
        exchange.reply(b"done")
        await busy.ended
        self.assertEqual(busy.got, b"done\n")
        await drained
        await listener.close()

    async def test_close_ends_all(self) -> None:
        listener = await self.listen("tcp:0:interface=127.0.0.1", hold)
        client = await self.connect(listener)
        client.transport.write(b"{1}\n")
        while not self.channel.messages:
            await _turn()
        await listener.close()
        await client.ended
        self.assertEqual(self.channel.gone, self.channel.exchanges)
        self.assertEqual(self.limits.here, [])

    async def test_a_reader_that_stops_is_not_fed_without_bound(self) -> None:
        listener = await self.listen(
            "tcp:0:interface=127.0.0.1",
            lambda message, exchange: exchange.reply(b"x" * 10_000),
            write_buffer=200_000,
        )
        client = await self.connect(listener)
        client.transport.pauseProducing()
        client.transport.write(b"{}\n" * 5000)
        before = -1
        while before != len(self.channel.messages):
            before = len(self.channel.messages)
            for _ in range(20):
                await _turn()
        self.assertLess(before, 5000)
        client.transport.resumeProducing()
        await client.until(5000 * 10_001)
        self.assertEqual(len(self.channel.messages), 5000)

    async def test_a_taken_port_is_named(self) -> None:
        listener = await self.listen("tcp:0:interface=127.0.0.1")
        endpoint = f"tcp:{listener.addresses[0].port}:interface=127.0.0.1"
        second: Any = TcpTransport().listener(context(self.channel, None, reactor, endpoint), TcpOptions())
        error = await self.assertFailure(second.bind(), BindError)
        self.assertIn(f"{endpoint!r}: Address already in use", str(error))
        await second.drain()


class InMemory(SynchronousTestCase):
    def test_provides_its_interface(self) -> None:
        transport = TcpTransport()
        verifyObject(ITransport, transport)
        self.assertEqual((transport.name, transport.options), ("tcp", TcpOptions))

    def test_a_wrong_endpoint_is_refused_before_anything_opens(self) -> None:
        with self.assertRaises(EndpointError):
            TcpTransport().listener(context(RecordingChannel(), endpoint="tcp:x"), TcpOptions())

    def test_a_listener_that_never_bound_can_be_closed(self) -> None:
        listener = TcpTransport().listener(
            context(RecordingChannel(), endpoint="tcp:80", reactor=MemoryReactorClock()), TcpOptions()
        )
        self.assertEqual(listener.addresses, ())
        self.successResultOf(listener.drain())
        self.successResultOf(listener.close())

    def test_the_package_offers_its_names_and_no_others(self) -> None:
        from erlmcp import transports

        for name in transports.__all__:
            self.assertIsNotNone(getattr(transports, name))
        self.assertEqual(dir(transports), sorted(transports.__all__))
        with self.assertRaises(AttributeError):
            transports.udp  # noqa: B018 - looking it up is the test

    def test_connections_come_from_its_factory(self) -> None:
        memory = MemoryReactorClock()
        channel = RecordingChannel()
        listener = TcpTransport().listener(context(channel, endpoint="tcp:80", reactor=memory), TcpOptions())
        self.successResultOf(listener.bind())
        factory = memory.tcpServers[0][1]
        stream = Stream(memory, factory.buildProtocol(None))
        stream.receive(b"{}\n")
        self.assertEqual(stream.take(), b"echo {}\n")
        closed = listener.close()
        memory.advance(0)
        self.successResultOf(closed)
        self.assertEqual(channel.gone, channel.exchanges)

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=10))
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    def test_any_bytes_in_any_chunking(self, chunks: list[bytes]) -> None:
        memory = MemoryReactorClock()
        limits = OpenLimits(message=32)
        listener = TcpTransport().listener(
            context(RecordingChannel(), limits, memory, "tcp:80"), TcpOptions()
        )
        self.successResultOf(listener.bind())
        stream = Stream(memory, memory.tcpServers[0][1].buildProtocol(None))
        for chunk in chunks:
            stream.receive(chunk)
        drained = listener.drain()
        stream.take()
        memory.advance(0)
        self.successResultOf(drained)
        self.assertEqual(limits.here, [])


class Declared(SynchronousTestCase):
    def test_the_plugins_of_the_house(self) -> None:
        found = {plugin.name: plugin for plugin in getPlugins(ITransport)}
        self.assertLessEqual({"tcp", "stdio", "http"}, set(found))
        for name in ("tcp", "stdio"):
            verifyObject(ITransport, found[name])
            self.assertEqual(found[name].options().__class__, found[name].options)
        listener = found["stdio"].listener(context(RecordingChannel()), found["stdio"].options())
        self.assertEqual(listener.name, "test")


def _pair(path: Path) -> tuple[Any, Any]:
    from OpenSSL import crypto

    pem = path.read_bytes()
    return (
        crypto.load_privatekey(crypto.FILETYPE_PEM, pem),
        crypto.load_certificate(crypto.FILETYPE_PEM, pem),
    )


def _once(protocol: Protocol) -> Any:
    from twisted.internet.protocol import ClientFactory

    class Once(ClientFactory):
        noisy = False

        def buildProtocol(self, address: Any) -> Protocol:
            return protocol

    return Once()


def _turn() -> Deferred[None]:
    fired: Deferred[None] = Deferred()
    reactor.callLater(0, fired.callback, None)
    return fired
