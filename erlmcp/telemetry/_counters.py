"""Plain slots, one for each combination of labels; a collector reads them when it is asked to.

Counting a request is one dictionary look-up and three additions. Labels are bounded here: whatever a client can
make up never becomes a label of its own.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator

from zope.interface import implementer

from erlmcp.interfaces import ICounters, Request
from erlmcp.protocol import METHODS

BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Upper bounds of the duration histogram, in seconds; the last bucket, past them all, has none."""

OTHER = "other"
"""The label of methods that are not MCP's, and of what comes when the slots are used up."""

_MOST_SLOTS = 4096
_MOST_ERRORS = 512

Labels = tuple[str, str, str, str, str]
"""method, tool, outcome, transport, era."""


class Histogram:
    """Durations with the same labels.

    Attributes:
        sum: of all of them, in seconds.
        buckets: how many fell in each bucket of `BUCKETS`, and past the last; not cumulative.
    """

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.sum = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self.buckets)


@implementer(ICounters)
class Counters:
    """What this process has counted since it began.

    Attributes:
        requests: labels -> durations; their number is the number of requests.
        errors: (method, code) -> how many error answers; the code is ``other`` once too many differ.
        gauges: name -> labels -> what tells the value now. Whoever has a value puts its reader here.
    """

    __slots__ = ("errors", "gauges", "requests")

    def __init__(self) -> None:
        self.requests: dict[Labels, Histogram] = {}
        self.errors: dict[tuple[str, str | int], int] = {}
        self.gauges: dict[str, dict[tuple[str, ...], Callable[[], float]]] = {}

    def request(self, request: Request, outcome: str, seconds: float) -> None:
        """See `ICounters`."""
        peer = request.peer
        # Only a tool that exists (gate 5 has found it) is named: a made-up name must not make a series.
        tool = request.name if request.target is not None and request.method == "tools/call" else ""
        slot = self.requests.get((request.method, tool, outcome, peer.transport, request.era))
        if slot is None:
            slot = self._slot(request.method, tool, outcome, peer.transport, request.era)
        slot.sum += seconds
        slot.buckets[bisect_left(BUCKETS, seconds)] += 1

    def error(self, method: str, code: int) -> None:
        """See `ICounters`."""
        key: tuple[str, str | int] = (method if method in METHODS or not method else OTHER, code)
        if key not in self.errors and len(self.errors) >= _MOST_ERRORS:
            key = (key[0], OTHER)
        self.errors[key] = self.errors.get(key, 0) + 1

    def gauge(self, name: str, labels: tuple[str, ...], read: Callable[[], float]) -> None:
        """Offer a value that is read when asked for."""
        self.gauges.setdefault(name, {})[labels] = read

    def no_gauge(self, name: str, labels: tuple[str, ...]) -> None:
        """Offer it no longer; nothing happens if it is not offered."""
        self.gauges.get(name, {}).pop(labels, None)

    def show(self, those: "Counters", instead: "Counters | None" = None) -> None:
        """Offer the values that others offer, too.

        Args:
            those: whose values are offered from now on.
            instead: whose are offered no longer, where `those` do not have them.
        """
        for name, labels in [] if instead is None else list(_names(instead)):
            self.no_gauge(name, labels)
        for name, labels in _names(those):
            self.gauge(name, labels, those.gauges[name][labels])

    def _slot(self, method: str, tool: str, outcome: str, transport: str, era: str) -> Histogram:
        if method not in METHODS:
            method = OTHER
        if len(self.requests) >= _MOST_SLOTS:
            tool = ""
        return self.requests.setdefault((method, tool, outcome, transport, era), Histogram())


def _names(counters: Counters) -> Iterator[tuple[str, tuple[str, ...]]]:
    return ((name, labels) for name, readers in counters.gauges.items() for labels in readers)
