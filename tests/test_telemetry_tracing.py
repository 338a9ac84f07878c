"""Trace context: what is taken from clients and passed on, and the spans that are made of requests."""

import os
import sys
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp.governor import AuthorizeGate
from erlmcp.interfaces import Complete, NeedsInput, Outcome, Peer, Request
from erlmcp.protocol import TraceParent, errors, read_trace, read_traceparent, trace_of_headers
from erlmcp.receipts import Unrecorded
from erlmcp.telemetry import RequestFailure
from erlmcp.testing import Harness, MemoryExchange
from tests.scripted import Scripted, text
from tests.skips import need

try:
    from opentelemetry import trace as otel
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from erlmcp.telemetry import tracing
except ImportError:  # the tests that need it say so
    tracing = None  # type: ignore[assignment]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


class TraceParentTests(SynchronousTestCase):
    """`read_traceparent` (W3C Trace Context, section 3.2)."""

    def test_good(self) -> None:
        self.assertEqual(read_traceparent(PARENT), TraceParent(TRACE, SPAN, True))
        self.assertEqual(read_traceparent(PARENT[:-1] + "2"), TraceParent(TRACE, SPAN, False))
        self.assertEqual(read_traceparent(f"01-{TRACE}-{SPAN}-01-more"), TraceParent(TRACE, SPAN, True))
        self.assertEqual(str(TraceParent(TRACE, SPAN, True)), PARENT)

    def test_bad(self) -> None:
        for bad in (
            "",
            f"ff-{TRACE}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}-01-more",
            f"00-{TRACE}-{SPAN}-01\n",
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            PARENT.upper(),
            PARENT.replace("0a", "٠a"),
            f"01-{TRACE}-{SPAN}-01-" + "x" * 1000,
        ):
            self.assertIsNone(read_traceparent(bad), bad)

    @given(st.text(max_size=80))
    @settings(deadline=None)
    def test_any_text(self, text: str) -> None:
        found = read_traceparent(text)
        if found is not None:
            self.assertEqual(read_traceparent(str(found)), found)


class TraceTests(SynchronousTestCase):
    """`read_trace`, `trace_of_headers`."""

    def test_parts(self) -> None:
        whole = {"traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "user=x;p,k=v"}
        self.assertEqual(read_trace(*whole.values()), whole)
        headers = {name.encode(): value.encode() for name, value in whole.items()}
        self.assertEqual(trace_of_headers(headers), whole)
        self.assertIsNone(trace_of_headers({}))
        self.assertIsNone(read_trace(None))

    def test_state_without_parent(self) -> None:
        self.assertIsNone(read_trace("bad", "a=1"))
        self.assertEqual(read_trace("bad", "a=1", "k=v"), {"baggage": "k=v"})

    def test_what_may_not_be_passed_on(self) -> None:
        for state in ("a=1\r\nx: y", "a" * 513, ",".join(["a=1"] * 33), "ä=1", "", 7):
            self.assertEqual(read_trace(PARENT, state), {"traceparent": PARENT}, state)
        for baggage in ("k=v\n", "k" * 8193, ",".join(["k=v"] * 65), "k=ü", ["k"]):
            self.assertIsNone(read_trace(None, None, baggage), baggage)


class WireTests(SynchronousTestCase):
    """What a backend, and so an upstream, gets of it."""

    def setUp(self) -> None:
        self.seen: list[Any] = []

        async def tool(request: Request) -> Outcome:
            self.seen.append(request.trace)
            return text("done")

        self.house = Harness(Scripted({"t": tool}))

    def over_http(self, sent: dict[bytes, bytes], meta: dict[str, Any] | None = None) -> Any:
        headers = {
            b"mcp-protocol-version": b"2026-07-28",
            b"mcp-method": b"tools/call",
            b"mcp-name": b"t",
            **sent,
        }
        self.house.call("t", {"a": 1, "b": 2}, meta=meta, exchange=MemoryExchange(headers=headers))
        return self.seen.pop()

    def test_meta(self) -> None:
        for meta, found in (
            ({"traceparent": PARENT, "baggage": "k=v"}, {"traceparent": PARENT, "baggage": "k=v"}),
            ({"traceparent": "nonsense", "tracestate": "a=1"}, None),
            ({}, None),
        ):
            self.house.call("t", {"a": 1, "b": 2}, meta=meta)
            self.assertEqual(self.seen.pop(), found)

    def test_handshake(self) -> None:
        stream = self.house.initialize()
        params = {"name": "t", "arguments": {"a": 1, "b": 2}, "_meta": {"traceparent": PARENT}}
        self.house.legacy("tools/call", params, exchange=stream)
        self.assertEqual(self.seen, [{"traceparent": PARENT}])

    def test_headers(self) -> None:
        self.assertEqual(
            self.over_http({b"traceparent": PARENT.encode(), b"baggage": b"k=v"}),
            {"traceparent": PARENT, "baggage": "k=v"},
        )
        self.assertIsNone(self.over_http({b"traceparent": b"a, b"}))
        self.assertIsNone(self.over_http({}))

    def test_meta_wins(self) -> None:
        """It belongs to the message; a header may be that of a proxy's own trace."""
        other = PARENT.replace(SPAN, "b" * 16)
        found = self.over_http(
            {b"traceparent": other.encode(), b"tracestate": b"a=1"}, {"traceparent": PARENT}
        )
        self.assertEqual(found, {"traceparent": PARENT})


class SpanTestCase(TestCase):
    def setUp(self) -> None:
        need(tracing is not None, "opentelemetry-sdk is not installed (pip install '.[otel]')")
        from twisted.internet import reactor

        self.exporter = InMemorySpanExporter()
        self.tracing = tracing.Tracing(
            reactor, lambda: self.exporter, name="house", version="9", processor=SimpleSpanProcessor
        )
        self.tracing.startService()
        self.addCleanup(self.tracing.stopService)
        self.gate = self.tracing.authorize(AuthorizeGate())
        self.record = self.tracing.record(Unrecorded())

    def passed(
        self, asked: Request, outcome: Outcome | None = None, error: BaseException | None = None
    ) -> dict[str, Any]:
        self.gate.check(asked)
        self.record.outcome(asked, outcome, error)
        (span,) = self.exporter.get_finished_spans()
        self.exporter.clear()
        return {
            "name": span.name,
            "kind": span.kind,
            "status": span.status.status_code.name,
            "parent": None if span.parent is None else f"{span.parent.span_id:016x}",
            "trace": f"{span.context.trace_id:032x}",
            "span": f"{span.context.span_id:016x}",
            "seconds": (span.end_time - span.start_time) / 1e9,
            "resource": dict(span.resource.attributes),
            **dict(span.attributes),
        }

    def asked(self, **fields: Any) -> Request:
        peer = Peer(transport="http", address="127.0.0.1:51234", host="127.0.0.1")
        return Request(
            **{"id": 7, "method": "tools/call", "name": "add", "peer": peer, "target": "found", **fields}
        )


class SpanTests(SpanTestCase):
    """Spans as the conventions for MCP have them."""

    def test_a_tool_call(self) -> None:
        asked = self.asked(trace={"traceparent": PARENT, "tracestate": "a=1", "baggage": "k=v"})
        span = self.passed(asked, Complete({"content": []}))
        for key, value in {
            "name": "tools/call add",
            "kind": otel.SpanKind.SERVER,
            "status": "UNSET",
            "parent": SPAN,
            "trace": TRACE,
            "mcp.method.name": "tools/call",
            "mcp.protocol.version": "2026-07-28",
            "jsonrpc.request.id": "7",
            "gen_ai.tool.name": "add",
            "gen_ai.operation.name": "execute_tool",
            "network.transport": "tcp",
            "network.protocol.name": "http",
            "client.address": "127.0.0.1",
            "client.port": 51234,
            "erlmcp.request.reference": asked.reference,
        }.items():
            self.assertEqual(span[key], value, key)
        self.assertNotIn("error.type", span)
        self.assertEqual(
            (span["resource"]["service.name"], span["resource"]["service.version"]), ("house", "9")
        )
        # An upstream's parent is this span, in the client's trace.
        self.assertEqual(
            asked.trace,
            {"traceparent": f"00-{TRACE}-{span['span']}-01", "tracestate": "a=1", "baggage": "k=v"},
        )

    def test_the_environment_may_name_it(self) -> None:
        os.environ["OTEL_SERVICE_NAME"] = "theirs"
        self.addCleanup(os.environ.pop, "OTEL_SERVICE_NAME")
        self.tracing.stopService()
        self.exporter = InMemorySpanExporter()
        self.tracing.startService()
        self.assertEqual(self.passed(self.asked(), Complete({}))["resource"]["service.name"], "theirs")

    def test_other_methods(self) -> None:
        span = self.passed(self.asked(method="prompts/get", name="review"), Complete({}))
        self.assertEqual((span["name"], span["gen_ai.prompt.name"]), ("prompts/get review", "review"))
        span = self.passed(
            self.asked(method="resources/read", name="a://b", peer=Peer(transport="stdio")), Complete({})
        )
        self.assertEqual((span["name"], span["mcp.resource.uri"]), ("resources/read", "a://b"))
        self.assertEqual(span["network.transport"], "pipe")
        self.assertNotIn("client.address", span)

    def test_made_up_names(self) -> None:
        """They are no part of a span's name, whose number must stay small."""
        span = self.passed(
            self.asked(name="x" * 99, target=None), None, errors.invalid_params("no such tool")
        )
        self.assertEqual((span["name"], span["error.type"]), ("tools/call", "-32602"))
        self.assertEqual((span["rpc.response.status_code"], span["status"]), ("-32602", "ERROR"))

    def test_what_came_of_it(self) -> None:
        for outcome, error, kind, status in (
            (Complete({"isError": True}), None, "tool_error", "ERROR"),
            (NeedsInput({}), None, None, "UNSET"),
            (None, KeyError("secret"), "KeyError", "ERROR"),
        ):
            span = self.passed(self.asked(), outcome, error)
            self.assertEqual((span.get("error.type"), span["status"]), (kind, status))
            self.assertNotIn("secret", str(span))
        span = self.passed(self.asked(cancelled=True), None, CancelledError())
        self.assertEqual((span["error.type"], span["status"]), ("cancelled", "UNSET"))

    def test_time(self) -> None:
        """A span begins when its request arrived."""
        import time

        self.assertGreaterEqual(
            self.passed(self.asked(received=time.perf_counter() - 2), Complete({}))["seconds"], 2
        )

    def test_arguments_only_if_asked_for(self) -> None:
        asked = self.asked(arguments={"password": "hunter2!"})
        self.assertNotIn("hunter2!", str(self.passed(asked, Complete({}))))
        self.patch(RequestFailure, "shows_arguments", True)
        span = self.passed(self.asked(arguments={"a": 1}), Complete({}))
        self.assertEqual(span["gen_ai.tool.call.arguments"], '{"a":1}')

    def test_the_caller_decides_whether(self) -> None:
        asked = self.asked(trace={"traceparent": PARENT[:-1] + "0"})
        self.gate.check(asked)
        self.record.outcome(asked, Complete({}), None)
        self.assertEqual(self.exporter.get_finished_spans(), ())
        assert asked.trace is not None
        self.assertTrue(asked.trace["traceparent"].startswith(f"00-{TRACE}-"))
        self.assertTrue(asked.trace["traceparent"].endswith("-00"))

    def test_nothing_begun(self) -> None:
        """What was refused before gate 3, what is no request, and what comes when it has stopped."""
        self.record.outcome(self.asked(), None, errors.internal())
        self.gate.check(self.asked(method=""))
        self.tracing.stopService()
        asked = self.asked()
        self.gate.check(asked)
        self.assertIsNone(asked.span)
        self.assertEqual(self.exporter.get_finished_spans(), ())
        self.assertIs(self.gate.everything, AuthorizeGate().everything)
        self.assertTrue(self.gate.shows(asked.principal, "tools/call", "add"))


class CurrentSpanTests(SpanTestCase):
    """What a backend traces is the child of its request's span; the next request's is not."""

    def test_children(self) -> None:
        tracer = self.tracing._tracer
        assert tracer is not None
        waits: list[Deferred[None]] = []

        async def tool(request: Request) -> Outcome:
            with tracer.start_as_current_span("before"):
                pass
            waits.append(Deferred())
            await waits[-1]
            with tracer.start_as_current_span("after"):
                pass
            return text("done")

        async def call_next(request: Request) -> Outcome:
            return await tool(request)

        first, second = self.asked(id=1), self.asked(id=2)
        results = []
        for one in (first, second):
            self.gate.check(one)
            results.append(self.tracing.current.wrap(one, call_next))
            self.assertEqual(otel.get_current_span(), otel.INVALID_SPAN)
        for wait in reversed(waits):
            wait.callback(None)
            self.assertEqual(otel.get_current_span(), otel.INVALID_SPAN)
        for one, result in zip((first, second), results, strict=True):
            outcome = self.successResultOf(result)
            self.record.outcome(one, outcome, None)
        spans = self.exporter.get_finished_spans()
        parents = {span.name: set() for span in spans}
        for span in spans:
            parents[span.name].add(None if span.parent is None else span.parent.span_id)
        own = {span.context.span_id for span in spans if span.name == "tools/call add"}
        self.assertEqual(len(own), 2)
        self.assertEqual((parents["before"], parents["after"]), (own, own))

    def test_untraced(self) -> None:
        async def call_next(request: Request) -> Outcome:
            return text("done")

        coroutine = self.tracing.current.wrap(self.asked(), call_next)
        self.assertRaises(StopIteration, coroutine.send, None)


class PipelineTests(SpanTestCase):
    """Through the house: a span for each request, of either era."""

    def test_both_eras(self) -> None:
        async def tool(request: Request) -> Outcome:
            self.assertTrue(otel.get_current_span().is_recording())
            return text("done")

        house = Harness(Scripted({"t": tool}), middleware=[self.tracing.current])
        gates = msgspec.structs.replace(
            house.gates,
            authorize=self.tracing.authorize(house.gates.authorize),
            record=self.tracing.record(house.gates.record),
        )
        house = Harness(Scripted({"t": tool}), gates=gates, middleware=[self.tracing.current])
        house.call("t", {"a": 1, "b": 2}, meta={"traceparent": PARENT})
        stream = house.initialize()
        house.legacy("tools/call", {"name": "t", "arguments": {"a": 1, "b": 2}}, exchange=stream)
        names = [span.name for span in self.exporter.get_finished_spans()]
        self.assertEqual(names, ["tools/call t", "initialize", "tools/call t"])
        first, _, last = self.exporter.get_finished_spans()
        self.assertEqual((f"{first.context.trace_id:032x}", last.parent), (TRACE, None))


class CostTests(SynchronousTestCase):
    """Where nobody traces, nothing of OpenTelemetry is even imported."""

    def test_imports(self) -> None:
        import subprocess

        from tests.daemon import ROOT, environment

        code = "import sys, erlmcp.tap; print(any(name.startswith('opentelemetry') for name in sys.modules))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env=environment(),
        )
        self.assertEqual(done.stdout.strip(), "False")
