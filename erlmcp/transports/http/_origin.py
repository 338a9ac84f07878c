"""Who may speak to a listener through a browser: Origin, Host and CORS. Pure.

A web page can make its visitor's browser send requests to a server on that visitor's own machine, and with DNS
rebinding even read the answers. Both leave traces in Origin and Host (revision 2026-07-28, streamable-http,
Security & Endpoint).
"""

import re
from collections.abc import Iterable
from typing import Final

_LOCAL: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
# RFC 9110, 7.2, without the comma: it would be two Host fields in one.
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(?::[0-9]{0,5})?")
_ORIGIN: Final = re.compile(rb"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_REMEMBERED: Final = 64

_SENT: Final = frozenset(
    {
        b"accept",
        b"authorization",
        b"content-type",
        b"last-event-id",
        b"mcp-method",
        b"mcp-name",
        b"mcp-protocol-version",
        b"mcp-session-id",
    }
)
_PARAMETER: Final = b"mcp-param-"
_EXPOSED: Final = b"MCP-Protocol-Version, Mcp-Session-Id, Retry-After, WWW-Authenticate"


class Visitors:
    """What one listener demands of Origin and Host.

    Args:
        origins: origins of web pages that may speak to the listener, such as ``https://app.example.com``.
        hosts: further names, with or without a port, that the listener may be called by.

    Raises:
        ValueError: one of them cannot be an origin or a host.
    """

    __slots__ = ("_fields", "_hosts", "_known", "_local", "_names")

    def __init__(self, origins: Iterable[str] = (), hosts: Iterable[str] = ()) -> None:
        self._fields = {origin: _cors_fields(origin) for origin in map(_origin, origins)}
        self._hosts = frozenset(map(_host, hosts))
        self._known: set[bytes] = set()
        self._local = True
        self._names = _LOCAL

    def listen_on(self, address: str | None) -> None:
        """Learn the address that the listener is bound to; None if it has no IP address (a unix socket).

        Until then, loopback is assumed.
        """
        self._known.clear()
        self._local = address is not None and is_loopback(address)
        bound = f"[{address}]" if address is not None and ":" in address else address or ""
        self._names = _LOCAL | {bound.encode()} if self._local else frozenset()

    def host_is_valid(self, host: bytes) -> bool:
        """Whether this can be a Host field at all (RFC 9110, 7.2)."""
        return host in self._known or _HOST.fullmatch(host) is not None

    def host_is_ours(self, host: bytes) -> bool:
        """Whether a valid Host field names this listener.

        On loopback it must be a loopback name or a configured host: a page whose name was rebound to 127.0.0.1
        still says its own name here. Elsewhere any name will do, unless hosts are configured.
        """
        if host in self._known:
            return True
        lowered = host.lower()
        match = _HOST.fullmatch(lowered)
        if match is None:
            return False
        ours = (
            match[1] in self._names
            or lowered in self._hosts
            or match[1] in self._hosts
            or not (self._local or self._hosts)
        )
        if ours and len(self._known) < _REMEMBERED:
            self._known.add(host)
        return ours

    def origin_is_allowed(self, origin: bytes) -> bool:
        """Whether a page of this origin may speak to us: configured, or of this machine as a loopback listener is."""
        if origin in self._fields:
            return True
        match = _ORIGIN.fullmatch(origin)
        return match is not None and self._local and match[2] in self._names

    def cors(self, origin: bytes) -> bytes:
        """Header lines that let a page of a configured origin read the answer; empty for any other."""
        return self._fields.get(origin, b"")

    def preflight(self, origin: bytes, requested: bytes, methods: bytes) -> bytes:
        """Header lines that answer a CORS preflight, besides those of `cors`; empty for an origin not configured.

        Args:
            origin: the Origin field.
            requested: the Access-Control-Request-Headers field; of it what the protocol uses is allowed.
            methods: those that the path has.
        """
        if origin not in self._fields:
            return b""
        names = [name.strip() for name in requested.lower().split(b",")]
        allowed = b", ".join(sorted({name for name in names if _may_be_sent(name)} | _SENT))
        return b"".join(
            (
                b"Access-Control-Allow-Methods: ",
                methods,
                b"\r\nAccess-Control-Allow-Headers: ",
                allowed,
                b"\r\nAccess-Control-Max-Age: 600\r\n",
            )
        )


def is_loopback(address: str) -> bool:
    """Whether an IP address is reached from this machine alone."""
    return address.startswith(("127.", "::ffff:127.")) or address == "::1"


def _may_be_sent(name: bytes) -> bool:
    return name.startswith(_PARAMETER) and _TOKEN.fullmatch(name) is not None


def _cors_fields(origin: bytes) -> bytes:
    return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\nAccess-Control-Expose-Headers: %b\r\n" % (
        origin,
        _EXPOSED,
    )


def _origin(origin: str) -> bytes:
    wire = origin.lower().encode("ascii", "replace")
    if _ORIGIN.fullmatch(wire) is None:
        raise ValueError(
            f"origins: {origin!r} is no origin; one looks like 'https://app.example.com', with no path"
        )
    return wire


def _host(host: str) -> bytes:
    wire = host.lower().encode("ascii", "replace")
    if _HOST.fullmatch(wire) is None:
        raise ValueError(
            f"hosts: {host!r} is no host; one looks like 'mcp.example.com' or 'mcp.example.com:8443'"
        )
    return wire
