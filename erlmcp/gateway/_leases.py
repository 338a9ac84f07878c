"""Sessions with one upstream, lent to one call at a time or shared: who gets which, who waits, which are let go.

A handshake session means something to its server, so a caller gets the one that is its own: by principal, by the
capabilities that it declared, and by its own session if it has one. A modern upstream has no sessions, and an
upstream that is declared stateless does not mind whose they are.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from msgspec import Struct, structs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from erlmcp.interfaces import ANONYMOUS, Principal

log = Logger(namespace="erlmcp.gateway")


class Whose(Struct, frozen=True):
    """Whose a session is. Two that differ in `who` alone are the same.

    Attributes:
        principal: the authorization context; empty where the upstream does not tell callers apart.
        capabilities: what its client can be asked, encoded.
        session: the client's own session; empty for clients without one.
        who: the principal that asked first.
    """

    principal: str = ""
    capabilities: bytes = b"{}"
    session: str = ""
    who: Principal = ANONYMOUS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Whose) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> tuple[str, bytes, str]:
        """What tells it from another."""
        return self.principal, self.capabilities, self.session


class PoolSettings(Struct, frozen=True, kw_only=True):
    """How many sessions there may be with one upstream.

    Attributes:
        size: those that are kept although nobody uses them.
        overflow: those beyond, ended once they are idle.
        idle: seconds until then.
        queue: calls that may wait for a session.
        recycle: calls after which a session is ended and another made; 0 for never.
        probe: seconds without a word after which an idle session is asked whether it is there; 0 for never.
    """

    size: int = 1
    overflow: int = 15
    idle: float = 60.0
    queue: int = 10_000
    recycle: int = 0
    probe: float = 30.0


class Member(Protocol):
    """What is lent: a connection to the upstream."""

    def close(self) -> "Deferred[None]":
        """End it."""

    def ping(self) -> "Deferred[None]":
        """Ask whether it is there; fails if it is not."""


class Exhausted(Exception):  # noqa: N818 - it reads as what it says
    """As many sessions as there may be are in use, and as many calls wait as may."""


class Seat:
    """One session and who uses it.

    Attributes:
        member: the connection.
        whose: whose it is.
        calls: how many calls use it now.
        alone: whether one call has it for itself.
        served: how many calls it has served.
        pins: what else needs it to stay, such as a subscription.
        on_retired: called when it is to be ended, for who has pinned it to let go of it; None for nobody.
    """

    __slots__ = (
        "alone",
        "calls",
        "idle_since",
        "member",
        "on_retired",
        "pins",
        "probing",
        "retiring",
        "served",
        "whose",
    )

    def __init__(self, member: Any, whose: Whose, now: float) -> None:
        self.member = member
        self.whose = whose
        self.calls = 0
        self.alone = False
        self.served = 0
        self.pins = 0
        self.idle_since = now
        self.retiring = False
        self.probing = False
        self.on_retired: Callable[[], None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody needs it."""
        return not self.calls and not self.pins


class _Waiter(NamedTuple):
    whose: Whose
    alone: bool
    deferred: "Deferred[Seat]"


class Leases:
    """The sessions with one upstream.

    Args:
        make: makes a connection for whoever it is for; it connects when it is used.
        clock: the reactor's time.
        settings: how many there may be.
        stateless: whether any session with the same principal and capabilities will do.

    Attributes:
        made: how many sessions have been made so far.
    """

    def __init__(
        self,
        make: Callable[[Whose], Member],
        clock: IReactorTime,
        settings: PoolSettings,
        *,
        stateless: bool = False,
    ) -> None:
        self.made = 0
        self._make = make
        self._clock = clock
        self._settings = settings
        self._stateless = stateless
        self._seats: dict[Whose, list[Seat]] = {}
        self._count = 0
        self._waiting: deque[_Waiter] = deque()
        self._ending: set[Deferred[Any]] = set()
        self._timer: IDelayedCall | None = None
        self._closed = False
        self._all_ended: Deferred[None] | None = None

    @property
    def count(self) -> int:
        """How many sessions there are."""
        return self._count

    @property
    def waiting(self) -> int:
        """How many calls wait for one."""
        return len(self._waiting)

    @property
    def most(self) -> int:
        """How many there may be."""
        return self._settings.size + self._settings.overflow

    @property
    def shares(self) -> bool:
        """Whether a session may serve several callers."""
        return self._stateless

    def warm(self, whose: Whose) -> None:
        """Make a session beforehand, if there is room for one."""
        seat = self._room_for(self._plain(whose))
        if seat is not None:
            self._probe(seat)

    def seats(self) -> list[Seat]:
        """All of them."""
        return [seat for seats in self._seats.values() for seat in seats]

    def take(self, whose: Whose, *, alone: bool = False) -> "Seat | Deferred[Seat]":
        """Get a session: at once, or when one is free, in the order of asking.

        Args:
            whose: whose it must be.
            alone: whether nobody else may use it meanwhile.

        Raises:
            Exhausted: too many wait already.
        """
        whose = self._plain(whose)
        seat = None if self._waiting else self._find(whose, alone=alone)
        if seat is None and self._waiting and not alone:
            # Who shares a session that is there takes it from nobody who waits for another.
            seat = self._shared(whose)
        if seat is not None:
            return self._lend(seat, alone=alone)
        if len(self._waiting) >= self._settings.queue:
            raise Exhausted(
                f"all {self.most} sessions are in use, and {self._settings.queue} calls wait for one"
            )
        deferred: Deferred[Seat] = Deferred(self._gave_up)
        self._waiting.append(_Waiter(whose, alone, deferred))
        return deferred

    def give_back(self, seat: Seat, *, broken: bool = False) -> None:
        """A call has ended.

        Args:
            seat: what it had.
            broken: whether the session is good for nobody any more.
        """
        seat.calls -= 1
        seat.alone = False
        seat.served += 1
        seat.idle_since = self._clock.seconds()
        recycle = self._settings.recycle
        if broken or (recycle and seat.served >= recycle):
            self._retire(seat)
        elif seat.retiring and seat.idle:
            self._end(seat)
        self._serve()
        self._watch()

    def pin(self, whose: Whose) -> Seat:
        """Keep a session, made if it must be, until `unpin`: for what lasts, such as the list of tools.

        Raises:
            Exhausted: there may be no more.
        """
        whose = self._plain(whose)
        lasting = (seat for seat in self._seats.get(whose, ()) if not seat.retiring)
        seat = next(lasting, None) or self._room_for(whose)
        if seat is None:
            raise Exhausted(f"all {self.most} sessions are in use")
        seat.pins += 1
        return seat

    def unpin(self, seat: Seat) -> None:
        """It need not stay any more."""
        seat.pins -= 1
        seat.idle_since = self._clock.seconds()
        if seat.retiring and seat.idle:
            self._end(seat)
            self._serve()
        self._watch()

    def forget_session(self, session: str) -> None:
        """A client's own session has ended: nobody asks for what was its alone."""
        for whose, seats in list(self._seats.items()):
            if session and whose.session == session:
                for seat in list(seats):
                    self._retire(seat)

    def close(self) -> "Deferred[None]":
        """End all; fires when they have ended."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            one.deferred.errback(Exhausted("the upstream is being closed"))
        for seat in self.seats():
            self._end(seat)
        return Deferred.fromCoroutine(self._ended())

    async def _ended(self) -> None:
        while self._ending:
            waiter: Deferred[None] = Deferred()
            self._all_ended = waiter
            await waiter

    # who gets which

    def _plain(self, whose: Whose) -> Whose:
        return structs.replace(whose, session="") if self._stateless else whose

    def _find(self, whose: Whose, *, alone: bool) -> Seat | None:
        seats = self._seats.get(whose, ())
        free = [seat for seat in seats if not seat.retiring and not seat.alone]
        idle = [seat for seat in free if not seat.calls]
        if idle:
            return idle[0]
        if not alone and free and not self._stateless:
            return free[0]
        if not seats or self._stateless or all(seat.retiring for seat in seats):
            made = self._room_for(whose)
            if made is not None:
                return made
        return min(free, key=_load) if free and not alone else None

    def _shared(self, whose: Whose) -> Seat | None:
        free = [one for one in self._seats.get(whose, ()) if not one.retiring and not one.alone]
        return min(free, key=_load) if free else None

    def _room_for(self, whose: Whose) -> Seat | None:
        if self._closed:
            return None
        if self._count >= self.most:
            idle = [seat for seat in self.seats() if seat.idle]
            if not idle:
                return None
            self._end(min(idle, key=lambda seat: seat.idle_since))
        seat = Seat(self._make(whose), whose, self._clock.seconds())
        self._seats.setdefault(whose, []).append(seat)
        self._count += 1
        self.made += 1
        return seat

    @staticmethod
    def _lend(seat: Seat, *, alone: bool) -> Seat:
        seat.calls += 1
        seat.alone = alone
        return seat

    def _serve(self) -> None:
        """Give sessions to those who wait, in their order; who waits for another's does not hold up the rest."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            seat = self._find(one.whose, alone=one.alone)
            if seat is None:
                self._waiting.append(one)
            else:
                one.deferred.callback(self._lend(seat, alone=one.alone))

    def _gave_up(self, deferred: "Deferred[Seat]") -> None:
        self._waiting = deque(one for one in self._waiting if one.deferred is not deferred)

    # which are let go

    def _retire(self, seat: Seat) -> None:
        seat.retiring = True
        if seat.idle:
            self._end(seat)
        on_retired, seat.on_retired = seat.on_retired, None
        if on_retired is not None:
            on_retired()

    def _end(self, seat: Seat) -> None:
        seats = self._seats.get(seat.whose)
        if seats is None or seat not in seats:
            return
        seats.remove(seat)
        if not seats:
            del self._seats[seat.whose]
        self._count -= 1
        ending = seat.member.close()
        self._ending.add(ending)
        ending.addErrback(lambda failure: log.failure("ending a session failed", failure))
        ending.addBoth(self._has_ended, ending)

    def _has_ended(self, _: Any, ending: "Deferred[Any]") -> None:
        self._ending.discard(ending)
        waiter, self._all_ended = self._all_ended, None
        if waiter is not None:
            waiter.callback(None)

    def _watch(self) -> None:
        if self._timer is None and not self._closed and self._count:
            period = min(self._settings.idle, self._settings.probe or self._settings.idle) / 2
            self._timer = self._clock.callLater(max(period, 0.1), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        settings = self._settings
        idle = sorted((seat for seat in self.seats() if seat.idle), key=lambda seat: seat.idle_since)
        for seat in idle:
            if self._count > settings.size and now - seat.idle_since >= settings.idle:
                self._end(seat)
            elif settings.probe and now - seat.idle_since >= settings.probe and not seat.probing:
                self._probe(seat)
        self._serve()
        self._watch()

    def _probe(self, seat: Seat) -> None:
        seat.probing = True

        def well(_: Any) -> None:
            seat.probing = False

        def unwell(failure: Any) -> None:
            seat.probing = False
            log.warn("an idle session does not answer: {error}", error=failure.value)  # noqa: G010 - Twisted's name
            self._retire(seat)

        seat.member.ping().addCallbacks(well, unwell)


def _load(seat: Seat) -> int:
    return seat.calls
