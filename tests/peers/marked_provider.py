"""A provider whose answers say for whom they are and who gave them, and that keeps a list of what it has done."""

import os
from typing import Any

from twisted.internet.task import deferLater

from erlmcp import Provider

provider = Provider("marked")
WORK = 0.02
"""Seconds that a call takes, so that there are some under way whenever a process is ended."""


async def _done(ticket: str) -> str:
    from twisted.internet import reactor

    clock: Any = reactor
    file = os.open(os.environ["ERLMCP_TEST_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{ticket}\n".encode())  # one write: several processes append to the same file
    finally:
        os.close(file)
    await deferLater(clock, WORK)
    return f"{ticket} {os.getpid()}"


@provider.tool
async def mark(ticket: str) -> str:
    """Do something that must not be done twice."""
    return await _done(ticket)


@provider.tool(annotations={"readOnlyHint": True})
async def look(ticket: str) -> str:
    """Do something that may be done again."""
    return await _done(ticket)
