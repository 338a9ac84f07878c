"""Reads that several may share: answers kept as long as an upstream allows, and one question for all who ask it now.

Only within one authorization context, and never in a round of a call that asks for input.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from erlmcp.client import Cache
from erlmcp.interfaces import Complete, Outcome, Request
from erlmcp.protocol import Params

READS: Final = frozenset(
    ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
)
"""The methods whose results may be kept (2026-07-28, server/utilities/caching)."""

_Key = tuple[str, str, bytes]
_FLIGHTS: Final = 1000
_FOLLOWERS: Final = 1000


class _Kind(Struct, rename="camel"):
    result_type: str = "complete"


_read_kind: Final = msgspec.json.Decoder(_Kind).decode
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Kept(NamedTuple):
    """An answer that was kept.

    Attributes:
        result: as it came.
        ttl_ms: for how much longer it is fresh, which is what whoever gets it has to be told instead of its own
            ``ttlMs``.
    """

    result: Raw
    ttl_ms: int


class Sharing:
    """What is shared of one upstream's answers.

    Args:
        upstream: its name, under which the cache has its answers.
        cache: where they are kept; one may serve several upstreams.
        flights: questions under way at most that others may join; further ones are asked by each for itself.
        followers: how many may join one.

    Attributes:
        stamp: changes with each change that the upstream tells of. Take it before asking, for `keep`.
        joined: how many questions were not asked, since the same was under way.
    """

    __slots__ = ("_cache", "_flights", "_followers", "_most", "_upstream", "joined", "stamp")

    def __init__(
        self, upstream: str, cache: Cache, *, flights: int = _FLIGHTS, followers: int = _FOLLOWERS
    ) -> None:
        self._upstream = upstream
        self._cache = cache
        self._most = flights
        self._followers = followers
        self._flights: dict[_Key, _Flight] = {}
        self.stamp = 0
        self.joined = 0

    @staticmethod
    def key(params: Mapping[str, Any]) -> bytes:
        """What tells one question from another: the parameters as they are sent, without what is the hop's own."""
        return _encode(params)

    @staticmethod
    def keeps(request: Request) -> bool:
        """Whether the answer to a request may be looked up and kept."""
        if request.method not in READS:
            return False
        params = request.params
        return not isinstance(params, Params) or (
            params.input_responses is UNSET and params.request_state is UNSET
        )

    @staticmethod
    def joins(request: Request) -> bool:
        """Whether a request may share its way to the upstream: nobody waits for progress or log messages of it."""
        return Sharing.keeps(request) and request.progress_token is None and request.log_level is None

    def find(self, context: str, method: str, key: bytes) -> Kept | None:
        """An answer that is still fresh.

        Args:
            context: the authorization context, as `UpstreamCredentials.context` says it.
            method: of the question.
            key: of its parameters.
        """
        found = self._cache.aged(context, self._upstream, method, key)
        return None if found is None else Kept(found[0], int(found[1] * 1000))

    def keep(self, context: str, method: str, key: bytes, result: Raw, stamp: int) -> None:
        """Keep an answer for as long as it says itself, unless it asks for input.

        Args:
            context: as for `find`.
            method: as for `find`.
            key: as for `find`.
            result: the whole result, as it came.
            stamp: `stamp` as it was before the question was sent. If it is another now, the answer may be older than
                what has changed since, and is not kept.
        """
        if stamp != self.stamp or method not in READS:
            return
        try:
            kind = _read_kind(result)
        except msgspec.DecodeError:
            return
        if kind.result_type == "complete":
            self._cache.keep(context, self._upstream, method, key, result)

    async def coalesce(
        self,
        context: str,
        method: str,
        key: bytes,
        start: Callable[[Callable[[], None]], Awaitable[Outcome]],
    ) -> Outcome:
        """Ask, or wait for the answer to the same question that is under way.

        Whoever stops waiting takes nothing from the others; the question is given up when nobody waits any more. What
        came of it is shared if it is complete. If it failed, those who had joined ask once more, together; and one that
        needs its caller's input is each caller's own.

        Args:
            context: as for `find`. Where a session stands for its client, it belongs in here too.
            method: as for `find`.
            key: as for `find`.
            start: asks. It is given what it has to call before it asks its caller for input: from then on the answer
                is this caller's alone.
        """
        place = (context, method, key)
        again = False
        while True:
            flight = self._flights.get(place)
            if flight is None or flight.full:
                return await self._lead(place, start)
            arrived = await flight.join()
            if isinstance(arrived, Complete):
                self.joined += 1
                return Complete(dict(arrived.fields))  # each caller's edge works on its own
            if arrived is None or (again and isinstance(arrived, CancelledError)):
                return await start(_nothing)  # it became somebody's own: so may this one
            if again:
                raise arrived
            # It failed, perhaps for reasons of the caller who had asked. What fails once more has failed for all.
            again = True

    def changed(self, notification: str, uri: str | None = None) -> None:
        """Forget what a notification says has changed: `Cache.changed`. Who asks from now on asks anew."""
        self._part()
        self._cache.changed(self._upstream, notification, uri)

    def forget(self) -> None:
        """Forget everything: the upstream may be another than before."""
        self._part()
        self._cache.forget(self._upstream)

    def _part(self) -> None:
        self.stamp += 1
        self._flights.clear()

    async def _lead(self, place: _Key, start: Callable[[Callable[[], None]], Awaitable[Outcome]]) -> Outcome:
        if place in self._flights or len(self._flights) >= self._most:
            return await start(_nothing)
        flight = _Flight(self._followers)
        self._flights[place] = flight

        def over() -> None:
            if self._flights.get(place) is flight:
                del self._flights[place]

        return await flight.take_off(start, over)


class _Flight:
    """One question under way, and who waits for its answer."""

    __slots__ = ("_leader", "_most", "_over", "_waiting", "_work")

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[Deferred[Complete | Exception | None]] = []
        self._leader: Deferred[Outcome] | None = None
        self._work: Deferred[Outcome] | None = None
        self._over: Callable[[], None] = _nothing

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self._most

    async def take_off(
        self, start: Callable[[Callable[[], None]], Awaitable[Outcome]], over: Callable[[], None]
    ) -> Outcome:
        """Ask, on behalf of whoever waits."""
        self._over = over
        leader: Deferred[Outcome] = Deferred(self._leader_left)
        self._leader = leader
        self._work = maybeDeferred(_awaited, start, self._part)
        self._work.addCallbacks(self._arrived, self._failed)
        return await leader

    def join(self) -> Deferred[Complete | Exception | None]:
        """Wait too: for a complete outcome, why there is none, or None if there will be none to be shared."""
        waiter: Deferred[Complete | Exception | None] = Deferred(self._left)
        self._waiting.append(waiter)
        return waiter

    def _part(self) -> None:
        """It is its caller's own from here on."""
        self._over()
        self._tell(None)

    def _arrived(self, outcome: Outcome) -> None:
        self._over()
        leader, self._leader = self._leader, None
        self._tell(outcome if isinstance(outcome, Complete) else None)
        if leader is not None:
            leader.callback(outcome)

    def _failed(self, failure: Failure) -> None:
        self._over()
        leader, self._leader = self._leader, None
        error = failure.value
        self._tell(error if isinstance(error, Exception) else None)
        if leader is not None:
            leader.errback(failure)

    def _tell(self, what: Complete | Exception | None) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:  # what one does with it may be the end of another
                waiter.callback(what)

    def _leader_left(self, _: Deferred[Outcome]) -> None:
        self._leader = None
        self._land_if_empty()

    def _left(self, waiter: Deferred[Complete | Exception | None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        self._land_if_empty()

    def _land_if_empty(self) -> None:
        if self._leader is None and not self._waiting and self._work is not None:
            self._over()
            self._work.cancel()


async def _awaited(
    start: Callable[[Callable[[], None]], Awaitable[Outcome]], part: Callable[[], None]
) -> Outcome:
    return await start(part)


def _nothing() -> None:
    """Nothing has to be told to anybody."""
