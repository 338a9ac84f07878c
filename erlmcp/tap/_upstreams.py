"""Upstreams, and providers in processes of their own, made of what the configuration says of them."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import ssl

from erlmcp import __version__, config
from erlmcp.config import PoolTable, Problem, ProviderSettings, SandboxTable, Settings, UpstreamSettings
from erlmcp.gateway import (
    PINS_FILE,
    Accepted,
    Access,
    ChildAccess,
    HttpAccess,
    Naming,
    Plan,
    PoolSettings,
    StreamAccess,
    Upstream,
    UpstreamCredentials,
    accepted,
    naming_problems,
)
from erlmcp.jsonrpc import Limits
from erlmcp.processes import Confinement, Grace
from erlmcp.web import Tls

_GRACE = Grace(close=1.0, terminate=1.0)
"""A process of ours has nothing left to do when it is ended; one that loops must not do so for long."""


def upstreams_for(settings: Settings, environ: Mapping[str, str], problems: list[Problem]) -> list[Upstream]:
    """Make the upstreams that the configuration names.

    Args:
        settings: the configuration.
        environ: the environment, for systemd's directories.
        problems: where those that cannot be are noted.
    """
    made: list[Upstream] = []
    namings: list[Naming] = []
    for one in settings.upstreams:
        parts: dict[str, Any] = {}
        for key, part in (
            ("names", _naming),
            ("pins", _accepted),
            ("sandbox", _confinement),
            ("trust", _tls),
        ):
            try:
                parts[key] = part(one, settings, environ)
            except (ValueError, OSError) as error:
                problems.append(settings.problem(_place(settings, one.key, key), str(error)))
        if len(parts) < 4:
            continue
        namings.append(parts["names"])
        plan = Plan(
            name=one.name,
            naming=parts["names"],
            stream=one.transport != "http",
            child=one.transport == "stdio",
            pool=_pool(one.pool, settings),
            stateless=one.stateless,
            era=one.era,
            timeout=one.timeout,
            connect_timeout=one.connect_timeout,
            list_timeout=one.list_timeout,
            refresh=one.refresh,
            eager=one.start == "eager",
            accepted=parts["pins"],
            limits=_limits(settings),
        )
        access = _access(one, parts["sandbox"], parts["trust"])
        identity = (settings.server.name, settings.server.version or __version__)
        made.append(Upstream(plan, access, identity=identity))
    problems += [settings.problem("upstream", sentence) for sentence in naming_problems(namings)]
    return made


def access_to(
    one: UpstreamSettings, settings: Settings, environ: Mapping[str, str]
) -> Callable[[Any], Access]:
    """The way to one upstream, for who wants to ask it something without a daemon: a reactor in, the way out.

    Args:
        one: the upstream's table.
        settings: the configuration.
        environ: the environment, for systemd's directories.

    Raises:
        ValueError, OSError: its sandbox or its certificates cannot be had here; what is wrong with its credentials
            turns up when the way is made.
    """
    return _access(one, _confinement(one, settings, environ), _tls(one, settings, environ))


def isolated(one: ProviderSettings, settings: Settings) -> Upstream:
    """Make a provider that runs in child processes: an upstream over stdio that is our own.

    Args:
        one: the provider's table.
        settings: the configuration.

    Raises:
        ValueError: there is no such module, or its sandbox cannot be had here.
    """
    module, _, _ = one.use.partition(":")
    # It is not imported: what an import does is what it is isolated for.
    if ":" in one.use and find_spec(module) is None:
        raise ValueError(f"no module named {module!r} can be found; the folders searched are in sys.path")
    name = module.rpartition(".")[2]
    sandbox = _sandbox(one.sandbox)
    if sandbox.kind == "bwrap":
        # It has to find its interpreter and its modules, wherever they are.
        ours = {path for path in (sys.prefix, sys.base_prefix, *sys.path) if Path(path).is_absolute()}
        present = sorted(path for path in ours if Path(path).exists())
        sandbox = dataclasses.replace(sandbox, readable=(*sandbox.readable, *present))
    plan = Plan(
        name=name,
        naming=Naming(_as_upstream(name), "none"),
        stream=True,
        pool=_pool(one.pool, settings),
        stateless=True,
        era="modern",
        eager=True,
        limits=_limits(settings),
        own=True,
    )
    argv = [sys.executable, "-m", "erlmcp.cli", "stdio", "--isolated", "--provider", one.use]
    if one.options:
        argv += ["--options", msgspec.json.encode(one.options).decode()]
    env = {"PYTHONPATH": ":".join(path for path in sys.path if path)}

    def access(reactor: Any) -> Access:
        return ChildAccess(reactor, name, argv, env=env, sandbox=sandbox, grace=_GRACE)

    return Upstream(plan, access, identity=(settings.server.name, settings.server.version or __version__))


def _access(one: UpstreamSettings, sandbox: Confinement, tls: Tls | None) -> Callable[[Any], Access]:
    def access(reactor: Any) -> Access:
        if one.transport == "http":
            return HttpAccess(reactor, one, tls)
        if one.transport == "tcp":
            return StreamAccess(reactor, one)
        credentials = UpstreamCredentials(one.name, one.credentials, reactor=reactor)
        return ChildAccess(
            reactor, one.name, one.command, cwd=one.cwd, credentials=credentials, sandbox=sandbox
        )

    return access


def _naming(one: UpstreamSettings, settings: Settings, environ: Mapping[str, str]) -> Naming:
    del settings, environ
    mode: Any = "map" if isinstance(one.names, dict) else one.names
    names = {**(one.names if isinstance(one.names, dict) else {}), **one.rename}
    return Naming(
        one.name,
        mode,
        separator=one.separator,
        names=names,
        allow=one.allow,
        deny=one.deny,
        describe=one.describe,
    )


def _accepted(one: UpstreamSettings, settings: Settings, environ: Mapping[str, str]) -> Accepted | None:
    if one.pins is not None:
        return accepted(Path(one.pins), one.name, one.changed, demanded=True)
    folder = config.state_directory(settings.server, environ)
    file = None if folder is None else folder / PINS_FILE
    return accepted(
        file if file is not None and file.exists() else None, one.name, one.changed, demanded=False
    )


def _confinement(one: UpstreamSettings, settings: Settings, environ: Mapping[str, str]) -> Confinement:
    del settings, environ
    return _sandbox(one.sandbox)


def _sandbox(table: str | SandboxTable) -> Confinement:
    if isinstance(table, str):
        table = SandboxTable(kind=table)  # type: ignore[arg-type]
    confinement = Confinement(**{name: getattr(table, name) for name in SandboxTable.__struct_fields__})
    confinement.check()
    return confinement


def _tls(one: UpstreamSettings, settings: Settings, environ: Mapping[str, str]) -> Tls | None:
    del settings, environ
    if one.trust is None:
        return None
    text = Path(one.trust).read_text()
    marker = "-----END CERTIFICATE-----"
    found = [part + marker for part in text.split(marker)[:-1]]
    if not found:
        raise ValueError(f"{one.trust} has no certificate in it (PEM)")
    certificates = [ssl.Certificate.loadPEM(part.encode()) for part in found]
    return Tls(trust=ssl.trustRootFromCertificates(certificates))


def _pool(table: PoolTable, settings: Settings) -> PoolSettings:
    named = {name: getattr(table, name) for name in PoolTable.__struct_fields__}
    return PoolSettings(lasting=settings.limits.session_idle, **named)


def _limits(settings: Settings) -> Limits:
    limits = settings.limits
    return Limits(size=limits.message, depth=limits.depth, keys=limits.keys, string=limits.string)


def _place(settings: Settings, key: str, part: str) -> str:
    place = f"{key}.{part}"
    return place if place in settings.places else key


def _as_upstream(name: str) -> str:
    """A provider's name as `Naming` takes one; nothing of it is seen, as names stay as they are."""
    plain = "".join(one if one.isascii() and one.isalnum() else "-" for one in name.lower())
    return ("p-" + plain)[:32].rstrip("-")
