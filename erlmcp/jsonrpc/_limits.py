"""How much of a document is taken in."""

import msgspec

SHALLOWEST = 2  # a message that has parameters
DEEPEST = 512  # what msgspec's and json's scanners nest safely, wherever on the Python stack they are called


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one document.

    Attributes:
        size: bytes of the whole document.
        depth: objects and arrays around a value, the document's own included; from 2 (parameters are one) to 512.
        keys: object members, counted over the whole document.
        string: bytes of the longest string or key as it is written, escapes unresolved, without its quotes.
        batch: messages in one array, where arrays are taken.

    Raises:
        ValueError: a bound below 1, or a depth outside 2 to 512.
    """

    size: int = 4 * 1024 * 1024
    depth: int = 64
    keys: int = 100_000
    string: int = 4 * 1024 * 1024
    batch: int = 100

    def __post_init__(self) -> None:
        for name in ("size", "keys", "string", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"the limit {name} is {getattr(self, name)}; it must be at least 1")
        if not SHALLOWEST <= self.depth <= DEEPEST:
            raise ValueError(f"the limit depth is {self.depth}; it must be from {SHALLOWEST} to {DEEPEST}")
