"""The handshake era through the whole server: sessions, live questions, streams that are resumed, both eras at once."""

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.engine import Bounds, EmbeddedEngine
from erlmcp.interfaces import Change, Complete, NeedsInput, Outcome, Principal, Request
from erlmcp.protocol import KeyRing, McpError, Question
from erlmcp.testing import Harness, MemoryExchange
from tests.scripted import Scripted, text

CAN = {"elicitation": {}, "sampling": {}, "roots": {}}
NAME = Question.elicit_form(
    "Your name?", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
)


async def ask(request: Request) -> Outcome:
    answer = (await request.ask({"name": NAME}))["name"]
    if answer["action"] != "accept":
        return text(answer["action"])
    again = (await request.ask({"again": NAME}))["again"]
    return text(f"{answer['content']['name']} and {again['content']['name']}")


async def noisy(request: Request) -> Outcome:
    assert request.conversation is not None
    request.conversation.progress(1, 2, None)
    request.conversation.log("info", "hello", None)
    return text("done")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.wait: Deferred[str] = Deferred()

        async def slow(request: Request) -> Outcome:
            assert request.conversation is not None
            request.conversation.progress(1, None, None)
            return text(await self.wait)

        self.tools: dict[str, Any] = {
            "now": lambda request: text("now"),
            "ask": ask,
            "noisy": noisy,
            "slow": slow,
            "version": lambda request: text(f"{request.era} {request.version} {request.client.name}"),
        }
        self.backend = Scripted(self.tools, resources={"memo://a": lambda request: text("")})
        self.ring = KeyRing([KeyRing.generate()])
        self.house = Harness(self.backend, key_ring=self.ring)

    def on_stream(self, version: str = "2025-11-25", capabilities: Any = None) -> MemoryExchange:
        exchange = self.house.initialize(version, CAN if capabilities is None else capabilities)
        self.assertEqual(exchange.result["protocolVersion"], version)
        exchange.replies.clear()
        exchange.written.clear()
        return exchange

    def on_http(self, version: str = "2025-11-25", capabilities: Any = None) -> dict[bytes, bytes]:
        exchange = self.house.initialize(
            version, CAN if capabilities is None else capabilities, exchange=MemoryExchange({})
        )
        self.assertEqual((exchange.status, exchange.result["protocolVersion"]), (200, version))
        [((name, token),)] = exchange.reply_headers
        self.assertEqual(name, b"Mcp-Session-Id")
        return {b"mcp-session-id": token, b"mcp-protocol-version": version.encode()}

    def post(
        self, headers: dict[bytes, bytes], method: str, params: Any = None, **options: Any
    ) -> MemoryExchange:
        return self.house.legacy(method, params, exchange=MemoryExchange(headers), **options)

    def tool(self, name: str, exchange: MemoryExchange, meta: Any = None, **options: Any) -> MemoryExchange:
        params: dict[str, Any] = {"name": name, "arguments": {}}
        if meta is not None:
            params["_meta"] = meta
        return self.house.legacy("tools/call", params, exchange=exchange, **options)

    def respond(self, exchange: MemoryExchange, question: dict[str, Any], **answer: Any) -> None:
        message = {"jsonrpc": "2.0", "id": question["id"], **answer}
        self.house.channel.received(msgspec.json.encode(message), exchange)


class Initialize(Case):
    def test_each_revision(self) -> None:
        for version in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"):
            result = self.house.initialize(version).result
            self.assertEqual(result["protocolVersion"], version)
            self.assertEqual(result["serverInfo"]["name"], "test")
            self.assertEqual("completions" in result["capabilities"], version != "2024-11-05")
            self.assertEqual(result["instructions"], "Use it.")
            self.assertNotIn("resultType", result)

    def test_unknown_revisions(self) -> None:
        for version in ("2026-07-28", "1999-01-01"):
            self.assertEqual(self.house.initialize(version).result["protocolVersion"], "2025-11-25")

    def test_twice(self) -> None:
        exchange = self.on_stream()
        self.assertEqual(self.house.initialize(exchange=exchange).error["code"], -32600)

    def test_without(self) -> None:
        """Without a session there is nothing but ping, and that on a stream alone."""
        exchange = MemoryExchange()
        self.assertEqual(self.house.legacy("ping", exchange=exchange).result, {})
        exchange = MemoryExchange()
        self.assertEqual(self.house.legacy("tools/list", exchange=exchange).error["code"], -32602)
        for method in ("tools/list", "ping"):
            exchange = self.post({}, method)
            self.assertEqual((exchange.status, exchange.error["code"]), (400, -32602))

    def test_too_many(self) -> None:
        self.house = Harness(self.backend, sessions_per_hour=2)
        for _ in range(2):
            self.on_http()
        exchange = self.house.initialize(exchange=MemoryExchange({}))
        self.assertEqual(exchange.status, 429)
        self.house.clock.advance(1800)
        self.on_http()

    def test_too_many_callers(self) -> None:
        """Where there is no room to count one caller more, that is said."""
        clock = self.house.clock
        engine = EmbeddedEngine(clock, wall=clock.seconds, steady=clock.seconds, bounds=Bounds(buckets=1))
        self.house = Harness(self.backend, engine=engine)
        self.on_http()
        self.house.gates.authenticate.principal = Principal(id="another", kind="key")
        exchange = self.house.initialize(exchange=MemoryExchange({}))
        self.assertEqual((exchange.status, exchange.error["code"]), (503, -31002))


class Both(Case):
    def test_eras_on_one_stream(self) -> None:
        """One stream carries both eras; the middle of the house sees no difference but the word."""
        exchange = self.on_stream("2025-03-26")
        self.tool("version", exchange)
        self.house.call("version", exchange=exchange)
        texts = [message["result"]["content"][0]["text"] for message in exchange.written]
        self.assertEqual(texts, ["handshake 2025-03-26 test", "modern 2026-07-28 test"])
        self.assertNotIn("resultType", exchange.written[0]["result"])
        self.assertEqual(exchange.written[1]["result"]["resultType"], "complete")

    def test_unknown_things(self) -> None:
        exchange = self.on_stream()
        self.tool("nobody", exchange)
        self.house.legacy("resources/read", {"uri": "memo://nowhere"}, exchange=exchange)
        self.house.legacy("server/dance", {}, exchange=exchange)
        codes = [message["error"]["code"] for message in exchange.written]
        self.assertEqual(codes, [-32602, -32002, -32601])
        answer = self.post(self.on_http(), "server/dance")
        self.assertEqual((answer.status, answer.error["code"]), (200, -32601))

    def test_ping_and_lists(self) -> None:
        headers = self.on_http()
        self.assertEqual(self.post(headers, "ping").result, {})
        listed = self.post(headers, "tools/list").result
        self.assertEqual(len(listed["tools"]), len(self.tools))
        self.assertNotIn("ttlMs", listed)

    def test_wrong_arguments(self) -> None:
        """Arguments that fail the schema: a result from 2025-11-25 on, an error before."""
        from erlmcp import Provider

        provider = Provider("p")

        @provider.tool
        def double(number: int) -> int:
            return 2 * number

        self.house = Harness(provider)
        params = {"name": "double", "arguments": {"number": "x"}}
        self.assertTrue(self.house.legacy("tools/call", params, exchange=self.on_stream()).result["isError"])
        old = self.house.legacy("tools/call", params, exchange=self.on_stream("2025-06-18"))
        self.assertEqual(old.error["code"], -32602)


class Tokens(Case):
    def test_survives_a_restart(self) -> None:
        """A session goes on in another process with the same keys, log level and subscriptions included."""
        headers = self.on_http()
        self.post(headers, "logging/setLevel", {"level": "error"})
        engine = self.house.engine
        self.house = Harness(self.backend, key_ring=self.ring, engine=engine)
        self.assertEqual(self.post(headers, "tools/list").status, 200)
        self.assertEqual(self.tool("noisy", MemoryExchange(headers)).notifications, [])

    def test_nothing_is_kept(self) -> None:
        """A session that only lists and calls leaves nothing behind."""
        for _ in range(5):
            headers = self.on_http()
            self.post(headers, "tools/list")
            self.tool("now", MemoryExchange(headers))
        self.assertEqual(len(self.house.server.sessions), 0)
        self.assertEqual(len(self.house.server.subscriptions), 0)

    def test_lost(self) -> None:
        """Forged, altered, another's, another key ring's, expired: 404, so that the client starts anew."""
        headers = self.on_http()
        token = headers[b"mcp-session-id"]
        for wrong in (b"", b"x", token[:-1], token + b"A", b"\xff", token[:10] + b"AAAA" + token[14:]):
            exchange = self.post({**headers, b"mcp-session-id": wrong}, "tools/list")
            self.assertEqual(exchange.status, 404, wrong)
        self.house.gates.authenticate.principal = Principal(id="mallory", kind="key")
        self.assertEqual(self.post(headers, "tools/list").status, 404)
        self.house.gates.authenticate.principal = Principal(id="anonymous", kind="anonymous")
        self.assertEqual(self.post(headers, "tools/list").status, 200)
        self.house.clock.advance(86_401)
        self.assertEqual(self.post(headers, "tools/list").status, 404)
        self.house = Harness(self.backend)
        self.assertEqual(self.post(headers, "tools/list").status, 404)

    def test_rotation(self) -> None:
        """A new key does not lose the sessions of the old one."""
        headers = self.on_http()
        old, new = KeyRing.generate(), KeyRing.generate()
        self.house = Harness(self.backend, key_ring=KeyRing([old]))
        headers = self.on_http()
        self.house = Harness(self.backend, key_ring=KeyRing([new, old]))
        self.assertEqual(self.post(headers, "tools/list").status, 200)
        self.house = Harness(self.backend, key_ring=KeyRing([new]))
        self.assertEqual(self.post(headers, "tools/list").status, 404)

    def test_version_header(self) -> None:
        """The session's version wins over the header; an unknown header is refused."""
        headers = self.on_http("2025-06-18")
        self.assertEqual(self.post({**headers, b"mcp-protocol-version": b"2025-11-25"}, "ping").status, 200)
        self.assertEqual(self.post({**headers, b"mcp-protocol-version": b"1999-01-01"}, "ping").status, 400)
        del headers[b"mcp-protocol-version"]
        self.assertEqual(self.post(headers, "ping").status, 200)

    def test_delete(self) -> None:
        """A deleted session is gone, and what it had in flight with it."""
        headers = self.on_http()
        self.tool("slow", MemoryExchange(headers))
        self.assertEqual(self.house.server.in_flight, 1)
        exchange = MemoryExchange(headers)
        self.house.channel.deleted(exchange)
        self.assertEqual(exchange.status, 204)
        self.assertEqual(self.house.server.in_flight, 0)
        self.assertEqual(self.post(headers, "tools/list").status, 404)
        exchange = MemoryExchange(headers)
        self.house.channel.deleted(exchange)
        self.assertEqual(exchange.status, 404)
        self.house = Harness(self.backend, key_ring=self.ring, engine=self.house.engine)
        self.assertEqual(self.post(headers, "tools/list").status, 404)


class Asking(Case):
    def test_on_a_stream(self) -> None:
        """The client is asked on its own stream, live; the work goes on where it stopped."""
        exchange = self.on_stream()
        self.tool("ask", exchange, id=1)
        [question] = exchange.written
        self.assertEqual(question["method"], "elicitation/create")
        self.assertEqual(self.house.gates.admit.under_way, 0)
        self.respond(exchange, question, result={"action": "accept", "content": {"name": "Ann"}})
        question = exchange.written[-1]
        self.respond(exchange, question, result={"action": "accept", "content": {"name": "Bob"}})
        self.assertEqual(exchange.result["content"][0]["text"], "Ann and Bob")
        self.assertEqual((len(self.house.server.questions), self.house.server.in_flight), (0, 0))

    def test_on_http(self) -> None:
        """The question goes on the stream of the call that caused it; the answer comes in a POST of its own."""
        headers = self.on_http("2025-06-18")
        call = self.tool("ask", MemoryExchange(headers))
        for name in ("Ann", "Bob"):
            answer = MemoryExchange(headers)
            self.respond(answer, call.written[-1], result={"action": "accept", "content": {"name": name}})
            self.assertEqual(answer.accepted, 1)
        self.assertEqual(call.written[-1]["result"]["content"][0]["text"], "Ann and Bob")
        self.assertEqual((call.left, call.primed), (1, []))
        self.assertEqual(len(set(call.events)), 3)

    def test_not_capable(self) -> None:
        """A client without the capability, or in a revision without the question, is never asked."""
        exchange = self.on_stream(capabilities={"roots": {}})
        error = self.tool("ask", exchange).error
        self.assertNotIn(error["code"], range(-32099, -32019))
        exchange = self.on_stream("2025-03-26")
        self.assertIn("error", self.tool("ask", exchange).answer)
        self.assertEqual(exchange.notifications, [])

    def test_no_stream_to_ask_on(self) -> None:
        headers = self.on_http()
        exchange = self.tool("ask", MemoryExchange(headers, streaming=False))
        self.assertIn("text/event-stream", exchange.error["message"])

    def test_refused_by_the_client(self) -> None:
        """A client's error is raised where it was asked."""
        exchange = self.on_stream()
        self.tool("ask", exchange)
        self.respond(exchange, exchange.written[0], error={"code": -1, "message": "User rejected"})
        self.assertIn("User rejected", exchange.error["message"])

    def test_wrong_answer(self) -> None:
        exchange = self.on_stream()
        self.tool("ask", exchange)
        self.respond(exchange, exchange.written[0], result={"action": "accept", "content": {"name": 5}})
        self.assertIn("error", exchange.answer)

    def test_never_answered(self) -> None:
        """A client that never answers costs a bounded wait, and is told that nobody waits any more."""
        self.house = Harness(self.backend, answer_limit=30)
        exchange = self.on_stream()
        self.tool("ask", exchange)
        self.house.clock.pump([1.0] * 32)
        self.assertEqual(exchange.written[1]["method"], "notifications/cancelled")
        self.assertEqual(exchange.written[1]["params"]["requestId"], exchange.written[0]["id"])
        self.assertEqual(exchange.error["code"], -31001)
        self.assertEqual(len(self.house.server.questions), 0)
        self.respond(exchange, exchange.written[0], result={"action": "decline"})
        self.assertEqual(exchange.accepted, 1)

    def test_another_sessions_answer(self) -> None:
        """Nobody answers for somebody else."""
        asked, other = self.on_stream(), self.on_stream()
        self.tool("ask", asked)
        self.respond(other, asked.written[0], result={"action": "decline"})
        self.assertEqual(len(asked.written), 1)
        self.respond(asked, asked.written[0], result={"action": "decline"})
        self.assertEqual(asked.result["content"][0]["text"], "decline")

    def test_cancelled_meanwhile(self) -> None:
        for end in ("notification", "connection"):
            exchange = self.on_stream()
            self.tool("ask", exchange, id=9)
            if end == "connection":
                self.house.channel.closed(exchange)
            else:
                message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
                self.house.channel.received(msgspec.json.encode(message), exchange)
            self.assertEqual(exchange.replies, [])
            self.assertEqual((len(self.house.server.questions), self.house.server.in_flight), (0, 0))

    def test_backend_without_work(self) -> None:
        """A backend that keeps its state in the client's hands is dispatched again, with state and answers."""
        seen: list[Any] = []

        def stateless(request: Request) -> Outcome:
            seen.append(request.params.request_state)
            if request.params.input_responses is msgspec.UNSET:
                return NeedsInput({"name": NAME}, "mine")
            return Complete(
                {"content": [], "structuredContent": msgspec.json.decode(request.params.input_responses)}
            )

        self.house = Harness(Scripted({"stateless": stateless}))
        exchange = self.on_stream()
        self.tool("stateless", exchange)
        self.respond(exchange, exchange.written[0], result={"action": "decline"})
        self.assertEqual(exchange.result["structuredContent"], {"name": {"action": "decline"}})
        self.assertEqual(seen, [msgspec.UNSET, "mine"])

    def test_backend_that_never_ends(self) -> None:
        self.house = Harness(Scripted({"again": lambda request: NeedsInput({"name": NAME})}))
        exchange = self.on_stream()
        self.tool("again", exchange)
        for _ in range(10):
            self.assertEqual(exchange.replies, [])
            self.respond(exchange, exchange.written[-1], result={"action": "decline"})
        self.assertEqual(exchange.error["code"], -32603)


class Pinging(Case):
    def setUp(self) -> None:
        super().setUp()
        from erlmcp import Context, Provider

        provider = Provider("p")

        @provider.tool
        async def check(ctx: Context) -> str:
            await ctx.ping()
            return "there"

        self.house = Harness(provider, answer_limit=30)

    def test_handshake(self) -> None:
        """The client is asked on the stream of the call, and any result will do."""
        for exchange in (self.on_stream("2024-11-05", {}), MemoryExchange(self.on_http(capabilities={}))):
            self.tool("check", exchange)
            [ping] = exchange.written
            self.assertEqual(ping, {"jsonrpc": "2.0", "id": ping["id"], "method": "ping"})
            self.respond(MemoryExchange(exchange.headers) if exchange.headers else exchange, ping, result={})
            self.assertEqual(exchange.written[-1]["result"]["content"][0]["text"], "there")

    def test_nobody_there(self) -> None:
        exchange = self.on_stream()
        self.tool("check", exchange)
        self.house.clock.pump([1.0] * 32)
        self.assertIn("error", exchange.written[-1])

    def test_no_stream(self) -> None:
        exchange = self.tool("check", MemoryExchange(self.on_http(), streaming=False))
        self.assertIn("text/event-stream", exchange.error["message"])

    def test_modern(self) -> None:
        """Revision 2026-07-28 has no ping: the request is the sign of life."""
        self.assertEqual(self.house.call("check").result["content"][0]["text"], "there")


class Streams(Case):
    def resume(self, headers: dict[bytes, bytes], event: str) -> MemoryExchange:
        exchange = MemoryExchange({**headers, b"last-event-id": event.encode()})
        self.house.channel.opened(exchange)
        return exchange

    def test_primed(self) -> None:
        """2025-11-25 alone begins with an empty event."""
        call = self.tool("noisy", MemoryExchange(self.on_http()), {"progressToken": 1})
        self.assertEqual(len(call.primed), 1)
        call = self.tool("noisy", MemoryExchange(self.on_http("2025-06-18")), {"progressToken": 1})
        self.assertEqual(call.primed, [])

    def test_disconnect_is_no_cancellation(self) -> None:
        """A lost connection leaves the call running; the rest is fetched by the last event's id."""
        headers = self.on_http()
        call = self.tool("slow", MemoryExchange(headers), {"progressToken": 1})
        self.house.channel.closed(call)
        self.assertEqual(self.house.server.in_flight, 1)
        self.wait.callback("worth it")
        self.assertEqual(len(call.written), 1)
        again = self.resume(headers, call.events[0])
        self.assertEqual(again.written[0]["result"]["content"][0]["text"], "worth it")
        self.assertEqual(again.left, 1)
        whole = self.resume(headers, call.primed[0][0])
        self.assertEqual(len(whole.written), 2)

    def test_resumed_while_running(self) -> None:
        headers = self.on_http()
        call = self.tool("slow", MemoryExchange(headers), {"progressToken": 1})
        self.house.channel.closed(call)
        again = self.resume(headers, call.events[0])
        self.assertEqual(again.written, [])
        self.wait.callback("live")
        self.assertEqual(again.written[0]["result"]["content"][0]["text"], "live")
        self.assertEqual((again.left, self.house.server.in_flight), (1, 0))

    def test_left_early(self) -> None:
        """Work may let its client go (2025-11-25); elsewhere that does nothing."""

        async def long(request: Request) -> Outcome:
            assert request.conversation is not None
            request.conversation.leave()
            return text(await self.wait)

        self.house = Harness(Scripted({"long": long}))
        headers = self.on_http()
        call = self.tool("long", MemoryExchange(headers))
        self.assertEqual((call.left, len(call.primed), call.written), (1, 1, []))
        self.wait.callback("later")
        again = self.resume(headers, call.primed[0][0])
        self.assertEqual(again.written[0]["result"]["content"][0]["text"], "later")
        for exchange in (self.on_stream(), MemoryExchange(self.on_http("2025-06-18"))):
            self.wait = Deferred()
            self.tool("long", exchange)
            self.assertEqual(exchange.left, 0)

    def test_unknown_events(self) -> None:
        headers = self.on_http()
        call = self.tool("noisy", MemoryExchange(headers), {"progressToken": 1})
        for event in ("", "x", "x.1", "x.y", call.events[0] + "0" * 20):
            self.assertEqual(self.resume(headers, event).status, 400, event)
        self.assertEqual(self.resume(self.on_http(), call.events[0]).status, 400)

    def test_forgotten_when_idle(self) -> None:
        headers = self.on_http()
        call = self.tool("noisy", MemoryExchange(headers), {"progressToken": 1})
        self.assertEqual(len(self.house.server.sessions), 1)
        self.house.clock.pump([30.0] * 70)
        self.assertEqual(len(self.house.server.sessions), 0)
        self.assertEqual(self.resume(headers, call.events[0]).status, 400)
        self.assertEqual(self.post(headers, "ping").status, 200)

    def test_cancelled_on_http(self) -> None:
        """notifications/cancelled reaches the call that another POST carries."""
        headers = self.on_http()
        self.tool("slow", MemoryExchange(headers), id=5)
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
        note = MemoryExchange(headers)
        self.house.channel.received(msgspec.json.encode(message), note)
        self.assertEqual((note.accepted, self.house.server.in_flight), (1, 0))
        self.assertEqual(self.tool("now", MemoryExchange(headers), id=5).status, 200)

    def test_same_id_twice(self) -> None:
        headers = self.on_http()
        self.tool("slow", MemoryExchange(headers), id=5)
        self.assertEqual(self.tool("now", MemoryExchange(headers), id=5).error["code"], -32600)


class Hearing(Case):
    def test_on_a_stream(self) -> None:
        """Changes are told unasked; updates of what was subscribed to."""
        exchange = self.on_stream()
        self.backend.change(Change("updated", "memo://a"))
        self.house.legacy("resources/subscribe", {"uri": "memo://a"}, exchange=exchange)
        exchange.written.clear()
        self.backend.change(Change("tools"))
        self.backend.change(Change("updated", "memo://a"))
        self.assertEqual(
            exchange.written,
            [
                {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/resources/updated",
                    "params": {"uri": "memo://a"},
                },
            ],
        )
        self.house.legacy("resources/unsubscribe", {"uri": "memo://a"}, exchange=exchange)
        exchange.written.clear()
        self.backend.change(Change("updated", "memo://a"))
        self.assertEqual(exchange.written, [])
        self.house.channel.closed(exchange)
        self.assertEqual(len(self.house.server.subscriptions), 0)

    def test_unknown_resource(self) -> None:
        exchange = self.house.legacy("resources/subscribe", {"uri": "memo://b"}, exchange=self.on_stream())
        self.assertEqual(exchange.error["code"], -32002)

    def test_get_streams(self) -> None:
        """A change goes on one of a session's GET streams, never on two; lost ones are resumed."""
        headers = self.on_http()
        self.post(headers, "resources/subscribe", {"uri": "memo://a"})
        first, second = MemoryExchange(headers), MemoryExchange(headers)
        self.house.channel.opened(first)
        self.house.channel.opened(second)
        self.backend.change(Change("updated", "memo://a"))
        self.assertEqual((len(first.written), len(second.written)), (1, 0))
        self.house.channel.closed(first)
        self.backend.change(Change("prompts"))
        self.assertEqual((len(first.written), len(second.written)), (1, 1))
        self.house.channel.closed(second)
        self.backend.change(Change("tools"))
        again = MemoryExchange({**headers, b"last-event-id": second.events[0].encode()})
        self.house.channel.opened(again)
        self.assertEqual([one["method"] for one in again.written], ["notifications/tools/list_changed"])

    def test_get_refusals(self) -> None:
        exchange = MemoryExchange({b"mcp-session-id": b"x"})
        self.house.channel.opened(exchange)
        self.assertEqual(exchange.status, 404)

    def test_log_level(self) -> None:
        exchange = self.on_stream()
        self.tool("noisy", exchange)
        self.assertEqual(len(exchange.notifications), 1)
        self.house.legacy("logging/setLevel", {"level": "warning"}, exchange=exchange)
        self.tool("noisy", exchange)
        self.assertEqual(len(exchange.notifications), 1)
        exchange.replies.clear()
        self.house.legacy("logging/setLevel", {"level": "loud"}, exchange=exchange)
        self.assertEqual(exchange.error["code"], -32602)

    def test_drain(self) -> None:
        headers = self.on_http()
        stream = MemoryExchange(headers)
        self.house.channel.opened(stream)
        self.house.server.drain()
        self.assertEqual(stream.left, 1)


class Batches(Case):
    def batch(self, exchange: MemoryExchange, *parts: Any) -> None:
        self.house.channel.received(msgspec.json.encode(list(parts)), exchange)

    def test_answered_in_kind(self) -> None:
        for exchange in (self.on_stream("2025-03-26"), MemoryExchange(self.on_http("2025-03-26"))):
            self.batch(
                exchange,
                {"jsonrpc": "2.0", "id": 1, "method": "ping"},
                {"jsonrpc": "2.0", "method": "notifications/initialized"},
                {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "now"}},
                {"jsonrpc": "2.0", "id": 3, "method": 5},
            )
            [(_, answers)] = exchange.replies
            self.assertEqual({one.get("id") for one in answers}, {1, 2, 3})  # type: ignore[union-attr]

    def test_only_notifications(self) -> None:
        exchange = self.on_stream("2025-03-26")
        self.batch(exchange, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        self.assertEqual((exchange.replies, exchange.accepted), ([], 1))

    def test_waits_for_all(self) -> None:
        exchange = self.on_stream("2025-03-26")
        self.batch(
            exchange,
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow"}},
            {"jsonrpc": "2.0", "id": 2, "method": "ping"},
        )
        self.assertEqual(exchange.replies, [])
        self.wait.callback("done")
        [(_, answers)] = exchange.replies
        self.assertEqual([one["id"] for one in answers], [2, 1])  # type: ignore[index]

    def test_refused(self) -> None:
        """Elsewhere, empty, or with an initialize or an envelope in it: one -32600."""
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        initialize = {**ping, "method": "initialize", "params": {}}
        envelope = {**ping, "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}}
        for version, parts in (
            ("2025-06-18", [ping]),
            ("2025-03-26", []),
            ("2025-03-26", [ping, initialize]),
            ("2025-03-26", [ping, envelope]),
        ):
            exchange = self.on_stream(version)
            self.batch(exchange, *parts)
            self.assertEqual(exchange.error["code"], -32600, parts)
        exchange = MemoryExchange({})
        self.batch(exchange, ping)
        self.assertEqual((exchange.status, exchange.error["code"]), (400, -32600))


class Errors(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Errors of a backend in this era: its own code, or an internal error with an id that the log has."""

        async def refused(request: Request) -> Outcome:
            raise McpError(1234, "no", {"why": 1})

        async def broken(request: Request) -> Outcome:
            raise RuntimeError("secret")

        async def unsendable(request: Request) -> Outcome:
            return Complete({"content": object()})

        house = Harness(Scripted({"refused": refused, "broken": broken, "unsendable": unsendable}))
        exchange = house.initialize()
        for name in ("refused", "broken", "unsendable"):
            exchange.replies.clear()
            house.legacy("tools/call", {"name": name}, exchange=exchange)
            self.assertEqual(exchange.error["code"], 1234 if name == "refused" else -32603)
            self.assertNotIn("secret", exchange.error["message"])
        self.assertEqual(len(self.flushLoggedErrors()), 2)
