"""The pool as Twisted's ``IAgent``, and so as what treq works on."""

from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import RESPONSES
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from erlmcp.web._pool import Pool
from erlmcp.web._types import Ongoing, WebError, WebRequest
from erlmcp.web._urls import split_url

_UPLOAD: Final = 16 * 1024 * 1024
# What others set of their own accord, and is ours to say.
_OURS: Final = frozenset((b"host", b"content-length", b"connection", b"transfer-encoding"))


@implementer(IClientRequest)
class _Asked:
    """What was asked, for those who look at an answer."""

    def __init__(self, method: bytes, uri: bytes, headers: Headers) -> None:
        self.method = method
        self.absoluteURI = uri
        self.headers = headers


@implementer(IConsumer)
class _Body:
    """Gathers what a body producer writes."""

    def __init__(self, limit: int) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self._limit = limit

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nothing paces it: the bound does."""

    def unregisterProducer(self) -> None:
        """It is done."""

    def write(self, data: bytes) -> None:
        """A part."""
        self.size += len(data)
        if self.size > self._limit:
            raise WebError(f"the body of the request is longer than {self._limit} bytes", unsent=True)
        self.parts.append(data)


@implementer(IResponse, IPushProducer)
class Response:
    """An answer whose body comes as fast as it is taken: it is its producer, and paused until `deliverBody`."""

    def __init__(self, answered: "Deferred[Any]", asked: _Asked) -> None:
        self.version = (b"HTTP", 1, 1)
        self.code = 0
        self.phrase = b""
        self.headers = Headers()
        self.length: Any = UNKNOWN_LENGTH
        self.request = asked
        self.previousResponse: Any = None
        self.ongoing: Ongoing | None = None
        self._answered: Deferred[Any] | None = answered
        self._reader: Any = None
        self._early: list[bytes] = []
        self._end: Failure | None = None
        self.disconnecting = False

    # The body, for its reader

    def deliverBody(self, protocol: Any) -> None:  # noqa: N802 - Twisted's name
        """Give the body to a protocol, which is its only reader.

        Raises:
            RuntimeError: it has a reader.
        """
        if self._reader is not None:
            raise RuntimeError("the body of this answer is being read already")
        self._reader = protocol
        protocol.makeConnection(self)
        early, self._early = self._early, []
        for data in early:
            if not self.disconnecting:
                protocol.dataReceived(data)
        if self.disconnecting:
            return
        if self._end is not None:
            protocol.connectionLost(self._end)
        else:
            self.resumeProducing()

    def setPreviousResponse(self, response: Any) -> None:  # noqa: N802 - Twisted's name
        """What redirected here."""
        self.previousResponse = response

    def pauseProducing(self) -> None:
        """Let no more come."""
        if self.ongoing is not None:
            self.ongoing.pause()

    def resumeProducing(self) -> None:
        """Let more come."""
        if self.ongoing is not None:
            self.ongoing.resume()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """Nobody wants the rest."""
        if not self.disconnecting and self._end is None:
            self.disconnecting = True
            if self.ongoing is not None:
                self.ongoing.abort()
            if self._reader is not None:
                self._reader.connectionLost(Failure(ConnectionDone()))

    abortConnection = loseConnection

    # The receiver

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """See `Receiver`."""
        self.code = status
        self.phrase = RESPONSES.get(status, b"")
        for name, value in headers:
            self.headers.addRawHeader(name, value)
        length = self.headers.getRawHeaders(b"content-length")
        if length and length[0].isdigit():
            self.length = int(length[0])
        self.pauseProducing()
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.callback(self)

    def body(self, data: bytes) -> None:
        """See `Receiver`."""
        if self._reader is None:
            # What was on its way when it was paused: the connection bounds it.
            self._early.append(data)
        else:
            self._reader.dataReceived(data)

    def done(self) -> None:
        """See `Receiver`."""
        self._finish(Failure(ResponseDone()))

    def failed(self, error: WebError) -> None:
        """See `Receiver`."""
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.errback(error)
        else:
            self._finish(Failure(error))

    def _finish(self, end: Failure) -> None:
        self._end = end
        if self._reader is not None:
            self._reader.connectionLost(end)


@implementer(IAgent)
class Agent:
    """Makes requests as Twisted's and treq's callers want them made.

    The body of a request is gathered before it is sent; that of an answer comes as its reader takes it.

    Args:
        pool: whose connections are used.
        upload: how long the body of a request may be, in bytes.
    """

    def __init__(self, pool: Pool, upload: int = _UPLOAD) -> None:
        self._pool = pool
        self._upload = upload

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: Any = None,  # noqa: N803
    ) -> "Deferred[Any]":
        """See ``IAgent.request``. Fails with `WebError`, or with ValueError where the URI is not one."""
        if bodyProducer is None:
            return self._send(method, uri, headers, b"")
        return ensureDeferred(self._gather_and_send(method, uri, headers, IBodyProducer(bodyProducer)))

    async def _gather_and_send(
        self, method: bytes, uri: bytes, headers: Headers | None, producer: Any
    ) -> Any:
        body = _Body(self._upload)
        await producer.startProducing(body)
        return await self._send(method, uri, headers, b"".join(body.parts))

    def _send(self, method: bytes, uri: bytes, headers: Headers | None, body: bytes) -> "Deferred[Any]":
        try:
            origin, target = split_url(uri.decode("ascii"))
        except ValueError as error:
            return fail(error)
        given = headers if headers is not None else Headers()
        fields = tuple(
            (lower, value)
            for name, values in given.getAllRawHeaders()
            if (lower := name.lower()) not in _OURS
            for value in values
        )
        answered: Deferred[Any] = Deferred(lambda _: ongoing.abort())
        response = Response(answered, _Asked(method, uri, given))
        ongoing = response.ongoing = self._pool.send(
            origin, WebRequest(method, target, fields, body), response
        )
        return answered
