"""Header compression for a server whose clients say the same again and again: both sides of hpack, made cheap. Pure.

A client's header blocks repeat to the byte once its table is filled, so each is decoded once as long as that table
stays as it is. Our own answers leave the peer's table alone: they are short, and need not be searched for in it.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from hpack import Decoder, Encoder, HeaderTuple
from hpack.hpack import encode_integer
from hpack.table import HeaderTable

_KEPT: Final = 16
_LONGEST: Final = 512
_STATIC: Final = HeaderTable.STATIC_TABLE_MAPPING
_PLAIN: Final = 0x00
_NEVER_INDEXED: Final = 0x10
# What a proxy may keep in no table of its own (RFC 7541, 7.1.3).
_SECRET: Final = frozenset({b"mcp-session-id", b"set-cookie", b"www-authenticate", b"authorization"})


class _WatchedTable(HeaderTable):
    """A table that counts what comes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        """A field comes in, and others may go."""
        self.added += 1
        super().add(name, value)

    @property
    def mark(self) -> tuple[int, int, int]:
        """The same again if nothing came in and nothing was removed."""
        return self.added, len(self.dynamic_entries), self.maxsize


class RememberingDecoder(Decoder):
    """A decoder that knows the last blocks again: at most 16, of at most 512 bytes.

    The same bytes mean the same fields as long as the table is the same. A block that changes it is not kept, and
    those that were kept before are forgotten.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._watched = self.header_table = _WatchedTable()
        self._known: dict[bytes, list[HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """See `hpack.Decoder.decode`; `raw` is what h2 wants."""
        known = self._known.get(data)
        if known is not None:
            return known
        before = self._watched.mark
        fields = list(super().decode(data, raw))
        if self._watched.mark != before:
            self._known.clear()
        elif len(data) <= _LONGEST:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[data] = fields
        return fields


class PlainEncoder(Encoder):
    """An encoder that puts nothing in the peer's table."""

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:  # noqa: ARG002 - hpack's
        """See `hpack.Encoder.encode`: pairs of bytes, names in lower case."""
        block = [
            _field(name, value) if name not in _SECRET else _literal(name, value) for name, value in headers
        ]
        # hpack's own looks at `resized`, and forgets a change that was asked for twice.
        if self.table_size_changes:
            block.insert(0, self._encode_table_size_change())
            self.header_table.resized = False
        return b"".join(block)


def _literal(name: bytes, value: bytes) -> bytes:
    form = _NEVER_INDEXED if name in _SECRET else _PLAIN
    found = _STATIC.get(name)
    if found is None:
        head = bytes([form]) + bytes(encode_integer(len(name), 7)) + name
    else:
        exact = found[1].get(value)
        if exact is not None and form == _PLAIN:
            return bytes([0x80 | exact])
        index = encode_integer(found[0], 4)
        index[0] |= form
        head = bytes(index)
    return b"".join((head, bytes(encode_integer(len(value), 7)), value))


_field = lru_cache(512)(_literal)
