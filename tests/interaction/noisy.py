"""A provider that prints wherever it can, for the tests of standard streams."""

import os

from erlmcp import Provider

print("while importing")
provider = Provider("noisy")


@provider.tool
async def loud() -> str:
    """Print."""
    print("from print", flush=True)
    os.write(1, b"from os.write\n")
    return "quiet"
