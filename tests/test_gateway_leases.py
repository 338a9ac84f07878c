"""Sessions lent to calls: whose they are, who waits, which are let go."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.gateway._leases import Exhausted, Leases, PoolSettings, Seat, Whose


class Member:
    """A connection that only counts."""

    def __init__(self, whose: Whose) -> None:
        self.whose = whose
        self.closed = False
        self.pings = 0
        self.well = True

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)

    def ping(self) -> Deferred[None]:
        self.pings += 1
        return succeed(None) if self.well else fail(OSError("gone"))


ANNE, BERT, CARL = (Whose(name) for name in ("anne", "bert", "carl"))


class LeaseTests(SynchronousTestCase):
    def leases(self, *, stateless: bool = False, **pool: Any) -> Leases:
        self.clock = Clock()
        self.members: list[Member] = []

        def make(whose: Whose) -> Member:
            self.members.append(Member(whose))
            return self.members[-1]

        leases = Leases(make, self.clock, PoolSettings(**pool), stateless=stateless)
        self.addCleanup(lambda: self.successResultOf(leases.close()))
        return leases

    def taken(self, leases: Leases, whose: Whose = ANNE, *, alone: bool = False) -> Seat:
        seat = leases.take(whose, alone=alone)
        assert isinstance(seat, Seat)
        return seat

    def waits(self, leases: Leases, whose: Whose = ANNE, *, alone: bool = False) -> Deferred[Seat]:
        seat = leases.take(whose, alone=alone)
        assert isinstance(seat, Deferred)
        self.assertNoResult(seat)
        return seat

    def test_one_each(self) -> None:
        leases = self.leases()
        first = self.taken(leases)
        self.assertIs(self.taken(leases), first, "calls of one caller share its session")
        self.assertIsNot(self.taken(leases, BERT), first)
        other = self.taken(leases, Whose("anne", session="s"))
        self.assertIsNot(other, first)
        self.assertEqual((leases.count, leases.made), (3, 3))

    def test_alone(self) -> None:
        leases = self.leases()
        first = self.taken(leases, alone=True)
        second, third = self.waits(leases, alone=True), self.waits(leases)
        leases.give_back(first)
        self.assertIs(self.successResultOf(second), first)
        self.assertNoResult(third)
        leases.give_back(first)
        self.assertIs(self.successResultOf(third), first)

    def test_stateless_sessions_are_anybodys(self) -> None:
        leases = self.leases(stateless=True, size=1, overflow=1)
        first = self.taken(leases, Whose("anne", session="a"))
        second = self.taken(leases, Whose("anne", session="b"))
        self.assertIsNot(first, second, "another is made while there is room")
        self.assertIn(self.taken(leases), (first, second), "then they are shared")
        self.assertEqual(leases.count, 2)

    def test_idle_ones_make_room(self) -> None:
        leases = self.leases(size=1, overflow=1)
        first, second = self.taken(leases), self.taken(leases, BERT)
        waiting = self.waits(leases, CARL)
        leases.give_back(second)
        third = self.successResultOf(waiting)
        self.assertEqual(third.whose, CARL)
        self.assertTrue(self.members[1].closed)
        self.assertFalse(first.member.closed)

    def test_pinned_ones_do_not(self) -> None:
        leases = self.leases(size=1, overflow=0)
        seat = leases.pin(ANNE)
        self.waits(leases, BERT).addErrback(lambda _: None)
        with self.assertRaises(Exhausted):
            leases.pin(CARL)
        leases.unpin(seat)

    def test_bounded_queue(self) -> None:
        leases = self.leases(size=1, overflow=0, queue=1)
        self.taken(leases)
        waiting = self.waits(leases, BERT)
        with self.assertRaisesRegex(Exhausted, "all 1 sessions are in use, and 1 calls wait"):
            leases.take(CARL)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.assertEqual(leases.waiting, 0)
        self.waits(leases, CARL).addErrback(lambda _: None)

    def test_the_first_comes_first(self) -> None:
        leases = self.leases(size=1, overflow=0)
        seat = self.taken(leases)
        second, third = self.waits(leases, BERT), self.waits(leases, CARL)
        self.assertIs(self.taken(leases), seat, "who shares takes it from nobody")
        leases.give_back(seat)
        leases.give_back(seat)
        held = self.successResultOf(second)
        self.assertNoResult(third)
        leases.give_back(held)
        self.successResultOf(third)

    def test_broken_ones_are_replaced(self) -> None:
        leases = self.leases()
        seat = self.taken(leases)
        again = self.taken(leases)
        leases.give_back(seat, broken=True)
        self.assertFalse(seat.member.closed, "another call uses it still")
        self.assertIsNot(self.taken(leases), seat)
        leases.give_back(again)
        self.assertTrue(seat.member.closed)

    def test_recycled(self) -> None:
        leases = self.leases(recycle=2)
        for _ in range(2):
            leases.give_back(self.taken(leases))
        self.assertTrue(self.members[0].closed)
        self.taken(leases)
        self.assertEqual(leases.made, 2)

    def test_idle_ones_end(self) -> None:
        leases = self.leases(size=1, overflow=5, idle=10, probe=0)
        for whose in (ANNE, BERT, CARL):
            leases.give_back(self.taken(leases, whose))
            self.clock.advance(1)
        for _ in range(30):
            self.clock.advance(1)
        self.assertEqual([one.closed for one in self.members], [True, True, False])

    def test_a_clients_own_ends_later(self) -> None:
        leases = self.leases(size=0, overflow=5, idle=10, lasting=40, probe=0)
        own, plain = self.taken(leases, Whose("anne", session="s")), self.taken(leases)
        for seat in (own, plain):
            leases.give_back(seat)
        self.clock.pump([1] * 20)
        self.assertEqual((own.member.closed, plain.member.closed), (False, True))
        self.clock.pump([1] * 30)
        self.assertTrue(own.member.closed)

    def test_probed(self) -> None:
        leases = self.leases(size=1, probe=10)
        leases.give_back(self.taken(leases))
        for _ in range(12):
            self.clock.advance(1)
        self.assertGreater(self.members[0].pings, 0)
        self.members[0].well = False
        for _ in range(12):
            self.clock.advance(1)
        self.assertTrue(self.members[0].closed)
        self.assertEqual(leases.count, 0)

    def test_a_clients_session_ends(self) -> None:
        leases = self.leases()
        mine = self.taken(leases, Whose("anne", session="s"))
        other = self.taken(leases)
        leases.forget_sessions({"s", "t"})
        self.assertFalse(mine.member.closed)
        leases.give_back(mine)
        leases.give_back(other)
        self.assertEqual((mine.member.closed, other.member.closed), (True, False))

    def test_warmed(self) -> None:
        leases = self.leases()
        leases.warm(ANNE)
        self.assertEqual(self.members[0].pings, 1)
        self.assertIs(self.taken(leases).member, self.members[0])

    def test_closed(self) -> None:
        leases = self.leases(size=1, overflow=0)
        self.taken(leases)
        waiting = self.waits(leases, BERT)
        self.successResultOf(leases.close())
        self.failureResultOf(waiting, Exhausted)
        self.assertTrue(self.members[0].closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closing_waits_for_the_end(self) -> None:
        leases = self.leases()
        seat = self.taken(leases)
        ending: Deferred[None] = Deferred()
        seat.member.close = lambda: ending
        closing = leases.close()
        self.assertNoResult(closing)
        ending.errback(OSError("would not end"))
        self.successResultOf(closing)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class LeaseMachine(RuleBasedStateMachine):
    """Never two callers on one session, never more sessions than there may be, nobody waits for what is free."""

    held = Bundle("held")
    asking = Bundle("asking")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.members: list[Member] = []
        self.leases = Leases(
            self._make, self.clock, PoolSettings(size=1, overflow=2, idle=5, probe=3, queue=50)
        )
        self.lent: list[tuple[Seat, bool]] = []

    def _make(self, whose: Whose) -> Member:
        self.members.append(Member(whose))
        return self.members[-1]

    @rule(whose=st.sampled_from((ANNE, BERT, CARL, Whose("dora"))), alone=st.booleans(), target=asking)
    def take(self, whose: Whose, alone: bool) -> Any:
        seat = self.leases.take(whose, alone=alone)
        box: list[Any] = []
        if isinstance(seat, Deferred):
            seat.addCallbacks(lambda got: box.append(got) or self._lent(got, whose, alone), lambda _: None)
        else:
            box.append(seat)
            self._lent(seat, whose, alone)
        return (box, seat, alone)

    def _lent(self, seat: Seat, whose: Whose, alone: bool) -> None:
        assert seat.whose == whose
        assert not seat.member.closed
        others = [one for one, _ in self.lent if one is seat]
        assert not (alone and others)
        assert not any(one is seat and was_alone for one, was_alone in self.lent)
        self.lent.append((seat, alone))

    @rule(asked=consumes(asking), broken=st.booleans())
    def give_back(self, asked: Any, broken: bool) -> None:
        box, seat, alone = asked
        if box:
            self.lent.remove((box[0], alone))
            self.leases.give_back(box[0], broken=broken)
        else:
            seat.cancel()

    @rule(seconds=st.integers(1, 6))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def bounded(self) -> None:
        assert self.leases.count <= self.leases.most
        assert self.leases.count == sum(not one.closed for one in self.members)
        assert all(not seat.member.closed for seat, _ in self.lent)

    def teardown(self) -> None:
        self.leases.close()
        assert all(one.closed for one in self.members)
        assert not self.clock.getDelayedCalls()


class LeaseMachineTests(SynchronousTestCase):
    def test_machine(self) -> None:
        from hypothesis.stateful import run_state_machine_as_test

        run_state_machine_as_test(
            LeaseMachine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
        )
