"""One session with an upstream: its connection, the calls on it, and whose question is whose."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from erlmcp.client import CANCEL, Attempt, CannotAnswer, Connection, Edge, Identity
from erlmcp.gateway._leases import Whose
from erlmcp.gateway._names import Naming
from erlmcp.gateway._notes import pass_on
from erlmcp.gateway._rewriting import rewrite_question
from erlmcp.interfaces import Outcome, Pending, Request
from erlmcp.protocol import LOG_LEVELS, McpError

log = Logger(namespace="erlmcp.gateway")

_OF_CALLS: Final = frozenset({"notifications/progress", "notifications/message"})
_OF_ROUNDS: Final = frozenset({"inputResponses", "requestState"})

Told = Callable[[str, Raw], None]
"""Hears the notifications of an upstream that belong to no call."""


class MakesConnections(Protocol):
    """Makes the connection of a session; see `erlmcp.gateway.Upstream`."""

    def __call__(self, whose: Whose, answering: Any, notified: Any) -> Connection:
        """Make it, not connected yet."""


class UpstreamCall(Pending[Outcome]):
    """One request on its way through the gateway, and what comes of it.

    Attributes:
        request: what the client asked.
        asked: how many questions the upstream has put for it.
        asking: how many of them have no answer yet.
        refusal: why its client could not be asked last; None if it could.
        under_way: whether it has a session.
        sent: whether it was sent on that.
        lost: whether it was lost once, and may have been executed then.

    Args:
        naming: the upstream's names here.
    """

    __slots__ = ("_naming", "asked", "asking", "lost", "refusal", "request", "sent", "under_way")

    def __init__(self, request: Request, naming: Naming) -> None:
        super().__init__()
        self.request = request
        self._naming = naming
        self.asked = 0
        self.asking = 0
        self.refusal: McpError | None = None
        self.under_way = False
        self.sent = False
        self.lost = False

    async def ask(self, questions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Put questions of the upstream to the client, by key; so are its answers.

        Raises:
            McpError: it cannot be asked.
            RuntimeError: the call has ended.
        """
        self.will_ask()
        self.asking += 1
        self.refusal = None
        try:
            return await self.request.ask(
                {key: rewrite_question(question, self._naming) for key, question in questions.items()}
            )
        except McpError as refusal:
            self.refusal = refusal
            raise
        finally:
            self.asking -= 1

    def will_ask(self) -> None:
        """Its client is about to be asked something: for a subclass that has to know."""

    async def ask_next(self, question: dict[str, Any]) -> dict[str, Any]:
        """Put one live question, under a key of its own; see `ask`."""
        self.asked += 1
        key = f"ask-{self.asked}"
        return (await self.ask({key: question}))[key]


class UpstreamSession:
    """A session that calls are made on.

    Args:
        make: makes its connection.
        whose: whose it is.
        told: hears what belongs to no call.
        upstream: the upstream's name.

    Attributes:
        connection: what it is held over.
        level: the log level that was set for it; None for none.
        edge: what its last call was made over; another once it was lost and begun again.
        lives: how often it was begun.
    """

    def __init__(self, make: MakesConnections, whose: Whose, told: Told, upstream: str) -> None:
        self.whose = whose
        self.connection = make(whose, self, self._notified)
        self.level: str | None = None
        self.edge: Edge | None = None
        self.lives = 0
        self._calls: dict[Attempt, UpstreamCall] = {}
        self._beginning: UpstreamCall | None = None  # what comes while a request is being sent is its
        self._told = told
        self._upstream = upstream

    def begin(
        self,
        call: UpstreamCall,
        edge: Edge,
        method: str,
        params: dict[str, Any],
        *,
        identity: Identity,
        headers: tuple[tuple[bytes, bytes], ...],
        meta: dict[str, Any] | None,
    ) -> Attempt:
        """Make one request, once, over `edge`, which the connection has now. Whoever began it has to `end` it.

        Returns:
            Its `done` will have the raw result, or a `ClientError`.
        """
        request = call.request
        call.under_way = True
        call.sent = False
        if edge is not self.edge:
            # Another life: a level that was set is not set any more.
            self.edge, self.level = edge, None
            self.lives += 1
        if not edge.asks_again:
            # Answers that came unasked are for questions that will be asked live.
            params = {name: value for name, value in params.items() if name not in _OF_ROUNDS}
            if request.log_level is not None:
                self._raise_level(edge, request.log_level)
        wants = request.progress_token is not None or request.log_level is not None
        self._beginning = call
        try:
            attempt = edge.request(
                method,
                params,
                headers=headers,
                watch=_Watch(request).heard if wants else None,
                timeout=None,  # the request's own deadline is kept by the server, which cancels this
                level=request.log_level,
                meta=meta,
                identity=identity,
            )
        finally:
            self._beginning = None
        self._calls[attempt] = call
        call.sent = True
        return attempt

    def end(self, attempt: Attempt) -> None:
        """A request has come to its end, whichever it was."""
        del self._calls[attempt]

    async def answer(self, method: str, params: dict[str, Any], via: Any = None) -> dict[str, Any]:
        """Answer a live question of the upstream: `erlmcp.client.Answering`.

        Raises:
            CannotAnswer: it is not known whose it is, or its client cannot be asked.
        """
        call = self._call_of(via)
        if call is None:
            raise CannotAnswer("nobody can be asked: it is not known to whose request this question belongs")
        try:
            return await call.ask_next({"method": method, "params": _modern(method, params)})
        except McpError as error:
            raise CannotAnswer(error.message) from error
        except RuntimeError as error:
            raise CannotAnswer("the call has ended") from error
        except CancelledError:
            # Nobody answered in time, or the caller has gone.
            if method == "elicitation/create":
                return CANCEL
            raise CannotAnswer("nobody answered in time") from None

    def ping(self, patience: float = 10.0) -> Deferred[None]:
        """Ask whether the upstream is there; fails if it does not answer within so many seconds."""
        return Deferred.fromCoroutine(self._ping(patience))

    async def _ping(self, patience: float) -> None:
        edge = await self.connection.connected()
        await edge.request("server/discover" if edge.asks_again else "ping", {}, timeout=patience).done

    def close(self) -> Deferred[None]:
        """End it."""
        return self.connection.close()

    def _raise_level(self, edge: Edge, level: str) -> None:
        """Ask for messages as verbose as any caller wants them (eras.md, ``logging/setLevel``)."""
        if not edge.server.offers("logging"):
            return
        if self.level is None or LOG_LEVELS.index(level) < LOG_LEVELS.index(self.level):
            self.level = level
            edge.request("logging/setLevel", {"level": level}).done.then(_level_set, self._no_level)

    def _no_level(self, error: BaseException) -> None:
        self.level = None
        log.info("{upstream}: logging/setLevel: {error}", upstream=self._upstream, error=error)

    def _notified(self, method: str, params: Raw, via: Attempt | None) -> None:
        if via is None and method == "notifications/message":
            call = self._call_of(None)
            if call is not None:
                pass_on(call.request, method, params)
        elif method not in _OF_CALLS:
            # What has changed may also be told on the stream of the call that changed it.
            self._told(method, params)

    def _call_of(self, via: Attempt | None) -> UpstreamCall | None:
        """The call that a message belongs to: on a stream, where nothing says so, the only one that there is.

        Over HTTP it comes on the call's own stream; what comes on the server's belongs to none.
        """
        if via is not None:
            return self._calls.get(via, self._beginning)
        edge = self.connection.edge
        if edge is not None and edge.conversation.wire.linked:
            return None
        return self._beginning or (next(iter(self._calls.values())) if len(self._calls) == 1 else None)


class _Watch:
    """Passes the notifications of one call on to its client."""

    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        self._request = request

    def heard(self, method: str, params: Raw) -> None:
        pass_on(self._request, method, params)


def _level_set(_: object) -> None:
    """That is all."""


def _modern(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A handshake server's question as the modern revision has it."""
    if method != "elicitation/create":
        return params
    return {"mode": "form", **{name: value for name, value in params.items() if name != "elicitationId"}}
