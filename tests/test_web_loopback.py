"""The HTTP client over real sockets: plain, TLS with ALPN, unix; `fetch`, and treq on `Agent`."""

import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import treq
from OpenSSL.SSL import TLS_METHOD
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import FileBodyProducer, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from zope.interface.verify import verifyObject

from erlmcp.web import Agent, Pool, Tls, WebError, fetch
from erlmcp.web._agent import _Body
from erlmcp.web._direct import is_quiet, send_at_once
from tests.certificates import write_certificate
from tests.web_servers import OneFactory, OneServer, TwoFactory, TwoServer

assert TLS_METHOD


class LoopbackCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.pools: list[Pool] = []
        self.ports: list[Any] = []
        self.factories: list[Any] = []

    async def tearDown(self) -> None:
        for pool in self.pools:
            await pool.close()
        for port in self.ports:
            await port.stopListening()
        # A connection has two ends.
        while any(factory.live for factory in self.factories):
            await deferLater(reactor, 0.001)

    def pool(self, **options: Any) -> Pool:
        pool = Pool(reactor, **options)
        self.pools.append(pool)
        return pool

    def listen(self, factory: Any, context: Any = None) -> int:
        if context is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.ports.append(port)
        self.factories.append(factory)
        return port.getHost().port

    def plain(self, factory: Any) -> str:
        return f"http://127.0.0.1:{self.listen(factory)}"

    def certificate(self) -> ssl.PrivateCertificate:
        folder = Path(tempfile.mkdtemp(dir=self.mktemp_folder()))
        write_certificate(folder / "both.pem")
        return ssl.PrivateCertificate.loadPEM((folder / "both.pem").read_bytes())

    def mktemp_folder(self) -> str:
        path = Path(self.mktemp())
        path.mkdir(parents=True)
        return str(path)

    def context(self, certificate: ssl.PrivateCertificate, *offers: bytes, **more: Any) -> Any:
        return ssl.CertificateOptions(
            privateKey=certificate.privateKey.original,
            certificate=certificate.original,
            # Without any, Twisted's server ends a handshake in which the client offers some.
            acceptableProtocols=list(offers) or [b"http/1.1"],
            **more,
        )

    def trusting(self, theirs: ssl.PrivateCertificate, **more: Any) -> Tls:
        return Tls(trust=ssl.trustRootFromCertificates([theirs]), **more)

    async def fails(self, pool: Pool, url: str, *says: str, **more: Any) -> WebError:
        try:
            answer = await fetch(pool, "GET", url, **more)
        except WebError as error:
            for words in says:
                self.assertIn(words, str(error))
            return error
        raise AssertionError(answer)


class FetchTests(LoopbackCase):
    async def test_plain(self) -> None:
        factory = OneFactory()
        url = self.plain(factory)
        pool = self.pool()
        answer = await fetch(pool, "POST", url + "/x", headers=[("X-A", "1")], body=b"hello")
        self.assertEqual((answer.status, answer.body, answer.url), (200, b"hello", url + "/x"))
        self.assertEqual(answer.header("CONTENT-type"), "text/plain")
        self.assertIsNone(answer.header("x-none"))
        answer = await fetch(pool, b"GET", url + "/y?z=1")
        self.assertEqual(answer.body, b"GET /y?z=1 HTTP/1.1")
        body = b"x" * 3_000_000
        answer = await fetch(pool, "POST", url, body=body, limit=len(body))
        self.assertEqual(answer.body, body)
        self.assertEqual(len(factory.made), 1)

    async def test_many_at_once(self) -> None:
        for factory, options in ((OneFactory(), {}), (TwoFactory(), {"http2": "prior_knowledge"})):
            url = self.plain(factory)
            pool = self.pool(connections_per_origin=4, **options)
            said = [b"body %d" % n for n in range(500)]
            answers = await gatherResults(
                [Deferred.fromCoroutine(fetch(pool, "POST", url, body=body)) for body in said]
            )
            self.assertEqual([answer.body for answer in answers], said)
            self.assertLessEqual(len(factory.made), 4)

    async def test_what_goes_wrong(self) -> None:
        factory = OneFactory(lambda server, head, body: None)
        url = self.plain(factory)
        pool = self.pool()
        await self.fails(pool, url, "127.0.0.1", "no whole answer within 0.05 s", timeout=0.05)
        long = OneFactory()
        await self.fails(pool, self.plain(long) + "/" + "x" * 90, "longer than 50 bytes", limit=50)
        port = self.ports.pop()
        factory = self.factories.pop()
        address = port.getHost().port
        await port.stopListening()
        error = await self.fails(
            pool, f"http://127.0.0.1:{address}/", f"http://127.0.0.1:{address}: it cannot be reached"
        )
        self.assertTrue(error.unsent)
        self.factories.append(factory)
        with self.assertRaises(ValueError):
            await fetch(pool, "GET", "ftp://x")

    async def test_cancelled(self) -> None:
        factory = OneFactory(lambda server, head, body: None)
        url = self.plain(factory)
        pool = self.pool()
        asked = Deferred.fromCoroutine(fetch(pool, "GET", url))
        while not factory.live:
            await deferLater(reactor, 0.001)
        asked.cancel()
        await asked.addErrback(lambda failure: None)
        while factory.live:
            await deferLater(reactor, 0.001)

    async def test_redirects(self) -> None:
        seen: list[bytes] = []
        elsewhere: list[str] = []

        def answer(server: OneServer, head: bytes, body: bytes) -> bytes:
            seen.append(head + b"|" + body)
            path = head.split(b" ")[1]
            status, _, location = path[1:].partition(b"/")
            if not status:
                return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            if location == b"away":
                location = elsewhere[0].encode()
            elif location == b"odd":
                location = b"http://u:p@h/"
            elif location == b"none":
                return b"HTTP/1.1 %b Moved\r\nContent-Length: 0\r\n\r\n" % status
            else:
                location = b"/" + location
            return b"HTTP/1.1 %b Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)

        url = self.plain(OneFactory(answer))
        elsewhere.append(self.plain(OneFactory(answer)))
        pool = self.pool()
        answer_ = await fetch(pool, "GET", url + "/302/302/", follow=0)
        self.assertEqual(answer_.status, 302)
        answer_ = await fetch(pool, "GET", url + "/302/307/", follow=2)
        self.assertEqual((answer_.status, answer_.url), (200, url + "/"))
        answer_ = await fetch(pool, "GET", url + "/302/307/301/", follow=2)
        self.assertEqual(answer_.status, 301)
        answer_ = await fetch(pool, "GET", url + "/302/none", follow=2)
        self.assertEqual(answer_.status, 302)
        seen.clear()
        fields = [("Authorization", "Bearer x"), ("X-A", "1"), ("Content-Type", "a/b")]
        await fetch(pool, "POST", url + "/307/", headers=fields, body=b"abc", follow=1)
        self.assertTrue(seen[1].endswith(b"|abc"))
        self.assertIn(b"authorization", seen[1])
        seen.clear()
        await fetch(pool, "POST", url + "/303/", headers=fields, body=b"abc", follow=1)
        self.assertTrue(seen[1].startswith(b"GET / ") and seen[1].endswith(b"|"))
        self.assertNotIn(b"content-type", seen[1])
        seen.clear()
        await fetch(pool, "GET", url + "/307/away", headers=fields, follow=1)
        self.assertNotIn(b"authorization", seen[1])
        self.assertIn(b"x-a: 1", seen[1])
        with self.assertRaises(WebError) as caught:
            await fetch(pool, "POST", url + "/307/away", body=b"abc", follow=1)
        self.assertIn("redirects a body", str(caught.exception))
        await self.fails(pool, url + "/302/odd", "no URL", follow=1)


class SocketTests(LoopbackCase):
    async def test_closed_while_idle(self) -> None:
        """A server may close at any time; what is sent just then must not be lost, nor sent twice."""
        factory = OneFactory()
        url = self.plain(factory)
        pool = self.pool()
        for _ in range(3):
            await fetch(pool, "GET", url)
            # Its end arrives in the kernel at once, and the reactor is not asked before we send.
            factory.live[-1].transport.socket.shutdown(socket.SHUT_WR)
            answer = await fetch(pool, "POST", url, body=b"x")
            self.assertEqual(answer.body, b"x")

    async def test_reset_while_idle(self) -> None:
        class Socket:
            def recv(self, size: int, flags: int) -> bytes:
                raise ConnectionResetError

        transport = mock.Mock(spec=["socket"], socket=Socket())
        self.assertFalse(is_quiet(mock.Mock(spec=["transport"], transport=transport)))
        transport.socket = mock.Mock(recv=mock.Mock(side_effect=BlockingIOError))
        self.assertTrue(is_quiet(transport))

    async def test_what_the_kernel_does_not_take(self) -> None:
        transport = mock.Mock(disconnecting=False, connected=True, dataBuffer=b"", _tempDataLen=0)
        transport.socket.send.side_effect = BlockingIOError
        self.assertEqual(send_at_once(transport, b"abc"), b"abc")
        transport.socket.send.side_effect = None
        transport.socket.send.return_value = 2
        self.assertEqual(send_at_once(transport, b"abc"), b"c")
        transport.dataBuffer = b"before"
        self.assertEqual(send_at_once(transport, b"abc"), b"abc")
        transport.disconnecting = True
        with self.assertRaises(ConnectionError):
            send_at_once(transport, b"abc")

    async def test_unix(self) -> None:
        factory = OneFactory()
        with tempfile.TemporaryDirectory(prefix="erlmcp-") as folder:
            port = reactor.listenUNIX(folder + "/s", factory)
            self.factories.append(factory)
            pool = self.pool(unix=folder + "/s")
            answer = await fetch(pool, "GET", "http://localhost/x")
            self.assertEqual(answer.body, b"GET /x HTTP/1.1")
            await pool.close()
            await port.stopListening()

    async def test_a_name(self) -> None:
        factory = OneFactory()
        port = self.listen(factory)
        seen: list[str] = []
        pool = self.pool(admit=seen.append)
        answer = await fetch(pool, "GET", f"http://localhost:{port}/x")
        self.assertEqual(answer.status, 200)
        self.assertIn("127.0.0.1", seen)

    async def test_goaway_and_on(self) -> None:
        def answer(server: TwoServer, stream: int, headers: dict[bytes, bytes], body: bytes) -> None:
            server.reply(stream, body)
            if stream >= 5:
                server.h2.close_connection(last_stream_id=stream)
                server.flush()
                server.transport.loseConnection()

        factory = TwoFactory(answer)
        factory.record = False
        url = self.plain(factory)
        pool = self.pool(http2="prior_knowledge")
        for number in range(10):
            got = await fetch(pool, "POST", url, body=b"%d" % number)
            self.assertEqual(got.body, b"%d" % number)
        self.assertEqual(len(factory.made), 4)


class TlsTests(LoopbackCase):
    async def test_what_is_agreed_on(self) -> None:
        certificate = self.certificate()
        for offers, factory in (
            ((b"h2", b"http/1.1"), TwoFactory()),
            ((b"http/1.1",), OneFactory()),
        ):
            port = self.listen(factory, self.context(certificate, *offers))
            pool = self.pool(tls=self.trusting(certificate))
            url = f"https://localhost:{port}/x"
            body = b"x" * 1_000_000
            answers = await gatherResults(
                [Deferred.fromCoroutine(fetch(pool, "POST", url, body=body)) for _ in range(3)]
            )
            self.assertEqual({answer.body for answer in answers}, {body})
            self.assertEqual(len(factory.made) == 1, bool(isinstance(factory, TwoFactory)))
            answer = await fetch(pool, "POST", url, body=b"again")
            self.assertEqual(answer.body, b"again")
            await pool.close()

    async def test_never(self) -> None:
        certificate = self.certificate()
        factory = OneFactory()
        port = self.listen(factory, self.context(certificate, b"h2", b"http/1.1"))
        pool = self.pool(tls=self.trusting(certificate), http2="never")
        answer = await fetch(pool, "GET", f"https://localhost:{port}/x")
        self.assertEqual(answer.body, b"GET /x HTTP/1.1")

    async def test_always(self) -> None:
        certificate = self.certificate()
        factory = OneFactory()
        port = self.listen(factory, self.context(certificate, b"http/1.1"))
        pool = self.pool(tls=self.trusting(certificate), http2="prior_knowledge")
        await self.fails(pool, f"https://localhost:{port}/x", "TLS")
        two = TwoFactory()
        port = self.listen(two, self.context(certificate, b"h2"))
        answer = await fetch(pool, "GET", f"https://localhost:{port}/x")
        self.assertEqual(answer.body, b"/x")

    async def test_whom_to_believe(self) -> None:
        certificate = self.certificate()
        factory = OneFactory()
        port = self.listen(factory, self.context(certificate))
        error = await self.fails(self.pool(), f"https://localhost:{port}/x", "TLS failed", "verify failed")
        self.assertTrue(error.unsent)
        pool = self.pool(tls=self.trusting(certificate))
        await self.fails(pool, f"https://127.0.0.1:{port}/x", "for another name")
        pool = self.pool(tls=self.trusting(certificate, server_name="localhost"))
        answer = await fetch(pool, "GET", f"https://127.0.0.1:{port}/x")
        self.assertEqual(answer.status, 200)

    async def test_our_certificate(self) -> None:
        certificate = self.certificate()
        ours = self.certificate()
        factory = OneFactory()
        context = self.context(certificate, trustRoot=ssl.trustRootFromCertificates([ours]))
        port = self.listen(factory, context)
        pool = self.pool(tls=self.trusting(certificate, certificate=ours))
        answer = await fetch(pool, "GET", f"https://localhost:{port}/x")
        self.assertEqual(answer.status, 200)
        await self.fails(
            self.pool(tls=self.trusting(certificate)), f"https://localhost:{port}/x", "localhost"
        )

    async def test_no_tls(self) -> None:
        port = self.listen(OneFactory(lambda *_: None))
        await self.fails(self.pool(connect_timeout=1.0), f"https://localhost:{port}/", "TLS")

    async def test_closed_before_tls(self) -> None:
        class Closing(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.loseConnection()

        factory = OneFactory()
        factory.buildProtocol = lambda addr: Closing()  # type: ignore[method-assign]
        port = self.listen(factory)
        await self.fails(self.pool(), f"https://localhost:{port}/", "TLS failed")

    async def test_closed_while_shaking_hands(self) -> None:
        class Silent(Protocol):
            def connectionMade(self) -> None:
                there.callback(None)

            def connectionLost(self, reason: Any = None) -> None:
                gone.callback(None)

        there: Deferred[None] = Deferred()
        gone: Deferred[None] = Deferred()
        factory = OneFactory()
        factory.buildProtocol = lambda addr: Silent()  # type: ignore[method-assign]
        port = self.listen(factory)
        pool = self.pool()
        asked = Deferred.fromCoroutine(self.fails(pool, f"https://localhost:{port}/", "closed"))
        await there
        await pool.close()
        await asked
        await gone


class Reader(Protocol):
    """Takes a body as it is told."""

    def __init__(self) -> None:
        self.got = b""
        self.ended: Deferred[Any] = Deferred()
        self.when_data: Callable[[], None] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.when_data is not None:
            self.when_data()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback([reason])


class AgentTests(LoopbackCase):
    async def test_treq(self) -> None:
        for factory, options in ((OneFactory(), {}), (TwoFactory(), {"http2": "prior_knowledge"})):
            url = self.plain(factory)
            agent = Agent(self.pool(**options))
            verifyObject(IAgent, agent)
            client = treq.client.HTTPClient(agent)
            answer = await client.post(url + "/x", json={"a": 1}, headers={"X-A": "1"})
            self.assertEqual(answer.code, 200)
            self.assertEqual(await answer.json(), {"a": 1})
            answer = await client.get(url + "/x", params={"b": "2"})
            self.assertIn("/x?b=2", await answer.text())
            self.assertEqual(answer.request.method, b"GET")
            self.assertEqual(answer.headers.getRawHeaders("content-type"), ["text/plain"])

    async def test_treq_follows(self) -> None:
        def answer(server: OneServer, head: bytes, body: bytes) -> bytes:
            if b"GET /to" in head:
                return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            return b"HTTP/1.1 302 Found\r\nLocation: /to\r\nContent-Length: 0\r\n\r\n"

        url = self.plain(OneFactory(answer))
        client = treq.client.HTTPClient(Agent(self.pool()))
        answered = await client.get(url)
        self.assertEqual(await answered.text(), "ok")
        self.assertEqual(len(answered.history()), 1)

    async def test_a_body_as_fast_as_it_is_read(self) -> None:
        body = b"x" * 3_000_000
        for factory, options in (
            (OneFactory(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + body), {}),
            (
                TwoFactory(lambda server, stream, *_: server.reply(stream, body)),
                {"http2": "prior_knowledge"},
            ),
        ):
            url = self.plain(factory)
            agent = Agent(self.pool(**options))
            answer = await agent.request(b"GET", url.encode(), Headers({"x-a": ["1"]}))
            verifyObject(IResponse, answer)
            verifyObject(IPushProducer, answer)
            self.assertEqual((answer.code, answer.phrase), (200, b"OK"))
            # Nobody reads: what comes is bounded.
            for _ in range(20):
                await deferLater(reactor, 0.001)
            self.assertLessEqual(sum(map(len, answer._early)), 512 * 1024)
            reader = Reader()
            answer.deliverBody(reader)
            with self.assertRaises(RuntimeError):
                answer.deliverBody(Reader())
            answer.pauseProducing()
            answer.resumeProducing()
            (reason,) = await reader.ended
            self.assertTrue(reason.check(ResponseDone))
            self.assertEqual(len(reader.got), len(body))
            answer.stopProducing()

    async def test_a_length(self) -> None:
        url = self.plain(OneFactory())
        answer = await Agent(self.pool()).request(b"GET", url.encode() + b"/1")
        self.assertEqual(answer.length, len(b"GET /1 HTTP/1.1"))
        answer.setPreviousResponse(None)
        self.assertIsNone(answer.previousResponse)
        reader = Reader()
        answer.deliverBody(reader)
        self.assertTrue((await reader.ended)[0].check(ResponseDone))

    async def test_nobody_wants_the_rest(self) -> None:
        factory = OneFactory(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        url = self.plain(factory)
        agent = Agent(self.pool())
        answer = await agent.request(b"GET", url.encode())
        reader = Reader()
        reader.when_data = answer.loseConnection
        answer.deliverBody(reader)
        await reader.ended
        answer.abortConnection()
        answer = await agent.request(b"GET", url.encode())
        answer.loseConnection()
        while factory.live:
            await deferLater(reactor, 0.001)

    async def test_broken_off(self) -> None:
        def answer(server: OneServer, head: bytes, body: bytes) -> None:
            server.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            server.transport.loseConnection()

        url = self.plain(OneFactory(answer))
        answered = await Agent(self.pool()).request(b"GET", url.encode())
        reader = Reader()
        answered.deliverBody(reader)
        (reason,) = await reader.ended
        self.assertIn("in the middle", str(reason.check(WebError) and reason.value))

    async def test_no_answer(self) -> None:
        url = self.plain(OneFactory(lambda server, *_: server.transport.loseConnection()))
        agent = Agent(self.pool())
        await self.assertFailure(agent.request(b"GET", url.encode()), WebError)
        await self.assertFailure(agent.request(b"GET", b"ftp://x"), ValueError)
        await self.assertFailure(agent.request(b"GET", b"http://\xff/"), ValueError)

    async def test_cancelled(self) -> None:
        factory = OneFactory(lambda *_: None)
        url = self.plain(factory)
        asked = Agent(self.pool()).request(b"GET", url.encode())
        while not factory.live:
            await deferLater(reactor, 0.001)
        asked.cancel()
        await asked.addErrback(lambda failure: None)
        while factory.live:
            await deferLater(reactor, 0.001)

    async def test_uploads(self) -> None:
        from io import BytesIO

        url = self.plain(OneFactory())
        agent = Agent(self.pool(), upload=100_000)
        headers = Headers({"Content-Length": ["5"], "Host": ["other"], "Connection": ["close"]})
        answer = await agent.request(b"POST", url.encode(), headers, FileBodyProducer(BytesIO(b"y" * 90_000)))
        self.assertEqual(await treq.content(answer), b"y" * 90_000)
        producer = FileBodyProducer(BytesIO(b"y" * 300_000))
        await self.assertFailure(agent.request(b"POST", url.encode(), None, producer), WebError)

    async def test_the_bound_of_a_body(self) -> None:
        body = _Body(3)
        body.registerProducer(None, True)
        body.write(b"abc")
        with self.assertRaises(WebError):
            body.write(b"d")
        body.unregisterProducer()
