"""How much an engine keeps, and what a name in it may be."""

import msgspec

OVERHEAD = 512
"""Bytes that an entry counts besides its key and its value: about what Python needs for it."""

MOST_KEY = 512
MOST_VALUE = 64 * 1024


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What is the most of each.

    Attributes:
        entries: keys, names that are held among them.
        memory: bytes of entries: keys, values, and `OVERHEAD` for each.
        changes: changes that are kept for watchers that are behind.
        change_bytes: bytes of their values.
        watchers: watchers and hearers of hints together.
        hints: hints on their way.
        buckets: buckets that are not full.
        writes: durable changes that are not written yet.
    """

    entries: int = 250_000
    memory: int = 128 * 1024 * 1024
    changes: int = 4096
    change_bytes: int = 4 * 1024 * 1024
    watchers: int = 1024
    hints: int = 4096
    buckets: int = 100_000
    writes: int = 10_000


def check_name(what: str, text: str) -> None:
    """See that a key, name, bucket or topic is one. Raises ValueError if it is none."""
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"the {what} {text!r} is no Unicode text: it has a lone surrogate") from None
    if not 0 < size <= MOST_KEY:
        raise ValueError(f"a {what} is 1 to {MOST_KEY} bytes of UTF-8, not {size}")


def weight(key: str, value: bytes) -> int:
    """What an entry counts, in bytes."""
    return OVERHEAD + len(key.encode()) + len(value)
