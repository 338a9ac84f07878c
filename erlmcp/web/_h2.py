"""The h2 library's connection, made fit for a client with many calls on it: what it counts and forgets differs."""

import struct
from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import (
    AllowedStreamIDs,
    ConnectionInputs,
    ConnectionState,
    H2Connection,
    H2ConnectionStateMachine,
)
from h2.events import Event
from h2.exceptions import FrameTooLargeError
from h2.settings import SettingCodes, Settings
from h2.stream import StreamInputs

from erlmcp.web._packing import Packer

STREAM_WINDOW: Final = 256 * 1024
"""What a stream's receiver may still get after it has paused, in bytes."""

CONNECTION_WINDOW: Final = 16 * 1024 * 1024
"""What may be on its way on a whole connection. It is opened as bytes come: each stream's receiver has them then."""

_PURGED: Final = 32
_DATA: Final = 0
_HEADERS: Final = 1
_CONTINUATION: Final = 9
_END_STREAM: Final = 1
_END_HEADERS: Final = 4
_HEAD: Final = struct.Struct(">HBBBL")


class _States(H2ConnectionStateMachine):
    # After GOAWAY the streams that the server has taken go on (RFC 9113, 6.8); h2 would call their frames an error.
    _transitions = {  # noqa: RUF012 - as in the base class
        **H2ConnectionStateMachine._transitions,  # noqa: SLF001 - it has no public word for it
        (ConnectionState.IDLE, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.IDLE),
        (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN),
    }


def _frame(size: int, kind: int, flags: int, stream: int) -> bytes:
    """The head of a frame (RFC 9113, 4.1)."""
    return _HEAD.pack(size >> 8, size & 255, kind, flags, stream)


class ClientConnection(H2Connection):
    """One HTTP/2 connection's state, without I/O.

    Args:
        header_bytes: how large an answer's head may be, unpacked.

    Attributes:
        live: how many streams are open; whoever uses this keeps it right.
        packer: packs heads for `request`.
    """

    def __init__(self, header_bytes: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                # Looked at by us: h2 walks through every byte in Python.
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self.state_machine = _States()
        self.packer = self.encoder = Packer()
        self.live = 0
        self.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: header_bytes,
            },
        )
        self.decoder.max_header_list_size = header_bytes

    def receive_data(self, data: Any) -> list[Event]:
        """As h2's, but a frame that is too long is refused when it begins: h2 would gather all of it, up to 16 MiB."""
        events = super().receive_data(data)
        rest = self.incoming_buffer._data  # noqa: SLF001 - h2 has no word for what it has not understood yet
        if len(rest) >= _HEAD.size and int.from_bytes(rest[:3], "big") > self.max_inbound_frame_size:
            raise FrameTooLargeError("a frame is longer than was agreed")
        return events

    def clear_outbound_data_buffer(self) -> None:
        """Keep what is not sent yet: h2 drops it at a GOAWAY, but streams that the server has taken go on."""

    def begin(self) -> None:
        """Say the preface, and open the connection's window."""
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def request(self, stream: int, method: bytes, block: bytes, body: bytes) -> int:
        """Open a stream, with a packed head and as much of the body as may go now.

        h2's own way is to build an object of each frame, and to check again what was checked.

        Returns:
            how much of the body has gone; the stream has ended on our side if that is all of it.

        Raises:
            ProtocolError: the connection is past that.
        """
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        if len(self.streams) > 2 * self.live + _PURGED:
            # h2 forgets what has ended when it counts what has not.
            _ = self.open_outbound_streams
        found = self._begin_new_stream(stream, AllowedStreamIDs.ODD)
        states = found.state_machine
        states.process_input(StreamInputs.SEND_HEADERS)
        found.request_method = method
        most = self.max_outbound_frame_size
        size = len(body)
        first = min(size, most, self.outbound_flow_control_window, found.outbound_flow_control_window)
        whole = first >= size
        out = self._data_to_send
        if len(block) <= most:
            out += _frame(len(block), _HEADERS, _END_HEADERS if size else _END_HEADERS | _END_STREAM, stream)
            out += block
        else:
            out += _frame(most, _HEADERS, 0 if size else _END_STREAM, stream)
            out += block[:most]
            for start in range(most, len(block), most):
                part = block[start : start + most]
                last = start + most >= len(block)
                out += _frame(len(part), _CONTINUATION, _END_HEADERS if last else 0, stream)
                out += part
        if first > 0:
            out += _frame(first, _DATA, _END_STREAM if whole else 0, stream)
            out += body if whole else body[:first]
            self.outbound_flow_control_window -= first
            found.outbound_flow_control_window -= first
        if whole:
            states.process_input(StreamInputs.SEND_END_STREAM)
        return max(0, first)

    def room_of(self, stream: int) -> int:
        """How many bytes may be sent on a stream now."""
        return min(self.outbound_flow_control_window, self.streams[stream].outbound_flow_control_window)
