"""The section about worker processes: what a request costs with two, how they share the load, what idle ones keep."""

import contextlib
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Self

from benchmarks import web
from benchmarks.processes import TICKS, Server, free_port
from benchmarks.sections import Plan
from benchmarks.servers import TWISTD

CONNECTIONS = 400
"""Enough that chance alone does not take the kernel's choice out of 40:60."""
IDLE = 100_000
_SPARE = 500
_PER_SOURCE = 20_000
"""Connections from one loopback address: ports are scarce, addresses are not."""


class Crew:
    """A daemon with workers, on all cores.

    Args:
        plan: the run.
        workers: how many.

    Attributes:
        port: where it serves HTTP.
    """

    def __init__(self, plan: Plan, workers: int) -> None:
        self.workers = workers
        self.port = free_port()
        file = plan.fleet.cache / f"workers-{workers}.toml"
        file.write_text(
            f"""
            [server]
            workers = {workers}
            [limits]
            connections = {IDLE}
            per_address = {IDLE}
            [[provider]]
            use = 'benchmarks.peers.erlmcp_echo:provider'
            [[listen]]
            transport = 'http'
            endpoint = 'tcp:{self.port}:interface=127.0.0.1'
            """
        )
        command = [*TWISTD, "erlmcp", "--config", str(file)]
        log = plan.fleet.cache / "logs" / "workers.log"
        log.parent.mkdir(exist_ok=True)
        self._server = Server(command, log, ports=[self.port], environment=plan.fleet.environment)

    def __enter__(self) -> Self:
        self._server.__enter__()
        try:
            web.check(self.port)
            for pid in self.pids():
                os.sched_setaffinity(pid, range(os.cpu_count() or 1))
        except BaseException:
            self._server.end()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.end()

    def pids(self) -> list[int]:
        """The daemon's process, then its workers'."""
        parent = self._server.running.pid
        found = [
            int(each.name)
            for each in Path("/proc").iterdir()
            if each.name.isdigit() and _parent(each) == parent
        ]
        return [parent, *sorted(found)]

    def processor_seconds(self) -> list[float]:
        """Processor time of each of them so far."""
        return [_ticks(pid) / TICKS for pid in self.pids()]

    def resident_kib(self) -> int:
        """Resident memory of all of them, in KiB."""
        return sum(_resident(pid) for pid in self.pids())


def workers(plan: Plan) -> None:
    """The server's CPU per request with one process, one worker and two; the spread; and idle connections."""
    _costs(plan)
    _spread(plan)
    _idle(plan)


def _costs(plan: Plan) -> None:
    """On the cores that the load has too: figures of one run differ by a tenth."""
    found: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        crews = [stack.enter_context(Crew(plan, number)) for number in (0, 1, 2)]
        for crew in crews:
            web.load(crew.port, seconds=1)
        for _ in range(plan.runs):
            for crew in crews:
                before = sum(crew.processor_seconds())
                result = web.load(crew.port, seconds=plan.seconds, connections=64)
                if result["errors"]:
                    raise RuntimeError(
                        f"{crew.workers} workers: {result['errors']} of {result['requests']} failed"
                    )
                used = sum(crew.processor_seconds()) - before
                name = f"workers = {crew.workers}"
                found.setdefault(name, []).append(used / result["requests"] * 1e6)
                rates.setdefault(name, []).append(result["requests"] / result["seconds"])
    plan.note("workers, server CPU", "µs/request", found)
    plan.note("workers, load on the same cores", "req/s", rates)
    costs = plan.figures["workers, server CPU"]
    one, two = costs["workers = 1"], costs["workers = 2"]
    plan.ceiling("2 workers, CPU per request", two, one.middle * 1.1, one.middle * 1.25, f"one worker {one}")


def _spread(plan: Plan) -> None:
    """How connections, and with them the requests of callers that are alike, fall to two workers."""
    shares: list[float] = []
    for _ in range(plan.runs):
        with Crew(plan, 2) as crew, contextlib.ExitStack() as stack:
            before = crew.processor_seconds()
            opened = [stack.enter_context(web.connect(crew.port, tls=False)) for _ in range(CONNECTIONS)]
            request = web.request(crew.port)
            for _turn in range(20):
                for each in opened:
                    web.exchange(each, request)
            held = [_connections(pid) for pid in crew.pids()[1:]]
            used = [now - then for now, then in zip(crew.processor_seconds(), before, strict=True)][1:]
            plan.say(f"  connections {held}, processor seconds {[round(each, 2) for each in used]}")
            shares.append(min(held) / sum(held) * 100)
    plan.note("2 workers, the smaller share", "%", {"connections": shares})
    figure = plan.figures["2 workers, the smaller share"]["connections"]
    short = figure._replace(runs=tuple(50 - run for run in figure.runs))
    plan.ceiling("2 workers, short of one half", short, 5, 10, "40:60")


def _idle(plan: Plan) -> None:
    """Many idle connections, each of which has made one call: memory for each."""
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE
    # Both sides of a connection are files; a share may fall to one worker that is a little larger than its own.
    holders = math.ceil(IDLE / min(room, _PER_SOURCE))
    number = math.ceil(IDLE / (room * 0.95)) + 1
    with Crew(plan, number) as crew, contextlib.ExitStack() as stack:
        for _ in range(50 * number):
            web.check(crew.port)
        before = crew.resident_kib()
        held = [
            stack.enter_context(_holder(plan, crew.port, IDLE // holders, index)) for index in range(holders)
        ]
        for one in held:
            if one.stdout is None or one.stdout.readline() != b"held\n":
                raise RuntimeError("the connections could not be opened")
        kept = (crew.resident_kib() - before) / (IDLE // holders * holders)
        plan.say(f"  idle connections of each worker: {[_connections(pid) for pid in crew.pids()[1:]]}")
        web.check(crew.port)
        closed = [int(one.communicate(timeout=120)[0]) for one in held]
        if any(closed):
            raise RuntimeError(f"idle connections were closed: {closed}")
    title = f"{IDLE} idle connections"
    name = f"{number} workers"
    plan.note(title, "KiB", {name: [kept]})
    plan.ceiling(f"{title}, {name}", plan.figures[title][name], 4, 4)


def _holder(plan: Plan, port: int, number: int, index: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.holder", str(port), str(number), f"127.0.1.{index + 1}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **plan.fleet.environment},
    )


def _fields(process: Path) -> list[str]:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return []


def _parent(process: Path) -> int:
    fields = _fields(process)
    return int(fields[1]) if fields else 0


def _ticks(pid: int) -> int:
    fields = _fields(Path(f"/proc/{pid}"))
    return int(fields[11]) + int(fields[12])


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("the kernel tells no VmRSS")


def _connections(pid: int) -> int:
    """How many sockets it has open; those that it has without a client are few."""
    return sum(str(each.readlink()).startswith("socket:") for each in Path(f"/proc/{pid}/fd").iterdir())
