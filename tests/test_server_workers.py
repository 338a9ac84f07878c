"""Two servers of one daemon: what comes to one and belongs to the other."""

from collections.abc import Collection
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from erlmcp import Context, Provider
from erlmcp.engine import EmbeddedEngine
from erlmcp.interfaces import (
    Complete,
    Definitions,
    IForgets,
    NeedsInput,
    Outcome,
    Request,
    ToolDefinition,
)
from erlmcp.protocol import KeyRing
from erlmcp.testing import Harness, MemoryExchange
from erlmcp.workers import Line, LineLost, Relay
from tests.lines import Post
from tests.peers.worker_provider import Confirm

CAN = {"elicitation": {"form": {}}}
ANSWER = {"action": "accept", "content": {"sure": True}}


class PairTestCase(SynchronousTestCase):
    """Two workers, each with a server for each scope; the tests are about those of one scope."""

    scopes: tuple[str, ...] = ("",)
    scope = ""

    def setUp(self) -> None:
        self.post = Post()
        keys = KeyRing([KeyRing.generate()])
        self.relays = [Relay("aa"), Relay("bb")]
        self.waiting: list[Deferred[None]] = []
        self.houses: list[Harness] = []
        engine: EmbeddedEngine | None = None
        for relay in self.relays:
            for scope in self.scopes:
                house = Harness(
                    self.provider(kept=scope == self.scope),
                    key_ring=keys,
                    engine=engine,
                    owner=relay.owner,
                    ways=relay,
                    scope=scope,
                )
                engine = engine or house.engine  # type: ignore[assignment]
                relay.channels["test", scope] = house.channel
                self.houses.append(house)
        self.here, self.there = self.houses[self.scopes.index(self.scope) :: len(self.scopes)]
        self.lines = Line(), Line()
        self.relays[0].join("bb", self.lines[0])
        self.relays[1].join("aa", self.lines[1])
        self.post.join(*self.lines)
        self.turn()

    def provider(self, *, kept: bool) -> Provider:
        provider = Provider("p")

        @provider.tool
        async def confirm(ctx: Context) -> str:
            return (await ctx.elicit("Sure?", Confirm, key="sure")).action

        @provider.tool
        async def wait(ctx: Context) -> str:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await ctx.leave()
            await waiting
            return "waited"

        @provider.tool
        async def say(ctx: Context) -> str:
            await ctx.log("debug", "said")
            return "said"

        @provider.resource("test://thing")
        async def thing() -> str:
            return "thing"

        if kept:
            self.provided = [*getattr(self, "provided", []), provider]
        return provider

    def turn(self) -> None:
        for _ in range(4):
            self.post.pump()
            for house in self.houses:
                house.clock.advance(0)

    def http(self, session: str = "", **more: str) -> MemoryExchange:
        headers = {b"accept": b"application/json, text/event-stream"}
        if session:
            headers |= {b"mcp-session-id": session.encode(), b"mcp-protocol-version": b"2025-11-25"}
        headers |= {name.replace("_", "-").encode(): value.encode() for name, value in more.items()}
        return MemoryExchange(headers)

    def session(self, house: Harness) -> str:
        exchange = house.initialize(capabilities={"elicitation": {}}, exchange=self.http())
        self.turn()
        return dict(exchange.reply_headers[0])[b"Mcp-Session-Id"].decode()


class ModernTests(PairTestCase):
    """Parked calls."""

    def asked(self) -> str:
        state: str = self.here.call("confirm", capabilities=CAN).result["requestState"]
        return state

    def retry(self, state: str, **options: Any) -> MemoryExchange:
        params = {"requestState": state, "inputResponses": {"sure": ANSWER}}
        exchange = self.there.call("confirm", capabilities=CAN, params=params, **options)
        self.turn()
        return exchange

    def test_a_retry(self) -> None:
        state = self.asked()
        self.assertEqual(self.retry(state).result["content"][0]["text"], "accept")
        self.assertEqual(self.retry(state).replies[0][1]["error"]["code"], -32602)

    def test_its_owner_goes(self) -> None:
        state = self.asked()
        exchange = self.there.call(
            "confirm", capabilities=CAN, params={"requestState": state, "inputResponses": {"sure": ANSWER}}
        )
        self.lines[0].cut()
        self.turn()
        self.assertIn("outcome is unknown", exchange.replies[0][1]["error"]["message"])
        self.assertIn("outcome is unknown", self.retry(state).replies[0][1]["error"]["message"])

    def test_another_owner_in_the_clear(self) -> None:
        """It leads to where nobody knows of it."""
        sealed = self.asked().partition(".")[2]
        for owner in ("bb", "aa", "", "zz"):
            self.assertIn("error", (self.retry(f"{owner}x.{sealed}").replies[0][1]))

    def test_a_cancellation_of_what_was_forwarded(self) -> None:
        """On a stream, which is one exchange for all."""
        exchange = MemoryExchange()
        exchange.peer = msgspec.structs.replace(exchange.peer, listener="test")
        state = self.asked()
        params = {"requestState": state, "inputResponses": {}}
        self.there.call("confirm", capabilities=CAN, params=params, exchange=exchange, id=5)
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
        self.there.channel.received(msgspec.json.encode(note), exchange)
        self.there.channel.received(
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}', exchange
        )
        self.turn()
        self.assertEqual(exchange.accepted, 2)

    def test_a_client_that_goes(self) -> None:
        exchange = self.retry.__func__(self, self.asked())  # type: ignore[attr-defined]
        self.there.channel.closed(exchange)
        self.assertEqual(self.relays[1].under_way, 0)

    def test_changes_are_heard_by_all(self) -> None:
        filters = {"notifications": {"resourceSubscriptions": ["test://thing"]}}
        listening = self.there.send("subscriptions/listen", filters)
        self.turn()
        self.provided[0].notify_updated("test://thing")
        self.turn()
        methods = [one["method"] for one in listening.notifications]
        self.assertEqual(methods.count("notifications/resources/updated"), 1)

    def test_one_that_is_to_go(self) -> None:
        self.assertTrue(self.here.server.quiet)
        state = self.asked()
        self.assertFalse(self.here.server.quiet, "a call is parked")
        self.here.server.retire()
        listening = self.here.send("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        self.assertEqual(len(listening.replies), 1, "it ends at once: another listens now")
        self.assertEqual(self.retry(state).result["content"][0]["text"], "accept")
        self.assertTrue(self.here.server.quiet)
        self.here.server.drain()
        self.here.server.stop()


class HereTests(PairTestCase):
    """A backend's own state that is of use in one process alone."""

    def setUp(self) -> None:
        super().setUp()
        self.came: list[str] = []
        for house in (self.here, self.there):
            house.catalog.add_backend(Holding(house.server._owner, self.came))  # type: ignore[arg-type]

    def asked(self) -> str:
        state: str = self.here.call("hold", capabilities=CAN).result["requestState"]
        return state

    def retry(self, state: str) -> MemoryExchange:
        params = {"requestState": state, "inputResponses": {"sure": ANSWER}}
        exchange = self.there.call("hold", capabilities=CAN, params=params)
        self.turn()
        return exchange

    def test_a_retry(self) -> None:
        """It comes back to where its state is of use; who is to go waits for it."""
        state = self.asked()
        self.assertFalse(self.here.server.quiet)
        self.retry(state)
        self.assertEqual(self.came, ["aa aa"])
        self.assertTrue(self.here.server.quiet)

    def test_nobody_comes(self) -> None:
        self.asked()
        self.here.clock.advance(601)
        self.assertTrue(self.here.server.quiet)
        self.asked()
        self.here.server.drain()
        self.assertTrue(self.here.server.quiet)

    def test_its_process_has_gone(self) -> None:
        state = self.asked()
        self.lines[0].cut()
        self.turn()
        self.assertIn("outcome is unknown", self.retry(state).replies[0][1]["error"]["message"])
        self.assertEqual(self.came, [])

    def test_no_more_than_may_be_waited_for(self) -> None:
        parking = self.here.server.parking
        self.patch(parking, "_total", 1)
        states = [self.asked(), self.asked()]
        self.assertEqual(len(parking.awaited), 1)
        for state in states:
            self.retry(state)
        self.assertEqual(self.came, ["aa aa", "aa aa"])


class Holding:
    """A backend that keeps the rest of a call in the memory of its process."""

    name = "holding"

    def __init__(self, owner: str, came: list[str]) -> None:
        self._owner = owner
        self._came = came

    def definitions(self) -> Definitions:
        wire = msgspec.Raw(b'{"name":"hold","inputSchema":{"type":"object"}}')
        return Definitions(tools={"hold": ToolDefinition(name="hold", wire=wire)})

    def watch(self, watcher: Any) -> Any:
        del watcher
        return lambda: None

    def dispatch(self, request: Request) -> Outcome:
        state = request.params.request_state
        if state is msgspec.UNSET:
            question = {
                "method": "elicitation/create",
                "params": {"message": "?", "requestedSchema": {"type": "object"}},
            }
            return NeedsInput({"sure": question}, self._owner, here=True)
        self._came.append(f"{self._owner} {state}")
        return Complete({"content": []})


@implementer(IForgets)
class Forgetful:
    """A backend that is told of sessions that have ended."""

    def __init__(self, name: str, told: set[str]) -> None:
        self.name = name
        self._told = told

    def definitions(self) -> Definitions:
        return Definitions()

    def watch(self, watcher: Any) -> Any:
        del watcher
        return lambda: None

    def forget_sessions(self, sessions: Collection[str]) -> None:
        self._told.update(sessions)


class HandshakeTests(PairTestCase):
    """Sessions, which are nobody's until something of them lives."""

    def test_a_question_is_answered_elsewhere(self) -> None:
        session = self.session(self.here)
        calling = self.here.legacy("tools/call", {"name": "confirm"}, exchange=self.http(session))
        self.turn()
        question = calling.notifications[-1]
        answering = self.http(session)
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": ANSWER}
        self.there.channel.received(msgspec.json.encode(answer), answering)
        self.turn()
        self.assertEqual(answering.accepted, 1)
        self.assertEqual(calling.notifications[-1]["result"]["content"][0]["text"], "accept")
        unknown = self.http(session)
        self.there.channel.received(msgspec.json.encode(answer | {"id": 5}), unknown)
        self.assertEqual(unknown.accepted, 1)

    def test_a_cancellation(self) -> None:
        session = self.session(self.here)
        calling = self.here.legacy("tools/call", {"name": "confirm"}, exchange=self.http(session), id=9)
        self.turn()
        self.assertEqual(self.here.server.in_flight, 1)
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
        cancelling = self.http(session)
        self.there.channel.received(msgspec.json.encode(note), cancelling)
        self.turn()
        self.assertEqual((cancelling.accepted, self.here.server.in_flight), (1, 0))
        del calling

    def test_the_rest_of_a_stream(self) -> None:
        session = self.session(self.here)
        left = self.here.legacy("tools/call", {"name": "wait"}, exchange=self.http(session))
        self.turn()
        ((event, _),) = left.primed
        coming = self.http(session, last_event_id=event)
        self.there.channel.opened(coming)
        self.turn()
        self.waiting[0].callback(None)
        self.turn()
        self.assertEqual(coming.notifications[-1]["result"]["content"][0]["text"], "waited")
        self.assertTrue(self.here.server.quiet)

    def test_what_is_owed(self) -> None:
        """Answered while nobody listens: it is not to go before its client has come."""
        session = self.session(self.here)
        left = self.here.legacy("tools/call", {"name": "wait"}, exchange=self.http(session))
        self.turn()
        self.waiting[0].callback(None)
        self.turn()
        self.assertFalse(self.here.server.quiet)
        coming = self.http(session, last_event_id=left.primed[0][0])
        self.there.channel.opened(coming)
        self.turn()
        self.assertTrue(coming.notifications)
        self.assertTrue(self.here.server.quiet)

    def test_a_listening_stream_moves(self) -> None:
        session = self.session(self.here)
        listening = self.http(session)
        self.here.channel.opened(listening)
        self.here.legacy("resources/subscribe", {"uri": "test://thing"}, exchange=self.http(session))
        self.turn()
        ((event, _),) = listening.primed
        self.here.channel.closed(listening)
        self.provided[0].notify_updated("test://thing")
        self.turn()
        coming = self.http(session, last_event_id=event)
        self.there.channel.opened(coming)
        self.turn()
        self.assertEqual([one["method"] for one in coming.notifications], ["notifications/resources/updated"])
        self.provided[0].notify_updated("test://thing")
        self.turn()
        self.assertEqual(len(coming.notifications), 2)
        self.assertEqual(len(self.here.server.sessions), 0)

    def test_a_listening_stream_whose_worker_goes(self) -> None:
        session = self.session(self.here)
        listening = self.http(session)
        self.here.channel.opened(listening)
        coming = self.http(session, last_event_id=listening.primed[0][0])
        self.relays[1].within(self.scope).take_stream = lambda *_: Deferred.fromCoroutine(_lost())  # type: ignore[method-assign]
        self.there.channel.opened(coming)
        self.turn()
        self.assertEqual(coming.replies, [])
        self.assertEqual(self.relays[0].within(self.scope).streams("no", "such", 1), [])

    def test_what_is_stored_is_heard(self) -> None:
        session = self.session(self.here)
        for house in (self.here, self.there):
            said = house.legacy("tools/call", {"name": "say"}, exchange=self.http(session))
            self.assertEqual(said.notifications, [])
        self.here.legacy("logging/setLevel", {"level": "debug"}, exchange=self.http(session))
        self.turn()
        for house in (self.here, self.there):
            said = house.legacy("tools/call", {"name": "say"}, exchange=self.http(session))
            self.turn()
            self.assertEqual(said.notifications[0]["method"], "notifications/message")
        self.here.legacy("logging/setLevel", {"level": "info"}, exchange=self.http(session))
        self.turn()
        said = self.there.legacy("tools/call", {"name": "say"}, exchange=self.http(session))
        self.assertEqual(said.notifications, [])

    def test_the_end_is_heard(self) -> None:
        session = self.session(self.here)
        listening, calling = self.http(session), self.http(session)
        self.here.channel.opened(listening)
        self.here.legacy("tools/call", {"name": "wait"}, exchange=calling)
        self.turn()
        ending = self.http(session)
        self.there.channel.deleted(ending)
        self.turn()
        self.assertEqual(ending.replies[0][0], 204)
        self.assertEqual((listening.left, self.here.server.in_flight), (1, 0))
        pinging = self.here.legacy("ping", exchange=self.http(session))
        self.assertEqual(pinging.replies[0][0], 404)

    def test_backends_hear_of_the_end_in_every_worker(self) -> None:
        """Wherever it comes to, and also where nothing of the session was alive."""
        told: dict[str, set[str]] = {"here": set(), "there": set()}
        for name, house in (("here", self.here), ("there", self.there)):
            house.catalog.add_backend(Forgetful(name, told[name]))
        session, other = self.session(self.here), self.session(self.here)
        self.there.channel.deleted(self.http(session))
        self.turn()
        self.assertEqual(told["here"], told["there"])
        self.assertEqual(len(told["here"]), 1)
        self.assertEqual(self.here.legacy("ping", exchange=self.http(other)).replies[0][0], 200)

    def test_a_stream_that_is_opened_late(self) -> None:
        """With one that is to go: its client is sent on."""
        session = self.session(self.here)
        self.here.server.retire()
        late = self.http(session)
        self.here.channel.opened(late)
        self.assertEqual(late.left, 1)


class ViewModernTests(ModernTests):
    """Of the server of a view, with that of everything and of another beside it."""

    scopes = ("", "team", "other?search")
    scope = "team"


class ViewHandshakeTests(HandshakeTests):
    """Likewise."""

    scopes = ViewModernTests.scopes
    scope = "team"


class EverythingBesideViewsModernTests(ModernTests):
    """Of the server of everything, which was made first."""

    scopes = ViewModernTests.scopes


class EverythingBesideViewsHandshakeTests(HandshakeTests):
    """Likewise."""

    scopes = ViewModernTests.scopes


class ForeignViewTests(PairTestCase):
    """What one view gives a client is nothing to another in another worker."""

    scopes = ("", "team")
    scope = "team"

    def test_a_retry_elsewhere(self) -> None:
        state = self.here.call("confirm", capabilities=CAN).result["requestState"]
        params = {"requestState": state, "inputResponses": {"sure": ANSWER}}
        everything = self.houses[2]
        exchange = everything.call("confirm", capabilities=CAN, params=params)
        self.turn()
        self.assertEqual(exchange.replies[0][1]["error"]["code"], -32602)
        self.assertFalse(self.here.server.quiet, "the call is still parked")

    def test_a_view_that_a_reload_has_taken_away(self) -> None:
        state = self.here.call("confirm", capabilities=CAN).result["requestState"]
        del self.relays[0].channels["test", "team"]
        params = {"requestState": state, "inputResponses": {"sure": ANSWER}}
        exchange = self.there.call("confirm", capabilities=CAN, params=params)
        self.turn()
        self.assertIn("outcome is unknown", exchange.replies[0][1]["error"]["message"])


async def _lost() -> list[bytes]:
    raise LineLost("gone")
