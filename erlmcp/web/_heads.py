"""What a request's head looks like in either version, and whether it may be sent at all. Pure."""

import re
from collections.abc import Sequence
from typing import Final

from erlmcp.web._types import WebRequest

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
_OF_CONNECTIONS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_KNOWN: Final = 1024
_STATUS: Final = 3
_WITH_LENGTH: Final = frozenset((b"POST", b"PUT", b"PATCH"))
_ENCODING: Final = b"accept-encoding"
_IDENTITY: Final = (_ENCODING, b"identity")
_FLEETING: Final = frozenset((b"cookie", b"dpop", b"last-event-id", b"traceparent", b"tracestate"))

_LASTING: Final = frozenset(
    (b"accept", b"content-type", b"mcp-method", b"mcp-name", b"mcp-protocol-version", b"user-agent")
)
_SHORT: Final = 128

_lines: Final[
    dict[tuple[bytes, bytes], bytes]
] = {}  # fields of requests that are right, as HTTP/1.1 writes them
_names: Final[set[bytes]] = set()  # those of requests that were looked at, and are right
_seen: Final[set[bytes]] = set()  # those of answers


def fault_in(request: WebRequest) -> str | None:
    """What is wrong with a request, if it must not be sent: some of it may be a stranger's words."""
    method = request.method
    if method not in _WITH_LENGTH and (not _METHOD.fullmatch(method) or method == b"CONNECT"):
        return f"the method {method[:40]!r} cannot be sent"
    target = request.target
    if not target.startswith(b"/") or target.translate(None, _IN_TARGETS):
        return f"the target {target[:80]!r} is not a path: a slash, then visible ASCII"
    for pair in request.headers:
        if pair in _lines:
            continue
        name, value = pair
        if name not in _names:
            fault = _fault_in_name(name)
            if fault:
                return fault
        if value.translate(None, _IN_VALUES):
            return f"the value of the header {name.decode('ascii')} has a line break or another control character"
        _remember(name, value)
    return None


def _remember(name: bytes, value: bytes) -> None:
    """Keep a right field for the next time, if it is one that most requests have, and nobody's secret."""
    if name in _LASTING and len(value) <= _SHORT:
        if len(_lines) >= _KNOWN:
            _lines.clear()
        _lines[name, value] = b"%b: %b\r\n" % (name, value)


def _fault_in_name(name: bytes) -> str | None:
    if not _NAME.fullmatch(name):
        return f"the header name {name[:40]!r} is not one in lower case"
    if name in _OURS:
        return f"the header {name.decode('ascii')} is the client's own to send"
    if len(_names) < _KNOWN:
        _names.add(name)
    return None


def fault_in_head(headers: Headers) -> str | None:
    """What is wrong with the head of an HTTP/2 answer (RFC 9113, 8.2), whose first field is its status."""
    for index, (name, value) in enumerate(headers):
        if name not in _seen:
            if index == 0 and name == b":status":
                continue
            if not _NAME.fullmatch(name):
                return f"a header of the answer has the name {name[:40]!r}"
            if name in _OF_CONNECTIONS:
                return f"the answer has the header {name.decode('ascii')}, which HTTP/2 does not know"
            if len(_seen) < _KNOWN:
                _seen.add(name)
        if value.translate(None, _IN_VALUES):
            return f"the value of the header {name.decode('ascii')} has a control character"
    return None


def status_of(headers: Headers) -> int | None:
    """The status of a final HTTP/2 answer, which its first field says; None if there is none, or one that is none."""
    name, value = headers[0] if headers else (b"", b"")
    final = name == b":status" and value.isdigit() and b"200" <= value <= b"599" and len(value) == _STATUS
    return int(value) if final else None


def head_of_one(request: WebRequest, authority: bytes) -> bytes:
    """The head in HTTP/1.1 (RFC 9112, 3), with its blank line."""
    headers = request.headers
    parts = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, request.target, authority)]
    encoding = b"accept-encoding: identity\r\n"
    for pair in headers:
        line = _lines.get(pair)
        if line is None:
            line = b"%b: %b\r\n" % pair
            if pair[0] == _ENCODING:
                encoding = b""
        parts.append(line)
    parts.append(encoding)
    if request.body or request.method in _WITH_LENGTH:
        parts.append(b"content-length: %d\r\n\r\n" % len(request.body))
    else:
        parts.append(b"\r\n")
    return b"".join(parts)


def head_of_two(
    request: WebRequest, scheme: bytes, authority: bytes
) -> tuple[tuple[tuple[bytes, bytes], ...], Headers, int | None]:
    """The fields in HTTP/2 (RFC 9113, 8.3.1).

    Returns:
        those that other requests are likely to have too, those with a colon first; those that are different each
        time; and the body's length, where it is said.
    """
    method = request.method
    fields = [
        (b":method", method),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", request.target),
        _IDENTITY,
    ]
    fleeting = []
    for pair in request.headers:
        name = pair[0]
        if name in _FLEETING:
            fleeting.append(pair)
        else:
            fields.append(pair)
            if name == _ENCODING:
                fields.remove(_IDENTITY)
    length = len(request.body) if request.body or method in _WITH_LENGTH else None
    return tuple(fields), fleeting, length
