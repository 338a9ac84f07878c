"""What a client of HTTP/2 may make us do: frames are counted before anything looks into them. Pure.

The h2 library keeps the rules of the protocol. What it does not do: bound frames that cost work and bring nothing
(SETTINGS, PING, PRIORITY, WINDOW_UPDATE, resets, empty DATA), and refuse a frame that is too large before all of it
is there. It allows 64 frames to one header block, and ends the whole conversation on GOAWAY, answers included.
"""

from struct import Struct
from typing import Final

from erlmcp.transports.http._answers import PREFACE

MOST_PAYLOAD: Final = 16384
"""The most bytes in one frame: what HTTP/2 begins with, and we never raise (RFC 9113, 6.5.2)."""

BURST: Final = 1000
"""How many frames that bring nothing may come at once."""
STEADY: Final = 100
"""How many of them may come each second on top of that."""
RESETS: Final = 200
"""How many requests may be taken back at once."""
RESETS_STEADY: Final = 50
"""How many may each second on top of that."""

ENHANCE_YOUR_CALM: Final = 0xB
FRAME_SIZE_ERROR: Final = 0x6

_DATA: Final = 0x0
_HEADERS: Final = 0x1
_RST_STREAM: Final = 0x3
_SETTINGS: Final = 0x4
_PING: Final = 0x6
_GOAWAY: Final = 0x7
_CONTINUATION: Final = 0x9
_END_STREAM: Final = 0x1
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_HEAD: Final = Struct(">HBBBI")
_SIZE: Final = 9

# Each request pays for a few frames around it, and each answer for the window updates that it is read with.
_EARNED_BY_REQUEST: Final = 4
_EARNED_BY_DATA: Final = 2
_EARNED_BY_ANSWER: Final = 0.5
_COSTS: Final = {_SETTINGS: 10, _PING: 2}
_SMALL: Final = 256
_PARTS: Final = 32


class FloodError(Exception):
    """The client does what no client needs to.

    Attributes:
        code: the HTTP/2 error code to end the connection with.
    """

    def __init__(self, message: str, code: int = ENHANCE_YOUR_CALM) -> None:
        super().__init__(message)
        self.code = code


class Frames:
    """Cuts one connection's bytes into whole frames and keeps its budget.

    Args:
        headers: the most bytes of a header block.
        now: the time, in seconds.

    Attributes:
        since: when a frame or header block began that is not complete; None if there is none.
        leaving: whether the client has said GOAWAY. That frame is kept from h2, which would answer nothing after it.
    """

    __slots__ = (
        "_at",
        "_block",
        "_credit",
        "_headers",
        "_left",
        "_parts",
        "_preface",
        "_resets",
        "leaving",
        "since",
    )

    def __init__(self, headers: int, now: float) -> None:
        self._headers = headers
        self._at = now
        self._credit: float = BURST
        self._resets: float = RESETS
        self._left = b""
        self._preface = len(PREFACE)
        self._block = -1  # bytes of the header block that has begun, or -1
        self._parts = 0
        self.since: float | None = None
        self.leaving = False

    def take(self, data: bytes, now: float) -> bytes:
        """Take some bytes; gives the whole frames among them, and those before.

        Raises:
            FloodError: a bound is passed; the connection must end.
        """
        if now > self._at:
            past = now - self._at
            self._at = now
            self._credit = min(BURST, self._credit + past * STEADY)
            self._resets = min(RESETS, self._resets + past * RESETS_STEADY)
        if self._left:
            data = self._left + data
        size = len(data)
        at = 0
        if self._preface:
            if size < self._preface:
                return self._wait(data, 0, now)
            at, self._preface = self._preface, 0
        dropped: list[tuple[int, int]] = []
        while size - at >= _SIZE:
            high, low, kind, flags, _stream = _HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > MOST_PAYLOAD:
                raise FloodError(f"a frame has at most {MOST_PAYLOAD} bytes", FRAME_SIZE_ERROR)
            end = at + _SIZE + length
            if end > size:
                break
            self._weigh(kind, length, flags, now, data[at + _SIZE] if length else 0)
            if kind == _GOAWAY:
                self.leaving = True
                dropped.append((at, end))
            at = end
        if at == size and not dropped:
            self._left = b""
            if self._block < 0:
                self.since = None
            return data
        whole = self._wait(data, at, now)
        for begin, end in reversed(dropped):
            whole = whole[:begin] + whole[end:]
        return whole

    def sent(self) -> None:
        """A frame of DATA was sent: its reader will say so."""
        self._credit += _EARNED_BY_DATA

    def answered(self) -> None:
        """A request was answered to its end."""
        self._resets = min(RESETS, self._resets + _EARNED_BY_ANSWER)

    def reset(self) -> None:
        """A request was taken back, or was such that we had to.

        Raises:
            FloodError: that happened too often.
        """
        self._resets -= 1
        if self._resets < 0:
            raise FloodError("too many requests are taken back")

    def stray(self, cost: int) -> None:
        """Pay for frames for streams that have ended. Some are still on their way when a stream is reset.

        Raises:
            FloodError: there are more than that explains.
        """
        self._spend(cost, "frames for streams that have ended")

    def _wait(self, data: bytes, at: int, now: float) -> bytes:
        """Keep what is from `at` on for later; gives what is before."""
        self._left = data[at:]
        if self._block < 0:
            if not self._left:
                self.since = None
            elif at or self.since is None:
                self.since = now
        return data[:at]

    def _weigh(self, kind: int, length: int, flags: int, now: float, first: int) -> None:
        if kind == _DATA:
            # What is padded with is nothing, too: the first byte says how much of it there is.
            content = length - 1 - first if flags & _PADDED else length
            if content < _SMALL and not flags & _END_STREAM:
                self._spend(1, "DATA frames with next to nothing in them")
        elif kind == _HEADERS:
            self._credit += _EARNED_BY_REQUEST
            if not flags & _END_HEADERS:
                self._block = length
                self._parts = 0
                self.since = now
        elif kind == _RST_STREAM:
            self.reset()
        elif kind == _CONTINUATION:
            self._continue(length, flags)
        else:
            self._spend(_COSTS.get(kind, 1), "frames that carry nothing")

    def _continue(self, length: int, flags: int) -> None:
        self._block += length
        self._parts += 1
        if self._block > self._headers or self._parts > _PARTS:
            raise FloodError(f"a header block has at most {self._headers} bytes in {_PARTS + 1} frames")
        if flags & _END_HEADERS:
            self._block = -1
            self.since = None

    def _spend(self, cost: int, what: str) -> None:
        self._credit -= cost
        if self._credit < 0:
            raise FloodError(f"too many {what}")
