"""Hearing from an upstream what changes: its lists, and the resources that anybody here follows.

All that is wanted goes into one ``subscriptions/listen``, which is replaced when what is wanted changes: the new one is
opened before the old one is closed, so that nothing is missed. To an upstream with sessions the same steps are
``resources/subscribe`` and ``unsubscribe`` of what differs (`erlmcp.client` sees to it, and to listening again after
a loss, when everything counts as changed). Who has more resources than one listen should name gets further ones.
docs/machines/listening.md has the states of one.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.client import Backoff, Change, Connection, Edge, Subscription

log = Logger(namespace="erlmcp.gateway")

KINDS: Final = ("tools", "prompts", "resources")
_PAUSE: Final = 0.1
"""Seconds between two rounds of replacing what is listened to, and between two updates of one resource."""
_PATIENCE: Final = 2.0
"""Seconds that somebody waits for an upstream to say that it listens."""
_MOST_URIS: Final = 1_000
_MOST_STREAMS: Final = 100
_BACKOFF: Final = Backoff(first=1.0, longest=300.0)


class State(Enum):
    """Where a listen is."""

    IDLE = "nothing is being changed"
    OPENING = "the next one is asked for"
    OVERDUE = "it was not acknowledged in time"


class _Listen:
    """One listen: what it should be about, what it is about now, and what is to come in its place.

    Attributes:
        kinds, uris: what is wanted.
        state: where it is.
        now: the one that the upstream has acknowledged.
        coming: the one that is to take its place.
        dirty: whether what is wanted differs from what was asked for last.
        gap: whether changes may have been missed: all that is wanted counts as changed when it is heard again.
        missed: resources of which that is so.
        failures: how often in a row the upstream has refused.
        timer: ends the patience with what is `coming`.
        retry: asks again after a refusal.
        waiters: who waits, for which resource; the empty one stands for the lists.
    """

    __slots__ = (
        "coming",
        "dirty",
        "failures",
        "gap",
        "kinds",
        "missed",
        "now",
        "retry",
        "state",
        "timer",
        "uris",
        "waiters",
    )

    def __init__(self) -> None:
        self.kinds: frozenset[str] = frozenset()
        self.uris: set[str] = set()
        self.state = State.IDLE
        self.now: Subscription | None = None
        self.coming: Subscription | None = None
        self.dirty = False
        self.gap = False
        self.missed: set[str] = set()
        self.failures = 0
        self.timer: IDelayedCall | None = None
        self.retry: IDelayedCall | None = None
        self.waiters: dict[Deferred[None], str] = {}

    def covers(self, uri: str) -> bool:
        """Whether updates of it are heard of now."""
        return self.now is not None and uri in self.now.uris


class Following:
    """One who follows a resource: `erlmcp.interfaces.IFollowing`."""

    __slots__ = ("_uri", "_watching")

    def __init__(self, watching: "Watching | None", uri: str) -> None:
        self._watching = watching
        self._uri = uri

    def ready(self) -> "Deferred[None] | None":
        """See `IFollowing`."""
        return None if self._watching is None else self._watching.ready(self._uri)

    def end(self) -> None:
        """See `IFollowing`."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.forget(self._uri)


class Watching:
    """What is listened to at one upstream, on one of its sessions.

    Args:
        upstream: its name.
        clock: the reactor's time.
        listed: called when the upstream says that a list has changed.
        updated: called with the upstream's own URI of a resource that it says has changed; at most ten times a second
            for one resource.
        backoff: the pauses after it refuses to listen.

    Attributes:
        connection: where it listens; None before the first `listen_on`.
    """

    def __init__(
        self,
        upstream: str,
        clock: IReactorTime,
        listed: Callable[[Change], None],
        updated: Callable[[str], None],
        *,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self.connection: Connection | None = None
        self._upstream = upstream
        self._clock = clock
        self._listed = listed
        self._updated = updated
        self._backoff = backoff
        self._main = _Listen()
        self._listens: dict[_Listen, None] = {self._main: None}
        self._of: dict[str, _Listen] = {}
        self._counts: dict[str, int] = {}
        self._round: IDelayedCall | None = None
        self._last_round = float("-inf")
        self._recent: set[str] = set()
        self._late: dict[str, None] = {}
        self._calm: IDelayedCall | None = None

    @property
    def followed(self) -> int:
        """How many resources are followed."""
        return len(self._counts)

    def hears(self, kind: str) -> bool:
        """Whether the upstream is listened to for changes of this kind (a list, or ``resource``)."""
        return kind == "resource" or kind in self._main.kinds

    # what is wanted

    def follow(self, uri: str) -> Following:
        """Somebody wants to hear of a resource's updates.

        Args:
            uri: as the upstream has it.
        """
        count = self._counts.get(uri, 0)
        if not count and not self._place(uri):
            log.warn("{upstream}: too many resources are followed", upstream=self._upstream)  # noqa: G010 - Twisted's name
            return Following(None, uri)
        self._counts[uri] = count + 1
        return Following(self, uri)

    def forget(self, uri: str) -> None:
        """One of those who followed it does not any more."""
        self._counts[uri] -= 1
        if not self._counts[uri]:
            del self._counts[uri]
            listen = self._of.pop(uri)
            listen.uris.discard(uri)
            listen.missed.discard(uri)
            self._late.pop(uri, None)
            self._changed(listen)

    def ready(self, uri: str) -> Deferred[None] | None:
        """See `IFollowing`."""
        listen = self._of[uri]
        if listen.covers(uri):
            return None
        connected = self.connection is not None and self.connection.edge is not None
        if connected and listen.retry is None and (listen.dirty or listen.state is State.OPENING):
            return self._wait(listen, uri)
        # Nobody knows when: it counts as changed then.
        listen.missed.add(uri)
        return None

    def _place(self, uri: str) -> bool:
        listen = next((one for one in self._listens if len(one.uris) < _MOST_URIS), None)
        if listen is None:
            if len(self._listens) >= _MOST_STREAMS:
                return False
            listen = _Listen()
            self._listens[listen] = None
        self._of[uri] = listen
        listen.uris.add(uri)
        self._changed(listen)
        return True

    @staticmethod
    def _wait(listen: _Listen, uri: str) -> Deferred[None]:
        def gave_up(waiter: Deferred[None]) -> None:
            listen.waiters.pop(waiter, None)

        waiter: Deferred[None] = Deferred(gave_up)
        listen.waiters[waiter] = uri
        return waiter

    # where it is listened

    def listen_on(self, connection: Connection, edge: Edge) -> Deferred[None] | None:
        """Listen on a session of the upstream, from now on.

        Args:
            connection: the session's.
            edge: its edge, which has just been asked for.

        Returns:
            None if everything that is wanted is heard of; else what fires when it is, or after a few seconds.
        """
        main = self._main
        if connection is not self.connection:
            self.connection = connection
            for listen in self._listens:
                listen.gap = listen.gap or listen.now is not None
                self._drop(listen)
                self._changed(listen)
        kinds = frozenset(kind for kind in KINDS if edge.server.offers(kind, "listChanged"))
        if kinds != main.kinds:
            main.kinds = kinds
            self._changed(main)
        if main.now is not None and main.now.kinds >= kinds:
            return None
        self._run_round()
        return self._wait(main, "") if main.state is State.OPENING else None

    def stop(self) -> None:
        """Listen no more; who still waits need not."""
        for timer in (self._round, self._calm):
            if timer is not None:
                timer.cancel()
        self._round = self._calm = None
        self._recent.clear()
        self._late.clear()
        for listen in self._listens:
            self._drop(listen)
        self.connection = None

    # rounds

    def _changed(self, listen: _Listen) -> None:
        listen.dirty = True
        if self._round is None and self.connection is not None:
            pause = self._last_round + _PAUSE - self._clock.seconds()
            self._round = self._clock.callLater(max(pause, 0.0), self._run_round)

    def _run_round(self) -> None:
        timer, self._round = self._round, None
        if timer is not None and timer.active():
            timer.cancel()
        self._last_round = self._clock.seconds()
        if self.connection is None:
            return
        for listen in list(self._listens):
            if listen.dirty and listen.retry is None and listen.state is not State.OPENING:
                self._replace(listen, self.connection)

    def _replace(self, listen: _Listen, connection: Connection) -> None:
        """Ask for what is wanted now."""
        listen.dirty = False
        if not (listen.kinds or listen.uris):
            self._drop(listen)
            if listen is not self._main:
                del self._listens[listen]
            return
        late, listen.coming = listen.coming, None
        if late is not None:
            late.close()
        listen.state = State.OPENING
        one: Subscription | None = None

        def heard(change: Change) -> None:
            if one is listen.now or listen.now is None or not _hears(listen.now, change):
                self._heard(change)

        def refused(failure: Failure) -> None:
            self._refused(listen, one, failure)

        coming = one = connection.subscriptions.add(listen.kinds, listen.uris, heard, refused)
        listen.coming = coming
        listen.timer = self._clock.callLater(_PATIENCE, self._impatient, listen)
        coming.acknowledged.addCallbacks(lambda _: self._acknowledged(listen, coming), refused)

    def _acknowledged(self, listen: _Listen, one: Subscription) -> None:
        before, listen.now, listen.coming = listen.now, one, None
        if before is not None:
            before.close()
        listen.failures = 0
        self._settle(listen)
        self._release(listen, one.uris | {""})
        gap, listen.gap = listen.gap, False
        missed = one.uris & (listen.uris if gap else listen.missed)
        listen.missed -= one.uris
        if gap:
            for kind in sorted(one.kinds):
                self._heard(Change(kind))
        for uri in sorted(missed):
            self._heard(Change("resource", uri))
        if listen.dirty:
            self._changed(listen)

    def _refused(self, listen: _Listen, one: Subscription | None, failure: Failure) -> None:
        if one is None or (one is not listen.coming and one is not listen.now):
            return
        if one is listen.now:
            # It listened, and does not after a gap.
            listen.now = None
            listen.gap = True
            if listen.coming is not None:
                return
        listen.coming = None
        listen.dirty = True
        self._settle(listen)
        self._give_up_waiting(listen)
        if failure.check(CancelledError):
            return  # the session has ended; there will be another one
        if not listen.failures:
            log.warn(  # noqa: G010 - Twisted's name
                "{upstream}: it does not tell of changes: {error}",
                upstream=self._upstream,
                error=failure.value,
            )
        listen.failures += 1
        listen.retry = self._clock.callLater(self._backoff.delay(listen.failures), self._retry, listen)

    def _retry(self, listen: _Listen) -> None:
        listen.retry = None
        self._changed(listen)

    def _impatient(self, listen: _Listen) -> None:
        """Nobody waits any longer; it may be acknowledged yet."""
        listen.timer = None
        listen.state = State.OVERDUE
        self._give_up_waiting(listen)
        if listen.dirty:
            self._changed(listen)

    def _give_up_waiting(self, listen: _Listen) -> None:
        """When it is acknowledged after all, what is not heard of until then counts as changed."""
        listen.missed |= {uri for uri in listen.uris if not listen.covers(uri)}
        listen.gap = listen.gap or listen.now is None
        self._release(listen, None)

    @staticmethod
    def _settle(listen: _Listen) -> None:
        """Nothing is under way any more."""
        listen.state = State.IDLE
        timer, listen.timer = listen.timer, None
        if timer is not None:
            timer.cancel()

    def _drop(self, listen: _Listen) -> None:
        ended = (listen.coming, listen.now)
        listen.coming = listen.now = None
        for one in ended:
            if one is not None:
                one.close()
        retry, listen.retry = listen.retry, None
        if retry is not None:
            retry.cancel()
        self._settle(listen)
        self._release(listen, None)

    @staticmethod
    def _release(listen: _Listen, uris: AbstractSet[str] | None) -> None:
        """Those who wait for one of these, or for anything, need not any more."""
        for waiter, uri in list(listen.waiters.items()):
            if uris is None or uri in uris:
                del listen.waiters[waiter]
                waiter.callback(None)

    # what is heard

    def _heard(self, change: Change) -> None:
        uri = change.uri
        if uri is None:
            self._listed(change)
        elif uri in self._recent:
            self._late[uri] = None
        elif uri in self._counts:
            self._recent.add(uri)
            if self._calm is None:
                self._calm = self._clock.callLater(_PAUSE, self._calmed)
            self._updated(uri)

    def _calmed(self) -> None:
        late, self._late = self._late, {}
        self._recent = set(late)
        self._calm = self._clock.callLater(_PAUSE, self._calmed) if late else None
        for uri in late:
            self._updated(uri)


def _hears(one: Subscription, change: Change) -> bool:
    return change.kind in one.kinds if change.uri is None else change.uri in one.uris
