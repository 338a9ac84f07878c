"""Gateways in front of the same echo server, which is ours: erlmcp, FastMCP's proxy, mcp-proxy.

The gateways run on the servers' core, what is behind them on the core of the load. mcp-proxy serves HTTP in front of a
stdio server, or stdio in front of an HTTP server, and never HTTP in front of HTTP: so what is held against it is
measured in the same two ways.
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import lines, web
from benchmarks.processes import LOAD_CORE, Server, beside_the_load, cores, load_core

if TYPE_CHECKING:
    from benchmarks.plan import Plan

CONNECTIONS = 32
PEERS = ("erlmcp", "fastmcp", "mcp-proxy")
_LONGEST = 60.0
_SETTLES = 100
"""How often a gateway is asked, a tenth of a second apart, until it has heard of the tool."""


class Front(NamedTuple):
    """A gateway, or a server without one.

    Attributes:
        server: its process.
        port: where it serves HTTP; 0 for pipes.
        handshake: whether it knows sessions alone.
    """

    server: Server
    port: int = 0
    handshake: bool = False


def gateway(plan: "Plan") -> None:
    """Calls per second with 32 connections, and what one call in flight takes longer than without the gateway."""
    plan.say(f"  {plan.fleet.gateways()}")
    with contextlib.ExitStack() as stack:
        far, (far_port,) = plan.fleet.daemon("http")
        stack.enter_context(far)
        if cores() > 1:
            os.sched_setaffinity(far.running.pid, {LOAD_CORE})
        url = f"http://127.0.0.1:{far_port}/mcp"
        direct = Front(far, far_port)
        _over_http(plan, "HTTP to HTTP", {"direct": direct, **_fronts(plan, stack, url)}, budget=True)
        _over_pipes(plan, stack, url)
        _over_http(plan, "HTTP to stdio", _fronts(plan, stack, None))
    found = plan.figures["gateway, HTTP to stdio"]
    ours = found["erlmcp"]
    if "mcp-proxy" in found:
        plan.hold("gateway, HTTP to stdio", ours, found["mcp-proxy"], "mcp-proxy", at_least=10)
    if "fastmcp" in found:
        plan.hold("gateway, HTTP to stdio", ours, found["fastmcp"], "FastMCP's proxy", at_least=20)


def _fronts(plan: "Plan", stack: contextlib.ExitStack, url: str | None) -> dict[str, Front]:
    fronts = {}
    for name in PEERS:
        if url is not None and name == "mcp-proxy":
            continue
        server, port = plan.fleet.gateway(name, url)
        fronts[name] = Front(stack.enter_context(server), port, handshake=name == "mcp-proxy")
    return fronts


def _over_http(plan: "Plan", path: str, fronts: dict[str, Front], *, budget: bool = False) -> None:
    ids = {}
    for name, front in fronts.items():
        _patiently(front.server, partial(_check, front))
        ids[name] = web.sessions(front.port, CONNECTIONS) if front.handshake else []
        _load(name, front, 1, ids[name])
    rates: dict[str, list[float]] = {name: [] for name in fronts}
    costs: dict[str, list[float]] = {name: [] for name in fronts}
    halves: dict[str, list[float]] = {name: [] for name in fronts}
    across: dict[str, list[float]] = {name: [] for name in fronts}
    for _ in range(plan.runs):
        for name, front in fronts.items():
            result = _load(name, front, plan.seconds, ids[name])
            rates[name].append(result["requests"] / result["seconds"])
            costs[name].append(result["processor"] / result["requests"] * 1e6)
        for name, front in fronts.items():
            across[name].append(_half(front, plan.seconds / 2, ids[name]))
            # What is behind it has the load's core already: all on one, or each hop waits for a core to wake.
            with beside_the_load(front.server):
                halves[name].append(_half(front, plan.seconds / 2, ids[name]))
    plan.note(f"gateway, {path}", "calls/s", rates)
    plan.note(f"gateway, {path}, CPU", "µs/call", costs)
    plan.note(f"gateway, {path}, one call, p50", "µs", halves)
    plan.note(f"gateway, {path}, the same across cores", "µs", across)
    if not budget:
        return
    found = plan.figures[f"gateway, {path}"]
    ours = found["erlmcp"]
    plan.hold(f"gateway, {path}", ours, found["fastmcp"], "FastMCP's proxy", at_least=20, figure=12_000)
    added = [mine - bare for mine, bare in zip(halves["erlmcp"], halves["direct"], strict=True)]
    plan.note(f"gateway, {path}, added p50", "µs", {"erlmcp": added})
    figure = plan.figures[f"gateway, {path}, added p50"]["erlmcp"]
    plan.ceiling("gateway, p50 added", figure, 400, 400, f"direct {halves['direct'][0]:.0f} µs")


def _over_pipes(plan: "Plan", stack: contextlib.ExitStack, url: str) -> None:
    """Where mcp-proxy serves one client on pipes, with as many calls in flight as there are connections elsewhere."""
    fronts = {
        name: stack.enter_context(plan.fleet.gateway_stdio(name, url)) for name in ("erlmcp", "mcp-proxy")
    }
    rates: dict[str, list[float]] = {name: [] for name in fronts}
    costs: dict[str, list[float]] = {name: [] for name in fronts}
    with load_core():
        wires = {name: lines.Wire.to_pipes(server) for name, server in fronts.items()}
        calls = {"erlmcp": lines.LINES, "mcp-proxy": lines.HANDSHAKE_LINES}
        for name, wire in wires.items():
            wire.lines = calls[name]
            if name == "mcp-proxy":
                lines.shake_hands(wire)
            _patiently(fronts[name], partial(lines.check, wire))
            lines.pipelined([wire], CONNECTIONS, 1)
        for _ in range(plan.runs):
            for name, wire in wires.items():
                before = fronts[name].processor_seconds()
                rates[name].append(lines.pipelined([wire], CONNECTIONS, plan.seconds / 2))
                used = fronts[name].processor_seconds() - before
                costs[name].append(used / (rates[name][-1] * plan.seconds / 2) * 1e6)
    plan.note("gateway, stdio to HTTP", "calls/s", rates)
    plan.note("gateway, stdio to HTTP, CPU", "µs/call", costs)
    found = plan.figures["gateway, stdio to HTTP"]
    plan.hold("gateway, stdio to HTTP", found["erlmcp"], found["mcp-proxy"], "mcp-proxy", at_least=10)


def _load(name: str, front: Front, seconds: float, ids: list[str]) -> dict[str, Any]:
    """Load a front for so long, or for as long as it takes to answer each connection once.

    Returns:
        As `web.load`, and ``processor``: the seconds that it took of its core.
    """
    while True:
        before = front.server.processor_seconds()
        result = web.load(front.port, seconds=seconds, connections=CONNECTIONS, ids=ids)
        if result["errors"] > _failures(name, result["requests"]) or seconds > _LONGEST:
            raise RuntimeError(f"{name}: {result['errors']} of {result['requests']} failed")
        if result["requests"] >= CONNECTIONS:
            return {**result, "processor": front.server.processor_seconds() - before}
        seconds *= 2


def _failures(name: str, requests: int) -> int:
    """How many may fail: none of ours. mcp-proxy loses one in a thousand now and then, and is measured all the same."""
    return 0 if name in {"erlmcp", "direct"} else requests // 100


def _check(front: Front) -> None:
    if front.handshake:
        web.check(front.port, session=web.sessions(front.port, 1)[0])
    else:
        web.check(front.port)


def _half(front: Front, seconds: float, ids: list[str]) -> float:
    """The median of one call at a time, in µs."""
    with load_core():
        return web.one_at_a_time(front.port, seconds, session=ids[0] if ids else "")


def _patiently(server: Server, check: Callable[[], None]) -> None:
    """A gateway need not know the tool yet once it listens."""
    for turn in range(_SETTLES):
        try:
            check()
        except RuntimeError as error:
            if turn == _SETTLES - 1:
                raise RuntimeError(f"{error}\n{server.tail()}") from error
            server.wait(0.1)
        else:
            return
