"""A worker process: what it serves, put together with what its parent gives it, and how it starts and ends."""

import importlib
import os
import pickle
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from erlmcp import config
from erlmcp.config import SealingKeys
from erlmcp.tap._assembly import Share, assemble, backends_for
from erlmcp.tap._daemon import Daemon
from erlmcp.tap._lasting import set_apart
from erlmcp.tap._logging import configure
from erlmcp.tap._options import require_reactor
from erlmcp.tap._retiring import Generation
from erlmcp.tap._standing import begun
from erlmcp.telemetry import snapshot
from erlmcp.workers import Duties, Kit, Pulse, log_to_parent

log = Logger(namespace="erlmcp.tap")


class Serving:
    """What a worker does: see `erlmcp.workers.Work`.

    Args:
        kit: what the parent gives.
        reactor: what it runs on.

    Raises:
        erlmcp.config.ConfigurationError: the configuration cannot be used.
        ValueError: it needs another reactor.
    """

    def __init__(self, kit: Kit, reactor: Any) -> None:
        # From the parent, over a socket that nobody else has: it is the parent's own checked configuration.
        settings: config.Settings = pickle.loads(kit.begin.settings)  # noqa: S301 - as said
        configure(settings.telemetry)
        backends = backends_for(settings, config.providers())
        require_reactor(backends)
        share = Share(engine=kit.engine, owner=kit.begin.owner, relay=kit.relay, reactors=kit.reactors)
        self._parts = assemble(
            settings,
            backends,
            reactor,
            transports=config.transports(),
            environ=os.environ,
            sealing=SealingKeys(tuple(kit.begin.keys), "the parent"),
            share=share,
        )
        self._reactor = reactor
        self._kit = kit
        self._daemon = Daemon(
            self._parts,
            reactor,
            drain=settings.server.drain,
            signals=on_term,
            hangs_up=lambda: False,
        )
        reactor.addSystemEventTrigger("before", "shutdown", self._daemon.stopService)

    def start(self) -> Deferred[None]:
        """Listen and serve."""
        up: Deferred[None] = Deferred()

        def told(error: BaseException | None) -> None:
            if error is None:
                set_apart()
                up.callback(None)
            else:
                up.errback(error)

        self._daemon.up = told
        beginning = Deferred.fromCoroutine(self._begin())
        beginning.addErrback(lambda failure: None if up.called else up.errback(failure))
        return up

    async def _begin(self) -> None:
        if self._kit.begin.succeeds:
            # Whoever has served until now does so until this one knows what its upstreams offer.
            await begun(self._parts.backends, self._reactor)
        self._daemon.privilegedStartService()
        self._daemon.startService()

    async def _end(self, seconds: float, *, gently: bool) -> None:
        # What it holds of sockets that are nobody's any more would keep clients waiting there.
        for one in self._kit.reactors.values():
            one.release()
        if gently:
            generation = Generation(self._parts, self._daemon.listeners, self._kit.relay, self._reactor)
            await generation.retire(seconds)
        await self._daemon.stopService()

    def end(self, seconds: float, *, gently: bool) -> Deferred[None]:
        """End what is under way."""
        return Deferred.fromCoroutine(self._end(seconds, gently=gently))

    def pulse(self) -> Pulse:
        """How it fares."""
        active = self._parts.counters.gauges.get("erlmcp_connections_active", {})
        server = self._parts.server
        tree = self._daemon.tree
        backends = None if tree is None else tree.service("backends")
        return Pulse(
            int(sum(read() for read in active.values())),
            server.in_flight,
            server.parked,
            [] if backends is None else list(backends.status().children),
        )

    def counters(self) -> bytes:
        """What it has counted."""
        return snapshot(self._parts.counters)


def work() -> None:
    """Be a worker: what the command line of one runs. Its arguments are the reactor's module and the parent's id."""
    kind, parent = sys.argv[-2:]
    log_to_parent(sys.stdout)
    installed = sys.modules.get("twisted.internet.reactor")
    if installed is None:
        importlib.import_module(kind).install()
    from twisted.internet import reactor

    duties = Duties(reactor, lambda kit: Serving(kit, reactor), reactor.stop)
    duties.connect(int(parent))
    on_term(reactor, lambda _: reactor.stop())
    reactor.run()


def on_term(reactor: Any, callback: Callable[[str], None]) -> None:
    """Call back on SIGTERM; what a terminal sends to all is the parent's to hear.

    Args:
        reactor: its own signal handling comes first.
        callback: called with the signal's name.
    """

    def received(number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(callback, signal.Signals(number).name)

    def install() -> None:
        signal.signal(signal.SIGTERM, received)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    install()
    reactor.callWhenRunning(install)
