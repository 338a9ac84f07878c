"""From bytes to requests: the parser and what it does not look after by itself. No I/O.

`Intake.feed` takes bytes in any pieces; whole requests, and refusals in their place, come out in `Intake.queue`.
llhttp leaves to its caller: how many bytes a head or a trailer has, what a request with ``Upgrade`` is followed by,
and that trailers are no headers.
"""

from collections import deque
from itertools import chain
from typing import Final

import httptools

from erlmcp.interfaces import WireLimits
from erlmcp.transports.http._answers import Refusal
from erlmcp.transports.http._exchange import Exchange
from erlmcp.transports.http._familiar import FamiliarHeads
from erlmcp.transports.http._head import (
    ACCEPTS_BOTH,
    Headers,
    Purpose,
    Rules,
    accepted,
    too_large,
    unacceptable,
)
from erlmcp.transports.http._old_stream import made_for

SLICE: Final = 8192
"""The most bytes to feed at once. What one slice holds is the bound of the queue: the parser cannot be paused."""

_COMMON: Final = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Expect",
    "Host",
    "Last-Event-ID",
    "MCP-Protocol-Version",
    "MCP-Session-Id",
    "Mcp-Method",
    "Mcp-Name",
    "Mcp-Session-Id",
    "Origin",
    "Referer",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Site",
    "Traceparent",
    "Transfer-Encoding",
    "Upgrade",
    "User-Agent",
    "X-Forwarded-For",
)
# As they are usually written -> lower case; saves a call, and shares one object for each name.
_NAMES: Final[dict[bytes, bytes]] = {
    form.encode(): name.lower().encode() for name in _COMMON for form in (name, name.lower(), name.title())
}
_SPECIAL: Final = frozenset({b"content-encoding", b"expect", b"upgrade"})
# A field line has ": " and CR LF besides its name and value; a request line two spaces, version and CR LF.
_FIELD_EXTRA: Final = 4
_LINE_EXTRA: Final = 12

_MESSAGE: Purpose = Purpose.MESSAGE

_TOO_MANY: Final = Refusal(431, "the request has too many header fields", close=True)
_TOO_LONG: Final = Refusal(431, "the request line and header fields are too long", close=True)
_EMPTY_BYTES: Final = Refusal(431, "trailers or chunk extensions are too long", close=True)
_UPGRADE: Final = Refusal(
    501, "no upgrade is offered here; a body with Upgrade needs Content-Length", close=True
)


class _StopParsingError(Exception):
    """Raised through the parser to end it where it is: what follows a refusal that closes is not looked at."""


class Intake:
    """One parser and the request that it is in the middle of.

    An intake between two requests holds nothing of its connection, so idle connections need none: they share a pool.

    Args:
        rules: what a head must satisfy.
        limits: how much may come in.
        familiar: heads that were taken before.

    Attributes:
        queue: what is complete, in order.
        begun: whether a request has begun and is not complete.
        in_body: whether its head is complete.
        wants_continue: whether its sender waits for ``100 Continue``.
        stopped: whether no more can be fed: an error, or the last request of its connection.
        completed: requests completed so far.
    """

    __slots__ = (
        "_body",
        "_exchange",
        "_familiar",
        "_fed",
        "_headers",
        "_left",
        "_met",
        "_most_body",
        "_most_fields",
        "_most_head",
        "_parser",
        "_repeats",
        "_rules",
        "_size",
        "_target",
        "_tunnel",
        "_unproductive",
        "begun",
        "completed",
        "in_body",
        "queue",
        "stopped",
        "wants_continue",
    )

    def __init__(self, rules: Rules, limits: WireLimits, familiar: FamiliarHeads) -> None:
        self._rules = rules
        self._familiar = familiar
        self._met = b""
        self._most_fields = limits.header_count
        self._most_head = limits.headers
        self._most_body = limits.message
        self._parser = httptools.HttpRequestParser(self)
        self.queue: deque[Exchange] = deque()
        self.begun = False
        self.in_body = False
        self.wants_continue = False
        self.stopped = False
        self.completed = 0
        self._headers: Headers = {}
        self._target = b""
        self._repeats = 0
        self._fed = 0
        self._size = 0
        self._unproductive = 0
        self._exchange: Exchange | None = None
        self._body: bytes | bytearray = b""
        self._tunnel = False
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes, at most `SLICE` of them. Never raises for what they say."""
        if not (self.begun or self._left or self.stopped):
            data = self._recognize(data)
        while data:
            data = self._feed(data)

    def _recognize(self, data: bytes) -> bytes:
        """Take whole requests with familiar heads, past the parser; gives what follows them."""
        while data:
            head = self._familiar.find(data)
            if head is None:
                self._met = data
                break
            size = head.size + head.length
            if size > len(data):
                break
            exchange = Exchange(head.headers)
            exchange.body = data[head.size : size]
            self.queue.append(exchange)
            self.completed += 1
            data = data[size:]
        return data

    def _feed(self, data: bytes) -> bytes:
        """Take bytes up to the head of a request with ``Upgrade``; gives what follows it."""
        if self._left:
            data = self._take_by_length(data)
        if self._is_over() or not data:
            return b""
        self._fed += len(data)
        size = self._size
        skipped = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            skipped = upgrade.args[0]
        except httptools.HttpParserCallbackError:
            # One of our own methods raised: on purpose, or because it has a defect, which must not hide here.
            if not self._is_over():
                raise
        except httptools.HttpParserError as error:
            self._fail(Refusal(400, f"this is not HTTP: {error}", close=True))
        if skipped is not None:
            self._after_upgrade()
            return data[skipped:]
        if self.begun:
            self._bound(len(data), grown=self._size != size)
        return b""

    def _is_over(self) -> bool:
        return self.stopped

    def discard(self) -> None:
        """Break the cycle between the parser and this object; it cannot be used any more."""
        self.stopped = True
        del self._parser

    # What httptools calls

    def on_message_begin(self) -> None:
        """The first byte of a request line."""
        self.begun = True

    def on_url(self, part: bytes) -> None:
        """The request target, or a part of it."""
        self._target = self._target + part if self._target else part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole field: of the head, or of the trailers, which go to a dictionary that nobody reads."""
        key = _NAMES.get(name) or name.lower()
        if value[-1:] <= b" ":
            # The parser takes white space from the left alone.
            value = value.rstrip(b" \t")
        headers = self._headers
        if key in headers:
            self._repeats += 1
            value = headers[key] + b", " + value
        headers[key] = value

    def on_headers_complete(self) -> None:
        """The head is there: decide whether it is one we take."""
        headers, self._headers = self._headers, {}
        target, self._target = self._target, b""
        parser = self._parser
        if len(headers) + self._repeats > self._most_fields:
            self._stop(_TOO_MANY)
        # The bytes of the slice that it began in may not be counted in full.
        if self._fed + SLICE > self._most_head and self._length(target, headers) > self._most_head:
            self._stop(_TOO_LONG)
        keep = parser.should_keep_alive()
        # Without a Connection field only HTTP/1.1 goes on; asking for the version costs more than this.
        version = "1.1" if keep and b"connection" not in headers else parser.get_http_version()
        method = parser.get_method()
        found = self._rules.purpose(method, target, headers, version)
        if isinstance(found, Refusal):
            refusal, purpose = found, _MESSAGE
        else:
            refusal, purpose = None, found
        if purpose is _MESSAGE:
            exchange = Exchange(headers, keep=keep, legacy=version == "1.0")
        else:
            exchange = made_for(purpose, target, headers, keep=keep, legacy=version == "1.0")
        self._exchange = exchange
        admits = accepted(headers.get(b"accept", b""))
        usual = admits == ACCEPTS_BOTH and b"origin" not in headers and purpose is _MESSAGE
        if not usual:
            exchange.admit(admits, self._rules.visitors.cors(headers.get(b"origin", b"")))
            refusal = refusal or unacceptable(purpose, admits)
        if refusal is not None or not _SPECIAL.isdisjoint(headers):
            self._set_apart(exchange, refusal, method, headers, version)
        elif self._met and usual and exchange.plain and b"content-length" in headers:
            self._familiar.learn(self._met, headers, int(headers[b"content-length"]))
        self._met = b""
        self.in_body = True

    def _set_apart(
        self, exchange: Exchange, refusal: Refusal | None, method: bytes, headers: Headers, version: str
    ) -> None:
        """What only few requests need."""
        exchange.bare = method == b"HEAD"
        exchange.refusal = refusal
        self.wants_continue = version == "1.1" and b"expect" in headers
        # Whoever waits for 100 Continue gets the refusal instead, and need not send the body.
        if refusal is not None and (refusal.close or self.wants_continue):
            self._stop(Refusal(refusal.status, refusal.message, refusal.fields, close=True))
        if self._parser.should_upgrade():
            if b"transfer-encoding" in headers:
                self._stop(_UPGRADE)
            self._tunnel = True
        exchange.inflates = headers.get(b"content-encoding", b"identity").lower() != b"identity"

    def on_body(self, part: bytes) -> None:
        """Some of the body."""
        self.wants_continue = False
        if self._take(part):
            raise _StopParsingError

    def _take(self, part: bytes) -> bool:
        """Keep a part of the body; true if it is too much."""
        size = self._size = self._size + len(part)
        if size > self._most_body:
            self._fail(too_large(self._most_body))
            return True
        exchange = self._exchange
        if exchange is None or exchange.refusal is not None:
            return False
        body = self._body
        if not body:
            self._body = part
        else:
            if isinstance(body, bytes):
                body = self._body = bytearray(body)
            body += part
        return False

    def on_message_complete(self) -> None:
        """The end of a request; one with Upgrade only seems to be at its end."""
        if not self._tunnel:
            self._complete()

    def _complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None  # noqa: S101 - the parser completes no message without its head
        body, self._body = self._body, b""
        exchange.body = body if isinstance(body, bytes) else bytes(body)
        self.queue.append(exchange)
        self.completed += 1
        self.begun = self.in_body = self.wants_continue = False
        self._fed = self._size = self._unproductive = self._repeats = 0
        if self._headers:
            self._headers = {}
        if not exchange.keep:
            self.stopped = True

    def _bound(self, size: int, *, grown: bool) -> None:
        if not self.in_body:
            # A request may have begun anywhere in its first slice: only what is beyond that is surely its own.
            if self._fed > self._most_head + SLICE:
                self._fail(_TOO_LONG)
        elif grown:
            self._unproductive = 0
        else:
            self._unproductive += size
            if self._unproductive > self._most_head:
                self._fail(_EMPTY_BYTES)

    def _after_upgrade(self) -> None:
        """No upgrade happens (RFC 9110, 7.8: it may be ignored), so the body has the length that the head says.

        The parser thinks otherwise and has skipped the body; a new one goes on behind it.
        """
        self._tunnel = False
        self._parser = httptools.HttpRequestParser(self)
        headers = self._exchange.headers if self._exchange is not None else None
        self._left = int((headers or {}).get(b"content-length", b"0"))
        if not self._left:
            self._complete()

    def _take_by_length(self, data: bytes) -> bytes:
        part = data[: self._left]
        self._left -= len(part)
        self.wants_continue = self.wants_continue and not part
        if not self._take(part) and not self._left:
            self._complete()
        return data[len(part) :]

    def _length(self, target: bytes, headers: Headers) -> int:
        fields = sum(map(len, chain(headers, headers.values())))
        return _LINE_EXTRA + len(target) + fields + _FIELD_EXTRA * (len(headers) + self._repeats)

    def _stop(self, refusal: Refusal) -> None:
        self._fail(refusal)
        raise _StopParsingError

    def _fail(self, refusal: Refusal) -> None:
        if self.stopped:
            return
        exchange = self._exchange or Exchange(None)
        exchange.refusal = refusal
        exchange.keep = False
        self.stopped = True
        self.begun = self.wants_continue = False
        self._exchange = None
        self._body = b""
        self._left = 0
        self.queue.append(exchange)
