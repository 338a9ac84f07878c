"""Which child is started, stopped or restarted when: decisions alone, no clock, no service, no timer.

A `Rules` is told what has happened and when, and says what is to be done. The rules are those of OTP's supervisor
(Erlang/OTP, stdlib, ``supervisor``), with two additions: a start may take its time, and restarts of one child wait
longer and longer.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from erlmcp.supervision._terms import (
    AutoShutdown,
    Backoff,
    Ended,
    Restart,
    StartFailure,
    Strategy,
    TooManyRestarts,
)

State = Literal["idle", "waiting", "starting", "up", "stopping", "ended"]
Phase = Literal["idle", "starting", "running", "stopping", "ended"]


class Start(msgspec.Struct, frozen=True):
    """Make and start a child. To be answered with `Rules.ready` or `Rules.failed`."""

    name: str
    attempt: int


class Stop(msgspec.Struct, frozen=True):
    """Stop a child, whether it is up or starting. To be answered with `Rules.stopped`, and nothing else."""

    name: str
    attempt: int


class Ready(msgspec.Struct, frozen=True):
    """All children have started."""


class Refused(msgspec.Struct, frozen=True):
    """A child that was added did not start, and has been forgotten."""

    name: str
    error: Exception


class Removed(msgspec.Struct, frozen=True):
    """A child has gone for good."""

    name: str


class Restarting(msgspec.Struct, frozen=True):
    """A child will be started again; only to be told."""

    name: str
    delay: float
    error: Exception


class End(msgspec.Struct, frozen=True):
    """No child is left, and the supervisor has ended: as it was asked to or by its own rule (None), or by failing."""

    error: Exception | None


Action = Start | Stop | Ready | Refused | Removed | Restarting | End


class Child:
    """A child as the rules know it.

    Attributes:
        name, restart, significant: as specified.
        state: what it is doing; ``idle`` until its turn comes.
        attempt: numbers its incarnations, from 1; events of an earlier one are ignored.
        until: not to be started before.
        halting: whether it must be stopped before anything is started.
        forget: whether it is forgotten once it has stopped, rather than started again.
        ever: whether it has been up.
        failures: restarts in a row.
        since: when `state` began.
        restarts: how often it was started again.
        error: why it ended last.
    """

    __slots__ = (
        "attempt", "error", "ever", "failures", "forget", "halting", "name", "restart", "restarts", "significant",
        "since", "state", "until",
    )  # fmt: skip

    def __init__(self, name: str, restart: Restart, significant: bool, now: float) -> None:
        self.name = name
        self.restart = restart
        self.significant = significant
        self.state: State = "idle"
        self.attempt = 0
        self.until = now
        self.halting = False
        self.forget = False
        self.ever = False
        self.failures = 0
        self.since = now
        self.restarts = 0
        self.error: Exception | None = None

    @property
    def live(self) -> bool:
        """Whether there is an incarnation that can be stopped."""
        return self.state in ("starting", "up")

    @property
    def due(self) -> bool:
        """Whether it is to be started, now or later."""
        return self.state in ("idle", "waiting")

    @property
    def settled(self) -> bool:
        """Whether those after it need not wait for it."""
        return self.state in ("up", "ended")

    def enter(self, state: State, now: float) -> None:
        """Change its state."""
        self.state = state
        self.since = now


class Rules:
    """The decisions of one supervisor.

    Every method takes the time first (seconds, never going back) and returns what is to be done, in order.

    Args:
        strategy, intensity, period, backoff, auto_shutdown: as `Supervisor` has them.
        chance: gives numbers from 0 to 1, for jitter.

    Attributes:
        children: by name, in the order of their start.
        phase: of the supervisor itself.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        intensity: int,
        period: float,
        backoff: Backoff,
        auto_shutdown: AutoShutdown,
        chance: Callable[[], float],
    ) -> None:
        self.children: dict[str, Child] = {}
        self.phase: Phase = "idle"
        self._strategy = strategy
        # Children that stand on each other are stopped and started one at a time.
        self._linked = strategy in ("one_for_all", "rest_for_one")
        self._intensity = intensity
        self._period = period
        self._backoff = backoff
        self._auto_shutdown = auto_shutdown
        self._chance = chance
        self._restarts: deque[float] = deque(maxlen=intensity + 1)
        self._error: Exception | None = None

    def wake(self, now: float) -> float | None:
        """When to call `tick`: the end of the next wait, always later than now; None if nothing waits for time.

        A child whose wait is over and which has not been started waits for another: an event will start it.
        """
        if self.phase not in ("starting", "running"):
            return None
        waits = (child.until for child in self.children.values() if child.state == "waiting")
        return min((until for until in waits if until > now), default=None)

    def start(self, now: float) -> list[Action]:
        """Start the children, each once the one before is ready."""
        self.phase = "starting"
        return self._step(now)

    def stop(self, now: float) -> list[Action]:
        """Stop them, the last first, each once the one after it has stopped."""
        if self.phase in ("stopping", "ended"):
            return []
        return self._finish(now, None)

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        return self._step(now)

    def add(self, now: float, name: str, restart: Restart, *, significant: bool = False) -> list[Action]:
        """One child more, the last in order; started if the others are.

        Raises:
            ValueError: it cannot be a child of this supervisor.
        """
        if name in self.children:
            raise ValueError(f"there is a child {name!r} already")
        if significant and self._auto_shutdown == "never":
            raise ValueError(
                f"{name}: nothing follows from a significant child while auto_shutdown is 'never'"
            )
        if self.phase in ("stopping", "ended"):
            raise ValueError(f"{name}: its supervisor has ended")
        self.children[name] = Child(name, restart, significant, now)
        return self._step(now)

    def remove(self, now: float, name: str) -> list[Action]:
        """Stop a child, and forget it; KeyError if there is none."""
        child = self.children[name]
        child.forget = True
        if child.live:
            child.halting = True
        elif child.state != "stopping":
            return [*self._forget(child), *self._step(now)]
        return self._step(now)

    def restart(self, now: float, name: str) -> list[Action]:
        """Stop a child and start it again, with what stands on it; not counted. KeyError if there is none."""
        child = self.children[name]
        child.until = now
        if child.live:
            child.halting = True
        elif child.state == "ended":
            child.enter("waiting", now)
        for other in self._dependents(child):
            self._again(other, now)
        return self._step(now)

    def ready(self, now: float, name: str, attempt: int) -> list[Action]:
        """A child is up."""
        child = self._current(name, attempt, ("starting",))
        if child is None:
            return []
        child.enter("up", now)
        child.ever = True
        return self._step(now)

    def failed(self, now: float, name: str, attempt: int, error: Exception) -> list[Action]:
        """A child did not become ready, and nothing is left of it."""
        child = self._current(name, attempt, ("starting",))
        if child is None:
            return []
        child.error = error
        if child.halting:
            return self._gone(child, now)
        if child.ever:
            return self._restart(child, now, error)
        child.enter("ended", now)
        if self.phase == "starting":
            return self._finish(now, StartFailure(name, error))
        self._forget(child)
        return [Refused(name, error), *self._step(now)]

    def exited(self, now: float, name: str, attempt: int, error: Exception | None) -> list[Action]:
        """A child that was up has ended by itself: normally (None) or not; nothing is left of it."""
        child = self._current(name, attempt, ("up",))
        if child is None:
            return []
        if error is not None:
            child.error = error
        if child.halting:
            return self._gone(child, now)
        if child.restart == "permanent" or (child.restart == "transient" and error is not None):
            if error is None:
                error = child.error = Ended("it came to an end")
            return self._restart(child, now, error)
        child.enter("ended", now)
        actions = []
        if child.restart == "temporary" or self._strategy == "simple_one_for_one":
            actions = self._forget(child)
        if child.significant and self._shuts_down():
            return [*actions, *self._finish(now, None)]
        return [*actions, *self._step(now)]

    def stopped(self, now: float, name: str, attempt: int) -> list[Action]:
        """A child has stopped as it was told to."""
        child = self._current(name, attempt, ("stopping",))
        return [] if child is None else self._gone(child, now)

    def _gone(self, child: Child, now: float) -> list[Action]:
        """Nothing is left of a child that was to be stopped."""
        child.halting = False
        if child.forget:
            return [*self._forget(child), *self._step(now)]
        child.enter("ended" if self.phase == "stopping" else "waiting", now)
        return self._step(now)

    def _current(self, name: str, attempt: int, states: tuple[State, ...]) -> Child | None:
        child = self.children.get(name)
        return None if child is None or child.attempt != attempt or child.state not in states else child

    def _dependents(self, child: Child) -> Iterator[Child]:
        """Those that must not outlive it."""
        after = False
        for other in self.children.values():
            if other is child:
                after = True
            elif self._strategy == "one_for_all" or (self._strategy == "rest_for_one" and after):
                yield other

    def _restart(self, child: Child, now: float, error: Exception) -> list[Action]:
        up = now - child.since if child.state == "up" else 0.0
        if up >= self._backoff.calm:
            child.failures = 0
        while self._restarts and now - self._restarts[0] > self._period:
            self._restarts.popleft()
        self._restarts.append(now)
        if len(self._restarts) > self._intensity:
            child.enter("ended", now)
            return self._finish(now, TooManyRestarts(child.name, error, self._intensity, self._period))
        delay = self._backoff.delay(child.failures, self._chance())
        child.failures += 1
        child.until = now + delay
        child.halting = False
        child.enter("waiting", now)
        for other in self._dependents(child):
            self._again(other, now)
        return [Restarting(child.name, delay, error), *self._step(now)]

    def _again(self, child: Child, now: float) -> None:
        """It is to be started anew, and stopped before if need be."""
        if child.live:
            child.halting = True
            # What is temporary is not started a second time, whatever ended it.
            child.forget = child.forget or child.restart == "temporary"
        elif child.state == "ended":
            child.enter("waiting", now)

    def _forget(self, child: Child) -> list[Action]:
        del self.children[child.name]
        return [Removed(child.name)]

    def _shuts_down(self) -> bool:
        if self._auto_shutdown == "any_significant":
            return True
        return not any(other.significant and other.state != "ended" for other in self.children.values())

    def _finish(self, now: float, error: Exception | None) -> list[Action]:
        self.phase = "stopping"
        self._error = error
        for child in self.children.values():
            child.halting = child.live
            if child.due:
                child.enter("ended", now)
        return self._step(now)

    def _step(self, now: float) -> list[Action]:
        """Whatever can be done now."""
        if self.phase in ("idle", "ended"):
            return []
        actions = list(self._stops(now))
        if self.phase == "stopping":
            if not any(child.live or child.state == "stopping" for child in self.children.values()):
                self.phase = "ended"
                actions.append(End(self._error))
            return actions
        actions += self._starts(now)
        if self.phase == "starting" and all(child.settled for child in self.children.values()):
            self.phase = "running"
            actions.append(Ready())
        return actions

    def _stops(self, now: float) -> Iterator[Action]:
        ordered = self._linked or (self.phase == "stopping" and self._strategy != "simple_one_for_one")
        for child in reversed(self.children.values()):
            if child.live and child.halting:
                child.enter("stopping", now)
                yield Stop(child.name, child.attempt)
            if ordered and child.state == "stopping":
                return

    def _starts(self, now: float) -> Iterator[Action]:
        children: Iterable[Child] = self.children.values()
        if self._linked and any(child.halting or child.state == "stopping" for child in children):
            return
        if self._strategy == "one_for_all" and any(child.due and child.until > now for child in children):
            return
        before = True  # whether all before are settled
        for child in children:
            first = not child.ever and self.phase == "starting"
            if child.due and child.until <= now and (before or not (self._linked or first)):
                child.restarts += child.attempt > 0
                child.attempt += 1
                child.enter("starting", now)
                yield Start(child.name, child.attempt)
            before = before and child.settled
