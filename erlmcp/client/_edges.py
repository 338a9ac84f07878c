"""The two eras as a client speaks them: the same requests, put each in its way, over one conversation."""

from typing import Any, Final, Protocol

import msgspec

from erlmcp.client._conversation import Attempt, Conversation, Watch
from erlmcp.client._errors import BadAnswer, NotOffered
from erlmcp.client._identity import Identity
from erlmcp.client._results import InitializeResult, Server, ServerInfo, read
from erlmcp.protocol import HANDSHAKE_METHODS, METHODS, MODERN, encode_header_value

Headers = tuple[tuple[bytes, bytes], ...]

_VERSION: Final = (b"mcp-protocol-version", MODERN.encode())
_METHOD_HEADERS: Final[dict[str, Headers]] = {
    name: (_VERSION, (b"mcp-method", name.encode())) for name in METHODS
}


_MOST_HEADERS: Final = 256


class Edge(Protocol):
    """One era, spoken over one conversation.

    Attributes:
        server: what is known of the server.
        conversation: what it is spoken over.
        asks_again: whether the server's questions come as results (MRTR).
    """

    server: Server
    conversation: Conversation
    asks_again: bool

    def request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        headers: Headers = (),
        watch: Watch | None = None,
        timeout: float | None = 60.0,
        longest: float = 600.0,
        level: str | None = None,
        meta: dict[str, Any] | None = None,
        identity: Identity | None = None,
    ) -> Attempt:
        """Send a request; see `Conversation.request`.

        Args:
            method: the request's.
            params: without `_meta`.
            headers: ``Mcp-Param-*``, where the era has them.
            watch: hears the notifications that belong to it, progress included.
            timeout: see `Conversation.request`.
            longest: see `Conversation.request`.
            level: which of the server's log messages are wanted for it.
            meta: more for `_meta`; the protocol's own keys in it are left out.
            identity: for whom this one is, in the modern revision; in a session it is settled.

        Raises:
            NotOffered: the era has no such request.
        """


class Modern:
    """Revision 2026-07-28: each request says all there is to know."""

    asks_again = True

    def __init__(self, conversation: Conversation, identity: Identity, server: Server) -> None:
        self.conversation = conversation
        self.server = server
        self._identity = identity
        self._linked = conversation.wire.linked
        self._headers: dict[tuple[str, str], Headers] = {}  # of those that were asked for last
        conversation.by_notice = not self._linked

    def request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        headers: Headers = (),
        watch: Watch | None = None,
        timeout: float | None = 60.0,
        longest: float = 600.0,
        level: str | None = None,
        meta: dict[str, Any] | None = None,
        identity: Identity | None = None,
    ) -> Attempt:
        """See `Edge`."""
        if method in HANDSHAKE_METHODS and method not in METHODS:
            raise NotOffered(self.conversation.peer, f"{method} is not in revision {MODERN}")
        identifier = self.conversation.next_id()
        token = None if watch is None else identifier
        whole = {**params, "_meta": (identity or self._identity).envelope(token, level, meta)}
        if self._linked:
            headers = self._mirrored(method, params) + headers
        return self.conversation.request(
            identifier, method, whole, headers=headers, watch=watch, timeout=timeout, longest=longest
        )

    def _mirrored(self, method: str, params: dict[str, Any]) -> Headers:
        """The standard headers (basic/transports/streamable-http, "Request Metadata")."""
        known = METHODS.get(method)
        field = None if known is None else known.name_field
        value = None if field is None else params.get(field)
        if not isinstance(value, str):
            return _standard(method)
        headers = self._headers.get((method, value))
        if headers is None:
            headers = (*_standard(method), (b"mcp-name", encode_header_value(value)))
            if len(self._headers) >= _MOST_HEADERS:
                self._headers.clear()
            self._headers[method, value] = headers
        return headers


def _standard(method: str) -> Headers:
    return _METHOD_HEADERS.get(method) or (_VERSION, (b"mcp-method", encode_header_value(method)))


class Handshake:
    """The revisions before: a session, begun by `begin`, within which the server may ask."""

    asks_again = False

    def __init__(self, conversation: Conversation, identity: Identity) -> None:
        self.conversation = conversation
        self.server = Server(era="handshake", version="", capabilities={}, info=ServerInfo())
        self._identity = identity
        conversation.by_notice = True

    async def begin(self, version: str, patience: float) -> None:
        """Shake hands.

        Args:
            version: the revision to ask for; the server may answer with another.
            patience: seconds for it.

        Raises:
            ClientError: the server refused, or answered what is no greeting.
        """
        conversation = self.conversation
        attempt = conversation.request(
            conversation.next_id(),
            "initialize",
            self._identity.greeting(version),
            timeout=patience,
            longest=patience,
        )
        raw = await attempt.done
        try:
            self.server = read(InitializeResult, raw).server()
        except (msgspec.DecodeError, ValueError) as error:
            raise BadAnswer(conversation.peer, f"initialize: {error}") from error
        session = conversation.wire.session
        if session is not None:
            session.begin(self.server.version)
        conversation.notify("notifications/initialized")
        if session is not None:
            session.listen()

    def request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        headers: Headers = (),
        watch: Watch | None = None,
        timeout: float | None = 60.0,
        longest: float = 600.0,
        level: str | None = None,
        meta: dict[str, Any] | None = None,
        identity: Identity | None = None,
    ) -> Attempt:
        """See `Edge`. `headers`, `level` and `identity` are not in these revisions, and left out."""
        del headers, level, identity
        if method in METHODS and method not in HANDSHAKE_METHODS:
            raise NotOffered(self.conversation.peer, f"{method} is not in revision {self.server.version}")
        identifier = self.conversation.next_id()
        token = None if watch is None else identifier
        own = self._identity.handshake_meta(token, meta)
        return self.conversation.request(
            identifier,
            method,
            {**params, "_meta": own} if own else params,
            watch=watch,
            timeout=timeout,
            longest=longest,
            resumable=True,
        )
