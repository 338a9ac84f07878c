"""The two eras as a client speaks them: the same requests, put each in its way, over one conversation."""

from typing import Any, ClassVar, Final

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


class Edge:
    """One era, spoken over one conversation: `Modern` or `Handshake`.

    Attributes:
        server: what is known of the server.
        conversation: what it is spoken over.
        asks_again: whether the server's questions come as results (MRTR).
    """

    asks_again: ClassVar[bool]
    _foreign: ClassVar[frozenset[str]]  # requests that only the other era has

    def __init__(self, conversation: Conversation, identity: Identity, server: Server) -> None:
        self.conversation = conversation
        self.server = server
        self._identity = identity
        self._mirrors = self.asks_again and conversation.wire.linked
        self._headers: dict[tuple[str, str], Headers] = {}  # of those that were asked for last
        # Where a request has a stream of its own, and may be cancelled by its end, it is.
        conversation.by_notice = not self._mirrors

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
        conversation = self.conversation
        if method in self._foreign:
            revision = MODERN if self.asks_again else self.server.version
            raise NotOffered(conversation.peer, f"{method} is not in revision {revision}")
        identifier = conversation.next_id()
        token = None if watch is None else identifier
        if self.asks_again:
            if self._mirrors:
                headers = self._mirrored(method, params) + headers
            params = {**params, "_meta": (identity or self._identity).envelope(token, level, meta)}
        else:
            headers = ()
            own = self._identity.handshake_meta(token, meta)
            if own:
                params = {**params, "_meta": own}
        return conversation.request(
            identifier,
            method,
            params,
            headers=headers,
            watch=watch,
            timeout=timeout,
            longest=longest,
            resumable=not self.asks_again,
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


class Modern(Edge):
    """Revision 2026-07-28: each request says all there is to know."""

    asks_again = True
    _foreign = frozenset(HANDSHAKE_METHODS) - frozenset(METHODS)


class Handshake(Edge):
    """The revisions before: a session, begun by `begin`, within which the server may ask."""

    asks_again = False
    _foreign = frozenset(METHODS) - frozenset(HANDSHAKE_METHODS)

    def __init__(self, conversation: Conversation, identity: Identity) -> None:
        unknown = Server(era="handshake", version="", capabilities={}, info=ServerInfo())
        super().__init__(conversation, identity, unknown)

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


def _standard(method: str) -> Headers:
    return _METHOD_HEADERS.get(method) or (_VERSION, (b"mcp-method", encode_header_value(method)))
