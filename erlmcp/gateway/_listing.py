"""What an upstream offers, as last heard: fetched within a deadline, and kept while the upstream is away.

Each list goes its own way, so that one which hangs or is refused keeps none of the others from being known
(docs/machines/listing.md). What could not be fetched stays as it was, and the whole is stale.
"""

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.client import NO_PLACE, Backoff, Change, ClientError, Disconnected, Edge, ServerError
from erlmcp.gateway._lists import LISTS, Fetched, Lists, fetch
from erlmcp.protocol import errors

log = Logger(namespace="erlmcp.gateway")

_PAUSE: Final = 0.5
"""Seconds from the end of one fetch of a list to the next: an upstream may say all the time that it has changed."""
_LEAST_REFRESH: Final = 10.0
_MOST_WAITING: Final = 1000
_UNHEARD: Final = "it has not been heard yet"
_FOREIGN_CODES: Final = frozenset({errors.INVALID_REQUEST, errors.UNSUPPORTED_VERSION})


class _List:
    """One list and where it is: resting, due (`timer`), or being fetched (`task`).

    Attributes:
        known: whether it has been heard at all.
        why: why it may not be true any more; None if it is fresh.
        again: whether it is to be fetched once more after the fetch that is under way.
        said: whether the upstream has said that it has changed, which nobody was told yet.
        failures: how many fetches in a row have failed.
        not_before: when it may be fetched again, unless somebody waits for it.
        due: when the timer fires.
    """

    __slots__ = (
        "again",
        "due",
        "failures",
        "found",
        "kind",
        "known",
        "not_before",
        "said",
        "task",
        "timer",
        "why",
    )

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.found = Fetched()
        self.known = False
        self.why: str | None = None
        self.again = False
        self.said = False
        self.failures = 0
        self.not_before = float("-inf")
        self.due = 0.0
        self.timer: IDelayedCall | None = None
        self.task: Deferred[None] | None = None


class Listing:
    """Keeps the lists of one upstream.

    Args:
        upstream: its name.
        connected: gives the edge to ask on.
        clock: the reactor's time.
        changed: called with the new lists and which of them differ from before, or have changed in between as the
            upstream says; none of them if only what the upstream says of itself does.
        staled: called when the lists become stale, with the reason, or fresh again, with None. The reason may name
            addresses: it is the operator's.
        dropped: called with an edge whose session the upstream has forgotten; `connected` gives another then.
        deadline: seconds for each list.
        refresh: seconds after which a list is asked for again, if it does not say that it is fresh for less; 0 for
            never.
        backoff: the pauses after failures.

    Attributes:
        lists: as last heard.
        stale: why they may not be true any more; None if they are fresh.
    """

    def __init__(
        self,
        upstream: str,
        connected: Callable[[], Deferred[Edge]],
        clock: IReactorTime,
        changed: Callable[[Lists, frozenset[str]], None],
        staled: Callable[[str | None], None],
        *,
        dropped: Callable[[Edge], None] = lambda _: None,
        deadline: float = 30.0,
        refresh: float = 300.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
    ) -> None:
        self.lists = Lists()
        self.stale: str | None = None
        self._upstream = upstream
        self._connected = connected
        self._clock = clock
        self._changed = changed
        self._staled = staled
        self._dropped = dropped
        self._deadline = deadline
        self._refresh = refresh
        self._backoff = backoff
        self._all = {kind: _List(kind) for kind in LISTS}
        self._waiters: dict[Deferred[None], set[str]] = {}
        self._stopped = True

    @property
    def known(self) -> bool:
        """Whether all of them have been heard."""
        return all(one.known for one in self._all.values())

    @property
    def unheard(self) -> frozenset[str]:
        """Those that have not been heard yet."""
        return frozenset(one.kind for one in self._all.values() if not one.known)

    def start(self) -> None:
        """Fetch everything, and keep it fresh."""
        if self._stopped:
            self._stopped = False
            for one in self._all.values():
                if not one.known:
                    one.why = _UNHEARD
            self._mark()
            self.want(*LISTS)

    def stop(self) -> None:
        """Fetch no more."""
        self._stopped = True
        for one in self._all.values():
            one.again = False
            self._disarm(one)
            if one.task is not None:
                one.task.cancel()
        self._tried(frozenset(LISTS))

    def heard(self, change: Change) -> None:
        """The upstream says that a list has changed. That is passed on once it has been fetched, as it is then."""
        kinds = ("resources", "templates") if change.kind == "resources" else (change.kind,)
        if kinds[0] in LISTS:
            self._all[kinds[0]].said = True
            self.want(*kinds)

    def lost(self, why: str) -> None:
        """The upstream has gone: what it offers is as it was, as far as anybody knows. It is asked again."""
        if not self._stopped:
            for one in self._all.values():
                if one.why is None:
                    one.why = why
            self._mark()
            self.want(*LISTS)

    def want(self, *kinds: str) -> None:
        """Fetch these lists soon: after a fetch that is under way, a pause, and what is waited after failures."""
        for kind in kinds:
            one = self._all[kind]
            if one.task is not None:
                one.again = True
            else:
                self._at(one, one.not_before, sooner=True)

    def fresh(self, *kinds: str) -> Deferred[None]:
        """Fetch these lists (all, if none is named) now; fires when that has been tried, or at once if stopped."""
        waiter: Deferred[None] = Deferred(self._gave_up)
        if self._stopped:
            waiter.callback(None)
            return waiter
        self._waiters[waiter] = set(kinds or LISTS)
        for kind in kinds or LISTS:
            one = self._all[kind]
            if one.task is not None:
                # What is under way may have been asked before whatever has changed.
                one.again = True
            else:
                self._begin(one)
        return waiter

    def tried(self) -> Deferred[None] | None:
        """Fires once what is fetched for the first time has come, or has failed; None if nothing is, or many wait."""
        first = {one.kind for one in self._all.values() if not one.known and one.task is not None}
        if not first or len(self._waiters) >= _MOST_WAITING:
            return None
        waiter: Deferred[None] = Deferred(self._gave_up)
        self._waiters[waiter] = first
        return waiter

    # one list

    def _at(self, one: _List, when: float, *, sooner: bool = False) -> None:
        """Fetch it then; with `sooner` a fetch that comes earlier is left as it is."""
        if self._stopped or (sooner and one.timer is not None and one.due <= when):
            return
        self._disarm(one)
        pause = when - self._clock.seconds()
        if pause <= 0 and sooner:
            self._begin(one)
            return
        one.due = when
        one.timer = self._clock.callLater(max(pause, 0.0), self._begin, one)

    @staticmethod
    def _disarm(one: _List) -> None:
        timer, one.timer = one.timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _begin(self, one: _List) -> None:
        self._disarm(one)
        one.again = False
        task: Deferred[None] = Deferred.fromCoroutine(self._fetch(one))
        if not task.called:
            one.task = task
        task.addBoth(self._ended, one)

    async def _fetch(self, one: _List) -> None:
        again = False
        while True:
            edge = await self._connected()
            try:
                found = await fetch(edge, one.kind, self._clock, self._deadline)
            except (Disconnected, ServerError) as error:
                wrong = _is_wrong(edge, error)
                if wrong:
                    self._dropped(edge)
                if again or not (wrong or (isinstance(error, Disconnected) and error.status is None)):
                    raise
                again = True
            else:
                self._take(one, found, edge)
                return

    def _take(self, one: _List, found: Fetched, edge: Edge) -> None:
        differs = found.entries != one.found.entries
        known, one.known, one.found, one.why = one.known, True, found, None
        before, now = self.lists, self._merged(edge)
        self.lists = now
        self._mark()
        said, one.said = one.said, False
        if before != now or not known or said:
            self._changed(now, frozenset({one.kind}) if differs or said else frozenset())

    def _merged(self, edge: Edge) -> Lists:
        offered = [one.found for one in self._all.values() if one.found.offered]
        return Lists(
            **{kind: one.found.entries for kind, one in self._all.items()},
            capabilities=edge.server.capabilities,
            instructions=edge.server.instructions,
            ttl_ms=min((one.ttl_ms for one in offered), default=0),
            cache_scope="public" if offered and all(one.public for one in offered) else "private",
        )

    def _ended(self, outcome: Any, one: _List) -> None:
        one.task = None
        now = self._clock.seconds()
        one.not_before = now + _PAUSE
        if self._stopped:
            return
        if isinstance(outcome, Failure):
            one.failures += 1
            one.why = self._reason(outcome, one.kind)
            one.not_before = now + max(self._backoff.delay(one.failures), _PAUSE)
            # What was asked for meanwhile waits with it.
            self._at(one, one.not_before)
            self._mark()
        else:
            one.failures = 0
            if one.again:
                waited = any(one.kind in kinds for kinds in self._waiters.values())
                self._at(one, now if waited else one.not_before)
                return
            pause = self._pause(one)
            if pause:
                self._at(one, now + pause)
        self._tried(frozenset({one.kind}))

    def _pause(self, one: _List) -> float:
        """Seconds until it is asked for again; 0 for never."""
        ttl = one.found.ttl_ms / 1000
        if not self._refresh or ttl <= 0:
            return self._refresh
        return min(max(ttl, _LEAST_REFRESH), self._refresh)

    def _reason(self, failure: Failure, kind: str) -> str:
        if failure.check(ClientError):
            return str(failure.value)
        if failure.check(CancelledError):
            return f"{LISTS[kind][0]}: cancelled"
        log.failure("fetching {kind} of {upstream} failed", failure, kind=kind, upstream=self._upstream)
        return f"{LISTS[kind][0]}: it could not be taken in"

    # all of them

    def _mark(self) -> None:
        """Say so if they have become stale, or fresh."""
        before = self.stale
        now = next((one.why for one in self._all.values() if one.why is not None), None)
        if now == before:
            return
        self.stale = now
        if now is None:
            log.info("{upstream}: its lists are fresh", upstream=self._upstream)
        elif now != _UNHEARD and before in {None, _UNHEARD}:
            log.warn("{upstream}: its lists may be stale: {why}", upstream=self._upstream, why=now)  # noqa: G010 - Twisted's name
        self._staled(now)

    def _gave_up(self, waiter: Deferred[None]) -> None:
        self._waiters.pop(waiter, None)

    def _tried(self, kinds: frozenset[str]) -> None:
        for waiter, waited in list(self._waiters.items()):
            waited.difference_update(kinds)
            if not waited:
                del self._waiters[waiter]
                waiter.callback(None)


def _is_wrong(edge: Edge, error: Disconnected | ServerError) -> bool:
    """Whether the upstream has forgotten the session, or has become one of the other era: another edge is needed."""
    if isinstance(error, Disconnected):
        return error.session_lost or (edge.asks_again and error.status in NO_PLACE)
    return edge.asks_again and error.code in _FOREIGN_CODES
