"""A provider whose tools need asyncio: what they use fails where no task runs."""

import asyncio

from erlmcp import Provider

provider = Provider("asyncio", asyncio=True)


@provider.tool
async def nap(seconds: float) -> str:
    """Sleep, for a tenth of a second at most."""
    try:
        async with asyncio.timeout(0.1):
            await asyncio.sleep(seconds)
    except TimeoutError:
        return "too late"
    return "in time"
