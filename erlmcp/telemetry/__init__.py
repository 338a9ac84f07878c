"""Counters as plain slots, and logs. Their Prometheus side, `erlmcp.telemetry.exposition`, is imported on need."""

from erlmcp.telemetry._counters import BUCKETS, Counters, Histogram
from erlmcp.telemetry._logs import Logger, log_from, log_to

__all__ = ["BUCKETS", "Counters", "Histogram", "Logger", "log_from", "log_to"]
