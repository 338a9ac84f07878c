"""The table of entries: bounded, and with two clocks to say whether one is over."""

from collections.abc import Callable

from erlmcp.engine._bounds import Bounds, weight
from erlmcp.interfaces import EngineFull, Lease, Stored
from erlmcp.timing import Entry

NAMES = "name/"
"""What the keys of names begin with."""


class Holding:
    """A lease that somebody has, with the keys under it, that of its name among them.

    Attributes:
        until: when it is over, on the steady clock.
        timer: what removes it then.
    """

    __slots__ = ("keys", "lease", "timer", "until")
    timer: Entry

    def __init__(self, lease: Lease, until: float) -> None:
        self.lease = lease
        self.until = until
        self.keys: set[str] = set()


class Record:
    """An entry.

    Attributes:
        stored: value and revision.
        expires: seconds since the epoch, None for never.
        until: the same on the steady clock, as it was when the entry was set.
        holding: the lease that it is under.
        durable: whether the file has it, or will have.
        timer: what removes it.
    """

    __slots__ = ("durable", "expires", "holding", "stored", "timer", "until")

    def __init__(self, stored: Stored, expires: float | None, until: float) -> None:
        self.stored = stored
        self.expires = expires
        self.until = until
        self.holding: Holding | None = None
        self.durable = False
        self.timer: Entry | None = None


class Records:
    """Entries by key.

    Args:
        bounds: how many, and how many bytes.
        wall: seconds since the epoch; may be set back and forth.
        steady: seconds of a clock that never is.
    """

    def __init__(self, bounds: Bounds, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self.memory = 0
        self._most = bounds.entries
        self._most_memory = bounds.memory
        self._wall = wall
        self._steady = steady
        self._records: dict[str, Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def peek(self, key: str) -> Stored | None:
        """The entry under a key, unless it is over."""
        record = self._records.get(key)
        return None if record is None or self.over(record) else record.stored

    def get(self, key: str) -> Record | None:
        """The record under a key, over or not."""
        return self._records.get(key)

    def over(self, record: Record) -> bool:
        """Whether its time has come, or that of its lease.

        An expiry has come when both clocks say so: what was forgotten early, while the system's clock was wrong, could
        be a tombstone, and what is under it would live again once the clock is put right.
        """
        if record.expires is not None:
            return self._steady() >= record.until and self._wall() >= record.expires
        return record.holding is not None and self._steady() >= record.holding.until

    def check_room(self, key: str, value: bytes) -> None:
        """See that a key may be set. Raises EngineFull."""
        record = self._records.get(key)
        memory = self.memory + weight(key, value) - (weight(key, record.stored.value) if record else 0)
        if (record is None and len(self._records) >= self._most) or memory > self._most_memory:
            raise EngineFull(
                f"the engine has {len(self._records)} entries of {self.memory} bytes; at most it has {self._most} of"
                f" {self._most_memory}"
            )

    def set(self, key: str, record: Record) -> None:
        """Put a record in, in place of what was under the key."""
        self.pop(key)
        self._records[key] = record
        self.memory += weight(key, record.stored.value)
        if record.holding is not None:
            record.holding.keys.add(key)

    def pop(self, key: str) -> Record | None:
        """Take a record out, off its lease, and stop its timer."""
        record = self._records.pop(key, None)
        if record is not None:
            self.memory -= weight(key, record.stored.value)
            if record.holding is not None:
                record.holding.keys.discard(key)
            if record.timer is not None:
                record.timer.cancel()
        return record

    def under(self, prefix: str) -> list[tuple[str, Record]]:
        """The records whose keys begin with `prefix`, over or not, in no order."""
        return [(key, record) for key, record in self._records.items() if key.startswith(prefix)]
