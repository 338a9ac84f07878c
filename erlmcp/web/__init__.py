"""An HTTP client of our own: 1.1 and 2, pooled, usable without MCP."""

from erlmcp.web._types import Ongoing, Origin, Receiver, WebError, WebRequest
from erlmcp.web._urls import join_url, split_url

__all__ = [
    "Ongoing",
    "Origin",
    "Receiver",
    "WebError",
    "WebRequest",
    "join_url",
    "split_url",
]
