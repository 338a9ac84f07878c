"""The timer wheel: never early, at most a tick late, whatever the clock and the callbacks do."""

import gc
import weakref

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.timing import Entry, Wheel


class Expiry(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock, tick=0.5, slots=8)
        self.fired: list[tuple[str, float]] = []

    def note(self, name: str) -> None:
        self.fired.append((name, self.clock.seconds()))

    def run_for(self, seconds: float, step: float = 0.25) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def test_expires_once_with_its_arguments(self) -> None:
        self.wheel.after(2.0, self.note, "a")
        self.run_for(20)
        self.assertEqual(self.fired, [("a", 2.0)])

    def test_limits_beyond_one_turn_of_the_wheel(self) -> None:
        for seconds in (3.5, 4.0, 4.5, 8.0, 8.5, 100.0):
            self.wheel.after(seconds, self.note, str(seconds))
        self.run_for(110)
        self.assertEqual(self.fired, [(str(at), at) for at in (3.5, 4.0, 4.5, 8.0, 8.5, 100.0)])

    def test_an_entry_that_is_kept_keeps_nothing(self) -> None:
        """Who keeps it is mostly who it calls: together they would be freed by the collector alone."""

        class Owner:
            def __init__(self, wheel: Wheel) -> None:
                self.entry = wheel.after(1.0, self.expire)

            def expire(self) -> None:
                pass

        gc.disable()
        self.addCleanup(gc.enable)
        expired, cancelled = Owner(self.wheel), Owner(self.wheel)
        gone = [weakref.ref(expired), weakref.ref(cancelled)]
        cancelled.entry.cancel()
        self.run_for(3)
        del expired, cancelled
        self.assertEqual([one() for one in gone], [None, None])

    def test_nothing_is_due_at_once(self) -> None:
        self.wheel.after(0, self.note, "zero")
        self.wheel.after(-5, self.note, "negative")
        self.assertEqual(self.fired, [])
        self.clock.advance(0.5)
        self.assertEqual([name for name, _ in self.fired], ["zero", "negative"])

    def test_begun_within_a_tick_it_is_still_not_early(self) -> None:
        self.wheel.after(10, self.note, "keeps the wheel turning")
        self.clock.advance(0.3)
        self.wheel.after(1.0, self.note, "a")
        self.clock.advance(0.9)
        self.assertEqual(self.fired, [])
        self.clock.advance(0.3)
        self.assertEqual(self.fired, [("a", 1.5)])

    def test_stands_still_when_nothing_waits(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.wheel.after(1.0, self.note, "a")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.run_for(1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.wheel.after(1.0, self.note, "b")
        self.run_for(1.0)
        self.assertEqual(self.fired, [("a", 1.0), ("b", 2.0)])

    def test_many_limits_share_one_delayed_call(self) -> None:
        for number in range(1000):
            self.wheel.after(number / 100, self.note, str(number))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_the_default_grain(self) -> None:
        wheel = Wheel(self.clock)
        wheel.after(100.0, self.note, "a")
        self.run_for(100)
        self.assertEqual(self.fired, [("a", 100.0)])
        self.assertEqual(wheel.tick, 0.5)


class Cancelling(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock, tick=1.0, slots=4)
        self.fired: list[str] = []

    def test_what_is_cancelled_does_not_expire(self) -> None:
        entry = self.wheel.after(2, self.fired.append, "a")
        self.wheel.after(2, self.fired.append, "b")
        entry.cancel()
        entry.cancel()
        self.clock.pump([1] * 10)
        self.assertEqual(self.fired, ["b"])

    def test_a_wheel_without_limits_stands_still_with_the_next_tick(self) -> None:
        self.wheel.after(50, self.fired.append, "a").cancel()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_after_expiry_it_does_nothing(self) -> None:
        entry = self.wheel.after(1, self.fired.append, "a")
        self.clock.advance(1)
        entry.cancel()
        self.assertEqual(self.fired, ["a"])

    def test_one_limit_may_cancel_another_of_its_tick(self) -> None:
        others: list[Entry] = []
        self.wheel.after(1, lambda: others[0].cancel())
        others.append(self.wheel.after(1, self.fired.append, "a"))
        self.clock.advance(1)
        self.assertEqual(self.fired, [])

    def test_a_limit_may_cancel_itself(self) -> None:
        entries: list[Entry] = []
        entries.append(self.wheel.after(1, lambda: entries[0].cancel()))
        self.clock.pump([1, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_forgets_all(self) -> None:
        self.wheel.after(1, self.fired.append, "a")
        self.wheel.after(90, self.fired.append, "b")
        self.wheel.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(100)
        self.assertEqual(self.fired, [])
        self.wheel.stop()

    def test_stop_within_a_tick_forgets_the_rest_of_it(self) -> None:
        self.wheel.after(1, self.wheel.stop)
        self.wheel.after(1, self.fired.append, "a")
        self.wheel.after(2, self.fired.append, "b")
        self.clock.pump([1, 1, 1])
        self.assertEqual(self.fired, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stopped_wheel_can_be_used_again(self) -> None:
        self.wheel.after(1, self.fired.append, "a")
        self.clock.advance(0.5)
        self.wheel.stop()
        self.wheel.after(1, self.fired.append, "b")
        self.clock.advance(0.9)
        self.assertEqual(self.fired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.fired, ["b"])


class Trouble(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock, tick=1.0, slots=4)
        self.fired: list[str] = []

    def test_a_failing_limit_is_logged_and_takes_none_along(self) -> None:
        self.wheel.after(1, self.fired.append, "a")
        self.wheel.after(1, lambda: 1 / 0)
        self.wheel.after(1, self.fired.append, "b")
        self.wheel.after(2, self.fired.append, "c")
        self.clock.pump([1, 1])
        self.assertEqual(self.fired, ["a", "b", "c"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_limit_may_set_the_next(self) -> None:
        def again() -> None:
            self.fired.append(str(self.clock.seconds()))
            if len(self.fired) < 3:
                self.wheel.after(2, again)

        self.wheel.after(2, again)
        self.clock.pump([1] * 10)
        self.assertEqual(self.fired, ["2.0", "4.0", "6.0"])

    def test_a_stalled_clock_is_caught_up_with(self) -> None:
        for seconds in (1, 3, 7, 20):
            self.wheel.after(seconds, self.fired.append, str(seconds))
        self.clock.advance(7)
        self.assertEqual(self.fired, ["1", "3", "7"])
        self.clock.pump([1] * 12)
        self.assertEqual(self.fired, ["1", "3", "7"])
        self.clock.advance(1)
        self.assertEqual(self.fired, ["1", "3", "7", "20"])

    def test_a_limit_set_while_ticks_are_owed_is_not_early(self) -> None:
        self.wheel.after(100, self.fired.append, "keeps the wheel turning")
        self.clock.rightNow += 10.5  # the reactor is busy: time passes, and nothing is called
        self.wheel.after(2, self.fired.append, "a")
        self.clock.advance(0)
        self.clock.advance(1.9)
        self.assertEqual(self.fired, [])
        self.clock.advance(0.6)
        self.assertEqual(self.fired, ["a"])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("after"), st.floats(0, 60, allow_nan=False)),
        st.tuples(st.just("advance"), st.floats(0, 30, allow_nan=False)),
        st.tuples(st.just("stall"), st.floats(0, 10, allow_nan=False)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
    ),
    max_size=40,
)


class AnyUse(SynchronousTestCase):
    @given(STEPS, st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from([1, 4, 128]))
    @settings(deadline=None, max_examples=200)
    def test_never_early_and_at_most_a_tick_late(
        self, steps: list[tuple[str, float]], tick: float, slots: int
    ) -> None:
        clock = Clock()
        wheel = Wheel(clock, tick=tick, slots=slots)
        entries: list[Entry] = []
        due: list[float] = []
        fired: dict[int, float] = {}
        cancelled: set[int] = set()
        late = 1e-6

        def check(now: float) -> None:
            for number, at in enumerate(due):
                if number in fired:
                    self.assertGreaterEqual(fired[number], at - late)
                elif number not in cancelled:
                    self.assertLess(now, at + tick + late, "a limit is overdue")

        def move(seconds: float) -> None:
            # In steps as a reactor would make them: each tick is a turn of its own.
            end = clock.seconds() + seconds
            while clock.seconds() < end - late:
                clock.advance(min(tick / 2, end - clock.seconds()))
                check(clock.seconds())

        for what, value in steps:
            if what == "after":
                number = len(due)
                due.append(clock.seconds() + value)
                entries.append(
                    wheel.after(value, lambda number=number: fired.setdefault(number, clock.seconds()))
                )
            elif what == "cancel":
                if value < len(entries) and value not in fired:
                    entries[int(value)].cancel()
                    cancelled.add(int(value))
            elif what == "stall":
                clock.advance(value)
                check(clock.seconds())
            else:
                move(value)
        move(61 + tick)
        self.assertEqual(set(fired), set(range(len(due))) - cancelled)
        self.assertEqual(clock.getDelayedCalls(), [])
