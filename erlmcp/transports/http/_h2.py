"""How the h2 library is used: what it is told, and what it is kept from. Pure."""

from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, Frame

from erlmcp.transports.http._hpack import PlainEncoder, RememberingDecoder

WINDOW: Final = 256 * 1024
"""How many bytes of one request may come before we say that more may."""
CONNECTION_WINDOW: Final = 1024 * 1024
"""The same for all requests of a connection together."""
FIRST_WINDOW: Final = 65535
"""The connection's window before we have said anything (RFC 9113, 6.9.2)."""

# HEADERS for a stream that has ended have been taken for a request, which pays for four frames.
_STRAY: Final = 5
_CLEANED: Final = 32
_CONFIGURATION: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    # What comes in is checked in `_fields`, where a malformed request costs its stream and not the connection.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class ServerProtocol(H2Connection):
    """h2's side of a connection, with what it keeps of the past bounded by what is of use.

    Args:
        headers: the most bytes of a request's fields, as RFC 9113, 6.5.2 counts them.
        streams: how many requests may be under way.

    Attributes:
        strays: what is to be paid for frames for streams that have ended: h2 answers each with a reset, unasked.
    """

    MAX_CLOSED_STREAMS = 256

    def __init__(self, headers: int, streams: int) -> None:
        super().__init__(_CONFIGURATION)
        self.decoder = RememberingDecoder(headers)
        self.encoder = PlainEncoder()
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: headers,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            },
        )
        self.strays = 0
        self._asked = 0

    def _stream_is_closed_by_reset(self, stream_id: int) -> bool:
        # Asked for such frames alone, all but DATA.
        self.strays += _STRAY
        return super()._stream_is_closed_by_reset(stream_id)

    def _handle_data_on_closed_stream(
        self, events: list[Event], exc: StreamClosedError, frame: DataFrame
    ) -> tuple[list[Frame], list[Event]]:
        self.strays += 1
        return super()._handle_data_on_closed_stream(events, exc, frame)

    @property
    def open_inbound_streams(self) -> int:
        """None, as far as h2 needs to know: it would end the connection for one too many, where a stream is refused.

        It looks through all of them for each request, and cleans up as it does; that is done from time to time.
        """
        self._asked += 1
        if self._asked % _CLEANED == 0:
            super().open_inbound_streams  # noqa: B018 - it cleans up
        return 0
