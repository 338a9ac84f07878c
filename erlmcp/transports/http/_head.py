"""Whether the head of a request is one that this transport takes. Pure: bytes in, a refusal or nothing out.

Framing is checked here as well, because the parser alone does not: it takes ``gzip, chunked``, HTTP/0.9 and a
request without Host.
"""

from functools import lru_cache
from typing import Final

from erlmcp.transports.http._answers import Refusal
from erlmcp.transports.http._origin import Visitors

Headers = dict[bytes, bytes]

ACCEPTS_JSON: Final = 1
ACCEPTS_STREAM: Final = 2
ACCEPTS_BOTH: Final = ACCEPTS_JSON | ACCEPTS_STREAM

_ALLOW: Final = b"Allow: POST, OPTIONS\r\n"
_RARE: Final = frozenset({b"content-encoding", b"expect", b"transfer-encoding"})
_JSON_TYPES: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})
_REMEMBERED_SIZE: Final = 256
# What the specification asks of clients, as they write it; and no field at all.
_USUAL_ACCEPTS: Final = frozenset(
    {b"", b"*/*", b"application/json, text/event-stream", b"application/json,text/event-stream"}
)

_NO_HOST: Final = Refusal(400, "the request needs exactly one valid Host header field", close=True)
_WRONG_AUTHORITY: Final = Refusal(400, "the host in the request target is not the one in Host", close=True)
_FOREIGN_HOST: Final = Refusal(
    403, "the Host header field does not name this server; 'hosts' lists further names"
)
_FOREIGN_ORIGIN: Final = Refusal(
    403, "the Origin header field names no origin that is allowed here; see 'origins'"
)
_NOT_HERE: Final = Refusal(404, "there is nothing at this path; see the 'path' of the listener")
_METHOD: Final = Refusal(405, "messages are sent with POST", _ALLOW)
_TUNNEL: Final = Refusal(405, "this server is no proxy; messages are sent with POST", _ALLOW, close=True)
_VERSION: Final = Refusal(505, "the request must be HTTP/1.1 or HTTP/1.0", close=True)
_CODING: Final = Refusal(501, "the only transfer coding taken here is 'chunked', alone", close=True)
_OLD_CODING: Final = Refusal(400, "HTTP/1.0 has no transfer codings; say Content-Length", close=True)
_TWO_LENGTHS: Final = Refusal(400, "Content-Length and Transfer-Encoding exclude each other", close=True)
_NO_LENGTH: Final = Refusal(411, "a POST needs Content-Length, or 'Transfer-Encoding: chunked'")
_TYPE: Final = Refusal(
    415, "the Content-Type must be application/json, in UTF-8", b"Accept: application/json\r\n"
)
_ENCODING: Final = Refusal(415, "the Content-Encoding must be gzip, or none", b"Accept-Encoding: gzip\r\n")
_EXPECTATION: Final = Refusal(417, "the only expectation met here is 100-continue", close=True)
NOT_ACCEPTABLE: Final = Refusal(406, "Accept must admit application/json, text/event-stream or, best, both")


def too_large(limit: int) -> Refusal:
    """413, with the limit in bytes."""
    return Refusal(413, f"a message has at most {limit} bytes, also once inflated", close=True)


class Rules:
    """What one listener demands of a request's head.

    Args:
        path: the path of the MCP endpoint.
        visitors: the rules for Origin and Host.
        message: the largest body, in bytes.
    """

    __slots__ = ("_message", "_path", "_too_large", "visitors")

    def __init__(self, path: bytes, visitors: Visitors, message: int) -> None:
        self._path = path
        self.visitors = visitors
        self._message = message
        self._too_large = too_large(message)

    def refusal(self, method: bytes, target: bytes, headers: Headers, version: str = "1.1") -> Refusal | None:
        """Why a request is not taken, or None if it is.

        Args:
            method: as the parser read it.
            target: the request target.
            headers: names in lower case, repeated fields joined with ``b", "``.
            version: HTTP's, such as ``1.1``.
        """
        host = headers.get(b"host")
        found = self._about_visitor(host, headers, version)
        if found is not None:
            return found
        if method == b"CONNECT":
            # Whoever asks for a tunnel believes that what follows is no HTTP.
            return _TUNNEL
        if target != self._path:
            found = self._about_target(target, host)
            if found is not None:
                return found
        if method != b"POST":
            return self._about_method(method, headers)
        if not _RARE.isdisjoint(headers):
            found = _about_rare(headers, version)
            if found is not None:
                return found
        return self._about_body(headers)

    def _about_body(self, headers: Headers) -> Refusal | None:
        length = headers.get(b"content-length")
        if length is None:
            if b"transfer-encoding" not in headers:
                return _NO_LENGTH
        elif int(length) > self._message:
            return self._too_large
        kind = headers.get(b"content-type", b"")
        if kind not in _JSON_TYPES and not _is_json(kind):
            return _TYPE
        return None

    def _about_visitor(self, host: bytes | None, headers: Headers, version: str) -> Refusal | None:
        if version != "1.1" and version != "1.0":
            return _VERSION
        visitors = self.visitors
        if host is None:
            if version == "1.1":
                return _NO_HOST
        elif not visitors.host_is_ours(host):
            return _FOREIGN_HOST if visitors.host_is_valid(host) else _NO_HOST
        origin = headers.get(b"origin")
        if origin is not None and not visitors.origin_is_allowed(origin):
            return _FOREIGN_ORIGIN
        return None

    def _about_target(self, target: bytes, host: bytes | None) -> Refusal | None:
        if target.lower().startswith((b"http://", b"https://")):
            # RFC 9112, 3.2.2: a server must take the absolute form; its authority takes the place of Host.
            authority, slash, path = target.partition(b"://")[2].partition(b"/")
            if host is not None and authority.lower() != host.lower():
                return _WRONG_AUTHORITY
            target = slash + path
        return None if target.partition(b"?")[0] == self._path else _NOT_HERE

    def _about_method(self, method: bytes, headers: Headers) -> Refusal:
        if method == b"OPTIONS":
            requested = headers.get(b"access-control-request-headers", b"")
            return Refusal(204, "", _ALLOW + self.visitors.preflight(headers.get(b"origin", b""), requested))
        return _METHOD


def _about_rare(headers: Headers, version: str) -> Refusal | None:
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if b"content-length" in headers:
            return _TWO_LENGTHS
        if version == "1.0":
            return _OLD_CODING
        if coding.lower() != b"chunked":
            return _CODING
    if version == "1.1" and headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        return _EXPECTATION
    if headers.get(b"content-encoding", b"identity").lower() not in {b"identity", b"gzip", b"x-gzip"}:
        return _ENCODING
    return None


def _is_json(kind: bytes) -> bool:
    media, *parameters = [part.strip().lower() for part in kind.split(b";")]
    charsets = [part.partition(b"=")[2].strip(b'" ') for part in parameters if part.startswith(b"charset")]
    return media == b"application/json" and all(charset in {b"utf-8", b"utf8"} for charset in charsets)


def accepted(accept: bytes) -> int:
    """What an Accept field admits: `ACCEPTS_JSON`, `ACCEPTS_STREAM`, both added up, or 0 (RFC 9110, 12.5.1)."""
    if accept in _USUAL_ACCEPTS:
        return ACCEPTS_BOTH
    return _remembered(accept) if len(accept) <= _REMEMBERED_SIZE else _accepted(accept)


def _accepted(accept: bytes) -> int:
    weights: dict[bytes, bool] = {}
    for part in accept.lower().split(b","):
        media, *parameters = [piece.strip() for piece in part.split(b";")]
        weights[media] = not any(_is_zero(parameter) for parameter in parameters)
    every = weights.get(b"*/*", False)
    json = weights.get(b"application/json", weights.get(b"application/*", every))
    stream = weights.get(b"text/event-stream", weights.get(b"text/*", every))
    return ACCEPTS_JSON * json + ACCEPTS_STREAM * stream


def _is_zero(parameter: bytes) -> bool:
    name, _, value = parameter.partition(b"=")
    return name.strip() == b"q" and value.strip().rstrip(b"0") in {b"", b"0.", b"."}


_remembered = lru_cache(256)(_accepted)
