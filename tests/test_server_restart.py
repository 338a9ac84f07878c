"""The handshake era over the end of a process: what is drained, and what the next one takes up."""

import gc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.engine import Bounds, EmbeddedEngine
from erlmcp.interfaces import Change, Outcome, Peer, Request
from erlmcp.protocol import KeyRing
from erlmcp.server._events import EventStream
from erlmcp.testing import Harness, MemoryExchange
from tests.scripted import Scripted, text


class Case(SynchronousTestCase):
    """Two servers with the same keys and the same engine, as a daemon is before and after a restart."""

    def setUp(self) -> None:
        self.wait: Deferred[str] = Deferred()

        async def slow(request: Request) -> Outcome:
            assert request.conversation is not None
            request.conversation.progress(1, None, None)
            return text(await self.wait)

        async def noisy(request: Request) -> Outcome:
            assert request.conversation is not None
            request.conversation.log("info", "hello", None)
            return text("done")

        self.tools: dict[str, Any] = {"slow": slow, "noisy": noisy, "now": lambda request: text("now")}
        self.ring = KeyRing([KeyRing.generate()])
        self.backend, self.house = self.start()

    def start(self, engine: Any = None) -> tuple[Scripted, Harness]:
        backend = Scripted(self.tools, resources={"memo://a": lambda request: text("")})
        return backend, Harness(backend, key_ring=self.ring, engine=engine)

    def restart(self) -> None:
        self.house.server.drain()
        self.house.server.stop()
        self.backend, self.house = self.start(self.house.engine)

    def session(self, version: str = "2025-11-25") -> dict[bytes, bytes]:
        exchange = self.house.initialize(version, exchange=MemoryExchange({}))
        [((_, token),)] = exchange.reply_headers
        return {b"mcp-session-id": token}

    def call(self, headers: dict[bytes, bytes], tool: str, token: int | None = None) -> MemoryExchange:
        params: dict[str, Any] = {"name": tool, "arguments": {}}
        if token is not None:
            params["_meta"] = {"progressToken": token}
        return self.house.legacy("tools/call", params, exchange=MemoryExchange(headers))

    def listen(self, headers: dict[bytes, bytes], last: str | None = None) -> MemoryExchange:
        more = {} if last is None else {b"last-event-id": last.encode()}
        exchange = MemoryExchange({**headers, **more})
        self.house.channel.opened(exchange)
        return exchange


class Draining(Case):
    def test_streams_of_calls_end_with_their_answers(self) -> None:
        headers = self.session()
        listening = self.listen(headers)
        call = self.call(headers, "slow", 1)
        drained = self.house.server.drain()
        self.assertEqual((listening.left, call.left), (1, 0))
        self.assertNoResult(drained)
        self.wait.callback("after all")
        self.successResultOf(drained)
        self.assertEqual(call.written[-1]["result"]["content"][0]["text"], "after all")
        self.assertEqual(call.left, 1)

    def test_deleted(self) -> None:
        """The end of a session is that of all its streams."""
        headers = self.session()
        listening, call = self.listen(headers), self.call(headers, "slow", 1)
        self.house.channel.deleted(MemoryExchange(headers))
        self.assertEqual((listening.left, call.left), (1, 1))


class Opened(Case):
    def test_by_address(self) -> None:
        """Of callers whom nobody knows, one that opens too many does not stand in the way of the others."""
        house = Harness(self.backend, sessions_per_hour=2)
        statuses = []
        for address in (1, 1, 1, 2):
            peer = Peer(transport="http", listener="test", host=f"192.0.2.{address}")
            exchange = house.initialize(exchange=MemoryExchange({}, peer=peer))
            statuses.append(exchange.status)
        self.assertEqual(statuses, [200, 200, 429, 200])


class Abandoned(Case):
    """``python -m benchmarks.abandoned`` does it to a real daemon, and looks at its memory."""

    def test_nothing_is_kept(self) -> None:
        """Of sessions that only list and call at once; of those that listened or called, when they have been idle."""
        house = Harness(self.backend, sessions_per_hour=100_000)
        self.house = house
        for turn in range(3_000):
            headers = self.session()
            house.legacy("tools/list", exchange=MemoryExchange(headers))
            self.call(headers, "now")
            if turn % 3 == 0:
                listening = self.listen(headers)
                house.channel.closed(listening)
            if turn % 3 == 1:
                noisy = self.call(headers, "noisy")
                house.channel.closed(noisy)
        self.assertEqual((len(house.server.sessions), len(house.server.subscriptions)), (2_000, 1_000))
        house.clock.pump([30.0] * 70)
        self.assertEqual((len(house.server.sessions), len(house.server.subscriptions)), (0, 0))
        self.assertEqual(house.server.in_flight, 0)
        gc.collect()
        owner = house.server.sessions.owner
        streams = [one for one in gc.get_objects() if type(one) is EventStream and one.name.startswith(owner)]
        self.assertEqual(streams, [])


class Full(Case):
    """An engine that has no room left: said as overload, and what was kept before still holds."""

    def setUp(self) -> None:
        super().setUp()
        clock = self.house.clock
        engine = EmbeddedEngine(clock, wall=clock.seconds, steady=clock.seconds, bounds=Bounds(entries=1))
        self.backend, self.house = self.start(engine)

    def test_no_room(self) -> None:
        first, second = self.session(), self.session()
        ended, refused = MemoryExchange(first), MemoryExchange(second)
        self.house.channel.deleted(ended)
        self.house.channel.deleted(refused)
        self.assertEqual((ended.status, refused.status), (204, 503))
        self.assertEqual(self.call(first, "now").status, 404)
        self.assertEqual(self.call(second, "now").status, 200)
        level = self.house.legacy("logging/setLevel", {"level": "error"}, exchange=MemoryExchange(second))
        self.assertIn("no room", level.error["message"])
        self.assertEqual(self.house.initialize(exchange=MemoryExchange({})).status, 200)


class Restarted(Case):
    def test_goes_on(self) -> None:
        """The session, its log level and its subscriptions are there, without ``initialize``."""
        headers = self.session()
        self.house.legacy("logging/setLevel", {"level": "error"}, exchange=MemoryExchange(headers))
        self.house.legacy("resources/subscribe", {"uri": "memo://a"}, exchange=MemoryExchange(headers))
        self.restart()
        self.assertEqual(self.call(headers, "now").status, 200)
        self.assertEqual(self.call(headers, "noisy").notifications, [])
        listening = self.listen(headers)
        self.backend.change(Change("updated", "memo://a"))
        self.assertEqual([one["params"] for one in listening.written], [{"uri": "memo://a"}])

    def test_a_stream_that_belongs_to_no_call(self) -> None:
        """The client comes back for it with its last event, of which the new process knows nothing: it begins anew."""
        for version in ("2025-11-25", "2025-06-18"):
            headers = self.session(version)
            listening = self.listen(headers)
            self.backend.change(Change("tools"))
            self.restart()
            again = self.listen(headers, listening.events[0])
            self.backend.change(Change("prompts"))
            self.assertEqual(
                [one["method"] for one in again.written], ["notifications/prompts/list_changed"], version
            )
            self.assertNotEqual(again.events[0], listening.events[0])

    def test_a_stream_of_a_call(self) -> None:
        """Its answer is lost, and that is said."""
        headers = self.session()
        call = self.call(headers, "slow", 1)
        self.restart()
        self.assertEqual(self.listen(headers, call.events[0]).status, 400)
        self.assertEqual(self.call(headers, "now").status, 200)

    def test_idle(self) -> None:
        """A stream that was forgotten for want of its client begins anew too, and changes come on it once."""
        headers = self.session()
        listening = self.listen(headers)
        self.backend.change(Change("tools"))
        self.house.channel.closed(listening)
        self.house.clock.pump([30.0] * 70)
        self.assertEqual(len(self.house.server.sessions), 0)
        again = self.listen(headers, listening.events[0])
        self.backend.change(Change("prompts"))
        self.assertEqual(len(again.written), 1)

    def test_ended(self) -> None:
        headers = self.session()
        self.house.channel.deleted(MemoryExchange(headers))
        self.restart()
        self.assertEqual(self.call(headers, "now").status, 404)
