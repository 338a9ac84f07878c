"""Another configuration without a lost request: checked first, then only what has changed is changed.

One reload at a time; those that are asked for meanwhile are one more.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from erlmcp.config import ConfigurationError, Settings
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._logging import configure
from erlmcp.tap._parent import Household, sealing_of, unfit
from erlmcp.transports import BindError
from erlmcp.workers import Place, Refused, WorkerDied

log = Logger(namespace="erlmcp.tap")

_LOOK: Final = 0.1
_FIXED: Final = (
    "server.workers",
    "server.state",
    "server.runtime",
    "engine",
    "telemetry.endpoint",
    "telemetry.auth",
    "telemetry.hosts",
    "telemetry.log",
    "telemetry.traces",
)
"""What is taken up by a new process alone."""


class ReloadFailed(Exception):  # noqa: N818 - it is what happened
    """The new configuration cannot be used; the old one goes on."""


class Change(Protocol):
    """How one kind of daemon takes up another configuration."""

    @property
    def settings(self) -> Settings:
        """The configuration as it is now."""

    async def take_up(self, settings: Settings) -> None:
        """Change to it.

        Raises:
            ReloadFailed: it cannot be; nothing has changed.
        """


class Reload:
    """Takes up the configuration as it is now.

    Args:
        load: reads and checks it.
        change: changes to it.
    """

    def __init__(self, load: Callable[[], Settings], change: Change) -> None:
        self._load = load
        self._change = change
        self._running = False
        self._waiting: list[Deferred[str]] = []

    def __call__(self) -> Deferred[str]:
        """Reload; fires with what became of it, in words."""
        asked: Deferred[str] = Deferred()
        self._waiting.append(asked)
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run()).addErrback(
                lambda failure: log.failure("the reload failed", failure)
            )
        return asked

    async def _run(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, []
                said = "the reload failed; the log says why"
                try:
                    said = await self._once()
                except Exception:  # noqa: BLE001 - those that are asked for meanwhile have their turn all the same
                    log.failure("the reload failed, the configuration of before goes on")
                finally:
                    for one in asked:
                        one.callback(said)
        finally:
            self._running = False

    async def _once(self) -> str:
        before = self._change.settings
        try:
            settings = self._load()
            await self._change.take_up(settings)
        except (ConfigurationError, ReloadFailed, StartFailed, BindError, ValueError) as error:
            log.error("not reloaded, the configuration of before goes on:\n{why}", why=str(error))  # noqa: TRY400 - no trace
            return f"not reloaded: {error}"
        configure(settings.telemetry)
        late = [key for key in _FIXED if _value(settings, key) != _value(before, key)]
        if late:
            keys = ", ".join(late)
            log.warn("reloaded, but for {keys}: a restart takes that up", keys=keys)  # noqa: G010 - Twisted's name
            return f"reloaded, but for {keys}: a restart takes that up"
        log.info("reloaded")
        return "reloaded"


class HouseholdChange:
    """A daemon with workers: they are replaced one by one.

    Their code, certificates and whatever else they read at their start is read anew, whether the configuration has
    changed or not.

    Args:
        household: what the parent has.
        reactor: for time.
        environ: for secrets.
    """

    def __init__(self, household: Household, reactor: Any, environ: Mapping[str, str]) -> None:
        self._household = household
        self._reactor = reactor
        self._environ = environ

    @property
    def settings(self) -> Settings:
        """The configuration as it is now."""
        return self._household.settings

    async def take_up(self, settings: Settings) -> None:
        """See `Change`."""
        household = self._household
        crew, workers, former = household.crew, household.workers, household.settings
        count = former.server.workers
        if not settings.server.workers:
            raise ReloadFailed("server.workers: 0 is another kind of daemon: restart it")
        problems = unfit(settings)
        if problems:
            raise ConfigurationError(problems)
        # How many there are stays until the next start: each has its sockets.
        server = msgspec.structs.replace(settings.server, workers=count)
        plan = crew.plan
        places, new = await self._bind(settings)
        try:
            sealing = household.own_keys or sealing_of(settings, self._environ)
            await self._room(count)
            crew.plan = household.plan(msgspec.structs.replace(settings, server=server), sealing, places)
            if workers is None:
                raise ReloadFailed("the workers have not started")
            await workers.replace()
        except (ConfigurationError, ReloadFailed, Refused, WorkerDied) as error:
            crew.plan = plan
            if crew.closed:
                raise ReloadFailed("the daemon has been told to end") from error
            if workers is not None:
                await workers.put_back()
            for place in new:
                await self._shut(place)
            raise ReloadFailed(str(error)) from error
        household.settings, household.places = settings, places
        kept = set(map(id, places.values()))
        for place in (one for one in plan.places.values() if id(one) not in kept):
            await self._shut(place)

    async def _shut(self, place: Place) -> None:
        await place.shut()
        if self._household.crew.plan.places.get(place.name) is None:
            self._household.crew.drop(place.name)

    async def _bind(self, settings: Settings) -> tuple[dict[str, Place], list[Place]]:
        """All places of a configuration: those that are bound already, and the new ones."""
        household = self._household
        former = household.places
        places: dict[str, Place] = {}
        new: list[Place] = []
        try:
            for one in settings.listen:
                old = former.get(one.name)
                if old is not None and old.description == one.endpoint:
                    places[one.name] = old
                    continue
                place = places[one.name] = Place(one.name, one.endpoint)
                await household.bind(place, open=one.auth == "none", former=former.values())
                new.append(place)
        except BaseException:
            for place in new:
                await place.shut()
            raise
        return places, new

    async def _room(self, count: int) -> None:
        """Wait while as many are on their way out as there are slots: reloads must not pile processes up."""
        while self._household.crew.ending >= count:
            await deferLater(self._reactor, _LOOK, lambda: None)


def _value(settings: Settings, key: str) -> Any:
    found: Any = settings
    for name in key.split("."):
        found = getattr(found, name, None)
    return found
