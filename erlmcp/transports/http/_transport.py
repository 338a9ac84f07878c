"""The ``http`` transport plugin and what may be configured of it."""

import re

import msgspec
from zope.interface import implementer

from erlmcp.interfaces import IListener, ITransport, ListenContext
from erlmcp.transports.http._head import Rules
from erlmcp.transports.http._listener import HttpListener
from erlmcp.transports.http._origin import Visitors

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys that ``transport = "http"`` adds to ``[[listen]]``.

    Attributes:
        path: the path of the MCP endpoint.
        origins: origins of web pages that may use the server from a browser, such as ``https://app.example.com``.
            On loopback, pages of this machine may use it as well, but only these get CORS headers.
        hosts: further names that the server is called by, with or without a port. On loopback they are added to
            ``localhost``, ``127.0.0.1`` and ``[::1]``; elsewhere they are, if given, the only ones.
    """

    path: str = "/mcp"
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@implementer(ITransport)
class HttpTransport:
    """Streamable HTTP, revision 2026-07-28, over HTTP/1.1 on any Twisted stream endpoint."""

    name = "http"
    options = HttpOptions

    def listener(self, context: ListenContext, options: HttpOptions) -> IListener:
        """Make the listener; nothing is opened yet.

        Raises:
            ValueError: an endpoint, a path, an origin or a host that cannot be.
        """
        if _PATH.fullmatch(options.path) is None:
            raise ValueError(f"path: {options.path!r} is no path; one looks like '/mcp', with no query")
        visitors = Visitors(options.origins, options.hosts)
        rules = Rules(options.path.encode(), visitors, context.limits.wire.message)
        listener: IListener = HttpListener(context, rules)
        return listener
