"""OpenTelemetry spans of requests, as its conventions for MCP name them. It imports opentelemetry: import it on need.

Gate 3 begins a span, the record of the outcome (gate 10) ends it, and a middleware makes it the current one while a
backend works. Where nobody traces, none of them is there.
"""

import contextvars
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from erlmcp.interfaces import (
    Complete,
    IAuthorize,
    IMiddleware,
    IRecord,
    NeedsInput,
    Outcome,
    Principal,
    Request,
)
from erlmcp.protocol import McpError, read_traceparent
from erlmcp.telemetry._failures import RequestFailure, about

FLUSH: Final = 2000
"""Milliseconds that spans not yet sent get at the end."""

_TARGETS: Final = {"tools/call": "gen_ai.tool.name", "prompts/get": "gen_ai.prompt.name"}


def otlp_exporter(endpoint: str | None) -> SpanExporter:
    """An exporter to a collector, by OTLP over HTTP.

    Args:
        endpoint: its URL; None for what ``OTEL_EXPORTER_OTLP_…`` of the environment say.
    """
    return OTLPSpanExporter(endpoint=endpoint)


class Tracing(Service):
    """Makes spans between its start and its stop.

    Args:
        reactor: ``IReactorFromThreads``.
        exporter: makes what sends them, after the fork: it has a thread.
        name, version: of the service.
        share: of the traces that begin here, which are recorded; those that a caller began go by its decision.
        processor: makes what hands ended spans to the exporter.
    """

    def __init__(
        self,
        reactor: Any,
        exporter: Callable[[], SpanExporter],
        *,
        name: str = "erlmcp",
        version: str = "",
        share: float = 1.0,
        processor: Callable[[SpanExporter], SpanProcessor] = BatchSpanProcessor,
    ) -> None:
        self.setName("tracing")  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._exporter = exporter
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        self._resource = {"service.name": name, "service.version": version}
        self._share = share
        self._processor = processor
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer | None = None

    def startService(self) -> None:
        """Begin to make spans."""
        super().startService()  # type: ignore[no-untyped-call]
        sampler = ParentBased(TraceIdRatioBased(self._share))
        found = Resource.create()
        said = found.attributes if not str(found.attributes.get("service.name")).startswith("unknown") else {}
        own = Resource({name: value for name, value in self._resource.items() if name not in said})
        self._provider = TracerProvider(sampler=sampler, resource=found.merge(own), shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor(self._exporter()))
        self._tracer = self._provider.get_tracer("erlmcp", self._resource["service.version"])

    def stopService(self) -> Deferred[None]:
        """Make no more, and send what there is.

        That may take a moment, and a collector that hangs must hold up neither the reactor nor the end of the process:
        it is done in a thread that nobody joins.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        provider, self._provider = self._provider, None
        self._tracer = None
        if provider is None:
            return succeed(None)

        done: Deferred[None] = Deferred()

        def flush() -> None:
            provider.force_flush(FLUSH)
            provider.shutdown()
            self._reactor.callFromThread(done.callback, None)

        threading.Thread(target=flush, name="erlmcp-tracing-flush", daemon=True).start()
        return done

    @property
    def current(self) -> "CurrentSpan":
        """The middleware that goes around all others."""
        return CurrentSpan()

    def authorize(self, gate: IAuthorize) -> "TracedAuthorize":
        """Gate 3, so that it begins spans."""
        return TracedAuthorize(gate, self)

    def record(self, record: IRecord) -> "TracedRecord":
        """Gates 7 and 10, so that they end them."""
        return TracedRecord(record, self)

    def begin(self, request: Request) -> None:
        """Begin the span of a request, as the child of its client's; upstreams are given ours as theirs."""
        tracer = self._tracer
        if tracer is None or request.span is not None or not request.method:
            return
        sent = request.trace or {}
        parent = _parent(sent)
        began = (
            time.time_ns() - round((time.perf_counter() - request.received) * 1e9)
            if request.received
            else None
        )
        span = tracer.start_span(request.method, parent, SpanKind.SERVER, start_time=began)
        request.span = span
        own = span.get_span_context()
        if own.is_valid:
            flags = own.trace_flags & TraceFlags.SAMPLED
            request.trace = {**sent, "traceparent": f"00-{own.trace_id:032x}-{own.span_id:016x}-{flags:02x}"}

    def end(self, request: Request, outcome: Outcome | None, error: BaseException | None) -> None:
        """End the span of a request with what came of it."""
        span: trace.Span | None = request.span
        if span is None:
            return
        request.span = None
        if span.is_recording():
            _describe(span, request)
            _judge(span, request, outcome, error)
        span.end()


@implementer(IAuthorize)
class TracedAuthorize:
    """Gate 3, and the beginning of a span: the first gate that sees requests of either era as what they are.

    Args:
        gate: the gate itself.
        tracing: makes the span.
    """

    def __init__(self, gate: IAuthorize, tracing: Tracing) -> None:
        self._tracing = tracing
        self._check = gate.check
        self._gate = gate

    @property
    def everything(self) -> bool:
        """See `IAuthorize`."""
        everything: bool = self._gate.everything
        return everything

    def check(self, request: Request) -> Awaitable[None] | None:
        """See `IGate`."""
        self._tracing.begin(request)
        return self._check(request)

    def shows(self, principal: Principal, method: str, name: str) -> bool:
        """See `IAuthorize`."""
        shown: bool = self._gate.shows(principal, method, name)
        return shown


@implementer(IRecord)
class TracedRecord:
    """Gates 7 and 10, and the end of a span.

    Args:
        record: what they are without it.
        tracing: ends the span.
    """

    def __init__(self, record: IRecord, tracing: Tracing) -> None:
        self._tracing = tracing
        self.intent = record.intent
        self._outcome = record.outcome

    def outcome(
        self, request: Request, outcome: Outcome | None, error: BaseException | None
    ) -> Awaitable[None] | None:
        """See `IRecord`."""
        self._tracing.end(request, outcome, error)
        return self._outcome(request, outcome, error)


@implementer(IMiddleware)
class CurrentSpan:
    """While a backend works on a request, its span is the current one: what the backend traces is its child."""

    name = "current-span"

    def wrap(self, request: Request, call_next: Callable[[Request], Awaitable[Outcome]]) -> Any:
        """See `IMiddleware`; in a context of its own, or one request's span would become that of the next."""
        if request.span is None:
            return call_next(request)
        context = contextvars.copy_context()
        context.run(contexts.attach, trace.set_span_in_context(request.span))
        return context.run(Deferred.fromCoroutine, cast("Any", call_next(request)))


def _parent(sent: Any) -> contexts.Context:
    # An empty context: what is current in the reactor's thread is no request's.
    context = contexts.Context()
    parent = read_traceparent(sent["traceparent"]) if "traceparent" in sent else None
    if parent is None:
        return context
    span_context = SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT),
        trace_state=TraceState.from_header([sent["tracestate"]]) if "tracestate" in sent else None,
    )
    return trace.set_span_in_context(NonRecordingSpan(span_context), context)


def _describe(span: trace.Span, request: Request) -> None:
    """What the conventions for MCP say of a server's span (semantic conventions of OpenTelemetry, "gen-ai/mcp")."""
    # A name that nobody answers is the client's invention, and no part of a span's name.
    target = _TARGETS.get(request.method) if request.target is not None else None
    if target is not None:
        span.update_name(f"{request.method} {request.name}")
        span.set_attribute(target, request.name)
    peer = request.peer
    attributes: dict[str, Any] = {
        "mcp.method.name": request.method,
        "mcp.protocol.version": request.version,
        "jsonrpc.request.id": str(request.id),
        "network.transport": "pipe" if not peer.host else "tcp",
        "erlmcp.request.reference": request.refer(),
    }
    if request.method == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    if request.method.startswith("resources/") and request.name:
        attributes["mcp.resource.uri"] = request.name
    if peer.transport == "http":
        attributes["network.protocol.name"] = "http"
    if peer.host:
        attributes["client.address"] = peer.host
        port = peer.address.rpartition(":")[2]
        if port.isdecimal():
            attributes["client.port"] = int(port)
    if RequestFailure.shows_arguments:
        arguments = about(request).get("arguments")
        if arguments is not None:
            attributes["gen_ai.tool.call.arguments"] = arguments
    span.set_attributes(attributes)


def _judge(span: trace.Span, request: Request, outcome: Outcome | None, error: BaseException | None) -> None:
    if error is None:
        if isinstance(outcome, Complete) and outcome.fields.get("isError"):
            span.set_attribute("error.type", "tool_error")
            span.set_status(Status(StatusCode.ERROR))
        elif isinstance(outcome, NeedsInput):
            span.set_attribute("erlmcp.outcome", "input_required")
    elif isinstance(error, McpError):
        span.set_attribute("rpc.response.status_code", str(error.code))
        span.set_attribute("error.type", str(error.code))
        # Not the message: it may show what was asked.
        span.set_status(Status(StatusCode.ERROR))
    elif request.cancelled:
        span.set_attribute("error.type", "cancelled")
    else:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR))
