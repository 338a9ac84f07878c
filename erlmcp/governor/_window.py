"""Counts of the last seconds, in a few slots: constant time and memory, however many there are. Pure."""

from typing import Final

_SLOTS: Final = 10


class Window:
    """Two counts over the last `span` seconds, to a tenth of it.

    What is older than `span` is never counted; of what is younger, at most the oldest tenth of `span` is forgotten.
    A clock that is set back a little stands still; one that is set back by more than `span` begins anew.

    Args:
        span: seconds.
    """

    __slots__ = ("_begins", "_ends", "_first", "_last", "_second", "_width", "first", "second")

    def __init__(self, span: float) -> None:
        self._width = span / _SLOTS
        self._last = 0
        self._begins = self._ends = 0.0  # of the slot of now
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._first = [0] * _SLOTS
        self._second = [0] * _SLOTS
        self.first = self.second = 0

    def advance(self, now: float) -> None:
        """Let go of what is older than `span`. `first` and `second` are the counts then."""
        slot = int(now // self._width)
        passed = slot - self._last
        if -_SLOTS < passed <= 0:
            return
        self._last = slot
        self._begins = slot * self._width
        self._ends = self._begins + self._width
        if not 0 < passed < _SLOTS:
            self.clear()
            return
        for one in range(slot - passed + 1, slot + 1):
            place = one % _SLOTS
            self.first -= self._first[place]
            self.second -= self._second[place]
            self._first[place] = self._second[place] = 0

    def count(self, now: float, first: int, second: int) -> None:
        """Let go of what is older than `span`, and count what is now."""
        if not self._begins <= now < self._ends:
            self.advance(now)
        place = self._last % _SLOTS
        if first:
            self._first[place] += first
            self.first += first
        if second:
            self._second[place] += second
            self.second += second
