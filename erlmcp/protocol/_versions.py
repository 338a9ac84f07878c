"""The protocol's revisions, and which era each belongs to."""

from typing import Final

MODERN: Final = "2026-07-28"
MODERN_VERSIONS: Final[tuple[str, ...]] = (MODERN,)
HANDSHAKE_VERSIONS: Final[tuple[str, ...]] = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Newest first."""
