"""From the merged tables to checked settings."""

from collections.abc import Mapping
from typing import Any

import msgspec

from erlmcp.config._lines import Path
from erlmcp.config._model import (
    EngineSettings,
    Limits,
    ListenerLimits,
    ListenSettings,
    ProviderSettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
    Text,
)
from erlmcp.config._problems import ConfigurationError, nearest
from erlmcp.config._shape import check_table
from erlmcp.config._sources import Merged, spell
from erlmcp.config._upstreams import read_upstream
from erlmcp.config._views import check_shown, read_views

_KNOWN = ("server", "limits", "provider", "upstream", "server_view", "listen", "engine", "telemetry")
_LATER = {
    "auth": 'authentication comes with a later one; a listener that others can reach may say auth = "none"',
    "role": "roles come with a later one",
    "limit": "rates and quotas come with a later one; sizes, counts and times are in the table [limits]",
    "receipts": "receipts come with a later one",
}
_ISOLATION = 'isolation = "process" runs it in child processes'


def interpret(merged: Merged, transports: Mapping[str, Any]) -> Settings:
    """Check everything.

    Args:
        merged: the files.
        transports: the transport plugins by name; each brings its own keys of ``[[listen]]``.

    Raises:
        ConfigurationError: with every problem, those of reading the files included.
    """
    for key in merged.table:
        if key in _LATER:
            merged.problem((key,), "not in this version", _LATER[key])
        elif key not in _KNOWN:
            merged.problem((key,), "unknown table", nearest(key, _KNOWN))
    server = check_table(ServerSettings, merged.table.get("server", {}), ("server",), merged)
    limits = check_table(Limits, merged.table.get("limits", {}), ("limits",), merged)
    engine = check_table(EngineSettings, merged.table.get("engine", {}), ("engine",), merged)
    telemetry = check_table(TelemetrySettings, merged.table.get("telemetry", {}), ("telemetry",), merged)
    providers = [_provider(table, path, merged) for path, table in _tables("provider", merged)]
    upstreams = [read_upstream(table, path, merged) for path, table in _tables("upstream", merged)]
    common = {name: value for name, value in limits.items() if name in ListenerLimits.__struct_fields__}
    listen = [_listen(table, path, merged, transports, common) for path, table in _tables("listen", merged)]
    _unique_names(listen, merged)
    shown = _tables("server_view", merged)
    views = read_views(shown, merged)
    check_shown(listen, shown, merged)
    if merged.problems:
        raise ConfigurationError(merged.problems)
    return Settings(
        server=ServerSettings(**server),
        limits=Limits(**limits),
        providers=tuple(one for one in providers if one is not None),
        upstreams=tuple(one for one in upstreams if one is not None),
        views=tuple(views),
        listen=tuple(one for _, one in listen if one is not None),
        engine=EngineSettings(**engine),
        telemetry=TelemetrySettings(**telemetry),
        places={spell(path): merged.place(path) for path in _used_later(merged.table)},
    )


def _used_later(table: Mapping[str, Any]) -> list[Path]:
    """The keys whose values can turn out to be wrong only when they are used."""
    paths: list[Path] = [("server", key) for key in ("state", "keys", "middleware")]
    paths += [("telemetry", key) for key in ("endpoint", "traces", "traces_endpoint")]
    paths += [("provider", index, "use") for index in range(len(table.get("provider", ())))]
    for index in range(len(table.get("server_view", ()))):
        paths += [("server_view", index, "backends"), ("server_view", index, "expose")]
    for index, one in enumerate(table.get("upstream", ())):
        paths += [("upstream", index), *(("upstream", index, key) for key in one)]
    for index in range(len(table.get("listen", ()))):
        paths += [("listen", index), ("listen", index, "endpoint"), ("listen", index, "expose")]
    return paths


def _tables(key: str, merged: Merged) -> list[tuple[Path, Any]]:
    value = merged.table.get(key, [])
    if not isinstance(value, list):
        merged.problem((key,), "is one table or value", f"it is an array of tables: [[{key}]]")
        return []
    return [((key, index), table) for index, table in enumerate(value)]


def _provider(table: Any, path: Path, merged: Merged) -> ProviderSettings | None:
    before = len(merged.problems)
    values = check_table(ProviderSettings, table, path, merged, without=("key",))
    if isinstance(table, dict) and values.get("isolation", "inline") == "inline":
        for key in ("pool", "sandbox"):
            if key in table:
                merged.problem((*path, key), "has no meaning for a provider in the daemon itself", _ISOLATION)
    return ProviderSettings(**values, key=spell(path)) if len(merged.problems) == before else None


def _listen(
    table: Any, path: Path, merged: Merged, transports: Mapping[str, Any], common: Mapping[str, Any]
) -> tuple[Path, ListenSettings | None]:
    before = len(merged.problems)
    named = table.get("transport") if isinstance(table, dict) else None
    shape: type[msgspec.Struct] = _Nothing
    if isinstance(named, str):
        if named not in transports:
            wrong = f"no transport plugin is named {named!r}"
            merged.problem((*path, "transport"), wrong, nearest(named, transports))
            return path, None
        shape = transports[named].options
    own = {field.encode_name for field in msgspec.structs.fields(shape)}
    values = check_table(
        ListenSettings,
        table,
        path,
        merged,
        without=("key", "options", "limits", "name"),
        ours={*own, "limits", "name"},
    )
    if not isinstance(table, dict):
        return path, None
    values |= check_table(_Name, _only(table, {"name"}), path, merged)
    limits = check_table(ListenerLimits, table.get("limits", {}), (*path, "limits"), merged)
    options = check_table(shape, _only(table, own), path, merged)
    if len(merged.problems) != before:
        return path, None
    values.setdefault("name", f"{named}-{int(path[1]) + 1}")
    limited = ListenerLimits(**{**common, **limits})
    return path, ListenSettings(**values, limits=limited, options=shape(**options), key=spell(path))


def _only(table: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key in keys}


def _unique_names(listen: list[tuple[Path, ListenSettings | None]], merged: Merged) -> None:
    seen: dict[str, Path] = {}
    for path, one in listen:
        if one is None:
            continue
        if one.name in seen:
            merged.problem(
                (*path, "name"), f"{spell(seen[one.name])} is named {one.name!r} too", "names are unique"
            )
        seen.setdefault(one.name, path)


class _Nothing(msgspec.Struct, frozen=True):
    """No keys."""


class _Name(msgspec.Struct, frozen=True):
    """The one key of ``[[listen]]`` whose default depends on another."""

    name: Text = ""
