"""A reload without workers: a second server in the same process takes the ports over, and the first one goes.

They share the engine and what is counted, and reach each other as workers do: a call that is parked with the first is
found by its retry.
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
from erlmcp.config import ConfigurationError, ProviderSettings, SealingKeys, Settings, reachable
from erlmcp.tap._assembly import Parts, Share, assemble, backends_for
from erlmcp.tap._daemon import Daemon
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._frontends import OPEN
from erlmcp.tap._listening import noted
from erlmcp.tap._options import require_reactor
from erlmcp.tap._reload import ReloadFailed
from erlmcp.tap._retiring import Generation
from erlmcp.tap._tree import CLOSING, backend_spec, listen_spec
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
        backends = self._backends(settings)
        require_reactor(backends)
        ports = self._ports(settings, frontends)
        relay = Relay(token_hex(4))
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
                reactors=ports,
                counters=former.counters,
                tracing=former.tracing,
            ),
        )
        self._introduce(relay)
        try:
            gone = await self._swap(settings, old, parts, frontends)
        except BaseException:
            del self._relays[relay.owner]
            relay.part()
            parts.server.stop()
            raise
        self.settings = settings
        daemon.parts = msgspec.structs.replace(parts, console=former.console)
        owner, self._owner = self._owner, relay.owner
        self._leaving[owner] = former
        leaving = Deferred.fromCoroutine(self._leave(former, gone, owner, settings.server.drain))
        self._gone[owner] = leaving

        def left(result: Any) -> None:
            del self._gone[owner]
            if isinstance(result, Failure):
                log.failure("a server of before did not go well", result)

        leaving.addBoth(left)

    def _backends(self, settings: Settings) -> list[Any]:
        """The backends of a configuration: that of before where its table has not changed."""
        kept = {
            _table(one): standing.backend
            for one, standing in zip(self.settings.providers, self._daemon.parts.backends, strict=True)
        }
        new = [one for one in settings.providers if _table(one) not in kept]
        made = iter(backends_for(msgspec.structs.replace(settings, providers=tuple(new)), config.providers()))
        found: dict[str, Any] = {}
        for one in settings.providers:
            backend = kept[_table(one)] if _table(one) in kept else next(made)
            if backend.name in found:
                wrong = f"its name is {backend.name!r}, like that of another"
                raise ConfigurationError(
                    [settings.problem(f"{one.key}.use", wrong, "names of providers are unique")]
                )
            found[backend.name] = backend
        return list(found.values())

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
        await self._hand_backends_on(former)

    async def _hand_backends_on(self, former: Parts) -> None:
        """Supervise what serves now; stop what nobody uses any more."""
        now = self._daemon.parts
        used = {id(one.backend) for parts in (now, *self._leaving.values()) for one in parts.backends}
        for standing in former.backends:
            standing.leave()
            if id(standing.backend) not in used and hasattr(standing.backend, "stop"):
                standing.backend.stop()
        supervisor = None if self._daemon.tree is None else self._daemon.tree.service("backends")
        if supervisor is None or self._leaving or not self._daemon.running:
            return
        for child in list(supervisor.status().children):
            await supervisor.remove(child.name)
        for number, standing in enumerate(now.backends, 1):
            await supervisor.add(backend_spec(standing, self._reactor, str(number)))

    def _draining(self) -> list[Deferred[None]]:
        """What is on its way out, for a daemon that ends meanwhile."""
        return list(self._gone.values())


def _table(one: ProviderSettings) -> tuple[Any, ...]:
    return one.use, repr(one.options), one.isolation
