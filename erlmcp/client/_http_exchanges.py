"""What the wire over HTTP exchanges: a message of ours, the server's own stream, and the deletion of a session."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from erlmcp.client._exchange import Exchange, Refusal
from erlmcp.client._http_site import Headers, Site
from erlmcp.client._wire import Outgoing, WireError
from erlmcp.timing import Entry

if TYPE_CHECKING:
    from erlmcp.client._http import HttpWire

log = Logger()

ACCEPT_EVENTS: Final = (b"accept", b"text/event-stream")
ACCEPT_BOTH: Final = (b"accept", b"application/json, text/event-stream")
JSON: Final = (b"content-type", b"application/json")
LAST_ID: Final = b"last-event-id"

_NOT_FOUND: Final = 404
_LEAST_PAUSE: Final = 0.1
"""Seconds between two attempts, whatever the server wants."""
_HOPELESS: Final = frozenset((400, 401, 403, 404, 405, 406, 410, 501))


class Post(Exchange):
    """One message on its way, and what comes for it; a stream that is lost before the answer is taken up again.

    It is a POST until its answer begins to stream, and a GET with ``Last-Event-ID`` whenever the stream was lost
    (2025-11-25, basic/transports, "Resumability and Redelivery").
    """

    __slots__ = (
        "_attempt",
        "_last_id",
        "_linger",
        "_outgoing",
        "_pause",
        "_retry",
        "_session",
        "_wire",
        "urgent",
    )

    def __init__(self, wire: "HttpWire", site: Site, outgoing: Outgoing) -> None:
        super().__init__(site, "POST")
        self._wire = wire
        self._outgoing = outgoing
        self.urgent = not outgoing.answered
        self._last_id = b""
        self._retry: int | None = None
        self._attempt = 0
        self._session = b""
        self._pause: IDelayedCall | None = None
        self._linger: Entry | None = None

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The headers of the message, or of taking its stream up again."""
        wire = self._wire
        if self._last_id:
            return [ACCEPT_EVENTS, (LAST_ID, self._last_id), *wire.session_fields]
        outgoing = self._outgoing
        if outgoing.method == "initialize":
            return [JSON, ACCEPT_BOTH, *outgoing.headers]
        self._session = wire.session_id
        return [JSON, ACCEPT_BOTH, *wire.session_fields, *outgoing.headers]

    def content(self) -> bytes:
        """The message; nothing where its stream is taken up again."""
        return b"" if self._last_id else self._outgoing.body

    def wants_answer(self) -> bool:
        """Whether it is a request."""
        return self._outgoing.answered

    def last_id(self) -> bytes:
        """After which event the stream goes on."""
        return self._last_id

    def waits(self) -> None:
        """Stop the clock of the request."""
        self._outgoing.wait(self._site.clock.seconds())

    def goes_on(self) -> None:
        """Start it again."""
        self._outgoing.go_on(self._site.clock.seconds())

    def begun(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Take the session that the answer to ``initialize`` names."""
        if self._outgoing.method != "initialize" or self._last_id:
            return
        try:
            self._wire.named(headers)
        except ValueError as error:
            self.stop()
            self.broken(WireError(f"the server names a session that cannot be used: {error}", status=status))

    def answer(self, document: bytes, status: int) -> None:
        """Give the document up, as the whole of the answer."""
        self._outgoing.status = status
        self._wire.inbox.received(document, self._outgoing)
        self.finished()

    def event(self, kind: bytes, data: bytes) -> None:
        """Give a message up; other events than messages are not for us."""
        self._attempt = 0
        if kind != b"message":
            return
        outgoing = self._outgoing
        outgoing.status = self._status
        self._wire.inbox.received(data, outgoing)
        if outgoing.settled and self._linger is None and not self.is_over:
            self._linger = self._wire.wheel.after(self._site.limits.linger, self._overstayed)

    def hurry(self) -> None:
        """Nothing is answered but that it has come: give that up after a while, or what hangs would pile up."""
        self._linger = self._wire.wheel.after(self._site.limits.notice, self._overstayed)

    def finished(self) -> None:
        """The answer is complete, or the server lets us come back for the rest of it."""
        if self._take_up():
            return
        self._leave()
        outgoing, inbox = self._outgoing, self._wire.inbox
        if not outgoing.answered or outgoing.settled:
            return
        if self._attempt:
            # It has been acted on, or lost, by a server that let us come back.
            inbox.failed(
                outgoing,
                WireError("the stream with the answer ends without it whenever it is taken up again"),
            )
        else:
            inbox.ended(outgoing)

    def refused(self, refusal: Refusal) -> None:
        """Give the server's own error up, if it is one; say what the status means else."""
        self._leave()
        outgoing, wire = self._outgoing, self._wire
        if self._last_id:
            # Without a status of its own: this one refuses the rest of an answer, not what was asked.
            lost = WireError(
                "the stream with the answer was lost, and taking it up again is answered with HTTP status "
                f"{refusal.status}"
            )
            wire.inbox.failed(outgoing, lost)
            return
        if refusal.status == _NOT_FOUND and self._session:
            wire.session_gone(self._session)
            wire.inbox.failed(outgoing, refusal.error(session_lost=True))
            return
        if refusal.document is not None and outgoing.answered:
            outgoing.status = refusal.status
            wire.inbox.received(refusal.document, outgoing)
            if outgoing.settled:
                return
        wire.inbox.failed(outgoing, refusal.error())

    def broken(self, error: WireError) -> None:
        """Come back for the rest of a stream, or say that nothing more comes."""
        if self._take_up():
            return
        self._leave()
        if self._last_id:
            # What could not be sent was the request for the rest: the message itself was, and may have been acted on.
            error.unsent, error.status = False, None
        if not self._outgoing.settled:
            self._wire.inbox.failed(self._outgoing, error)

    def stop(self) -> None:
        """End it, whatever it waits for."""
        super().stop()
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        self._pause = None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _take_up(self) -> bool:
        """Whether the stream is taken up again later."""
        stream, outgoing = self.stream, self._outgoing
        if stream is not None:
            self._last_id = stream.last_id
            if stream.retry is not None:
                self._retry = stream.retry
            self.stream = None
        limits = self._site.limits
        if (
            outgoing.settled
            or not outgoing.resumable
            or not self._last_id
            or self._attempt >= limits.resumptions
            or self._wire.is_closing
        ):
            return False
        self._attempt += 1
        self._verb = "GET"
        pause = _pause(self._retry, self._attempt, self._site)
        self._pause = self._site.clock.callLater(pause, self.start)
        return True

    def _overstayed(self) -> None:
        self._linger = None
        self.stop()
        self._leave()

    def _leave(self) -> None:
        self.stop()
        self._wire.left(self._outgoing)


class Listening(Exchange):
    """The stream of what the server says by itself, opened again whenever it ends, for as long as the server has one.

    2025-11-25, basic/transports, "Listening for Messages from the Server".
    """

    __slots__ = ("_attempt", "_last_id", "_pause", "_retry", "_session", "_wire")

    def __init__(self, wire: "HttpWire", site: Site) -> None:
        super().__init__(site, "GET")
        self._wire = wire
        self._session = b""  # the one that the server has once given us this stream for
        self._last_id = b""
        self._retry: int | None = None
        self._attempt = 0
        self._pause: IDelayedCall | None = None

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The session, and after which event the stream goes on."""
        taken_up = [(LAST_ID, self._last_id)] if self._last_id else []
        return [ACCEPT_EVENTS, *taken_up, *self._wire.session_fields]

    def begun(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The server has such a stream."""
        del status, headers
        self._session = self._wire.session_id

    def last_id(self) -> bytes:
        """After which event the stream goes on."""
        return self._last_id

    def answer(self, document: bytes, status: int) -> None:
        """A document is no stream: the server has none."""
        what = "{peer} answers GET with a document of {size} bytes, HTTP status {status}"
        log.debug(what, peer=self._site.peer, size=len(document), status=status)

    def event(self, kind: bytes, data: bytes) -> None:
        """Give a message up, as one that no request caused."""
        self._attempt = 0
        if kind == b"message":
            self._wire.inbox.received(data, None)

    def finished(self) -> None:
        """Come back."""
        stream = self.stream
        if stream is None and not self._last_id:
            return  # 202, 204: there is no stream
        self._come_back()

    def refused(self, refusal: Refusal) -> None:
        """The server has no such stream (405), no longer knows the session, or cannot just now."""
        if refusal.status == _NOT_FOUND and self._session:
            # It had the stream before: nobody else may notice, if nothing is asked. What is under way has been heard
            # by a server that has lost it, or has ended the session.
            self._wire.lose(WireError("the server no longer knows the session"))
        elif refusal.status in _HOPELESS:
            log.debug(
                "{peer} has no stream of its own messages for us: HTTP status {status}",
                peer=self._site.peer,
                status=refusal.status,
            )
        else:
            self._come_back()

    def broken(self, error: WireError) -> None:
        """Come back."""
        log.debug("{error}", error=error)
        self._come_back()

    def stop(self) -> None:
        """End it, and come back no more."""
        super().stop()
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        self._pause = None

    def _come_back(self) -> None:
        stream = self.stream
        if stream is not None:
            self._last_id = stream.last_id
            if stream.retry is not None:
                self._retry = stream.retry
        self._attempt += 1
        # The server's own word is for its own ends: one that fails to answer is left in peace for longer each time.
        retry = self._retry if stream is not None else None
        pause = _pause(retry, self._attempt, self._site)
        self._pause = self._site.clock.callLater(pause, self.start)


class Farewell(Exchange):
    """The deletion of a session. Whether the server grants it makes no difference."""

    asks = False
    urgent = True
    __slots__ = ("_fields", "_then")

    def __init__(self, site: Site, fields: Headers, then: Callable[[], None]) -> None:
        super().__init__(site, "DELETE")
        self._fields = fields
        self._then = then

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The session."""
        return [ACCEPT_BOTH, *self._fields]

    def wants_answer(self) -> bool:
        """Nothing of it matters."""
        return False

    def finished(self) -> None:
        """It is deleted."""
        self._then()

    def refused(self, refusal: Refusal) -> None:
        """The server keeps it (405), or knew it no longer (404)."""
        log.debug("deleting the session: {error}", error=refusal.error())
        self._then()

    def broken(self, error: WireError) -> None:
        """The server is not there."""
        log.debug("deleting the session: {error}", error=error)
        self._then()


def _pause(retry: int | None, attempt: int, site: Site) -> float:
    """The server's word in milliseconds if there is one; else ours, longer with each attempt."""
    return site.limits.backoff.delay(attempt) if retry is None else max(retry / 1000, _LEAST_PAUSE)
