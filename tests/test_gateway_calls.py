"""Calls through the gateway when all does not go well: made again or not, errors in this hop's words, limits held."""

from typing import Any
from unittest import mock

from erlmcp.client import Answers, WireError, accept
from erlmcp.gateway._leases import PoolSettings
from erlmcp.governor import BreakerState
from erlmcp.protocol import MODERN, McpError
from tests.gateway_stub import ANNE, BERT, HANDSHAKE, StubCase, said

LOST = WireError("the connection was reset")
UNSENT = WireError("the connection was closed before", unsent=True)


class BookingTests(StubCase):
    def test_what_fails_here_is_answered(self) -> None:
        """A defect of ours in the middle of a call must not leave its client without an answer."""
        self.begin()
        self.stub.on("tools/call", self.said("yes"))
        self.call()
        leases = self.stage.upstream.leases

        def fail(*_: Any, **__: Any) -> None:
            raise AssertionError("a defect")

        with mock.patch.object(leases, "give_back", fail):
            error = self.error(self.call())
        self.assertEqual(error.code, -32603)
        self.assertEqual(len(self.flushLoggedErrors()), 1)


class AgainTests(StubCase):
    """What is made a second time, and what is not."""

    def test_harmless_ones_are(self) -> None:
        for version in (MODERN, HANDSHAKE):
            for tool in ("look", "put"):
                self.begin(version)
                self.stub.on("tools/call", LOST, self.said("yes"))
                self.assertEqual(self.text(self.call(f"far.{tool}")), "yes")
                self.stub.assert_asked("tools/call", 2, name=tool)

    def test_reads_are(self) -> None:
        self.begin()
        contents = self.page(contents=[{"uri": "note://a", "text": "A"}])
        self.stub.on("resources/read", LOST, contents)
        self.stub.on("prompts/get", LOST, {"resultType": "complete", "messages": []})
        client = self.stage.client(MODERN)
        self.assertEqual(self.successResultOf(client.read("far+note://a")).contents[0].text, "A")
        self.successResultOf(client.get("far.greet"))
        self.stub.assert_asked("prompts/get", 2)

    def test_others_are_not(self) -> None:
        for version in (MODERN, HANDSHAKE):
            self.begin(version)
            self.stub.on("tools/call", LOST, self.said("twice"))
            error = self.error(self.call())
            self.assertEqual(error.code, -31004)
            self.assertIn("far was lost while it worked on this: the outcome is unknown", error.message)
            self.assertEqual(error.data, {"upstream": "far"})
            self.stub.assert_asked("tools/call", 1)

    def test_unsent_ones_are(self) -> None:
        self.begin()
        self.stub.on("tools/call", UNSENT, self.said("yes"))
        self.assertEqual(self.text(self.call()), "yes")

    def test_what_was_lost_may_have_been_done(self) -> None:
        """However the second try ends: nobody says any more that nothing was."""
        self.begin()
        self.stub.on("tools/call", LOST, UNSENT, UNSENT)
        error = self.error(self.call("far.look"))
        self.assertNotIn("nothing was executed", error.message)
        self.assertIn("it does no harm to make the call again", error.message)

    def test_each_reason_counts_once(self) -> None:
        self.begin()
        self.stub.on("tools/call", UNSENT)
        error = self.error(self.call())
        self.assertEqual(error.code, -31002)
        self.assertIn("nothing was executed", error.message)
        self.stub.assert_asked("tools/call", 2)
        self.stub.on("tools/call", LOST)
        error = self.error(self.call("far.look"))
        self.assertEqual((error.code, len(self.stub.asked("tools/call"))), (-31002, 4))
        self.assertNotIn("nothing was executed", error.message)

    def test_a_status_says_that_it_was_seen(self) -> None:
        self.begin(linked=True)
        self.stub.on("tools/call", WireError("HTTP 502", status=502))
        self.assertEqual(self.error(self.call("far.pay")).code, -31004)
        self.stub.assert_asked("tools/call", 1)
        self.stub.on("tools/call", WireError("HTTP 403", status=403))
        self.assertEqual(self.error(self.call("far.pay")).code, -31002)

    def test_a_lost_session(self) -> None:
        """404: a new session is begun, and the call made again; others on the old one come to their end."""
        self.begin(HANDSHAKE, linked=True)
        client = self.stage.client(MODERN)
        self.stub.on("tools/call", None)
        other = self.call(client=client)
        [held] = [one for one in self.stub.wires if one.open_requests]
        self.stub.on(
            "tools/call",
            WireError("no such session", session_lost=True, unsent=True, status=404),
            self.said("yes"),
        )
        self.stub.requests.clear()
        self.assertEqual(self.text(self.call(client=client)), "yes")
        self.assertEqual(
            [one["method"] for one in self.stub.requests if not one["method"].endswith("/list")],
            ["tools/call", "initialize", "tools/call"],
        )
        self.assertNoResult(other)
        [number] = [number for number, one in held.open_requests.items() if one.method == "tools/call"]
        held.answer(number, self.said("late"))
        self.assertEqual(self.text(other), "late")

    def test_a_session_lost_for_good(self) -> None:
        self.begin(HANDSHAKE, linked=True)
        self.stub.on("tools/call", WireError("no", session_lost=True, unsent=True, status=404))
        self.assertEqual(self.error(self.call()).code, -31002)
        self.stub.assert_asked("tools/call", 2)

    def test_headers_that_do_not_fit(self) -> None:
        """-32020: the tools are listed again, and the call made once more, with the headers of the new list."""
        self.begin(linked=True)
        properties = {"region": {"type": "string", "x-mcp-header": "Region"}}
        self.listing(properties=properties)
        self.stub.on("tools/call", McpError(-32020, "Header mismatch"), self.said("yes"))
        calling = self.stage.client(MODERN).call("far.pay", {"region": "north"})
        self.stage.clock.pump([0.1] * 30)
        self.assertEqual(self.text(calling), "yes")
        sent = [one for one in self.stub.headers if one.get(b"mcp-method") == b"tools/call"]
        self.assertEqual([one.get(b"mcp-param-region") for one in sent], [None, b"north"])
        self.stub.on("tools/call", McpError(-32020, "Header mismatch"))
        calling = self.stage.client(MODERN).call("far.pay", {"region": "north"})
        self.stage.clock.pump([0.1] * 30)
        self.assertEqual(self.error(calling).code, -32603)
        self.stub.assert_asked("tools/call", 4)

    def test_another_era(self) -> None:
        """An upstream that has become one of the handshake era refuses the form: it is probed, and asked again."""
        for refusal in (
            McpError(-32022, "Unsupported protocol version"),
            McpError(-32600, "Bad Request: no session", status=400),
            WireError("HTTP 404: not found", status=404),
        ):
            self.begin(linked=True)
            self.stub.version = HANDSHAKE
            self.stub.on("server/discover")
            greeting = {"protocolVersion": HANDSHAKE, "capabilities": {"tools": {}}, "serverInfo": INFO}
            self.stub.on("initialize", greeting)
            self.stub.on("tools/call", refusal, said("yes", HANDSHAKE))
            self.assertEqual(self.text(self.call()), "yes", str(refusal))
            self.assertEqual(self.stage.upstream.era, "handshake")

    def test_the_same_era(self) -> None:
        """It is what it was: its refusal was its answer, and the call is not made again."""
        self.begin(linked=True)
        self.stub.on("tools/call", WireError("HTTP 404: not found", status=404))
        self.assertIn("HTTP 404", self.error(self.call()).message)
        self.stub.assert_asked("tools/call", 1)
        self.begin(HANDSHAKE, linked=True)
        self.stub.on("tools/call", McpError(-32602, "no such tool", status=400))
        self.assertEqual(self.error(self.call()).code, -32602)
        self.stub.assert_asked("tools/call", 1)

    def test_a_session_that_is_not_taken(self) -> None:
        """Some servers say 400 of a session that they do not know."""
        self.begin(HANDSHAKE, linked=True)
        refusal = McpError(-32000, "Bad Request: No valid session ID provided", status=400)
        self.stub.on("tools/call", refusal, self.said("yes"))
        self.assertEqual(self.text(self.call()), "yes")
        self.stub.assert_asked("initialize", 1)

    def test_budget(self) -> None:
        """No more retries than the budget has: ten in ten seconds, and a tenth of the calls."""
        self.begin()
        self.stub.on("tools/call", UNSENT)
        client = self.stage.client(MODERN)
        for _ in range(19):
            self.error(client.call("far.pay"))
        self.assertEqual(len(self.stub.asked("tools/call")), 19 + 11)

    def test_not_after_a_question(self) -> None:
        """What its client was asked for is not asked for again, however harmless the tool."""
        self.begin(HANDSHAKE)
        self.stub.on("tools/call", None)
        asked: list[str] = []
        answers = Answers(elicit=lambda question: accept({"asked": asked.append(question.message)}))
        calling = self.call("far.look", self.stage.client(HANDSHAKE, answers=answers))
        wire = self.stub.wire
        schema = {"type": "object", "properties": {}}
        params = {"message": "Sure?", "requestedSchema": schema}
        wire.say({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": params})
        self.stage.clock.advance(1)
        self.assertEqual((asked, len(self.stub.responses)), (["Sure?"], 1))
        wire.cut()
        self.assertEqual(self.error(calling).code, -31002)
        self.stub.assert_asked("tools/call", 1)


INFO = {"name": "stub", "version": "1"}


class ErrorTests(StubCase):
    """The table of errors, row by row."""

    def refused(self, error: McpError, client: str = MODERN, **options: Any) -> McpError:
        self.stub.on("tools/call", error)
        return self.error(self.call(client=self.stage.client(client, **options)))

    def test_errors_of_the_call_pass(self) -> None:
        for version in (MODERN, HANDSHAKE):
            self.begin(version)
            for code in (-32602, -32603, 17, -1, -31001, -31004):
                error = self.refused(McpError(code, "no", {"a": 1}))
                self.assertEqual((error.code, error.message, error.data), (code, "no", {"a": 1}))

    def test_no_such_resource(self) -> None:
        for version, code in ((MODERN, -32602), (HANDSHAKE, -32002)):
            for client, wanted in ((MODERN, -32602), (HANDSHAKE, -32002)):
                self.begin(version)
                self.stub.on("resources/read", McpError(code, "Resource not found", {"uri": "note://a"}))
                error = self.error(self.stage.client(client).read("far+note://a"))
                self.assertEqual(error.data, {"uri": "far+note://a"}, "its name here, once")
                if version == HANDSHAKE:
                    self.assertIn(error.code, (wanted, -32602))

    def test_capabilities(self) -> None:
        self.begin()
        needs = McpError(
            -32021, "missing", {"requiredCapabilities": {"elicitation": {"url": {}}, "roots": {}}}
        )
        error = self.refused(needs)
        self.assertEqual(error.code, -32021)
        self.assertEqual(error.data, {"requiredCapabilities": {"elicitation": {"url": {}}, "roots": {}}})
        some = Answers(elicit=lambda _: accept({}), roots=[{"uri": "file:///"}])
        error = self.refused(needs, answers=some)
        self.assertEqual(error.data, {"requiredCapabilities": {"elicitation": {"url": {}}}})
        needs = McpError(-32021, "missing", {"requiredCapabilities": {"elicitation": {"form": {}}}})
        self.assertEqual(self.refused(needs, answers=some).code, -32603, "this client has declared it")
        self.assertEqual(self.refused(McpError(-32021, "missing")).code, -32603)
        self.begin(HANDSHAKE)
        told = McpError(-32600, "missing", {"requiredCapabilities": {"sampling": {}}})
        self.assertEqual(self.refused(told).code, -32021, "as servers of ours say it in that era")

    def test_what_is_about_this_hop(self) -> None:
        self.begin()
        for code in (-32020, -32099, -32050, -32600, -32601, -32700, -32042):
            error = self.refused(McpError(code, "no good"))
            self.assertEqual((error.code, error.data), (-32603, {"upstream": "far"}), str(code))
            self.assertIn("no good", error.message)

    def test_a_full_upstream(self) -> None:
        self.begin()
        for code in (-31002, -31003, -31005):
            error = self.refused(McpError(code, "busy"))
            self.assertEqual(error.code, -31002, str(code))
            self.assertIn("The upstream far is not available: busy", error.message)

    def test_a_refused_greeting_is_no_answer(self) -> None:
        """What is said to `initialize` is no error of the call: the client's parameters are all right."""
        self.begin(HANDSHAKE)
        self.stub.on("initialize", McpError(-32602, "Unsupported protocol version"))
        self.act_as(ANNE)
        error = self.error(self.call())
        self.assertEqual(error.code, -31002)
        self.assertIn("it refuses initialize: Unsupported protocol version (-32602)", error.message)

    def test_no_answer_at_all(self) -> None:
        self.begin()
        for odd in ([1], {"resultType": "later"}, {"resultType": "input_required"}):
            self.stub.on("tools/call", odd)  # type: ignore[arg-type]
            error = self.error(self.call())
            self.assertEqual(error.code, -32603, str(odd))
            self.assertIn("The upstream far gave a bad answer", error.message)

    def test_last_words(self) -> None:
        """What a child wrote is for the operator, and for a caller whom it serves alone."""
        for version, principal, theirs in (
            (MODERN, ANNE, False),
            (HANDSHAKE, ANNE, True),
            (HANDSHAKE, None, False),
        ):
            self.begin(version, principal=principal)
            self.stub.on("tools/call", WireError("it ended with exit code 3", tail="secret\nstory"))
            error = self.error(self.call())
            self.assertEqual("story" in error.message, theirs, f"{version} {principal}")
            self.assertIn("exit code 3", error.message)

    def test_nowhere_to_connect(self) -> None:
        self.begin(HANDSHAKE, principal=ANNE)
        self.stub.refusal = "connection refused"
        error = self.error(self.call())
        self.assertEqual(error.code, -31002)
        self.assertIn("connection refused; nothing was executed", error.message)
        self.assertEqual(error.data, {"upstream": "far"})

    def test_no_greeting_in_time(self) -> None:
        self.begin(HANDSHAKE, principal=ANNE, connect_timeout=3.0)
        self.stub.on("initialize", None)
        calling = self.call()
        self.stage.clock.pump([1] * 5)
        error = self.error(calling)
        self.assertEqual(error.code, -31002)
        self.assertIn("initialize: no answer within", error.message)


class LimitTests(StubCase):
    """Deadlines, full pools, open breakers, the end."""

    def test_deadline(self) -> None:
        for version in (MODERN, HANDSHAKE):
            self.begin(version)
            self.limit(2)
            self.stub.on("tools/call", None)
            calling = self.call()
            self.stage.clock.pump([0.5] * 8)
            error = self.error(calling)
            self.assertEqual(error.code, -31001)
            self.assertIn("upstream far", error.message)
            self.assertIn("the outcome is unknown", error.message)
            self.assertEqual(error.data["upstream"], "far")
            self.assertIn("requestId", error.data)
            [note] = [one for one in self.stub.notifications if one["method"] == "notifications/cancelled"]
            self.assertIn(note["params"]["requestId"], [one["id"] for one in self.stub.requests])

    def test_deadline_of_what_may_be_made_again(self) -> None:
        self.begin()
        self.limit(2)
        self.stub.on("tools/call", None)
        calling = self.call("far.look")
        self.stage.clock.pump([0.5] * 8)
        self.assertIn("it does no harm to make the call again", self.error(calling).message)

    def test_deadlines_open_the_breaker(self) -> None:
        """An upstream that hangs is asked no more; what its clients give up says nothing of it."""
        self.begin()
        self.stub.on("tools/call", None)
        client = self.stage.client(MODERN)
        for _ in range(30):
            calling = client.call("far.pay")
            calling.cancel()
            self.failureResultOf(calling)
        self.assertIs(self.stage.upstream.breaker.state, BreakerState.CLOSED)
        self.limit(2)
        waiting = [client.call("far.pay") for _ in range(30)]
        self.stage.clock.pump([0.5] * 8)
        for one in waiting:
            self.assertEqual(self.error(one).code, -31001)
        self.assertIs(self.stage.upstream.breaker.state, BreakerState.OPEN)
        asked = len(self.stub.asked("tools/call"))
        error = self.error(client.call("far.pay"))
        self.assertEqual((error.code, len(self.stub.asked("tools/call"))), (-31002, asked))
        assert isinstance(error.data, dict)
        self.assertEqual(error.data["upstream"], "far")
        self.assertGreater(error.data["retryAfterMs"], 1000)
        self.assertIn("of 20 calls in 10 s failed", error.message)

    def test_the_breaker_closes(self) -> None:
        self.begin()
        self.stub.on("tools/call", McpError(-32603, "broken"))
        client = self.stage.client(MODERN)
        for _ in range(20):
            self.error(client.call("far.pay"))
        self.assertEqual(self.error(client.call("far.pay")).code, -31002)
        self.stub.on("tools/call", self.said("well"))
        self.stage.clock.pump([0.5] * 11)
        for _ in range(4):
            self.assertEqual(self.text(client.call("far.pay")), "well")
        self.assertIs(self.stage.upstream.breaker.state, BreakerState.CLOSED)

    def test_a_full_pool(self) -> None:
        """Calls wait in their order, as long as their deadline lets them, and as many as may."""
        answers = Answers(elicit=lambda _: accept({}))
        self.begin(HANDSHAKE, pool=PoolSettings(size=1, overflow=1, queue=2))
        self.limit(5)
        self.stub.on("tools/call", None)
        client = self.stage.client(MODERN, answers=answers)
        calls = [self.call(client=client) for _ in range(3)]
        self.stub.assert_asked("tools/call", 1)
        error = self.error(self.call(client=client))
        self.assertEqual(error.code, -31002)
        self.assertIn("and 2 calls wait for one", error.message)
        wire = self.stub.wire
        wire.answer(next(iter(wire.open_requests)), self.said("first"))
        self.assertEqual(self.text(calls[0]), "first")
        self.stub.assert_asked("tools/call", 2)
        self.assertNoResult(calls[1])
        self.stage.clock.pump([0.5] * 12)
        self.assertEqual([self.error(one).code for one in calls[1:]], [-31001, -31001])
        self.assertEqual(self.stage.upstream.leases.waiting, 0)

    def test_who_waits_holds_up_nobody_else(self) -> None:
        self.begin(HANDSHAKE, principal=ANNE)
        answers = Answers(elicit=lambda _: accept({}))
        self.stub.on("tools/call", None)
        client = self.stage.client(MODERN, answers=answers)
        for _ in range(2):
            self.call(client=client).addErrback(lambda _: None)
        self.act_as(BERT)
        self.stub.on("tools/call", self.said("at once"))
        self.assertEqual(self.text(self.call(client=client)), "at once")

    def test_a_wire_is_lost_with_many_on_it(self) -> None:
        for version in (MODERN, HANDSHAKE):
            self.begin(version)
            self.stub.on("tools/call", None)
            client = self.stage.client(MODERN)
            calls = [(name, self.call(f"far.{name}", client)) for name in ("pay", "look") * 5]
            wire = next(one for one in self.stub.wires if len(one.open_requests) >= 10)
            self.stub.on("tools/call", self.said("again"))
            wire.cut("it fell over")
            self.stage.clock.pump([0.5] * 10)
            for name, calling in calls:
                if name == "pay":
                    self.assertEqual(self.error(calling).code, -31004)
                else:
                    self.assertEqual(self.text(calling), "again")
            self.assertEqual(self.text(self.call(client=client)), "again", "it is there again")

    def test_stopped(self) -> None:
        """Calls in flight and in the queue end; nothing of them is left."""
        answers = Answers(elicit=lambda _: accept({}))
        for version in (MODERN, HANDSHAKE):
            stage = self.begin(version, pool=PoolSettings(size=1, overflow=1))
            self.stub.on("tools/call", None)
            client = stage.client(MODERN, answers=answers)
            calls = [self.call(f"far.{name}", client) for name in ("pay", "look", "pay")]
            self.successResultOf(stage.upstream.stop())
            self.assertEqual({self.error(one).code for one in calls} - {-31004, -31002}, set())
            self.assertEqual(stage.upstream.leases.waiting, 0)
            self.assertEqual(self.error(self.call(client=client)).code, -31002)

    def test_started_again(self) -> None:
        stage = self.begin()
        self.successResultOf(stage.upstream.stop())
        stage.begin()
        stage.clock.pump([0.1] * 20)
        self.stub.on("tools/call", self.said("back"))
        self.assertEqual(self.text(self.call()), "back")

    def test_cancelled(self) -> None:
        """The upstream is told, on each kind of way to it."""
        for version in (MODERN, HANDSHAKE):
            for linked in (False, True):
                self.begin(version, linked=linked)
                self.stub.on("tools/call", None)
                calling = self.call()
                calling.cancel()
                self.failureResultOf(calling)
                wire = next(one for one in self.stub.wires if one.abandoned)
                [number] = wire.abandoned
                told = [
                    one["params"]["requestId"]
                    for one in self.stub.notifications
                    if "requestId" in one.get("params", {})
                ]
                self.assertEqual(told, [] if linked and version == MODERN else [number])

    def test_cancelled_while_it_waits(self) -> None:
        self.begin(HANDSHAKE, principal=ANNE)
        self.stub.on("initialize", None)
        calling = self.call()
        calling.cancel()
        self.failureResultOf(calling)
        self.assertEqual(self.stub.asked("tools/call"), [])
