"""A provider that says which process serves, asks its client, waits, and announces."""

import os
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from erlmcp import Context, Provider

provider = Provider("workers")


@dataclass
class Confirm:
    """What is asked for."""

    sure: bool


@provider.tool
async def pid() -> int:
    """The process that serves."""
    return os.getpid()


@provider.tool
async def variable(name: str) -> str:
    """What the process was given."""
    return os.environ.get(name, "")


@provider.tool
async def confirm(ctx: Context) -> str:
    """Ask, and say which process got the answer."""
    answer = await ctx.elicit("Sure?", Confirm, key="sure")
    return f"{answer.action} {os.getpid()}"


@provider.tool
async def nap(seconds: float) -> int:
    """Wait, and say which process waited."""
    from twisted.internet import reactor

    waiting: Deferred[None] = deferLater(reactor, seconds, lambda: None)
    await waiting
    return os.getpid()


@provider.tool
async def say(ctx: Context) -> int:
    """Log at debug, then say which process."""
    await ctx.log("debug", "said")
    return os.getpid()


@provider.tool
async def touch() -> int:
    """Announce that a resource has changed."""
    provider.notify_updated("test://thing")
    return os.getpid()


@provider.tool
async def leave(seconds: float, ctx: Context) -> int:
    """Let the client come back, and answer later."""
    await ctx.leave()
    return await nap(seconds)


@provider.resource("test://thing")
async def thing() -> str:
    """Something to watch."""
    return "thing"
