"""Packing the heads of requests for HTTP/2 (HPACK, RFC 7541): the same head again is the same few bytes again.

The hpack library looks every field up in its table, one after the other, for each request anew.
"""

from collections.abc import Sequence
from typing import Final

from hpack.hpack import Encoder
from hpack.table import HeaderTable

Fields = tuple[tuple[bytes, bytes], ...]

_KEPT: Final = 256


class _Table(HeaderTable):
    """A table that says when it has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.version += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        # hpack's forgets that the peer must be told when the same size is asked for once more.
        self.resized = True
        self.version += 1
        self._maxsize = size
        self._shrink()


class Packer(Encoder):
    """An encoder that remembers what it has encoded, as long as its table is the same."""

    def __init__(self) -> None:
        super().__init__()
        self._table = self.header_table = _Table()
        self._known: dict[Fields, tuple[int, bytes]] = {}

    def pack(self, fields: Fields, fleeting: Sequence[tuple[bytes, bytes]], length: int | None) -> bytes:
        """Pack a head.

        Args:
            fields: those that come again with other requests; pseudo-headers first.
            fleeting: those that are different each time: the table is not filled with them.
            length: what ``content-length`` says; None for no such field.
        """
        table = self._table
        resized = b""
        if table.resized:
            # The peer must be told first: the smallest size since, and the last (RFC 7541, 4.2). hpack would tell all.
            changes = self.table_size_changes
            self.table_size_changes = [min(changes), changes[-1]]
            resized = self.encode(())
        known = self._known.get(fields)
        if known is not None and known[0] == table.version:
            block = known[1]
        else:
            before = table.version
            block = self.encode(fields)
            if table.version == before:
                # All of it is in the tables, so nothing was added and the next time is the same.
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[fields] = (before, block)
        if fleeting:
            block += self.encode([(name, value, True) for name, value in fleeting])
        if length is not None:
            # A literal that is not indexed, with the name at 28 of the static table (RFC 7541, 6.2.2).
            digits = b"%d" % length
            block += b"\x0f\x0d%c%b" % (len(digits), digits)
        return resized + block
