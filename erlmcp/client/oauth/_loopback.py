"""A redirect URI on this machine, for applications without a web server of their own (RFC 8252 section 7.3).

A listener on 127.0.0.1 for as long as a user is away in the browser. It knows one path, takes one right answer, and
shows nothing of it.
"""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Protocol, ServerFactory

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._interaction import Redirected

_HOST: Final = "127.0.0.1"
_MAX_HEAD: Final = 16 * 1024
_MAX_CONNECTIONS: Final = 16
_PATIENCE: Final = 10
_PAGE: Final = (
    b"HTTP/1.1 %s\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
    b"referrer-policy: no-referrer\r\nconnection: close\r\n\r\n%s"
)


class LoopbackInteraction:
    """Shows the user a URL, and waits on the loopback for the browser to come back.

    Args:
        reactor: listens, and keeps the time.
        show: gives the URL to the user: prints it whole, opens a browser, or both. It must not fetch it.
        timeout: seconds that the user has.
        path: of the redirect URI.
    """

    def __init__(
        self, reactor: Any, show: Callable[[str], None], *, timeout: float = 300.0, path: str = "/callback"
    ) -> None:
        self._reactor = reactor
        self._show = show
        self._timeout = timeout
        self._path = path
        self._port: Any = None
        self._uri = self._state = ""
        self._answer: Deferred[Redirected] | None = None

    async def prepare(self, preferred: str) -> str:
        """Listen: where the client is registered, if that is here and free, else at any port. See `Interaction`."""
        self.done()
        wanted = urlsplit(preferred)
        path, port = self._path, 0
        if wanted.scheme == "http" and wanted.hostname in (_HOST, "localhost") and wanted.port:
            path, port = wanted.path or "/", wanted.port
        factory = _Factory(self._reactor, self.visited)
        try:
            self._port = self._reactor.listenTCP(port, factory, interface=_HOST)
            host = wanted.hostname if port else _HOST
        except CannotListenError:
            self._port, host = self._reactor.listenTCP(0, factory, interface=_HOST), _HOST
        self._uri = f"http://{host}:{self._port.getHost().port}{path}"
        return self._uri

    async def authorize(self, url: str, redirect_uri: str, state: str) -> Redirected:
        """See `Interaction`."""
        if self._port is None or redirect_uri != self._uri:
            raise AuthorizationError(f"nobody waits at {redirect_uri}")
        self._state = state
        answer: Deferred[Redirected] = Deferred()
        self._answer = answer
        answer.addTimeout(self._timeout, self._reactor, self._too_late)
        self._show(url)
        try:
            redirected: Redirected = await answer
            return redirected
        finally:
            self.done()

    def done(self) -> None:
        """Stop listening. See `Interaction`."""
        port, self._port = self._port, None
        self._answer = None
        if port is not None:
            port.stopListening()

    def _too_late(self, result: object, timeout: float) -> Redirected:  # noqa: ARG002 - Twisted's signature
        raise AuthorizationError(f"nobody came back from the browser within {timeout:.0f} s")

    def visited(self, head: bytes) -> bytes:
        """What is answered to a request with this head; the right one ends the wait."""
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        hosts = [line[5:].strip() for line in lines[1:] if line[:5].lower() == "host:"]
        here = urlsplit(self._uri)
        if len(words) != 3 or words[0] != "GET" or hosts != [here.netloc]:  # another name: DNS rebinding
            return _page(
                b"400 Bad Request", b"This address only takes the answer of an authorization server."
            )
        target = urlsplit(words[1])
        if target.path != here.path:
            return _page(b"404 Not Found", b"There is nothing here.")
        try:
            fields = parse_qsl(target.query, keep_blank_values=True, max_num_fields=20)
        except ValueError:
            fields = []
        names = [name for name, _ in fields]
        answer = dict(fields)
        if answer.get("state") != self._state or len(set(names)) != len(names) or self._answer is None:
            return _page(b"400 Bad Request", b"This is no answer to a question of ours.")
        waiting, self._answer = self._answer, None
        # In a turn of its own, after the page has been written.
        self._reactor.callLater(0, _answered, waiting, answer)
        return _page(b"200 OK", b"You can close this page, and go back to the application.")


def _answered(waiting: Deferred[Redirected], answer: dict[str, str]) -> None:
    if not waiting.called:
        waiting.callback(
            Redirected(
                code=answer.get("code"),
                state=answer.get("state"),
                iss=answer.get("iss"),
                error=answer.get("error"),
                error_description=answer.get("error_description"),
            )
        )


def _page(status: bytes, text: bytes) -> bytes:
    return _PAGE % (status, len(text), text)


class _Visit(Protocol):
    """One connection: one request head, one answer, and little time for both."""

    def __init__(self, factory: "_Factory") -> None:
        self._factory = factory
        self._head = b""
        self._deadline: Any = None

    def connectionMade(self) -> None:
        """Give it a little time, or none where too many are here."""
        self._factory.visits += 1
        if self._factory.visits > _MAX_CONNECTIONS:
            self._abort()
        else:
            self._deadline = self._factory.reactor.callLater(_PATIENCE, self._abort)

    def connectionLost(self, reason: object = None) -> None:  # noqa: ARG002 - Twisted's signature
        """It is over."""
        self._factory.visits -= 1
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def dataReceived(self, data: bytes) -> None:
        """Take a head, answer, and close."""
        self._head += data
        if len(self._head) > _MAX_HEAD:
            self._abort()
        elif b"\r\n\r\n" in self._head and self.transport is not None:
            head, self._head = self._head.partition(b"\r\n\r\n")[0], b""
            self.transport.write(self._factory.visited(head))
            self.transport.loseConnection()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, reactor: Any, visited: Callable[[bytes], bytes]) -> None:
        self.reactor = reactor
        self.visited = visited
        self.visits = 0

    def buildProtocol(self, addr: object) -> _Visit:  # noqa: ARG002 - Twisted's signature
        """One for each connection."""
        return _Visit(self)
