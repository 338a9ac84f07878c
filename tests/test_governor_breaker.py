"""The breaker and the retry budget: as tables, and against a model that remembers everything."""

import random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.governor import Breaker, BreakerPolicy, BreakerState, Refused, Report, RetryBudget
from erlmcp.governor._window import Window

GOOD, BAD, NEITHER = Report.GOOD, Report.BAD, Report.NEITHER


class BreakerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.changes: list[str] = []
        self.now = 1000.0
        self.chance = 0.0
        self.breaker = self.made()

    def made(self, **policy: Any) -> Breaker:
        def changed(state: BreakerState, why: str) -> None:
            self.changes.append(f"{state.value}: {why}" if why else state.value)

        return Breaker(BreakerPolicy(**policy), random=lambda: self.chance, on_change=changed)

    def ticket(self) -> int:
        admitted = self.breaker.admit(self.now)
        assert isinstance(admitted, int), admitted
        return admitted

    def refusal(self) -> Refused:
        admitted = self.breaker.admit(self.now)
        assert isinstance(admitted, Refused), admitted
        return admitted

    def calls(self, *reports: Report) -> None:
        for report in reports:
            self.breaker.settle(self.ticket(), report, self.now)

    def opened(self) -> None:
        for _ in range(5):
            self.breaker.connect_failed(self.now)
        self.assertIs(self.breaker.state, BreakerState.OPEN)


class ClosedTests(BreakerCase):
    def test_half_of_twenty(self) -> None:
        self.calls(*[GOOD, BAD] * 9, GOOD)
        self.assertIs(self.breaker.state, BreakerState.CLOSED)
        self.assertEqual(self.breaker.why, "")
        self.calls(BAD)
        self.assertEqual(self.changes, ["open: 10 of 20 calls in 10 s failed"])
        refusal = self.refusal()
        self.assertEqual((refusal.retry_after, refusal.why), (5.0, "10 of 20 calls in 10 s failed"))
        self.assertEqual(self.breaker.refused, 1)

    def test_fewer_do_not_count(self) -> None:
        self.calls(*[BAD] * 19)
        self.assertEqual(self.changes, [])

    def test_a_smaller_share_does_not_count(self) -> None:
        self.calls(*[GOOD] * 60, *[BAD] * 59)
        self.assertEqual(self.changes, [])
        self.calls(BAD)
        self.assertEqual(len(self.changes), 1)

    def test_a_call_that_goes_well_does_not_open_it(self) -> None:
        self.calls(*[BAD] * 19, GOOD)
        self.assertEqual(self.changes, [])
        self.calls(BAD)
        self.assertEqual(len(self.changes), 1)

    def test_what_is_old_does_not_count(self) -> None:
        self.calls(*[BAD] * 19)
        self.now += 10
        self.calls(BAD)
        self.assertEqual(self.changes, [])

    def test_what_is_not_known_does_not_count(self) -> None:
        self.calls(*[NEITHER] * 50, *[BAD] * 19)
        self.assertEqual(self.changes, [])

    def test_connections(self) -> None:
        for _ in range(4):
            self.breaker.connect_failed(self.now)
        self.breaker.connected(self.now)
        for _ in range(4):
            self.breaker.connect_failed(self.now)
        self.assertEqual(self.changes, [])
        self.breaker.connect_failed(self.now)
        self.assertEqual(self.changes, ["open: 5 connections in a row failed"])

    def test_without_anybody_who_listens(self) -> None:
        breaker = Breaker()
        for _ in range(5):
            breaker.connect_failed(0.0)
        self.assertIs(breaker.state, BreakerState.OPEN)
        self.assertTrue(4.0 < breaker.retry_at <= 5.0)


class OpenTests(BreakerCase):
    def test_the_first_call_afterwards_is_a_probe(self) -> None:
        self.opened()
        self.now += 4.99
        self.assertAlmostEqual(self.refusal().retry_after, 0.01)
        self.now += 0.01
        self.ticket()
        self.assertIs(self.breaker.state, BreakerState.HALF_OPEN)
        self.assertIn("connections", self.breaker.why)

    def test_calls_that_began_before_are_not_counted(self) -> None:
        early = [self.ticket() for _ in range(100)]
        self.opened()
        for ticket in early[:50]:
            self.breaker.settle(ticket, BAD, self.now)
        self.now += 5
        self.ticket()
        for ticket in early[50:]:
            self.breaker.settle(ticket, GOOD if ticket % 2 else BAD, self.now)
        self.assertIs(self.breaker.state, BreakerState.HALF_OPEN)

    def test_it_lasts_longer_each_time(self) -> None:
        self.opened()
        lasted = []
        for _ in range(6):
            lasted.append(self.breaker.retry_at - self.now)
            self.now = self.breaker.retry_at
            self.calls(BAD)
        self.assertEqual(lasted, [5, 10, 20, 40, 60, 60])

    def test_chance_shortens_it(self) -> None:
        self.chance = 0.5
        self.opened()
        self.assertAlmostEqual(self.breaker.retry_at - self.now, 4.5)

    def test_flapping_goes_on_where_it_was(self) -> None:
        self.opened()
        self.now += 5
        self.calls(GOOD, GOOD, GOOD)
        self.now += 59
        self.opened()
        self.assertEqual(self.breaker.retry_at - self.now, 10)
        self.now += 10
        self.calls(GOOD, GOOD, GOOD)
        self.now += 60
        self.opened()
        self.assertEqual(self.breaker.retry_at - self.now, 5)

    def test_a_connection_ends_it_if_there_was_none(self) -> None:
        self.opened()
        self.breaker.connect_failed(self.now)
        self.assertEqual(self.breaker.retry_at - self.now, 5)
        self.breaker.connected(self.now)
        self.ticket()
        self.assertIs(self.breaker.state, BreakerState.HALF_OPEN)

    def test_a_connection_does_not_end_it_if_calls_failed(self) -> None:
        self.calls(*[BAD] * 20)
        self.breaker.connected(self.now)
        self.refusal()

    def test_a_clock_that_is_set_back(self) -> None:
        self.opened()
        self.now -= 7200
        self.ticket()
        self.assertIs(self.breaker.state, BreakerState.HALF_OPEN)


class HalfOpenTests(BreakerCase):
    def setUp(self) -> None:
        super().setUp()
        self.opened()
        self.now += 5
        self.changes.clear()

    def test_three_at_once(self) -> None:
        probes = [self.ticket() for _ in range(3)]
        self.now += 1
        self.assertEqual(self.refusal().retry_after, 9)
        self.breaker.settle(probes[0], GOOD, self.now)
        self.refusal()
        self.breaker.settle(probes[1], GOOD, self.now)
        self.breaker.settle(probes[2], GOOD, self.now)
        self.assertEqual(self.changes[1:], ["closed"])
        self.calls(*[GOOD] * 50)

    def test_one_after_the_other(self) -> None:
        self.calls(GOOD, GOOD, GOOD)
        self.assertEqual(self.changes[1:], ["closed"])

    def test_one_that_fails(self) -> None:
        probes = [self.ticket() for _ in range(3)]
        self.breaker.settle(probes[0], GOOD, self.now)
        self.breaker.settle(probes[1], BAD, self.now)
        self.assertEqual(self.changes[1:], ["open: a probe failed"])
        self.breaker.settle(probes[2], GOOD, self.now)
        self.assertEqual(self.refusal().retry_after, 10)

    def test_a_connection_that_fails(self) -> None:
        self.ticket()
        self.breaker.connect_failed(self.now)
        self.assertEqual(self.changes[1:], ["open: a connection failed"])

    def test_one_that_is_given_up_makes_room(self) -> None:
        probes = [self.ticket() for _ in range(3)]
        self.breaker.settle(probes[0], NEITHER, self.now)
        self.ticket()
        self.refusal()

    def test_one_that_does_not_end(self) -> None:
        slow = [self.ticket() for _ in range(3)]
        self.now += 10
        self.ticket()
        for ticket in slow:
            self.breaker.settle(ticket, GOOD, self.now)
        self.assertEqual(self.changes[1:], ["closed"], "they are heard, late as they are")

    def test_more_ends_than_probes(self) -> None:
        slow = [self.ticket() for _ in range(3)]
        self.now += 10
        self.calls(NEITHER)
        self.breaker.settle(slow[0], NEITHER, self.now)
        self.assertIs(self.breaker.state, BreakerState.HALF_OPEN)


class DryRunTests(BreakerCase):
    def test_nothing_is_refused(self) -> None:
        self.breaker = self.made(dry_run=True)
        self.opened()
        self.calls(*[BAD] * 7)
        self.assertEqual((self.breaker.refused, len(self.changes)), (7, 1))
        self.now += 5
        self.ticket()
        self.ticket()
        self.ticket()
        self.calls(BAD)
        self.assertIs(self.breaker.state, BreakerState.HALF_OPEN, "what would be refused is no probe")
        self.assertEqual(self.breaker.refused, 8)


class PolicyTests(SynchronousTestCase):
    def test_what_makes_no_sense(self) -> None:
        wrong: tuple[dict[str, Any], ...] = (
            {"calls": 0},
            {"connects": 0},
            {"probes": 0},
            {"failed": 0},
            {"failed": 1.1},
            {"jitter": 1},
            {"span": 0},
            {"patience": 0},
            {"shortest": 0},
            {"longest": 4},
        )
        for one in wrong:
            with self.assertRaisesRegex(ValueError, "of a breaker"):
                BreakerPolicy(**one)

    def test_a_budget(self) -> None:
        for wrong in ({"share": -0.1}, {"share": 2}, {"least": -1}, {"span": 0}):
            with self.assertRaisesRegex(ValueError, "a retry budget has"):
                RetryBudget(**wrong)  # type: ignore[arg-type]


class BudgetTests(SynchronousTestCase):
    def test_a_tenth_and_ten(self) -> None:
        budget = RetryBudget()
        for _ in range(100):
            budget.called(5.0)
        self.assertEqual([budget.spend(5.0) for _ in range(21)], [True] * 20 + [False])
        self.assertEqual(budget.refused, 1)
        self.assertTrue(budget.spend(15.0), "the ten are there again")

    def test_none_for_nothing(self) -> None:
        budget = RetryBudget(least=0)
        for _ in range(9):
            budget.called(0.0)
        self.assertFalse(budget.spend(0.0))
        budget.called(0.0)
        self.assertTrue(budget.spend(0.0))


class WindowTests(SynchronousTestCase):
    def test_a_clock_that_is_set_back(self) -> None:
        window = Window(10)
        window.count(100, 1, 1)
        window.count(95, 1, 0)
        self.assertEqual((window.first, window.second), (2, 1))
        window.advance(50)
        self.assertEqual((window.first, window.second), (0, 0))
        window.count(50, 1, 0)
        window.advance(51)
        self.assertEqual(window.first, 1)

    def test_a_span(self) -> None:
        """Whatever is counted is there for nine tenths of the span at least, and never for longer than it."""
        window = Window(10)
        for tenth in range(1000):
            now = tenth / 10
            window.count(now, 1, 0)
            self.assertLessEqual(window.first, 100)
            self.assertGreaterEqual(window.first, min(tenth + 1, 90))


class BreakerMachine(RuleBasedStateMachine):
    """What must hold whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(random=random.Random(7).random, on_change=self.changed)
        self.under_way: list[tuple[int, BreakerState, float]] = []
        self.ended: list[tuple[float, bool]] = []
        self.opened: list[float] = []
        self.well = 0
        self.state = BreakerState.CLOSED

    def changed(self, state: BreakerState, why: str) -> None:
        before, self.state = self.state, state
        legal = {
            BreakerState.CLOSED: (BreakerState.OPEN,),
            BreakerState.OPEN: (BreakerState.HALF_OPEN,),
            BreakerState.HALF_OPEN: (BreakerState.OPEN, BreakerState.CLOSED),
        }
        assert state in legal[before]
        assert bool(why) == (state is not BreakerState.CLOSED)
        if state is BreakerState.CLOSED:
            assert self.well >= 3, "closed without three probes that went well"
        if state is BreakerState.OPEN:
            self.opened.append(self.now)
            assert 4.0 <= self.breaker.retry_at - self.now <= 60.0
        self.well = 0
        self.ended = []

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(times=st.integers(1, 25))
    def call(self, times: int) -> None:
        for _ in range(times):
            admitted = self.breaker.admit(self.now)
            if isinstance(admitted, Refused):
                assert self.breaker.state is not BreakerState.CLOSED
                assert 0 <= admitted.retry_after <= 60
                assert admitted.why
            else:
                assert self.breaker.state is not BreakerState.OPEN
                self.under_way.append((admitted, self.breaker.state, self.now))
        if self.breaker.state is BreakerState.HALF_OPEN:
            fresh = [
                one for one in self.under_way if one[0] == self.breaker._ticket and self.now < one[2] + 10
            ]
            assert len(fresh) <= 3

    @rule(times=st.integers(1, 25), report=st.sampled_from(Report), newest=st.booleans())
    def end(self, times: int, report: Report, newest: bool) -> None:
        for _ in range(min(times, len(self.under_way))):
            ticket, _, _ = self.under_way.pop(-1 if newest else 0)
            current = ticket == self.breaker._ticket
            state = self.breaker.state
            if current and report is not NEITHER:
                self.ended.append((self.now, report is BAD))
                self.well += report is GOOD
            seen = [bad for at, bad in self.ended if at > self.now - 10.5]
            self.breaker.settle(ticket, report, self.now)
            if state is BreakerState.CLOSED and self.breaker.state is BreakerState.OPEN:
                assert len(seen) >= 20
                assert report is BAD

    @rule(well=st.booleans())
    def connect(self, well: bool) -> None:
        (self.breaker.connected if well else self.breaker.connect_failed)(self.now)

    @invariant()
    def is_told(self) -> None:
        assert self.breaker.state is self.state


class BudgetMachine(RuleBasedStateMachine):
    """Never more retries in a span than its share, whatever the order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.budget = RetryBudget(share=0.1, least=3)
        self.calls: list[float] = []
        self.retries: list[float] = []

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(times=st.integers(1, 40))
    def call(self, times: int) -> None:
        for _ in range(times):
            self.budget.called(self.now)
            self.calls.append(self.now)

    @rule(times=st.integers(1, 20))
    def retry(self, times: int) -> None:
        for _ in range(times):
            # The window forgets up to a tenth of its span too early, and never anything too late.
            calls = sum(at > self.now - 10 for at in self.calls)
            recent = sum(at > self.now - 9 for at in self.retries)
            older = sum(at > self.now - 10 for at in self.retries)
            surely = older + 1 <= 3
            may = self.budget.spend(self.now)
            assert may or not surely
            if may:
                self.retries.append(self.now)
                assert recent + 1 <= calls * 0.1 + 3


class PropertyTests(SynchronousTestCase):
    """The machines above, run."""

    settings = settings(
        deadline=None, max_examples=100, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
    )

    def test_breaker(self) -> None:
        run_state_machine_as_test(BreakerMachine, settings=self.settings)

    def test_budget(self) -> None:
        run_state_machine_as_test(BudgetMachine, settings=self.settings)
