"""Wires in memory: to a server's channel, and to a stub that answers what it was told to."""

from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from erlmcp.client import Inbox, Outgoing, Session, WireError
from erlmcp.interfaces import IExchange, Peer


@implementer(IExchange)
class _Way:
    """The server's side of what a memory wire carries: of one message (linked), or of all of them (a stream)."""

    def __init__(
        self, wire: "ChannelWire", outgoing: Outgoing | None, headers: dict[bytes, bytes] | None
    ) -> None:
        transport = "memory" if headers is None else "http"
        self.peer = Peer(transport=transport, listener="test")
        self.headers = headers
        self.calls: dict[int | str, Any] = {}
        self.session: Any = None
        self.streaming = True
        self.congested = False
        self.outgoing = outgoing
        self._wire = wire

    def reply(self, message: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        for name, value in headers:
            if name.lower() == b"mcp-session-id":
                self._wire.session_id = value
        if self.outgoing is not None:
            self.outgoing.status = status
            if (
                status == 404
                and self._wire.session_id is not None
                and b"mcp-session-id" in (self.headers or {})
            ):
                error = WireError("the session is lost", session_lost=True, unsent=True, status=404)
                self._wire.fail(self.outgoing, error)
                return
        if message:
            self._wire.deliver(message, self.outgoing)

    def notify(self, message: bytes, event: str = "") -> None:
        del event
        self._wire.deliver(message, self.outgoing)

    def prime(self, event: str, retry: int) -> None:
        del event, retry

    def leave(self) -> None:
        if self.outgoing is not None and not self.outgoing.settled:
            self._wire.end(self.outgoing)

    def accept(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class ChannelWire:
    """A wire to the channel of a server in the same process (`erlmcp.client.Wire`).

    Args:
        channel: the server's, such as `Harness.channel`.
        linked: whether it is to be like HTTP (each message an exchange of its own), or like a stream.
        peer: how the server is named in errors.

    Attributes:
        sent: what the client sent, decoded, in order.
        heard: what the server sent, decoded, in order.
    """

    def __init__(self, channel: Any, *, linked: bool = False, peer: str = "memory") -> None:
        self.linked = linked
        self.peer = peer
        self.session: Session | None = _MemorySession(self) if linked else None
        self.session_id: bytes | None = None
        self.version: bytes | None = None
        self.sent: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self._channel = channel
        self._inbox: Inbox | None = None
        self._stream = None if linked else _Way(self, None, None)
        self._ways: dict[Outgoing, _Way] = {}
        self._listening: _Way | None = None

    def open(self, inbox: Inbox) -> Deferred[None]:
        """See `erlmcp.client.Wire`."""
        self._inbox = inbox
        return succeed(None)

    def send(self, outgoing: Outgoing) -> None:
        """See `erlmcp.client.Wire`."""
        self.sent.append(msgspec.json.decode(outgoing.body))
        if self._inbox is None:
            return
        way = self._stream
        if way is None:
            way = _Way(self, outgoing if outgoing.answered else None, self._headers(outgoing.headers))
            if outgoing.answered:
                self._ways[outgoing] = way
        self._channel.received(outgoing.body, way)

    def abandon(self, outgoing: Outgoing) -> None:
        """See `erlmcp.client.Wire`."""
        way = self._ways.pop(outgoing, None)
        if way is not None:
            self._channel.closed(way)

    def pause(self) -> None:
        """See `erlmcp.client.Wire`; what is in memory has come already."""

    def resume(self) -> None:
        """See `erlmcp.client.Wire`."""

    def close(self) -> Deferred[None]:
        """See `erlmcp.client.Wire`."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            self._leave()
            if self.session_id is not None:
                self._channel.deleted(_Way(self, None, self._headers(())))
        return succeed(None)

    def cut(self, why: str = "the connection was cut") -> None:
        """Lose the wire, as when a network fails."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            self._leave()
            inbox.lost(WireError(why))

    def listen(self) -> None:
        """Open the stream of the server's own messages."""
        if self._listening is None and self._inbox is not None:
            self._listening = _Way(self, None, self._headers(((b"accept", b"text/event-stream"),)))
            self._channel.opened(self._listening)

    def deliver(self, message: bytes, outgoing: Outgoing | None) -> None:
        """Hand a message of the server to the client."""
        if self._inbox is not None:
            self.heard.append(msgspec.json.decode(message))
            self._inbox.received(message, outgoing)
            if outgoing is not None and outgoing.settled:
                self._ways.pop(outgoing, None)

    def fail(self, outgoing: Outgoing, error: WireError) -> None:
        """Tell the client that a message was not carried."""
        self._ways.pop(outgoing, None)
        if self._inbox is not None:
            self._inbox.failed(outgoing, error)

    def end(self, outgoing: Outgoing) -> None:
        """Tell the client that a stream ended."""
        self._ways.pop(outgoing, None)
        if self._inbox is not None:
            self._inbox.ended(outgoing)

    def _leave(self) -> None:
        if self._stream is not None:
            self._channel.closed(self._stream)
        ways, self._ways = self._ways, {}
        for way in (*ways.values(), *([self._listening] if self._listening else [])):
            self._channel.closed(way)

    def _headers(self, more: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, bytes]:
        headers = {b"accept": b"application/json, text/event-stream", **dict(more)}
        if self.version is not None:
            headers[b"mcp-protocol-version"] = self.version
        if self.session_id is not None:
            headers[b"mcp-session-id"] = self.session_id
        return headers


class _MemorySession:
    def __init__(self, wire: ChannelWire) -> None:
        self._wire = wire

    def begin(self, version: str) -> None:
        self._wire.version = version.encode()

    def listen(self) -> None:
        self._wire.listen()

    def forget(self) -> None:
        self._wire.session_id = None


class StubWire:
    """One connection to a `StubServer`.

    Attributes:
        inbox: who hears what the stub says; None before it is opened and after its end.
        open_requests: requests without an answer yet, by id.
        abandoned: the ids of those that were abandoned.
    """

    def __init__(self, server: Any, *, linked: bool, peer: str) -> None:
        self.linked = linked
        self.peer = peer
        self.session: Session | None = None
        self.inbox: Inbox | None = None
        self.open_requests: dict[int | str, Outgoing] = {}
        self.abandoned: list[int | str] = []
        self._server = server

    def open(self, inbox: Inbox) -> Deferred[None]:
        """See `erlmcp.client.Wire`."""
        refusal = self._server.refusal
        if refusal is not None:
            return fail(WireError(str(refusal), unsent=True))
        self.inbox = inbox
        return succeed(None)

    def send(self, outgoing: Outgoing) -> None:
        """See `erlmcp.client.Wire`."""
        message = msgspec.json.decode(outgoing.body)
        if outgoing.answered:
            self.open_requests[message["id"]] = outgoing
        self._server.came(self, message, dict(outgoing.headers))

    def abandon(self, outgoing: Outgoing) -> None:
        """See `erlmcp.client.Wire`."""
        for identifier, one in list(self.open_requests.items()):
            if one is outgoing:
                del self.open_requests[identifier]
                self.abandoned.append(identifier)

    def pause(self) -> None:
        """See `erlmcp.client.Wire`."""

    def resume(self) -> None:
        """See `erlmcp.client.Wire`."""

    def close(self) -> Deferred[None]:
        """See `erlmcp.client.Wire`."""
        self.inbox = None
        return succeed(None)

    def say(self, message: bytes | dict[str, Any], *, about: int | str | None = None) -> None:
        """Send the client a message: raw bytes, or what is to be encoded.

        Args:
            message: the message.
            about: the id of the request on whose stream it goes, on a linked wire.
        """
        if self.inbox is not None:
            data = message if isinstance(message, bytes) else msgspec.json.encode(message)
            self.inbox.received(data, None if about is None else self.open_requests.get(about))

    def answer(
        self,
        id: int | str,  # noqa: A002 - JSON-RPC's own name
        result: Any = None,
        *,
        error: dict[str, Any] | None = None,
        status: int = 200,
    ) -> None:
        """Answer an open request with a result, or with an error object."""
        outgoing = self.open_requests.pop(id, None)
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": id}
        if error is None:
            body["result"] = result
        else:
            body["error"] = error
        if self.inbox is not None:
            if self.linked and outgoing is not None:
                outgoing.status = status
            self.inbox.received(msgspec.json.encode(body), outgoing if self.linked else None)

    def fail(self, id: int | str, error: WireError) -> None:  # noqa: A002 - JSON-RPC's own name
        """Fail an open request as a transport does."""
        outgoing = self.open_requests.pop(id)
        if self.inbox is not None:
            self.inbox.failed(outgoing, error)

    def cut(self, why: str = "the connection was cut", *, tail: str = "") -> None:
        """Lose the connection."""
        inbox, self.inbox = self.inbox, None
        if inbox is not None:
            inbox.lost(WireError(why, tail=tail))
