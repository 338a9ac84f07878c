"""Heads that were taken before, known again by their bytes.

A client's requests differ in their bodies; their heads repeat to the letter. The parser's verdict on the same bytes is
the same, so it is asked once: this is a third of what a small request costs. Only plain heads are kept: POST over
HTTP/1.1 with Content-Length, taken without a refusal, an answer's CORS lines or anything else out of the usual.
"""

from typing import Final

import httptools
import msgspec

from erlmcp.transports.http._head import Headers

_KEPT: Final = 512
_LONGEST: Final = 2048
_EVERY: Final = 16
_END: Final = b"\r\n\r\n"


class Head(msgspec.Struct, frozen=True):
    """What the parser and the rules made of a head.

    Attributes:
        headers: its fields. Shared by all requests with this head, so nobody may change it.
        size: its bytes, the empty line included.
        length: the bytes of the body that follows.
    """

    headers: Headers
    size: int
    length: int


class FamiliarHeads:
    """The heads that one listener has taken: at most 512, of at most 2 KiB each.

    Once there are so many, only every 16th new one takes the place of the oldest: with more clients than that, each
    with a session of its own, heads would otherwise be forgotten before they come again, and learnt for nothing.
    """

    __slots__ = ("_heads", "_passed")

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._passed = 0

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, data: bytes) -> Head | None:
        """The head that `data` begins with, if it is familiar. Right only between two requests."""
        return self._heads.get(data[: data.find(_END) + 4])

    def learn(self, data: bytes, headers: Headers, length: int) -> None:
        """Remember the head that `data` begins with, which was taken with these fields and this length of body."""
        full = len(self._heads) >= _KEPT
        if full:
            self._passed += 1
            if self._passed % _EVERY:
                return
        size = data.find(_END) + 4
        if not len(_END) < size <= _LONGEST:
            return
        head = data[:size]
        if not _is_a_head(head):
            return
        if full:
            del self._heads[next(iter(self._heads))]
        self._heads[head] = Head(headers, size, length)


class _Marks:
    """Notes when the parser has seen a whole head."""

    def __init__(self) -> None:
        self.complete = False

    def on_headers_complete(self) -> None:
        self.complete = True


def _is_a_head(head: bytes) -> bool:
    """Whether the parser finds one whole head in these bytes, and its end at their end, not before.

    What is looked for is an empty line; what ends a head is the parser's to say.
    """
    marks = _Marks()
    parser = httptools.HttpRequestParser(marks)
    try:
        parser.feed_data(head[:-1])
        if marks.complete:
            return False
        parser.feed_data(head[-1:])
    except httptools.HttpParserError:
        return False
    return marks.complete
