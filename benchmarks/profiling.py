"""Where erlmcp's own time goes: the daemon under cProfile, with the same load as the measurements."""

import contextlib
import pstats
from pathlib import Path

from benchmarks import lines, web
from benchmarks.processes import load_core
from benchmarks.servers import Fleet

KINDS = ("http", "https", "tcp", "tcp-32")


def profile(fleet: Fleet, kind: str, seconds: float, entries: int = 40) -> None:
    """Load the daemon under cProfile and print where its time went; profiling itself about doubles it."""
    daemon, (port,) = fleet.daemon(kind.partition("-")[0])
    output = fleet.cache / "logs" / "profile"
    output.unlink(missing_ok=True)
    place = daemon.command.index("-n")
    daemon.command[place : place + 1] = ["-n", f"--profile={output}", "--profiler=cprofile", "--savestats"]
    with daemon:
        if kind in {"http", "https"}:
            web.check(port, tls=kind == "https")
            web.load(port, seconds=seconds, tls=kind == "https")
        else:
            _lines(port, 32 if kind == "tcp-32" else 1, seconds)
    if not Path(output).exists():
        raise RuntimeError(f"no profile was written:\n{daemon.tail()}")
    pstats.Stats(str(output)).sort_stats("tottime").print_stats(entries)


def _lines(port: int, connections: int, seconds: float) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(load_core())
        wires = [lines.Wire.to_port(port) for _ in range(connections)]
        for wire in wires:
            stack.callback(wire.close)
        lines.check(wires[0])
        lines.pipelined(wires, 64 if connections == 1 else 1, seconds)
