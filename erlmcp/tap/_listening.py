"""Listeners as children of a supervisor: bound before privileges are shed, drained before they are closed."""

import os
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.config import reachable
from erlmcp.supervision import Supervisor
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._frontends import OPEN, Frontend

log = Logger(namespace="erlmcp.tap")


class ListenerLost(Exception):  # noqa: N818 - it is what happened
    """A listener's port was closed, and nobody has asked for it."""


class ListenService(Service):
    """A listener, from its port to the end of its connections.

    Args:
        frontend: what it is.
        listener: the `IListener` of this incarnation.
        over: called when no more can come by it (its ``exhausted`` has fired).

    Attributes:
        ended: fails when the listener is lost (its ``lost`` has fired).
        swapped: told of the frontend that another listener came with.
    """

    def __init__(self, frontend: Frontend, listener: Any, over: Callable[[Frontend], None]) -> None:
        self.frontend = frontend
        self.listener = listener
        self.ended: Deferred[None] = Deferred()
        self.swapped: Callable[[Frontend], None] = lambda _: None
        self._over = over
        self._binding: Deferred[None] | None = None
        self._bound = False
        self._stopped = False

    def privilegedStartService(self) -> Deferred[None]:
        """Bind it; fires when it listens."""
        if self._binding is None:
            self._binding = Deferred.fromCoroutine(self._bind())
        done: Deferred[None] = Deferred()
        self._binding.addBoth(_passed_on, done)
        return done

    def startService(self) -> Deferred[None]:
        """Bind it, if it is not bound yet."""
        Service.startService(self)
        return self.privilegedStartService()

    def swap(self, frontend: Frontend, listener: Any) -> Any:
        """Have another listener, which listens already; gives the one of before, whose end is not seen to here."""
        former, self.listener, self.frontend = self.listener, listener, frontend
        self.swapped(frontend)
        if hasattr(listener, "lost"):
            listener.lost.addCallback(self._lost)
        return former

    def release(self) -> Any:
        """Give the listener up: its end is not seen to here."""
        self._bound = False
        return self.listener

    def drain(self) -> Deferred[None]:
        """Accept no more; fires when no connection is left."""
        drained: Deferred[None] = maybeDeferred(self.listener.drain) if self._bound else succeed(None)
        return drained

    def stopService(self) -> Deferred[None]:
        """End its connections now; fires when they are gone."""
        Service.stopService(self)
        self._stopped = True
        closed: Deferred[None] = maybeDeferred(self.listener.close) if self._bound else succeed(None)
        return closed

    def detail(self) -> dict[str, Any]:
        """Where it listens."""
        addresses = [spell_address(one) for one in self.listener.addresses] if self._bound else []
        return {"endpoint": self.frontend.endpoint, "addresses": addresses}

    async def _bind(self) -> None:
        frontend, listener = self.frontend, self.listener
        await listener.bind()
        if self._stopped:
            # It was stopped while this was being bound.
            await listener.close()
            return
        self._bound = True
        if not frontend.open and any(map(reachable, listener.addresses)):
            raise StartFailed(f"{listener.name}: the endpoint {frontend.endpoint} is open: {OPEN}")
        if hasattr(listener, "exhausted"):
            listener.exhausted.addCallback(lambda _: self._over(frontend))
        if hasattr(listener, "lost"):
            listener.lost.addCallback(self._lost)
        for address in listener.addresses:
            log.info("{name} listens on {address}", name=listener.name, address=spell_address(address))

    def _lost(self, why: str) -> None:
        if not self._stopped:
            self.ended.errback(ListenerLost(f"{self.frontend.endpoint}: {why}"))


class Frontends(Supervisor):
    """The supervisor of the listeners."""

    def drain(self) -> Deferred[None]:
        """Drain them all at once, the last first; fires when no connection is left. What fails is logged."""
        services = [self.service(child.name) for child in reversed(self.status().children)]
        draining = [maybeDeferred(one.drain) for one in services if one is not None]
        done: Deferred[Any] = DeferredList([noted(one) for one in draining])
        return done.addCallback(lambda _: None)


def noted(work: Deferred[Any]) -> Deferred[Any]:
    """Log what the end of a part fails with: the others end all the same."""
    return work.addErrback(lambda failure: log.failure("ending a part failed", failure))


def spell_address(address: Any) -> str:
    """An ``IAddress`` as people write it."""
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", address)
        return os.fsdecode(name) if isinstance(name, bytes) else str(name)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def _passed_on(result: Any, to: Deferred[None]) -> None:
    """Who asks later hears the same."""
    if isinstance(result, Failure):
        to.errback(result)
    else:
        to.callback(None)
