"""The client as its callers see it: against a real server in memory, and against a stub."""

from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Context, Provider
from erlmcp.client import (
    Answers,
    BadAnswer,
    Change,
    Client,
    Disconnected,
    LogMessage,
    NotOffered,
    Progress,
    ServerError,
    TextContent,
    TimedOut,
    WireError,
    accept,
)
from erlmcp.protocol import McpError
from erlmcp.testing import Harness, Pair, StubServer


class Answered(SynchronousTestCase):
    """What the tests of a client share."""

    def stub(self, version: str = "2026-07-28", *, linked: bool = False, **capabilities: Any) -> StubServer:
        return StubServer(version, capabilities or {"tools": {}}, linked=linked)

    def client(self, stub: StubServer, **options: Any) -> Client:
        self.clock = Clock()
        client = Client(stub.target, self.clock, **options)
        self.addCleanup(lambda: self.successResultOf(client.close()))
        return client


def demo() -> Provider:
    """A provider with one of everything."""
    provider = Provider("demo")

    @provider.tool(annotations={"readOnlyHint": True})
    async def echo(text: str) -> str:
        """Say it again."""
        return text

    @provider.tool
    async def confirm(ctx: Context) -> str:
        """Ask first."""
        answer = await ctx.elicit("Sure?", {"type": "object", "properties": {"yes": {"type": "boolean"}}})
        return f"{answer}"

    @provider.tool
    async def work(ctx: Context) -> str:
        """Tell how it goes."""
        await ctx.report_progress(1, 2, "half")
        await ctx.report_progress(2, 2)
        return "done"

    @provider.resource("note://{name}", mime_type="text/plain")
    async def note(name: str) -> str:
        """A note."""
        return f"about {name}"

    @provider.resource("config://all")
    async def config() -> str:
        """The configuration."""
        return "{}"

    @provider.prompt
    async def review(code: str) -> str:
        """Review it."""
        return f"review {code}"

    @provider.completion("review", "code")
    async def codes(value: str) -> list[str]:
        return [value + "1", value + "2"]

    return provider


ERAS = (("modern", False), ("modern", True), ("handshake", False), ("handshake", True))


class BothErasTests(SynchronousTestCase):
    """The same calls mean the same in both eras, over streams and over what is like HTTP."""

    def each(self, **options: Any) -> list[Pair]:
        pairs = []
        for era, linked in ERAS:
            pair = Pair(demo(), era=era, linked=linked, **options)
            pairs.append(pair)
            server = self.successResultOf(pair.client.connect())
            self.assertEqual((server.era, server.info.name), (era, "test"))
            self.addCleanup(pair.harness.server.stop)
            self.addCleanup(lambda pair=pair: self.successResultOf(pair.client.close()))
        return pairs

    def test_calls(self) -> None:
        for pair in self.each():
            result = self.successResultOf(pair.client.call("echo", {"text": "hello"}))
            self.assertEqual(result.text, "hello")
            self.assertFalse(result.is_error)
            self.assertEqual([type(one) for one in result.content], [TextContent])

    def test_lists(self) -> None:
        for pair in self.each():
            tools = self.successResultOf(pair.client.list_tools())
            self.assertEqual(sorted(tool.name for tool in tools), ["confirm", "echo", "work"])
            self.assertEqual([tool.name for tool in tools if tool.repeatable], ["echo"])
            [resource] = self.successResultOf(pair.client.list_resources())
            self.assertEqual(resource.uri, "config://all")
            [template] = self.successResultOf(pair.client.list_templates())
            self.assertEqual(template.uri_template, "note://{name}")
            [prompt] = self.successResultOf(pair.client.list_prompts())
            self.assertEqual([one.name for one in prompt.arguments], ["code"])

    def test_pages(self) -> None:
        for era, linked in ERAS:
            pair = Pair(harness=Harness(demo(), page_size=2), era=era, linked=linked)
            self.addCleanup(pair.harness.server.stop)
            names = [tool.name for tool in self.successResultOf(pair.client.list_tools())]
            self.assertEqual(len(names), 3)
            self.assertEqual([one["method"] for one in pair.sent].count("tools/list"), 2)

    def test_reads_gets_completes(self) -> None:
        for pair in self.each():
            client = pair.client
            [contents] = self.successResultOf(client.read("note://x")).contents
            self.assertEqual((contents.text, contents.decoded), ("about x", b"about x"))
            [message] = self.successResultOf(client.get("review", {"code": "abc"})).messages
            self.assertEqual((message.role, message.content.text), ("user", "review abc"))
            done = self.successResultOf(client.complete("code", "a", prompt="review")).completion
            self.assertEqual(done.values, ["a1", "a2"])
            self.successResultOf(client.ping())

    def test_asks(self) -> None:
        asked: list[str] = []

        def elicit(question: Any) -> Any:
            asked.append(question.message)
            return accept({"yes": True})

        for pair in self.each(answers=Answers(elicit=elicit)):
            result = self.successResultOf(pair.client.call("confirm"))
            self.assertIn("yes", result.text)
        self.assertEqual(asked, ["Sure?"] * 4)

    def test_nobody_answers(self) -> None:
        for pair in self.each():
            refused = pair.client.call("confirm")
            error = self.failureResultOf(refused).value
            self.assertIsInstance(error, ServerError)

    def test_progress(self) -> None:
        for pair in self.each():
            heard: list[Progress] = []
            result = self.successResultOf(pair.client.call("work", on_progress=heard.append))
            self.assertEqual(result.text, "done")
            self.assertEqual(heard, [Progress(1, 2, "half"), Progress(2, 2, "")])

    def test_errors(self) -> None:
        for pair in self.each():
            error = self.failureResultOf(pair.client.get("nothing"), ServerError).value
            self.assertEqual((error.code, error.method, error.peer), (-32602, "prompts/get", "memory"))
            self.assertIn("memory: prompts/get: ", str(error))

    def test_listens(self) -> None:
        for pair in self.each():
            heard: list[Change] = []
            subscription = pair.client.listen(heard.append, tools=True, uris=["config://all"])
            self.assertEqual(
                self.successResultOf(subscription.acknowledged),
                {"toolsListChanged": True, "resourceSubscriptions": ["config://all"]},
            )
            [backend] = pair.harness.catalog.backends
            backend.tool(lambda: "x", name="another")
            backend.notify_updated("config://all")
            pair.clock.advance(1)
            self.assertEqual(set(heard), {Change("tools"), Change("resource", "config://all")})
            subscription.close()
            heard.clear()
            backend.notify_updated("config://all")
            pair.clock.advance(1)
            self.assertEqual(heard, [])


class OnlyOneEraTests(SynchronousTestCase):
    """What one era alone has says so in the other."""

    def test_level(self) -> None:
        pair = Pair(demo(), era="handshake")
        self.addCleanup(pair.harness.server.stop)
        self.successResultOf(pair.client.set_level("debug"))
        self.assertEqual(pair.sent[-1]["params"], {"level": "debug"})
        modern = Pair(demo(), era="modern")
        self.addCleanup(modern.harness.server.stop)
        error = self.failureResultOf(modern.client.set_level("debug"), NotOffered).value
        self.assertIn("logging/setLevel is not in revision 2026-07-28", str(error))
        with self.assertRaisesRegex(ValueError, "'loud'; it is one of debug"):
            pair.client.set_level("loud")

    def test_requests(self) -> None:
        pair = Pair(demo(), era="handshake")
        self.addCleanup(pair.harness.server.stop)
        self.failureResultOf(pair.client.request("server/discover"), NotOffered)
        with self.assertRaisesRegex(ValueError, "a prompt or a template"):
            pair.client.complete("code", "a")

    def test_revisions(self) -> None:
        for version in ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"):
            pair = Pair(demo(), era=version)
            self.addCleanup(pair.harness.server.stop)
            self.assertEqual(self.successResultOf(pair.client.connect()).version, version)
            self.assertEqual(self.successResultOf(pair.client.call("echo", {"text": "a"})).text, "a")
        with self.assertRaisesRegex(ValueError, "era is '2023'; it is one of modern, handshake"):
            Pair(demo(), era="2023")


class AnswerTests(Answered):
    """What a server answers, and what it should not."""

    def result(self, **members: Any) -> dict[str, Any]:
        return {"resultType": "complete", **members}

    def test_keeps_what_it_does_not_know(self) -> None:
        stub = self.stub()
        blocks = [{"type": "text", "text": "a", "color": "red"}, {"type": "smell", "odor": "sweet"}]
        stub.on("tools/call", self.result(content=blocks, weight=3, _meta={"a": 1}))
        result = self.successResultOf(self.client(stub).call("x"))
        self.assertEqual((result.extra, result.meta), ({"weight": 3}, {"a": 1}))
        self.assertEqual(result.content[0].extra, {"color": "red"})
        self.assertEqual(result.content[1].wire, blocks[1])
        self.assertEqual(result.content[1].extra, {"odor": "sweet"})

    def test_bad_answers_name_the_server(self) -> None:
        stub = self.stub()
        client = self.client(stub)
        for bad in (
            {"content": 3},
            {"content": [7]},
            {"content": [{"type": "text"}]},
            {"resultType": "maybe", "content": []},
            {"resultType": "input_required"},
            {"resultType": 5},
        ):
            stub.on("tools/call", bad)
            error = self.failureResultOf(client.call("x"), BadAnswer).value
            self.assertRegex(str(error), "^stub: tools/call: ")
        for bad in ({"tools": 3}, {}, {"tools": [{"name": "x"}]}, {"tools": [], "nextCursor": 4}):
            stub.on("tools/list", bad)
            self.assertRegex(
                str(self.failureResultOf(client.list_tools(), BadAnswer).value), "^stub: tools/list: "
            )

    def test_endless_pages(self) -> None:
        stub = self.stub()
        stub.on("tools/list", {"tools": [], "nextCursor": "a"})
        error = self.failureResultOf(self.client(stub, cache=False).list_tools(), BadAnswer).value
        self.assertIn("its pages do not end", str(error))

    def test_questions_where_none_may_be(self) -> None:
        stub = self.stub()
        required = {"resultType": "input_required", "requestState": "s"}
        stub.on("prompts/list", required)
        error = self.failureResultOf(self.client(stub).list_prompts(), BadAnswer).value
        self.assertIn("may not ask for input", str(error))

    def test_garbage(self) -> None:
        stub = self.stub(linked=True)
        stub.on("tools/list", {"tools": []})
        client = self.client(stub)
        self.successResultOf(client.list_tools())
        stub.on("prompts/get", None)
        for garbage in (b"{", b'{"jsonrpc":"2.0","id":"x"}', b'{"jsonrpc":"1.0","id":1,"result":{}}'):
            getting = client.get("x")
            self.assertNoResult(getting)
            stub.wire.say(garbage, about=stub.requests[-1]["id"])
            self.assertRegex(str(self.failureResultOf(getting, BadAnswer).value), "^stub: prompts/get: ")

    def test_garbage_on_a_stream(self) -> None:
        stub = self.stub()
        client = self.client(stub)
        stub.on("prompts/get", None)
        getting = client.get("x")
        stub.wire.say(b"{")
        stub.wire.say({"jsonrpc": "2.0", "id": 99, "result": {}})
        stub.wire.say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": []}})
        self.assertNoResult(getting)
        stub.wire.answer(stub.requests[-1]["id"], self.result(messages=[]))
        self.assertEqual(self.successResultOf(getting).messages, [])

    def test_an_error_that_is_none(self) -> None:
        stub = self.stub()
        client = self.client(stub)
        stub.on("prompts/get", None)
        getting = client.get("x")
        stub.wire.say({"jsonrpc": "2.0", "id": stub.requests[-1]["id"], "error": {"code": "x"}})
        self.assertIn("an error that is none", str(self.failureResultOf(getting, BadAnswer).value))


class RoundTests(Answered):
    """Rounds of asking (basic/patterns/mrtr)."""

    required: ClassVar[dict[str, Any]] = {
        "resultType": "input_required",
        "requestState": "opaque",
        "inputRequests": {"roots": {"method": "roots/list", "params": {}}},
    }

    def test_state_and_answers(self) -> None:
        stub = self.stub()
        stub.on("tools/call", self.required, {"resultType": "complete", "content": []})
        roots = [{"uri": "file:///a"}]
        self.successResultOf(self.client(stub, answers=Answers(roots=roots)).call("x", {"a": 1}))
        first, second = stub.asked("tools/call")
        self.assertNotIn("requestState", first)
        self.assertEqual(second["requestState"], "opaque")
        self.assertEqual(second["inputResponses"], {"roots": {"roots": roots}})
        self.assertEqual((second["name"], second["arguments"]), ("x", {"a": 1}))
        ids = [request["id"] for request in stub.requests]
        self.assertEqual(len(set(ids)), len(ids))

    def test_state_alone(self) -> None:
        stub = self.stub()
        only = {"resultType": "input_required", "requestState": "s"}
        stub.on("tools/call", only, {"resultType": "complete", "content": []})
        self.successResultOf(self.client(stub).call("x"))
        self.assertNotIn("inputResponses", stub.asked("tools/call")[-1])

    def test_no_state_is_sent_where_none_came(self) -> None:
        stub = self.stub()
        asked = {"resultType": "input_required", "inputRequests": self.required["inputRequests"]}
        stub.on("tools/call", self.required, asked, {"resultType": "complete", "content": []})
        self.successResultOf(self.client(stub, answers=Answers(roots=[])).call("x"))
        self.assertNotIn("requestState", stub.asked("tools/call")[-1])

    def test_bounded(self) -> None:
        stub = self.stub()
        stub.on("tools/call", self.required)
        calling = self.client(stub, rounds=3, answers=Answers(roots=[])).call("x")
        self.assertIn("asked for input 3 times", str(self.failureResultOf(calling).value))
        self.assertEqual(len(stub.asked("tools/call")), 4)

    def test_wrong_answers(self) -> None:
        stub = self.stub()
        stub.on("tools/call", self.required)
        calling = self.client(stub, answers=Answers(roots=[{"uri": "http://a"}])).call("x")
        self.assertIn("must begin with file://", str(self.failureResultOf(calling, BadAnswer).value))

    def test_too_many_questions(self) -> None:
        stub = self.stub()
        many = {str(number): {"method": "roots/list"} for number in range(65)}
        stub.on("tools/call", {"resultType": "input_required", "inputRequests": many})
        calling = self.client(stub, answers=Answers(roots=[])).call("x")
        self.assertIn("more than 64 questions", str(self.failureResultOf(calling, BadAnswer).value))

    def test_not_kept(self) -> None:
        stub = self.stub(resources={})
        answer = {"resultType": "complete", "contents": [], "ttlMs": 60_000, "cacheScope": "private"}
        stub.on("resources/read", self.required, answer)
        client = self.client(stub, answers=Answers(roots=[]))
        self.successResultOf(client.read("a:b"))
        self.successResultOf(client.read("a:b"))
        self.assertEqual(len(stub.asked("resources/read")), 3)


class HeaderTests(Answered):
    """What HTTP mirrors (basic/transports/streamable-http)."""

    tool: ClassVar[dict[str, Any]] = {
        "name": "move",
        "inputSchema": {
            "type": "object",
            "properties": {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            },
        },
    }
    answer: ClassVar[dict[str, Any]] = {"resultType": "complete", "content": []}

    def setUp(self) -> None:
        super().setUp()
        self.server = self.stub(linked=True)
        self.server.on("tools/list", {"tools": [self.tool], "ttlMs": 60_000, "cacheScope": "public"})
        self.server.on("tools/call", self.answer)

    def test_parameters(self) -> None:
        client = self.client(self.server)
        self.successResultOf(client.call("move", {"region": "Köln", "deep": {"n": 7}}))
        self.server.assert_methods("server/discover", "tools/list", "tools/call")
        headers = self.server.headers[-1]
        self.assertEqual(headers[b"mcp-method"], b"tools/call")
        self.assertEqual(headers[b"mcp-name"], b"move")
        self.assertEqual(headers[b"mcp-protocol-version"], b"2026-07-28")
        self.assertEqual(headers[b"mcp-param-region"], b"=?base64?S8O2bG4=?=")
        self.assertEqual(headers[b"mcp-param-n"], b"7")
        self.successResultOf(client.call("move", {"region": None}))
        self.assertNotIn(b"mcp-param-region", self.server.headers[-1])
        self.assertEqual(len(self.server.asked("tools/list")), 1)

    def test_invalid_tools_are_dropped(self) -> None:
        bad = {"name": "bad", "inputSchema": {"properties": {"a": {"type": "array", "x-mcp-header": "A"}}}}
        self.server.on("tools/list", {"tools": [bad, self.tool]})
        tools = self.successResultOf(self.client(self.server).list_tools())
        self.assertEqual([tool.name for tool in tools], ["move"])

    def test_a_mismatch_lists_again_once(self) -> None:
        client = self.client(self.server)
        self.server.on("tools/call", McpError(-32020, "Header mismatch"), self.answer)
        self.successResultOf(client.call("move", {"region": "a"}))
        self.server.assert_methods("server/discover", "tools/list", "tools/call", "tools/list", "tools/call")
        self.server.on("tools/call", McpError(-32020, "Header mismatch"))
        self.failureResultOf(client.call("move", {"region": "a"}), ServerError)
        self.assertEqual(len(self.server.asked("tools/call")), 4)

    def test_many_calls_learn_once(self) -> None:
        client = self.client(self.server)
        self.successResultOf(client.connect())
        self.server.on("tools/list", None)
        calls = [client.call("move", {"region": "a"}) for _ in range(3)]
        self.assertEqual(len(self.server.asked("tools/list")), 1)
        self.server.wire.answer(self.server.requests[-1]["id"], {"tools": [self.tool]})
        for one in calls:
            self.successResultOf(one)
        self.assertEqual(len(self.server.asked("tools/list")), 1)

    def test_streams_have_no_headers(self) -> None:
        stub = self.stub()
        stub.on("tools/call", self.answer)
        self.successResultOf(self.client(stub).call("move", {"region": "a"}))
        stub.assert_methods("server/discover", "tools/call")
        self.assertEqual(stub.headers[-1], {})


class CacheTests(Answered):
    """What a server allows to be kept."""

    def test_kept_until_it_is_stale_or_changed(self) -> None:
        stub = self.stub(linked=True, prompts={"listChanged": True})
        page = {"resultType": "complete", "prompts": [], "ttlMs": 10_000, "cacheScope": "private"}
        stub.on("prompts/list", page)
        client = self.client(stub)
        for _ in range(3):
            self.successResultOf(client.list_prompts())
        self.assertEqual(len(stub.asked("prompts/list")), 1)
        self.clock.advance(10)
        self.successResultOf(client.list_prompts())
        self.assertEqual(len(stub.asked("prompts/list")), 2)
        stub.wire.say({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"})
        self.successResultOf(client.list_prompts())
        self.assertEqual(len(stub.asked("prompts/list")), 3)

    def test_none(self) -> None:
        stub = self.stub(prompts={})
        stub.on("prompts/list", {"prompts": [], "ttlMs": 10_000})
        client = self.client(stub, cache=False)
        for _ in range(2):
            self.successResultOf(client.list_prompts())
        self.assertEqual(len(stub.asked("prompts/list")), 2)


class TimeTests(Answered):
    """Limits of time, and giving up."""

    def calling(self, stub: StubServer, **options: Any) -> tuple[Client, Deferred[Any]]:
        stub.on("prompts/get", None)
        client = self.client(stub, timeout=10, longest=30, **options)
        getting = client.get("x")
        self.assertNoResult(getting)
        return client, getting

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    def test_timeout(self) -> None:
        stub = self.stub()
        _, getting = self.calling(stub)
        self.advance(11)
        self.assertIn("no answer within 10 s", str(self.failureResultOf(getting, TimedOut).value))
        [notice] = stub.notifications
        self.assertEqual(notice["method"], "notifications/cancelled")
        self.assertEqual(notice["params"]["requestId"], stub.requests[-1]["id"])
        stub.wire.answer(stub.requests[-1]["id"], {"messages": []})  # late: nobody minds

    def test_progress_extends_up_to_a_bound(self) -> None:
        stub = self.stub()
        stub.on("tools/call", None)
        client = self.client(stub, timeout=10, longest=30)
        calling = client.call("x", on_progress=lambda _: None)
        token = stub.asked("tools/call")[0]["_meta"]["progressToken"]
        for step in range(3):
            self.advance(8)
            note = {"progressToken": token, "progress": step}
            stub.wire.say({"jsonrpc": "2.0", "method": "notifications/progress", "params": note})
            self.assertNoResult(calling)
        self.advance(8)
        self.assertIn("the longest time", str(self.failureResultOf(calling, TimedOut).value))

    def test_cancelled_on_a_stream(self) -> None:
        stub = self.stub()
        _, getting = self.calling(stub)
        getting.cancel()
        self.failureResultOf(getting)
        self.assertEqual([one["method"] for one in stub.notifications], ["notifications/cancelled"])

    def test_cancelled_on_http(self) -> None:
        stub = self.stub(linked=True)
        _, getting = self.calling(stub)
        getting.cancel()
        self.failureResultOf(getting)
        self.assertEqual(stub.notifications, [])
        self.assertEqual(stub.wire.abandoned, [stub.requests[-1]["id"]])

    def test_waits_for_its_turn(self) -> None:
        stub = self.stub()
        stub.on("prompts/get", None)
        client = self.client(stub, in_flight=2, waiting=2)
        getting = [client.get(str(number)) for number in range(5)]
        self.assertEqual([one["name"] for one in stub.asked("prompts/get")], ["0", "1"])
        self.assertIn("2 calls wait for their turn", str(self.failureResultOf(getting[4]).value))
        getting[2].cancel()
        self.failureResultOf(getting[2])
        stub.wire.answer(stub.requests[-1]["id"], {"messages": []})
        self.successResultOf(getting[1])
        self.assertEqual([one["name"] for one in stub.asked("prompts/get")], ["0", "1", "3"])
        self.assertEqual(stub.notifications, [])
        getting[0].addErrback(lambda _: None)
        getting[3].addErrback(lambda _: None)

    def test_waits_while_the_wire_is_full(self) -> None:
        stub = self.stub()
        stub.on("prompts/get", None)
        client = self.client(stub)
        self.successResultOf(client.connect())
        assert stub.wire.inbox is not None
        stub.wire.inbox.full(True)
        getting = client.get("x")
        self.assertEqual(stub.asked("prompts/get"), [])
        stub.wire.inbox.full(False)
        self.assertEqual(len(stub.asked("prompts/get")), 1)
        getting.addErrback(lambda _: None)


class LossTests(Answered):
    """Lost connections, and what is done again."""

    def test_calls_fail_and_reads_are_repeated(self) -> None:
        stub = self.stub(prompts={}, tools={})
        stub.on("tools/call", None)
        stub.on("prompts/get", None, {"messages": []})
        client = self.client(stub)
        calling, getting = client.call("x"), client.get("y")
        stub.wire.cut("gone", tail="Traceback: boom")
        error = self.failureResultOf(calling, Disconnected).value
        self.assertFalse(error.unsent)
        self.assertRegex(
            str(error), "^stub: gone .whether the server acted on it is unknown.*\nTraceback: boom$"
        )
        self.assertEqual(self.successResultOf(getting).messages, [])
        self.assertEqual(len(stub.wires), 2)

    def test_repeatable_calls_are_repeated_once(self) -> None:
        stub = self.stub()
        stub.on("tools/call", None)
        client = self.client(stub)
        calling = client.call("x", repeatable=True)
        stub.wire.cut()
        self.assertNoResult(calling)
        self.assertEqual(len(stub.asked("tools/call")), 2)
        stub.wire.cut()
        self.failureResultOf(calling, Disconnected)

    def test_unsent_calls_are_sent_again(self) -> None:
        stub = self.stub(linked=True)
        answer = {"resultType": "complete", "content": []}
        stub.on("tools/list", {"tools": []})
        stub.on("tools/call", WireError("refused", unsent=True), answer)
        self.successResultOf(self.client(stub).call("x"))

    def test_a_lost_session_is_begun_again(self) -> None:
        stub = self.stub("2025-11-25", linked=True)
        stub.on("tools/call", WireError("lost", session_lost=True, status=404), {"content": []})
        client = self.client(stub, era="handshake")
        self.successResultOf(client.call("x"))
        stub.assert_methods("initialize", "tools/call", "initialize", "tools/call")

    def test_pauses_between_attempts(self) -> None:
        stub = self.stub()
        stub.refusal = "nobody listens"
        client = self.client(stub)
        self.assertIn("nobody listens", str(self.failureResultOf(client.get("x"), Disconnected).value))
        error = self.failureResultOf(client.get("x"), Disconnected).value
        self.assertIn("not tried again for", str(error))
        self.assertTrue(error.unsent)
        self.assertEqual(len(stub.wires), 1)
        stub.refusal = None
        self.clock.advance(1)
        self.successResultOf(client.connect())

    def test_closed(self) -> None:
        stub = self.stub()
        stub.on("prompts/get", None)
        client = self.client(stub)
        getting = client.get("x")
        self.successResultOf(client.close())
        self.assertIn("the client is closed", str(self.failureResultOf(getting, Disconnected).value))
        self.assertIn("the client is closed", str(self.failureResultOf(client.get("x"), Disconnected).value))

    def test_subscriptions_come_back(self) -> None:
        stub = self.stub(tools={"listChanged": True})
        stub.on("subscriptions/listen", None)
        client = self.client(stub)
        heard: list[Change] = []
        subscription = client.listen(heard.append, tools=True, uris=["a:b"])
        self.clock.advance(0)
        self.acknowledge(stub)
        self.assertEqual(self.successResultOf(subscription.acknowledged), {"toolsListChanged": True})
        self.assertEqual(heard, [])
        stub.wire.cut()
        self.clock.advance(2)
        self.assertEqual(len(stub.asked("subscriptions/listen")), 2)
        self.acknowledge(stub)
        self.assertEqual(heard, [Change("tools"), Change("resource", "a:b")])
        # The server ends it: listened to again, on the same connection, after a pause.
        stub.wire.answer(stub.requests[-1]["id"], {"resultType": "complete"})
        self.clock.advance(2)
        self.assertEqual(len(stub.asked("subscriptions/listen")), 3)
        self.assertEqual(len(stub.wires), 2)

    def test_subscriptions_wait_for_a_server(self) -> None:
        stub = self.stub()
        stub.refusal = "away"
        stub.on("subscriptions/listen", None)
        client = self.client(stub)
        subscription = client.listen(lambda _: None, tools=True)
        for _ in range(20):
            self.clock.advance(1)
        self.assertGreater(len(stub.wires), 2)
        self.assertLess(len(stub.wires), 9)
        stub.refusal = None
        for _ in range(30):
            self.clock.advance(1)
        self.acknowledge(stub)
        self.successResultOf(subscription.acknowledged)

    def test_refused_subscriptions(self) -> None:
        stub = self.stub()
        client = self.client(stub)
        subscription = client.listen(lambda _: None, tools=True)
        self.clock.advance(0)
        self.failureResultOf(subscription.acknowledged, ServerError)
        self.clock.advance(60)
        self.assertEqual(len(stub.asked("subscriptions/listen")), 1)
        with self.assertRaisesRegex(ValueError, "no such list: files"):
            client._connection.subscriptions.add(["files"], [], lambda _: None)

    def acknowledge(self, stub: StubServer) -> None:
        key = "io.modelcontextprotocol/subscriptionId"
        params = {"_meta": {key: stub.requests[-1]["id"]}, "notifications": {"toolsListChanged": True}}
        method = "notifications/subscriptions/acknowledged"
        stub.wire.say({"jsonrpc": "2.0", "method": method, "params": params})


class LiveQuestionTests(Answered):
    """Questions of a handshake server."""

    def asking(self, **options: Any) -> StubServer:
        stub = self.stub("2025-11-25")
        client = self.client(stub, era="handshake", **options)
        self.successResultOf(client.connect())
        return stub

    def ask(self, stub: StubServer, method: str, params: Any = None, number: int | str = "q") -> None:
        stub.wire.say({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}})

    def test_ping_and_unknown(self) -> None:
        stub = self.asking()
        self.ask(stub, "ping", number=1)
        self.ask(stub, "tools/list", number=2)
        self.ask(stub, "roots/list", number=3)
        first, second, third = stub.responses
        self.assertEqual(first["result"], {})
        self.assertEqual(second["error"]["code"], -32601)
        self.assertIn("does not answer roots/list", third["error"]["message"])

    def test_withdrawn(self) -> None:
        waiting: Deferred[Any] = Deferred()
        stub = self.asking(answers=Answers(sample=lambda _: waiting))
        self.ask(stub, "sampling/createMessage", {"messages": [], "maxTokens": 1})
        self.ask(stub, "sampling/createMessage", {"messages": [], "maxTokens": 1})
        [refused] = stub.responses
        self.assertEqual(refused["error"]["code"], -31002)
        notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}}
        stub.wire.say(notice)
        stub.wire.say(notice)
        stub.wire.say({**notice, "params": {"requestId": []}})
        self.assertEqual(len(stub.responses), 1)

    def test_time_stands_still(self) -> None:
        waiting: Deferred[Any] = Deferred()
        stub = self.asking(answers=Answers(sample=lambda _: waiting), timeout=5)
        stub.on("tools/call", None)
        client = self.client(stub, era="handshake", answers=Answers(sample=lambda _: waiting), timeout=5)
        calling = client.call("x")
        self.ask(stub, "sampling/createMessage", {"messages": [], "maxTokens": 1})
        for _ in range(60):
            self.clock.advance(1)
        self.assertNoResult(calling)
        waiting.callback({"role": "assistant", "model": "m", "content": {"type": "text", "text": "t"}})
        self.assertEqual(stub.responses[-1]["result"]["model"], "m")
        for _ in range(12):
            self.clock.advance(1)
        self.failureResultOf(calling, TimedOut)

    def test_a_failing_answer(self) -> None:
        def elicit(_: Any) -> Any:
            raise KeyError("x")

        stub = self.asking(answers=Answers(elicit=elicit))
        self.ask(stub, "elicitation/create", {"message": "m", "requestedSchema": {"type": "object"}})
        self.assertIn("failed to answer", stub.responses[0]["error"]["message"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_logs(self) -> None:
        heard: list[LogMessage] = []
        stub = self.asking(on_log=heard.append)
        params = {"level": "info", "data": {"a": 1}, "logger": "l"}
        stub.wire.say({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
        stub.wire.say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": 4}})
        stub.wire.say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info"}})
        self.assertEqual(heard, [LogMessage("info", {"a": 1}, "l"), LogMessage("info", None)])
