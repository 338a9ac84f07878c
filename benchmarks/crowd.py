"""Many callers on one client, each with a call under way at all times: what a client process measures and tells.

Nothing but the standard library: the official SDK's client measures itself with it too, in its own environment.
"""

import json
import sys
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

MESSAGE = "hi"


class Order(NamedTuple):
    """What a client is told to do, as its command line says it.

    Attributes:
        way: the transport, by a name that the client knows.
        server: a URL, an endpoint, or a command as a JSON array.
        callers: how many calls are under way at once.
        seconds: how long they go on; each makes one call at least.
    """

    way: str
    server: str
    callers: int
    seconds: float

    @classmethod
    def read(cls) -> "Order":
        """The order of this process."""
        way, server, callers, seconds = sys.argv[1:]
        return cls(way, server, int(callers), float(seconds))


class Crowd:
    """Counts calls and takes their times.

    Args:
        seconds: how long the callers go on.
    """

    def __init__(self, seconds: float) -> None:
        self.times = array("d")
        self.processor = time.process_time()
        self.begun = time.perf_counter()
        self.end = self.begun + seconds

    async def caller(self, call: Callable[[], Awaitable[object]]) -> None:
        """Call until the time is over; `call` gives the text of the answer."""
        clock = time.perf_counter
        now = clock()
        while True:
            before = now
            answer = await call()
            now = clock()
            if answer != MESSAGE:
                raise RuntimeError(f"this is no echo: {answer!r}")
            self.times.append(now - before)
            if now >= self.end:
                return

    def tell(self, connections: int | None = None) -> None:
        """Print what was found, once all callers have returned.

        Args:
            connections: how many were used, where the client knows.
        """
        elapsed = time.perf_counter() - self.begun
        processor = time.process_time() - self.processor
        times = sorted(self.times)
        found = {
            "calls": len(times),
            "seconds": elapsed,
            "p50_ms": times[len(times) // 2] * 1e3,
            "p99_ms": times[len(times) * 99 // 100] * 1e3,
            "cpu_us": processor / len(times) * 1e6,
            "peak_mb": _peak_kib() / 1024,
            "connections": connections,
        }
        print("RESULT " + json.dumps(found), flush=True)


def _peak_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("the kernel tells no VmHWM")
