"""The counters of several processes as one: what each has counted, as bytes, and the sum of them."""

from typing import Final

import msgspec

from erlmcp.telemetry._counters import BUCKETS, Counters, Histogram, Labels

_TOTAL: Final = "_total"


class Snapshot(msgspec.Struct, array_like=True):
    """What one process has counted until now.

    Attributes:
        requests: labels, the sum of the durations, how many fell in each bucket.
        errors: method, code, how many.
        gauges: name, labels, the value now.
    """

    requests: list[tuple[Labels, float, list[int]]] = []
    errors: list[tuple[str, str | int, int]] = []
    gauges: list[tuple[str, tuple[str, ...], float]] = []


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Snapshot).decode


def snapshot(counters: Counters) -> bytes:
    """What a process has counted, for another one."""
    return _encode(
        Snapshot(
            [(labels, slot.sum, slot.buckets) for labels, slot in counters.requests.items()],
            [(method, code, count) for (method, code), count in counters.errors.items()],
            [
                # What is so or not is a number as well.
                (name, labels, float(read()))
                for name, readers in counters.gauges.items()
                for labels, read in readers.items()
            ],
        )
    )


class Sums:
    """The counters of several processes, added up; it looks like `Counters` to whoever reads them.

    Attributes:
        requests, errors, gauges: as those of `Counters`.
    """

    __slots__ = ("errors", "gauges", "requests", "values")

    def __init__(self) -> None:
        self.requests: dict[Labels, Histogram] = {}
        self.errors: dict[tuple[str, str | int], int] = {}
        self.values: dict[tuple[str, tuple[str, ...]], float] = {}
        self.gauges: dict[str, dict[tuple[str, ...], _Value]] = {}

    def add(self, taken: bytes, *, ended: bool = False) -> None:
        """Add what a process has counted.

        Args:
            taken: its `snapshot`.
            ended: whether it has gone: then only what can never fall counts, so that no sum falls with it.
        """
        read = _decode(taken)
        for labels, seconds, buckets in read.requests:
            slot = self.requests.get(labels)
            if slot is None:
                slot = self.requests[labels] = Histogram()
            slot.sum += seconds
            if len(buckets) == len(BUCKETS) + 1:
                slot.buckets = [a + b for a, b in zip(slot.buckets, buckets, strict=True)]
        for method, code, count in read.errors:
            self.errors[method, code] = self.errors.get((method, code), 0) + count
        for name, names, value in read.gauges:
            if not ended or name.endswith(_TOTAL):
                self.put(name, names, value)

    def put(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Add to one value."""
        key = (name, labels)
        self.values[key] = self.values.get(key, 0.0) + value
        self.gauges.setdefault(name, {}).setdefault(labels, _Value(self.values, key))

    def __bytes__(self) -> bytes:
        """As `snapshot`."""
        return _encode(
            Snapshot(
                [(labels, slot.sum, slot.buckets) for labels, slot in self.requests.items()],
                [(method, code, count) for (method, code), count in self.errors.items()],
                [(name, labels, value) for (name, labels), value in self.values.items()],
            )
        )


class _Value:
    __slots__ = ("_key", "_values")

    def __init__(
        self, values: dict[tuple[str, tuple[str, ...]], float], key: tuple[str, tuple[str, ...]]
    ) -> None:
        self._values = values
        self._key = key

    def __call__(self) -> float:
        return self._values[self._key]
