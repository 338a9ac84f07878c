"""``twistd erlmcp``: the options, and the service that they make. Here the parts are put together."""

from erlmcp.tap._assembly import Parts, assemble, backends_for
from erlmcp.tap._commands import Findings, examine, serve_stdio
from erlmcp.tap._daemon import Daemon
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._frontends import Frontend
from erlmcp.tap._options import Options, require_reactor
from erlmcp.tap._service import make_daemon, makeService
from erlmcp.tap._upstreams import access_to
from erlmcp.tap._work import work

__all__ = [
    "Daemon",
    "Findings",
    "Frontend",
    "Options",
    "Parts",
    "StartFailed",
    "access_to",
    "assemble",
    "backends_for",
    "examine",
    "makeService",
    "make_daemon",
    "require_reactor",
    "serve_stdio",
    "work",
]
