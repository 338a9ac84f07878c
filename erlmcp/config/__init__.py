"""The configuration, from TOML files to checked, frozen settings; secrets, sealing keys, finding plugins."""

from erlmcp.config._keys import (
    SealingKeys,
    new_key,
    parse_keys,
    runtime_directory,
    sealing_keys,
    state_directory,
)
from erlmcp.config._load import DEMO_LISTEN, DEMO_PROVIDER, load
from erlmcp.config._model import (
    EngineSettings,
    Limits,
    ListenerLimits,
    ListenSettings,
    ProviderSettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
)
from erlmcp.config._plugins import backend, declared, found, providers, transports
from erlmcp.config._problems import ConfigurationError, Problem, nearest
from erlmcp.config._reach import endpoint_reachable, is_loopback, reachable
from erlmcp.config._secrets import Secret

__all__ = [
    "DEMO_LISTEN",
    "DEMO_PROVIDER",
    "ConfigurationError",
    "EngineSettings",
    "Limits",
    "ListenSettings",
    "ListenerLimits",
    "Problem",
    "ProviderSettings",
    "SealingKeys",
    "Secret",
    "ServerSettings",
    "Settings",
    "TelemetrySettings",
    "backend",
    "declared",
    "endpoint_reachable",
    "found",
    "is_loopback",
    "load",
    "nearest",
    "new_key",
    "parse_keys",
    "providers",
    "reachable",
    "runtime_directory",
    "sealing_keys",
    "state_directory",
    "transports",
]
