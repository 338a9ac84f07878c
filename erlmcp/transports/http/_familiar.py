"""Heads that were taken before, known again by their bytes.

A client's requests differ in their bodies; their heads repeat to the letter. The parser's verdict on the same bytes is
the same, so it is asked once: this is a third of what a small request costs. Only plain heads are kept: POST over
HTTP/1.1 with Content-Length, taken without a refusal, an answer's CORS lines or anything else out of the usual.
"""

from typing import Final, Generic, TypeVar

import httptools
import msgspec

from erlmcp.transports.http._head import Headers

_KEPT: Final = 512
LONGEST: Final = 2048
"""The most bytes of a head that is kept."""

_EVERY: Final = 16
_END: Final = b"\r\n\r\n"

K = TypeVar("K")
V = TypeVar("V")


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


class Kept(Generic[K, V]):
    """What one listener has taken before: at most 512.

    Once there are so many, only every 16th new one takes the place of the oldest: with more clients than that, each
    with a session of its own, heads would otherwise be forgotten before they come again, and learnt for nothing.

    Attributes:
        known: what there is; for looking it up.
    """

    __slots__ = ("_passed", "known")

    def __init__(self) -> None:
        self.known: dict[K, V] = {}
        self._passed = 0

    def __len__(self) -> int:
        return len(self.known)

    def passes(self) -> bool:
        """Whether the next new one is one of those that are not kept."""
        if len(self.known) >= _KEPT:
            self._passed += 1
            return self._passed % _EVERY != 0
        return False

    def keep(self, key: K, value: V) -> None:
        """Keep one more, instead of the oldest if there are too many."""
        if len(self.known) >= _KEPT:
            del self.known[next(iter(self.known))]
        self.known[key] = value


class FamiliarHeads(Kept[bytes, Head]):
    """The heads of HTTP/1.1 that one listener has taken: at most 512, of at most 2 KiB each."""

    __slots__ = ()

    def find(self, data: bytes) -> Head | None:
        """The head that `data` begins with, if it is familiar. Right only between two requests."""
        return self.known.get(data[: data.find(_END) + 4])

    def learn(self, data: bytes, headers: Headers, length: int) -> None:
        """Remember the head that `data` begins with, which was taken with these fields and this length of body."""
        if self.passes():
            return
        size = data.find(_END) + 4
        if not len(_END) < size <= LONGEST:
            return
        head = data[:size]
        if _is_a_head(head):
            self.keep(head, Head(headers, size, length))


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
