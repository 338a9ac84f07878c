"""How messages come in: the transports of the house, plugins like anyone else's, and what they share.

Names are loaded on first use (PEP 562): listing the plugins needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.transports._binding import BindError, EndpointError, bind, listen, parse, unlisten
    from erlmcp.transports._burst import burst
    from erlmcp.transports._connections import Connections
    from erlmcp.transports._declared import DeclaredTransport
    from erlmcp.transports._lines import LineConnection
    from erlmcp.transports._outgoing import Outgoing
    from erlmcp.transports._peers import peer_of, tune
    from erlmcp.transports._stale import clear_stale
    from erlmcp.transports._stdio import StdioTransport
    from erlmcp.transports._streams import claim_standard_streams
    from erlmcp.transports._tcp import StreamListener, TcpTransport

_MODULES = {
    "BindError": "_binding",
    "Connections": "_connections",
    "DeclaredTransport": "_declared",
    "EndpointError": "_binding",
    "LineConnection": "_lines",
    "Outgoing": "_outgoing",
    "StdioTransport": "_stdio",
    "StreamListener": "_tcp",
    "TcpTransport": "_tcp",
    "bind": "_binding",
    "burst": "_burst",
    "claim_standard_streams": "_streams",
    "clear_stale": "_stale",
    "listen": "_binding",
    "parse": "_binding",
    "peer_of": "_peers",
    "tune": "_peers",
    "unlisten": "_binding",
}

__all__ = [
    "BindError",
    "Connections",
    "DeclaredTransport",
    "EndpointError",
    "LineConnection",
    "Outgoing",
    "StdioTransport",
    "StreamListener",
    "TcpTransport",
    "bind",
    "burst",
    "claim_standard_streams",
    "clear_stale",
    "listen",
    "parse",
    "peer_of",
    "tune",
    "unlisten",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"erlmcp.transports.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'erlmcp.transports' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
