"""The configuration, from TOML files to checked, frozen settings; secrets, sealing keys, finding plugins."""

from erlmcp.config._credentials import CredentialSettings, OAuthSettings, check_header_value, read_credentials
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
    ViewSettings,
)
from erlmcp.config._plugins import backend, declared, found, providers, transports
from erlmcp.config._problems import ConfigurationError, Problem, nearest
from erlmcp.config._reach import endpoint_reachable, is_loopback, reachable
from erlmcp.config._secrets import Secret
from erlmcp.config._upstreams import PoolTable, SandboxTable, UpstreamSettings
from erlmcp.config._views import views_by_path

__all__ = [
    "DEMO_LISTEN",
    "DEMO_PROVIDER",
    "ConfigurationError",
    "CredentialSettings",
    "EngineSettings",
    "Limits",
    "ListenSettings",
    "ListenerLimits",
    "OAuthSettings",
    "PoolTable",
    "Problem",
    "ProviderSettings",
    "SandboxTable",
    "SealingKeys",
    "Secret",
    "ServerSettings",
    "Settings",
    "TelemetrySettings",
    "UpstreamSettings",
    "ViewSettings",
    "backend",
    "check_header_value",
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
    "read_credentials",
    "runtime_directory",
    "sealing_keys",
    "state_directory",
    "transports",
    "views_by_path",
]
