"""The parts, put together: settings in, a server and its listeners out. Nothing is opened here."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from erlmcp import __version__, config
from erlmcp.catalog import AnswerGate, Catalog, NameCollision, ValidateGate
from erlmcp.config import (
    ConfigurationError,
    Problem,
    ProviderSettings,
    SealingKeys,
    Settings,
    UpstreamSettings,
)
from erlmcp.engine import FILE_NAME, Bounds, EmbeddedEngine, EngineFileError, inspect
from erlmcp.gateway import Upstream, expose
from erlmcp.governor import (
    AdmitGate,
    AuthenticateGate,
    AuthorizeGate,
    ConnectionLimits,
    LimitsGate,
    RateGate,
)
from erlmcp.interfaces import IMiddleware
from erlmcp.protocol import KeyRing
from erlmcp.receipts import Unrecorded
from erlmcp.server import Gates, Server, Views
from erlmcp.tap._frontends import Frontend, FrontendMaker, message_limits
from erlmcp.tap._isolated import Isolated
from erlmcp.tap._observation import make_tracing, observed
from erlmcp.tap._standing import Standing
from erlmcp.tap._upstreams import isolated, upstreams_for
from erlmcp.tap._views import ViewMaker
from erlmcp.telemetry import Counters
from erlmcp.workers import Relay


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon runs.

    Attributes:
        server: the servers: one of everything, and one for each view.
        frontends: its listeners, in the order in which they are bound.
        console: the listener for health and metrics, or None.
        backends: what serves, each as the catalog knows it.
        counters: what is counted.
        keys: where the sealing keys are from.
        engine: what is shared, not started yet; None for none.
        tracing: a service that makes spans between its start, which is after the fork, and its stop; None for none.
        limits: who may connect, by the listener's name.
        catalogs: what hears of the backends.
        gauges: what of `counters` is of these parts.
    """

    server: Views
    frontends: Sequence[Frontend]
    console: Frontend | None = None
    backends: Sequence[Any]
    counters: Counters
    keys: str
    engine: Any = None
    tracing: Any = None
    limits: Mapping[str, ConnectionLimits] = {}
    catalogs: Sequence[Catalog] = ()
    gauges: Counters = msgspec.field(default_factory=Counters)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What several processes of one daemon, or several generations in one, have together.

    Attributes:
        owner: the name of this one.
        relay: its way to the others.
        engine: what they share; None for the first, which makes it.
        reactors: listener's name -> the reactor that its sockets come with; None where they are yet to be bound.
        counters: what is counted by all of one process, where `Parts.gauges` are to be shown once they are true; None
            for none yet.
        tracing: what makes spans for all of one process, if there are counters.
    """

    owner: str
    relay: Relay
    engine: Any = None
    reactors: Mapping[str, Any] | None = None
    counters: Counters | None = None
    tracing: Any = None


def backends_for(
    settings: Settings, plugins: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> list[Any]:
    """Make the backends that the configuration names.

    Args:
        settings: the configuration.
        plugins: the provider plugins by name.
        environ: the environment, for systemd's directories; None for that of the process.

    Raises:
        ConfigurationError: with a problem for each that cannot be made, or has another's name.
    """
    backends: list[Any] = []
    problems: list[Problem] = []
    names: dict[str, str] = {}
    for one in settings.providers:
        try:
            made = _provider(one, settings, plugins)
        except ValueError as error:
            problems.append(settings.problem(f"{one.key}.use", str(error)))
            continue
        if made.name in names:
            wrong = f"its name is {made.name!r}, like that of {names[made.name]}"
            problems.append(settings.problem(f"{one.key}.use", wrong, "names of providers are unique"))
        names.setdefault(made.name, one.key)
        backends.append(made)
    upstreams = upstreams_for(settings, os.environ if environ is None else environ, problems)
    for upstream, table in zip(upstreams, settings.upstreams, strict=False):
        if upstream.name in names:
            wrong = f"its name is {upstream.name!r}, like that of {names[upstream.name]}"
            problems.append(settings.problem(f"{table.key}.name", wrong, "names of backends are unique"))
        names.setdefault(upstream.name, table.key)
    if problems:
        raise ConfigurationError(problems)
    return [*backends, *upstreams]


def _provider(one: ProviderSettings, settings: Settings, plugins: Mapping[str, Any]) -> Any:
    if one.isolation == "inline":
        return config.backend(one.use, one.options, plugins)
    return isolated(one, settings)


def assemble(
    settings: Settings,
    backends: Sequence[Any],
    reactor: Any,
    *,
    transports: Mapping[str, Any],
    environ: Mapping[str, str],
    make_keys: bool = True,
    keep_state: bool = True,
    sealing: SealingKeys | None = None,
    share: Share | None = None,
    metrics: Callable[[], Any] | None = None,
) -> Parts:
    """Make the server and its listeners.

    Args:
        settings: the configuration.
        backends: what it serves; one that was assembled before is used on, as a `Standing`.
        reactor: what everything runs on.
        transports: the transport plugins by name.
        environ: the environment, for secrets and systemd's directories.
        make_keys: whether missing sealing keys may be made in the state directory.
        keep_state: whether the engine may have its file there, which is one process's alone.
        sealing: the sealing keys; those of the configuration if None.
        share: what there is already, where this is one of several.
        metrics: gives the text of ``/metrics``, or a Deferred of it; None for that of this process alone.

    Raises:
        ConfigurationError: with every problem found: endpoints that cannot be, open listeners, keys that cannot be had,
            a file that is not the engine's.
    """
    problems: list[Problem] = []
    if sealing is None:
        ring, origin = _key_ring(settings, environ, problems, make=make_keys)
    else:
        ring, origin = KeyRing(sealing.keys), sealing.origin
    catalog, standing = _catalog(settings, backends, reactor, problems)
    counters = (None if share is None else share.counters) or Counters()
    admit = AdmitGate(
        reactor.seconds, timeout=settings.limits.timeout, concurrency=settings.limits.concurrency
    )
    gauges = Counters()
    gauges.gauge("erlmcp_requests_in_flight", (), lambda: admit.under_way)
    for one in standing:
        if isinstance(one.backend, Upstream):
            expose(gauges, one.backend)
    engine: Any
    if share is None or share.engine is None:
        engine = _engine(settings, environ if keep_state else None, reactor, counters, problems)
    else:
        engine = share.engine
    middleware = _middleware(settings, problems)
    if share is not None and share.counters is not None:
        tracing = share.tracing
    else:
        tracing = make_tracing(settings, reactor, problems)
    sizes = {one.name: one.limits.message for one in settings.listen}
    gates = Gates(
        limits=LimitsGate(sizes, settings.limits.message),
        authenticate=AuthenticateGate(),
        authorize=AuthorizeGate(),
        rate=RateGate(),
        validate=ValidateGate(catalog),
        admit=admit,
        record=Unrecorded() if tracing is None else tracing.record(Unrecorded()),
        check_answer=AnswerGate().check,
    )
    make = partial(
        Server,
        version=settings.server.version or __version__,
        counters=observed(settings, counters),
        key_ring=ring,
        engine=engine,
        clock=reactor,
        owner="" if share is None else share.owner,
        ways=None if share is None else share.relay,
        middleware=middleware if tracing is None else [tracing.current, *middleware],
        limits=message_limits(settings.limits),
        page_size=settings.server.page_size,
        sessions_per_hour=settings.limits.sessions,
        session_idle=settings.limits.session_idle,
    )
    traced = (lambda gate: gate) if tracing is None else tracing.authorize
    views = ViewMaker(settings, standing, catalog, gates, make, reactor, traced)
    server = views.views()
    gauges.gauge("erlmcp_requests_parked", (), lambda: server.parked)
    problems += [settings.problem(*one) for one in views.problems]
    maker = FrontendMaker(settings, reactor, counters, gauges, None if share is None else share.reactors)
    made = [maker.frontend(one, server, transports[one.transport]) for one in settings.listen]
    console = maker.console(metrics) if share is None or share.engine is None else None
    if share is not None:
        share.relay.channels.update(maker.channels)
    problems += maker.problems
    if problems:
        server.stop()
        for each in views.catalogs:
            each.close()
        raise ConfigurationError(problems)
    if share is None or share.counters is None:
        counters.show(gauges)
    return Parts(
        server=server,
        frontends=[one for one in made if one is not None],
        console=console,
        backends=standing,
        counters=counters,
        keys=origin,
        engine=engine,
        tracing=tracing,
        limits=maker.limits,
        catalogs=views.catalogs,
        gauges=gauges,
    )


def _catalog(
    settings: Settings, backends: Sequence[Any], reactor: Any, problems: list[Problem]
) -> tuple[Catalog, list[Standing]]:
    catalog = Catalog()
    found: list[Standing] = []
    tables: list[ProviderSettings | UpstreamSettings] = [*settings.providers, *settings.upstreams]
    for one, backend in zip(tables, backends, strict=False):
        try:
            standing = backend if isinstance(backend, Standing) else _stand(one, backend, reactor)
            catalog.add_backend(standing)
            found.append(standing)
        except (NameCollision, RuntimeError, ValueError) as error:
            problems.append(
                settings.problem(
                    f"{one.key}.use" if isinstance(one, ProviderSettings) else one.key, str(error)
                )
            )
    return catalog, found


def _stand(one: ProviderSettings | UpstreamSettings, backend: Any, reactor: Any) -> Standing:
    if hasattr(backend, "bind"):
        backend.bind(reactor)
    if isinstance(one, UpstreamSettings) or isinstance(backend, Upstream):
        # It mends itself: it is reached again, its children are started again.
        return Standing(backend)
    build = partial(_build, one)
    return Standing(backend, (lambda: Isolated(build())) if isinstance(backend, Isolated) else build)


def _build(one: ProviderSettings) -> Any:
    return config.backend(one.use, one.options, config.providers())


def _middleware(settings: Settings, problems: list[Problem]) -> list[Any]:
    names = settings.server.middleware
    plugins = config.found(IMiddleware) if names else {}
    for name in names:
        if name not in plugins:
            there = f"those found are {', '.join(sorted(plugins))}" if plugins else "none was found"
            problems.append(
                settings.problem("server.middleware", f"no middleware plugin is named {name!r}", there)
            )
    return [plugins[name] for name in names if name in plugins]


def _engine(
    settings: Settings,
    environ: Mapping[str, str] | None,
    reactor: Any,
    counters: Counters,
    problems: list[Problem],
) -> EmbeddedEngine:
    folder = None if environ is None else config.state_directory(settings.server, environ)
    file = None if folder is None else folder / FILE_NAME
    if file is not None:
        try:
            inspect(file)
        except EngineFileError as error:
            problems.append(settings.problem("server.state", str(error)))
    bounds = Bounds(entries=settings.engine.entries, memory=settings.engine.memory)
    engine = EmbeddedEngine(reactor, file=file, bounds=bounds)
    counters.gauge("erlmcp_engine_entries", (), lambda: engine.entries)
    counters.gauge("erlmcp_engine_bytes", (), lambda: engine.memory)
    counters.gauge("erlmcp_engine_write_failures_total", (), lambda: engine.failures)
    return engine


def _key_ring(
    settings: Settings, environ: Mapping[str, str], problems: list[Problem], *, make: bool
) -> tuple[KeyRing, str]:
    try:
        sealing = config.sealing_keys(settings.server, environ, make=make)
        return KeyRing(sealing.keys), sealing.origin
    except ValueError as error:
        problems.append(settings.problem("server.keys", str(error)))
        return KeyRing([KeyRing.generate()]), ""
