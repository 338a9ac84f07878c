"""Counters as plain slots, and logs.

Imported on need: their Prometheus side, `erlmcp.telemetry.exposition`, and spans, `erlmcp.telemetry.tracing`.
"""

from erlmcp.telemetry._access import AccessLog
from erlmcp.telemetry._counters import BUCKETS, Counters, Histogram
from erlmcp.telemetry._failures import RequestFailure, about, report
from erlmcp.telemetry._logs import Logger, log_from, log_to
from erlmcp.telemetry._merging import Sums, snapshot
from erlmcp.telemetry._output import FORMS, Output

__all__ = [
    "BUCKETS",
    "FORMS",
    "AccessLog",
    "Counters",
    "Histogram",
    "Logger",
    "Output",
    "RequestFailure",
    "Sums",
    "about",
    "log_from",
    "log_to",
    "report",
    "snapshot",
]
