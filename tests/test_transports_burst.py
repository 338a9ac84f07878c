"""What is written in one stretch of work leaves at its end, in its order, and is never lost."""

import socket
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp.interfaces import ListenContext, WireLimits
from erlmcp.transports import burst
from erlmcp.transports._burst import MOST, Burst
from erlmcp.transports.http import HttpOptions, HttpTransport
from tests.http_wire import BODY, Admission, Recorder


class BurstTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.burst = Burst()
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """As a connection does."""
        if self.burst.depth:
            self.burst.hold(self.write_now, data)
        else:
            self.write_now(data)

    def write_now(self, data: bytes) -> None:
        self.written.append(data)
        if data == b"and":
            self.write(b"more")

    def test_at_the_end(self) -> None:
        with self.burst:
            self.write(b"a")
            with self.burst:
                self.write(b"b")
            self.assertEqual(self.written, [])
        self.assertEqual(self.written, [b"a", b"b"])
        self.write(b"c")
        self.assertEqual(self.written, [b"a", b"b", b"c"])

    def test_what_writes_as_it_is_written(self) -> None:
        """It comes after what was held, and is sent in the same go."""
        with self.burst:
            for data in (b"and", b"b"):
                self.write(data)
        self.assertEqual(self.written, [b"and", b"b", b"more"])
        self.assertEqual(self.burst.depth, 0)

    def test_no_more_than_so_many(self) -> None:
        with self.burst:
            for _ in range(MOST + 1):
                self.write(b"x")
            self.assertEqual(len(self.written), MOST)
        self.assertEqual(len(self.written), MOST + 1)

    def test_a_failure(self) -> None:
        """Neither that of the work nor that of one writer keeps the others' from being sent."""

        def fail(_: bytes) -> None:
            raise KeyError("x")

        with self.assertRaises(ValueError), self.burst:
            self.burst.hold(fail, b"a")
            self.write(b"b")
            raise ValueError
        self.assertEqual(self.written, [b"b"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_left_by_what_nobody_catches(self) -> None:
        """It is closed nevertheless, and what was held is not lost."""

        def stop(_: bytes) -> None:
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt), self.burst:
            self.burst.hold(stop, b"a")
            self.write(b"b")
        self.assertEqual((self.burst.depth, self.written), (0, []))
        with self.burst:
            self.write(b"c")
        self.assertEqual(self.written, [b"b", b"c"])

    def test_sent_before_the_end(self) -> None:
        with self.burst:
            self.write(b"a")
            self.burst.flush()
            self.assertEqual(self.written, [b"a"])
            self.write(b"b")
        self.assertEqual(self.written, [b"a", b"b"])


class LoopbackTests(TestCase):
    """A listener on a real socket: nothing else writes past Twisted."""

    timeout = 60

    async def listen(self, slow: float = 10.0) -> int:
        self.channel = Recorder(None)
        limits = Admission(WireLimits(slow=slow))
        context = ListenContext(
            name="web",
            reactor=reactor,
            channel=self.channel,
            limits=limits,
            endpoint="tcp:0:interface=127.0.0.1",
        )
        listener: Any = HttpTransport().listener(context, HttpOptions())
        await listener.bind()
        self.addCleanup(listener.close)
        port: int = listener.addresses[0].port
        return port

    def ask(self, port: int, *fields: str) -> socket.socket:
        """One connection with one request on it."""
        connection = socket.socket()
        self.addCleanup(connection.close)
        connection.settimeout(30)
        # Small, so that who reads slowly holds its server up.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.connect(("127.0.0.1", port))
        head = ["POST /mcp HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json", *fields]
        head += ["Accept: application/json, text/event-stream", f"Content-Length: {len(BODY)}", "", ""]
        connection.sendall("\r\n".join(head).encode() + BODY)
        return connection

    async def asked(self, number: int) -> None:
        while len(self.channel.exchanges) < number:
            await deferLater(reactor, 0.01)

    async def test_each_gets_its_own(self) -> None:
        port = await self.listen()
        connections = []
        for number in range(1, 4):
            connections.append(self.ask(port))
            await self.asked(number)
        with burst:
            for number, exchange in enumerate(self.channel.exchanges):
                exchange.reply(b'{"number":%d}' % number)
            for connection in connections:
                connection.setblocking(False)
                with self.assertRaises(BlockingIOError):
                    connection.recv(1)
        for number, connection in enumerate(connections):
            connection.setblocking(True)
            self.assertIn(b'{"number":%d}' % number, await deferToThread(connection.recv, 65536))

    async def test_its_order(self) -> None:
        """What is told on the way is before the answer."""
        port = await self.listen()
        connection = self.ask(port)
        await self.asked(1)
        with burst:
            for number in range(3):
                self.channel.exchanges[0].notify(b'{"told":%d}' % number)
            self.channel.exchanges[0].reply(b'{"answer":1}')
        said = await deferToThread(connection.recv, 65536)
        places = [said.find(word) for word in (b'{"told":0}', b'{"told":1}', b'{"told":2}', b'{"answer":1}')]
        self.assertEqual(places, sorted(places))
        self.assertGreater(places[0], 0)

    async def test_closed_behind_a_slow_reader(self) -> None:
        """Who reads on gets all of it, however long it takes, though the connection is to be closed."""
        port = await self.listen(slow=2.0)
        big = b'{"x":"' + b"y" * 6_000_000 + b'"}'
        connection = self.ask(port, "Connection: close")
        await self.asked(1)

        def read() -> int:
            got = 0
            while data := connection.recv(65536):
                got += len(data)
                time.sleep(0.006)
            return got

        with burst:
            self.channel.exchanges[0].reply(big)
        self.assertGreater(await deferToThread(read), len(big))

    async def test_lost_while_it_is_held(self) -> None:
        port = await self.listen()
        connections = [self.ask(port), self.ask(port)]
        await self.asked(2)
        with burst:
            self.channel.exchanges[0].reply(b'{"answer":0}')
            connections[0].close()
            self.channel.exchanges[1].reply(b'{"answer":1}')
        self.assertIn(b'{"answer":', await deferToThread(connections[1].recv, 65536))
