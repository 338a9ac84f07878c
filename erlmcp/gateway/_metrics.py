"""What operators see of upstreams in ``/metrics``: whether each is there, how busy it is, what became of its calls."""

from collections.abc import Callable
from typing import Final, Protocol

from erlmcp.governor import BreakerState
from erlmcp.telemetry import Counters

OUTCOMES: Final = ("complete", "input_required", "error", "lost", "refused", "cancelled")
"""What becomes of a call: answered, answered with a question, answered with an error, not answered, not made (the
breaker is open, or too many wait), given up by its client or its deadline. A label for each, and no more."""


class Tally:
    """How many calls of one upstream ended how.

    Attributes:
        counts: by outcome; all of `OUTCOMES` are there.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = dict.fromkeys(OUTCOMES, 0)

    def count(self, outcome: str) -> None:
        """Count a call; KeyError for what is none of `OUTCOMES`."""
        self.counts[outcome] += 1


class Sessions(Protocol):
    """See `erlmcp.gateway._leases.Leases`."""

    @property
    def count(self) -> int:
        """How many sessions there are."""

    @property
    def waiting(self) -> int:
        """How many calls wait for one."""


class Breaks(Protocol):
    """See `erlmcp.governor.Breaker`."""

    @property
    def state(self) -> BreakerState:
        """Whether calls are let through."""


class Follows(Protocol):
    """See `erlmcp.gateway._watching.Watching`."""

    @property
    def followed(self) -> int:
        """How many resources are followed."""


class Measured(Protocol):
    """See `erlmcp.gateway.Upstream`."""

    @property
    def name(self) -> str:
        """Its name, which the configuration gives: the only label that is not from a fixed set."""

    @property
    def stale(self) -> str | None:
        """Why its lists may not be true any more."""

    @property
    def leases(self) -> Sessions:
        """Its sessions."""

    @property
    def breaker(self) -> Breaks:
        """Whether it is asked at all."""

    @property
    def watching(self) -> Follows:
        """What is heard from it."""

    @property
    def tally(self) -> Tally:
        """What became of its calls."""


def expose(counters: Counters, upstream: Measured) -> Callable[[], None]:
    """Let the counters show an upstream.

    Returns:
        What ends that, when the upstream is used no longer.
    """
    label = (upstream.name,)
    readers: dict[tuple[str, tuple[str, ...]], Callable[[], float]] = {
        ("erlmcp_upstream_stale", label): lambda: upstream.stale is not None,
        ("erlmcp_upstream_open", label): lambda: upstream.breaker.state is BreakerState.OPEN,
        ("erlmcp_upstream_sessions", label): lambda: upstream.leases.count,
        ("erlmcp_upstream_waiting", label): lambda: upstream.leases.waiting,
        ("erlmcp_upstream_followed", label): lambda: upstream.watching.followed,
    }
    for outcome in OUTCOMES:
        readers["erlmcp_upstream_calls_total", (upstream.name, outcome)] = _reader(upstream.tally, outcome)
    for (name, labels), read in readers.items():
        counters.gauge(name, labels, read)

    def end() -> None:
        for name, labels in readers:
            counters.no_gauge(name, labels)

    return end


def _reader(tally: Tally, outcome: str) -> Callable[[], float]:
    return lambda: tally.counts[outcome]
