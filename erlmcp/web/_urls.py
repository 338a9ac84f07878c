"""Taking URLs apart, strictly: what is dialled, checked and sent must be the same host for everyone who reads it."""

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import idna

from erlmcp.web._types import Origin

_PORTS: Final = {"http": 80, "https": 443}
_LONGEST: Final = 8192
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_BLANK: Final = re.compile(r"[\x00-\x20\x7f\\]")
_KEPT: Final = "/?:@!$&'()*+,;=-._~%"


def split_url(url: str) -> tuple[Origin, bytes]:
    """Take a URL apart into where it leads and what is asked there.

    Args:
        url: absolute, ``http`` or ``https``. The fragment is dropped; what is not ASCII is encoded (IDNA, per cent).

    Raises:
        ValueError: it is no such URL, or carries a user name or password, which belong into a header.
    """
    if len(url) > _LONGEST:
        raise ValueError(f"the URL is longer than {_LONGEST} characters")
    if _BLANK.search(url):
        raise ValueError(f"the URL {url!r} contains a blank, a control character or a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in _PORTS:
        raise ValueError(f"the URL {url!r} does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError(
            f"the URL for {parts.hostname!r} carries a user name: credentials belong into a header"
        )
    if not parts.hostname:
        raise ValueError(f"the URL {url!r} names no host")
    if port == 0:
        raise ValueError(f"the URL {url!r} names port 0")
    origin = Origin(parts.scheme, _host(parts.hostname), port or _PORTS[parts.scheme])
    target = parts.path or "/"
    if "?" in url.partition("#")[0]:
        target += "?" + parts.query
    return origin, quote(target, safe=_KEPT).encode("ascii")


def join_url(base: str, location: str) -> str:
    """Where a ``Location`` leads from `base` (RFC 9110, 10.2.2); `split_url` is to judge the result.

    Raises:
        ValueError: it is no reference at all.
    """
    return urljoin(base, location)


def _host(host: str) -> str:
    if ":" in host:
        # A zone would be a name of this machine's interfaces, from someone else's URL.
        if "%" in host:
            raise ValueError(f"the address {host!r} has a zone")
        return str(IPv6Address(host))
    try:
        plain = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"the host name {host!r} is not one: {error}") from None
    if len(plain) > 254 or not _NAME.fullmatch(plain):
        raise ValueError(f"the host name {host!r} is not one")
    return plain
