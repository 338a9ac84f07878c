"""Sessions with one upstream, lent to one call at a time or shared: who gets which, who waits, which are let go.

A handshake session means something to its server, so a caller gets the one that is its own: by principal, by the
capabilities that it declared, and by its own session if it has one. A modern upstream has no sessions, and an
upstream that is declared stateless does not mind whose they are.
"""

from collections.abc import Callable, Collection
from itertools import count
from typing import Any, NamedTuple

from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from erlmcp.gateway._seats import EVERYBODY, Exhausted, Gone, Member, PoolSettings, Seat, Whose

__all__ = ["EVERYBODY", "Exhausted", "Gone", "Leases", "Member", "PoolSettings", "Seat", "Whose"]

log = Logger(namespace="erlmcp.gateway")


class _Waiter(NamedTuple):
    number: int
    alone: bool
    wanted: Seat | None
    deferred: "Deferred[Seat]"


_Key = tuple[Whose, int]
_Queue = dict["Deferred[Seat]", _Waiter]


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
        self._numbers = count(1)
        self._queues: dict[_Key, _Queue] = {}
        self._waiting = 0
        self._ending: set[Deferred[Any]] = set()
        self._timer: IDelayedCall | None = None
        self._closed = False
        self._closers: list[Deferred[None]] = []

    @property
    def count(self) -> int:
        """How many sessions there are."""
        return self._count

    @property
    def waiting(self) -> int:
        """How many calls wait for one."""
        return self._waiting

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

    def seat(self, number: int) -> Seat | None:
        """The session of this number, if it still stands."""
        return next((one for one in self.seats() if one.number == number), None)

    def take(
        self, whose: Whose, *, alone: bool = False, wanted: Seat | None = None
    ) -> "Seat | Deferred[Seat]":
        """Get a session: at once, or when one is free, in the order of asking.

        Args:
            whose: whose it must be.
            alone: whether nobody else may use it meanwhile.
            wanted: the one that it must be, found by its number; the Deferred fails with `Gone` if it breaks.

        Raises:
            Exhausted: too many wait already, or all sessions have been ended.
        """
        if self._closed:
            raise Exhausted("its sessions have been ended")
        whose = self._plain(whose)
        key = (whose, 0 if wanted is None else wanted.number)
        # What there is room for, nobody waits for: who waits is looked at whenever there is more.
        seat = None if key in self._queues else self._find(whose, alone=alone, wanted=wanted)
        if seat is None and not alone and wanted is None:
            # Who shares a session that is there takes it from nobody who waits to have one alone.
            seat = self._shared(whose)
        if seat is not None:
            return self.lend(seat, alone=alone)
        if self._waiting >= self._settings.queue:
            raise Exhausted(
                f"all {self.most} sessions are in use, and {self._settings.queue} calls wait for one"
            )
        deferred: Deferred[Seat] = Deferred(lambda deferred: self._gave_up(key, deferred))
        waiter = _Waiter(next(self._numbers), alone, wanted, deferred)
        self._queues.setdefault(key, {})[deferred] = waiter
        self._waiting += 1
        return deferred

    def usual(self, whose: Whose) -> Seat | None:
        """The session for the usual call: the only one that its caller has, to be shared, and nobody waits.

        It is not lent yet: `lend` does that, before anything else is done with it. For all else there is `take`.
        """
        seats = self._seats.get(whose)
        if seats is None or self._waiting or self._stateless or len(seats) != 1:
            return None
        return seats[0] if seats[0].shareable else None

    @staticmethod
    def lend(seat: Seat, *, alone: bool = False) -> Seat:
        """Lend one out."""
        seat.calls += 1
        seat.alone = alone
        return seat

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
        if broken and not seat.broken:
            self._break(seat)
        elif recycle and seat.served >= recycle and not seat.retiring:
            self._retire(seat)
        elif seat.retiring and seat.idle:
            self._end(seat)
        if self._waiting:
            self._serve()
        if self._timer is None:
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

    def park(self, seat: Seat) -> None:
        """Keep a session for a call that its client has to come back for, until `unpark` or for ``parking`` seconds."""
        seat.parked.append(self._clock.seconds() + self._settings.parking)

    @staticmethod
    def unpark(seat: Seat) -> None:
        """Somebody has come back for a call that it holds, and has taken it."""
        if seat.parked:
            del seat.parked[0]

    def forget_sessions(self, sessions: Collection[str]) -> None:
        """Clients' own sessions have ended: what was theirs alone is ended once no call is under way on it."""
        for whose, seats in list(self._seats.items()):
            if whose.session and whose.session in sessions:
                for seat in list(seats):
                    self._retire(seat)
        self._serve()

    def close(self) -> "Deferred[None]":
        """End all; fires when they have ended."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        queues, self._queues = self._queues, {}
        self._waiting = 0
        for seat in self.seats():
            self._end(seat)
        for queue in queues.values():
            for deferred in queue:
                deferred.errback(Exhausted("its sessions have been ended"))
        return Deferred.fromCoroutine(self._ended())

    async def _ended(self) -> None:
        while self._ending:
            waiter: Deferred[None] = Deferred()
            self._closers.append(waiter)
            await waiter

    # who gets which

    def _plain(self, whose: Whose) -> Whose:
        return structs.replace(whose, session="") if self._stateless else whose

    def _find(self, whose: Whose, *, alone: bool, wanted: Seat | None) -> Seat | None:
        if wanted is not None:
            return None if wanted.alone or (alone and wanted.calls) else wanted
        seats = self._seats.get(whose, ())
        free = [seat for seat in seats if not seat.retiring and not seat.alone]
        idle = [seat for seat in free if not seat.calls]
        if idle:
            # One that holds a call which waits for its client is taken last: whatever befalls it befalls that call too.
            best = next((seat for seat in idle if not seat.parked), None)
            return best or (self._room_for(whose) if alone and self._stateless else None) or idle[0]
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
        self.made += 1
        seat = Seat(self.made, self._make(whose), whose, self._clock.seconds())
        self._seats.setdefault(whose, []).append(seat)
        self._count += 1
        return seat

    def _serve(self) -> None:
        """Give sessions to those who wait, in their order; who waits for another's does not hold up the rest."""
        while self._waiting:
            first: tuple[_Key, _Waiter] | None = None
            room = not self._closed and (self._count < self.most or any(seat.idle for seat in self.seats()))
            for key, queue in self._queues.items():
                one = next(iter(queue.values()))
                if (first is None or one.number < first[1].number) and self._could(key[0], one, room=room):
                    first = key, one
            if first is None:
                return
            key, one = first
            seat = self._find(key[0], alone=one.alone, wanted=one.wanted)
            self._gave_up(key, one.deferred)
            if seat is None:
                raise AssertionError("what could be found was not")
            one.deferred.callback(self.lend(seat, alone=one.alone))

    def _could(self, whose: Whose, one: _Waiter, *, room: bool) -> bool:
        """Whether `_find` would find something for who waits; nothing is made."""
        if one.wanted is not None:
            return not one.wanted.alone and not (one.alone and one.wanted.calls)
        seats = self._seats.get(whose, ())
        free = [seat for seat in seats if not seat.retiring and not seat.alone]
        if any(not seat.calls for seat in free) or (free and not one.alone):
            return True
        return room and (not seats or self._stateless or all(seat.retiring for seat in seats))

    def _gave_up(self, key: _Key, deferred: "Deferred[Seat]") -> None:
        queue = self._queues.get(key, {})
        if queue.pop(deferred, None) is not None:
            self._waiting -= 1
            if not queue:
                del self._queues[key]

    # which are let go

    def _break(self, seat: Seat) -> None:
        seat.broken = True
        seat.parked.clear()
        self._disappoint(seat)
        self._retire(seat)

    def _disappoint(self, seat: Seat) -> None:
        """Nobody will have this one any more who would have no other."""
        queue = self._queues.pop((seat.whose, seat.number), {})
        self._waiting -= len(queue)
        for deferred in queue:
            deferred.errback(Gone())

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
        self._disappoint(seat)
        ending = seat.member.close()
        self._ending.add(ending)
        ending.addErrback(lambda failure: log.failure("ending a session failed", failure))
        ending.addBoth(self._has_ended, ending)

    def _has_ended(self, _: Any, ending: "Deferred[Any]") -> None:
        self._ending.discard(ending)
        closers, self._closers = self._closers, []
        for waiter in closers:
            waiter.callback(None)

    def _watch(self) -> None:
        if self._timer is None and not self._closed and self._count:
            period = min(self._settings.idle, self._settings.probe or self._settings.idle) / 2
            self._timer = self._clock.callLater(max(period, 0.1), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        settings = self._settings
        for seat in self.seats():
            if seat.parked and seat.parked[0] <= now:
                seat.parked = [until for until in seat.parked if until > now]
                if seat.retiring and seat.idle:
                    self._end(seat)
        idle = sorted((seat for seat in self.seats() if seat.idle), key=lambda seat: seat.idle_since)
        for seat in idle:
            patience = settings.lasting if seat.whose.session else settings.idle
            if self._count > settings.size and now - seat.idle_since >= patience:
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
            self._break(seat)
            self._serve()

        seat.member.ping().addCallbacks(well, unwell)


def _load(seat: Seat) -> int:
    return seat.calls
