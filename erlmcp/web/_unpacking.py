"""Unpacking the heads of answers from HTTP/2 (HPACK, RFC 7541): the same block again is the same head again.

A server says much the same with each answer; the hpack library reads it field by field, and h2 and we look at each.
"""

from collections.abc import Iterable
from typing import Final

from hpack import Decoder, HeaderTuple
from hpack.table import HeaderTable

from erlmcp.web._heads import fault_in_head, status_of

_KEPT: Final = 64
_LONGEST: Final = 1024
_DIGITS: Final = 18


class Head:
    """The head of an answer that there is nothing wrong with.

    Attributes:
        status: 200 to 599.
        headers: without the status.
        length: what ``content-length`` says; None where there is none.
    """

    __slots__ = ("headers", "length", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], length: int | None) -> None:
        self.status = status
        self.headers = headers
        self.length = length


class _Table(HeaderTable):
    """A table that counts what comes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class Unpacker(Decoder):
    """A decoder that knows the last blocks again: at most 64, of at most 1024 bytes.

    The same bytes mean the same fields as long as the table is the same. A block that changes it is not kept, and
    those that were kept before are forgotten.

    Args:
        most: how large a head may be, unpacked.

    Attributes:
        known: the heads that were unpacked before, by their block: final ones without a fault.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._table = self.header_table = _Table()
        self.known: dict[bytes, Head] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """See `hpack.Decoder.decode`; `raw` is what h2 wants."""
        table = self._table
        before = table.added, len(table.dynamic_entries), table.maxsize
        fields = list(super().decode(data, raw))
        if (table.added, len(table.dynamic_entries), table.maxsize) != before:
            self.known.clear()
        elif raw and len(data) <= _LONGEST:
            head = _head_of(fields)
            if head is not None:
                if len(self.known) >= _KEPT:
                    self.known.clear()
                self.known[bytes(data)] = head
        return fields


def _head_of(fields: list[HeaderTuple]) -> Head | None:
    """The head, unless it is one that must be looked at each time."""
    pairs = [(bytes(name), bytes(value)) for name, value in fields]
    status = status_of(pairs)
    if status is None or fault_in_head(pairs) is not None:
        return None
    lengths = [value for name, value in pairs if name == b"content-length"]
    if len(lengths) > 1 or not all(value.isdigit() and len(value) <= _DIGITS for value in lengths):
        return None
    return Head(status, pairs[1:], int(lengths[0]) if lengths else None)
