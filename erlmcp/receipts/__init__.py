"""The receipt of each request: what was about to be done (gate 7) and what came of it (gate 10)."""

from erlmcp.receipts._unrecorded import Unrecorded

__all__ = ["Unrecorded"]
