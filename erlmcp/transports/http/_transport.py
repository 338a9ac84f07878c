"""The ``http`` transport plugin and what may be configured of it."""

import re
from typing import Annotated

import msgspec
from zope.interface import implementer

from erlmcp.interfaces import IListener, ITransport, ListenContext
from erlmcp.transports.http._head import Rules
from erlmcp.transports.http._listener import HttpListener
from erlmcp.transports.http._origin import Visitors
from erlmcp.transports.http._shared import Second

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys that ``transport = "http"`` adds to ``[[listen]]``.

    Attributes:
        path: the path of the MCP endpoint.
        origins: origins of web pages that may use the server from a browser, such as ``https://app.example.com``.
            On loopback, pages of this machine may use it as well, but only these get CORS headers.
        hosts: further names that the server is called by, with or without a port. On loopback they are added to
            ``localhost``, ``127.0.0.1`` and ``[::1]``; elsewhere they are, if given, the only ones.
        sse: the path of the stream of revision 2024-11-05 (HTTP with SSE), such as ``/sse``; empty for none.
        messages: where clients of that stream post their messages.
        http2: whether HTTP/2 is offered over TLS (ALPN).
        h2c: whether HTTP/2 is spoken without TLS to clients that begin with it (prior knowledge).
        streams: how many requests may be under way on one connection of HTTP/2; `in_flight` bounds them too.
    """

    path: str = "/mcp"
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    sse: str = ""
    messages: str = "/messages"
    http2: bool = True
    h2c: bool = False
    streams: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100


@implementer(ITransport)
class HttpTransport:
    """Streamable HTTP, over HTTP/1.1 and 2, on any Twisted stream endpoint; HTTP with SSE where that is wanted."""

    name = "http"
    options = HttpOptions

    def listener(self, context: ListenContext, options: HttpOptions) -> IListener:
        """Make the listener; nothing is opened yet.

        Raises:
            ValueError: an endpoint, a path, an origin or a host that cannot be.
        """
        _check_paths(options)
        rules = Rules(
            options.path.encode(),
            Visitors(options.origins, options.hosts),
            context.limits.wire.message,
            options.sse.encode(),
            options.messages.encode(),
        )
        streams = min(options.streams, context.limits.wire.in_flight)
        second = Second(offered=options.http2, h2c=options.h2c, streams=streams)
        listener: IListener = HttpListener(context, rules, second)
        return listener


def _check_paths(options: HttpOptions) -> None:
    paths = {"path": options.path}
    if options.sse:
        paths |= {"sse": options.sse, "messages": options.messages}
    taken: dict[str, str] = {}
    for key, path in paths.items():
        if _PATH.fullmatch(path) is None:
            raise ValueError(f"{key}: {path!r} is no path; one looks like '/mcp', with no query")
        if path in taken:
            raise ValueError(f"{key}: {path!r} is the {taken[path]} too; each needs a path of its own")
        taken[path] = f"'{key}'"
