"""A timer wheel: any number of coarse time limits on one delayed call of the reactor.

Deadlines, idle connections, slow headers and parked calls need a bound, not precision. A delayed call each
would cost 2 µs and a heap; here a limit is one entry in the slot of its tick. A wheel that nothing waits for stands
still from its next tick on; who ends its use before calls `Wheel.stop`.

Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 6.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()


class Entry:
    """One time limit. Ask the wheel for it, and cancel it when what it bounds has ended.

    Attributes:
        rounds: turns of the wheel still to come; the wheel's own.
    """

    __slots__ = ("_arguments", "_callable", "_slot", "rounds")

    def __init__(
        self, slot: dict["Entry", None], rounds: int, function: Callable[..., Any], arguments: Any
    ) -> None:
        self._slot: dict[Entry, None] | None = slot
        self.rounds = rounds
        self._callable: Callable[..., Any] | None = function
        self._arguments = arguments

    def cancel(self) -> None:
        """Forget the limit. Cancelling twice, or after it has expired, does nothing."""
        # Who keeps the entry is mostly who it calls: a connection would be freed by the collector alone, and late.
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.pop(self, None)
            self._callable = None
            self._arguments = ()

    def expire(self) -> None:
        """Do what was to be done at the limit, unless another limit of the same tick has cancelled it.

        What it raises is logged: other limits expire all the same.
        """
        if self._slot is None or self._callable is None:
            return
        function, arguments = self._callable, self._arguments
        self._slot = None
        self._callable = None
        self._arguments = ()
        try:
            function(*arguments)
        except Exception:  # noqa: BLE001 - one limit's failure is not another's
            log.failure("a time limit's action failed: {function!r}", function=function)


class Wheel:
    """Coarse timers: each expires at most one tick late and never early.

    Args:
        clock: the reactor, or a ``twisted.internet.task.Clock``.
        tick: the grain, in seconds.
        slots: how many ticks one turn of the wheel has.
    """

    def __init__(self, clock: IReactorTime, tick: float = 0.5, slots: int = 128) -> None:
        self.tick = tick
        self._clock = clock
        self._slots: list[dict[Entry, None]] = [{} for _ in range(slots)]
        self._position = 0
        self._started = 0.0
        self._ticks = 0
        self._began = 0.0  # the tick that is under way
        self._timer: IDelayedCall | None = None
        self._expired: dict[Entry, None] = {}  # those that are about to be called

    def after(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Entry:
        """Call ``function(*arguments)`` once, in ``seconds`` to ``seconds + tick`` (unless it is cancelled)."""
        if self._timer is None:
            self._started = self._began = self._clock.seconds()
            self._ticks = 0
            self._timer = self._clock.callLater(self.tick, self._turn)
        # Count from the tick that is under way, so that the limit is never early.
        elapsed = self._clock.seconds() - self._began
        ticks = max(1, -int(-(seconds + elapsed) // self.tick))
        size = len(self._slots)
        slot = self._slots[(self._position + ticks) % size]
        entry = Entry(slot, (ticks - 1) // size, function, arguments)
        slot[entry] = None
        return entry

    def stop(self) -> None:
        """Forget every limit, and the delayed call with them."""
        for entries in (*self._slots, self._expired):
            for entry in list(entries):
                entry.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        self._timer = None
        # A reactor that was busy owes several ticks: catch up, or every limit would stretch.
        due = int((self._clock.seconds() - self._started) / self.tick + 1e-9) - self._ticks
        expired: dict[Entry, None] = {}
        for _ in range(max(1, due)):
            self._ticks += 1
            self._position = (self._position + 1) % len(self._slots)
            slot = self._slots[self._position]
            for entry in list(slot):
                if entry.rounds:
                    entry.rounds -= 1
                else:
                    del slot[entry]
                    expired[entry] = None
        self._began = self._started + self._ticks * self.tick
        if any(self._slots):
            delay = self._began + self.tick - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, delay), self._turn)
        self._expired = expired
        for entry in expired:
            entry.expire()
        self._expired = {}
