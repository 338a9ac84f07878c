"""A client of HTTP/2 on a string, for the tests of `erlmcp.transports.http`: h2 where it may, bare frames where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from hyperframe.frame import Frame
from twisted.internet.testing import StringTransport

from erlmcp.interfaces import WireLimits
from erlmcp.transports.http._http2 import Http2Connection
from erlmcp.transports.http._shared import Second
from tests.http_wire import BODY, Wire

Pairs = list[tuple[bytes, bytes]]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Got(msgspec.Struct):
    """What has come of one stream."""

    status: int = 0
    fields: dict[str, str] = {}
    body: bytes = b""
    ended: bool = False
    reset: int | None = None
    informed: tuple[int, ...] = ()


def head(body: bytes = BODY, *, drop: tuple[str, ...] = (), **fields: str) -> Pairs:
    """The fields of one POST; keywords as in `http_wire.post`, and pseudo-header fields by their name."""
    usual = {
        ":method": "POST",
        ":scheme": "http",
        ":authority": "127.0.0.1:8765",
        ":path": "/mcp",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "content-length": str(len(body)),
    }
    for name, value in fields.items():
        usual[f":{name}" if f":{name}" in usual else name.replace("_", "-")] = value
    return [(name.encode(), value.encode("latin-1")) for name, value in usual.items() if name not in drop]


class Second2:
    """One connection of HTTP/2 and everything around it.

    Attributes:
        wire: the connection as HTTP/1.1 would have it.
        h2: the client's side.
        got: what has come, by stream.
        ended: the codes of GOAWAY frames.
    """

    def __init__(
        self,
        answer: Callable[[bytes, Any], None] | None = None,
        *,
        limits: WireLimits | None = None,
        streams: int = 100,
        transport: StringTransport | None = None,
        greet: bool = True,
        **options: Any,
    ) -> None:
        self.wire = Wire(
            answer, limits=limits, transport=transport, second=Second(h2c=True, streams=streams), **options
        )
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.got: dict[int, Got] = {}
        self.ended: list[int] = []
        self.raw = b""
        if greet:
            self.h2.initiate_connection()
            self.exchange()

    @property
    def connection(self) -> Http2Connection:
        successor = self.wire.connection._successor
        assert isinstance(successor, Http2Connection)
        return successor

    @property
    def channel(self) -> Any:
        return self.wire.channel

    @property
    def transport(self) -> Any:
        return self.wire.transport

    def exchange(self) -> None:
        """Let both sides say all they have to say."""
        while data := self.h2.data_to_send():
            self.wire.connection.dataReceived(data)
            self.take()
        self.take()

    def take(self) -> None:
        """Read what the server has written, and do not answer to it yet."""
        data = self.wire.written()
        self.raw += data
        for event in self.h2.receive_data(data):
            if isinstance(event, ConnectionTerminated):
                self.ended.append(int(event.error_code))
                continue
            number = getattr(event, "stream_id", 0)
            if not number:
                continue
            got = self.got.setdefault(number, Got())
            if isinstance(event, ResponseReceived):
                got.fields = {name.decode(): value.decode() for name, value in event.headers}
                got.status = int(got.fields.pop(":status"))
            elif isinstance(event, InformationalResponseReceived):
                got.informed += (int(dict(event.headers)[b":status"]),)
            elif isinstance(event, DataReceived):
                got.body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, StreamEnded):
                got.ended = True
            elif isinstance(event, StreamReset):
                got.reset = int(event.error_code)

    def begin(self, headers: Pairs | None = None, *, end: bool = False) -> int:
        """Open a stream; gives its number."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers or head(), end_stream=end)
        self.got[number] = Got()
        return number

    def post(self, body: bytes = BODY, headers: Pairs | None = None) -> Got:
        """One whole request, and what has come of it so far."""
        number = self.begin(headers or head(body))
        self.h2.send_data(number, body, end_stream=True)
        self.exchange()
        return self.got[number]

    def send(self, *frames: Frame | bytes) -> None:
        """Send bare frames, in one go; h2 does not know of them."""
        data = self.h2.data_to_send()
        data += b"".join(each if isinstance(each, bytes) else each.serialize() for each in frames)
        self.wire.connection.dataReceived(data)
        self.take()
