"""The counters as Prometheus samples, made when asked for. It imports prometheus_client: import it on need only."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from erlmcp.telemetry._counters import BUCKETS, Counters
from erlmcp.telemetry._merging import Sums

_GAUGES = {
    "erlmcp_connections_active": ("Connections that are open.", ("listener", "transport")),
    "erlmcp_engine_bytes": ("What the engine's entries count, in bytes.", ()),
    "erlmcp_engine_entries": ("Entries in the engine.", ()),
    "erlmcp_reactor_lag_seconds": ("How late the reactor's last timer was, measured each second.", ()),
    "erlmcp_workers": ("Worker processes, by where they stand.", ("state",)),
    "erlmcp_requests_parked": ("Requests that wait for their client's answer.", ()),
    "erlmcp_requests_in_flight": ("Requests that have been admitted and not answered yet.", ()),
    "erlmcp_upstream_followed": ("Resources of an upstream whose updates somebody follows.", ("upstream",)),
    "erlmcp_upstream_open": ("Processes whose breaker keeps calls from an upstream.", ("upstream",)),
    "erlmcp_upstream_sessions": ("Sessions with an upstream.", ("upstream",)),
    "erlmcp_upstream_stale": ("Processes in which the lists of an upstream may not be true.", ("upstream",)),
    "erlmcp_upstream_waiting": ("Calls that wait for a session with an upstream.", ("upstream",)),
}
_TOTALS = {
    "erlmcp_connections_flooded_total": (
        "Connections that were ended since their client asked for too much.",
        ("listener",),
    ),
    "erlmcp_connections_refused_total": (
        "Connections that were refused, by the limit they hit.",
        ("listener", "limit"),
    ),
    "erlmcp_engine_write_failures_total": (
        "Transactions of the engine that could not be written.",
        (),
    ),
    "erlmcp_upstream_calls_total": (
        "Calls carried to an upstream, by what became of them.",
        ("upstream", "outcome"),
    ),
}
_BOUNDS = (*map(str, BUCKETS), "+Inf")


class Collector:
    """A prometheus_client collector over `Counters`.

    Args:
        counters: the slots.
        version: of erlmcp, for ``erlmcp_build_info``.
    """

    def __init__(self, counters: Counters | Sums, version: str) -> None:
        self._counters = counters
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Every metric, as it is now."""
        info = GaugeMetricFamily("erlmcp_build_info", "The version that runs.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield from self._requests()
        errors = CounterMetricFamily(
            "erlmcp_errors", "JSON-RPC errors sent, by code.", labels=["method", "code"]
        )
        for (method, code), count in self._counters.errors.items():
            errors.add_metric([method, str(code)], count)
        yield errors
        for name, (help_text, labels) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, help_text, labels=labels)
            for values, read in self._counters.gauges.get(name, {}).items():
                gauge.add_metric(values, read())
            yield gauge
        for name, (help_text, labels) in _TOTALS.items():
            total = CounterMetricFamily(name.removesuffix("_total"), help_text, labels=labels)
            for values, read in self._counters.gauges.get(name, {}).items():
                total.add_metric(values, read())
            yield total

    def _requests(self) -> Iterator[Metric]:
        total = CounterMetricFamily(
            "erlmcp_requests",
            "Requests by what came of them.",
            labels=["method", "tool", "outcome", "transport", "era"],
        )
        # One histogram has twenty series: the outcome and the era are left to the counter.
        durations: dict[tuple[str, str, str], tuple[list[int], float]] = {}
        for labels, slot in self._counters.requests.items():
            total.add_metric(labels, slot.count)
            key = (labels[0], labels[1], labels[3])
            buckets, seconds = durations.get(key, ([0] * len(_BOUNDS), 0.0))
            durations[key] = ([a + b for a, b in zip(buckets, slot.buckets, strict=True)], seconds + slot.sum)
        yield total
        histogram = HistogramMetricFamily(
            "erlmcp_request_duration_seconds",
            "Time from a request's arrival to its outcome.",
            labels=["method", "tool", "transport"],
        )
        for key, (buckets, seconds) in durations.items():
            running = 0
            cumulative = []
            for bound, count in zip(_BOUNDS, buckets, strict=True):
                running += count
                cumulative.append((bound, float(running)))
            histogram.add_metric(key, cumulative, seconds)
        yield histogram


class Exposition:
    """What ``/metrics`` answers: the counters, and the process's memory, CPU and descriptors.

    Args:
        counters: the slots.
        version: of erlmcp.
    """

    def __init__(self, counters: Counters | Sums, version: str) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Collector(counters, version))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The samples in Prometheus' text format."""
        return generate_latest(self._registry)
