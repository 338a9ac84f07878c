"""Several MCP paths on one HTTP listener: each message gets to the channel of its path, over HTTP/1.1 and HTTP/2."""

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IChannel, ListenContext, WireLimits
from erlmcp.transports.http import HttpOptions, HttpTransport
from erlmcp.transports.http._fork import Fork
from erlmcp.transports.http._head import Rules
from erlmcp.transports.http._origin import Visitors
from tests.http2_wire import Second2, head
from tests.http_wire import Admission, Recorder, Wire, answer, post

A, B = b"/team-a/mcp", b"/team-b/mcp"


class Forked:
    """Three channels behind one."""

    def __init__(self) -> None:
        self.main, self.a, self.b = (Recorder(answer) for _ in range(3))
        self.fork = Fork(self.main, {A: self.a, B: self.b})

    def over(self, wire: Wire) -> None:
        """Put them behind a connection."""
        visitors = wire.shared.rules.visitors
        wire.shared.rules = Rules(b"/mcp", visitors, 10_000, b"/sse", views=[A, B])
        wire.shared.channel = self.fork

    def taken(self) -> tuple[int, int, int]:
        """How many messages each has had since the last time."""
        counts = tuple(len(one.messages) for one in (self.main, self.a, self.b))
        for one in (self.main, self.a, self.b):
            one.messages.clear()
        return counts  # type: ignore[return-value]


class Over1(SynchronousTestCase):
    def setUp(self) -> None:
        self.channels = Forked()
        self.wire = Wire()
        self.channels.over(self.wire)

    def status(self, data: bytes) -> int:
        [one] = self.wire.send(data)
        return one.status

    def test_by_path(self) -> None:
        for target, taken in (
            (b"/mcp", (1, 0, 0)),
            (A, (0, 1, 0)),
            (B + b"?x=1", (0, 0, 1)),
            (b"http://127.0.0.1:8765" + A, (0, 1, 0)),
            (b"/mcp?" + A, (1, 0, 0)),
        ):
            # The second time the head is familiar; the third has company, so that it is not the whole of what came.
            self.assertEqual(self.status(post(target=target)), 200)
            self.assertEqual(self.channels.taken(), taken, target)
            self.assertEqual(self.status(post(target=target)), 200)
            self.assertEqual(self.channels.taken(), taken, target)
            self.assertEqual(len(self.wire.send(post(target=target) + post())), 2)
            self.assertEqual(self.channels.taken(), (taken[0] + 1, *taken[1:]), target)

    def test_nothing_there(self) -> None:
        for target in (b"/team-c/mcp", A + b"/", b"/team-a", b"/"):
            self.assertEqual(self.status(post(target=target)), 404)
        self.assertEqual(self.channels.taken(), (0, 0, 0))

    def test_methods(self) -> None:
        self.assertEqual(self.status(post(target=A, method=b"PUT")), 405)
        self.assertEqual(self.status(post(b"", target=A, method=b"GET")), 405)
        self.channels.b.on_open = lambda exchange: exchange.leave()
        self.channels.b.on_delete = lambda exchange: exchange.reply(b"", 204)
        fields = {"mcp_session_id": "x", "mcp_protocol_version": "2025-11-25"}
        self.assertEqual(self.status(post(b"", target=B, method=b"GET", **fields)), 200)
        self.assertEqual(self.status(post(b"", target=B, method=b"DELETE", **fields)), 204)
        self.assertEqual((len(self.channels.b.open), len(self.channels.b.ended)), (1, 1))

    def test_gone(self) -> None:
        """The channel that has a request is told that its client has gone; no other is."""
        self.channels.a.answer = None
        self.wire.send(post(target=A))
        self.wire.lose()
        self.assertEqual((len(self.channels.a.gone), len(self.channels.main.gone)), (1, 0))

    def test_interface(self) -> None:
        verifyObject(IChannel, self.channels.fork)


class Over2(SynchronousTestCase):
    def test_by_path(self) -> None:
        channels = Forked()
        second = Second2()
        channels.over(second.wire)
        for path, taken in (("/mcp", (1, 0, 0)), (A.decode(), (0, 1, 0)), (B.decode(), (0, 0, 1))):
            for _ in range(2):
                self.assertEqual(second.post(headers=head(path=path)).status, 200)
                self.assertEqual(channels.taken(), taken, path)


class Options(SynchronousTestCase):
    def listener(self, **options: Any) -> Any:
        context = ListenContext(
            name="web",
            reactor=MemoryReactorClock(),
            channel=Recorder(answer),
            limits=Admission(WireLimits()),
            endpoint="tcp:0:interface=127.0.0.1",
            views={"a": Recorder(answer), "b": Recorder(answer)},
        )
        return context, HttpTransport().listener(context, HttpOptions(**options))

    def test_channels(self) -> None:
        context, listener = self.listener(views={"/team-a/mcp": "a", "/x": "a", "/team-b/mcp": "b"})
        fork = listener.shared.channel
        self.assertIs(fork._main, context.channel)
        self.assertEqual(
            fork._views, {A: context.views["a"], b"/x": context.views["a"], B: context.views["b"]}
        )

    def test_none(self) -> None:
        """A listener without views has nothing between its connections and its channel."""
        context, listener = self.listener()
        self.assertIs(listener.shared.channel, context.channel)

    def test_wrong_paths(self) -> None:
        for views, wrong in (
            ({"team-a": "a"}, "views.team-a: 'team-a' is no path"),
            ({"/mcp": "a"}, "views./mcp: '/mcp' is the 'path' too"),
            ({"/sse": "a"}, "sse: '/sse' is the 'views./sse' too"),
        ):
            error = self.assertRaises(ValueError, self.listener, views=views, sse="/sse")
            self.assertTrue(str(error).startswith(wrong), error)

    def test_rules(self) -> None:
        rules = Rules(b"/mcp", Visitors(), 100, views=[A])
        self.assertEqual([rules.view(one) for one in (A, A + b"?", b"/mcp", b"*")], [A, A, b"", b""])
