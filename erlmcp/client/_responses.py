"""Answers to a server's own requests: a call waits for them, so what is lost on its way is sent again."""

from collections.abc import Callable
from typing import Final

from erlmcp.client._wire import Outgoing, Wire, WireError
from erlmcp.timing import Wheel

_MOST: Final = 5
_AGAIN: Final = 0.2


class Response(Outgoing):
    """One answer.

    Attributes:
        tries: how often it was sent.
    """

    __slots__ = ("tries",)

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.tries = 1


class Responses:
    """All answers that go over one wire.

    A server that has an answer already waits for it no more, and drops the second one.

    Args:
        wire: the way there.
        wheel: for the pauses before an answer is sent again, each twice as long as the one before.
        is_over: whether nothing is sent any more.
    """

    def __init__(self, wire: Wire, wheel: Wheel, is_over: Callable[[], bool]) -> None:
        self._wire = wire
        self._wheel = wheel
        self._is_over = is_over

    def send(self, body: bytes) -> None:
        """Send one; `body` is the whole message."""
        if not self._is_over():
            self._wire.send(Response(body))

    def failed(self, response: Response, error: WireError) -> None:
        """One was lost, or refused: that is final."""
        refused = error.session_lost or (error.status is not None and 400 <= error.status < 500)
        if not refused and response.tries < _MOST:
            self._wheel.after(_AGAIN * 2 ** (response.tries - 1), self._again, response)
            response.tries += 1

    def _again(self, response: Response) -> None:
        if not self._is_over():
            self._wire.send(response)
