"""The operator's listener, over a real twisted.web channel on a string transport, and on loopback."""

from collections.abc import Sequence

from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.config import reachable
from erlmcp.console import ConsoleListener
from erlmcp.console._listener import CONNECTIONS, LEASE
from erlmcp.interfaces import IListener


class ConsoleTestCase(SynchronousTestCase):
    endpoint = "tcp:9464:interface=127.0.0.1"

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.listener = ConsoleListener(
            self.reactor, self.endpoint, metrics=lambda: b"metric 1\n", hosts=["Metrics.Example"]
        )
        self.successResultOf(self.listener.bind())
        self.factory = self.reactor.tcpServers[0][1]

    def connect(self) -> StringTransport | None:
        protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        if protocol is None:
            return None
        transport = StringTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def ask(self, request: str, host: Sequence[str] = ("localhost",)) -> tuple[int, bytes, bytes]:
        """Status, head and body."""
        transport = self.connect()
        assert transport is not None
        lines = [f"{request} HTTP/1.1", *(f"Host: {name}" for name in host), "", ""]
        transport.protocol.dataReceived("\r\n".join(lines).encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        self.assertTrue(transport.disconnecting)
        return int(head.split()[1]), head.lower(), body


class PageTests(ConsoleTestCase):
    """What is answered."""

    def test_health(self) -> None:
        status, head, body = self.ask("GET /healthz")
        self.assertEqual((status, body), (200, b"ok\n"))
        self.assertIn(b"cache-control: no-store", head)
        self.assertIn(b"connection: close", head)

    def test_readiness(self) -> None:
        self.assertEqual(self.ask("GET /readyz")[::2], (503, b"starting\n"))
        self.listener.unready = lambda: None
        self.assertEqual(self.ask("GET /readyz")[::2], (200, b"ready\n"))
        self.listener.unready = lambda: "draining"
        self.assertEqual(self.ask("GET /readyz")[::2], (503, b"draining\n"))

    def test_metrics(self) -> None:
        status, head, body = self.ask("GET /metrics?x=1")
        self.assertEqual((status, body), (200, b"metric 1\n"))
        self.assertIn(b"content-type: text/plain; version=0.0.4; charset=utf-8", head)

    def test_head(self) -> None:
        status, head, body = self.ask("HEAD /metrics")
        self.assertEqual((status, body), (200, b""))
        self.assertIn(b"content-length: 9", head)

    def test_others(self) -> None:
        self.assertEqual(self.ask("GET /")[0], 404)
        self.assertEqual(self.ask("GET /metrics/x")[0], 404)
        status, head, _ = self.ask("DELETE /metrics")
        self.assertEqual(status, 405)
        self.assertIn(b"allow: get, head", head)

    def test_hosts(self) -> None:
        for good in (
            "localhost",
            "LOCALHOST:9464",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:9464",
            "10.1.2.3",
            "metrics.example:80",
        ):
            self.assertEqual(self.ask("GET /healthz", [good])[0], 200, good)
        for bad in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "",
            "metrics.example.org",
        ):
            self.assertEqual(self.ask("GET /metrics", [bad])[0], 403, bad)

    def test_one_host(self) -> None:
        self.assertEqual(self.ask("GET /healthz", [])[0], 400)
        self.assertEqual(self.ask("GET /healthz", ["localhost", "localhost"])[0], 400)


class BoundTests(ConsoleTestCase):
    """What is kept bounded."""

    def test_no_bodies(self) -> None:
        for framing in ("Content-Length: 100000000", "Transfer-Encoding: chunked"):
            transport = self.connect()
            assert transport is not None
            transport.protocol.dataReceived(
                f"POST /healthz HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode()
            )
            self.assertIn(b"413", transport.value())
            self.assertTrue(transport.disconnecting)
            transport.protocol.dataReceived(b"5\r\nhello\r\n" * 10)
            self.assertEqual(transport.value().count(b"HTTP/1.1"), 1)

    def test_connections(self) -> None:
        kept = [self.connect() for _ in range(CONNECTIONS)]
        self.assertNotIn(None, kept)
        self.assertIsNone(self.connect())
        first = kept[0]
        assert first is not None
        first.protocol.connectionLost(None)
        self.assertIsNotNone(self.connect())

    def test_a_lease_ends(self) -> None:
        """However slowly something is sent, the connection goes."""
        transport = self.connect()
        assert transport is not None
        for _ in range(int(LEASE)):
            self.assertFalse(transport.disconnected)
            transport.protocol.dataReceived(b"G")
            self.reactor.advance(1)
        self.assertTrue(transport.disconnected)


class ListenerTests(ConsoleTestCase):
    """As an `IListener`."""

    def test_interface(self) -> None:
        verifyObject(IListener, self.listener)
        self.assertEqual(self.reactor.tcpServers[0][3], "127.0.0.1")
        self.assertFalse(reachable(IPv4Address("TCP", self.reactor.tcpServers[0][3], 1)))
        self.successResultOf(self.listener.drain())

    def test_close(self) -> None:
        transport = self.connect()
        assert transport is not None
        self.successResultOf(self.listener.close())
        self.assertTrue(transport.disconnected)
        self.successResultOf(self.listener.close())

    def test_wrong_endpoint(self) -> None:
        error = self.assertRaises(ValueError, ConsoleListener, self.reactor, "tpc:1", metrics=lambda: b"")
        self.assertIn("tpc", str(error))
