"""The browser's way back to the loopback, and the guarded requests: with doubles, and once with real sockets."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from erlmcp.client.oauth import LOOPBACK, AuthorizationError, GuardedFetch, LoopbackInteraction, Redirected


class Away(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.shown: list[str] = []
        self.it = LoopbackInteraction(self.reactor, self.shown.append, timeout=60)
        self.uri = self.successResultOf(Deferred.fromCoroutine(self.it.prepare("")))
        self.assertRegex(self.uri, r"^http://127\.0\.0\.1:\d+/callback$")
        self.host = self.uri.split("/")[2]

    def leave(self) -> "Deferred[Redirected]":
        return Deferred.fromCoroutine(self.it.authorize("https://as.example/authorize?x", self.uri, "st"))

    def connect(self) -> tuple[Any, StringTransport]:
        _port, factory, _, interface = self.reactor.tcpServers[-1]
        self.assertEqual(interface, "127.0.0.1")
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def visit(self, target: str, host: str = "", method: str = "GET") -> str:
        protocol, transport = self.connect()
        head = f"{method} {target} HTTP/1.1\r\nHost: {host or self.host}\r\n\r\n".encode()
        protocol.dataReceived(head[:9])
        self.assertEqual(transport.value(), b"")
        protocol.dataReceived(head[9:])
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionDone()))
        return transport.value().decode()

    def test_the_right_answer(self) -> None:
        answer = self.leave()
        self.assertEqual(self.shown, ["https://as.example/authorize?x"])
        page = self.visit("/callback?code=c%2F1&state=st&iss=https%3A%2F%2Fas.example")
        self.assertRegex(page, r"^HTTP/1.1 200 OK\r\n")
        self.assertNotIn("c/1", page)
        self.assertNoResult(answer)
        self.reactor.advance(0)
        self.assertEqual(
            self.successResultOf(answer), Redirected(code="c/1", state="st", iss="https://as.example")
        )
        self.assertTrue(self.reactor.getDelayedCalls() == [], "nothing is left to come")

    def test_an_error(self) -> None:
        answer = self.leave()
        self.visit("/callback?error=access_denied&error_description=no&state=st")
        self.reactor.advance(0)
        self.assertEqual(
            self.successResultOf(answer),
            Redirected(error="access_denied", error_description="no", state="st"),
        )

    def test_visits_by_others_end_nothing(self) -> None:
        answer = self.leave()
        for target, host, method, status in (
            ("/callback?code=c&state=other", "", "GET", 400),
            ("/callback?code=c", "", "GET", 400),
            ("/callback?code=c&code=d&state=st", "", "GET", 400),
            ("/callback?" + "&".join(f"a{number}=b" for number in range(50)), "", "GET", 400),
            ("/callback?code=c&state=st", "evil.example", "GET", 400),
            ("/callback?code=c&state=st", "", "POST", 400),
            ("/favicon.ico", "", "GET", 404),
        ):
            self.assertIn(f"HTTP/1.1 {status} ", self.visit(target, host, method), target)
        self.reactor.advance(0)
        self.assertNoResult(answer)
        self.visit("/callback?code=c&state=st")
        self.assertIn("400", self.visit("/callback?code=d&state=st"))
        self.reactor.advance(0)
        self.assertEqual(self.successResultOf(answer).code, "c")

    def test_before_anybody_is_asked(self) -> None:
        self.assertIn("400", self.visit("/callback?code=c&state="))

    def test_nobody_comes_back(self) -> None:
        answer = self.leave()
        self.reactor.advance(61)
        self.assertRegex(str(self.failureResultOf(answer, AuthorizationError).value), "within 60 s")
        late = self.connect()[0]
        late.connectionLost(Failure(ConnectionDone()))

    def test_an_answer_at_the_last_moment(self) -> None:
        answer = self.leave()
        self.visit("/callback?code=c&state=st")
        answer.cancel()
        self.reactor.advance(61)
        self.failureResultOf(answer)

    def test_connections_have_little_time_and_room(self) -> None:
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET /")
        self.reactor.advance(10)
        self.assertTrue(transport.disconnected)
        big, transport = self.connect()
        big.dataReceived(b"x" * 20_000)
        self.assertTrue(transport.disconnected)
        for one in (protocol, big):
            one.connectionLost(Failure(ConnectionDone()))
        crowd = [self.connect() for _ in range(17)]
        self.assertEqual([transport.disconnected for _, transport in crowd], [False] * 16 + [True])
        for one, _ in crowd:
            one.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_where_nobody_waits(self) -> None:
        for uri in ("http://127.0.0.1:1/callback", self.uri):
            wrong = Deferred.fromCoroutine(self.it.authorize("https://as.example", uri, "st"))
            if uri == self.uri:
                self.assertNoResult(wrong)
                self.it.done()
                wrong.cancel()
            self.failureResultOf(wrong)
        self.it.done()
        gone = Deferred.fromCoroutine(self.it.authorize("https://as.example", self.uri, "st"))
        self.failureResultOf(gone, AuthorizationError)

    def test_where_the_client_is_registered(self) -> None:
        def prepare(preferred: str) -> str:
            return self.successResultOf(Deferred.fromCoroutine(self.it.prepare(preferred)))

        self.assertEqual(prepare("http://127.0.0.1:4567/back"), "http://127.0.0.1:4567/back")
        self.assertEqual(prepare("http://localhost:4568"), "http://localhost:4568/")
        for other in ("https://app.example/callback", "com.example:/x", "http://127.0.0.1/callback"):
            self.assertNotIn("4568", prepare(other))
        real, taken = self.reactor.listenTCP, [4569]

        def listen(port: int, *arguments: Any, **more: Any) -> Any:
            if port in taken:
                raise CannotListenError("127.0.0.1", port, OSError("taken"))
            return real(port, *arguments, **more)

        self.patch(self.reactor, "listenTCP", listen)
        self.assertRegex(prepare("http://localhost:4569/back"), r"^http://127\.0\.0\.1:\d+/back$")


class Hello(Resource):
    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        request.setHeader(b"x-test", request.getHeader(b"x-test"))
        return request.content.read()[::-1]  # type: ignore[no-any-return]


class Browser(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.factory.head)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.factory.page += data  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.over.callback(None)  # type: ignore[union-attr]


class RealTests(TestCase):
    async def test_the_whole_round(self) -> None:
        factory: Any = ClientFactory.forProtocol(Browser)
        factory.page, factory.over = b"", Deferred()

        def show(url: str) -> None:
            host = uri.split("/")[2]
            factory.head = f"GET /callback?code=c&state=st HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
            reactor.connectTCP("127.0.0.1", int(host.split(":")[1]), factory)  # type: ignore[attr-defined]

        it = LoopbackInteraction(reactor, show, timeout=20)
        uri = await it.prepare("")
        answer = await it.authorize("https://as.example", uri, "st")
        await factory.over
        self.assertEqual(answer, Redirected(code="c", state="st"))
        self.assertIn(b"You can close this page", factory.page)

    async def test_guarded(self) -> None:
        port = reactor.listenTCP(0, Site(Hello()), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/"
        strict, open_minded = GuardedFetch(reactor), GuardedFetch(reactor, allow=LOOPBACK)
        self.addCleanup(strict.close)
        self.addCleanup(open_minded.close)
        headers = [(b"x-test", b"yes")]
        answer = await open_minded("POST", url, headers=headers, body=b"abc", limit=100, timeout=20)
        self.assertEqual((answer.status, answer.body, dict(answer.headers)[b"x-test"]), (200, b"cba", b"yes"))
        for fetch, address, limit in (
            (strict, url, 100),
            (open_minded, url, 2),
            (open_minded, "nothing", 100),
        ):
            try:
                await fetch("POST", address, headers=headers, body=b"abc", limit=limit, timeout=20)
            except AuthorizationError as error:
                self.assertEqual(error.transient, address == url)
            else:
                self.fail("it was fetched")
