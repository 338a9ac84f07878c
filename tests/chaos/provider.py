"""What is called while things break: each answer carries its asker's mark, and each execution is written down."""

import os
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from erlmcp import Context, Provider

LEDGER = "CHAOS_LEDGER"
"""The variable that names the file where each execution leaves its mark."""
THING = "chaos://thing"
"""A resource to watch."""
BIG = 2000
"""How often a big answer repeats the mark."""

provider = Provider("chaos")


@dataclass
class Said:
    """What is asked for."""

    word: str


def _executed(mark: str) -> None:
    # One write of a line is whole, whoever else appends.
    file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, mark.encode() + b"\n")
    finally:
        os.close(file)


async def _sleep(seconds: float) -> None:
    from twisted.internet import reactor

    waiting: Deferred[None] = deferLater(reactor, seconds, lambda: None)
    await waiting


@provider.tool
async def pid() -> int:
    """The process that serves."""
    return os.getpid()


@provider.tool
async def touch() -> int:
    """Announce that the resource has changed."""
    provider.notify_updated(THING)
    return os.getpid()


@provider.resource(THING)
async def thing() -> str:
    """Something to watch."""
    return "thing"


@provider.tool
async def echo(mark: str) -> str:
    """Give it back at once."""
    _executed(mark)
    return mark


@provider.tool
async def big(mark: str) -> str:
    """Give it back very often."""
    _executed(mark)
    return " ".join([mark] * BIG)


@provider.tool
async def nap(mark: str, seconds: float) -> str:
    """Give it back later."""
    _executed(mark)
    await _sleep(seconds)
    return mark


@provider.tool
async def steps(mark: str, seconds: float, ctx: Context) -> str:
    """Give it back after some progress, which carries it too."""
    _executed(mark)
    for step in range(3):
        ctx.report_progress(step, 3, mark)
        await _sleep(seconds)
    return mark


@provider.tool
async def confirm(mark: str, ctx: Context) -> str:
    """Ask for a word, and give both."""
    _executed(mark)
    answer = await ctx.elicit(mark, Said, key="said")
    return f"{mark} {answer.data.word if answer.data else answer.action}"
