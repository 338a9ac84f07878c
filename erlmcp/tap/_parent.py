"""The daemon as the parent of workers: it binds, starts them, keeps what they share, and adds up what they count."""

import json
import os
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from erlmcp import __version__, config
from erlmcp.config import ConfigurationError, Problem, SealingKeys, Settings, reachable
from erlmcp.supervision import ChildSpec
from erlmcp.tap._assembly import Parts, assemble
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._frontends import OPEN
from erlmcp.tap._listening import spell_address
from erlmcp.telemetry import Counters, Sums, snapshot
from erlmcp.workers import Crew, Place, Plan, Workers

log = Logger(namespace="erlmcp.tap")

_CODE = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from erlmcp.tap import work; work()"


class Household:
    """What the parent of workers has.

    Args:
        settings: the configuration.
        backends: what the workers are to serve; here it is only looked at.
        reactor: what everything runs on.
        environ: the environment.
        keep_state: as `assemble` has it.

    Attributes:
        parts: what runs in this process.
        crew: the workers.
        spec: the child that they are of the daemon's tree.
        settings: the configuration as it is now.
        own_keys: the sealing keys, if they are made up for this process; None if they can be read anew.
        places: where it listens, by listener.
        workers: the workers' supervisor, once there is one.

    Raises:
        ConfigurationError: with every problem found.
    """

    def __init__(
        self,
        settings: Settings,
        backends: Sequence[Any],
        reactor: Any,
        environ: Mapping[str, str],
        *,
        keep_state: bool = True,
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._environ = environ
        self.own_keys = own_keys(settings, environ)
        sealing = self.own_keys or sealing_of(settings, environ)
        parts = assemble(
            settings,
            backends,
            reactor,
            transports=config.transports(),
            environ=environ,
            keep_state=keep_state,
            sealing=sealing,
            metrics=self.metrics,
        )
        problems = unfit(settings)
        if problems:
            raise ConfigurationError(problems)
        # What happens, happens in the workers: of a server that nobody is served by there is nothing to tell.
        parts.counters.show(Counters(), instead=parts.gauges)
        self.parts: Parts = msgspec.structs.replace(parts, frontends=(), backends=())
        self.places: dict[str, Place] = {one.name: Place(one.name, one.endpoint) for one in settings.listen}
        self.crew = Crew(reactor, parts.engine, command(), self.plan(settings, sealing, self.places))
        self.workers: Workers | None = None
        self.spec = ChildSpec("workers", self._make, shutdown="forever", ready=3600.0)

    def plan(self, settings: Settings, sealing: SealingKeys, places: Mapping[str, Place]) -> Plan:
        """What workers are to be with these settings."""
        return Plan(
            settings=pickle.dumps(settings),
            keys=sealing.keys,
            places=places,
            drain=settings.server.drain,
        )

    def metrics(self) -> Deferred[bytes]:
        """The text of ``/metrics``: what all workers have counted, and this process."""
        return self.crew.sums().addCallback(self._text)

    async def bind(
        self,
        place: Place,
        *,
        open: bool,  # noqa: A002 - as the configuration has it
        former: Iterable[Place] = (),
    ) -> None:
        """Bind one place.

        Args:
            place: where.
            open: whether others may reach it without authentication.
            former: places whose ports it may take over.

        Raises:
            erlmcp.transports.BindError: it cannot be bound.
            StartFailed: it can be reached by others.
        """
        await place.bind(self._reactor, self.settings.server.workers, self.crew.accepted, former)
        if not open and any(map(reachable, place.addresses)):
            place.shut()
            raise StartFailed(f"{place.name}: the endpoint {place.description} is open: {OPEN}")
        for address in place.addresses:
            log.info("{name} listens on {address}", name=place.name, address=spell_address(address))

    def _make(self) -> Workers:
        self.workers = Workers(
            self.crew,
            self.settings.server.workers,
            self._reactor,
            bind=lambda: Deferred.fromCoroutine(self._bind()),
            unbind=lambda: Deferred.fromCoroutine(self._unbind()),
        )
        return self.workers

    async def _bind(self) -> None:
        for one in self.settings.listen:
            await self.bind(self.places[one.name], open=one.auth == "none")

    async def _unbind(self) -> None:
        for place in self.places.values():
            await place.shut()

    def _text(self, sums: Sums) -> bytes:
        from erlmcp.telemetry.exposition import Exposition

        sums.add(snapshot(self.parts.counters))
        return Exposition(sums, __version__).text()


def unfit(settings: Settings) -> list[Problem]:
    """What cannot be with workers."""
    problems = []
    for one in settings.listen:
        if one.transport == "stdio":
            right = "workers = 0, or `erlmcp stdio` beside the daemon"
            wrong = "standard input has one client, and it is no worker's"
            problems.append(settings.problem(one.key, wrong, right))
        elif getattr(one.options, "sse", ""):
            wrong = "the streams of revision 2024-11-05 are one process's, and each message may come to another worker"
            problems.append(settings.problem(one.key, wrong, "workers = 0, or no sse"))
    return problems


def sealing_of(settings: Settings, environ: Mapping[str, str]) -> SealingKeys:
    """The sealing keys, once for all workers.

    Raises:
        ConfigurationError: they cannot be had.
    """
    try:
        return config.sealing_keys(settings.server, environ)
    except ValueError as error:
        raise ConfigurationError([settings.problem("server.keys", str(error))]) from None


def own_keys(settings: Settings, environ: Mapping[str, str]) -> SealingKeys | None:
    """Sealing keys that are made up for this process, where there are none to be read; they stay over a reload."""
    if settings.server.keys is not None or config.state_directory(settings.server, environ) is not None:
        return None
    return config.sealing_keys(settings.server, environ)


def command() -> list[str]:
    """The command line of a worker: the interpreter, modules and reactor of this process."""
    from twisted.internet import reactor

    path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109 - as the interpreter reads it
    return [sys.executable, "-c", _CODE, json.dumps(path), type(reactor).__module__]
