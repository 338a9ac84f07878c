"""Stand-ins for the client's wires: an HTTP pool that records and answers by hand, an inbox that keeps what comes."""

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from erlmcp.client._http_site import HttpLimits, Site
from erlmcp.client._wire import Outgoing, WireError
from erlmcp.web import Origin, WebError, WebRequest

JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream")


@dataclass
class Asked:
    """One request that a pool was given, and the hand that answers it."""

    origin: Origin
    request: WebRequest
    receiver: Any
    aborted: bool = False
    paused: list[bool] = field(default_factory=list)
    urgent: bool = False

    def abort(self) -> None:
        self.aborted = True

    def pause(self) -> None:
        self.paused.append(True)

    def resume(self) -> None:
        self.paused.append(False)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.request.headers)

    def head(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        self.receiver.head(status, list(headers))

    def events(self, text: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Begin a stream with these bytes."""
        self.head(200, SSE, *headers)
        self.receiver.body(text)

    def answer(self, status: int = 200, body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
        """Answer with a document, the whole of it."""
        self.receiver.head(status, [JSON, *headers] if body else [(b"content-length", b"0"), *headers])
        if body and not self.aborted:
            self.receiver.body(body)
        if not self.aborted:
            self.receiver.done()

    def fail(self, message: str = "the connection broke", *, unsent: bool = False) -> None:
        self.receiver.failed(WebError(message, unsent=unsent))


class FakePool:
    """A pool whose server is the test."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def send(self, origin: Origin, request: WebRequest, receiver: Any, *, urgent: bool = False) -> Asked:
        self.asked.append(Asked(origin, request, receiver, urgent=urgent))
        return self.asked[-1]

    @property
    def last(self) -> Asked:
        return self.asked[-1]


class KeepingInbox:
    """Keeps what a wire brings; settles a request when a document with `answer` in it comes."""

    def __init__(self, answer: bytes = b'"result"') -> None:
        self.answer = answer
        self.got: list[tuple[bytes, Outgoing | None]] = []
        self.failures: list[tuple[Outgoing, WireError]] = []
        self.ends: list[Outgoing] = []
        self.losses: list[WireError] = []

    def received(self, data: bytes, via: Outgoing | None) -> None:
        self.got.append((data, via))
        if via is not None and self.answer in data:
            via.settled = True

    def failed(self, outgoing: Outgoing, error: WireError) -> None:
        self.failures.append((outgoing, error))

    def ended(self, outgoing: Outgoing) -> None:
        self.ends.append(outgoing)

    def lost(self, error: WireError) -> None:
        self.losses.append(error)

    def full(self, is_full: bool) -> None:
        raise AssertionError("a wire over HTTP is not full")


class Permits:
    """Authorization by hand: what is ready, what is fetched, and what is said to challenges."""

    def __init__(self, token: bytes | None = None) -> None:
        self.token = token
        self.waiting: list[Deferred[list[tuple[bytes, bytes]]]] = []
        self.challenges: list[tuple[int, dict[bytes, bytes], str, str]] = []
        self.verdicts: list[Any] = []
        self.observes = False
        self.extensions: tuple[str, ...] = ()
        self.seen: list[dict[bytes, bytes]] = []
        self.sent: list[Any] = []

    def ready(self, method: str, url: str) -> list[tuple[bytes, bytes]] | None:
        return None if self.token is None else [(b"authorization", self.token)]

    async def headers(self, method: str, url: str) -> list[tuple[bytes, bytes]]:
        waiting: Deferred[list[tuple[bytes, bytes]]] = Deferred()
        self.waiting.append(waiting)
        return await waiting

    def observed(self, headers: Any) -> None:
        self.seen.append(dict(headers))

    async def challenged(self, status: int, headers: Any, method: str, url: str, sent: Any = ()) -> bool:
        self.sent.append(sent)
        self.challenges.append((status, dict(headers), method, url))
        verdict = self.verdicts.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return bool(verdict)


def site(pool: FakePool, clock: Clock, url: str = "https://mcp.example/mcp", **means: Any) -> Site:
    return Site(pool, clock, url, **means)  # type: ignore[arg-type]


def request(method: str = "tools/call", **what: Any) -> Outgoing:
    return Outgoing(b'{"id":1,"method":"%b"}' % method.encode(), method, answered=True, **what)


def limits(**bounds: Any) -> HttpLimits:
    return HttpLimits(**bounds)
