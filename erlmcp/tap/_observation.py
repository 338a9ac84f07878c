"""Who looks on while requests are served: the access log and spans, each only where the configuration wants it."""

from typing import Any

from erlmcp import __version__
from erlmcp.config import Problem, Settings
from erlmcp.interfaces import ICounters
from erlmcp.telemetry import AccessLog


def observed(settings: Settings, counters: ICounters) -> ICounters:
    """The counters, with the access log around them if there is one."""
    share = settings.telemetry.access_log
    return AccessLog(counters, share) if share > 0 else counters


def make_tracing(settings: Settings, reactor: Any, problems: list[Problem]) -> Any:
    """What makes spans, an `erlmcp.telemetry.tracing.Tracing`; None where none are wanted.

    Args:
        settings: the configuration.
        reactor: what everything runs on.
        problems: where it is noted that OpenTelemetry is not installed.
    """
    telemetry = settings.telemetry
    if telemetry.traces == "none":
        if telemetry.traces_endpoint is not None:
            wrong = "there is an endpoint for traces, but none are sent"
            problems.append(settings.problem("telemetry.traces_endpoint", wrong, 'say traces = "otlp"'))
        return None
    endpoint = telemetry.traces_endpoint
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        right = "it is a URL, such as http://127.0.0.1:4318/v1/traces"
        problems.append(settings.problem("telemetry.traces_endpoint", f"{endpoint!r} will not do", right))
    try:
        # Only who traces pays for the import.
        from erlmcp.telemetry import tracing
    except ImportError as error:
        wrong = f"OpenTelemetry is not installed ({error})"
        problems.append(settings.problem("telemetry.traces", wrong, "pip install 'erlmcp[otel]'"))
        return None
    return tracing.Tracing(
        reactor,
        lambda: tracing.otlp_exporter(endpoint),
        name=settings.server.name,
        version=settings.server.version or __version__,
        share=telemetry.traces_share,
    )
