"""Calls through the whole server: answers, errors, waiting, cancelling, deadlines."""

import gc
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from erlmcp import Provider
from erlmcp.catalog import InvalidArguments
from erlmcp.client import Client, Target
from erlmcp.interfaces import Complete, IMiddleware, Outcome, Request
from erlmcp.protocol import MODERN, McpError
from erlmcp.server._call import Call
from erlmcp.server._running import Running
from erlmcp.testing import ChannelWire, Harness, MemoryExchange
from tests.scripted import Scripted, text

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def at_once(request: Request) -> Outcome:
    return text("now")


async def without_waiting(request: Request) -> Outcome:
    return text("soon")


class Slow:
    """A tool that waits until the test says."""

    def __init__(self) -> None:
        self.waits: list[Deferred[str]] = []
        self.requests: list[Request] = []
        self.cancelled = 0

    async def __call__(self, request: Request) -> Outcome:
        def cancel(_: Any) -> None:
            self.cancelled += 1

        self.requests.append(request)
        wait: Deferred[str] = Deferred(cancel)
        self.waits.append(wait)
        return text(await wait)


async def asking(request: Request) -> Outcome:
    await request.ask({"n": {"method": "roots/list"}})
    return text("told")


async def broken(request: Request) -> Outcome:
    raise RuntimeError("the secret is xyzzy")


async def protocol_error(request: Request) -> Outcome:
    raise McpError(1234, "no", {"why": "because"}, headers=((b"x-reason", b"no"),))


async def wrong_arguments(request: Request) -> Outcome:
    raise InvalidArguments("a must be a number")


async def unsendable(request: Request) -> Outcome:
    return Complete({"content": object()})


async def unsendable_error(request: Request) -> Outcome:
    raise McpError(1234, "no", object())


async def failed_tool(request: Request) -> Outcome:
    return Complete({"content": [], "isError": True})


def harness(**tools: Any) -> Harness:
    return Harness(Scripted({"at_once": at_once, **tools}))


class LettingGo(SynchronousTestCase):
    """What an ended call held is free at once: a result may be megabytes, and the collector comes late."""

    def setUp(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        self.others = self.of_calls()

    def of_calls(self) -> list[Any]:
        return [one for one in gc.get_objects() if type(one) in (Call, Request, Running)]

    def held(self) -> list[str]:
        others = set(map(id, self.others))
        return sorted(type(one).__name__ for one in self.of_calls() if id(one) not in others)

    def test_answered_at_once(self) -> None:
        harness(soon=without_waiting).call("soon")
        self.assertEqual(self.held(), [])

    def test_answered_after_a_wait(self) -> None:
        wait: Deferred[Outcome] = Deferred()

        async def waiting(request: Request) -> Outcome:
            return await wait

        house = harness(waiting=waiting)
        house.call("waiting")
        self.assertEqual(self.held(), ["Call", "Request", "Running"])
        wait.callback(text("there"))
        self.assertEqual(self.held(), [])

    def test_answered_by_a_retry(self) -> None:
        house = harness(ask=asking)
        first = house.call("ask", capabilities={"roots": {}})
        retry = {"requestState": first.result["requestState"], "inputResponses": {"n": {"roots": []}}}
        second = house.call("ask", capabilities={"roots": {}}, params=retry)
        self.assertEqual(second.result["content"][0]["text"], "told")
        del first, second
        self.assertEqual(self.held(), [])

    def test_parked_for_too_long(self) -> None:
        house = harness(ask=asking)
        self.assertIn("requestState", house.call("ask", capabilities={"roots": {}}).result)
        self.assertEqual(self.held(), ["Call", "Request", "Running"])
        house.clock.advance(601)
        # What was cancelled leaves a traceback, which is a cycle of its own.
        self.assertNotIn("Call", self.held())


class Answering(SynchronousTestCase):
    def test_at_once(self) -> None:
        """An outcome that is there at once is answered within `received`, and nothing is left in flight."""
        house = harness()
        exchange = house.call("at_once")
        self.assertEqual(exchange.status, 200)
        self.assertEqual(exchange.result["content"], [{"type": "text", "text": "now"}])
        self.assertEqual(exchange.result["resultType"], "complete")
        info = exchange.result["_meta"]["io.modelcontextprotocol/serverInfo"]
        self.assertEqual(info, {"name": "test", "version": "1.0"})
        self.assertEqual(house.server.in_flight, 0)
        self.assertEqual(house.clock.getDelayedCalls(), [])

    def test_coroutine_that_does_not_wait(self) -> None:
        """A coroutine that ends at once makes no timer and is never in flight."""
        house = harness(soon=without_waiting)
        self.assertEqual(house.call("soon").result["content"][0]["text"], "soon")
        self.assertEqual(house.clock.getDelayedCalls(), [])

    def test_waiting(self) -> None:
        """Work that waits is answered when it ends, with the id it was asked by; others go on meanwhile."""
        slow = Slow()
        house = harness(slow=slow)
        exchange = MemoryExchange()
        house.call("slow", exchange=exchange, id="first")
        house.call("at_once", exchange=exchange, id="second")
        self.assertEqual(house.server.in_flight, 1)
        slow.waits[0].callback("later")
        self.assertEqual([message["id"] for message in exchange.written], ["second", "first"])
        self.assertEqual(exchange.calls, {})
        self.assertEqual(house.server.in_flight, 0)
        self.assertEqual(house.counters.requests, [("tools/call", "complete")] * 2)

    def test_deferred_backend(self) -> None:
        """A backend may return a Deferred instead of a coroutine."""
        wait: Deferred[Outcome] = Deferred()
        house = harness(deferred=lambda request: wait)
        exchange = house.call("deferred")
        self.assertEqual(exchange.replies, [])
        wait.callback(text("there"))
        self.assertEqual(exchange.result["content"][0]["text"], "there")

    def test_protocol_error(self) -> None:
        """A backend's McpError reaches the client as it is, headers included."""
        house = harness(tool=protocol_error)
        exchange = house.call("tool")
        self.assertEqual(exchange.error, {"code": 1234, "message": "no", "data": {"why": "because"}})
        self.assertEqual(exchange.reply_headers, [((b"x-reason", b"no"),)])
        self.assertEqual(house.counters.requests, [("tools/call", "error")])
        self.assertEqual(house.counters.errors, [("tools/call", 1234)])

    def test_internal_error(self) -> None:
        """What a backend raises besides is logged under an id that the client gets, and nothing else of it."""
        house = harness(tool=broken)
        error = house.call("tool").error
        self.assertEqual(error["code"], -32603)
        self.assertNotIn("xyzzy", error["message"])
        [logged] = self.flushLoggedErrors(RuntimeError)
        self.assertIn("xyzzy", str(logged.value))

    def test_wrong_arguments_are_for_the_model(self) -> None:
        """Arguments that fail the schema are a tool execution error (server/tools, "Error Handling")."""
        result = harness(tool=wrong_arguments).call("tool").result
        self.assertTrue(result["isError"])
        self.assertEqual(result["content"][0]["text"], "a must be a number")

    def test_unsendable_result(self) -> None:
        """A result that is no JSON is an internal error, never silence."""
        error = harness(tool=unsendable).call("tool").error
        self.assertEqual(error["code"], -32603)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_unsendable_error_data(self) -> None:
        """An error whose data is no JSON is sent without it."""
        error = harness(tool=unsendable_error).call("tool").error
        self.assertEqual(error, {"code": 1234, "message": "no"})
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_tool_error_counts_as_error(self) -> None:
        house = harness(tool=failed_tool)
        house.call("tool")
        self.assertEqual(house.counters.requests, [("tools/call", "error")])

    def test_gates_are_released(self) -> None:
        """Admission counts nothing that has ended, however it ended."""
        slow = Slow()
        house = harness(slow=slow, broken=broken)
        house.call("at_once")
        house.call("broken")
        house.call("slow")
        self.assertEqual(house.gates.admit.under_way, 1)
        slow.waits[0].callback("")
        self.assertEqual(house.gates.admit.under_way, 0)
        self.flushLoggedErrors(RuntimeError)

    def test_recorded(self) -> None:
        """Each pass is recorded in both halves; a refusal has only the second."""
        house = harness()
        house.call("at_once")
        house.call("nobody")
        record = house.gates.record
        self.assertEqual(record.intents, [("tools/call", "at_once")])
        self.assertEqual([name for _, name, _ in record.outcomes], ["at_once", "nobody"])
        self.assertIsInstance(record.outcomes[1][2], McpError)


class Cancelling(SynchronousTestCase):
    def setUp(self) -> None:
        self.slow = Slow()
        self.house = harness(slow=self.slow)
        self.exchange = MemoryExchange()

    def cancel(self, request_id: Any, exchange: MemoryExchange | None = None) -> None:
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}}
        self.house.channel.received(msgspec.json.encode(message), exchange or self.exchange)

    def test_notification(self) -> None:
        """notifications/cancelled stops the work, frees what it held, and nothing is answered."""
        self.house.call("slow", exchange=self.exchange, id=7)
        self.cancel(7)
        self.assertEqual(self.slow.cancelled, 1)
        self.assertTrue(self.slow.requests[0].cancelled)
        self.assertEqual(self.exchange.written, [])
        self.assertEqual((self.exchange.abandoned, self.exchange.accepted), (1, 1))
        self.assertEqual(self.house.server.in_flight, 0)
        self.assertEqual(self.house.counters.requests, [("tools/call", "cancelled")])

    def test_unknown_id(self) -> None:
        """Cancelling what is not in flight is taken and does nothing."""
        self.house.call("slow", exchange=self.exchange, id=7)
        self.cancel("7")
        self.assertEqual(self.slow.cancelled, 0)
        self.assertEqual(self.exchange.accepted, 1)

    def test_only_on_its_own_connection(self) -> None:
        """A connection cannot cancel what another one asked."""
        self.house.call("slow", exchange=self.exchange, id=7)
        self.cancel(7, MemoryExchange())
        self.assertEqual(self.slow.cancelled, 0)

    def test_lost_connection(self) -> None:
        """The end of a connection cancels all that it carried, and nothing else."""
        other = MemoryExchange()
        self.house.call("slow", exchange=self.exchange, id=1)
        self.house.call("slow", exchange=self.exchange, id=2)
        self.house.call("slow", exchange=other, id=1)
        self.house.channel.closed(self.exchange)
        self.assertEqual(self.slow.cancelled, 2)
        self.assertEqual(self.house.server.in_flight, 1)
        self.slow.waits[2].callback("mine")
        self.assertEqual(other.result["content"][0]["text"], "mine")

    def test_on_cancel(self) -> None:
        """Who asked to know of the cancellation hears of it once."""
        heard: list[str] = []
        self.house.call("slow", exchange=self.exchange, id=7)
        request = self.slow.requests[0]
        request.on_cancel = [lambda: heard.append("cancelled")]
        self.cancel(7)
        request.cancel()
        self.assertEqual(heard, ["cancelled"])

    def test_nothing_after_cancellation(self) -> None:
        """A cancelled request sends nothing more, whatever its handler still does."""
        meta = {"progressToken": "t", "io.modelcontextprotocol/logLevel": "debug"}
        self.house.call("slow", exchange=self.exchange, id=7, meta=meta)
        conversation = self.slow.requests[0].conversation
        assert conversation is not None
        self.cancel(7)
        self.assertIsNone(self.slow.requests[0].conversation)
        conversation.progress(1, None, None)
        conversation.log("error", "x", None)
        self.assertEqual(self.exchange.written, [])

    def test_id_in_flight(self) -> None:
        """An id that is still in flight is refused, and the request that has it goes on."""
        self.house.call("slow", exchange=self.exchange, id=7)
        self.house.call("at_once", exchange=self.exchange, id=7)
        self.assertEqual(self.exchange.error["code"], -32600)
        self.assertEqual(self.slow.cancelled, 0)


class Ending(SynchronousTestCase):
    def test_what_it_does_at_its_end_is_left_to_it(self) -> None:
        """A call that is given up hears of that once: what it awaits then is not cancelled, too."""
        provider = Provider("p")
        waits: list[Deferred[None]] = [Deferred(), Deferred()]
        seen: list[str] = []

        @provider.tool
        async def slow() -> str:
            try:
                await waits[0]
            finally:
                try:
                    await waits[1]
                finally:
                    seen.append(f"done: {waits[1].called}")
            return ""

        for version in (MODERN, "2025-11-25"):
            waits[:] = [Deferred(), Deferred()]
            seen.clear()
            near = Harness(provider)
            target = Target("near", lambda near=near: ChannelWire(near.channel, linked=False, peer="near"))
            client = Client(target, near.clock, era=version)
            call = client.call("slow")
            near.clock.advance(0)
            call.cancel()
            self.failureResultOf(call)
            near.clock.advance(0)
            self.assertEqual((waits[0].called, waits[1].called, seen), (True, False, []))
            waits[1].callback(None)
            self.assertEqual(seen, ["done: True"])
            self.successResultOf(client.close())


class Deadlines(SynchronousTestCase):
    def test_expires(self) -> None:
        """Work past its deadline is cancelled, and its caller told."""
        slow = Slow()

        async def limited(request: Request) -> Outcome:
            return await slow(request)

        house = Harness(Scripted({"slow": limited}))
        house.gates.admit.timeout = 5.0
        exchange = house.call("slow")
        house.clock.pump([0.5] * 9)
        self.assertEqual(exchange.replies, [])
        house.clock.pump([0.5] * 3)
        self.assertEqual(exchange.error["code"], -31001)
        self.assertIn("5 s", exchange.error["message"])
        self.assertEqual(slow.cancelled, 1)
        self.assertEqual(house.clock.getDelayedCalls(), [])

    def test_in_time(self) -> None:
        """Work that ends in time leaves no timer behind."""
        slow = Slow()
        house = Harness(Scripted({"slow": slow}))
        house.gates.admit.timeout = 5.0
        exchange = house.call("slow")
        slow.waits[0].callback("done")
        self.assertEqual(exchange.result["content"][0]["text"], "done")
        house.clock.advance(1)
        self.assertEqual(house.clock.getDelayedCalls(), [])


class Notifying(SynchronousTestCase):
    def call(self, script: Any, meta: dict[str, Any], **options: Any) -> MemoryExchange:
        async def tool(request: Request) -> Outcome:
            script(request.conversation)
            return text("done")

        return harness(tool=tool).call("tool", meta=meta, **options)

    def test_progress(self) -> None:
        """Progress carries the request's token and comes before the answer; values that do not grow are dropped."""

        def script(conversation: Any) -> None:
            conversation.progress(1, 3, "one")
            conversation.progress(1, 3, "again")
            conversation.progress(0.5, None, None)
            conversation.progress(2.5, None, None)

        exchange = self.call(script, {"progressToken": 9})
        self.assertEqual(
            [message["params"] for message in exchange.written[:-1]],
            [
                {"progressToken": 9, "progress": 1, "total": 3, "message": "one"},
                {"progressToken": 9, "progress": 2.5},
            ],
        )
        self.assertIn("result", exchange.written[-1])

    def test_no_token(self) -> None:
        exchange = self.call(lambda conversation: conversation.progress(1, None, None), {})
        self.assertEqual(exchange.notifications, [])

    def test_log_level(self) -> None:
        """Log messages below the request's level, and all of a request without one, are not sent."""

        def script(conversation: Any) -> None:
            conversation.log("info", {"a": 1}, "me")
            conversation.log("error", "bad", None)

        self.assertEqual(self.call(script, {}).notifications, [])
        exchange = self.call(script, {"io.modelcontextprotocol/logLevel": "warning"})
        self.assertEqual(
            [one["params"] for one in exchange.notifications], [{"level": "error", "data": "bad"}]
        )
        exchange = self.call(script, {"io.modelcontextprotocol/logLevel": "debug"})
        self.assertEqual(
            exchange.notifications[0]["params"], {"level": "info", "data": {"a": 1}, "logger": "me"}
        )

    def test_slow_reader_and_json_only(self) -> None:
        """What may be left out is not sent to a peer that reads too slowly, or takes no stream."""
        congested = MemoryExchange()
        congested.congested = True
        for exchange in (congested, MemoryExchange({}, streaming=False)):
            conversation = None

            async def tool(request: Request) -> Outcome:
                nonlocal conversation
                conversation = request.conversation
                assert conversation is not None
                conversation.progress(1, None, None)
                return text("done")

            house = harness(tool=tool)
            exchange.headers = None
            house.call("tool", meta={"progressToken": 1}, exchange=exchange)
            self.assertEqual(exchange.notifications, [])
            self.assertEqual(exchange.status, 200)


@implementer(IMiddleware)
class Shouting:
    name = "shouting"

    def __init__(self, mark: str) -> None:
        self.mark = mark

    async def wrap(self, request: Request, call_next: Any) -> Outcome:
        outcome: Complete = await call_next(request)
        outcome.fields["content"][0]["text"] += self.mark
        return outcome


class Middleware(SynchronousTestCase):
    def test_order(self) -> None:
        """The first middleware is the outermost; at once and after a wait alike."""
        slow = Slow()
        backend = Scripted({"at_once": at_once, "slow": slow, "soon": without_waiting})
        house = Harness(backend, middleware=[Shouting("!"), Shouting("?")])
        self.assertEqual(house.call("at_once").result["content"][0]["text"], "now?!")
        self.assertEqual(house.call("soon").result["content"][0]["text"], "soon?!")
        exchange = house.call("slow")
        slow.waits[0].callback("slowly")
        self.assertEqual(exchange.result["content"][0]["text"], "slowly?!")


class Messages(SynchronousTestCase):
    """What is no modern request."""

    def setUp(self) -> None:
        self.house = harness()

    def receive(self, message: Any, headers: dict[bytes, bytes] | None = None) -> MemoryExchange:
        exchange = MemoryExchange(headers)
        raw = message if isinstance(message, bytes) else msgspec.json.encode(message)
        self.house.channel.received(raw, exchange)
        return exchange

    def test_malformed(self) -> None:
        """What is no JSON-RPC is answered without an id, with HTTP 400."""
        exchange = self.receive(b"{")
        self.assertEqual(exchange.status, 400)
        self.assertNotIn("id", exchange.answer)
        self.assertEqual(exchange.error["code"], -32700)
        self.assertEqual(self.house.counters.errors, [("", -32700)])

    def test_malformed_notification(self) -> None:
        """A notification is never answered, however wrong it is; HTTP has a status to say it with."""
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}}
        exchange = self.receive(message)
        self.assertEqual((exchange.accepted, exchange.replies), (1, []))
        exchange = self.receive(message, {})
        self.assertEqual((exchange.status, exchange.error["code"]), (400, -32602))
        self.assertNotIn("id", exchange.answer)

    def test_batch(self) -> None:
        exchange = self.receive([{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}])
        self.assertEqual((exchange.status, exchange.error["code"]), (400, -32600))

    def test_initialize(self) -> None:
        """An initialize without what it needs is told what (docs/reference/eras.md has the rest of that era)."""
        exchange = self.receive(
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
        )
        self.assertEqual(exchange.error["code"], -32602)
        self.assertIn("capabilities", exchange.error["message"])

    def test_no_envelope(self) -> None:
        for message in (
            {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
            {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {}},
        ):
            exchange = self.receive(message)
            self.assertEqual(exchange.status, 400)

    def test_unknown_method(self) -> None:
        exchange = self.house.send("tools/dance")
        self.assertEqual((exchange.status, exchange.error["code"]), (404, -32601))

    def test_undeclared_capability(self) -> None:
        """A method of a capability that is not declared does not exist."""
        house = Harness()
        for method in ("tools/list", "resources/list", "prompts/list", "completion/complete"):
            exchange = house.send(method)
            self.assertEqual((exchange.status, exchange.error["code"]), (404, -32601), method)

    def test_missing_name(self) -> None:
        exchange = self.house.send("tools/call")
        self.assertEqual(exchange.error["code"], -32602)
        self.assertIn("params.name", exchange.error["message"])

    def test_wrong_type(self) -> None:
        exchange = self.house.send("tools/call", {"name": 5})
        self.assertEqual(exchange.error["code"], -32602)
        self.assertEqual(exchange.answer["id"], 1)

    def test_headers(self) -> None:
        """On HTTP the headers must agree with the body, before anything else is looked at."""
        exchange = MemoryExchange({b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"tools/list"})
        self.house.call("at_once", exchange=exchange)
        self.assertEqual((exchange.status, exchange.error["code"]), (400, -32020))

    def test_response(self) -> None:
        """A response to nothing: taken on a stream, refused on HTTP, where it has no session."""
        message = {"jsonrpc": "2.0", "id": 1, "result": {}}
        self.assertEqual(self.receive(message).accepted, 1)
        exchange = self.receive(message, {})
        self.assertEqual((exchange.status, exchange.error["code"]), (400, -32600))

    def test_notification(self) -> None:
        """Notifications are taken and never answered; on HTTP those of the handshake era need a session."""
        message = {"jsonrpc": "2.0", "method": "notifications/whatever"}
        for headers in (None, {b"mcp-protocol-version": b"2026-07-28"}):
            exchange = self.receive(message, headers)
            self.assertEqual((exchange.accepted, exchange.replies), (1, []))
        self.assertEqual(self.receive(message, {}).status, 400)

    def test_trace(self) -> None:
        """The trace context of a request travels with it."""
        seen: list[Any] = []

        def tool(request: Request) -> Outcome:
            seen.append(request.trace)
            return text("")

        house = harness(tool=tool)
        house.call("tool", meta={"traceparent": TRACEPARENT, "baggage": "k=v"})
        house.call("tool")
        self.assertEqual(seen, [{"traceparent": TRACEPARENT, "baggage": "k=v"}, None])


class Stopping(SynchronousTestCase):
    def test_drain(self) -> None:
        """Draining waits for what is in flight."""
        slow = Slow()
        house = harness(slow=slow)
        exchange = house.call("slow")
        drained = house.server.drain()
        self.assertNoResult(drained)
        slow.waits[0].callback("in time")
        self.successResultOf(drained)
        self.assertEqual(exchange.result["content"][0]["text"], "in time")

    def test_stop(self) -> None:
        """What is left at the deadline is ended, and its callers told."""
        slow = Slow()
        house = harness(slow=slow)
        exchange = house.call("slow")
        house.server.stop()
        self.assertEqual((exchange.status, exchange.error["code"]), (503, -31005))
        self.assertEqual(slow.cancelled, 1)
        self.assertEqual(house.clock.getDelayedCalls(), [])
