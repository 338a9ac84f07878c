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

    __slots__ = ("_first", "_last", "_second", "_width", "first", "second")

    def __init__(self, span: float) -> None:
        self._width = span / _SLOTS
        self._last = 0
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
        if not 0 < passed < _SLOTS:
            self.clear()
            return
        for one in range(slot - passed + 1, slot + 1):
            place = one % _SLOTS
            self.first -= self._first[place]
            self.second -= self._second[place]
            self._first[place] = self._second[place] = 0

    def add(self, first: int, second: int) -> None:
        """Count, at the time of the last `advance`."""
        place = self._last % _SLOTS
        self._first[place] += first
        self._second[place] += second
        self.first += first
        self.second += second
