"""A request made good: sent over whatever edge there is, asked about, sent again where that does no harm."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Raw, Struct

from erlmcp.client._answers import Answers, CannotAnswer
from erlmcp.client._connection import Connection
from erlmcp.client._conversation import Watch
from erlmcp.client._edges import Edge, Headers
from erlmcp.client._errors import NO_PLACE, BadAnswer, ClientError, Disconnected, ServerError, TooManyRounds
from erlmcp.client._rounds import needs_input, retried
from erlmcp.protocol import METHODS, errors

_HARMLESS: Final = frozenset(METHODS) - {"tools/call", "subscriptions/listen"} | {"ping", "logging/setLevel"}
"""Requests that only look, or say the same again."""
_FOREIGN: Final = frozenset({errors.INVALID_REQUEST, errors.UNSUPPORTED_VERSION})
"""Codes that a server of the other era may answer with, before it looked at what was asked."""


class Wanted(Struct, frozen=True, kw_only=True):
    """How a request is to be made.

    Attributes:
        watch: hears the notifications that belong to it.
        timeout: seconds without an answer or progress.
        longest: seconds whatever progress it makes.
        level: which of the server's log messages are wanted for it.
        meta: more for `_meta`.
        repeatable: it may be made again when its outcome is unknown.
    """

    watch: Watch | None = None
    timeout: float = 60.0
    longest: float = 600.0
    level: str | None = None
    meta: dict[str, Any] | None = None
    repeatable: bool = False


class Requests:
    """Makes requests over a connection.

    Args:
        connection: where the edges come from.
        answers: who answers what the server asks in between.
        rounds: how often it may ask.
        mirrored: gives the ``Mcp-Param-*`` headers of a call; with True, after learning the tools anew.
    """

    def __init__(
        self,
        connection: Connection,
        answers: Answers,
        rounds: int,
        mirrored: Callable[[Edge, dict[str, Any], bool], Awaitable[Headers]],
    ) -> None:
        self._connection = connection
        self._answers = answers
        self._rounds = rounds
        self._mirrored = mirrored

    async def make(self, method: str, params: dict[str, Any], wanted: Wanted) -> tuple[Raw, bool]:
        """Make a request.

        Returns:
            The raw result, which is complete; and whether it is the first round's, so that it may be kept.

        Raises:
            ClientError: the server refused, was lost, asked too often or for what nobody answers, or took too long.
        """
        peer = self._connection.peer
        now = params
        for _ in range(self._rounds + 1):
            raw, asks_again = await self._round(method, now, wanted)
            if not asks_again:
                return raw, True
            required = needs_input(raw, method, peer)
            if required is None:
                return raw, now is params
            known = METHODS.get(method)
            if known is None or not known.may_ask:
                raise BadAnswer(peer, f"{method}: it may not ask for input")
            try:
                now = await retried(params, required, self._answers)
            except CannotAnswer as error:
                raise BadAnswer(peer, f"{method} needs input: {error}") from error
        raise TooManyRounds(peer, f"{method}: it has asked for input {self._rounds} times, and asks again")

    async def _round(self, method: str, params: dict[str, Any], wanted: Wanted) -> tuple[Raw, bool]:
        """One request and its answer; sent a second time where the first has provably, or harmlessly, done nothing.

        Returns:
            The raw result, and whether it is one of an era whose results may ask for input.
        """
        tried: set[str] = set()
        relearn = False
        while True:
            edge = self._connection.edge or await self._connection.connected()
            headers: Headers = ()
            if method == "tools/call" and edge.asks_again and edge.conversation.wire.linked:
                headers = await self._mirrored(edge, params, relearn)
                relearn = False
            try:
                attempt = edge.request(
                    method,
                    params,
                    headers=headers,
                    watch=wanted.watch,
                    timeout=wanted.timeout,
                    longest=wanted.longest,
                    level=wanted.level,
                    meta=wanted.meta,
                )
                return await attempt.done, edge.asks_again
            except Disconnected as error:
                why = self._why_again(error, edge, method, wanted)
                if why is None or why in tried or (why == "era" and await self._is_still(edge, wanted)):
                    raise
            except ServerError as error:
                why = _why_again(error, edge)
                if why is None or why in tried or (why == "era" and await self._is_still(edge, wanted)):
                    raise
            tried.add(why)
            if why == "headers":
                relearn = True
            elif why in {"session", "era"}:
                self._connection.drop(edge)

    @staticmethod
    async def _is_still(edge: Edge, wanted: Wanted) -> bool:
        """Whether a server is of the era that it was: its refusal is its answer then, and it may have acted before."""
        try:
            asked = edge.request("server/discover", {}, timeout=wanted.timeout, longest=wanted.longest)
            await asked.done
        except ClientError:
            return False
        return True

    def _why_again(self, error: Disconnected, edge: Edge, method: str, wanted: Wanted) -> str | None:
        if error.session_lost:
            return "session"
        if error.unsent:
            return "lost"
        if _may_have_changed(edge) and error.status in NO_PLACE:
            return "era"
        if error.status is None and (wanted.repeatable or method in _HARMLESS):
            return "lost"
        return None


def _why_again(error: ServerError, edge: Edge) -> str | None:
    """Why a refused request may be sent again: the refusal proves that nothing was executed."""
    if edge.asks_again and error.code == errors.HEADER_MISMATCH:
        return "headers"
    return "era" if _may_have_changed(edge) and error.code in _FOREIGN else None


def _may_have_changed(edge: Edge) -> bool:
    """Whether somebody else may answer now than who was asked for the era: not within one connection."""
    return edge.asks_again and edge.conversation.wire.linked
