"""URLs of authorization: where metadata are found, what a resource is called, and what may be asked at all. Pure."""

import ipaddress
from urllib.parse import SplitResult, urlsplit, urlunsplit

from erlmcp.client.oauth._errors import AuthorizationError

_PORTS = {"http": 80, "https": 443}
_MAX_URL = 4096
_RESOURCE = "/.well-known/oauth-protected-resource"
_SERVER = "/.well-known/oauth-authorization-server"
_OPENID = "/.well-known/openid-configuration"


def is_loopback(host: str) -> bool:
    """Whether a host name or address literal is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(url: object, what: str) -> str:
    """Hold an address that a server named to what authorization allows.

    Args:
        url: the address: https, or http on the loopback (OAuth 2.1 section 1.5), without userinfo or fragment.
        what: the field that it stands in, for the error.

    Raises:
        AuthorizationError: it is no such address.
    """
    if not isinstance(url, str):
        raise AuthorizationError(f"{what} is not a string: expected an https URL")
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise AuthorizationError(f"{what} is not a URL: it is too long, or has characters that no URL has")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise AuthorizationError(f"{what} is not a URL: {error}") from None
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc or parts.fragment:
        raise AuthorizationError(f"{what} {url!r}: expected an https URL without user or fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise AuthorizationError(f"{what} {url!r}: http is for the loopback alone, others must use https")
    return url


def origin(url: str) -> str:
    """Scheme, host and port of a URL, lower case, without the scheme's own port: ``https://example.com``."""
    return _origin(urlsplit(url))


def _origin(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = parts.port
    return (
        f"{parts.scheme}://{host}"
        if port in (None, _PORTS.get(parts.scheme))
        else f"{parts.scheme}://{host}:{port}"
    )


def canonical_resource(server_url: str) -> str:
    """What an MCP server is called as a resource: its URL without fragment, query and a bare slash at the end.

    2026-07-28, authorization, canonical server URI.
    """
    parts = urlsplit(server_url)
    path = "" if parts.path == "/" else parts.path
    return _origin(parts) + path


def covers(resource: str, server_url: str) -> bool:
    """Whether a resource's metadata are those of a server: the same origin, and its path or one above it.

    RFC 9728 section 3.3 wants the identifier that the metadata were looked up by, which is the server's URL, or, for
    metadata at the root, its origin.
    """
    theirs, ours = urlsplit(resource), urlsplit(server_url)
    try:
        if _origin(theirs) != _origin(ours):
            return False
    except ValueError:
        return False
    if theirs.query not in ("", ours.query):
        return False
    path = theirs.path.rstrip("/")
    return ours.path.rstrip("/") == path or ours.path.startswith(path + "/")


def resource_metadata_urls(server_url: str) -> list[str]:
    """Where the metadata of a protected resource are looked for, in order (RFC 9728 section 3.1)."""
    parts = urlsplit(server_url)
    root = _origin(parts) + _RESOURCE
    path = parts.path.rstrip("/")
    query = f"?{parts.query}" if parts.query else ""
    return [f"{root}{path}{query}", root] if path or query else [root]


def server_metadata_urls(issuer: str) -> list[str]:
    """Where the metadata of an authorization server are looked for, in order.

    2026-07-28, authorization server metadata discovery; RFC 8414 section 3.1 and 5.
    """
    parts = urlsplit(issuer)
    base = _origin(parts)
    path = parts.path.rstrip("/")
    if not path:
        return [base + _SERVER, base + _OPENID]
    return [base + _SERVER + path, base + _OPENID + path, base + path + _OPENID]


def without_query(url: str) -> str:
    """A URL as a DPoP proof names it (RFC 9449 section 4.2): no query, no fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", "", ""))
