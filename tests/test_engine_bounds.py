"""Everything that an engine keeps has an end; and watchers that fail, make changes or stop."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.engine import Bounds, EmbeddedEngine
from erlmcp.engine._bounds import OVERHEAD
from erlmcp.engine._buckets import Buckets
from erlmcp.engine._clock import SteadyClock
from erlmcp.interfaces import EngineFull, KeyChange, KeySnapshot


class BoundsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def engine(self, **bounds: int) -> EmbeddedEngine:
        return EmbeddedEngine(
            self.clock, bounds=Bounds(**bounds), wall=self.clock.seconds, steady=self.clock.seconds
        )

    def full(self, deferred: Any) -> str:
        return str(self.failureResultOf(deferred, EngineFull).value)


class EntryTests(BoundsTestCase):
    """How much is kept."""

    def test_entries(self) -> None:
        engine = self.engine(entries=2)
        self.successResultOf(engine.put("a", b"", expires=5.0))
        self.successResultOf(engine.register("n", "o", 10))
        said = self.full(engine.put("b", b""))
        self.assertIn(f"the engine has 2 entries of {engine.memory} bytes; at most it has 2 of", said)
        self.full(engine.register("m", "o", 10))
        self.successResultOf(engine.put("a", b"again", expires=5.0))
        self.successResultOf(engine.register("n", "o", 10))
        self.clock.advance(8)
        self.assertEqual(engine.entries, 1)
        self.successResultOf(engine.put("b", b""))

    def test_memory(self) -> None:
        engine = self.engine(memory=2 * OVERHEAD + 10)
        self.successResultOf(engine.put("a", b"1234"))
        self.successResultOf(engine.put("b", b"12"))
        self.assertEqual(engine.memory, 2 * OVERHEAD + 8)
        self.successResultOf(engine.put("b", b"1234"))
        self.full(engine.put("b", b"12345"))
        self.successResultOf(engine.delete("a"))
        self.assertEqual(engine.memory, OVERHEAD + 5)
        self.successResultOf(engine.put("b", b"x" * 200))

    def test_nothing_is_left(self) -> None:
        """What has come and gone leaves nothing behind: no entry, no timer."""
        engine = self.engine()
        for number in range(1000):
            self.successResultOf(engine.put(f"k{number % 7}", b"", expires=self.clock.seconds() + 30))
            lease = self.successResultOf(engine.register(f"n{number % 5}", "o", 20))
            self.successResultOf(engine.put(f"l{number % 3}", b"", lease=lease))
        self.assertEqual(engine.entries, 15)
        self.clock.advance(40)
        self.clock.advance(1)
        self.assertEqual((engine.entries, engine.memory), (0, 0))
        self.assertEqual((engine._holdings, self.clock.getDelayedCalls()), ({}, []))

    def test_set_while_it_is_over(self) -> None:
        """Before it is removed, what is over counts as gone."""
        engine = self.engine()
        first = self.successResultOf(engine.put("k", b"1", expires=1.0))
        self.clock.rightNow = 1.0
        self.assertIs(self.successResultOf(engine.delete("k", expect=0)), False)
        self.successResultOf(engine.put("k", b"2", expires=1.5))
        self.clock.rightNow = 1.5
        second = self.successResultOf(engine.put("k", b"3", expect=0))
        self.assertGreater(second, first)
        lease = self.successResultOf(engine.register("n", "o", 1))
        self.successResultOf(engine.put("k", b"4", lease=lease))
        self.clock.rightNow = 3.0
        self.assertIs(self.successResultOf(engine.delete("k")), False)
        self.assertIsNone(engine.peek("name/n"))


class BucketTests(SynchronousTestCase):
    """GCRA by itself."""

    def test_full_buckets_need_no_room(self) -> None:
        buckets = Buckets(2)
        buckets.take("a", 1, 1, 1.0, 5, 0.0)
        buckets.take("b", 5, 1, 1.0, 5, 0.0)
        error = self.assertRaises(EngineFull, buckets.take, "c", 1, 1, 1.0, 5, 0.5)
        self.assertIn("2 buckets are in use", str(error))
        # It is not looked through for every bucket that comes.
        self.assertRaises(EngineFull, buckets.take, "c", 1, 1, 1.0, 5, 1.4)
        self.assertEqual(buckets.take("c", 1, 1, 1.0, 5, 1.5).granted, 1)
        self.assertEqual(len(buckets), 2)
        self.assertEqual(buckets.take("b", 1, 1, 1.0, 5, 1.5).granted, 1, "one that is in use is found")
        buckets.give("b", 5, 1.0, 1.5)
        self.assertEqual(len(buckets), 1, "nor does one that is filled up again")

    @settings(max_examples=100, deadline=None)
    @given(
        rate=st.floats(0.01, 10_000),
        burst=st.integers(1, 1000),
        start=st.floats(0, 1e6),
        steps=st.lists(
            st.tuples(st.floats(0, 10), st.integers(1, 100), st.floats(0, 1), st.integers(0, 20)), max_size=40
        ),
    )
    def test_no_window_has_more(
        self, rate: float, burst: int, start: float, steps: list[tuple[float, int, float, int]]
    ) -> None:
        """In every window, what was taken and not given back is at most rate x t + burst; and no wait is too short."""
        buckets = Buckets(10)
        now = start
        level = 0.0
        for pause, want, share, back in steps:
            now += pause
            level = max(0.0, level - pause * rate)
            minimum = max(1, min(burst, int(want * share)))
            granted, wait = buckets.take("b", max(want, minimum), minimum, rate, burst, now)
            level += granted
            self.assertLessEqual(level, burst * (1 + 1e-6) + 1e-3)
            if not granted and now + wait > now:
                now += wait
                level = max(0.0, level - wait * rate)
                # Rounding may leave the clock a hair short of the moment.
                granted = buckets.take("b", minimum, minimum, rate, burst, now * (1 + 1e-12)).granted
                self.assertEqual(granted, minimum)
                level += granted
            buckets.give("b", back, rate, now)
            level = max(0.0, level - back)


class WatchTests(BoundsTestCase):
    """Watchers."""

    def test_too_many(self) -> None:
        engine = self.engine(watchers=2)
        end = engine.watch("", print)
        end_hints = engine.subscribe("t", print)
        self.assertRaises(EngineFull, engine.watch, "", print)
        self.assertRaises(EngineFull, engine.subscribe, "t", print)
        end()
        end()
        engine.watch("", print)()
        engine.subscribe("t", print)()
        end_hints()
        self.clock.advance(0)

    def test_far_behind(self) -> None:
        """Who is told of more changes than are kept gets a snapshot; and so by the size of their values."""
        for bounds, value in (({"changes": 3}, b""), ({"change_bytes": 30}, b"x" * 10)):
            engine = self.engine(**bounds)
            news: list[Any] = []
            engine.watch("", news.append)
            self.clock.advance(0)
            for number in range(3):
                self.successResultOf(engine.put(f"k{number}", value))
            self.clock.advance(0)
            self.assertEqual([type(one) for one in news], [KeySnapshot, *[KeyChange] * 3])
            for number in range(4):
                self.successResultOf(engine.put(f"k{number}", value))
            self.clock.advance(0)
            self.assertEqual([type(one) for one in news[4:]], [KeySnapshot])
            self.assertEqual(sorted(news[4].entries), ["k0", "k1", "k2", "k3"])

    def test_one_fails(self) -> None:
        engine = self.engine()
        news: list[Any] = []

        def fail(_: object) -> None:
            raise RuntimeError("watcher")

        engine.watch("", fail)
        engine.watch("", news.append)
        engine.subscribe("t", fail)
        engine.subscribe("t", news.append)
        engine.publish("t", b"hint")
        self.clock.advance(0)
        self.assertEqual(len(news), 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_changes_made_by_a_watcher(self) -> None:
        """They are told in turns of their own, each once."""
        engine = self.engine()
        told: list[Any] = []

        def answer(news: Any) -> None:
            told.append(news)
            if len(told) < 5:
                self.successResultOf(engine.put("k", b"%d" % len(told)))
                self.assertEqual(len(self.clock.getDelayedCalls()), 1, "another turn, not this one")

        engine.watch("", answer)
        self.clock.advance(0)
        self.assertEqual([one.value for one in told[1:]], [b"1", b"2", b"3", b"4"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ends_in_the_middle(self) -> None:
        """Who has ended a watch hears no more, not even what was due in the same turn."""
        engine = self.engine()
        told: list[Any] = []
        ends: list[Any] = []

        def first(news: Any) -> None:
            told.append(news)
            for end in ends:
                end()

        revision = self.successResultOf(engine.put("k", b""))
        ends += [engine.watch("", first, revision), engine.watch("", told.append, revision)]
        ends += [engine.subscribe("t", told.append)]
        for number in range(3):
            self.successResultOf(engine.put("k", b"%d" % number))
        self.clock.advance(0)
        engine.publish("t", b"")
        self.clock.advance(0)
        self.assertEqual(told, [KeyChange("k", b"0", revision + 1)])

    def test_hints_end_in_the_middle(self) -> None:
        engine = self.engine()
        heard: list[bytes] = []
        ends: list[Any] = []
        engine.subscribe("t", lambda _: ends[0]())
        ends.append(engine.subscribe("t", heard.append))
        engine.publish("t", b"")
        self.clock.advance(0)
        self.assertEqual(heard, [])

    def test_a_snapshot_is_of_what_is_not_over(self) -> None:
        """Also when what is over has not been removed yet: another watcher then hears of that."""
        engine = self.engine()
        news: list[Any] = []
        lease = self.successResultOf(engine.register("n", "o", 1))
        self.successResultOf(engine.put("under", b"", lease=lease))
        self.successResultOf(engine.put("brief", b"", expires=1.0))
        kept = self.successResultOf(engine.put("kept", b""))
        engine.watch("", news.append, kept)
        self.clock.rightNow = 1.0
        engine.watch("", news.append)
        self.clock.advance(0)
        snapshot = next(one for one in news if isinstance(one, KeySnapshot))
        self.assertEqual(snapshot.entries, {"kept": (b"", kept)})
        gone = {one.key: one.value for one in news if isinstance(one, KeyChange)}
        self.assertEqual(gone, {"brief": None, "name/n": None, "under": None})

    def test_hints_are_lost_past_the_bound(self) -> None:
        engine = self.engine(hints=2)
        heard: list[bytes] = []
        engine.subscribe("t", heard.append)
        for number in range(4):
            engine.publish("t", b"%d" % number)
        self.clock.advance(0)
        self.assertEqual(heard, [b"0", b"1"])
        self.assertEqual(engine._hints.lost, 2)

    def test_the_end(self) -> None:
        engine = self.engine()
        told: list[Any] = []
        engine.watch("", told.append)
        engine.subscribe("t", told.append)
        engine.publish("t", b"")
        self.successResultOf(engine.put("k", b"", expires=9.0))
        self.successResultOf(engine.close())
        self.clock.advance(20)
        self.assertEqual((told, self.clock.getDelayedCalls()), ([], []))


class ClockTests(SynchronousTestCase):
    """`SteadyClock`."""

    def test_two_clocks(self) -> None:
        reactor = Clock()
        clock = SteadyClock(reactor, lambda: 7.0)
        called: list[Any] = []
        call = clock.callLater(1, called.append, 1)
        self.assertEqual((clock.seconds(), clock.getDelayedCalls()), (7.0, [call]))
        reactor.advance(1)
        self.assertEqual(called, [1])
