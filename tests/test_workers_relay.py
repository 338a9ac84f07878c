"""The way between workers: what is handed over, what comes back, and what becomes of it when one has gone."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange, Peer
from erlmcp.workers import Forwarded, Line, Refused, Relay
from erlmcp.workers import _relay as relay_module
from tests.lines import Post


class Exchange:
    """Keeps what is done with it."""

    def __init__(self, headers: dict[bytes, bytes] | None = None) -> None:
        self.peer = Peer(transport="http", listener="mcp", address="1.2.3.4:5", uid=7)
        self.headers = headers
        self.calls: dict[Any, Any] = {}
        self.session = None
        self.streaming = True
        self.congested = False
        self.done: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name not in {"reply", "notify", "prime", "leave", "accept", "abandon"}:
            raise AttributeError(name)
        return lambda *given: self.done.append((name, *given))


class Channel:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.came: list[Any] = []

    def received(self, message: bytes, exchange: Any) -> None:
        self.came.append(("received", message, exchange))

    def opened(self, exchange: Any) -> None:
        self.came.append(("opened", exchange))

    def closed(self, exchange: Any) -> None:
        self.came.append(("closed", exchange))


class RelayTests(SynchronousTestCase):
    """Two workers."""

    def setUp(self) -> None:
        self.post = Post()
        self.here, self.there = Relay("aa"), Relay("bb")
        self.channel = Channel()
        self.there.channels["mcp", ""] = self.channel  # type: ignore[assignment]
        one, self.line = Line(), Line()
        self.here.join("bb", one)
        self.there.join("aa", self.line)
        self.post.join(one, self.line)
        self.lost: list[str] = []

    def forward(self, exchange: Exchange, way: str = "received", message: bytes = b"{}") -> Any:
        self.here.forward("bb", way, message, exchange, lambda: self.lost.append("lost"))  # type: ignore[arg-type]
        self.post.pump()
        return self.channel.came[-1][-1] if self.channel.came else None

    def test_whose_it_is(self) -> None:
        exchange: Any = Exchange()
        self.assertTrue(self.here.elsewhere("bb", exchange))
        self.assertFalse(self.here.elsewhere("aa", exchange))
        self.assertFalse(self.here.elsewhere("cc", exchange))
        guest = self.forward(exchange)
        self.assertIsInstance(guest, Forwarded)
        self.assertFalse(self.there.elsewhere("aa", guest), "nothing is forwarded twice")
        self.patch(relay_module, "MOST", 1)
        self.assertFalse(self.here.elsewhere("bb", exchange), "a bound is kept")

    def test_the_exchange_is_the_same(self) -> None:
        exchange = Exchange({b"authorization": b"x"})
        guest = self.forward(exchange)
        verifyObject(IExchange, guest)
        self.assertEqual(
            (guest.peer, guest.headers, guest.streaming), (exchange.peer, exchange.headers, True)
        )
        self.assertFalse(guest.congested)

    def test_what_is_done_with_it_is_done(self) -> None:
        exchange = Exchange()
        guest = self.forward(exchange, "opened")
        guest.prime("e.0", 1000)
        guest.notify(b"n", "e.1")
        self.assertEqual((self.here.under_way, self.there.under_way), (1, 1))
        guest.reply(b"r", 400, ((b"a", b"b"),))
        self.post.pump()
        self.assertEqual(
            exchange.done,
            [("prime", "e.0", 1000), ("notify", b"n", "e.1"), ("reply", b"r", 400, ((b"a", b"b"),))],
        )
        self.assertEqual((self.here.under_way, self.there.under_way), (0, 0))
        guest.notify(b"late")
        self.post.pump()
        self.assertEqual(len(exchange.done), 3)

    def test_each_end(self) -> None:
        for way in ("leave", "accept", "abandon"):
            exchange = Exchange()
            getattr(self.forward(exchange), way)()
            self.post.pump()
            self.assertEqual(exchange.done, [(way,)])
        self.assertEqual(self.here.under_way, 0)

    def test_a_client_that_goes(self) -> None:
        exchange: Any = Exchange()
        guest = self.forward(exchange)
        self.here.closed(exchange)
        self.post.pump()
        self.assertEqual(self.channel.came[-1], ("closed", guest))
        self.assertEqual((self.here.under_way, self.there.under_way), (0, 0))
        self.here.closed(exchange)
        guest.reply(b"late")
        self.post.pump()
        self.assertEqual(exchange.done, [])

    def test_more_of_a_connection(self) -> None:
        """A cancellation: settled where it came to, so its acceptance goes nowhere."""
        exchange: Any = Exchange()
        guest = self.forward(exchange)
        self.here.again(b"cancel", exchange)
        self.here.again(b"cancel", Exchange())  # type: ignore[arg-type]
        self.channel.received = lambda message, one: (  # type: ignore[method-assign]
            self.channel.came.append(("received", message, one)),
            one.accept(),
        )
        self.post.pump()
        self.assertEqual(self.channel.came[-1], ("received", b"cancel", guest))
        self.assertEqual((exchange.done, self.here.under_way), ([], 1))

    def test_to_everybody(self) -> None:
        exchange: Any = Exchange()
        self.here.everywhere(b"cancel", exchange)
        self.post.pump()
        _, message, guest = self.channel.came[-1]
        self.assertEqual(message, b"cancel")
        guest.accept()
        self.post.pump()
        self.assertEqual((exchange.done, self.here.under_way, self.there.under_way), ([], 0, 0))
        self.there.everywhere(b"cancel", guest)
        self.assertEqual(len(self.post.sent), 0)

    def test_an_owner_that_goes(self) -> None:
        self.forward(Exchange())
        self.there.part()
        self.post.pump()
        self.assertEqual(self.lost, ["lost"])
        self.assertFalse(self.here.elsewhere("bb", Exchange()))  # type: ignore[arg-type]
        self.assertEqual(self.channel.came[-1][0], "closed", "and its guests are gone")
        self.assertEqual((self.here.under_way, self.there.under_way), (0, 0))

    def test_a_listener_that_is_gone(self) -> None:
        exchange: Any = Exchange()
        guest = self.forward(exchange)
        self.there.channels.clear()
        self.here.again(b"x", exchange)
        self.here.closed(exchange)
        other = Exchange()
        self.forward(other)
        self.post.pump()
        self.assertEqual((other.done, self.lost), ([], ["lost"]))
        self.assertEqual((self.here.under_way, self.there.under_way), (0, 0))
        del guest
        self.forward(Exchange())
        self.here.part()
        self.post.pump()

    def test_a_stream_that_moves(self) -> None:
        self.there.within("").streams = lambda session, stream, after: [
            f"{session} {stream} {after}".encode()
        ]
        taking = self.here.take_stream("bb", "s", "bb-get1", 7)
        self.post.pump()
        self.assertEqual(self.successResultOf(taking), [b"s bb-get1 7"])
        self.assertEqual(Relay("cc").within("").streams("s", "x", 1), [])

    def test_what_nobody_knows(self) -> None:
        asked = self.line.ask("what")
        self.post.pump()
        self.failureResultOf(asked, Refused)
        self.flushLoggedErrors(ValueError)
        self.line.tell("step", relay_module.encode(relay_module.Step(99, "closed")))
        self.line.tell("back", relay_module.encode(relay_module.Step(99, "reply")))
        self.post.pump()

    def test_a_former_line_of_the_same_name(self) -> None:
        """A worker that came anew under the name is not forgotten with the former."""
        one, other = Line(), Line()
        again: Deferred[None] = Deferred()
        del again
        self.here.join("bb", one)
        self.post.join(one, other)
        self.line.cut()
        self.post.pump()
        self.assertTrue(self.here.elsewhere("bb", Exchange()))  # type: ignore[arg-type]
