"""What a caller of the HTTP client says and hears: origins, requests, and who gets an answer piece by piece.

Nothing here does I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class WebError(Exception):
    """A request was not answered, or its answer broke off.

    Attributes:
        unsent: the server has provably not acted on the request: it is safe to send it again.
    """

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests go (RFC 9110, 4.3.1).

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name in lower case and in its ASCII form, or an address; IPv6 without brackets.
        port: 1 to 65535.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> bytes:
        """What ``Host`` and ``:authority`` say: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return (host if self.port == usual else f"{host}:{self.port}").encode("ascii")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority.decode('ascii')}"


@dataclass(frozen=True, slots=True)
class WebRequest:
    """One request.

    Attributes:
        method: such as ``b"POST"``.
        target: the path and query, beginning with a slash.
        headers: names in lower case. ``host``, ``content-length`` and whatever concerns the connection are the
            client's to add; ``accept-encoding: identity`` too, unless it is given.
        body: the whole body; empty for none.
    """

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""


class Receiver(Protocol):
    """Who gets the answer to one request. Exactly one of `done` and `failed` ends it, unless it is aborted before.

    All is called from the reactor, never within `Pool.send`.
    """

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The answer begins: its final status, 200 to 599, and its headers, names in lower case, in order."""

    def body(self, data: bytes) -> None:
        """A part of the body, not empty. Some may still come after `Ongoing.pause`: up to what is on its way."""

    def done(self) -> None:
        """The answer is complete."""

    def failed(self, error: WebError) -> None:
        """There is no answer, or no more of it."""


class Ongoing(Protocol):
    """A request under way."""

    def abort(self) -> None:
        """Nobody wants the answer: its receiver hears nothing more. Does nothing once the request has ended."""

    def pause(self) -> None:
        """Let no more of the body come for now: HTTP/1.1 stops reading, HTTP/2 opens the window no further."""

    def resume(self) -> None:
        """Let it come again."""
