"""Time, coarsely: one timer for all the limits that expire."""

from erlmcp.timing._wheel import Entry, Wheel

__all__ = ["Entry", "Wheel"]
