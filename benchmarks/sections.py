"""What is measured, section by section, and the budget that each figure is held against."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks import lines, second, web
from benchmarks.gateway import gateway
from benchmarks.processes import Server, load_core
from benchmarks.report import Figure, Row, verdict
from benchmarks.servers import Fleet

HTTP_PEERS = ("sdk-low", "sdk-low-standard", "sdk-high", "fastmcp", "typescript")


@dataclass
class Plan:
    """How long and how often, and what has been found so far.

    Attributes:
        seconds: length of one run.
        runs: how often each measurement is repeated, alternating between the servers.
        idle: idle connections opened per kind.
        peers: the peers measured over HTTP and stdio.
        figures: section -> name -> runs.
        rows: the budget's lines.
    """

    fleet: Fleet
    seconds: float
    runs: int
    idle: int
    peers: tuple[str, ...]
    say: Callable[[str], None]
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def note(self, section: str, unit: str, found: dict[str, list[float]]) -> None:
        """Keep a section's figures."""
        kept = self.figures.setdefault(section, {})
        for name, runs in found.items():
            kept[name] = Figure(tuple(runs), unit)
            self.say(f"  {section:<32} {name:<20} {kept[name]}")

    def hold(
        self,
        path: str,
        ours: Figure,
        theirs: Figure,
        peer: str,
        *,
        at_least: float,
        target: float | None = None,
        figure: float | None = None,
    ) -> None:
        """Add a line: our rate against a peer's, how many times it at least, and the target."""
        ratios = sorted(mine / other for mine, other in zip(ours.runs, theirs.runs, strict=False))
        middle = statistics.median(ratios)
        places = 1 if at_least >= 1 else 2
        reached = (target is None or middle >= target) and (figure is None or ours.middle >= figure)
        wanted = [f"{figure:,.0f}/s".replace(",", " ")] if figure else []
        wanted += [f"{target:g}x"] if target else []
        self.rows.append(
            Row(
                path,
                str(ours),
                f"{peer} {theirs}",
                f"{middle:.{places}f}x ({ratios[0]:.{places}f} – {ratios[-1]:.{places}f})",
                f"{at_least:g}x",
                ", ".join(wanted),
                verdict(at_least=middle >= at_least, target=reached),
            )
        )

    def ceiling(self, path: str, ours: Figure, target: float, at_least: float, against: str = "") -> None:
        """Add a line for a figure that must stay below something."""
        self.rows.append(
            Row(
                path,
                str(ours),
                against,
                f"{ours.middle / at_least:.2f} of it",
                f"<= {at_least:.4g} {ours.unit}",
                f"<= {target:.4g} {ours.unit}",
                verdict(at_least=ours.middle <= at_least, target=ours.middle <= target),
            )
        )


def http(plan: Plan) -> None:
    """Requests per second over HTTP/1.1 keep-alive, plain and TLS, 32 connections."""
    with contextlib.ExitStack() as stack:
        ports: dict[str, tuple[int, bool]] = {}
        servers: dict[str, Server] = {}
        for name in plan.peers:
            made = plan.fleet.peer(name)
            if made is None:
                plan.say(f"  {name} cannot be run here")
                continue
            servers[name] = stack.enter_context(made[0])
            ports[name] = (made[1], False)
        daemon, (plain, secure) = plan.fleet.daemon("http", "https")
        servers["erlmcp"] = servers["erlmcp-tls"] = stack.enter_context(daemon)
        ports |= {"erlmcp": (plain, False), "erlmcp-tls": (secure, True)}
        for port, tls in ports.values():
            web.check(port, tls=tls)
            web.load(port, seconds=1, tls=tls)
        rates: dict[str, list[float]] = {name: [] for name in ports}
        costs: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(plan.runs):
            for name, (port, tls) in ports.items():
                before = servers[name].processor_seconds()
                result = web.load(port, seconds=plan.seconds, tls=tls)
                if result["errors"]:
                    raise RuntimeError(f"{name}: {result['errors']} of {result['requests']} failed")
                rates[name].append(result["requests"] / result["seconds"])
                used = servers[name].processor_seconds() - before
                costs[name].append(used / result["requests"] * 1e6)
    plan.note("HTTP", "req/s", rates)
    plan.note("HTTP, server CPU", "µs/request", costs)
    found = plan.figures["HTTP"]
    ours, secured = found["erlmcp"], found["erlmcp-tls"]
    plan.hold("HTTP/1.1", ours, found["sdk-low"], "sdk-low", at_least=10, target=14, figure=25_000)
    plan.hold("HTTP/1.1", ours, found["sdk-low-standard"], "sdk-low-standard", at_least=6)
    plan.hold(
        "TLS 1.3, HTTP/1.1", secured, found["sdk-low"], "sdk-low plain", at_least=6, target=9, figure=16_000
    )


def http2(plan: Plan) -> None:
    """Requests per second over HTTP/2, 10 streams on each of 8 connections, against the SDK's HTTP/1.1."""
    if not second.is_there():
        plan.say("  h2load (nghttp2-client) is not installed")
        return
    with contextlib.ExitStack() as stack:
        made = plan.fleet.peer("sdk-low")
        if made is None:
            plan.say("  sdk-low cannot be run here")
            return
        stack.enter_context(made[0])
        daemon, (plain, secure) = plan.fleet.second()
        stack.enter_context(daemon)

        def run(requests: int, streams: int, *, tls: bool) -> tuple[float, float]:
            before = daemon.processor_seconds()
            port = secure if tls else plain
            result = second.load(
                port, plan.fleet.cache, requests=requests, connections=8, streams=streams, tls=tls
            )
            if result["errors"]:
                raise RuntimeError(f"{result['errors']} of {requests} failed")
            used = daemon.processor_seconds() - before
            return requests / result["seconds"], used / requests * 1e6

        web.check(made[1])
        web.load(made[1], seconds=1)
        kinds = {
            "h2c, 10 streams": (10, False),
            "h2c, 1 stream": (1, False),
            "h2 on TLS, 10 streams": (10, True),
        }
        rates: dict[str, list[float]] = {"sdk-low": [], **{kind: [] for kind in kinds}}
        costs: dict[str, list[float]] = {kind: [] for kind in kinds}
        for streams, tls in kinds.values():
            run(5000, streams, tls=tls)
        for _ in range(plan.runs):
            result = web.load(made[1], seconds=plan.seconds)
            rates["sdk-low"].append(result["requests"] / result["seconds"])
            for kind, (streams, tls) in kinds.items():
                rate, cost = run(round(plan.seconds * 10_000), streams, tls=tls)
                rates[kind].append(rate)
                costs[kind].append(cost)
    plan.note("HTTP/2", "req/s", rates)
    plan.note("HTTP/2, server CPU", "µs/request", costs)
    found = plan.figures["HTTP/2"]
    ours, theirs = found["h2c, 10 streams"], found["sdk-low"]
    plan.hold("HTTP/2, 10 streams a connection", ours, theirs, "sdk-low HTTP/1.1", at_least=3, figure=8_000)


def eras(plan: Plan) -> None:
    """The handshake era beside the modern one, on one listener of one daemon, over HTTP/1.1 keep-alive."""
    daemon, (port,) = plan.fleet.daemon("http")
    rates: dict[str, list[float]] = {"modern": [], "handshake": []}
    costs: dict[str, list[float]] = {"modern": [], "handshake": []}
    with daemon:
        ids = {"modern": [], "handshake": web.sessions(port, 32)}
        web.check(port)
        web.check(port, session=ids["handshake"][0])
        for era in rates:
            web.load(port, seconds=1, ids=ids[era])
        for _ in range(plan.runs):
            for era, found_rates in rates.items():
                before = daemon.processor_seconds()
                result = web.load(port, seconds=plan.seconds, ids=ids[era])
                if result["errors"]:
                    raise RuntimeError(f"{era}: {result['errors']} of {result['requests']} failed")
                found_rates.append(result["requests"] / result["seconds"])
                used = daemon.processor_seconds() - before
                costs[era].append(used / result["requests"] * 1e6)
    plan.note("both eras, HTTP", "req/s", rates)
    plan.note("both eras, HTTP, server CPU", "µs/request", costs)
    found = plan.figures["both eras, HTTP"]
    plan.hold("handshake era, HTTP/1.1", found["handshake"], found["modern"], "modern era", at_least=0.75)


@contextlib.contextmanager
def _pipes(plan: Plan, names: tuple[str, ...]) -> Iterator[dict[str, lines.Wire]]:
    with contextlib.ExitStack() as stack:
        wires = {}
        for name in names:
            server = plan.fleet.stdio() if name == "erlmcp" else plan.fleet.peer_stdio(name)
            if server is not None:
                wires[name] = lines.Wire.to_pipes(stack.enter_context(server))
        stack.enter_context(load_core())
        for wire in wires.values():
            lines.check(wire)
        yield wires


def stdio(plan: Plan) -> None:
    """Over pipes: the time of one call at a time, and calls per second with 64 in flight."""
    names = tuple(name for name in (*plan.peers, "erlmcp") if name != "sdk-low-standard")
    halves: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    with _pipes(plan, names) as wires:
        for wire in wires.values():
            lines.one_at_a_time(wire, 0.5)
        for _ in range(plan.runs):
            for name, wire in wires.items():
                times = lines.one_at_a_time(wire, plan.seconds / 2)
                halves.setdefault(name, []).append(times[len(times) // 2])
            for name, wire in wires.items():
                rates.setdefault(name, []).append(lines.pipelined([wire], 64, plan.seconds / 2))
    plan.note("stdio, one at a time, p50", "µs", halves)
    plan.note("stdio, pipelined", "calls/s", rates)
    found = plan.figures["stdio, one at a time, p50"]
    theirs = found["sdk-low"]
    plan.ceiling("stdio, one at a time, p50", found["erlmcp"], 150, theirs.middle / 3, f"sdk-low {theirs}")


def tcp(plan: Plan) -> None:
    """Lines over TCP, against the SDK's pipelined stdio, its only line transport."""
    daemon, (port,) = plan.fleet.daemon("tcp")
    theirs: list[float] = []
    one: list[float] = []
    many: list[float] = []
    costs: tuple[list[float], list[float]] = ([], [])
    with daemon, _pipes(plan, ("sdk-low",)) as pipes:
        single = [lines.Wire.to_port(port)]
        crowd = [lines.Wire.to_port(port) for _ in range(32)]
        try:
            lines.check(single[0])
            lines.pipelined(single, 64, 0.5)
            for _ in range(plan.runs):
                theirs.append(lines.pipelined([pipes["sdk-low"]], 64, plan.seconds / 2))
                for wires, window, rates in ((single, 64, one), (crowd, 1, many)):
                    before = daemon.processor_seconds()
                    rates.append(lines.pipelined(wires, window, plan.seconds / 2))
                    calls = rates[-1] * plan.seconds / 2
                    costs[window == 1].append((daemon.processor_seconds() - before) / calls * 1e6)
        finally:
            for wire in (*single, *crowd):
                wire.close()
    plan.note("TCP lines", "calls/s", {"erlmcp, pipelined": one, "erlmcp, 32 connections": many})
    plan.note("TCP lines", "calls/s", {"sdk-low, stdio pipelined": theirs})
    plan.note("TCP lines, server CPU", "µs/call", {"pipelined": costs[0], "32 connections": costs[1]})
    found = plan.figures["TCP lines"]
    peer = found["sdk-low, stdio pipelined"]
    ours = found["erlmcp, pipelined"]
    plan.hold("TCP lines, pipelined", ours, peer, "sdk-low stdio", at_least=25, figure=80_000)
    ours = found["erlmcp, 32 connections"]
    plan.hold("TCP lines, 32 conn., 1 in flight", ours, peer, "sdk-low stdio", at_least=12, figure=45_000)


def idle(plan: Plan) -> None:
    """Memory of one idle connection that has made one call."""
    found: dict[str, list[float]] = {}
    for kind in ("tcp", "http", "https"):
        for _ in range(plan.runs):
            daemon, (port,) = plan.fleet.daemon(kind)
            with daemon:
                found.setdefault(f"erlmcp {kind}", []).append(_idle_kib(plan, daemon, port, kind))
    for _ in range(plan.runs):
        made = plan.fleet.peer("sdk-low")
        if made is not None:
            with made[0]:
                found.setdefault("sdk-low http", []).append(_idle_kib(plan, made[0], made[1], "http"))
    plan.note("idle connection", "KiB", found)
    figures = plan.figures["idle connection"]
    against = f"sdk-low http {figures['sdk-low http']}"
    for kind, bound, title in (("tcp", 2, "TCP"), ("http", 4, "HTTP"), ("https", 32, "TLS")):
        plan.ceiling(f"idle connection, {title}", figures[f"erlmcp {kind}"], bound, bound, against)


def _idle_kib(plan: Plan, server: Server, port: int, kind: str) -> float:
    """Open connections that each make one call and stay; gives KiB of resident memory for each."""
    opened = []

    def another() -> None:
        connection = web.connect(port, tls=kind == "https")
        opened.append(connection)
        if kind == "tcp":
            connection.sendall(lines.call(1))
            connection.recv(65536)
        else:
            web.exchange(connection, web.request(port))

    try:
        for _ in range(100):  # what is made once, and the allocator's first arenas
            another()
        before = server.resident_kib()
        for _ in range(plan.idle):
            another()
        return (server.resident_kib() - before) / plan.idle
    finally:
        for connection in opened:
            connection.close()


def rest(plan: Plan) -> None:
    """Resident memory at rest, after start-up and ten calls, and the time from start to the first answer."""
    memory: dict[str, list[float]] = {}
    ready: dict[str, list[float]] = {}
    for _ in range(plan.runs):
        for name in ("sdk-low", "erlmcp"):
            if name == "erlmcp":
                server, (port,) = plan.fleet.daemon("http")
            else:
                made = plan.fleet.peer(name)
                if made is None:
                    continue
                server, port = made
            begun = time.perf_counter()
            with server:
                web.check(port)
                ready.setdefault(name, []).append(time.perf_counter() - begun)
                for _call in range(10):
                    web.check(port)
                memory.setdefault(name, []).append(server.resident_kib() / 1024)
    plan.note("process at rest", "MB", memory)
    plan.note("start to first answer", "s", ready)
    theirs = plan.figures["process at rest"]["sdk-low"]
    ours = plan.figures["process at rest"]["erlmcp"]
    plan.ceiling("process at rest", ours, 60, max(theirs.middle, 60), f"sdk-low {theirs}")
    ours, theirs = (
        plan.figures["start to first answer"]["erlmcp"],
        plan.figures["start to first answer"]["sdk-low"],
    )
    plan.ceiling("import and start to ready", ours, 0.6, 0.6, f"sdk-low {theirs}")


def workers(plan: Plan) -> None:
    """Worker processes: what a request costs, how they share the load, what idle connections keep."""
    from benchmarks import workers as section

    section.workers(plan)


SECTIONS: dict[str, Callable[[Plan], None]] = {
    "http": http,
    "http2": http2,
    "eras": eras,
    "stdio": stdio,
    "tcp": tcp,
    "gateway": gateway,
    "idle": idle,
    "rest": rest,
    "workers": workers,
}
