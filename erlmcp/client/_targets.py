"""Servers to be clients of: over HTTP, over a stream, or started as a child process."""

import re
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import succeed

from erlmcp.client._child import child_wires
from erlmcp.client._http import HttpWire
from erlmcp.client._http_site import Authorizes, HttpLimits, Site
from erlmcp.client._lines import line_wires
from erlmcp.client._old_stream import OldStreamWire
from erlmcp.client._wire import WireMaker
from erlmcp.processes import UNCONFINED, Command, Confinement
from erlmcp.web import Pool

_PATIENT: Final = 24 * 3600.0
"""Seconds for the head of an answer: a call's own limit of time is kept above."""
_ENDPOINT: Final = re.compile(r"(tcp|tls|ssl|unix|systemd|host)6?:")


class Target:
    """A server that there may be a client of.

    Attributes:
        peer: its name in errors.
        make_wire: makes a wire to it.
        make_old_wire: makes one in the way of 2024-11-05's HTTP+SSE; None where there is no such.
        extensions: names of the MCP extensions that the way there belongs to, for the client to declare.
    """

    def __init__(
        self,
        peer: str,
        make_wire: WireMaker,
        make_old_wire: WireMaker | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
        extensions: Sequence[str] = (),
    ) -> None:
        self.peer = peer
        self.make_wire = make_wire
        self.make_old_wire = make_old_wire
        self.extensions = tuple(extensions)
        self._close = close

    def close(self) -> Awaitable[None]:
        """Let go of what was made for it."""
        return succeed(None) if self._close is None else self._close()


def http(
    reactor: Any,
    url: str,
    *,
    pool: Pool | None = None,
    authorization: Authorizes | None = None,
    headers: Mapping[str, str] | None = None,
    limits: HttpLimits | None = None,
    **options: Any,
) -> Target:
    """A server at a URL.

    Args:
        reactor: connects and tells the time.
        url: its MCP endpoint, ``http`` or ``https``.
        pool: connections to use, which stay the caller's to close; None for some of its own.
        authorization: what authorizes requests, such as `erlmcp.client.oauth.Authorization`.
        headers: more header fields for each request.
        limits: the bounds of what HTTP brings.
        **options: for the pool of its own (`erlmcp.web.Pool`): ``http2``, ``tls``, ``unix`` and the others.

    Raises:
        ValueError: the URL is none of HTTP, or an option makes no sense.
    """
    own = pool is None
    if pool is None:
        pool = Pool(reactor, **{"response_head_timeout": _PATIENT, **options})
    elif options:
        raise ValueError(f"{', '.join(options)}: these belong to the pool that is given")
    fields = [
        (name.lower().encode("ascii"), value.encode("latin-1")) for name, value in (headers or {}).items()
    ]
    site = Site(pool, reactor, url, authorization=authorization, headers=fields, limits=limits)
    close = pool.close if own else None
    extensions = () if authorization is None else authorization.extensions
    return Target(site.peer, lambda: HttpWire(site), lambda: OldStreamWire(site), close, extensions)


def stream(reactor: Any, description: str) -> Target:
    """A server that speaks lines at an endpoint.

    Args:
        reactor: connects and tells the time.
        description: a Twisted client endpoint: ``tcp:host:port``, ``tls:host:port``, ``unix:/path`` and so on.

    Raises:
        ValueError: it describes no endpoint.
    """
    return Target(description, line_wires(reactor, description))


def stdio(
    reactor: Any,
    argv: Sequence[str],
    *,
    name: str = "",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    sandbox: Confinement = UNCONFINED,
    **options: Any,
) -> Target:
    """A server that is started, and spoken with over its standard streams.

    Args:
        reactor: starts it and tells the time.
        argv: the program and its arguments; no shell sees them.
        name: what errors call it; the command itself unless given.
        env: variables, beside the few that every child inherits.
        cwd: the folder it runs in.
        sandbox: how it is confined.
        **options: for each wire to it: ``grace``, ``limits`` and ``on_stderr`` (see the reference).

    Raises:
        ValueError: nothing to run, or a confinement that cannot be had.
    """
    command = Command(tuple(argv), cwd, dict(env or {}), sandbox)
    peer = name or shlex.join(argv)
    return Target(peer, child_wires(reactor, command, peer, **options))


def target(reactor: Any, text: str, **options: Any) -> Target:
    """A server as people write it: a URL, an endpoint such as ``tcp:localhost:9000``, or a command line.

    Args:
        reactor: connects, starts and tells the time.
        text: the server.
        **options: those of `http`, of `stream` or of `stdio`, whichever it is.

    Raises:
        ValueError: it is none of these.
    """
    if re.match(r"https?://", text, re.IGNORECASE):
        return http(reactor, text, **options)
    if _ENDPOINT.match(text):
        return stream(reactor, text, **options)
    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be read as a command: {error}") from error
    if not argv:
        raise ValueError("no server: give a URL, an endpoint such as tcp:localhost:9000, or a command")
    return stdio(reactor, argv, **options)
