"""What a request's head looks like in either version, and whether it may be sent at all. Pure."""

import re
from collections.abc import Sequence
from typing import Final

from erlmcp.web._types import Origin, WebRequest

Headers = Sequence[tuple[bytes, bytes]]

# RFC 9110, 5.5 and 5.6.2. What is left after deleting these is not allowed.
_IN_VALUES: Final = bytes([9, *range(32, 127), *range(128, 256)])
_IN_TARGETS: Final = bytes(range(33, 127))
_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_METHOD: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_KNOWN: Final = 1024
_WITH_LENGTH: Final = frozenset((b"POST", b"PUT", b"PATCH"))
_ENCODING: Final = b"accept-encoding"

_names: Final[set[bytes]] = set()  # those that were looked at, and are right


def fault_in(request: WebRequest) -> str | None:
    """What is wrong with a request, if it must not be sent: some of it may be a stranger's words."""
    method = request.method
    if method not in _WITH_LENGTH and (not _METHOD.fullmatch(method) or method == b"CONNECT"):
        return f"the method {method[:40]!r} cannot be sent"
    target = request.target
    if not target.startswith(b"/") or target.translate(None, _IN_TARGETS):
        return f"the target {target[:80]!r} is not a path: a slash, then visible ASCII"
    for name, value in request.headers:
        if name not in _names:
            fault = _fault_in_name(name)
            if fault:
                return fault
        if value.translate(None, _IN_VALUES):
            return f"the value of the header {name.decode('ascii')} has a line break or another control character"
    return None


def _fault_in_name(name: bytes) -> str | None:
    if not _NAME.fullmatch(name):
        return f"the header name {name[:40]!r} is not one in lower case"
    if name in _OURS:
        return f"the header {name.decode('ascii')} is the client's own to send"
    if len(_names) < _KNOWN:
        _names.add(name)
    return None


def head_of_one(request: WebRequest, authority: bytes) -> bytes:
    """The head in HTTP/1.1 (RFC 9112, 3), with its blank line."""
    headers = request.headers
    parts = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, request.target, authority)]
    encoding = b"accept-encoding: identity\r\n"
    for pair in headers:
        parts.append(b"%b: %b\r\n" % pair)
        if pair[0] == _ENCODING:
            encoding = b""
    parts.append(encoding)
    if request.body or request.method in _WITH_LENGTH:
        parts.append(b"content-length: %d\r\n\r\n" % len(request.body))
    else:
        parts.append(b"\r\n")
    return b"".join(parts)


def head_of_two(request: WebRequest, origin: Origin, authority: bytes) -> list[tuple[bytes, bytes]]:
    """The fields in HTTP/2 (RFC 9113, 8.3.1), those with a colon first."""
    headers = request.headers
    fields = [
        (b":method", request.method),
        (b":scheme", origin.scheme.encode("ascii")),
        (b":authority", authority),
        (b":path", request.target),
        *headers,
    ]
    for name, _ in headers:
        if name == _ENCODING:
            break
    else:
        fields.append((_ENCODING, b"identity"))
    if request.body or request.method in _WITH_LENGTH:
        fields.append((b"content-length", b"%d" % len(request.body)))
    return fields
