"""What every engine must do, whatever it is made of: plain tests, and a machine that compares one with a model.

An implementation brings an `EngineWorld`; see `tests.test_engine_embedded`.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from erlmcp.interfaces import (
    Conflict,
    IEngine,
    KeyChange,
    KeySnapshot,
    Lease,
    LeaseLost,
    NameTaken,
    Stored,
)

KEYS = ("a", "a/1", "a/2", "b/1", "b/\0", "ünï")
NAMES = ("one", "two")
OWNERS = ("ann", "bob")
SWEEP = 3.0
"""Seconds by which an engine has told watchers of what is over."""


class EngineWorld(Protocol):
    """An engine, and the time that it lives in.

    Attributes:
        engine: the engine as it is now; another one after a restart.
        durable: whether there is a restart, and something outlives it.
        mirrors: whether the engine is elsewhere: `peek` knows of what is over when it hears so, and whoever makes a
            change hears of it when watchers have.
    """

    engine: Any
    durable: bool
    mirrors: bool

    def wall(self) -> float:
        """Seconds since the epoch, as the engine has it."""

    def wait(self, seconds: float) -> None:
        """Let time pass, and watchers be told."""

    def step(self, seconds: float) -> None:
        """Set the system's clock without any time passing."""

    def settle(self, deferred: Deferred[Any]) -> Any:
        """Wait for a Deferred; its result, or the `EngineError` that it failed with."""

    def restart(self, *, kill: bool) -> None:
        """Have the engine end, well or not, and another one begin with what it left."""

    def end(self) -> None:
        """Clean up."""


class Follower:
    """A watcher that keeps what it is told, and sees that it is told in order."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.view: dict[str, Stored] = {}
        self.known: int | None = None
        self.news: list[KeyChange | KeySnapshot] = []
        self.end: Callable[[], None] = lambda: None

    def follow(self, engine: Any) -> None:
        self.end = engine.watch(self.prefix, self, self.known)

    def __call__(self, news: KeyChange | KeySnapshot) -> None:
        self.news.append(news)
        if isinstance(news, KeySnapshot):
            assert self.known is None or news.revision >= self.known, (
                "a snapshot is never older than what was told"
            )
            self.view = dict(news.entries)
        else:
            assert self.known is not None, "a watcher that knows nothing gets a snapshot first"
            assert news.revision > self.known, "each change once, in order"
            if news.value is None:
                self.view.pop(news.key, None)
            else:
                self.view[news.key] = Stored(news.value, news.revision)
        assert all(key.startswith(self.prefix) for key in self.view)
        self.known = news.revision


class Modelled:
    """What the model knows of an entry."""

    def __init__(self, stored: Stored, expires: float | None, until: float, *, durable: bool) -> None:
        self.stored = stored
        self.expires = expires
        self.until = until
        self.durable = durable
        self.lease: Lease | None = None
        self.doubtful = False  # it was over once, and may or may not have been removed then


class Level:
    """What has been taken out of a bucket and has not run in again."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.level = 0.0
        self.at = 0.0

    def now(self, at: float) -> float:
        self.level = max(0.0, self.level - (at - self.at) * self.rate)
        self.at = at
        return self.level


class EngineMachine(RuleBasedStateMachine):
    """An engine beside a model of it, under any order of calls, waits, clock steps and restarts."""

    world_of: Callable[[], EngineWorld]

    @initialize()
    def begin(self) -> None:
        self.world = type(self).world_of()
        self.steady = 0.0
        self.entries: dict[str, Modelled] = {}
        self.leases: dict[str, tuple[Lease, float]] = {}
        self.old_leases: list[Lease] = []
        self.levels = {
            name: Level(rate, burst) for name, rate, burst in (("x", 0.5, 1), ("y", 3.0, 7), ("z", 90.0, 20))
        }
        self.revision = 0
        self.followers: list[Follower] = []
        self.quiet = 0.0

    @property
    def engine(self) -> Any:
        return self.world.engine

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.end()

    # The model.

    def over(self, key: str) -> bool:
        entry = self.entries[key]
        if entry.lease is not None:
            held = self.leases.get(entry.lease.name)
            return held is None or held[0] != entry.lease or self.steady >= held[1]
        return entry.expires is not None and self.steady >= entry.until and self.world.wall() >= entry.expires

    def settle_doubt(self, key: str) -> None:
        """What may or may not be gone is what the engine says that it is."""
        entry = self.entries.get(key)
        if entry is None:
            return
        if self.over(key):
            entry.doubtful = True
        elif entry.doubtful:
            if self.world.settle(self.engine.get(key)) is None:
                del self.entries[key]
            else:
                entry.doubtful = False

    def live(self, key: str) -> Modelled | None:
        self.settle_doubt(key)
        return None if key not in self.entries or self.over(key) else self.entries[key]

    def holder(self, name: str) -> Lease | None:
        held = self.leases.get(name)
        return held[0] if held is not None and self.steady < held[1] else None

    def newer(self, revision: int) -> int:
        assert revision > self.revision, "revisions grow"
        self.revision = revision
        return revision

    def forget_lease(self, lease: Lease) -> None:
        held = self.leases.get(lease.name)
        if held is not None and held[0] == lease:
            del self.leases[lease.name]
        for key in [key for key, entry in self.entries.items() if entry.lease == lease]:
            del self.entries[key]

    # Entries.

    expected = st.sampled_from(["any", "none", "right", "wrong"])

    def expectation(self, key: str, kind: str) -> tuple[int | None, bool]:
        """What to expect of a key, and whether that is so."""
        entry = self.live(key)
        revision = 0 if entry is None else entry.stored.revision
        if kind == "any":
            return None, True
        if kind == "none":
            return 0, revision == 0
        return (revision, True) if kind == "right" else (revision + 1, False)

    @rule(
        key=st.sampled_from(KEYS),
        value=st.binary(max_size=8),
        lasts=st.none() | st.floats(-5, 50),
        kind=expected,
        durable=st.booleans(),
    )
    def put(self, key: str, value: bytes, lasts: float | None, kind: str, durable: bool) -> None:
        expect, right = self.expectation(key, kind)
        expires = None if lasts is None else self.world.wall() + lasts
        result = self.world.settle(
            self.engine.put(key, value, expires=expires, expect=expect, durable=durable)
        )
        if not right:
            assert isinstance(result, Conflict)
            return
        until = self.steady + (0.0 if expires is None else expires - self.world.wall())
        self.entries[key] = Modelled(Stored(value, self.newer(result)), expires, until, durable=durable)

    @rule(key=st.sampled_from(KEYS), value=st.binary(max_size=8), data=st.data())
    def put_under_lease(self, key: str, value: bytes, data: st.DataObject) -> None:
        lease = self.any_lease(data)
        if lease is None:
            return
        result = self.world.settle(self.engine.put(key, value, lease=lease))
        if self.holder(lease.name) != lease:
            assert isinstance(result, LeaseLost)
            return
        entry = Modelled(Stored(value, self.newer(result)), None, 0.0, durable=False)
        entry.lease = lease
        self.entries[key] = entry

    @rule(key=st.sampled_from(KEYS), kind=expected)
    def delete(self, key: str, kind: str) -> None:
        expect, right = self.expectation(key, kind)
        there = self.live(key) is not None
        result = self.world.settle(self.engine.delete(key, expect=expect))
        if not right:
            assert isinstance(result, Conflict)
            return
        assert result is there
        self.entries.pop(key, None)

    # Names.

    def any_lease(self, data: st.DataObject) -> Lease | None:
        leases = [lease for lease, _ in self.leases.values()] + self.old_leases[-3:]
        return data.draw(st.sampled_from(leases)) if leases else None

    @rule(name=st.sampled_from(NAMES), owner=st.sampled_from(OWNERS), seconds=st.floats(0.5, 30))
    def register(self, name: str, owner: str, seconds: float) -> None:
        before = self.holder(name)
        result = self.world.settle(self.engine.register(name, owner, seconds))
        if before is not None and before.owner != owner:
            assert isinstance(result, NameTaken), "never two owners"
            assert result.owner == before.owner
            return
        assert (result.name, result.owner, result.seconds) == (name, owner, seconds)
        self.newer(result.revision)
        if name in self.leases:
            self.old_leases.append(self.leases[name][0])
            self.forget_lease(self.leases[name][0])
        self.leases[name] = (result, self.steady + seconds)

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        lease = self.any_lease(data)
        if lease is None:
            return
        result = self.world.settle(self.engine.renew(lease))
        if self.holder(lease.name) == lease:
            assert result is None
            self.leases[lease.name] = (lease, self.steady + lease.seconds)
        else:
            assert isinstance(result, LeaseLost)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = self.any_lease(data)
        if lease is None:
            return
        assert self.world.settle(self.engine.release(lease)) is None
        self.old_leases.append(lease)
        self.forget_lease(lease)

    # Buckets.

    @rule(name=st.sampled_from("xyz"), want=st.integers(1, 30), data=st.data())
    def take(self, name: str, want: int, data: st.DataObject) -> None:
        level = self.levels[name]
        minimum = data.draw(st.integers(1, min(want, level.burst)))
        before = level.now(self.steady)
        granted, retry_after = self.world.settle(
            self.engine.take(name, want, minimum, rate=level.rate, burst=level.burst)
        )
        level.level += granted
        assert level.level <= level.burst + 1e-3, "no more than rate x t + burst"
        if granted:
            assert minimum <= granted <= want
            assert retry_after == 0.0
        else:
            assert before + minimum > level.burst - 1e-3, "a token that is there is not refused"
            assert math.isclose(retry_after, (before + minimum - level.burst) / level.rate, abs_tol=1e-3)

    @rule(name=st.sampled_from("xyz"), count=st.integers(0, 5))
    def give(self, name: str, count: int) -> None:
        level = self.levels[name]
        self.world.settle(self.engine.give(name, count, rate=level.rate))
        level.level = max(0.0, level.now(self.steady) - count)

    # Watchers.

    @precondition(lambda self: len(self.followers) < 4)
    @rule(prefix=st.sampled_from(["", "a", "a/", "b/", "name/", "c"]))
    def watch(self, prefix: str) -> None:
        follower = Follower(prefix)
        follower.follow(self.engine)
        self.followers.append(follower)
        self.quiet = 0.0

    @precondition(lambda self: self.followers)
    @rule(data=st.data(), again=st.booleans())
    def stop_watching(self, data: st.DataObject, again: bool) -> None:
        follower = data.draw(st.sampled_from(self.followers))
        follower.end()
        if again:
            follower.follow(self.engine)
        else:
            self.followers.remove(follower)
        self.quiet = 0.0

    # Time.

    @rule(seconds=st.floats(0, 0.9) | st.floats(1, 40))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.steady += seconds
        for follower in self.followers:
            self.compare(follower)

    @rule(seconds=st.floats(-100, 100))
    def step(self, seconds: float) -> None:
        self.world.step(seconds)

    def compare(self, follower: Follower) -> None:
        """A watcher knows what there is; what is over it may know still, for a while."""
        names = {f"name/{name}": self.holder(name) for name in NAMES}
        expected = {key: entry.stored for key in KEYS if (entry := self.live(key)) is not None}
        expected |= {
            key: Stored(lease.owner.encode(), lease.revision) for key, lease in names.items() if lease
        }
        expected = {key: stored for key, stored in expected.items() if key.startswith(follower.prefix)}
        known = {key: follower.view.get(key) for key in expected}
        assert known == expected, "nothing is left out"
        for key in follower.view.keys() - expected.keys():
            assert key in names or key in self.entries, f"{key} was deleted, and the watcher not told"

    # The end, and after it.

    @precondition(lambda self: self.world.durable)
    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:
        for follower in self.followers:
            follower.end()
        self.world.restart(kill=kill)
        for key, entry in list(self.entries.items()):
            if not entry.durable or (entry.expires is not None and entry.expires <= self.world.wall()):
                del self.entries[key]
            elif entry.expires is not None:
                entry.until = self.steady + entry.expires - self.world.wall()
        self.old_leases += [lease for lease, _ in self.leases.values()]
        self.leases.clear()
        for level in self.levels.values():
            level.level = 0.0
        for follower in self.followers:
            follower.follow(self.engine)

    # What always holds.

    @invariant()
    def every_key(self) -> None:
        if not hasattr(self, "world"):
            return
        for key in KEYS:
            entry = self.live(key)
            wanted = None if entry is None else entry.stored
            if wanted is not None or not self.world.mirrors:
                assert self.engine.peek(key) == wanted, key
            assert self.world.settle(self.engine.get(key)) == wanted, key
        for name in NAMES:
            lease = self.holder(name)
            found = self.world.settle(self.engine.lookup(name))
            assert found == (None if lease is None else Stored(lease.owner.encode(), lease.revision)), name


def run_machine(world: Callable[[], EngineWorld], examples: int, steps: int) -> None:
    """Compare an engine with the model."""

    class Machine(EngineMachine):
        world_of = staticmethod(world)

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


class EngineSuite:
    """Plain tests; mixed into a test case that has `world`."""

    world: EngineWorld
    assertEqual: ClassVar[Any]
    assertRaises: ClassVar[Any]
    assertIsInstance: ClassVar[Any]

    def settle(self, deferred: Deferred[Any]) -> Any:
        return self.world.settle(deferred)

    def test_interface(self) -> None:
        verifyObject(IEngine, self.world.engine)

    def test_arguments(self) -> None:
        """What can never be right is refused at once."""
        engine = self.world.engine
        for key in ("", "k" * 513, "ü" * 257, "\ud800", "name/one"):
            self.assertRaises(ValueError, engine.put, key, b"")
            self.assertRaises(ValueError, engine.delete, key)
        self.settle(engine.put("ü" * 256, b"x"))
        self.assertRaises(ValueError, engine.put, "k", b"x" * 65_537)
        self.assertRaises(ValueError, engine.put, "k", "text")
        for expires in (math.nan, math.inf):
            self.assertRaises(ValueError, engine.put, "k", b"", expires=expires)
        lease = self.settle(engine.register("n", "o", 10))
        self.assertRaises(ValueError, engine.put, "k", b"", lease=lease, durable=True)
        self.assertRaises(ValueError, engine.put, "k", b"", lease=lease, expires=5.0)
        self.assertRaises(ValueError, engine.register, "n" * 508, "o", 10)
        self.assertRaises(ValueError, engine.register, "n", "", 10)
        for seconds in (0, -1, math.nan, math.inf):
            self.assertRaises(ValueError, engine.register, "n", "o", seconds)
        self.assertRaises(ValueError, engine.take, "", 1, rate=1, burst=1)
        for want, minimum, rate, burst in (
            (0, 0, 1, 1),
            (1, 2, 1, 2),
            (5, 5, 1, 4),
            (1, 1, 0, 1),
            (1, 1, math.inf, 1),
            (1, 1, 1, math.nan),
        ):
            self.assertRaises(ValueError, engine.take, "b", want, minimum, rate=rate, burst=burst)
        self.assertRaises(ValueError, engine.give, "b", -1, rate=1)
        self.assertRaises(ValueError, engine.give, "b", 1, rate=0)
        self.assertRaises(ValueError, engine.subscribe, "", print)

    def test_errors_say_what_is(self) -> None:
        engine = self.world.engine
        revision = self.settle(engine.put("k", b"v"))
        conflict = self.settle(engine.put("k", b"w", expect=0))
        self.assertEqual(
            (conflict.revision, str(conflict)), (revision, f"'k' is at revision {revision}, not at 0")
        )
        self.assertEqual(self.settle(engine.delete("no", expect=7)).revision, 0)
        lease = self.settle(engine.register("n", "ann", 10))
        self.assertEqual(str(self.settle(engine.register("n", "bob", 10))), "'n' is held by 'ann'")
        self.settle(engine.release(lease))
        self.assertEqual(str(self.settle(engine.renew(lease))), "the lease of 'ann' on 'n' is over")

    def test_every_change_once(self) -> None:
        """Who begins at a revision gets each change after it; nobody is told inside the call."""
        engine = self.world.engine
        first = self.settle(engine.put("a/1", b"1"))
        early = Follower("a/")
        early.known = first
        early.follow(engine)
        second = self.settle(engine.put("a/1", b"2"))
        self.settle(engine.put("b/1", b"-"))
        self.settle(engine.delete("a/1"))
        third = self.settle(engine.put("a/2", b"3"))
        if not self.world.mirrors:
            self.assertEqual(early.news, [])
        self.world.wait(0.01)
        changes = [(news.key, news.value) for news in early.news if isinstance(news, KeyChange)]
        self.assertEqual(changes, [("a/1", b"2"), ("a/1", None), ("a/2", b"3")])
        late = Follower("a/")
        late.known = second
        late.follow(engine)
        fresh = Follower("a/")
        fresh.follow(engine)
        self.world.wait(0.01)
        self.assertEqual(late.news, early.news[1:])
        self.assertEqual(fresh.news, [KeySnapshot({"a/2": Stored(b"3", third)}, third)])

    def test_a_revision_of_the_future(self) -> None:
        """A watcher that was told by another engine knows nothing that counts here."""
        follower = Follower("")
        end = self.world.engine.watch("", follower.news.append, 1 << 62)
        self.world.wait(0.01)
        self.assertIsInstance(follower.news[0], KeySnapshot)
        end()

    def test_expiry_is_told(self) -> None:
        engine = self.world.engine
        follower = Follower("")
        follower.follow(engine)
        self.settle(engine.put("k", b"v", expires=self.world.wall() + 5))
        lease = self.settle(engine.register("n", "ann", 8))
        self.settle(engine.put("l", b"v", lease=lease))
        self.world.wait(4.5)
        self.assertEqual(sorted(follower.view), ["k", "l", "name/n"])
        self.settle(engine.renew(lease))
        self.world.wait(0.5 + SWEEP)
        self.assertEqual(sorted(follower.view), ["l", "name/n"])
        self.world.wait(5 + SWEEP)
        self.assertEqual(follower.view, {})

    def test_a_set_clock_shortens_nothing(self) -> None:
        """A tombstone outlives what is under it, wherever the system's clock goes."""
        engine = self.world.engine
        self.settle(engine.put("k", b"", expires=self.world.wall() + 100, durable=True))
        follower = Follower("")
        follower.follow(engine)
        self.world.step(1000)
        self.world.wait(50)
        self.assertEqual(engine.peek("k").value, b"", "the time has not passed")
        self.world.step(-2000)
        self.world.wait(100)
        self.assertEqual(engine.peek("k").value, b"", "the clock does not say so")
        self.world.step(1000)
        self.world.wait(SWEEP)
        self.assertEqual(self.settle(engine.get("k")), None)
        self.world.wait(2000)
        self.assertEqual(follower.view, {}, "it is removed in the end")

    def test_leases_are_not_moved_by_a_set_clock(self) -> None:
        engine = self.world.engine
        lease = self.settle(engine.register("n", "ann", 10))
        self.world.step(100_000)
        self.world.wait(9.9)
        self.assertIsInstance(self.settle(engine.register("n", "bob", 1)), NameTaken)
        self.world.step(-200_000)
        self.world.wait(0.1)
        self.assertEqual(self.settle(engine.register("n", "bob", 1)).owner, "bob")
        self.assertIsInstance(self.settle(engine.renew(lease)), LeaseLost)

    def test_hints(self) -> None:
        engine = self.world.engine
        heard: list[bytes] = []
        engine.publish("t", b"0")
        end = engine.subscribe("t", heard.append)
        end_twin = engine.subscribe("t", heard.append)
        engine.publish("t", b"1")
        engine.publish("other", b"-")
        self.assertEqual(heard, [])
        self.world.wait(0.01)
        self.assertEqual(heard, [b"1", b"1"])
        end_twin()
        end_twin()
        engine.publish("t", b"2")
        self.world.wait(0.01)
        self.assertEqual(heard, [b"1", b"1", b"2"])
        engine.publish("t", b"3")
        end()
        self.world.wait(0.01)
        engine.publish("t", b"4")
        self.world.wait(0.01)
        self.assertEqual(heard, [b"1", b"1", b"2"])

    def test_tokens_come_back(self) -> None:
        engine = self.world.engine
        take = lambda want, minimum=1: tuple(  # noqa: E731
            round(part, 6) for part in self.settle(engine.take("b", want, minimum, rate=2, burst=10))
        )
        self.assertEqual(take(4), (4, 0))
        self.assertEqual(take(20), (6, 0))
        self.assertEqual(take(20), (0, 0.5))
        self.assertEqual(take(20, 4), (0, 2.0))
        self.world.wait(1.75)
        self.assertEqual(take(20, 4), (0, 0.25))
        self.assertEqual(take(20), (3, 0))
        self.settle(engine.give("b", 2, rate=2))
        self.assertEqual(take(20), (2, 0))
        self.settle(engine.give("b", 100, rate=2))
        self.assertEqual(take(20), (10, 0), "never more than the burst")
        self.settle(engine.give("unknown", 1, rate=2))

    def test_restart(self) -> None:
        if not self.world.durable:
            return
        engine = self.world.engine
        kept = self.settle(engine.put("kept", b"\x00\xff", durable=True))
        self.settle(engine.put("brief", b"", expires=self.world.wall() + 5, durable=True))
        self.settle(engine.put("long", b"", expires=self.world.wall() + 50, durable=True))
        self.settle(engine.put("plain", b""))
        self.settle(engine.put("once", b"", durable=True))
        self.settle(engine.put("once", b""))
        self.settle(engine.put("gone", b"", durable=True))
        self.settle(engine.delete("gone"))
        lease = self.settle(engine.register("n", "ann", 100))
        self.world.wait(1)
        self.world.step(10)
        for kill in (True, False):
            self.world.restart(kill=kill)
            engine = self.world.engine
            self.assertEqual(engine.peek("kept"), Stored(b"\x00\xff", kept))
            for key in ("brief", "plain", "once", "gone", "name/n"):
                self.assertEqual(engine.peek(key), None, key)
            self.assertEqual(engine.peek("long").value, b"")
        self.assertIsInstance(self.settle(engine.renew(lease)), LeaseLost)
        again = self.settle(engine.register("n", "bob", 100))
        self.assertEqual(again.revision > lease.revision, True, "a fence stands after a restart")
        self.settle(engine.put("kept", b"new", expect=kept, durable=True))
        self.world.wait(39 + SWEEP)
        self.assertEqual(engine.peek("long"), None)
