"""Servers for the HTTP client's tests: they do as they are told, right or wrong."""

from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import Settings
from twisted.internet.protocol import Factory, Protocol


class TwoServer(Protocol):
    """Answers HTTP/2 as its factory's `answer` says, with what the client lets it send."""

    def __init__(self, factory: "TwoFactory") -> None:
        self.factory = factory
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.requests: dict[int, tuple[list[Any], bytearray]] = {}
        self.unsent: dict[int, bytes] = {}
        self.resets: list[tuple[int, Any]] = []
        self.terminated: list[Any] = []
        self.events: list[Any] = []

    def connectionMade(self) -> None:
        self.factory.made.append(self)
        self.h2.local_settings = Settings(client=False, initial_values=self.factory.settings)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if self.factory.record:
                self.events.append(event)
            if isinstance(event, RequestReceived):
                self.requests[event.stream_id] = (list(event.headers), bytearray())
            elif isinstance(event, DataReceived):
                found = self.requests.get(event.stream_id)
                if found is not None:
                    found[1].extend(event.data)
                if self.factory.acknowledge:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                headers, body = self.requests[event.stream_id]
                self.factory.answer(self, event.stream_id, dict(headers), bytes(body))
            elif isinstance(event, StreamReset):
                self.resets.append((event.stream_id, event.error_code))
                self.unsent.pop(event.stream_id, None)
            elif isinstance(event, WindowUpdated):
                self.pump()
            elif isinstance(event, ConnectionTerminated):
                self.terminated.append(event)
        self.flush()

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost(self)

    def reply(
        self, stream: int, body: bytes = b"", status: bytes = b"200", headers: list[Any] | None = None
    ) -> None:
        """A whole answer, as far as the windows allow; the rest follows."""
        self.requests.pop(stream, None)
        fields = [(b":status", status), *(headers or [])]
        self.h2.send_headers(stream, fields, end_stream=not body)
        if body:
            self.unsent[stream] = body
            self.pump()

    def pump(self) -> None:
        for stream, rest in list(self.unsent.items()):
            while rest:
                room = min(
                    self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(rest)
                )
                if room <= 0:
                    break
                self.h2.send_data(stream, rest[:room], end_stream=room == len(rest))
                rest = rest[room:]
            if rest:
                self.unsent[stream] = rest
            else:
                del self.unsent[stream]


Answer = Callable[[TwoServer, int, dict[bytes, bytes], bytes], None]


def echo(server: TwoServer, stream: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """Say what was said, and what was asked."""
    said = b"" if headers[b":method"] == b"HEAD" else body or headers[b":path"]
    server.reply(stream, said, headers=[(b"content-type", b"text/plain")])


class TwoFactory(Factory):
    noisy = False

    def __init__(self, answer: Answer = echo, settings: dict[Any, int] | None = None) -> None:
        self.answer = answer
        self.settings = settings or {}
        self.made: list[TwoServer] = []
        self.live: list[TwoServer] = []
        self.acknowledge = True
        self.record = True

    def buildProtocol(self, addr: Any) -> TwoServer:
        server = TwoServer(self)
        self.live.append(server)
        return server

    def lost(self, server: TwoServer) -> None:
        self.live.remove(server)


class OneServer(Protocol):
    """Reads HTTP/1.1 requests just well enough, and answers with the bytes that its factory's `answer` gives."""

    def __init__(self, factory: "OneFactory") -> None:
        self.factory = factory
        self.read = b""

    def connectionMade(self) -> None:
        self.factory.made.append(self)
        self.factory.live.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.read += data
        while b"\r\n\r\n" in self.read:
            head, _, rest = self.read.partition(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(rest) < length:
                return
            body, self.read = rest[:length], rest[length:]
            answer = self.factory.answer(self, head, body)
            if answer:
                self.transport.write(answer)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.live.remove(self)


def echo_one(server: OneServer, head: bytes, body: bytes) -> bytes:
    """Say what was said, or the request's first line."""
    said = body or head.split(b"\r\n")[0]
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)


class OneFactory(Factory):
    noisy = False

    def __init__(self, answer: Callable[[OneServer, bytes, bytes], bytes | None] = echo_one) -> None:
        self.answer = answer
        self.made: list[OneServer] = []
        self.live: list[OneServer] = []

    def buildProtocol(self, addr: Any) -> OneServer:
        return OneServer(self)
