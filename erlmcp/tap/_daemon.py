"""The daemon as a service: a tree that comes up whole, or a failed start; a drain, then the end."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp import __version__
from erlmcp.engine import EngineFileError
from erlmcp.supervision import ChildSpec, StartFailure, Status, Supervisor, spell
from erlmcp.systemd import Notifier
from erlmcp.tap._assembly import Parts
from erlmcp.tap._exit import HANG_UP, StartFailed, leave_with, on_stop_signals, on_terminal
from erlmcp.tap._frontends import Frontend
from erlmcp.tap._listening import noted
from erlmcp.tap._tree import CLOSING, ailing, tree

log = Logger(namespace="erlmcp.tap")

Answers = dict[str, Callable[[dict[str, Any]], Any]]

_ENDING = 30.0
"""Seconds after which parts that still have not gone are left behind. Each has a deadline of its own."""


class Daemon(MultiService):
    """Brings up the tree of its parts when it starts, and drains it when it stops.

    Args:
        parts: what it runs.
        reactor: what it runs on.
        drain: seconds that calls in flight get at the end.
        signals: takes over the stop signals once the reactor runs.
        leave: sets the process's status for a failure once the reactor runs.
        hangs_up: asked when it starts, whether a hang-up (SIGHUP) ends it, as its terminal or its host has gone.
        frontends: a child in place of the listeners of `parts`.
        last: further children of the tree, after all others.
        notifier: tells systemd how it fares.
        admin_answers: where its answers to the operator go, by question.

    Attributes:
        parts: what it runs; may be replaced until it starts.
        tree: the root supervisor; None before the start.
        admin_answers: by question, what gives the answer on the admin socket; others may add theirs.
        reload: takes up another configuration on a hang-up; None if that cannot be done.
        also_draining: gives what else is on its way out, for which a drain waits too.
        up: called once it serves, with None, or cannot, with the error.
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
        frontends: ChildSpec | None = None,
        last: Sequence[ChildSpec] = (),
        notifier: Notifier | None = None,
        admin_answers: Answers | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.setName("erlmcp")  # type: ignore[no-untyped-call]
        self.parts = parts
        self.tree: Supervisor | None = None
        self.admin_answers: Answers = {} if admin_answers is None else admin_answers
        self.admin_answers["status"] = lambda _question: self.report()
        self.reload: Callable[[], Deferred[Any]] | None = None
        self.also_draining: Callable[[], list[Deferred[None]]] = list
        self.up: Callable[[BaseException | None], None] = lambda _: None
        self._reactor = reactor
        self._drain = drain
        self._signals = signals
        self._leave = leave
        self._hangs_up = hangs_up
        self._frontends = frontends
        self._last = last
        self._notifier = Notifier() if notifier is None else notifier
        self._held_by_terminal = False
        self._ended: list[Frontend] = []
        self._hurry: Callable[[], None] | None = None
        self._stopping: Deferred[None] | None = None
        self._state = "starting"
        self._has_failed = False
        self._hung_up = False

    @property
    def unready(self) -> str | None:
        """Why no requests should be sent here now (``starting``, ``draining``, …); None if they should."""
        if self._state != "ready" or self.tree is None:
            return self._state
        if getattr(self.parts.engine, "trouble", None) is not None:
            return "the engine cannot write its file"
        return ailing(self.tree.status())

    def listeners(self) -> list[Any]:
        """The listeners as they are now."""
        frontends = None if self.tree is None else self.tree.service("frontends")
        if frontends is None:
            return []
        services = [frontends.service(child.name) for child in frontends.status().children]
        return [one.listener for one in services if one is not None]

    def status(self) -> Status | None:
        """The tree as it is now; None before the start."""
        return None if self.tree is None else self.tree.status()

    def report(self) -> dict[str, Any]:
        """What ``erlmcp status`` shows."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "unready": self.unready,
            "in_flight": self.parts.server.in_flight,
            "parked": self.parts.server.parked,
            "tree": self.status(),
        }

    def privilegedStartService(self) -> None:
        """Bind the listeners, before privileges are shed.

        Raises:
            StartFailed: one cannot be bound, or is open to others without saying so.
        """
        Service.privilegedStartService(self)
        self._attempt(self._begin().privilegedStartService).addErrback(lambda _: None)

    def startService(self) -> None:
        """Start the parts; bind the listeners, where nobody has called `privilegedStartService` (twist does not).

        Raises:
            StartFailed: as above, or the engine's file cannot be used.
        """
        root = self._begin()
        Service.startService(self)
        self._attempt(root.startService).addCallbacks(lambda _: self._ready(), self._failed)
        root.ended.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        """Drain, then close; fires when all is gone. Safe to call twice."""
        if self._stopping is None:
            self._stopping = Deferred.fromCoroutine(self._stop())
        return self._stopping

    def _begin(self) -> Supervisor:
        if self.tree is None:
            self.tree = tree(
                self.parts,
                self._reactor,
                over=self._over,
                unready=lambda: self.unready,
                frontends=self._frontends,
                last=self._last,
                now=lambda: self.parts,
            )
            self.tree.setServiceParent(self)  # type: ignore[no-untyped-call]
            # Before anybody can connect and think us up; not before twistd has let go of the terminal.
            self._held_by_terminal = self._hangs_up()
            self._signals(self._reactor, self._signalled)
        return self.tree

    def _attempt(self, start: Callable[[], Deferred[None]]) -> Deferred[None]:
        try:
            return start()
        except Exception as error:
            if self.tree is not None:
                # It says the same once more.
                self.tree.ended.addErrback(lambda _: None)
            raise StartFailed(_message(error)) from error

    def _ready(self) -> None:
        if self._state != "starting":
            return
        log.info("sealing keys: {origin}", origin=self.parts.keys)
        self._state = "ready"
        self._reactor.callWhenRunning(self._say_ready)
        self.up(None)

    def _say_ready(self) -> None:
        log.info("ready")
        self._notifier.ready("ready")
        hung_up, self._hung_up = self._hung_up, False
        if hung_up and self._state == "ready":
            self._hang_up(HANG_UP.name)

    def _failed(self, failure: Failure) -> None:
        """The tree did not come up, or has not held: the process ends, with a status that says so."""
        if self._has_failed or self._state == "draining":
            return
        self._has_failed = True
        self.up(failure.value)
        what = "cannot start" if self._state == "starting" else "cannot go on"
        log.critical("{what}: {why}", what=what, why=_message(failure.value))
        self._leave(1)
        self._reactor.callWhenRunning(self._reactor.stop)

    def _over(self, frontend: Frontend) -> None:
        """No more can come by a listener: standard input was closed. What has come is answered within the drain."""
        self._ended.append(frontend)
        if self._stopping is None and all(one in self._ended for one in self.parts.frontends):
            log.info("the last listener has ended")
            self._reactor.callWhenRunning(self._reactor.stop)

    def _signalled(self, name: str) -> None:
        if name == HANG_UP.name and not self._held_by_terminal:
            self._hang_up(name)
        elif self._hurry is not None:
            log.info("{name} again: closing now", name=name)
            self._hurry()
        elif self._stopping is None:
            log.info("{name}: draining for up to {drain:g} s", name=name, drain=self._drain)
            self._reactor.stop()

    def _hang_up(self, name: str) -> None:
        if self.reload is None:
            hint = "restart it to take up another configuration"
            log.warn("{name}: this version does not reload: {hint}", name=name, hint=hint)  # noqa: G010 - Twisted's name
        elif self._state == "ready":
            self.take_up().addErrback(lambda failure: log.failure("the reload failed", failure))
        elif self._state == "starting":
            # What has been read may be older than what its sender has written.
            log.info("{name}: taken up once it is ready", name=name)
            self._hung_up = True

    def take_up(self) -> Deferred[Any]:
        """Reload; systemd is told of the beginning, and of the end whatever came of it. Fails as `reload` does.

        Raises:
            RuntimeError: there is nothing to reload.
        """
        if self.reload is None:
            raise RuntimeError("this daemon does not reload")
        self._notifier.reloading("reloading")

        def over(result: Any) -> Any:
            if self._state == "ready":
                self._notifier.ready("ready")
            return result

        return maybeDeferred(self.reload).addBoth(over)

    async def _stop(self) -> None:
        self._state = "draining"
        self._notifier.stopping("draining", extend=self._drain + CLOSING + _ENDING)
        Service.stopService(self)
        if self.tree is not None:
            frontends = self.tree.service("frontends" if self._frontends is None else self._frontends.name)
            drain = getattr(frontends, "drain", lambda: succeed(None))
            draining = [maybeDeferred(drain), *self.also_draining()]
            drained = await self._within(self._drain, [*draining, maybeDeferred(self.parts.server.drain)])
            if not drained:
                left = self.parts.server.in_flight
                what = f"{left} calls" if left else "connections"
                log.warn("not everything ended in time: closing {what}", what=what)  # noqa: G010 - Twisted's name
            self.parts.server.stop()
            if not drained:
                # What was just answered would be lost with a connection that is cut.
                await self._within(CLOSING, draining)
            await self._within(_ENDING, [self.tree.stopService()])
        log.info("stopped")
        self._notifier.close()

    async def _within(self, seconds: float, work: Sequence[Deferred[Any]]) -> bool:
        """Wait for all of the work, but no longer than this, nor than the operator has patience."""
        enough: Deferred[None] = Deferred()
        timer = self._reactor.callLater(seconds, enough.callback, None)
        self._hurry = lambda: timer.reset(0)
        done: Deferred[Any] = DeferredList([noted(one) for one in work])
        first: int
        _, first = await DeferredList([done, enough], fireOnOneCallback=True)
        self._hurry = None
        if timer.active():
            timer.cancel()
        return first == 0


def _message(error: BaseException | None) -> str:
    """What failed at the bottom of it."""
    while isinstance(error, StartFailure):
        error = error.cause
    if isinstance(error, EngineFileError):
        return f"erlmcp cannot start:\n{error}"
    return "" if error is None else spell(error)
