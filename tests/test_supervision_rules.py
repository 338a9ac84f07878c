"""The decisions of a supervisor: against a model of OTP, and what must hold whatever happens in whatever order."""

from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.supervision import Backoff, ChildSpec, Ended, StartFailure, TooManyRestarts
from erlmcp.supervision import _rules as rules

NAMES = ("a", "b", "c", "d")
AT_ONCE = Backoff(base=0)
INTENSITY, PERIOD = 3, 10.0


def rules_for(
    strategy: Any = "one_for_one", children: Any = (), *, auto_shutdown: Any = "never", **options: Any
) -> rules.Rules:
    made = rules.Rules(
        strategy,
        intensity=options.get("intensity", INTENSITY),
        period=PERIOD,
        backoff=options.get("backoff", AT_ONCE),
        auto_shutdown=auto_shutdown,
        chance=lambda: 0.0,
    )
    for name, restart, significant in children:
        made.add(0.0, name, restart, significant=significant)
    return made


class Model:
    """OTP's supervisor as its documentation has it: everything is done at once, one thing after the other.

    ``fails`` says how many of the next starts of a child fail.
    """

    def __init__(self, strategy: str, children: Any, auto_shutdown: str) -> None:
        self.strategy = strategy
        self.children = {name: (restart, significant) for name, restart, significant in children}
        self.auto_shutdown = auto_shutdown
        self.alive: set[str] = set()
        self.gone_significant: set[str] = set()
        self.times: list[float] = []
        self.fails: dict[str, int] = {}
        self.trace: list[tuple[str, str]] = []
        self.over = False

    def start(self) -> None:
        for name in self.children:
            if not self.begin(name):
                self.end("failed")
                return

    def begin(self, name: str) -> bool:
        self.trace.append(("start", name))
        if self.fails.get(name, 0):
            self.fails[name] -= 1
            return False
        self.alive.add(name)
        return True

    def terminate(self, names: list[str]) -> None:
        for name in reversed(names):
            if name in self.alive:
                self.trace.append(("stop", name))
                self.alive.discard(name)

    def end(self, how: str) -> None:
        self.terminate(list(self.children))
        self.trace.append(("end", how))
        self.over = True

    def exit(self, now: float, name: str, *, crashed: bool) -> None:
        restart, significant = self.children[name]
        self.alive.discard(name)
        if restart == "permanent" or (restart == "transient" and crashed):
            self.restart(now, name)
            return
        if restart == "temporary":
            del self.children[name]
        if significant and self.auto_shutdown != "never":
            left = [one for one, (_, heavy) in self.children.items() if heavy and one in self.alive]
            if self.auto_shutdown == "any_significant" or not left:
                self.end("well")

    def restart(self, now: float, name: str) -> None:
        while True:
            self.times = [now, *(one for one in self.times if now - one <= PERIOD)]
            if len(self.times) > INTENSITY:
                self.end("failed")
                return
            order = list(self.children)
            if self.strategy == "one_for_one":
                group = [name]
            else:
                group = order if self.strategy == "one_for_all" else order[order.index(name) :]
                self.terminate(group)
                for one in group:
                    if self.children[one][0] == "temporary":
                        del self.children[one]
                group = [one for one in group if one in self.children]
            failed = next((one for one in group if not self.begin(one)), None)
            if failed is None:
                return
            name = failed


class Driver:
    """Answers each action at once, as the model's world does."""

    def __init__(self, made: rules.Rules, fails: dict[str, int]) -> None:
        self.rules = made
        self.fails = fails
        self.trace: list[tuple[str, str]] = []
        self.now = 0.0

    def do(self, actions: list[rules.Action]) -> None:
        queue = deque(actions)
        while queue:
            match queue.popleft():
                case rules.Start(name, attempt):
                    self.trace.append(("start", name))
                    if self.fails.get(name, 0):
                        self.fails[name] -= 1
                        queue += self.rules.failed(self.now, name, attempt, ValueError(name))
                    else:
                        queue += self.rules.ready(self.now, name, attempt)
                case rules.Stop(name, attempt):
                    self.trace.append(("stop", name))
                    queue += self.rules.stopped(self.now, name, attempt)
                case rules.End(error):
                    self.trace.append(("end", "well" if error is None else "failed"))

    def exit(self, name: str, *, crashed: bool) -> None:
        child = self.rules.children[name]
        error = ValueError(name) if crashed else None
        self.do(self.rules.exited(self.now, name, child.attempt, error))


def specs(auto_shutdown: str) -> Any:
    def child(name: str) -> Any:
        plain = st.tuples(
            st.just(name), st.sampled_from(["permanent", "transient", "temporary"]), st.just(False)
        )
        if auto_shutdown == "never":
            return plain
        heavy = st.tuples(st.just(name), st.sampled_from(["transient", "temporary"]), st.just(True))
        return plain | heavy

    return st.integers(1, 4).flatmap(lambda count: st.tuples(*map(child, NAMES[:count])))


AUTO = st.sampled_from(["never", "any_significant", "all_significant"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.booleans(),
        st.sampled_from([0.0, 1.0, 4.0, 11.0]),
        st.dictionaries(st.sampled_from(NAMES), st.integers(1, 2), max_size=1),
    ),
    max_size=12,
)


class ModelTests(SynchronousTestCase):
    """What OTP would do, in the order in which it would."""

    @settings(deadline=None, max_examples=300)
    @given(st.data(), st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]), AUTO, STEPS)
    def test_same_as_otp(self, data: Any, strategy: str, auto: str, steps: Any) -> None:
        children = data.draw(specs(auto))
        model = Model(strategy, children, auto)
        driver = Driver(rules_for(strategy, children, auto_shutdown=auto), {})
        model.start()
        driver.do(driver.rules.start(0.0))
        self.assertEqual(driver.trace, model.trace)
        for name, crashed, later, fails in steps:
            if model.over:
                break
            driver.now += later
            if name not in model.alive:
                continue
            model.fails, driver.fails = dict(fails), dict(fails)
            model.exit(driver.now, name, crashed=crashed)
            driver.exit(name, crashed=crashed)
            self.assertEqual(driver.trace, model.trace)
            self.assertEqual(list(driver.rules.children), list(model.children))
            alive = {one.name for one in driver.rules.children.values() if one.state == "up"}
            self.assertEqual(alive, model.alive)
        if not model.over:
            model.end("well")
            driver.do(driver.rules.stop(driver.now))
            self.assertEqual(driver.trace, model.trace)

    @settings(deadline=None)
    @given(specs("never"), st.dictionaries(st.sampled_from(NAMES), st.just(1)))
    def test_start_that_fails(self, children: Any, fails: dict[str, int]) -> None:
        model = Model("one_for_one", children, "never")
        driver = Driver(rules_for("one_for_one", children), dict(fails))
        model.fails = dict(fails)
        model.start()
        driver.do(driver.rules.start(0.0))
        self.assertEqual(driver.trace, model.trace)


class World:
    """Children that answer when Hypothesis says so; checks what must hold after every step."""

    def __init__(self, test: SynchronousTestCase, made: rules.Rules, strategy: str) -> None:
        self.test = test
        self.rules = made
        self.linked = strategy in ("one_for_all", "rest_for_one")
        self.now = 0.0
        self.starting: dict[str, int] = {}
        self.up: dict[str, int] = {}
        self.stopping: dict[str, int] = {}
        self.ended = 0

    def do(self, actions: list[rules.Action]) -> None:
        for action in actions:
            match action:
                case rules.Start(name, attempt):
                    for table in (self.starting, self.up, self.stopping):
                        self.test.assertNotIn(name, table, "two incarnations at once")
                    if self.linked:
                        self.test.assertEqual(self.stopping, {}, "started while another stops")
                        self.test.assertEqual(self.starting, {}, "started before the one before was ready")
                    self.starting[name] = attempt
                case rules.Stop(name, attempt):
                    table = self.starting if name in self.starting else self.up
                    self.test.assertEqual(table.pop(name, None), attempt)
                    self.stopping[name] = attempt
                case rules.End():
                    self.ended += 1
        wake = self.rules.wake(self.now)
        self.test.assertTrue(wake is None or wake > self.now, "it would turn in circles")
        if self.ended:
            self.test.assertEqual((self.starting, self.up, self.stopping), ({}, {}, {}))
            self.test.assertEqual(self.ended, 1)
            self.test.assertIsNone(self.rules.wake(self.now))
        elif self.rules.phase == "stopping":
            self.test.assertTrue(self.starting or self.up or self.stopping, "it waits for nobody")
        elif not (self.starting or self.stopping) and self.rules.wake(self.now) is None:
            # Nothing is under way, so everything has found its place.
            states = {child.state for child in self.rules.children.values()}
            self.test.assertLessEqual(states, {"up", "ended"})


class OrderTests(SynchronousTestCase):
    """Starts and stops that take their time, with crashes, additions and removals among them."""

    @settings(deadline=None, max_examples=300)
    @given(
        st.data(),
        st.sampled_from(["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]),
        AUTO,
    )
    def test_whatever_happens(self, data: Any, strategy: str, auto: str) -> None:
        children = () if strategy == "simple_one_for_one" else data.draw(specs(auto))
        made = rules_for(
            strategy, children, auto_shutdown=auto, intensity=6, backoff=Backoff(base=1, jitter=0)
        )
        world = World(self, made, strategy)
        world.do(made.start(0.0))
        for _ in range(data.draw(st.integers(0, 30))):
            if world.ended:
                break
            choices = [("stop", "", 0)] + [("restart", one, 0) for one in made.children]
            choices += [("remove", one, 0) for one in made.children]
            if made.phase != "stopping":
                choices += [("add", one, 0) for one in NAMES if one not in made.children]
            # The likely ones often, so that long histories come about.
            choices += 6 * [("ready", *one) for one in world.starting.items()]
            choices += 6 * [("stopped", *one) for one in world.stopping.items()]
            for what in ("failed", "crashed"):
                choices += 2 * [
                    (what, *one) for one in (world.starting if what == "failed" else world.up).items()
                ]
            choices += [("ended", *one) for one in world.up.items()]
            choices += 3 * [("tick", "", 0)]
            what, name, attempt = data.draw(st.sampled_from(choices))
            self.act(world, what, name, attempt)
        if not world.ended:
            world.do(made.stop(world.now))
            while world.stopping:
                name, attempt = world.stopping.popitem()
                world.do(made.stopped(world.now, name, attempt))
        self.assertEqual(world.ended, 1)

    def act(self, world: World, what: str, name: str, attempt: int) -> None:
        made, now = world.rules, world.now
        error = ValueError(name)
        match what:
            case "ready":
                world.up[name] = world.starting.pop(name)
                world.do(made.ready(now, name, attempt))
            case "failed":
                del world.starting[name]
                world.do(made.failed(now, name, attempt, error))
            case "crashed" | "ended":
                del world.up[name]
                world.do(made.exited(now, name, attempt, error if what == "crashed" else None))
            case "stopped":
                del world.stopping[name]
                world.do(made.stopped(now, name, attempt))
            case "tick":
                world.now += 1.0
                world.do(made.tick(world.now))
            case "add":
                world.do(made.add(now, name, "transient"))
            case "remove":
                world.do(made.remove(now, name))
            case "restart":
                world.do(made.restart(now, name))
            case "stop":
                world.do(made.stop(now))


class DetailTests(SynchronousTestCase):
    """Single rules, by example."""

    def test_backoff(self) -> None:
        """None for the first restart, then longer, never past the limit; a calm while makes it a first one again."""
        made = rules_for(
            children=[("a", "permanent", False)],
            intensity=9,
            backoff=Backoff(base=1, limit=3, jitter=0, calm=60),
        )
        driver = Driver(made, {})
        driver.do(made.start(0.0))
        delays = []
        for _ in range(5):
            driver.now += 20
            driver.exit("a", crashed=True)
            delays.append(made.children["a"].until - driver.now)
            driver.now = made.wake(driver.now) or driver.now
            driver.do(made.tick(driver.now))
            self.assertEqual(made.children["a"].state, "up")
        self.assertEqual(delays, [0, 1, 2, 3, 3])
        driver.now += 60
        driver.exit("a", crashed=True)
        self.assertEqual(made.children["a"].state, "up")
        self.assertEqual(made.children["a"].restarts, 6)

    def test_jitter(self) -> None:
        backoff = Backoff(base=4, jitter=0.5)
        self.assertEqual(
            (backoff.delay(1, 0.0), backoff.delay(1, 1.0), backoff.delay(0, 1.0)), (4.0, 2.0, 0.0)
        )
        self.assertEqual(backoff.delay(10_000, 0.0), backoff.limit)
        for wrong in ({"jitter": 2}, {"factor": 0.5}, {"base": -1}, {"limit": -1}):
            self.assertRaises(ValueError, Backoff, **wrong)

    def test_a_group_waits_with_the_one_that_failed(self) -> None:
        made = rules_for(
            "one_for_all",
            [("a", "permanent", False), ("b", "permanent", False)],
            backoff=Backoff(base=5, jitter=0),
        )
        driver = Driver(made, {})
        driver.do(made.start(0.0))
        driver.exit("b", crashed=True)
        driver.exit("b", crashed=True)
        self.assertEqual({child.state for child in made.children.values()}, {"waiting"})
        self.assertEqual(made.tick(4.9), [])
        driver.now = 5.0
        driver.do(made.tick(5.0))
        self.assertEqual({child.state for child in made.children.values()}, {"up"})

    def test_errors(self) -> None:
        driver = Driver(rules_for(children=[("a", "permanent", False)], intensity=0), {})
        driver.do(driver.rules.start(0.0))
        (ended,) = driver.rules.exited(1.0, "a", 1, None)
        assert isinstance(ended, rules.End)
        assert isinstance(ended.error, TooManyRestarts)
        self.assertIsInstance(ended.error.cause, Ended)
        self.assertIn(
            "a ended again, and there were 0 restarts within 10 s already: it came", str(ended.error)
        )

        made = rules_for(children=[("a", "permanent", False)])
        made.start(0.0)
        (ended,) = made.failed(1.0, "a", 1, ValueError())
        assert isinstance(ended, rules.End)
        assert isinstance(ended.error, StartFailure)
        self.assertEqual(str(ended.error), "a did not start: ValueError")

    def test_one_that_is_added_and_does_not_start(self) -> None:
        made = rules_for()
        self.assertEqual(made.start(0.0), [rules.Ready()])
        self.assertEqual(made.add(0.0, "a", "permanent"), [rules.Start("a", 1)])
        error = ValueError("no")
        self.assertEqual(made.failed(0.0, "a", 1, error), [rules.Refused("a", error)])
        self.assertEqual(made.children, {})

    def test_events_of_an_earlier_life(self) -> None:
        made = rules_for(children=[("a", "permanent", False)])
        driver = Driver(made, {})
        driver.do(made.start(0.0))
        driver.exit("a", crashed=True)
        self.assertEqual(made.children["a"].attempt, 2)
        for late in (made.exited, made.failed):
            self.assertEqual(late(0.0, "a", 1, ValueError()), [])
        self.assertEqual(made.ready(0.0, "a", 1), [])
        self.assertEqual(made.stopped(0.0, "a", 2), [])
        self.assertEqual(made.stopped(0.0, "b", 1), [])

    def test_restart_that_was_asked_for(self) -> None:
        """Counts for nothing, takes what stands on it along, and starts a child again that had ended."""
        made = rules_for(
            "rest_for_one", [("a", "permanent", False), ("b", "transient", False), ("c", "temporary", False)]
        )
        driver = Driver(made, {})
        driver.do(made.start(0.0))
        driver.trace.clear()
        driver.do(made.restart(0.0, "a"))
        self.assertEqual(
            driver.trace,
            [("stop", "c"), ("stop", "b"), ("stop", "a"), ("start", "a"), ("start", "b")],
        )
        driver.exit("b", crashed=False)
        self.assertEqual(made.children["b"].state, "ended")
        for _ in range(INTENSITY + 1):
            driver.do(made.restart(0.0, "b"))
        self.assertEqual(made.children["b"].state, "up")
        self.assertRaises(KeyError, made.restart, 0.0, "c")

    def test_refused(self) -> None:
        made = rules_for(children=[("a", "permanent", False)])
        self.assertIn("already", str(self.assertRaises(ValueError, made.add, 0.0, "a", "permanent")))
        error = self.assertRaises(ValueError, made.add, 0.0, "b", "temporary", significant=True)
        self.assertIn("auto_shutdown", str(error))
        made.start(0.0)
        made.stop(0.0)
        self.assertIn("has ended", str(self.assertRaises(ValueError, made.add, 0.0, "b", "permanent")))

    def test_specifications(self) -> None:
        for wrong in (
            {"name": ""},
            {"restart": "sometimes"},
            {"shutdown": -1},
            {"shutdown": "never"},
            {"ready": 0},
            {"significant": True},
        ):
            self.assertRaises(ValueError, ChildSpec, **{"name": "a", "factory": object, **wrong})
