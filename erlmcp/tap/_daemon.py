"""The daemon as a service: listeners bound in order, or a failed start; a drain, then the end."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.config import reachable
from erlmcp.engine import EngineFileError
from erlmcp.tap._assembly import Parts
from erlmcp.tap._exit import HANG_UP, StartFailed, leave_with, on_stop_signals, on_terminal
from erlmcp.tap._frontends import OPEN, Frontend

log = Logger(namespace="erlmcp.tap")

_CLOSING = 2.0
"""Seconds that connections get to go once they have been told to."""


class Daemon(MultiService):
    """Binds the listeners when it starts, drains them when it stops.

    Args:
        parts: what it runs.
        reactor: what it runs on.
        drain: seconds that calls in flight get at the end.
        signals: takes over the stop signals once the reactor runs.
        leave: sets the process's status for a failure once the reactor runs.
        hangs_up: asked when it starts, whether a hang-up (SIGHUP) ends it, as its terminal or its host has gone.
    """

    def __init__(
        self,
        parts: Parts,
        reactor: Any,
        *,
        drain: float = 10.0,
        signals: Callable[[Any, Callable[[str], None]], None] = on_stop_signals,
        leave: Callable[[int], None] = leave_with,
        hangs_up: Callable[[], bool] = on_terminal,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.setName("erlmcp")  # type: ignore[no-untyped-call]
        self.parts = parts
        self._reactor = reactor
        self._drain = drain
        if parts.console is not None:
            parts.console.listener.unready = lambda: self.unready
        self._signals = signals
        self._leave = leave
        self._hangs_up = hangs_up
        self._held_by_terminal = False
        self._bound: list[Frontend] = []
        self._ended: list[Frontend] = []
        self._binding: Deferred[None] | None = None
        self._hurry: Callable[[], None] | None = None
        self._stopping: Deferred[None] | None = None
        self._state = "starting"

    @property
    def unready(self) -> str | None:
        """Why no requests should be sent here now (``starting``, ``draining``, …); None if they should."""
        if self._state != "ready":
            return self._state
        engine = self.parts.engine
        return None if engine is None or engine.trouble is None else "the engine cannot write its file"

    def privilegedStartService(self) -> None:
        """Bind the listeners, before privileges are shed.

        Raises:
            StartFailed: one cannot be bound, or is open to others without saying so.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._begin()

    def startService(self) -> None:
        """Start the engine; bind the listeners, where nobody has called `privilegedStartService` (twist does not).

        Raises:
            StartFailed: as above, or the engine's file cannot be used.
        """
        super().startService()  # type: ignore[no-untyped-call]
        if self.parts.engine is not None:
            # Not before: its file belongs to whom the daemon is now, and no thread or lock outlives the fork.
            try:
                self.parts.engine.start()
            except EngineFileError as error:
                raise StartFailed(f"erlmcp cannot start:\n{error}") from error
        self._begin()

    def stopService(self) -> Deferred[None]:
        """Drain, then close; fires when all is gone. Safe to call twice."""
        if self._stopping is None:
            self._stopping = Deferred.fromCoroutine(self._stop())
        return self._stopping

    def _begin(self) -> None:
        if self._binding is not None:
            return
        # Before anybody can connect and think us up; not before twistd has let go of the terminal.
        self._held_by_terminal = self._hangs_up()
        self._signals(self._reactor, self._signalled)
        failed: list[Failure] = []
        self._binding = Deferred.fromCoroutine(self._bind())
        self._binding.addErrback(failed.append)
        if failed:
            raise StartFailed(_message(failed[0])) from failed[0].value
        self._binding.addCallback(lambda _: self._fail_late(failed[0]) if failed else None)

    async def _bind(self) -> None:
        consoles = () if self.parts.console is None else (self.parts.console,)
        for frontend in (*self.parts.frontends, *consoles):
            listener = frontend.listener
            await listener.bind()
            self._bound.append(frontend)
            if not frontend.open and any(map(reachable, listener.addresses)):
                raise StartFailed(f"{listener.name}: the endpoint {frontend.endpoint} is open: {OPEN}")
            if self._state != "starting":
                # It was stopped while this one was being bound.
                await listener.close()
                return
            if hasattr(listener, "exhausted"):
                listener.exhausted.addCallback(lambda _, frontend=frontend: self._over(frontend))
            for address in listener.addresses:
                log.info("{name} listens on {address}", name=listener.name, address=_spell(address))
        log.info("sealing keys: {origin}", origin=self.parts.keys)
        self._state = "ready"
        self._reactor.callWhenRunning(log.info, "ready")

    def _over(self, frontend: Frontend) -> None:
        """No more can come by a listener: standard input was closed. What has come is answered within the drain."""
        self._ended.append(frontend)
        if self._stopping is None and all(one in self._ended for one in self.parts.frontends):
            log.info("the last listener has ended")
            self._reactor.callWhenRunning(self._reactor.stop)

    def _fail_late(self, failure: Failure) -> None:
        log.critical("cannot start: {message}", message=_message(failure))
        self._leave(1)
        self._reactor.callWhenRunning(self._reactor.stop)

    def _signalled(self, name: str) -> None:
        if name == HANG_UP.name and not self._held_by_terminal:
            hint = "restart it to take up another configuration"
            log.warn("{name}: this version does not reload: {hint}", name=name, hint=hint)  # noqa: G010 - Twisted's name
        elif self._hurry is not None:
            log.info("{name} again: closing now", name=name)
            self._hurry()
        elif self._stopping is None:
            log.info("{name}: draining for up to {drain:g} s", name=name, drain=self._drain)
            self._reactor.stop()

    async def _stop(self) -> None:
        self._state = "draining"
        await super().stopService()  # type: ignore[no-untyped-call]
        listeners = [frontend.listener for frontend in reversed(self._bound)]
        draining = [maybeDeferred(one.drain) for one in listeners]
        drained = await self._within(self._drain, [*draining, maybeDeferred(self.parts.server.drain)])
        if not drained:
            left = self.parts.server.in_flight
            log.warn("not everything ended in time: closing {left} calls", left=left)  # noqa: G010 - Twisted's name
        self.parts.server.stop()
        if not drained:
            # What was just answered would be lost with a connection that is cut.
            await self._within(_CLOSING, draining)
        await self._within(_CLOSING, [maybeDeferred(one.close) for one in listeners])
        for backend in self.parts.backends:
            if hasattr(backend, "stop"):
                backend.stop()
        if self.parts.engine is not None:
            await self._within(_CLOSING, [self.parts.engine.close()])
        log.info("stopped")

    async def _within(self, seconds: float, work: Sequence[Deferred[Any]]) -> bool:
        """Wait for all of the work, but no longer than this, nor than the operator has patience."""
        enough: Deferred[None] = Deferred()
        timer = self._reactor.callLater(seconds, enough.callback, None)
        self._hurry = lambda: timer.reset(0)
        done: Deferred[Any] = DeferredList([_noted(one) for one in work])
        first: int
        _, first = await DeferredList([done, enough], fireOnOneCallback=True)
        self._hurry = None
        if timer.active():
            timer.cancel()
        return first == 0


def _noted(work: Deferred[Any]) -> Deferred[Any]:
    return work.addErrback(lambda failure: log.failure("ending a part failed", failure))


def _spell(address: Any) -> str:
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", address)
        return os.fsdecode(name) if isinstance(name, bytes) else str(name)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def _message(failure: Failure) -> str:
    return str(failure.value) or type(failure.value).__name__
