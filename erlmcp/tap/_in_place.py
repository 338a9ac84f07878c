"""A reload without workers: a second server in the same process takes the ports over, and the first one goes.

They share the engine, what is counted, and the backends that both configurations ask for, and reach each other as
workers do: a call that is parked with the first is found by its retry.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList, TimeoutError, maybeDeferred  # noqa: A004 - Twisted's
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from erlmcp import config
from erlmcp.config import ConfigurationError, SealingKeys, Settings, reachable
from erlmcp.gateway import Upstream
from erlmcp.tap._assembly import Parts, Share, assemble, backends_for
from erlmcp.tap._daemon import Daemon
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._frontends import OPEN
from erlmcp.tap._listening import noted
from erlmcp.tap._marks import marks, provider_mark
from erlmcp.tap._options import require_reactor
from erlmcp.tap._reload import ReloadFailed
from erlmcp.tap._retiring import Generation
from erlmcp.tap._standing import Standing, begun
from erlmcp.tap._tree import CLOSING, backend_spec, child_name, listen_spec
from erlmcp.workers import Line, Relay, adopt, pair, passed

log = Logger(namespace="erlmcp.tap")


class InheritingReactor:
    """The reactor as a listener sees it that takes the port of another over.

    Args:
        reactor: the reactor.
        port: gives the port to take over, None for none; asked when it listens.
    """

    def __init__(self, reactor: Any, port: Callable[[], Any] | None = None) -> None:
        self._reactor = reactor
        self._port = port
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def describe(self, description: str) -> str:
        """The description of an endpoint, as it is to be read here: systemd gives its sockets but once."""
        return description if self._port is None else passed(description)

    def listenTCP(self, port: int, factory: Any, *rest: Any, **named: Any) -> IListeningPort:  # noqa: N802 - Twisted's
        """Have the former port, or a new one."""
        made: IListeningPort = self._taken(factory) or self._reactor.listenTCP(port, factory, *rest, **named)
        return made

    def listenSSL(  # noqa: N802 - Twisted's name
        self, port: int, factory: Any, contexts: Any, *rest: Any, **named: Any
    ) -> IListeningPort:
        """Likewise, with TLS on top."""
        wrapped = TLSMemoryBIOFactory(contexts, False, factory)  # noqa: FBT003 - Twisted's signature
        made: IListeningPort = self._taken(wrapped) or self._reactor.listenSSL(
            port, factory, contexts, *rest, **named
        )
        return made

    def listenUNIX(self, address: str, factory: Any, *rest: Any, **named: Any) -> IListeningPort:  # noqa: N802 - Twisted's
        """Likewise."""
        made: IListeningPort = self._taken(factory) or self._reactor.listenUNIX(
            address, factory, *rest, **named
        )
        return made

    def _taken(self, factory: Any) -> Any:
        give, self._port = self._port, None
        port = None if give is None else give()
        if port is not None:
            # From now on its connections are the new one's; not one is refused in between.
            port.factory = factory
            factory.doStart()
        return port


class InPlaceChange:
    """A daemon without workers takes up another configuration.

    Args:
        daemon: the daemon, whose parts are those of the first configuration.
        settings: that configuration.
        relay: the way of its server to those that come after it.
        sealing: the sealing keys, if they are this process's alone; None to read them anew.
        reactor: what everything runs on.
        environ: the environment.
    """

    def __init__(
        self,
        daemon: Daemon,
        settings: Settings,
        relay: Relay,
        sealing: SealingKeys | None,
        reactor: Any,
        environ: Mapping[str, str],
    ) -> None:
        self.settings = settings
        self._daemon = daemon
        self._sealing = sealing
        self._reactor = reactor
        self._environ = environ
        self._marks = marks(settings, [one.backend for one in daemon.parts.backends])
        self._relays: dict[str, Relay] = {relay.owner: relay}
        self._owner = relay.owner
        daemon.also_draining = self._draining
        self._leaving: dict[str, Parts] = {}
        self._gone: dict[str, Deferred[None]] = {}

    async def take_up(self, settings: Settings) -> None:
        """See `Change`."""
        if settings.server.workers:
            raise ReloadFailed("server.workers: a daemon with workers is of another kind: restart it")
        daemon = self._daemon
        frontends = None if daemon.tree is None else daemon.tree.service("frontends")
        if frontends is None:
            raise ReloadFailed("the listeners are being restarted: try again")
        former, old = daemon.parts, self.settings
        backends, named = self._backends(settings)
        relay = Relay(token_hex(4))
        try:
            require_reactor([one.backend if isinstance(one, Standing) else one for one in backends])
            parts = assemble(
                settings,
                backends,
                self._reactor,
                transports=config.transports(),
                environ=self._environ,
                sealing=self._sealing,
                share=Share(
                    owner=relay.owner,
                    relay=relay,
                    engine=former.engine,
                    reactors=self._ports(settings, frontends),
                    counters=former.counters,
                    tracing=former.tracing,
                ),
            )
        except BaseException:
            for one in backends:
                # What holds nothing before it has a reactor has nothing to let go of.
                if isinstance(one, Upstream) and hasattr(one, "leases"):
                    noted(one.stop())
            raise
        new = [one for one in parts.backends if one not in former.backends]
        self._introduce(relay)
        try:
            await begun(new, self._reactor)
            if not daemon.running or daemon.tree is None or daemon.tree.service("frontends") is not frontends:
                raise ReloadFailed("the listeners have been restarted, or the daemon ends")
            gone = await self._swap(settings, old, parts, frontends)
        except BaseException:
            del self._relays[relay.owner]
            relay.part()
            parts.server.stop()
            _ended(parts, new)
            raise
        self.settings, self._marks = settings, named
        former.counters.show(parts.gauges, instead=former.gauges)
        daemon.parts = msgspec.structs.replace(parts, console=former.console)
        await self._supervise(former)
        owner, self._owner = self._owner, relay.owner
        self._leaving[owner] = former
        leaving = Deferred.fromCoroutine(self._leave(former, gone, owner, settings.server.drain))
        self._gone[owner] = leaving

        def left(result: Any) -> None:
            del self._gone[owner]
            if isinstance(result, Failure):
                log.failure("a server of before did not go well", result)

        leaving.addBoth(left)

    def _backends(self, settings: Settings) -> tuple[list[Any], list[str]]:
        """The backends of a configuration, and their marks: that of before, standing, wherever its mark is the same."""
        kept: dict[str, Any] = dict(zip(self._marks, self._daemon.parts.backends, strict=True))
        # A provider is not even looked at again; an upstream is nothing yet before it has a reactor.
        known = {one.key: provider_mark(one, settings) for one in settings.providers}
        new = tuple(one for one in settings.providers if known[one.key] not in kept)
        made = backends_for(
            msgspec.structs.replace(settings, providers=new), config.providers(), self._environ
        )
        fresh, upstreams = iter(made[: len(new)]), made[len(new) :]
        backends = [kept.get(known[one.key]) or next(fresh) for one in settings.providers]
        named = marks(settings, [*backends, *upstreams])
        backends += [kept.get(mark, one) for mark, one in zip(named[len(backends) :], upstreams, strict=True)]
        names: set[str] = set()
        places = [f"{one.key}.use" for one in settings.providers]
        places += [f"{one.key}.name" for one in settings.upstreams]
        for place, backend in zip(places, backends, strict=True):
            if backend.name in names:
                wrong = f"its name is {backend.name!r}, like that of another"
                right = (
                    "names of providers are unique"
                    if place.endswith("use")
                    else "names of backends are unique"
                )
                raise ConfigurationError([settings.problem(place, wrong, right)])
            names.add(backend.name)
        return backends, named

    def _ports(self, settings: Settings, frontends: Any) -> dict[str, InheritingReactor]:
        """For each listener the reactor that gives it its port: that of before where its endpoint has not changed."""
        before = {one.name: one.endpoint for one in self.settings.listen}
        ports = {}
        for one in settings.listen:
            give = None
            if before.get(one.name) == one.endpoint:
                service = frontends.service(f"listen:{one.name}")
                give = getattr(getattr(service, "listener", None), "give_port", None)
                if give is None:
                    raise ReloadFailed(
                        f"{one.key}: what it listens on cannot be taken over: restart the daemon"
                    )
            ports[one.name] = InheritingReactor(self._reactor, give)
        return ports

    async def _swap(self, settings: Settings, old: Settings, parts: Parts, frontends: Any) -> list[Any]:
        """Have the new listeners listen; gives those of before.

        Raises:
            ReloadFailed: one that is new cannot be bound; nothing has changed.
        """
        before = {one.name: one.endpoint for one in old.listen}
        now = {one.name: one.endpoint for one in settings.listen}
        made = {one.listener.name: one for one in parts.frontends}
        # First what may fail.
        moved = [name for name in now if name in before and before[name] != now[name]]
        undo: list[Callable[[], Any]] = []
        try:
            for name in moved:
                listener = made[name].listener
                await listener.bind()
                undo.append(listener.close)
                if not made[name].open and any(map(reachable, listener.addresses)):
                    raise StartFailed(f"{name}: the endpoint {now[name]} is open: {OPEN}")
            for name in now.keys() - before.keys():
                await frontends.add(listen_spec(made[name], lambda _: None))
                undo.append(partial(frontends.remove, f"listen:{name}"))
        except Exception as error:
            for step in undo:
                await step()
            raise ReloadFailed(str(error)) from error
        gone = []
        for name in before:
            service = frontends.service(f"listen:{name}")
            if name not in now:
                gone.append(service.release())
                await frontends.remove(f"listen:{name}")
                continue
            if name not in moved:
                await made[name].listener.bind()
            gone.append(service.swap(made[name], made[name].listener))
        return gone

    def _introduce(self, relay: Relay) -> None:
        """Let a server reach those that are there, and them it."""
        for owner, other in self._relays.items():
            first, second = pair()
            for one, name, descriptor in ((relay, owner, first), (other, relay.owner, second)):
                line = Line()
                one.join(name, line)
                adopt(self._reactor, descriptor, line)
        self._relays[relay.owner] = relay

    async def _leave(self, former: Parts, listeners: Sequence[Any], owner: str, seconds: float) -> None:
        """Let the server of before go, once nothing is left to wait for."""
        relay = self._relays[owner]
        await Generation(former, lambda: listeners, relay, self._reactor).retire(seconds)
        former.server.drain()
        former.server.stop()
        # What was just answered would be lost with a connection that is cut.
        draining: Deferred[Any] = DeferredList([noted(maybeDeferred(one.drain)) for one in listeners])
        await draining.addTimeout(CLOSING, self._reactor).addErrback(
            lambda failure: failure.trap(TimeoutError)
        )
        await DeferredList([noted(maybeDeferred(one.close)) for one in listeners])
        relay.part()
        del self._relays[owner], self._leaving[owner]
        serving = (self._daemon.parts, *self._leaving.values())
        used = {id(one) for parts in serving for one in parts.backends}
        await _ended(former, [one for one in former.backends if id(one) not in used])

    async def _supervise(self, former: Parts) -> None:
        """Supervise what serves now. What does so no more is left as it is, for those whose calls it has."""
        tree = self._daemon.tree
        supervisor = None if tree is None else tree.service("backends")
        now = self._daemon.parts.backends
        for standing in former.backends:
            if standing not in now:
                standing.leave()
        if supervisor is None:
            # It is being restarted, and asks for those of now.
            return
        try:
            for standing in former.backends:
                if standing.left:
                    await supervisor.remove(child_name(standing))
            for standing in now:
                if standing not in former.backends:
                    await supervisor.add(backend_spec(standing, self._reactor))
        except (KeyError, RuntimeError, ValueError):
            log.failure("a backend is not supervised")

    def _draining(self) -> list[Deferred[None]]:
        """What is on its way out, for a daemon that ends meanwhile."""
        return list(self._gone.values())


def _ended(parts: Parts, standings: Sequence[Standing]) -> Deferred[Any]:
    """Let parts hear of nothing any more, and stop what only they had; fires when that has stopped."""
    for catalog in parts.catalogs:
        catalog.close()
    return DeferredList([noted(maybeDeferred(one.stop)) for one in standings])
