"""The workers as services: one child for each slot, under a supervisor that restarts what dies."""

from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.supervision import Backoff, ChildSpec, Status, Supervisor
from erlmcp.workers._crew import READY, Crew
from erlmcp.workers._line import Refused
from erlmcp.workers._process import SILENCE, WorkerDied, WorkerProcess

log = Logger()

_BACKOFF: Final = Backoff(base=0.25, limit=2.0)
"""Short: the connections that the kernel gives to a slot wait as long as it has no worker, whoever else serves."""


class Worker(Service):
    """Whoever serves one slot: a process, and for a while its successor.

    Args:
        crew: the workers.
        slot: from 1.

    Attributes:
        ended: fires with `WorkerDied` when the process has ended and nobody has asked it to.
    """

    def __init__(self, crew: Crew, slot: int) -> None:
        self.setName(f"worker:{slot}")  # type: ignore[no-untyped-call]
        self.ended: Deferred[None] = Deferred()
        self._crew = crew
        self._slot = slot
        self._process: WorkerProcess | None = None
        self._coming: WorkerProcess | None = None
        # A process is started, then replaced, then replaced again: never two at once.
        self._turns = DeferredLock()

    def startService(self) -> Deferred[None]:
        """Start a process; fires when it serves."""
        super().startService()  # type: ignore[no-untyped-call]
        return self._turns.run(lambda: Deferred.fromCoroutine(self._start()))

    def stopService(self) -> Deferred[None]:
        """End it, as soon as what is under way allows; fires when it has gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self.end()

    def end(self) -> Deferred[None]:
        """As `stopService`; safe to call twice."""
        if self._coming is not None:
            self._coming.end(0.0, gently=False)
        process = self._process
        return succeed(None) if process is None else process.end(self._crew.plan.drain, gently=False)

    def kill(self) -> None:
        """End it now."""
        for process in (self._coming, self._process):
            if process is not None:
                process.kill()

    def detail(self) -> dict[str, Any]:
        """Its process, and how that fares."""
        process = self._process
        if process is None:
            return {}
        pulse = process.pulse
        return {
            "pid": process.pid,
            "connections": pulse.connections,
            "in_flight": pulse.in_flight,
            "parked": pulse.parked,
        }

    def status(self) -> Status:
        """What its process serves, as of a second ago."""
        process = self._process
        below = () if process is None else tuple(process.pulse.backends)
        return Status(name=str(self.name), state="up", since=0.0, detail=self.detail(), children=below)

    def replace(self) -> Deferred[None]:
        """Let a new process take over where the one of now was made by another plan, then end that one gently.

        One that is only just being started is waited for: it may have been begun before the plan changed.

        Returns:
            fails if the new one cannot serve; the former goes on.
        """
        return self._turns.run(lambda: Deferred.fromCoroutine(self._replace()))

    async def _replace(self) -> None:
        former = self._process
        if former is None or former.plan is self._crew.plan or not self.running:
            return  # whoever starts it next goes by the plan of then
        await self._start(succeeds=True)
        if former is not self._process:
            former.end(self._crew.plan.drain, gently=True)

    async def _start(self, *, succeeds: bool = False) -> None:
        process = self._coming = self._crew.start(self._slot, succeeds=succeeds)
        process.gone.addErrback(self._died, process)
        try:
            await self._crew.make_ready(process)
        except BaseException:
            process.end(0.0, gently=False)
            raise
        finally:
            self._coming = None
        self._process = process

    def _died(self, failure: Failure, process: WorkerProcess) -> None:
        failure.trap(WorkerDied)
        log.warn("{why}", why=failure.getErrorMessage())  # noqa: G010 - Twisted's name
        if process is self._process:
            self._process = None
            if not self.ended.called:
                self.ended.errback(failure)


class Workers(Supervisor):
    """The supervisor of all slots.

    Args:
        crew: the workers.
        count: how many.
        clock: the reactor.
        bind: binds where they listen; called before privileges are shed.
        unbind: closes that.
        intensity: restarts within `period`, for each worker.
        period: seconds.
    """

    def __init__(
        self,
        crew: Crew,
        count: int,
        clock: Any,
        *,
        bind: Callable[[], Deferred[None]],
        unbind: Callable[[], Deferred[None]],
        intensity: int = 5,
        period: float = 60.0,
    ) -> None:
        self.crew = crew
        self._bind = bind
        self._unbind = unbind
        self._bound: Deferred[None] | None = None
        self._failure: Failure | None = None
        specs = [
            ChildSpec(
                name=f"worker:{slot}",
                factory=lambda slot=slot: Worker(crew, slot),  # type: ignore[misc]
                shutdown=crew.plan.drain + 2 * SILENCE,
                ready=READY + SILENCE,  # the crew is the first to lose patience, and says why
            )
            for slot in range(1, count + 1)
        ]
        self.slots = [spec.name for spec in specs]
        super().__init__(
            "workers", specs, clock, intensity=intensity * count, period=period, backoff=_BACKOFF
        )

    def privilegedStartService(self) -> Deferred[None]:
        """Bind; the workers come later, as whom the daemon is then."""
        started: Deferred[None] = self._bind_once().addCallback(
            lambda _: super(Workers, self).privilegedStartService()
        )
        return started

    def startService(self) -> Deferred[None]:
        """Bind, if that has not been done; start the workers; fires when all are ready."""

        def bound(_: None) -> Deferred[None]:
            self.crew.warm(len(self.slots))
            return super(Workers, self).startService()

        started: Deferred[None] = self._bind_once().addCallback(bound)
        return started

    def stopService(self) -> Deferred[None]:
        """End the workers; then nobody listens any more."""
        self.crew.close()
        stopped: Deferred[None] = super().stopService().addBoth(lambda _: self._unbind())
        return stopped

    def _bind_once(self) -> Deferred[None]:
        if self._bound is None:
            self._bound = self._bind()
            self._bound.addErrback(self._unbound)
        waiting: Deferred[None] = Deferred()

        def bound(result: None) -> None:
            # Who asks later hears the same.
            if self._failure is None:
                waiting.callback(result)
            else:
                waiting.errback(self._failure)

        self._bound.addCallback(bound)
        return waiting

    def _unbound(self, failure: Failure) -> None:
        self._failure = failure

    def drain(self) -> Deferred[None]:
        """End all workers, each once what is under way has ended; fires when all have gone."""
        self.crew.close()
        ending: Deferred[Any] = DeferredList(
            [one.end(self.crew.plan.drain, gently=False) for one in list(self.crew.processes)]
        )
        return ending.addCallback(lambda _: None)

    async def replace(self) -> None:
        """Replace the workers one by one.

        Raises:
            Exception: the first that would not serve; those before it are new, it and those after it as they were.
        """
        for name in self.slots:
            worker = self.service(name)
            if not isinstance(worker, Worker):
                continue  # it is being restarted, by the plan of now
            try:
                await worker.replace()
            except WorkerDied:
                # If the former has died meanwhile, the supervisor has taken over.
                if worker.running:
                    raise

    async def put_back(self) -> None:
        """Replace those again that are by another plan than that of now, after a replacement that failed."""
        for name in self.slots:
            worker = self.service(name)
            if isinstance(worker, Worker):
                try:
                    await worker.replace()
                except (WorkerDied, Refused) as error:
                    log.error(  # noqa: TRY400 - no place in our code
                        "{name} goes on with the configuration that was not taken up: {why}; restart the daemon",
                        name=name,
                        why=str(error),
                    )
