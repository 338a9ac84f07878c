"""Counting: what becomes a label, what is bounded, and what Prometheus reads."""

import io
import re
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.logger import Logger, LogLevel, globalLogBeginner
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import telemetry
from erlmcp.interfaces import Peer, Request
from erlmcp.telemetry import BUCKETS, Counters, Sums, log_from, log_to, snapshot
from erlmcp.telemetry.exposition import Exposition
from tests.daemon import ROOT


def request(
    method: str = "tools/call", name: str = "echo", target: Any = "found", era: str = "modern"
) -> Request:
    made = Request(id=1, method=method, name=name, era=era, peer=Peer(transport="http"))
    made.target = target
    return made


class CounterTests(SynchronousTestCase):
    """`Counters`."""

    def setUp(self) -> None:
        self.counters = Counters()

    def test_a_request(self) -> None:
        self.counters.request(request(), "complete", 0.0004)
        self.counters.request(request(), "complete", 100.0)
        self.counters.request(request(), "error", BUCKETS[0])
        slot = self.counters.requests["tools/call", "echo", "complete", "http", "modern"]
        self.assertEqual((slot.count, slot.sum), (2, 100.0004))
        self.assertEqual([i for i, n in enumerate(slot.buckets) if n], [2, len(BUCKETS)])
        other = self.counters.requests["tools/call", "echo", "error", "http", "modern"]
        self.assertEqual(other.buckets[0], 1)

    def test_made_up_names(self) -> None:
        """What a client makes up is no label: a tool that nobody has found, a resource, a method."""
        for number in range(50):
            self.counters.request(request(name=f"t{number}", target=None), "error", 0)
            self.counters.request(request("resources/read", f"r{number}"), "complete", 0)
            self.counters.request(request(f"m/{number}", f"x{number}", None), "refused", 0)
        self.assertEqual(
            set(self.counters.requests),
            {
                ("tools/call", "", "error", "http", "modern"),
                ("resources/read", "", "complete", "http", "modern"),
                ("other", "", "refused", "http", "modern"),
            },
        )

    def test_slots_are_bounded(self) -> None:
        for number in range(5000):
            self.counters.request(request(name=f"t{number}"), "complete", 0)
        self.assertEqual(len(self.counters.requests), 4097)
        self.assertEqual(self.counters.requests["tools/call", "", "complete", "http", "modern"].count, 904)

    def test_errors(self) -> None:
        for method in ("tools/call", "tools/call", "", "made/up", "made/up2"):
            self.counters.error(method, -32602)
        self.assertEqual(
            self.counters.errors, {("tools/call", -32602): 2, ("", -32602): 1, ("other", -32602): 2}
        )

    def test_errors_are_bounded(self) -> None:
        for code in range(1000):
            self.counters.error("tools/call", code)
        self.assertEqual(len(self.counters.errors), 513)
        self.assertEqual(self.counters.errors["tools/call", "other"], 488)


class ExpositionTests(SynchronousTestCase):
    """What a scrape gets."""

    def samples(self, counters: Counters) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        text = Exposition(counters, "1.2").text().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, counters: Counters, name: str, **labels: str) -> float:
        return self.samples(counters)[name, frozenset(labels.items())]

    def test_requests(self) -> None:
        counters = Counters()
        counters.request(request(), "complete", 0.0004)
        counters.request(request(), "error", 0.2)
        labels = {"method": "tools/call", "tool": "echo", "transport": "http"}
        total = self.value(counters, "erlmcp_requests_total", outcome="error", era="modern", **labels)
        self.assertEqual(total, 1)
        name = "erlmcp_request_duration_seconds"
        self.assertEqual(self.value(counters, f"{name}_count", **labels), 2)
        self.assertAlmostEqual(self.value(counters, f"{name}_sum", **labels), 0.2004)
        for bound, count in (("0.00025", 0), ("0.0005", 1), ("0.1", 1), ("0.25", 2), ("+Inf", 2)):
            self.assertEqual(self.value(counters, f"{name}_bucket", le=bound, **labels), count, bound)

    def test_errors_and_gauges(self) -> None:
        counters = Counters()
        counters.error("tools/list", -32601)
        values = [3.0]
        counters.gauge("erlmcp_connections_active", ("main", "http"), lambda: values[0])
        counters.gauge("erlmcp_connections_refused_total", ("main", "per_address"), lambda: 7)
        self.assertEqual(self.value(counters, "erlmcp_errors_total", method="tools/list", code="-32601"), 1)
        active = {"listener": "main", "transport": "http"}
        self.assertEqual(self.value(counters, "erlmcp_connections_active", **active), 3)
        values[0] = 4
        self.assertEqual(self.value(counters, "erlmcp_connections_active", **active), 4)
        counters.no_gauge("erlmcp_connections_active", ("main", "http"))
        counters.no_gauge("erlmcp_upstream_stale", ("a",))
        self.assertFalse(any("connections_active" in name for name, _ in self.samples(counters)))
        refused = {"listener": "main", "limit": "per_address"}
        self.assertEqual(self.value(counters, "erlmcp_connections_refused_total", **refused), 7)
        self.assertEqual(self.value(counters, "erlmcp_build_info", version="1.2"), 1)

    def test_one_set_of_values_for_another(self) -> None:
        counters, first, second = Counters(), Counters(), Counters()
        counters.gauge("erlmcp_engine_entries", (), lambda: 1)
        for name in ("a", "b"):
            first.gauge("erlmcp_upstream_stale", (name,), lambda: True)
        second.gauge("erlmcp_upstream_stale", ("b",), lambda: False)
        counters.show(first)
        sums = Sums()
        sums.add(snapshot(counters))
        self.assertEqual(sums.values["erlmcp_upstream_stale", ("a",)], 1.0)
        counters.show(second, instead=first)
        self.assertEqual(set(counters.gauges["erlmcp_upstream_stale"]), {("b",)})
        self.assertEqual(counters.gauges["erlmcp_upstream_stale"]["b",](), 0)
        self.assertEqual(counters.gauges["erlmcp_engine_entries"][()](), 1)

    def test_reference(self) -> None:
        """The reference names every metric with its labels, and none that is not there."""
        counters = Counters()
        counters.request(request(), "complete", 0)
        counters.error("", -32700)
        counters.gauge("erlmcp_connections_active", ("a", "b"), lambda: 0)
        counters.gauge("erlmcp_connections_refused_total", ("a", "b"), lambda: 0)
        counters.gauge("erlmcp_connections_flooded_total", ("a",), lambda: 0)
        engine = ("engine_entries", "engine_bytes", "engine_write_failures_total")
        for name in ("requests_in_flight", "requests_parked", "reactor_lag_seconds", *engine):
            counters.gauge(f"erlmcp_{name}", (), lambda: 0)
        counters.gauge("erlmcp_workers", ("ready",), lambda: 0)
        for name in ("stale", "open", "sessions", "waiting", "followed"):
            counters.gauge(f"erlmcp_upstream_{name}", ("a",), lambda: 0)
        counters.gauge("erlmcp_upstream_calls_total", ("a", "lost"), lambda: 0)
        found: dict[str, set[str]] = {}
        for name, labels in self.samples(counters):
            if name.startswith("erlmcp_") and not name.endswith(("_bucket", "_sum", "_created")):
                found[name.removesuffix("_count")] = {label for label, _ in labels}
        text = (ROOT / "docs" / "reference" / "metrics.md").read_text()
        rows = re.findall(r"(?m)^\| `(erlmcp_\w+)` \| \w+ \| ([\w, ]*)\|", text)
        self.assertEqual({name: set(re.findall(r"\w+", labels)) for name, labels in rows}, found)

    def test_the_process(self) -> None:
        names = {name for name, _ in self.samples(Counters())}
        self.assertIn("process_resident_memory_bytes", names)


class LogTests(SynchronousTestCase):
    """`log_to`."""

    def test_level_and_streams(self) -> None:
        begun: dict[str, Any] = {}

        def begin(observers: Any, **options: Any) -> None:
            begun.update(options, observer=observers[0])

        self.patch(globalLogBeginner, "beginLoggingTo", begin)
        self.addCleanup(log_from, "info")
        stream = io.StringIO()
        log_to(stream, "warn")
        self.assertFalse(begun["redirectStandardIO"])
        log = Logger("here", observer=begun["observer"])
        log.emit(LogLevel.info, "hidden")
        log.emit(LogLevel.error, "shown {what}", what="whole")
        self.assertTrue(
            re.fullmatch(r"\S+ \[here#error\] shown whole\n", stream.getvalue()), stream.getvalue()
        )

    def test_what_single_peers_do_is_for_looking_closely(self) -> None:
        """twistd writes lines of any level: whoever connects must not be able to fill the disk."""
        self.addCleanup(log_from, "info")
        lines: list[Any] = []
        log = telemetry.Logger("there", observer=lines.append)
        log.debug("one peer was slow")
        log.info("ready")
        log_from("debug")
        log.debug("another")
        log_from("error")
        log.emit(LogLevel.warn, "gone")
        self.assertEqual([one["log_format"] for one in lines], ["ready", "another"])
        self.assertEqual(telemetry.Logger().namespace, __name__)
