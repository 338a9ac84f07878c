"""Towards clients: eras in, the pipeline of gates, parked calls, subscriptions.

`Server` is one MCP server; transports talk to its channels. Where providers and upstreams come from is not known here.
"""

from erlmcp.server._pipeline import Gates, Pipeline
from erlmcp.server._server import Server
from erlmcp.server._views import Views

__all__ = ["Gates", "Pipeline", "Server", "Views"]
