"""The severities of log messages (server/utilities/logging: RFC 5424's)."""

from typing import Final

LOG_LEVELS: Final[tuple[str, ...]] = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)
"""Least severe first."""

_RANKS: Final = {level: rank for rank, level in enumerate(LOG_LEVELS)}


def at_least(level: str, threshold: str) -> bool:
    """Whether to send a message of `level` where `threshold` was asked for. KeyError for an unknown level."""
    return _RANKS[level] >= _RANKS[threshold]
