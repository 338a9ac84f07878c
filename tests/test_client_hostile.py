"""Servers that do what they should not, and moments at which nobody wants anything to happen."""

import contextlib
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import (
    Answers,
    BadAnswer,
    Busy,
    Cache,
    CannotAnswer,
    Change,
    Client,
    Disconnected,
    Target,
    TimedOut,
    WireError,
    http,
)
from erlmcp.client import _client as client_module
from erlmcp.client._answers import with_defaults
from erlmcp.client._conversation import Conversation
from erlmcp.client._mirrors import Mirrors
from erlmcp.client._results import (
    CallResult,
    CompletionResult,
    DiscoverResult,
    InitializeResult,
    InputRequired,
    PromptResult,
    ReadResult,
    Resource,
    Tool,
    read,
)
from erlmcp.client._rounds import needs_input
from erlmcp.testing import StubServer
from erlmcp.timing import Wheel
from tests.client_doubles import FakePool, Permits
from tests.test_client_client import Answered

DONE: dict[str, Any] = {"resultType": "complete", "content": []}


def note(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params}


def forms(properties: Any) -> dict[str, Any]:
    params = {"message": "?", "requestedSchema": {"type": "object", "properties": properties}}
    return {"method": "elicitation/create", "params": params}


class WaitingTests(Answered):
    """Limits of time, and what makes them stand still."""

    def test_an_answered_question_starts_the_clock_anew(self) -> None:
        """A user who takes nearly as long as a call may take leaves the server its own time."""
        thinking: Deferred[Any] = Deferred()
        stub = self.stub("2025-11-25")
        stub.on("tools/call", None)
        client = self.client(stub, answers=Answers(elicit=lambda question: thinking), timeout=60, longest=100)
        calling = client.call("x")
        stub.wire.say({"jsonrpc": "2.0", "id": 1, **forms({})})
        for _ in range(1199):
            self.clock.advance(0.1)
        thinking.callback({})
        self.clock.advance(50)
        self.assertNoResult(calling)
        self.clock.advance(11)
        self.failureResultOf(calling, TimedOut)

    def test_questions_that_are_refused_buy_no_time(self) -> None:
        stub = self.stub("2025-11-25")
        stub.on("tools/call", None)
        calling = self.client(stub, timeout=60, longest=100).call("x")
        for number in range(11):
            stub.wire.say({"jsonrpc": "2.0", "id": number, **forms({})})
            self.clock.advance(10)
        self.failureResultOf(calling, TimedOut)

    def test_a_user_who_is_asked_for_authorization_takes_his_time(self) -> None:
        clock, pool, permits = Clock(), FakePool(), Permits()
        permits.verdicts = [Deferred()]
        target = http(clock, "https://mcp.example/", pool=pool, authorization=permits)  # type: ignore[arg-type]
        client = Client(target, clock, timeout=10, longest=20, connect_timeout=10)
        connecting = client.connect()
        clock.advance(250)
        self.assertNoResult(connecting)
        permits.waiting[0].callback([])
        clock.advance(9)
        self.assertNoResult(connecting)
        clock.advance(2)
        self.failureResultOf(connecting, TimedOut)
        self.assertTrue(pool.last.aborted)
        self.successResultOf(client.close())
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_those_who_gave_up_waiting_are_forgotten(self) -> None:
        stub = self.stub()
        stub.on("tools/call", None)
        client = self.client(stub, in_flight=1, waiting=2)
        first = client.call("x")
        for _ in range(1000):
            waits = client.call("y")
            waits.cancel()
            self.failureResultOf(waits, CancelledError)
        edge = client._connection.edge
        assert edge is not None
        self.assertLess(len(edge.conversation._queue), 100)
        waits = client.call("z")
        stub.wire.answer(stub.requests[-1]["id"], DONE)
        self.successResultOf(first)
        self.assertEqual(stub.asked("tools/call")[-1]["name"], "z")
        waits.cancel()
        self.failureResultOf(waits)

    def test_no_more_wait_for_a_connection_than_for_an_answer(self) -> None:
        stub = self.stub()
        stub.on("server/discover", None)
        client = self.client(stub, waiting=2)
        first, second, third = (client.call("x") for _ in range(3))
        self.assertRegex(str(self.failureResultOf(third, Busy).value), "2 calls wait for the connection")
        first.cancel()
        self.failureResultOf(first)
        fourth = client.call("x")
        self.assertNoResult(fourth)
        self.successResultOf(client.close())
        for one in (second, fourth):
            self.failureResultOf(one, Disconnected)


class Failing:
    """A wire that takes nothing."""

    linked, session, peer = False, None, "failing"

    def __init__(self) -> None:
        self.take = True
        self.kept: list[Any] = []

    def open(self, inbox: Any) -> "Deferred[None]":
        self.inbox = inbox
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def send(self, outgoing: Any) -> None:
        if self.take:
            self.kept.append(outgoing)
        else:
            self.inbox.failed(outgoing, WireError("full", unsent=True))

    def abandon(self, outgoing: Any) -> None:
        pass

    def close(self) -> "Deferred[None]":
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done


class ConversationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock, tick=0.1)
        self.wire = Failing()
        audience: Any = type(
            "Audience", (), {"lost": lambda self, error: None, "puzzled": lambda self, e: None}
        )()
        self.it = Conversation(self.wire, self.wheel, self.clock, audience, in_flight=1)  # type: ignore[arg-type]
        self.successResultOf(self.it.open())
        self.addCleanup(self.wheel.stop)

    def ask(self, **how: Any) -> "Deferred[Any]":
        return self.it.request(self.it.next_id(), "x", {}, **how).done.deferred()

    def test_a_long_queue_that_fails_at_once(self) -> None:
        """One after the other, not one within the other."""
        waiting = [self.ask() for _ in range(5000)]
        self.wire.take = False
        self.it.received(b'{"jsonrpc":"2.0","id":1,"result":{}}', None)
        self.successResultOf(waiting[0])
        for one in waiting[1:]:
            self.failureResultOf(one, Disconnected)
        self.assertEqual(self.it.under_way, 0)

    def test_one_failure_makes_another_be_given_up(self) -> None:
        first, second, third = (self.ask(timeout=None) for _ in range(3))
        first.addErrback(lambda _: second.cancel())
        self.it.lost(WireError("gone"))
        self.failureResultOf(second, CancelledError)
        self.failureResultOf(third, Disconnected)

    def test_retired(self) -> None:
        """What is under way comes to its end; what has not left, or lasts, does not stay."""
        under_way, queued, lasting = self.ask(), self.ask(), self.ask(timeout=None)
        retired = self.it.retire()
        self.assertIs(self.it.retire(), retired)
        for one in (queued, lasting, self.ask()):
            self.assertTrue(self.failureResultOf(one, Disconnected).value.unsent)
        self.assertNoResult(retired)
        self.it.received(b'{"jsonrpc":"2.0","id":1,"result":{}}', None)
        self.successResultOf(under_way)
        self.successResultOf(retired)
        self.assertTrue(self.failureResultOf(self.ask(), Disconnected).value.unsent)
        self.successResultOf(self.it.retire())

    def test_retired_and_lost_or_closed(self) -> None:
        for end in (lambda: self.it.lost(WireError("gone")), lambda: self.it.close()):
            self.setUp()
            under_way = self.ask()
            retired = self.it.retire()
            end()
            self.failureResultOf(under_way, Disconnected)
            self.successResultOf(retired)


class SessionTests(Answered):
    """A session that is lost with much under way."""

    def test_each_call_hears_of_its_own_fate(self) -> None:
        """None is sent twice that may have been executed, and none fails that was refused."""
        stub = self.stub("2025-11-25", linked=True)
        stub.on("tools/call", None)
        client = self.client(stub, era="handshake")
        done, refused, also = (client.call(name) for name in "abc")
        old = stub.wire
        lost = WireError("HTTP status 404", session_lost=True, status=404)
        stub.on("tools/call", DONE)
        old.fail(3, lost)
        self.successResultOf(refused)
        old.answer(2, DONE)
        self.successResultOf(done)
        old.fail(4, lost)
        self.successResultOf(also)
        self.assertEqual([call["name"] for call in stub.asked("tools/call")], list("abcbc"))
        stub.assert_asked("initialize", 2)
        self.assertIsNone(old.inbox, "it is closed when nothing is under way any more")

    def test_closed_meanwhile(self) -> None:
        stub = self.stub("2025-11-25", linked=True)
        stub.on("tools/call", None)
        client = self.client(stub, era="handshake")
        calling, refused = client.call("a"), client.call("b")
        stub.wire.fail(3, WireError("HTTP status 404", session_lost=True, status=404))
        old, new = stub.wires
        old.say({"jsonrpc": "2.0", "id": 9, "method": "roots/list"})
        self.assertEqual(stub.responses[-1]["error"]["code"], -32601, "it is not asked of the new one")
        self.successResultOf(client.close())
        for one in (calling, refused):
            self.failureResultOf(one, Disconnected)
        self.assertEqual((old.inbox, new.inbox), (None, None))


class NonsenseTests(Answered):
    """Messages that make no sense cost nobody else anything."""

    def test_acknowledged_with_nonsense(self) -> None:
        for params in ("[]", '{"notifications": 7, "_meta": {}}'):
            stub = self.stub(linked=True)
            stub.on("subscriptions/listen", None)
            client = self.client(stub)
            self.successResultOf(client.connect())
            subscription = client.listen(lambda change: None, tools=True)
            raw = b'{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":%b}'
            stub.wire.say(raw % params.encode(), about=2)
            if params != "[]":
                self.assertEqual(self.successResultOf(subscription.acknowledged), {})
            self.assertNoResult(self.client(stub).listen(lambda change: None, tools=True).acknowledged)
            self.successResultOf(client.ping())

    def test_who_listens_to_a_request_may_fail(self) -> None:
        def watch(method: str, params: Any) -> None:
            raise RuntimeError(method)

        stub = self.stub()
        stub.on("x/y", None)
        client = self.client(stub)
        asking = client.request("x/y", watch=watch)
        stub.wire.say(note("progress", progressToken=2, progress=1))
        [failure] = self.flushLoggedErrors(RuntimeError)
        self.assertEqual(str(failure.value), "notifications/progress")
        stub.wire.answer(2, {})
        self.successResultOf(asking)

    def test_an_answer_that_is_no_json(self) -> None:
        stub = self.stub("2025-11-25")
        answers = Answers(
            sample=lambda params: {
                "role": "assistant",
                "content": {"type": "text", "text": "x"},
                "model": "m",
                "x": object(),
            }
        )
        self.successResultOf(self.client(stub, answers=answers).connect())
        stub.wire.say(
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "sampling/createMessage",
                "params": {"messages": [], "maxTokens": 1},
            }
        )
        self.assertEqual(stub.responses[-1]["error"]["message"], "the client failed to answer")
        self.flushLoggedErrors(TypeError)

    def test_tools_for_sampling_must_have_been_declared(self) -> None:
        stub = self.stub("2025-11-25")
        answers = Answers(sample=lambda params: self.fail("it was asked"))
        self.successResultOf(self.client(stub, answers=answers).connect())
        params = {"messages": [], "maxTokens": 1, "tools": []}
        stub.wire.say({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": params})
        self.assertIn("has not declared sampling.tools", stub.responses[-1]["error"]["message"])

    def test_nothing_that_could_be_asked(self) -> None:
        self.assertRaisesRegex(ValueError, "allow one of the two", Answers, elicit=print, forms=False)

    def test_log_messages_are_told_once(self) -> None:
        stub = self.stub(linked=True)
        stub.on("tools/list", {"tools": []})
        stub.on("tools/call", None)
        own: list[Any] = []
        others: list[Any] = []
        client = self.client(stub, on_log=others.append)
        calls = [
            client.call("x", on_log=own.append),
            client.call("y", on_progress=own.append),
            client.call("z"),
        ]
        for about in (3, 4, 5):
            stub.wire.say(note("message", level="info", data=about), about=about)
        self.assertEqual([one.data for one in own], [3])
        self.assertEqual([one.data for one in others], [4, 5])
        self.successResultOf(client.close())
        for one in calls:
            self.failureResultOf(one, Disconnected)


class SubscriptionTests(Answered):
    def test_ended_by_a_notice(self) -> None:
        """Over a stream a server ends a subscription with notifications/cancelled, and nothing else with it."""
        stub = self.stub()
        stub.on("subscriptions/listen", None)
        stub.on("tools/call", None)
        client = self.client(stub)
        self.successResultOf(client.connect())
        client.listen(lambda change: None, tools=True)
        calling = client.call("x")
        for bad in (
            note("cancelled", requestId=3),
            note("cancelled", requestId="2"),
            note("cancelled", requestId=[]),
        ):
            stub.wire.say(bad)
        self.assertNoResult(calling)
        stub.assert_asked("subscriptions/listen", 1)
        stub.wire.say(note("cancelled", requestId=2))
        self.clock.advance(1)
        stub.assert_asked("subscriptions/listen", 2)
        calling.cancel()
        self.failureResultOf(calling)

    def test_who_hears_of_a_change_is_not_answered_with_what_was_kept(self) -> None:
        for version in ("2026-07-28", "2025-11-25"):
            stub = self.stub(version, tools={"listChanged": True})
            stub.on("subscriptions/listen", None)
            stub.on("tools/list", {"tools": [], "ttlMs": 60_000, "cacheScope": "private"})
            client = self.client(stub)
            self.successResultOf(client.list_tools())
            self.successResultOf(client.list_tools())
            stub.assert_asked("tools/list", 1)
            client.listen(lambda change: client.list_tools() and None, tools=True)  # noqa: B023 - used at once
            about = stub.requests[-1]["id"]
            stub.wire.say(note("tools/list_changed", _meta={"io.modelcontextprotocol/subscriptionId": about}))
            stub.assert_asked("tools/list", 2)

    def test_after_a_gap_too(self) -> None:
        stub = self.stub(linked=True)
        stub.on("subscriptions/listen", None)
        stub.on("tools/list", {"tools": [], "ttlMs": 60_000, "cacheScope": "private"})
        client = self.client(stub)
        self.successResultOf(client.list_tools())
        heard: list[Change] = []
        client.listen(heard.append, tools=True)
        about = stub.requests[-1]["id"]
        stub.wire.answer(about, {"resultType": "complete"})
        self.clock.advance(1)
        about = stub.requests[-1]["id"]
        stub.wire.say(note("subscriptions/acknowledged", notifications={}), about=about)
        self.assertEqual(heard, [Change("tools")])
        self.successResultOf(client.list_tools())
        stub.assert_asked("tools/list", 2)

    def test_subscribed_once(self) -> None:
        """Whoever asked for a connection before the subscription's own turn came has subscribed it already."""
        stub = self.stub("2025-11-25", resources={"subscribe": True})
        stub.on("resources/subscribe", {})
        client = self.client(stub, era="handshake")
        client.listen(lambda change: None, uris=["a://b"])
        self.successResultOf(client.connect())
        self.clock.advance(60)
        stub.assert_asked("resources/subscribe", 1)


class ListTests(Answered):
    def test_lists_have_a_bound_in_bytes(self) -> None:
        self.patch(client_module, "_MOST_LISTED", 1000)
        stub = self.stub()
        count = iter(range(10**6))
        stub.on("tools/list", lambda params: {"tools": [], "nextCursor": f"{next(count)}" + "x" * 300})
        error = self.failureResultOf(self.client(stub).list_tools(), BadAnswer).value
        self.assertRegex(str(error), "its pages do not end: [34] so far")

    def test_lists_keep_to_the_clients_limits(self) -> None:
        stub = self.stub()
        stub.on("tools/list", None)
        listing = self.client(stub, timeout=5).list_tools()
        self.clock.advance(6)
        self.failureResultOf(listing, TimedOut)

    def test_learning_the_headers_has_a_limit(self) -> None:
        """Pages that each come just in time."""
        stub = self.stub(linked=True)
        stub.on("tools/list", None)
        client = self.client(stub, timeout=10, longest=25)
        calls = [client.call("x"), client.call("y")]
        for number in range(3):
            self.clock.advance(9)
            if stub.wire.open_requests:
                stub.wire.answer(stub.requests[-1]["id"], {"tools": [], "nextCursor": f"{number}"})
        for one in calls:
            self.assertRegex(
                str(self.failureResultOf(one, TimedOut).value), "tools/list: its pages do not end within 25 s"
            )
        stub.assert_asked("tools/call", 0)

    def test_many_mismatches_list_once(self) -> None:
        stub = self.stub(linked=True)
        stub.on("tools/list", {"tools": []})
        stub.on("tools/call", None)
        client = self.client(stub)
        calls = [client.call("x") for _ in range(3)]
        stub.on("tools/list", None)
        ids = [one["id"] for one in stub.requests if one["method"] == "tools/call"]
        for one in ids:
            stub.wire.answer(one, error={"code": -32020, "message": "mismatch"}, status=400)
        stub.assert_asked("tools/list", 2)
        stub.on("tools/call", DONE)
        stub.wire.answer(next(iter(stub.wire.open_requests)), {"tools": []})
        for call in calls:
            self.successResultOf(call)
        self.successResultOf(client.call("of none of them"))
        stub.assert_asked("tools/list", 2)

    def test_tools_that_change_while_they_are_listed(self) -> None:
        """What was learnt before is forgotten, and not taken for complete."""
        stub = self.stub(linked=True)
        stub.on("tools/list", {"tools": [], "nextCursor": "2"}, None)
        stub.on("tools/call", DONE)
        client = self.client(stub)
        listing = client.list_tools()
        stub.wire.say(note("tools/list_changed"))
        stub.on("tools/list", {"tools": []})
        stub.wire.answer(stub.requests[-1]["id"], {"tools": []})
        self.successResultOf(listing)
        self.successResultOf(client.call("x"))
        stub.assert_asked("tools/list", 3)


class CacheTests(Answered):
    def test_an_answer_that_was_under_way_when_it_changed(self) -> None:
        stub = self.stub(linked=True)
        fresh = {"tools": [], "ttlMs": 60_000, "cacheScope": "public"}
        stub.on("tools/list", None)
        client = self.client(stub)
        listing = client.list_tools()
        stub.wire.say(note("tools/list_changed"))
        stub.on("tools/list", fresh)
        stub.wire.answer(stub.requests[-1]["id"], fresh)
        self.successResultOf(listing)
        self.successResultOf(client.list_tools())
        stub.assert_asked("tools/list", 2)

    def test_two_places_of_one_name(self) -> None:
        """The query of a URL is not shown, and may yet be what tells two tenants apart."""
        clock, pool = Clock(), FakePool()
        targets = [http(clock, f"https://mcp.example/?tenant={one}", pool=pool) for one in "ab"]  # type: ignore[arg-type]
        self.assertEqual(targets[0].peer, targets[1].peer)
        self.assertNotEqual(targets[0].place, targets[1].place)
        cache = Cache(clock.seconds)
        answers = []
        for place in "ab":
            stub = StubServer(capabilities={"tools": {}})
            name = {"name": place, "inputSchema": {"type": "object"}}
            stub.on("tools/list", {"tools": [name], "ttlMs": 60_000, "cacheScope": "public"})
            client = Client(Target("same", stub.target.make_wire, place=place), clock, cache=cache)
            self.addCleanup(client.close)
            answers.append(self.successResultOf(client.list_tools())[0].name)
        self.assertEqual(answers, ["a", "b"])


WORDS = [
    *("type", "properties", "enum", "items", "oneOf", "anyOf", "const", "pattern", "minimum", "required"),
    *("maxLength", "default", "$ref", "x-mcp-header", "mode", "message", "requestedSchema", "url", "content"),
    *(
        "text",
        "data",
        "mimeType",
        "resource",
        "uri",
        "name",
        "tools",
        "inputSchema",
        "_meta",
        "messages",
        "role",
    ),
    *(
        "supportedVersions",
        "capabilities",
        "serverInfo",
        "protocolVersion",
        "completion",
        "values",
        "contents",
    ),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)


class PropertyTests(SynchronousTestCase):
    """Whatever JSON a server sends: an answer, or an error of the kinds that are expected."""

    @settings(deadline=None)
    @given(JSON, JSON)
    def test_questions(self, params: Any, answer: Any) -> None:
        answers = Answers(
            elicit=lambda question: answer, urls=True, sample=lambda p: answer, roots=lambda: [answer]
        )
        for method in ("elicitation/create", "sampling/createMessage", "roots/list"):
            for asked in (params, {"message": "", "requestedSchema": params, "url": params, "mode": "form"}):
                outcome = Deferred.fromCoroutine(answers.answer(method, asked))
                if not isinstance(outcome.result, dict):
                    self.failureResultOf(outcome, CannotAnswer)
        self.flushLoggedErrors()

    @settings(deadline=None)
    @given(JSON)
    def test_results(self, result: Any) -> None:
        raw = msgspec.Raw(msgspec.json.encode(result))
        for shape in (CallResult, PromptResult, ReadResult, CompletionResult, Tool, Resource, InputRequired):
            with contextlib.suppress(msgspec.DecodeError):
                read(shape, raw)
        for greeting in (DiscoverResult, InitializeResult):
            with contextlib.suppress(msgspec.DecodeError, ValueError):
                read(greeting, raw).server()
        with contextlib.suppress(BadAnswer):
            needs_input(raw, "tools/call", "stub")

    @settings(deadline=None)
    @given(JSON)
    def test_schemas_of_tools(self, schema: Any) -> None:
        mirrors = Mirrors()
        tool = {"name": "x", "inputSchema": schema if isinstance(schema, dict) else {}}
        found = mirrors.learn([read(Tool, msgspec.Raw(msgspec.json.encode(tool)))], "stub", linked=True)
        if found:
            self.assertIsNotNone(mirrors.headers("x", {"type": 1}))
        with_defaults(tool["inputSchema"], {})


class HeaderTests(SynchronousTestCase):
    def test_numbers_that_are_integers(self) -> None:
        mirrors = Mirrors()
        schema = {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}}
        tool = read(Tool, msgspec.Raw(msgspec.json.encode({"name": "x", "inputSchema": schema})))
        mirrors.learn([tool], "stub", linked=True)
        for value, headers in (
            (42.0, ((b"mcp-param-n", b"42"),)),
            (42, ((b"mcp-param-n", b"42"),)),
            (0.5, ()),
            (None, ()),
        ):
            self.assertEqual(mirrors.headers("x", {"n": value}), headers)
