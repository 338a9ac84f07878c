"""A breaker: keeps calls from an upstream that is failing, and finds out with a few when it is well again. Pure.

Docs: docs/machines/breaker.md. The caller says what time it is and how each call went; nothing here waits.
"""

import random as _random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from erlmcp.governor._window import Window

_UNCOUNTED: Final = 0
"""The ticket of a call that a dry run lets through: how it goes tells nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long. Times in seconds.

    Attributes:
        span: how far back calls are looked at.
        calls: so many have to have ended in `span` before their share of failures counts.
        failed: the share of them at which it opens.
        connects: so many failed attempts to connect in a row open it.
        shortest: how long it is open at first.
        longest: how long at most; each opening that follows on another lasts twice as long, up to this.
        jitter: the share of that time that chance takes off, so that not all come back at once.
        probes: so many calls have to go well, one after the other or together, before it closes.
        patience: how long a probe may keep another from being made; afterwards it is still heard.
        dry_run: only count and tell what would be refused.

    Raises:
        ValueError: a bound makes no sense.
    """

    span: float = 10.0
    calls: int = 20
    failed: float = 0.5
    connects: int = 5
    shortest: float = 5.0
    longest: float = 60.0
    jitter: float = 0.2
    probes: int = 3
    patience: float = 10.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        if min(self.calls, self.connects, self.probes) < 1:
            raise ValueError("calls, connects and probes of a breaker are 1 at least")
        if not 0 < self.failed <= 1 or not 0 <= self.jitter < 1:
            raise ValueError("failed of a breaker is above 0, jitter below 1, and both are shares of 1")
        if min(self.span, self.patience, self.shortest) <= 0 or self.longest < self.shortest:
            raise ValueError("the times of a breaker are above 0, and longest is not below shortest")


class BreakerState(Enum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Report(Enum):
    """How a call went, as far as it says something of its upstream."""

    GOOD = "good"
    """It answered, be it with an error about what it was asked."""
    BAD = "bad"
    """It did not answer: lost, timed out, or its own internal error."""
    NEITHER = "neither"
    """Not known: given up by its caller, or never sent."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that is not to be made.

    Attributes:
        retry_after: seconds until another may be.
        why: why the breaker is open, in a sentence without its subject.
    """

    retry_after: float
    why: str


class Breaker:
    """Decides whether an upstream is called.

    Each call that `admit` gives a ticket is told to `settle` once. Tickets of before a change of state count no more.

    Args:
        policy: the numbers.
        random: gives numbers from 0 to below 1.
        on_change: hears of each new state, and why.

    Attributes:
        state: as of the last call of a method.
        why: why it is not closed; empty if it is.
        retry_at: until when it is open, if it is, on the caller's clock.
        refused: calls refused; with `BreakerPolicy.dry_run` those that would have been.
    """

    __slots__ = (
        "_closed_at",
        "_connects",
        "_good",
        "_on_change",
        "_openings",
        "_policy",
        "_probing",
        "_random",
        "_ticket",
        "_unreachable",
        "_window",
        "refused",
        "retry_at",
        "state",
        "why",
    )

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        random: Callable[[], float] = _random.random,
        on_change: Callable[[BreakerState, str], None] | None = None,
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._random = random
        self._on_change = on_change
        self._window = Window(self._policy.span)
        self._connects = 0
        self._openings = 0
        self._closed_at = float("-inf")
        self._ticket = 1
        self._probing: list[float] = []
        self._good = 0
        self._unreachable = False
        self.state = BreakerState.CLOSED
        self.why = ""
        self.retry_at = 0.0
        self.refused = 0

    def admit(self, now: float) -> int | Refused:
        """Whether a call may be made.

        Returns:
            A ticket for `settle`, or why not.
        """
        if self.state is BreakerState.CLOSED:
            return self._ticket
        policy = self._policy
        if self.state is BreakerState.OPEN:
            # A clock that was set back must not keep it open for longer than it can be.
            if 0 < self.retry_at - now <= policy.longest:
                return self._refuse(self.retry_at - now)
            self._half_open()
        self._probing = [since for since in self._probing if abs(now - since) < policy.patience]
        if self._good + len(self._probing) < policy.probes:
            self._probing.append(now)
            return self._ticket
        return self._refuse(max(0.0, min(self._probing) + policy.patience - now))

    def settle(self, ticket: int, report: Report, now: float) -> None:
        """Hear how a call went."""
        if ticket != self._ticket:
            return
        if self.state is BreakerState.CLOSED:
            self._count(report, now)
            return
        if self._probing:  # while it is open it gives no tickets, so this is a probe
            del self._probing[0]
        if report is Report.BAD:
            self._open(now, "a probe failed")
        elif report is Report.GOOD:
            self._good += 1
            if self._good >= self._policy.probes:
                self._close(now)

    def connected(self, now: float) -> None:
        """Hear that a connection was made. If none could be made before, probes are made from now on."""
        del now
        self._connects = 0
        if self.state is BreakerState.OPEN and self._unreachable:
            self._half_open()

    def connect_failed(self, now: float) -> None:
        """Hear that no connection could be made. Attempts that others make while it is open do not prolong that."""
        self._connects += 1
        if self.state is BreakerState.HALF_OPEN:
            self._open(now, "a connection failed", unreachable=True)
        elif self.state is BreakerState.CLOSED and self._connects >= self._policy.connects:
            self._open(now, f"{self._connects} connections in a row failed", unreachable=True)

    def _count(self, report: Report, now: float) -> None:
        if report is Report.NEITHER:
            return
        bad = report is Report.BAD
        window, policy = self._window, self._policy
        window.count(now, 1, int(bad))
        # Only a failure opens it: a call that went well is no reason to refuse the next.
        if bad and window.first >= policy.calls and window.second >= window.first * policy.failed:
            self._open(now, f"{window.second} of {window.first} calls in {policy.span:g} s failed")

    def _refuse(self, retry_after: float) -> int | Refused:
        self.refused += 1
        return _UNCOUNTED if self._policy.dry_run else Refused(retry_after, self.why)

    def _open(self, now: float, why: str, *, unreachable: bool = False) -> None:
        policy = self._policy
        if self.state is BreakerState.CLOSED and now - self._closed_at >= policy.longest:
            self._openings = 0
        lasts = min(policy.shortest * 2.0 ** min(self._openings, 30), policy.longest)
        self._openings += 1
        self.retry_at = now + lasts * (1 - policy.jitter * self._random())
        self._unreachable = unreachable
        self._connects = 0
        self._window.clear()
        self._become(BreakerState.OPEN, why)

    def _half_open(self) -> None:
        self._probing = []
        self._good = 0
        self._become(BreakerState.HALF_OPEN, self.why)

    def _close(self, now: float) -> None:
        self._closed_at = now
        self._become(BreakerState.CLOSED, "")

    def _become(self, state: BreakerState, why: str) -> None:
        self._ticket += 1
        self.state = state
        self.why = why
        if self._on_change is not None:
            self._on_change(state, why)
