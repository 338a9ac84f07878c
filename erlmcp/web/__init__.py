"""An HTTP client of our own: 1.1 and 2, pooled, usable without MCP."""

from erlmcp.web._agent import Agent
from erlmcp.web._fetch import Fetched, fetch
from erlmcp.web._options import Tls
from erlmcp.web._pool import Pool
from erlmcp.web._types import Ongoing, Origin, Receiver, WebError, WebRequest
from erlmcp.web._urls import join_url, split_url

__all__ = [
    "Agent",
    "Fetched",
    "Ongoing",
    "Origin",
    "Pool",
    "Receiver",
    "Tls",
    "WebError",
    "WebRequest",
    "fetch",
    "join_url",
    "split_url",
]
