"""Whether the head of a request is one that this transport takes. Pure: bytes in, a refusal or nothing out.

Framing is checked here as well, because the parser alone does not: it takes ``gzip, chunked``, HTTP/0.9 and a
request without Host.
"""

from enum import IntEnum
from functools import lru_cache
from typing import Final

from erlmcp.protocol import bare_http_status
from erlmcp.transports.http._answers import Refusal
from erlmcp.transports.http._origin import Visitors

Headers = dict[bytes, bytes]
Fields = tuple[tuple[bytes, bytes], ...]

ACCEPTS_JSON: Final = 1
ACCEPTS_STREAM: Final = 2
ACCEPTS_BOTH: Final = ACCEPTS_JSON | ACCEPTS_STREAM

_ALLOW: Final = b"Allow: POST, OPTIONS\r\n"
_BAD_REQUEST: Final = 400
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
_NO_SESSION: Final = Refusal(405, "without a session, messages are sent with POST", _ALLOW)
_SESSION_NEEDED: Final = Refusal(
    400, "GET and DELETE need the Mcp-Session-Id that 'initialize' was answered with"
)
_TUNNEL: Final = Refusal(405, "this server is no proxy; messages are sent with POST", _ALLOW, close=True)
_VERSION: Final = Refusal(505, "the request must be HTTP/2, HTTP/1.1 or HTTP/1.0", close=True)
_VERSIONS: Final = frozenset({"1.1", "1.0", "2"})
_CODING: Final = Refusal(501, "the only transfer coding taken here is 'chunked', alone", close=True)
_OLD_CODING: Final = Refusal(400, "HTTP/1.0 has no transfer codings; say Content-Length", close=True)
_TWO_LENGTHS: Final = Refusal(400, "Content-Length and Transfer-Encoding exclude each other", close=True)
_NO_LENGTH: Final = Refusal(411, "a POST needs Content-Length, or 'Transfer-Encoding: chunked'")
_TYPE: Final = Refusal(
    415, "the Content-Type must be application/json, in UTF-8", b"Accept: application/json\r\n"
)
_ENCODING: Final = Refusal(415, "the Content-Encoding must be gzip, or none", b"Accept-Encoding: gzip\r\n")
_EXPECTATION: Final = Refusal(417, "the only expectation met here is 100-continue", close=True)
_NOT_ACCEPTABLE: Final = Refusal(406, "Accept must admit application/json, text/event-stream or, best, both")
_STREAM_NOT_ACCEPTABLE: Final = Refusal(406, "Accept must admit text/event-stream: GET opens a stream")


class Purpose(IntEnum):
    """What a request that is taken is for."""

    MESSAGE = 0
    """POST on the MCP path."""
    OPEN = 1
    """GET on the MCP path, with a session: a stream of its own."""
    DELETE = 2
    """DELETE on the MCP path: the end of a session."""
    OLD_STREAM = 3
    """GET on the stream's path of revision 2024-11-05."""
    OLD_MESSAGE = 4
    """POST on the messages' path of revision 2024-11-05."""


# A member looked up in its class costs as much as a call.
_MESSAGE: Purpose = Purpose.MESSAGE

_MCP: Final = {b"POST": Purpose.MESSAGE, b"GET": Purpose.OPEN, b"DELETE": Purpose.DELETE}
_OLD_STREAM: Final = {b"GET": Purpose.OLD_STREAM}
_OLD_MESSAGES: Final = {b"POST": Purpose.OLD_MESSAGE}


def too_large(limit: int) -> Refusal:
    """413, with the limit in bytes."""
    return Refusal(413, f"a message has at most {limit} bytes, also once inflated", close=True)


class Rules:
    """What one listener demands of a request's head.

    Args:
        path: the path of the MCP endpoint.
        visitors: the rules for Origin and Host.
        message: the largest body, in bytes.
        old_stream: the stream's path of revision 2024-11-05; empty where that is not served.
        old_messages: the path to which its messages are posted.

    Attributes:
        visitors: as above.
        old_messages: as above.
    """

    __slots__ = ("_message", "_path", "_paths", "_too_large", "old_messages", "visitors")

    def __init__(
        self,
        path: bytes,
        visitors: Visitors,
        message: int,
        old_stream: bytes = b"",
        old_messages: bytes = b"/messages",
    ) -> None:
        self._path = path
        self._paths = {path: _MCP}
        if old_stream:
            self._paths |= {old_stream: _OLD_STREAM, old_messages: _OLD_MESSAGES}
        self.old_messages = old_messages
        self.visitors = visitors
        self._message = message
        self._too_large = too_large(message)

    def purpose(
        self, method: bytes, target: bytes, headers: Headers, version: str = "1.1"
    ) -> Purpose | Refusal:
        """What a request is for, or why it is not taken.

        Args:
            method: as the parser read it.
            target: the request target.
            headers: names in lower case, repeated fields joined with ``b", "``.
            version: HTTP's: ``2``, ``1.1`` or ``1.0``.
        """
        host = headers.get(b"host")
        found = self._about_visitor(host, headers, version)
        if found is not None:
            return found
        if method == b"CONNECT":
            # Whoever asks for a tunnel believes that what follows is no HTTP.
            return _TUNNEL
        if target == self._path and method == b"POST":
            purpose = _MESSAGE
        else:
            asked = self._about_target(method, target, headers)
            if isinstance(asked, Refusal):
                return asked
            purpose = asked
        if not _RARE.isdisjoint(headers):
            found = _about_rare(headers, version)
            if found is not None:
                return found
        if purpose is _MESSAGE or purpose is Purpose.OLD_MESSAGE:
            found = self._about_body(headers, version)
            if found is not None:
                return found
        return purpose

    def _about_body(self, headers: Headers, version: str) -> Refusal | None:
        length = headers.get(b"content-length")
        if length is None:
            # HTTP/2 says by itself where a body ends.
            if b"transfer-encoding" not in headers and version != "2":
                return _NO_LENGTH
        elif int(length) > self._message:
            return self._too_large
        kind = headers.get(b"content-type", b"")
        if kind not in _JSON_TYPES and not _is_json(kind):
            return _TYPE
        return None

    def _about_visitor(self, host: bytes | None, headers: Headers, version: str) -> Refusal | None:
        if version not in _VERSIONS:
            return _VERSION
        visitors = self.visitors
        if host is None:
            if version != "1.0":
                return _NO_HOST
        elif not visitors.host_is_ours(host):
            return _FOREIGN_HOST if visitors.host_is_valid(host) else _NO_HOST
        origin = headers.get(b"origin")
        if origin is not None and not visitors.origin_is_allowed(origin):
            return _FOREIGN_ORIGIN
        return None

    def _about_target(self, method: bytes, target: bytes, headers: Headers) -> Purpose | Refusal:
        if target.lower().startswith((b"http://", b"https://")):
            # RFC 9112, 3.2.2: a server must take the absolute form; its authority takes the place of Host.
            authority, slash, path = target.partition(b"://")[2].partition(b"/")
            host = headers.get(b"host")
            if host is not None and authority.lower() != host.lower():
                return _WRONG_AUTHORITY
            target = slash + path
        methods = self._paths.get(target.partition(b"?")[0])
        if methods is None:
            return _NOT_HERE
        purpose = methods.get(method)
        if purpose is None:
            return self._about_method(method, methods, headers)
        if purpose is Purpose.OPEN or purpose is Purpose.DELETE:
            status = bare_http_status(
                session=b"mcp-session-id" in headers, version_header=headers.get(b"mcp-protocol-version")
            )
            if status is not None:
                return _SESSION_NEEDED if status == _BAD_REQUEST else _NO_SESSION
        return purpose

    def _about_method(self, method: bytes, methods: dict[bytes, Purpose], headers: Headers) -> Refusal:
        served = b", ".join(methods)
        allow = b"Allow: %b, OPTIONS\r\n" % served
        if method == b"OPTIONS":
            requested = headers.get(b"access-control-request-headers", b"")
            origin = headers.get(b"origin", b"")
            return Refusal(204, "", allow + self.visitors.preflight(origin, requested, served))
        return Refusal(405, f"the methods at this path are {served.decode()}", allow)


def _about_rare(headers: Headers, version: str) -> Refusal | None:
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if b"content-length" in headers:
            return _TWO_LENGTHS
        if version == "1.0":
            return _OLD_CODING
        if coding.lower() != b"chunked":
            return _CODING
    if version != "1.0" and headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        return _EXPECTATION
    if headers.get(b"content-encoding", b"identity").lower() not in {b"identity", b"gzip", b"x-gzip"}:
        return _ENCODING
    return None


def _is_json(kind: bytes) -> bool:
    media, *parameters = [part.strip().lower() for part in kind.split(b";")]
    charsets = [part.partition(b"=")[2].strip(b'" ') for part in parameters if part.startswith(b"charset")]
    return media == b"application/json" and all(charset in {b"utf-8", b"utf8"} for charset in charsets)


def unacceptable(purpose: Purpose, admits: int) -> Refusal | None:
    """406 where the client accepts nothing that an answer to such a request may be."""
    if purpose is Purpose.OPEN or purpose is Purpose.OLD_STREAM:
        return None if admits & ACCEPTS_STREAM else _STREAM_NOT_ACCEPTABLE
    # What is posted to the old path, and what is deleted, is answered without content.
    return _NOT_ACCEPTABLE if purpose is _MESSAGE and not admits else None


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
