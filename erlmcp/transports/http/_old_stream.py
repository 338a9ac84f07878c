"""HTTP with SSE, the transport of revision 2024-11-05: a stream for what the server says, a POST for each message.

The stream is opened with GET, and its first event says where to post.
To the channel such a stream is what a connection of lines is to it: one exchange for all its messages, no headers.
"""

from secrets import token_urlsafe
from typing import Final

from erlmcp.interfaces import IChannel
from erlmcp.transports.http import _sse
from erlmcp.transports.http._answers import Refusal
from erlmcp.transports.http._exchange import Exchange
from erlmcp.transports.http._head import Headers, Purpose

_PARAMETER: Final = b"session="
_MESSAGE_EVENT: Final = b"event: message\n"
_ENDPOINT_EVENT: Final = b"event: endpoint\n"

_UNKNOWN: Final = Refusal(
    404, "no stream here has this endpoint; open one, and post to the endpoint that it names"
)
_BUSY: Final = Refusal(
    429, "too many requests are under way on this stream, or it is read too slowly", b"Retry-After: 1\r\n"
)
ENDING: Final = Refusal(503, "the server is ending", b"Retry-After: 1\r\n", close=True)


class OldMessage(Exchange):
    """A POST to a stream's endpoint; it is answered without content, and what its message comes to goes to the stream.

    Attributes:
        key: the stream that it says it is for.
    """

    __slots__ = ("key",)

    def __init__(self, headers: Headers, target: bytes, *, keep: bool, legacy: bool) -> None:
        super().__init__(headers, keep=keep, legacy=legacy)
        query = target.partition(b"?")[2].split(b"&")
        self.key = next((each[len(_PARAMETER) :] for each in query if each.startswith(_PARAMETER)), b"")


class OldStream(Exchange):
    """A stream that carries all messages of one client.

    Args:
        headers: those of its GET.
        keep: whether the connection goes on after it.
        legacy: whether the client speaks HTTP/1.0.

    Attributes:
        key: what messages name it by.
        draining: whether it ends once nothing is under way.
    """

    __slots__ = ("_in_flight", "_streams", "draining", "key")

    def __init__(self, headers: Headers, *, keep: bool, legacy: bool) -> None:
        super().__init__(headers, keep=keep, legacy=legacy)
        self._in_flight = 0
        self._streams: OldStreams | None = None
        self.key = b""
        self.draining = False

    def enter(self, streams: "OldStreams", key: bytes, endpoint: bytes) -> None:
        """Begin: say where messages are to be posted."""
        self.headers = None
        self.key = key
        self._streams = streams
        self._say(_sse.event(endpoint, _ENDPOINT_EVENT))

    def takes(self, most: int) -> bool:
        """Whether a further message may be taken now, where `most` may be under way."""
        return self._in_flight < most and not (self.draining or self.congested)

    def take(self, message: bytes, channel: IChannel) -> None:
        """Hand on a message that was posted."""
        self._in_flight += 1
        channel.received(message, self)

    def drain(self) -> None:
        """Take no more; end once nothing is under way."""
        self.draining = True
        self._end_if_done()

    def detach(self) -> None:
        """The connection is gone."""
        super().detach()
        streams, self._streams = self._streams, None
        if streams is not None:
            streams.forget(self)

    def reply(
        self,
        message: bytes,
        status: int = 200,  # noqa: ARG002 - its POST has been answered
        headers: tuple[tuple[bytes, bytes], ...] = (),  # noqa: ARG002 - as above
    ) -> None:
        """Answer one message."""
        self._say(_sse.event(message, _MESSAGE_EVENT), owed=True)
        self.accept()

    def notify(self, message: bytes, event: str = "") -> None:  # noqa: ARG002 - these streams cannot be resumed
        """Send a message that is no answer."""
        self._say(_sse.event(message, _MESSAGE_EVENT))

    def prime(self, event: str, retry: int) -> None:
        """Nothing: these streams cannot be resumed."""

    def accept(self) -> None:
        """Settle a message that gets no answer."""
        self._in_flight -= 1
        self._end_if_done()

    def abandon(self) -> None:
        """Settle a message that was cancelled."""
        self.accept()

    def leave(self) -> None:
        """As `abandon`: nobody comes back for an answer."""
        self.accept()

    def _end_if_done(self) -> None:
        streams = self._streams
        if streams is not None and self.draining and not self._in_flight:
            self._streams = None
            super().leave()
            streams.end(self)


class OldStreams:
    """The streams of one listener, as many as it has connections at most.

    Args:
        channel: where messages go.
        most: how many messages may be under way on one stream.
        path: where they are posted.
    """

    __slots__ = ("_channel", "_most", "_path", "_streams")

    def __init__(self, channel: IChannel, most: int, path: bytes) -> None:
        self._channel = channel
        self._most = most
        self._path = path
        self._streams: dict[bytes, OldStream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, stream: OldStream) -> None:
        """A client came for a stream: give it an endpoint that nobody can guess."""
        key = token_urlsafe(32).encode()
        self._streams[key] = stream
        stream.enter(self, key, b"%b?%b%b" % (self._path, _PARAMETER, key))

    def forget(self, stream: OldStream) -> None:
        """A stream is gone, and its connection tells the channel."""
        del self._streams[stream.key]

    def end(self, stream: OldStream) -> None:
        """A stream has ended and its connection has not."""
        self.forget(stream)
        self._channel.closed(stream)

    def take(self, message: OldMessage, body: bytes) -> None:
        """A message was posted: hand it on, and say that it was taken."""
        stream = self._streams.get(message.key)
        if stream is None:
            message.decline(_UNKNOWN)
        elif stream.draining:
            message.decline(ENDING)
        elif not stream.takes(self._most):
            message.decline(_BUSY)
        else:
            stream.take(body, self._channel)
            message.accept()

    def drain(self) -> None:
        """Take no more messages; end each stream once nothing is under way on it."""
        for stream in list(self._streams.values()):
            stream.drain()


def made_for(
    purpose: Purpose, target: bytes, headers: Headers, *, keep: bool = True, legacy: bool = False
) -> Exchange:
    """The exchange for a request with this purpose."""
    exchange: Exchange
    if purpose is Purpose.OLD_STREAM:
        exchange = OldStream(headers, keep=keep, legacy=legacy)
    elif purpose is Purpose.OLD_MESSAGE:
        exchange = OldMessage(headers, target, keep=keep, legacy=legacy)
    else:
        exchange = Exchange(headers, keep=keep, legacy=legacy)
    exchange.purpose = purpose
    return exchange
