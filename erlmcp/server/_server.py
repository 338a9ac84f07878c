"""One MCP server, put together: what `tap` makes one of, and gives a channel of to each listener."""

import time
from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from erlmcp.catalog import Catalog
from erlmcp.interfaces import Change, IChannel, ICounters, IEngine, IMiddleware, Request
from erlmcp.jsonrpc import Codec, Limits
from erlmcp.protocol import Cursors, KeyRing, Params, SessionTokens
from erlmcp.server._channel import Channel
from erlmcp.server._directory import Directory
from erlmcp.server._dispatch import Dispatch
from erlmcp.server._handshake import HandshakeEdge
from erlmcp.server._in_flight import InFlight
from erlmcp.server._live import LiveQuestions
from erlmcp.server._modern import ModernEdge
from erlmcp.server._parking import Parking
from erlmcp.server._pipeline import Gates, Pipeline
from erlmcp.server._sessions import Sessions
from erlmcp.server._subscriptions import Subscriptions
from erlmcp.server._ways import Roads
from erlmcp.timing import Wheel

_CHANGES = "changes"


class Server:
    """Serves a catalog to clients of both eras, over any transport.

    Args:
        name, version, title: what clients are told (``serverInfo``).
        catalog: what there is to serve.
        gates: the pipeline's gates.
        counters: where requests and errors are counted.
        key_ring: seals cursors, ``requestState`` and session ids.
        engine: keeps what of sessions must outlive the process.
        clock: the reactor.
        owner: this worker's name, in ids that must find their way back to it.
        ways: to the other workers; None where there are none.
        scope: tells apart the servers of one process that share keys and engine: what is sealed by one (cursors,
            sessions, ``requestState``) is nothing to another.
        instructions: for models; the providers' own where empty.
        website, icons: further parts of ``serverInfo``.
        middleware: around each dispatch, the first outermost.
        limits: of a message's size and shape.
        page_size: entries a page of a list.
        park_limit: seconds that a call waits for its client's input.
        parked_per_principal, parked: how many calls may so wait.
        subscriptions: how many may listen at once.
        session_lifetime: seconds that a handshake session may live.
        session_idle: seconds that its streams are kept without a word from its client.
        sessions_per_hour: how many a principal, or an address that nobody knows more of, may open in an hour.
        session_events: bytes of what was sent to sessions that are kept for clients that come back.
        answer_limit: seconds that a handshake client has to answer a question.
        wall_clock, seconds: seconds since the epoch, and a clock for durations.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        catalog: Catalog,
        gates: Gates,
        counters: ICounters,
        key_ring: KeyRing,
        engine: IEngine,
        clock: IReactorTime,
        owner: str = "",
        ways: Roads | None = None,
        scope: str = "",
        title: str | None = None,
        instructions: str = "",
        website: str | None = None,
        icons: Sequence[dict[str, Any]] = (),
        middleware: Sequence[IMiddleware] = (),
        limits: Limits | None = None,
        page_size: int = 100,
        park_limit: float = 600.0,
        parked_per_principal: int = 100,
        parked: int = 10_000,
        subscriptions: int = 50_000,
        session_lifetime: float = 86_400.0,
        session_idle: float = 1_800.0,
        sessions_per_hour: int = 10_000,
        session_events: int = 64 * 1024 * 1024,
        answer_limit: float = 600.0,
        wall_clock: Callable[[], float] = time.time,
        seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        key_ring = key_ring.within(scope) if scope else key_ring
        self._limits = limits or Limits()
        self._catalog = catalog
        self._gates = gates
        self._counters = counters
        self._seconds = seconds
        self._topic = f"{_CHANGES}/{scope}" if scope else _CHANGES
        self._in_flight = InFlight()
        self._ways = own_ways = None if ways is None else ways.within(scope)
        self._engine = engine
        self._owner = owner = owner or token_hex(4)
        self._wheel = Wheel(clock)
        self.parking = Parking(
            key_ring.sealer("request-state"),
            self._wheel,
            wall_clock,
            owner=owner,
            limit=park_limit,
            per_principal=parked_per_principal,
            total=parked,
        )
        self.subscriptions = Subscriptions(
            catalog.capabilities, self._readable, self._wheel, catalog.follow, total=subscriptions
        )
        directory = Directory(
            catalog,
            gates.authorize,
            Cursors(key_ring.sealer("cursor")),
            wall_clock,
            page_size=page_size,
            instructions=instructions,
        )
        info: dict[str, Any] = {"name": name, "version": version}
        if title is not None:
            info["title"] = title
        if website is not None:
            info["websiteUrl"] = website
        if icons:
            info["icons"] = list(icons)
        self._modern = ModernEdge(info, catalog.capabilities, self.parking)
        self.sessions = Sessions(
            SessionTokens(key_ring.sealer("session"), session_lifetime),
            engine,
            self._wheel,
            clock,
            wall_clock,
            owner=owner,
            idle=session_idle,
            minted_per_hour=sessions_per_hour,
            most_kept=session_events,
        )
        self.sessions.ended = catalog.forget_sessions
        self.questions = LiveQuestions(owner, self._wheel, limit=answer_limit)
        self._handshake = HandshakeEdge(
            info,
            lambda: instructions or catalog.instructions,
            catalog.capabilities,
            self.sessions,
            self.questions,
            self.subscriptions,
            own_ways,
        )
        dispatch = Dispatch(
            directory, self.subscriptions, self._handshake.own, middleware, self._wheel, clock
        )
        self._pipeline = Pipeline(gates, dispatch, counters, seconds)
        self._unwatch = [catalog.watch(self.subscriptions.publish if ways is None else self._changed)]
        if ways is not None:
            self._unwatch.append(engine.subscribe(self._topic, self._heard))

    @property
    def in_flight(self) -> int:
        """How many calls wait for something, subscriptions included."""
        return len(self._in_flight)

    def channel(self, limits: Limits | None = None) -> IChannel:
        """The channel for one listener.

        Args:
            limits: that listener's own limits of a message's size and shape.
        """
        codec = Codec(Params, limits or self._limits)
        return Channel(
            codec,
            self._modern,
            self._handshake,
            self._pipeline,
            self._counters,
            self._seconds,
            self._in_flight,
            self._ways,
        )

    @property
    def parked(self) -> int:
        """How many calls wait for their client's answer, in a retry or live."""
        return len(self.parking) + len(self.questions)

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way or parked, and no client is to come back for an answer."""
        return not (self._in_flight or self.parking or self.parking.awaited or self.sessions.owing)

    def retire(self) -> None:
        """Another process has taken over: end what clients can have there, and go on with the rest."""
        self.subscriptions.close()
        self.sessions.close()

    def drain(self) -> Deferred[None]:
        """End subscriptions gracefully and parked calls at once; fires when no call is left."""
        self._end_watches()
        self.subscriptions.close()
        self.parking.close()
        self.sessions.close()
        return self._in_flight.empty()

    def stop(self) -> None:
        """End all that is left, now."""
        self._in_flight.cancel()
        self._end_watches()
        self.sessions.unfollow()
        self._wheel.stop()

    def _end_watches(self) -> None:
        for end in self._unwatch:
            end()

    def _changed(self, change: Change) -> None:
        """Something has changed here: the listeners of other workers want to hear of it too."""
        self.subscriptions.publish(change)
        if not change.everywhere:
            payload = msgspec.json.encode((self._owner, change.kind, change.uri))
            self._engine.publish(self._topic, payload)

    def _heard(self, payload: bytes) -> None:
        owner, kind, uri = msgspec.json.decode(payload, type=tuple[str, str, str])
        if owner != self._owner:
            self.subscriptions.publish(Change(kind, uri))

    def _readable(self, request: Request, uri: str) -> bool:
        if self._catalog.find("resources/read", uri) is None:
            return False
        return self._gates.authorize.shows(request.principal, "resources/read", uri)
