"""The h2 library's connection, made fit for a client with many calls on it: what it counts and forgets differs."""

from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.settings import SettingCodes, Settings

STREAM_WINDOW: Final = 256 * 1024
"""What a stream's receiver may still get after it has paused, in bytes."""

CONNECTION_WINDOW: Final = 16 * 1024 * 1024
"""What may be on its way on a whole connection. It is opened as bytes come: each stream's receiver has them then."""

_PURGED: Final = 32


class _States(H2ConnectionStateMachine):
    # After GOAWAY the streams that the server has taken go on (RFC 9113, 6.8); h2 would call their frames an error.
    _transitions = {  # noqa: RUF012 - as in the base class
        **H2ConnectionStateMachine._transitions,  # noqa: SLF001 - it has no public word for it
        (ConnectionState.IDLE, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.IDLE),
        (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN),
    }


class ClientConnection(H2Connection):
    """One HTTP/2 connection's state, without I/O.

    Args:
        header_bytes: how large an answer's head may be, unpacked.

    Attributes:
        live: how many streams are open; whoever uses this keeps it right.
    """

    def __init__(self, header_bytes: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                # What is sent was looked at before, and is in lower case.
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.state_machine = _States()
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

    @property
    def open_outbound_streams(self) -> int:
        """How many streams are open. h2 walks through all of them for each that is opened."""
        if len(self.streams) > self.live + _PURGED:
            # What it walks for beside: those that are closed are forgotten.
            return super().open_outbound_streams
        return self.live

    def clear_outbound_data_buffer(self) -> None:
        """Keep what is not sent yet: h2 drops it at a GOAWAY, but streams that the server has taken go on."""

    def begin(self) -> None:
        """Say the preface, and open the connection's window."""
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def room_of(self, stream: int) -> int:
        """How many bytes may be sent on a stream now."""
        found: Any = self.streams[stream]
        window: int = min(self.outbound_flow_control_window, found.outbound_flow_control_window)
        return window
