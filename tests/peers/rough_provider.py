"""A provider that does to its process what providers should not: for tests of ``isolation = "process"``."""

import ctypes
import os
import threading
from typing import Any

from twisted.internet import defer, reactor, task

from erlmcp import Context, Provider

provider = Provider("rough")
_held: list[bytes] = []


@provider.tool
async def pid() -> int:
    """Which process this is."""
    return os.getpid()


@provider.tool
async def segfault() -> int:
    """Read where nothing is."""
    return len(ctypes.string_at(8))


@provider.tool
async def spin() -> int:
    """Loop on the reactor's own thread, so that nothing else of the process runs."""
    while True:
        pass


@provider.tool
def spin_in_a_thread() -> int:
    """Loop in a thread that nobody can interrupt."""
    while True:
        pass


@provider.tool
async def wait(seconds: float) -> int:
    """Wait, interruptibly."""
    await task.deferLater(reactor, seconds)
    return os.getpid()


@provider.tool(timeout=1.5)
async def brief() -> int:
    """Never come back, and say beforehand that this takes a second and a half at most."""
    await defer.Deferred()
    return 0


@provider.tool
async def hoard(megabytes: int) -> int:
    """Take memory, and keep it."""
    _held.append(b"x" * (megabytes << 20))
    return os.getpid()


@provider.tool
async def ask(ctx: Context) -> str:
    """Ask the user, and say in which process the answer came."""
    before = os.getpid()
    answer: Any = await ctx.elicit("Who?", {"type": "object", "properties": {"name": {"type": "string"}}})
    return f"{answer.data.get('name')} {before} {os.getpid()} {threading.active_count()}"


@provider.tool
async def write(path: str) -> str:
    """Write a file."""
    with open(path, "w") as file:  # noqa: ASYNC230, PTH123 - what a provider may do
        file.write("x")
    return "written"
