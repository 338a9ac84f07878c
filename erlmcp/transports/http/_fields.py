"""From the fields of an HTTP/2 request to an exchange. Pure.

The rules for what is asked are those of HTTP/1.1 (`_head`). What is a field at all (RFC 9113, 8.2 and 8.3) is decided
here and not by h2, which looks at each character in a loop of Python: a few bytes can stand for 32 KiB of them.
"""

from itertools import chain
from re import compile as pattern
from typing import Final

from erlmcp.interfaces import WireLimits
from erlmcp.transports.http._answers import Refusal
from erlmcp.transports.http._exchange import Exchange
from erlmcp.transports.http._familiar import LONGEST, Kept
from erlmcp.transports.http._head import (
    ACCEPTS_BOTH,
    Fields,
    Headers,
    Purpose,
    Rules,
    accepted,
    unacceptable,
)
from erlmcp.transports.http._old_stream import made_for

_NAME: Final = pattern(rb":?[!-9;-@\[-~]+")
_VALUE: Final = pattern(rb"(?![ \t])[^\0\r\n]*(?<![ \t])")
_ASKED: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_ONCE: Final = frozenset({b"host", b"content-length"})
# RFC 9113, 8.2.2: what is about the connection is no field here.
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_COLON: Final = 0x3A
_MESSAGE: Purpose = Purpose.MESSAGE
_TOO_MANY: Final = Refusal(431, "the request has too many header fields")


class MalformedError(Exception):
    """These are no fields of a request (RFC 9113, 8.1.1)."""


def exchange_for(fields: Fields, rules: Rules, limits: WireLimits, known: Kept[Fields, Headers]) -> Exchange:
    """The exchange for a request that has begun with these fields; it may carry a refusal.

    Args:
        fields: as they came, the pseudo-header fields first.
        rules: what they must satisfy.
        limits: how many there may be.
        known: such that were taken before, and nothing was out of the usual about.

    Raises:
        MalformedError: they are no request at all.
    """
    familiar = known.known.get(fields)
    if familiar is not None:
        return Exchange(familiar)
    asked, headers = _apart(fields)
    method, target = asked.get(b":method", b""), asked.get(b":path", b"")
    found = rules.purpose(method, target, headers, "2")
    refusal = found if isinstance(found, Refusal) else None
    purpose = _MESSAGE if isinstance(found, Refusal) else found
    if len(fields) > limits.header_count:
        refusal = _TOO_MANY
    exchange = made_for(purpose, target, headers)
    admits = accepted(headers.get(b"accept", b""))
    usual = admits == ACCEPTS_BOTH and b"origin" not in headers and purpose is _MESSAGE
    if not usual:
        exchange.admit(admits, rules.visitors.cors(headers.get(b"origin", b"")))
        refusal = refusal or unacceptable(purpose, admits)
    exchange.bare = method == b"HEAD"
    exchange.refusal = refusal
    exchange.inflates = headers.get(b"content-encoding", b"identity").lower() != b"identity"
    usual = usual and refusal is None and not exchange.inflates and b"expect" not in headers
    if usual and sum(map(len, chain.from_iterable(fields))) <= LONGEST and not known.passes():
        known.keep(fields, headers)
    return exchange


def _apart(fields: Fields) -> tuple[Headers, Headers]:
    """What is asked, and the header fields as HTTP/1.1 would have them."""
    asked: Headers = {}
    headers: Headers = {}
    for name, value in fields:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise MalformedError("a field has characters that it cannot have")
        if name[0] == _COLON:
            if name not in _ASKED or name in asked or headers:
                raise MalformedError("a pseudo-header field is unknown, comes twice or comes late")
            asked[name] = value
        elif name in _OF_CONNECTIONS or (name == b"te" and value.lower() != b"trailers"):
            raise MalformedError("a field is about the connection")
        elif name in headers:
            if name in _ONCE:
                raise MalformedError("a field comes twice")
            # Cookies alone are joined otherwise (RFC 9113, 8.2.3).
            headers[name] += (b"; " if name == b"cookie" else b", ") + value
        else:
            headers[name] = value
    _check_asked(asked)
    authority = asked.get(b":authority")
    if authority is not None:
        if headers.get(b"host", authority) != authority:
            raise MalformedError("the authority is not the host")
        headers[b"host"] = authority
    return asked, headers


def _check_asked(asked: Headers) -> None:
    """RFC 9113, 8.3.1 and 8.5."""
    if asked.get(b":method") == b"CONNECT":
        complete = b":authority" in asked and b":path" not in asked and b":scheme" not in asked
    else:
        complete = bool(asked.get(b":method") and asked.get(b":scheme") and asked.get(b":path"))
    if not complete:
        raise MalformedError("a pseudo-header field is missing")
