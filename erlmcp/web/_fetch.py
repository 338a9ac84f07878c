"""One request, one whole answer: for what is asked now and then, such as metadata and tokens."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred

from erlmcp.web._pool import Pool
from erlmcp.web._types import Ongoing, Origin, WebError, WebRequest
from erlmcp.web._urls import join_url, split_url

Text = str | bytes

_MEGABYTE: Final = 1024 * 1024
_MOVED: Final = frozenset((301, 302, 303, 307, 308))
_ASKED_ELSEWHERE: Final = 303
_KEPT: Final = frozenset((307, 308))
_SECRET: Final = frozenset((b"authorization", b"cookie", b"dpop", b"proxy-authorization"))
_OF_BODY: Final = b"content-"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer.

    Attributes:
        status: 200 to 599.
        headers: names in lower case, in order.
        body: as it came.
        url: who answered, after redirects.
    """

    status: int
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    url: str

    def header(self, name: str) -> str | None:
        """The first header of a name, in any case; None if there is none."""
        wanted = name.lower().encode("ascii")
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), None)


class _Whole:
    """Gathers an answer, up to a bound."""

    def __init__(self, limit: int) -> None:
        self.done_with: Deferred[None] = Deferred(self._cancelled)
        self.ongoing: Ongoing | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.content = bytearray()
        self._size = 0
        self._limit = limit

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """See `Receiver`."""
        self.status = status
        self.headers = headers

    def body(self, data: bytes) -> None:
        """See `Receiver`."""
        self._size += len(data)
        if self._size <= self._limit:
            self.content += data
        else:
            self.stop(WebError(f"the answer is longer than {self._limit} bytes"))

    def done(self) -> None:
        """See `Receiver`."""
        self.done_with.callback(None)

    def failed(self, error: WebError) -> None:
        """See `Receiver`."""
        self.done_with.errback(error)

    def stop(self, error: WebError) -> None:
        """Give up."""
        if not self.done_with.called:
            if self.ongoing is not None:
                self.ongoing.abort()
            self.done_with.errback(error)

    def _cancelled(self, _deferred: Deferred[None]) -> None:
        if self.ongoing is not None:
            self.ongoing.abort()


async def fetch(
    pool: Pool,
    method: Text,
    url: str,
    *,
    headers: Iterable[tuple[Text, Text]] = (),
    body: bytes = b"",
    limit: int = _MEGABYTE,
    timeout: float = 30.0,  # noqa: ASYNC109 - there is no asyncio here
    follow: int = 0,
) -> Fetched:
    """Ask, and wait for the whole answer, whatever its status.

    Args:
        pool: whose connections are used.
        method: such as ``GET``.
        url: absolute; see `split_url`.
        headers: names in any case.
        body: the whole body of the request.
        limit: how long the answer's body may be, in bytes.
        timeout: seconds for all of it, redirects too.
        follow: how many redirects are followed. None leads from https to http; to another origin go neither
            credentials nor a body.

    Raises:
        ValueError: the URL is not one.
        WebError: there is no answer, not in time, or it is too long.
    """
    verb = _encode(method)
    fields = tuple((_encode(name).lower(), _encode(value)) for name, value in headers)
    clock = pool.reactor
    ends = clock.seconds() + timeout
    while True:
        origin, target = split_url(url)
        left = ends - clock.seconds()
        answer = await _once(pool, origin, WebRequest(verb, target, fields, body), limit, left, timeout)
        location = _location(answer) if follow > 0 else None
        if location is None:
            return Fetched(answer.status, answer.headers, bytes(answer.content), url)
        follow -= 1
        url, before = _next(url, location), origin
        after, _ = split_url(url)
        if before.scheme == "https" and after.scheme != "https":
            raise WebError(f"{before}: it redirects to {after}, which is not https")
        if answer.status not in _KEPT and verb not in (b"GET", b"HEAD"):
            verb, body = b"GET", b""
            fields = tuple(pair for pair in fields if not pair[0].startswith(_OF_BODY))
        if after != before:
            if body:
                raise WebError(f"{before}: it redirects a body to {after}")
            fields = tuple(pair for pair in fields if pair[0] not in _SECRET)


async def _once(
    pool: Pool,
    origin: Origin,
    request: WebRequest,
    limit: int,
    left: float,
    timeout: float,  # noqa: ASYNC109
) -> _Whole:
    whole = _Whole(limit)
    late = WebError(f"{origin}: no whole answer within {timeout:g} s")
    timer = pool.reactor.callLater(max(0.0, left), whole.stop, late)
    whole.ongoing = pool.send(origin, request, whole)
    try:
        await whole.done_with
    finally:
        if timer.active():
            timer.cancel()
    return whole


def _location(answer: _Whole) -> str | None:
    if answer.status not in _MOVED:
        return None
    return next((value.decode("latin-1") for name, value in answer.headers if name == b"location"), None)


def _next(url: str, location: str) -> str:
    try:
        joined = join_url(url, location)
        split_url(joined)
    except ValueError as error:
        raise WebError(f"{url} redirects to what is no URL: {error}") from None
    return joined


def _encode(text: Text) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
