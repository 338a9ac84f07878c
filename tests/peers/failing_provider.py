"""A provider whose tool fails with its argument in the error; and a log observer of an operator's own."""

import sys
from typing import Any

from twisted.logger import ILogObserver, formatEvent
from zope.interface import provider as provides

from erlmcp import Provider

provider = Provider("failing")


@provider.tool
async def explode(secret: str) -> int:
    """Fail, unless the secret is a number."""
    return int(secret)


def observer() -> Any:
    """What ``twistd --logger`` names."""
    stream = sys.stdout

    @provides(ILogObserver)
    def write(event: Any) -> None:
        stream.write(f"mine: {formatEvent(event)}\n")
        stream.flush()

    return write
