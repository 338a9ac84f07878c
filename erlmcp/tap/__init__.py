"""``twistd erlmcp``: the options, and the service that they make. Here the parts are put together."""

from erlmcp.tap._assembly import Parts, assemble, backends_for
from erlmcp.tap._daemon import Daemon
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._options import Options, require_reactor
from erlmcp.tap._service import make_daemon, makeService

__all__ = [
    "Daemon",
    "Options",
    "Parts",
    "StartFailed",
    "assemble",
    "backends_for",
    "makeService",
    "make_daemon",
    "require_reactor",
]
