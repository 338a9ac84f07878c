"""The section about the client: 5 000 calls under way at once through one, beside the official SDK's client."""

import json
from typing import Any, NamedTuple

from benchmarks.plan import Plan
from benchmarks.processes import SERVER_CORE, run_pinned

CALLERS = 5000


class _Way(NamedTuple):
    """A client, and how it reaches the daemon."""

    client: str
    transport: str
    server: str


def client(plan: Plan) -> None:
    """Calls per second, their times and the client's memory with 5 000 calls under way through one client."""
    daemon, (web, lines) = plan.fleet.roomy(CALLERS)
    url = f"http://127.0.0.1:{web}/mcp"
    child = json.dumps(["taskset", "-c", str(SERVER_CORE), *plan.fleet.stdio_command()])
    ways = {
        "sdk, HTTP/1.1": _Way("sdk", "http", url),
        "sdk, stdio": _Way("sdk", "stdio", child),
        "erlmcp, HTTP/2": _Way("erlmcp", "h2c", url),
        "erlmcp, HTTP/1.1": _Way("erlmcp", "http", url),
        "erlmcp, TCP": _Way("erlmcp", "tcp", f"tcp:127.0.0.1:{lines}"),
    }
    found: dict[str, dict[str, list[float]]] = {}

    def keep(what: str, name: str, value: float) -> None:
        found.setdefault(what, {}).setdefault(name, []).append(value)

    with daemon:
        for turn in range(plan.runs):
            for name, way in ways.items():
                before = daemon.processor_seconds()
                result = _crowd(plan, way)
                used = daemon.processor_seconds() - before
                keep("calls/s", name, result["calls"] / result["seconds"])
                for what in ("p50_ms", "p99_ms", "peak_mb", "cpu_us"):
                    keep(what, name, result[what])
                if way.transport != "stdio":
                    keep("server_us", name, used / result["calls"] * 1e6)
                if turn == 0 and result["connections"]:
                    plan.say(f"  {name}: connections: {result['connections']}")
    title = f"one client, {CALLERS} at once"
    plan.note(title, "calls/s", found["calls/s"])
    plan.note(f"{title}, p50", "ms", found["p50_ms"])
    plan.note(f"{title}, p99", "ms", found["p99_ms"])
    plan.note(f"{title}, peak RSS", "MB", found["peak_mb"])
    plan.note(f"{title}, client CPU", "µs/call", found["cpu_us"])
    plan.note(f"{title}, server CPU", "µs/call", found["server_us"])
    rates = plan.figures[title]
    for wire, against in (("HTTP/2", "HTTP/1.1"), ("HTTP/1.1", "HTTP/1.1"), ("TCP", "stdio")):
        ours, theirs = rates[f"erlmcp, {wire}"], rates[f"sdk, {against}"]
        plan.hold(f"client, {wire}", ours, theirs, f"sdk client, {against}", at_least=10)


def _crowd(plan: Plan, way: _Way) -> dict[str, Any]:
    command = plan.fleet.client_command(way.client)
    order = [way.transport, way.server, str(CALLERS), str(plan.seconds)]
    printed = run_pinned([*command, *order], patience=600, environment=plan.fleet.environment)
    lines = [line for line in printed.splitlines() if line.startswith("RESULT ")]
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result
