"""Supervision: a tree of services that heals. A supervisor is a Twisted `MultiService`, a child any `IService`.

Nothing here knows of MCP.
"""

from erlmcp.supervision._supervisor import Supervisor
from erlmcp.supervision._terms import (
    Backoff,
    ChildSpec,
    Ended,
    NotReady,
    StartFailure,
    Status,
    TooManyRestarts,
    spell,
)

__all__ = [
    "Backoff",
    "ChildSpec",
    "Ended",
    "NotReady",
    "StartFailure",
    "Status",
    "Supervisor",
    "TooManyRestarts",
    "spell",
]
