"""How a client comes to speak with a server: the wire opened, the era found out, hands shaken where it has to be."""

from collections.abc import Callable, MutableMapping
from typing import Final

from msgspec import Raw
from twisted.internet.interfaces import IReactorTime

from erlmcp.client._conversation import Audience, Conversation
from erlmcp.client._edges import Edge, Handshake, Modern
from erlmcp.client._errors import NO_PLACE, ClientError, NotOffered, ServerError
from erlmcp.client._identity import LATEST_HANDSHAKE, Identity
from erlmcp.client._probe import Verdict, judge, speaks_ours
from erlmcp.client._results import Server, ServerInfo
from erlmcp.client._wire import Wire, WireMaker
from erlmcp.jsonrpc import Limits
from erlmcp.protocol import HANDSHAKE_VERSIONS, MODERN
from erlmcp.timing import Wheel

PROBE_TIMEOUT: Final = 5.0
"""Seconds that a stream's server has for ``server/discover``: those of the handshake era may say nothing at all."""

EraMemory = MutableMapping[str, str]
"""Which era each server was found to be of, by its name: ``modern`` or ``handshake``. Any mapping serves, also one that
outlives the process; what proves wrong is corrected."""


class Opening:
    """Opens edges to one server.

    Args:
        make_wire: makes a wire to it.
        make_old_wire: makes one for HTTP+SSE of 2024-11-05, tried where a URL refuses ``initialize``; None for none.
        identity: who the client says it is.
        wheel: for limits of time.
        clock: the reactor's time.
        era: ``modern`` or ``handshake`` to speak that without asking, or a revision's name; None to find out.
        memory: what was found out before.
        timeout: seconds for each step of it.
        in_flight: see `Conversation`.
        waiting: see `Conversation`.
        limits: see `Conversation`.

    Attributes:
        waiting: as it was given; for those who wait for an edge, too.
    """

    def __init__(
        self,
        make_wire: WireMaker,
        identity: Identity,
        wheel: Wheel,
        clock: IReactorTime,
        *,
        make_old_wire: WireMaker | None = None,
        era: str | None = None,
        memory: EraMemory | None = None,
        timeout: float = 30.0,
        in_flight: int = 1000,
        waiting: int = 100_000,
        limits: Limits | None = None,
    ) -> None:
        self._make_wire = make_wire
        self._make_old_wire = make_old_wire
        self._identity = identity
        self._wheel = wheel
        self._clock = clock
        self._era, self._version = _era_and_version(era)
        self._memory = {} if memory is None else memory
        self._timeout = timeout
        self._in_flight = in_flight
        self.waiting = waiting
        self._limits = limits

    async def open(self, audience: Audience, met: Callable[[Conversation], None]) -> Edge:
        """Open a wire and find out how to speak over it.

        Args:
            audience: hears what the server says by itself.
            met: called with each conversation as it begins, so that a caller who gives up can close it.

        Raises:
            ClientError: there is no server, or none to speak with.
        """
        wire = self._make_wire()
        era = self._era or self._memory.get(wire.peer)
        if era == Verdict.HANDSHAKE.value:
            return await self._after_memory(wire, audience, met)
        return await self._probe(wire, audience, met)

    async def _after_memory(
        self, wire: Wire, audience: Audience, met: Callable[[Conversation], None]
    ) -> Edge:
        try:
            return await self._shake_hands(wire, audience, met)
        except ClientError as error:
            # It may have become another since: the memory is corrected once, by asking.
            if self._era is None and not getattr(error, "unsent", False):
                self._memory.pop(wire.peer, None)
            if self._era is not None or not _is_refused(error):
                raise
        return await self._probe(self._make_wire(), audience, met)

    async def _probe(self, wire: Wire, audience: Audience, met: Callable[[Conversation], None]) -> Edge:
        conversation = await self._conversation(wire, audience, met)
        unknown = Server(era="modern", version="", capabilities={}, info=ServerInfo())
        edge = Modern(conversation, self._identity, unknown)
        patience = self._timeout if wire.linked else min(PROBE_TIMEOUT, self._timeout)
        outcome = await _discovered(edge, patience)
        try:
            verdict, found = judge(outcome, linked=wire.linked, peer=wire.peer)
            if found is None and self._era == "modern":
                raise outcome if isinstance(outcome, ClientError) else _not_modern(wire)
        except ClientError:
            await conversation.close()
            raise
        if found is not None:
            edge.server = found.server()
            self._memory[wire.peer] = verdict.value
            return edge
        if wire.linked:
            return await self._greet(conversation, audience, met)
        # A stream's server of the handshake era may be beside itself after a first request that it does not know.
        await conversation.close()
        return await self._shake_hands(self._make_wire(), audience, met)

    async def _shake_hands(self, wire: Wire, audience: Audience, met: Callable[[Conversation], None]) -> Edge:
        return await self._greet(await self._conversation(wire, audience, met), audience, met)

    async def _greet(
        self, conversation: Conversation, audience: Audience, met: Callable[[Conversation], None]
    ) -> Edge:
        edge = Handshake(conversation, self._identity)
        peer = conversation.peer
        try:
            await edge.begin(self._version, self._timeout)
        except ClientError as error:
            await conversation.close()
            if self._make_old_wire is None or not _is_no_such_place(error):
                raise
            edge = await self._greet_old(self._make_old_wire(), audience, met, error)
        self._memory[peer] = Verdict.HANDSHAKE.value
        return edge

    async def _greet_old(
        self, wire: Wire, audience: Audience, met: Callable[[Conversation], None], first: ClientError
    ) -> Handshake:
        try:
            conversation = await self._conversation(wire, audience, met)
        except ClientError:
            raise first from None  # it is no such server either: the first answer says more
        edge = Handshake(conversation, self._identity)
        try:
            await edge.begin(self._version, self._timeout)
        except ClientError:
            await conversation.close()
            raise
        return edge

    async def _conversation(
        self, wire: Wire, audience: Audience, met: Callable[[Conversation], None]
    ) -> Conversation:
        conversation = Conversation(
            wire,
            self._wheel,
            self._clock,
            audience,
            in_flight=self._in_flight,
            waiting=self.waiting,
            limits=self._limits,
        )
        met(conversation)
        await conversation.open()
        return conversation


async def _discovered(edge: Modern, patience: float) -> Raw | ClientError:
    """What comes of ``server/discover``; asked again where a server refuses the very version that it says it speaks."""
    for attempts_left in (1, 0):
        try:
            return await edge.request("server/discover", {}, timeout=patience, longest=patience).done
        except ClientError as error:
            if not attempts_left or not speaks_ours(error):
                return error
    raise AssertionError("the last attempt returns")


def _era_and_version(wanted: str | None) -> tuple[str | None, str]:
    if wanted in HANDSHAKE_VERSIONS:
        return Verdict.HANDSHAKE.value, wanted
    era = Verdict.MODERN.value if wanted == MODERN else wanted
    if era not in {None, "modern", "handshake"}:
        known = ", ".join(("modern", "handshake", MODERN, *HANDSHAKE_VERSIONS))
        raise ValueError(f"era is {wanted!r}; it is one of {known}")
    return era, LATEST_HANDSHAKE


def _is_refused(error: ClientError) -> bool:
    """Whether a server that is there did not take ``initialize``."""
    return isinstance(error, ServerError) or getattr(error, "status", None) in NO_PLACE


def _is_no_such_place(error: ClientError) -> bool:
    """Whether a URL does not take POSTs of ``initialize`` (2025-11-25, basic/transports, "Backwards Compatibility")."""
    status = error.answered_with if isinstance(error, ServerError) else getattr(error, "status", None)
    return status in NO_PLACE


def _not_modern(wire: Wire) -> ClientError:
    return NotOffered(wire.peer, "it does not speak the modern revision, as it must here")
