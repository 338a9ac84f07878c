"""Server-sent events as they come in: bytes in pieces, whole events out. Pure, and bounded.

Source: WHATWG HTML, 9.2.5 and 9.2.6 (parsing and interpreting an event stream).
"""

from typing import Final

_BOM: Final = b"\xef\xbb\xbf"
_LONGEST_ID: Final = 4096  # it goes back in a header field
_LONGEST_RETRY: Final = 9  # digits: eleven days in milliseconds

Event = tuple[bytes, bytes]
"""The type of an event, ``message`` unless it has another, and its data."""


class SseError(ValueError):
    """An event stream says more than is taken in."""


class EventStream:
    """Reads one event stream. A stream that is taken up again is read by a new one, with the last id of the old.

    Args:
        limit: bytes of one event, field names and line ends included.

    Attributes:
        last_id: the id of the last whole event that had one, to be said in ``Last-Event-ID``; empty if there is none.
        retry: the milliseconds that the server wants to pass before the stream is taken up again; None if it said none.
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_id",
        "_limit",
        "_partial",
        "_size",
        "_started",
        "_type",
        "last_id",
        "retry",
    )

    def __init__(self, limit: int, last_id: bytes = b"") -> None:
        self.last_id = last_id
        self.retry: int | None = None
        self._limit = limit
        self._partial = bytearray()  # a line whose end has not come
        self._size = 0  # of the event so far, the partial line included
        self._data: list[bytes] = []
        self._type = b""
        self._id = last_id
        self._after_cr = False  # the last piece ended in CR: a LF that follows belongs to it
        self._started = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that are whole with `data`. Those without data, which only say an id, are kept back.

        Raises:
            SseError: an event is longer than the limit. Nothing can be read after it.
        """
        if self._after_cr and data:
            self._after_cr = False
            if data[:1] == b"\n":
                data = data[1:]
        if not data:
            return []
        lines = data.splitlines(keepends=True)
        last = lines[-1]
        rest = b""
        if last[-1:] not in b"\r\n":
            rest = lines.pop()
        elif last[-1:] == b"\r":
            self._after_cr = True
        events: list[Event] = []
        for raw in lines:
            self._take(raw, events)
        if rest:
            self._grow(len(rest))
            self._partial += rest
        return events

    def _take(self, raw: bytes, events: list[Event]) -> None:
        """One line with its end."""
        self._grow(len(raw))
        line = raw.rstrip(b"\r\n")
        if self._partial:
            self._partial += line
            line = bytes(self._partial)
            self._partial.clear()
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if line:
            self._field(line)
        else:
            self._dispatch(events)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise SseError(f"an event is longer than {self._limit} bytes")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:  # a comment, which keeps a quiet stream open
            if not self._data:
                self._size = 0
            return
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"id":
            if b"\0" not in value and len(value) <= _LONGEST_ID:
                self._id = value
        elif name == b"event":
            self._type = value
        elif name == b"retry" and value.isdigit() and len(value) <= _LONGEST_RETRY:
            self.retry = int(value)

    def _dispatch(self, events: list[Event]) -> None:
        self._size = 0
        self.last_id = self._id
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data.clear()
            if data:
                events.append((self._type or b"message", data))
        self._type = b""
