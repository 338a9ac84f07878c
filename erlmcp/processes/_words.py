"""What a child writes to its standard error: the last lines kept, some of the lines reported, a flood slowed down."""

from collections import deque
from collections.abc import Callable
from typing import Final

TAIL_LINES: Final = 20
"""Lines that are kept."""
LINE: Final = 500
"""Characters that are kept of a line."""
BURST: Final = 100
"""Lines that are reported at once."""
RATE: Final = 10.0
"""Lines that are reported in a second, once the burst is spent."""
HELD: Final = 4096
"""Bytes that are held of an unfinished line."""


def printable(line: bytes) -> str:
    """A line as text that cannot change a terminal or forge a line of a log; cut at `LINE` characters."""
    text = line[: 4 * LINE].decode(errors="replace").rstrip()[: LINE + 1]
    clean = "".join(
        letter if letter.isprintable() or letter == "\t" else repr(letter)[1:-1] for letter in text
    )
    return clean if len(clean) <= LINE else clean[:LINE] + "…"


class Words:
    """Lines of standard error as they arrive.

    Args:
        seconds: tells the time.
        report: gets each line that is within the rate, and how many before it were left out.
    """

    __slots__ = ("_allowed", "_held", "_last", "_left_out", "_lines", "_report", "_seconds")

    def __init__(self, seconds: Callable[[], float], report: Callable[[str, int], object]) -> None:
        self._seconds = seconds
        self._report = report
        self._lines: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._held = b""
        self._allowed = float(BURST)
        self._last = seconds()
        self._left_out = 0

    def feed(self, data: bytes) -> None:
        """Take what came."""
        *lines, held = (self._held + data).split(b"\n")
        # The beginning of a line says more than its end.
        self._held = held[:HELD]
        for line in lines:
            if line.strip():
                self._take(line)

    def finish(self) -> None:
        """Standard error has ended: the last line may have no newline, and what was left out is said."""
        held, self._held = self._held, b""
        if held.strip():
            self._take(held)
        if self._left_out:
            self._say("(no more)")

    @property
    def tail(self) -> str:
        """The last lines, the unfinished one included."""
        lines = [*self._lines, self._held] if self._held.strip() else list(self._lines)
        return "\n".join(printable(line) for line in lines[-TAIL_LINES:])

    def _take(self, line: bytes) -> None:
        self._lines.append(line[: 4 * LINE])
        now = self._seconds()
        self._allowed = min(float(BURST), self._allowed + (now - self._last) * RATE)
        self._last = now
        if self._allowed < 1:
            self._left_out += 1
            return
        self._allowed -= 1
        self._say(printable(line))

    def _say(self, text: str) -> None:
        left_out, self._left_out = self._left_out, 0
        self._report(text, left_out)
