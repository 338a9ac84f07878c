"""One HTTP exchange with an MCP server: sent with what authorizes it, sent again where the server asks for that.

Here the form of an answer is read: one JSON document, a stream of events, nothing, or a refusal. What it means is
for the classes over it.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from erlmcp.client._http_site import Headers, Site
from erlmcp.client._sse import EventStream, SseError
from erlmcp.client._wire import WireError
from erlmcp.web import Ongoing, WebError, WebRequest, join_url, split_url

_WAITING, _JSON, _EVENTS, _EMPTY, _REFUSED, _OVER = range(6)

_JSON_TYPES: Final = frozenset((b"application/json", b"text/json"))
_EVENT_TYPE: Final = b"text/event-stream"
_SHOWN: Final = 200  # characters of a refusal in an error
_CHALLENGES: Final = (401, 403)
_TEXT: Final = 16 * 1024  # bytes of a refusal that is no JSON


class Refusal:
    """An answer outside 200 to 299.

    Attributes:
        document: the body if it is called JSON, else None.
    """

    __slots__ = ("document", "status", "text")

    def __init__(self, status: int, body: bytes, *, is_json: bool) -> None:
        self.status = status
        self.document = body if is_json and body.strip() else None
        self.text = body[: 4 * _SHOWN].decode("utf-8", "replace")[:_SHOWN].strip()

    def error(self, **what: Any) -> WireError:
        """The refusal as an error; `what` are further attributes of it."""
        said = f": {self.text}" if self.text else ""
        return WireError(f"HTTP status {self.status}{said}", status=self.status, **what)


class Exchange(ABC):
    """A request and what is answered. A subclass says what is sent and takes what comes.

    One of `answer`, `finished`, `refused` and `broken` ends it; before that, a stream brings `event`. What is called
    may `stop` the exchange, and may `start` it again once it has ended.

    Args:
        site: where it goes.
        verb: the HTTP method.
    """

    asks = True
    """Whether a user may be asked for authorization."""
    urgent = False
    """Whether it may not wait behind requests, which may be waiting for it: an answer to a question, a cancellation."""

    __slots__ = (
        "_challenges",
        "_content",
        "_head",
        "_is_json",
        "_ongoing",
        "_paused",
        "_phase",
        "_redirects",
        "_sent",
        "_site",
        "_size",
        "_status",
        "_turn",
        "_url",
        "_verb",
        "stream",
    )

    def __init__(self, site: Site, verb: str) -> None:
        self._site = site
        self._verb = verb
        self._url = site.url
        self._phase = _OVER
        self._ongoing: Ongoing | None = None
        self._sent: Headers = ()
        self._paused = False
        self._challenges = 0
        self._redirects = 0
        self._turn = (
            0  # which attempt it is, so that what was asked for an earlier one is not taken for this one
        )
        self.stream: EventStream | None = None

    # What a subclass says.

    @abstractmethod
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The headers, authorization aside."""

    def content(self) -> bytes:
        """The body."""
        return b""

    def wants_answer(self) -> bool:
        """Whether there may be something in the answer; if not, its body is passed over."""
        return True

    def last_id(self) -> bytes:
        """The id of the event after which the stream is taken up, if it is."""
        return b""

    def begun(  # noqa: B027 - for those whom it concerns
        self, status: int, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """The head of a good answer has come."""

    def answer(self, document: bytes, status: int) -> None:  # noqa: B027 - not where none is wanted
        """The answer is one JSON document."""

    def event(self, kind: bytes, data: bytes) -> None:  # noqa: B027 - not where no answer is wanted
        """An event came."""

    def waits(self) -> None:  # noqa: B027 - for those whom it concerns
        """It waits for authorization, for which a user may be asked."""

    def goes_on(self) -> None:  # noqa: B027 - for those whom it concerns
        """It waits no more."""

    @abstractmethod
    def finished(self) -> None:
        """The answer is complete, and was a stream or nothing."""

    @abstractmethod
    def refused(self, refusal: Refusal) -> None:
        """The server answers with another status than 2xx."""

    @abstractmethod
    def broken(self, error: WireError) -> None:
        """There is no answer, no more of it, or none that can be read."""

    # What its owner does.

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way."""
        return self._phase == _OVER

    def start(self) -> None:
        """Send it, unless it is under way. That it cannot be authorized may be told within the call."""
        if self._phase != _OVER:
            return
        self._phase = _WAITING
        self._content: bytes | bytearray = b""
        self._size = 0
        self._status = 0
        self._is_json = False
        self._head: list[tuple[bytes, bytes]] = []
        self.stream = None
        self._turn += 1
        authorization = self._site.authorization
        if authorization is None:
            self._send(())
            return
        headers = authorization.ready(self._verb, self._url)
        if headers is None and not self.asks:
            headers = ()
        if headers is None:
            self._await(authorization.headers(self._verb, self._url), self._send)
        else:
            self._send(headers)

    def stop(self) -> None:
        """End it without a word."""
        self._phase = _OVER
        ongoing, self._ongoing = self._ongoing, None
        if ongoing is not None:
            ongoing.abort()

    def pause(self) -> None:
        """Read no more of the answer for now."""
        self._paused = True
        if self._ongoing is not None:
            self._ongoing.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        if self._ongoing is not None:
            self._ongoing.resume()

    # What the pool calls.

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The answer begins."""
        kind = encoding = b""
        for name, value in headers:
            if name == b"content-type":
                kind = value.partition(b";")[0].strip().lower()
            elif name == b"content-encoding":
                encoding = value.strip().lower()
        self._status = status
        self._head = headers
        authorization = self._site.authorization
        if authorization is not None and authorization.observes and status not in _CHALLENGES:
            authorization.observed(headers)
        self._is_json = kind in _JSON_TYPES or kind.endswith(b"+json")
        if not 200 <= status <= 299:
            self._phase = _REFUSED
            return
        self._challenges = self._redirects = 0  # what lasts for days may need a new token many times
        if encoding not in (b"", b"identity"):
            self._fail(f"answers with content-encoding {_shown(encoding)}, which was not asked for")
            return
        self.begun(status, headers)
        if self._phase == _OVER:
            return
        if status in (202, 204) or not self.wants_answer():
            self._phase = _EMPTY
        elif kind == _EVENT_TYPE:
            self._phase = _EVENTS
            self.stream = EventStream(self._site.limits.message, self.last_id())
        elif self._is_json:
            self._phase = _JSON
        elif _is_empty(headers):
            self._phase = _EMPTY
        else:
            self._fail(
                f"answers with content type {_shown(kind) or 'none'}, "
                "which is neither application/json nor text/event-stream"
            )

    def body(self, data: bytes) -> None:
        """A part of the body."""
        if self._phase == _EVENTS:
            self._read(data)
            return
        if self._phase not in (_JSON, _EMPTY, _REFUSED):
            return
        self._size += len(data)
        if self._phase == _EMPTY:
            if self._size > _TEXT:  # nothing was to come: the rest is not waited for
                self.stop()
                self.finished()
            return
        limit = self._site.limits.message if self._is_json else _TEXT
        if self._size <= limit:
            self._keep(data)
        elif self._phase == _REFUSED:
            self._is_json = False
            ongoing, self._ongoing = self._ongoing, None
            if ongoing is not None:
                ongoing.abort()
            self.done()
        else:
            self._fail(f"answers with more than {limit} bytes")

    def done(self) -> None:
        """The answer is complete."""
        self._ongoing = None
        phase, self._phase = self._phase, _OVER
        if phase == _JSON:
            self.answer(bytes(self._content), self._status)
        elif phase == _REFUSED:
            self._judge(Refusal(self._status, bytes(self._content), is_json=self._is_json))
        elif phase in (_EVENTS, _EMPTY):
            self.finished()

    def failed(self, error: WebError) -> None:
        """There is no answer, or no more of it."""
        self._ongoing = None
        if self._phase != _OVER:
            self._phase = _OVER
            self.broken(WireError(str(error), unsent=error.unsent))

    # Its own.

    def _send(self, authorization: Headers) -> None:
        site = self._site
        self._sent = authorization
        if self._url is site.url:
            origin, target = site.origin, site.target
        else:
            origin, target = split_url(self._url)
        request = WebRequest(
            self._verb.encode(), target, [*self.fields(), *site.headers, *authorization], self.content()
        )
        self._ongoing = site.pool.send(origin, request, self, urgent=self.urgent)
        if self._paused:
            self._ongoing.pause()

    def _keep(self, data: bytes) -> None:
        content = self._content
        if not content:
            # Most answers come in one piece, of which no copy is made.
            self._content = data
            return
        if isinstance(content, bytes):
            # A list of pieces would be many times as large as what a server sends in pieces of a few bytes.
            content = self._content = bytearray(content)
        content += data

    def _read(self, data: bytes) -> None:
        stream = self.stream
        if stream is None:
            return
        try:
            events = stream.feed(data)
        except SseError as error:
            self._fail(f"answers with an event stream that is not taken: {error}")
            return
        for kind, content in events:
            self.event(kind, content)
            if self.stream is not stream or self._phase != _EVENTS:
                return

    def _fail(self, what: str) -> None:
        self.stop()
        self.broken(WireError(f"the server {what}", status=self._status))

    def _judge(self, refusal: Refusal) -> None:
        """Follow a redirect, answer a challenge, or take the refusal for what it is."""
        if refusal.status in (307, 308):
            self._redirected()
            return
        site = self._site
        if (
            refusal.status in _CHALLENGES
            and self.asks
            and site.authorization is not None
            and self._challenges < site.limits.challenges
        ):
            self._challenges += 1
            self._phase = _WAITING
            asked = site.authorization.challenged(
                refusal.status, self._head, self._verb, self._url, self._sent
            )
            self._await(asked, self._again, refusal)
            return
        self.refused(refusal)

    def _redirected(self) -> None:
        location = next((value for name, value in self._head if name == b"location"), b"")
        try:
            url = join_url(self._url, location.decode("ascii")).partition("#")[0]
            origin, _ = split_url(url)
        except ValueError as error:
            self._misled(f"leads nowhere: {error}")
            return
        if not location or origin != self._site.origin or self._redirects >= self._site.limits.redirects:
            self._misled("is one too many" if origin == self._site.origin else f"leads away to {origin}")
            return
        self._redirects += 1
        self._url = url
        self.start()

    def _misled(self, why: str) -> None:
        self.broken(WireError(f"HTTP status {self._status}, and the redirect {why}", status=self._status))

    def _again(self, is_worth_it: bool, refusal: Refusal) -> None:
        self._phase = _OVER
        if is_worth_it:
            self.start()
        else:
            self.refused(refusal)

    def _await(self, awaitable: Awaitable[Any], then: Any, *further: Any) -> None:
        async def wait() -> Any:
            return await awaitable

        turn = self._turn
        self.waits()

        def came(result: Any) -> None:
            if self._phase == _WAITING and self._turn == turn:
                self.goes_on()
                then(result, *further)

        def failed(failure: Failure) -> None:
            if self._phase != _WAITING or self._turn != turn:
                return
            self.goes_on()
            self._phase = _OVER
            cause = failure.value
            # Nothing was done: either nothing was sent, or the server refused it for want of authorization.
            error = WireError(
                f"it could not be authorized: {cause}",
                status=self._status or None,
                unsent=not self._status,
            )
            error.__cause__ = cause
            self.broken(error)

        Deferred.fromCoroutine(wait()).addCallbacks(came, failed)


def _is_empty(headers: Headers) -> bool:
    return any(name == b"content-length" and value.strip() == b"0" for name, value in headers)


def _shown(value: bytes) -> str:
    return value[:_SHOWN].decode("ascii", "replace")
