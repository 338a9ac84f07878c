"""The daemon as a tree: each part a child of a supervisor, in the order in which one stands on the other."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, succeed

from erlmcp.supervision import ChildSpec, Status, Supervisor
from erlmcp.tap._assembly import Parts
from erlmcp.tap._frontends import Frontend
from erlmcp.tap._listening import Frontends, ListenService
from erlmcp.tap._standing import BackendService, Breaker, Standing

CLOSING = 2.0
"""Seconds that a part gets to go once it has been told to."""

Over = Callable[[Frontend], None]


class EngineService(Service):
    """The engine as a child: opened when it starts, and closed when it has written all.

    Args:
        engine: what has `start` and `close`.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._open = False

    def startService(self) -> None:
        """Open its file. Not before: it belongs to whom the daemon is now, and no thread or lock outlives the fork.

        Raises:
            EngineFileError: it cannot be used.
        """
        Service.startService(self)
        self._engine.start()
        self._open = True

    def stopService(self) -> Deferred[None]:
        """Write what is not written yet, and close it."""
        Service.stopService(self)
        closed: Deferred[None] = self._engine.close() if self._open else succeed(None)
        return closed

    def detail(self) -> dict[str, Any]:
        """How much it holds, and why it cannot write."""
        found = {name: getattr(self._engine, name, None) for name in ("entries", "memory", "trouble")}
        return {name: value for name, value in found.items() if value is not None}


def tree(
    parts: Parts,
    reactor: Any,
    *,
    over: Over,
    unready: Callable[[], str | None],
    frontends: ChildSpec | None = None,
    last: Sequence[ChildSpec] = (),
    now: Callable[[], Parts] | None = None,
) -> Supervisor:
    """Make the tree.

    Args:
        parts: what the daemon runs.
        reactor: what it runs on.
        over: told of each listener by which nothing can come any more.
        unready: for the console's ``/readyz``.
        frontends: a child in place of the supervisor of the listeners; its service may have a ``drain``.
        last: further children, after all others.
        now: gives what it runs when a part of the tree is made anew, which a reload may have changed; None for `parts`.
    """
    current = now or (lambda: parts)
    specs: list[ChildSpec] = []
    if hasattr(parts.engine, "start"):  # another process's is started and closed there
        specs.append(ChildSpec("engine", partial(EngineService, parts.engine), shutdown=CLOSING))
    if parts.tracing is not None:
        specs.append(ChildSpec("tracing", _given(parts.tracing)))
    specs += [
        ChildSpec("backends", _backends(current, reactor), shutdown="forever", ready=3600.0),
        frontends
        or ChildSpec("frontends", _frontends(current, reactor, over), shutdown="forever", ready=3600.0),
    ]
    if parts.console is not None:
        specs.append(ChildSpec("telemetry", _console(parts.console, unready), shutdown=CLOSING))
    return Supervisor("erlmcp", [*specs, *last], reactor, strategy="rest_for_one", intensity=5, period=60.0)


def backend_spec(backend: Any, reactor: Any, name: str = "") -> ChildSpec:
    """A backend as a child of ``backends``.

    Args:
        backend: a `Standing`; or a backend itself, which is used on when it is restarted.
        reactor: what it runs on.
        name: what it is called where it has no name.
    """
    standing = backend if isinstance(backend, Standing) else Standing(backend)
    breaker = Breaker()
    first = [True]

    def service() -> IService:
        made = BackendService(standing, breaker, reactor, first=first[0])
        first[0] = False
        return made

    return ChildSpec(child_name(standing, name), service)


def child_name(standing: Standing, name: str = "") -> str:
    """What a backend is called in the tree.

    Args:
        standing: the backend.
        name: its name where it has none.
    """
    return f"{standing.kind}:{standing.name or name}"


def listen_spec(frontend: Frontend, over: Over) -> ChildSpec:
    """A listener as a child of ``frontends``."""
    return ChildSpec(f"listen:{frontend.listener.name}", _listening(frontend, over), shutdown=CLOSING)


def ailing(status: Status) -> str | None:
    """What is not as it should be below a part that is up; None if nothing is."""
    for child in status.children:
        if child.state in ("waiting", "starting"):
            return f"{child.name} is being restarted"
        if "refusing" in child.detail:
            return f"{child.name}: {child.detail['refusing']}"
        if "failing" in child.detail:
            return f"{child.name}: {child.detail['failing']}"
        below = ailing(child)
        if below is not None:
            return below
    return None


def _backends(now: Callable[[], Parts], reactor: Any) -> Callable[[], IService]:
    # Each is made once: what the breakers know outlives a restart of their supervisor.
    made: list[tuple[Any, ChildSpec]] = []

    def service() -> IService:
        made[:] = _once(made, now().backends, lambda one, number: backend_spec(one, reactor, str(number)))
        return Supervisor("backends", [spec for _, spec in made], reactor, intensity=10, period=60.0)

    return service


def _frontends(now: Callable[[], Parts], reactor: Any, over: Over) -> Callable[[], IService]:
    made: list[tuple[Any, ChildSpec]] = []

    def service() -> IService:
        made[:] = _once(made, now().frontends, lambda one, _: listen_spec(one, over))
        return Frontends("frontends", [spec for _, spec in made], reactor, intensity=5, period=60.0)

    return service


def _once(
    made: Sequence[tuple[Any, ChildSpec]], wanted: Sequence[Any], make: Callable[[Any, int], ChildSpec]
) -> list[tuple[Any, ChildSpec]]:
    """The specifications of what is wanted: of those that were made before, the same."""
    before = {id(one): spec for one, spec in made}
    return [(one, before.get(id(one)) or make(one, number)) for number, one in enumerate(wanted, 1)]


def _listening(frontend: Frontend, over: Over) -> Callable[[], ListenService]:
    current = [frontend]
    first = [True]

    def service() -> ListenService:
        now = current[0]
        listener = now.listener if first[0] or now.remake is None else now.remake()
        first[0] = False
        made = ListenService(now, listener, over)
        # What a reload has brought is what is made anew.
        made.swapped = lambda other: current.__setitem__(0, other)
        return made

    return service


def _console(console: Frontend, unready: Callable[[], str | None]) -> Callable[[], IService]:
    make = _listening(console, lambda _: None)

    def service() -> IService:
        made = make()
        made.listener.unready = unready
        return made

    return service


def _given(service: Any) -> Callable[[], IService]:
    return lambda: service
