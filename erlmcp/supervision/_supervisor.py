"""A supervisor: a `MultiService` that starts its children in order, heals them by the rules, stops them in order."""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.supervision._incarnation import Incarnation
from erlmcp.supervision._rules import Action, End, Ready, Refused, Removed, Restarting, Rules, Start, Stop
from erlmcp.supervision._terms import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    NotReady,
    StartFailure,
    Status,
    Strategy,
    spell,
)

log = Logger(namespace="erlmcp.supervision")


class Supervisor(MultiService):
    """Starts, watches, restarts and stops services.

    It is started once: where it is a child itself, its parent makes a new one.

    Args:
        name: for logs and status; the service's name.
        specs: the children, in the order of their start.
        clock: the reactor, or a ``twisted.internet.task.Clock``.
        strategy: what is restarted when a child is: ``one_for_one``: it alone; ``one_for_all``: all;
            ``rest_for_one``: it and those after it; ``simple_one_for_one``: it alone, and the children, which come by
            `add` only, are stopped all at once.
        intensity: the most restarts within `period` seconds; past that the supervisor stops its children and fails.
        period: seconds.
        backoff: how long a child that ends again and again is let wait.
        auto_shutdown: whether the supervisor ends, normally, when ``any_significant`` child has ended by itself, or
            ``all_significant`` ones have.
        most: children at once.
        chance: gives numbers from 0 to 1.
        wall: seconds since the epoch.

    Attributes:
        ended: fires when it has ended by itself: with None by `auto_shutdown`, with a failure (`TooManyRestarts`,
            `StartFailure`) otherwise. All its children have stopped then.

    Raises:
        ValueError: the children or the numbers cannot be.
    """

    def __init__(
        self,
        name: str,
        specs: Sequence[ChildSpec],
        clock: IReactorTime,
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 5,
        period: float = 60.0,
        backoff: Backoff | None = None,
        auto_shutdown: AutoShutdown = "never",
        most: int = 10_000,
        chance: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if strategy not in ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"):
            raise ValueError(f"{name}: there is no strategy {strategy!r}")
        if auto_shutdown not in ("never", "any_significant", "all_significant"):
            raise ValueError(f"{name}: there is no auto_shutdown {auto_shutdown!r}")
        if intensity < 0 or not period > 0:
            raise ValueError(f"{name}: {intensity} restarts within {period} s is no measure")
        if strategy == "simple_one_for_one" and specs:
            raise ValueError(f"{name}: the children of a simple_one_for_one supervisor come by add()")
        self.setName(name)  # type: ignore[no-untyped-call]
        self.ended: Deferred[None] = Deferred()
        self._clock = clock
        self._wall = wall
        self._most = most
        self._rules = Rules(
            strategy,
            intensity=intensity,
            period=period,
            backoff=backoff or Backoff(),
            auto_shutdown=auto_shutdown,
            chance=chance,
        )
        self._specs: dict[str, ChildSpec] = {}
        self._prepared: dict[str, IService] = {}
        self._living: dict[str, Incarnation] = {}
        self._actions: deque[Action | ChildSpec] = deque()
        self._acting = False
        self._timer: Any = None
        self._preparing: Deferred[StartFailure | None] | None = None
        self._started: Deferred[None] | None = None
        self._stopped: Deferred[None] | None = None
        self._over = False
        self._added: dict[str, Deferred[None]] = {}
        self._removals: dict[str, list[Deferred[None]]] = {}
        self._since = wall()
        for spec in specs:
            self._enter(spec)

    def addService(self, service: object) -> None:  # noqa: N802, ARG002 - Twisted's name and signature
        """Not for a supervisor: its children are made by their factories.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"the children of {self.name} are made from a ChildSpec: use add()")

    def removeService(self, service: object) -> None:  # noqa: N802, ARG002 - Twisted's name and signature
        """Not for a supervisor.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"the children of {self.name} have names: use remove()")

    def privilegedStartService(self) -> Deferred[None]:
        """Make the children that there are, and let each do what needs privileges, one after the other.

        Returns:
            fires when all have; `startService` waits for it.

        Raises:
            Exception: what a child failed with, if that is known at once.
        """
        Service.privilegedStartService(self)
        prepared: Deferred[None] = Deferred()

        def over(error: StartFailure | None) -> StartFailure | None:
            if error is None:
                prepared.callback(None)
            else:
                prepared.errback(error)
            return error

        self._preparing = Deferred.fromCoroutine(self._prepare()).addCallback(over)
        _raise_if_failed(prepared)
        return prepared

    def startService(self) -> Deferred[None]:
        """Start the children in order.

        Returns:
            fires when all are ready; fails with `StartFailure` when one does not become ready, and `ended` with it;
            and with `NotReady` when it is stopped before.

        Raises:
            StartFailure: if that is known at once.
            RuntimeError: it has been started before.
        """
        if self._started is not None:
            raise RuntimeError(f"the supervisor {self.name} starts once: make a new one")
        Service.startService(self)
        self._since = self._wall()
        started = self._started = Deferred()
        self.ended.addErrback(self._not_started)
        if self._preparing is None:
            self._begin()
        else:
            self._preparing.addCallback(lambda error: self._begin() if error is None else self._finish(error))
        _raise_if_failed(started)
        return started

    def stopService(self) -> Deferred[None]:
        """Stop the children, the last first, each within its time; fires when all have. Safe to call twice."""
        if self._stopped is None:
            self._stopped = Deferred()
            Service.stopService(self)
            if self._over:
                self._stopped.callback(None)
            elif self._rules.phase == "idle":
                Deferred.fromCoroutine(self._unprepare()).addCallback(lambda _: self._finish(None))
            else:
                self._do(self._rules.stop(self._clock.seconds()))
        waiting: Deferred[None] = Deferred()
        self._stopped.addCallback(lambda _: waiting.callback(None))
        return waiting

    def add(self, spec: ChildSpec) -> Deferred[None]:
        """One child more, the last in order.

        Returns:
            fires when it is ready; fails with what its start failed with, and it is not there then.

        Raises:
            ValueError: it cannot be: its name is taken, or there are too many.
        """
        if self._rules.phase == "idle":
            self._enter(spec)
            return succeed(None)
        added: Deferred[None] = Deferred()
        self._enter(spec, added)
        return added

    def remove(self, name: str) -> Deferred[None]:
        """Stop a child and forget it; fires when it has gone.

        Raises:
            KeyError: there is none of that name.
        """
        removed: Deferred[None] = Deferred()
        actions = self._rules.remove(self._clock.seconds(), name)
        self._removals.setdefault(name, []).append(removed)
        self._do(actions)
        return removed

    def restart(self, name: str) -> None:
        """Stop a child and start it again, with what stands on it; not counted against the intensity.

        Raises:
            KeyError: there is none of that name.
        """
        self._do(self._rules.restart(self._clock.seconds(), name))

    def service(self, name: str) -> Any:
        """The service that a child is now; None while there is none."""
        if name in self._living:
            return self._living[name].service
        return self._prepared.get(name)

    def status(self) -> Status:
        """How it and its children fare."""
        now, wall = self._clock.seconds(), self._wall()
        children = []
        for child in self._rules.children.values():
            service = self.service(child.name)
            own = getattr(service, "status", None)
            below: Status | None = None if own is None else own()
            detail = getattr(service, "detail", None)
            children.append(
                Status(
                    name=child.name,
                    kind="child" if below is None else below.kind,
                    state=child.state,
                    since=wall - (now - child.since),
                    restarts=child.restarts,
                    error=None if child.error is None else spell(child.error),
                    detail=below.detail if below is not None else {} if detail is None else detail(),
                    children=() if below is None else below.children,
                )
            )
        state = {"running": "up"}.get(self._rules.phase, self._rules.phase)
        return Status(
            name=str(self.name), kind="supervisor", state=state, since=self._since, children=tuple(children)
        )

    @property
    def path(self) -> str:
        """Its name after those of the supervisors above it."""
        above = getattr(self.parent, "path", None)
        return f"{above}/{self.name}" if isinstance(above, str) else str(self.name)

    def _enter(self, spec: ChildSpec, added: Deferred[None] | None = None) -> None:
        if len(self._rules.children) >= self._most:
            raise ValueError(f"{self.name} has {self._most} children, the most that it may have")
        actions = self._rules.add(
            self._clock.seconds(), spec.name, spec.restart, significant=spec.significant
        )
        if added is not None:
            self._added[spec.name] = added
        self._do([spec, *actions])

    async def _prepare(self) -> StartFailure | None:
        for name, spec in list(self._specs.items()):
            try:
                service = self._prepared[name] = self._adopt(spec)
                await maybeDeferred(service.privilegedStartService)
            except Exception as error:  # noqa: BLE001 - a child may fail as it likes
                await self._unprepare()
                return StartFailure(name, error)
            if self._stopped is not None:
                break
        return None

    async def _unprepare(self) -> None:
        """Stop what was made but not started."""
        for name in reversed(list(self._prepared)):
            service = self._prepared.pop(name, None)
            if service is not None:
                await self._discard(self._specs[name], service)

    async def _discard(self, spec: ChildSpec, service: Any) -> None:
        await Incarnation(spec, 0, service, self._clock, f"{self.path}/{spec.name}").stop()
        self._let_go(service)

    def _begin(self) -> None:
        if self._stopped is None:
            self._do(self._rules.start(self._clock.seconds()))

    def _do(self, actions: Sequence[Action | ChildSpec]) -> None:
        self._actions.extend(actions)
        if self._acting:
            return
        self._acting = True
        try:
            while self._actions:
                self._perform(self._actions.popleft())
        finally:
            self._acting = False
        self._set_timer()

    def _perform(self, action: Action | ChildSpec) -> None:
        match action:
            case ChildSpec():
                self._specs[action.name] = action
            case Start(name, attempt):
                self._start_child(name, attempt)
            case Stop(name, attempt):
                self._stop_child(name, attempt)
            case Restarting(name, delay, error):
                log.error(
                    "{child} ended: {error}; restarting in {delay:.2f} s",
                    child=f"{self.path}/{name}", error=spell(error), delay=delay,
                )  # fmt: skip
            case Refused(name, error):
                self._specs.pop(name, None)
                self._answer_added(name, error)
            case Removed(name):
                spec, prepared = self._specs.pop(name, None), self._prepared.pop(name, None)
                if spec is not None and prepared is not None:
                    Deferred.fromCoroutine(self._discard(spec, prepared))
                self._answer_added(name, RuntimeError(f"{name} was removed before it was ready"))
                for waiting in self._removals.pop(name, ()):
                    waiting.callback(None)
            case Ready():
                if self._started is not None and not self._started.called:
                    self._started.callback(None)
            case End(error):
                # What was made for the privileged phase may not have had its turn.
                Deferred.fromCoroutine(self._unprepare()).addCallback(lambda _: self._finish(error))

    def _start_child(self, name: str, attempt: int) -> None:
        spec = self._specs[name]
        rules, seconds = self._rules, self._clock.seconds
        try:
            service = self._prepared.pop(name, None) or self._adopt(spec)
        except Exception as error:  # noqa: BLE001 - a factory may fail as it likes
            self._do(rules.failed(seconds(), name, attempt, error))
            return
        living = self._living[name] = Incarnation(spec, attempt, service, self._clock, f"{self.path}/{name}")

        def ready() -> None:
            self._answer_added(name, None)
            self._do(rules.ready(seconds(), name, attempt))

        def failed(error: Exception) -> None:
            self._leave(name, living)
            self._do(rules.failed(seconds(), name, attempt, error))

        def exited(error: Exception | None) -> None:
            self._leave(name, living)
            self._do(rules.exited(seconds(), name, attempt, error))

        living.start(ready, failed, exited)

    def _stop_child(self, name: str, attempt: int) -> None:
        living = self._living[name]

        def stopped(_result: object) -> None:
            self._leave(name, living)
            self._do(self._rules.stopped(self._clock.seconds(), name, attempt))

        living.stop().addCallback(stopped)

    def _adopt(self, spec: ChildSpec) -> Any:
        service = spec.factory()
        service.setName(spec.name)
        service.parent = self
        self.services.append(service)
        self.namedServices[spec.name] = service
        return service

    def _let_go(self, service: Any) -> None:
        name = str(service.name)
        service.parent = None
        if service in self.services:
            self.services.remove(service)
        if self.namedServices.get(name) is service:
            del self.namedServices[name]

    def _leave(self, name: str, living: Incarnation) -> None:
        if self._living.get(name) is living:
            del self._living[name]
        self._let_go(living.service)

    def _answer_added(self, name: str, error: Exception | None) -> None:
        added = self._added.pop(name, None)
        if added is None:
            return
        if error is None:
            added.callback(None)
        else:
            added.errback(error)

    def _set_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        now = self._clock.seconds()
        wake, self._timer = self._rules.wake(now), None
        if wake is not None:
            # Not less than a clock can tell: the difference of two times may be too small to get there.
            delay = max(0.001, wake - now)
            self._timer = self._clock.callLater(delay, self._tick)

    def _tick(self) -> None:
        self._do(self._rules.tick(self._clock.seconds()))

    def _finish(self, error: BaseException | None) -> None:
        self._over = True
        for name in list(self._added):
            self._answer_added(name, RuntimeError(f"{self.name} has ended"))
        for name in list(self._removals):
            for waiting in self._removals.pop(name):
                waiting.callback(None)
        if self._stopped is not None:
            if self._started is not None and not self._started.called:
                self._started.errback(NotReady(f"{self.name} was stopped before it was ready"))
                # Whoever has stopped it knows; nobody else need have listened.
                self._started.addErrback(lambda _: None)
            self._stopped.callback(None)
            return
        Service.stopService(self)
        if error is None:
            self.ended.callback(None)
            return
        if not isinstance(error, StartFailure):
            log.critical("{child} ends: {error}", child=self.path, error=spell(error))
        self.ended.errback(error)

    def _not_started(self, failure: Failure) -> Failure:
        """Who waits for the start hears of its failure first."""
        if self._started is not None and not self._started.called:
            self._started.errback(failure.value)
        return failure


def _raise_if_failed(work: Deferred[None]) -> None:
    """Raise a failure that is known at once: `twistd` looks at nothing else."""
    failed: list[BaseException] = []

    def note(failure: Failure) -> Failure:
        failed.extend([failure.value] if failure.value is not None else [])
        return failure

    work.addErrback(note)
    if failed:
        work.addErrback(lambda _: None)
        raise failed[0]
