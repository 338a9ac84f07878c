"""The same tool on erlmcp: ``--provider benchmarks.peers.erlmcp_echo:provider``."""

from erlmcp import Provider

provider = Provider("echo")


@provider.tool
async def echo(message: str) -> str:
    """Say it again."""
    return message
