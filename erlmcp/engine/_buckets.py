"""Buckets of tokens by GCRA: one number for each, the time at which it will be full again.

Source: ATM Forum, "Traffic Management Specification 4.0" (1996), section 4.4.3, the virtual scheduling algorithm, for
several cells at once.
"""

from erlmcp.interfaces import EngineFull, Grant

_SLACK = 1e-6
"""Of a token: what rounding may make of a token that is due. It is owed like any other, so it never adds up."""

_SWEEP = 1.0
"""Seconds between two looks through a full table."""


class Buckets:
    """Buckets that are not full; any other is full, so that it needs no memory.

    Args:
        most: how many may be in use at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._full_at: dict[str, float] = {}
        self._swept = float("-inf")

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, bucket: str, want: int, minimum: int, rate: float, burst: float, now: float) -> Grant:
        """See `IEngine.take`; `now` is that of a clock that never goes back.

        Raises:
            EngineFull: there is no room for another bucket.
        """
        full_at = self._full_at.get(bucket)
        if full_at is None:
            self._make_room(now)
            full_at = now
        missing = max(0.0, full_at - now) * rate
        there = burst - missing
        available = int(there + _SLACK)
        if available < minimum:
            return Grant(0, max(0.0, (minimum - there) / rate))
        granted = min(want, available)
        self._full_at[bucket] = now + (missing + granted) / rate
        return Grant(granted, 0.0)

    def give(self, bucket: str, count: int, rate: float, now: float) -> None:
        """Put tokens back; a bucket that is full takes none."""
        full_at = self._full_at.get(bucket)
        if full_at is not None:
            full_at -= count / rate
            if full_at > now:
                self._full_at[bucket] = full_at
            else:
                del self._full_at[bucket]

    def _make_room(self, now: float) -> None:
        if len(self._full_at) < self._most:
            return
        if now - self._swept >= _SWEEP:
            self._swept = now
            self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > now}
        if len(self._full_at) >= self._most:
            raise EngineFull(f"{self._most} buckets are in use, and none of them is full")
