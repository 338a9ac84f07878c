"""Lines out of a stream of bytes, with a bound on what is held of an unfinished one."""

import msgspec


class Overlong(msgspec.Struct, frozen=True):
    """Stands for a line that was too long to keep, where it stood among the others.

    Attributes:
        size: its bytes, newline not counted.
    """

    size: int


class LineFramer:
    """Cuts a byte stream into lines: LF or CR LF ends one, empty ones are skipped.

    A line longer than `max_line` is thrown away as it arrives, and reported once its end is there. Any chunking of the
    same bytes gives the same lines.

    Args:
        max_line: the longest line in bytes, its ending not counted; at least 1.
    """

    __slots__ = ("_buffer", "_max_line", "_skipped")

    def __init__(self, max_line: int) -> None:
        if max_line < 1:
            raise ValueError(f"max_line is {max_line}; it must be at least 1")
        self._max_line = max_line
        self._buffer = bytearray()
        self._skipped = 0

    @property
    def pending(self) -> int:
        """Bytes held of the unfinished line: at most ``max_line + 1``, for a CR that may belong to its ending."""
        return len(self._buffer)

    @property
    def skipping(self) -> bool:
        """Whether the unfinished line is too long already, and is being thrown away."""
        return self._skipped > 0

    def feed(self, data: bytes) -> list[bytes | Overlong]:
        """Take the next bytes; returns the lines that they complete, in order."""
        pieces = data.split(b"\n")
        tail = pieces.pop()
        lines: list[bytes | Overlong] = []
        if pieces:
            if self._buffer or self._skipped:
                lines.extend(self._complete(pieces.pop(0)))
            if len(data) <= self._max_line and 0x0D not in data:
                lines.extend(filter(None, pieces))
            else:
                for piece in pieces:
                    lines.extend(self._judge(piece))
        if tail:
            self._hold(tail)
        return lines

    def finish(self) -> bytes | None:
        """The stream has ended: the last line if it has no newline; None if there is none, or it is too long."""
        line = bytes(self._buffer)
        self._buffer.clear()
        self._skipped = 0
        return line.removesuffix(b"\r") or None

    def _complete(self, end: bytes) -> tuple[bytes | Overlong, ...]:
        size = len(self._buffer) + self._skipped + len(end)
        if self._skipped or size > self._max_line + 1:
            self._buffer.clear()
            self._skipped = 0
            return (Overlong(size),)
        line = bytes(self._buffer) + end
        self._buffer.clear()
        return self._judge(line)

    def _judge(self, piece: bytes) -> tuple[bytes | Overlong, ...]:
        line = piece.removesuffix(b"\r")
        if len(line) > self._max_line:
            return (Overlong(len(piece)),)
        return (line,) if line else ()

    def _hold(self, tail: bytes) -> None:
        if self._skipped:
            self._skipped += len(tail)
            return
        size = len(self._buffer) + len(tail)
        if size > self._max_line + (tail[-1] == 0x0D):
            self._skipped = size
            self._buffer.clear()
        else:
            self._buffer += tail
