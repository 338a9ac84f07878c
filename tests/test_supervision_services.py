"""Supervisors as services: children that take their time, end by themselves, nest, come and go."""

from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.supervision import (
    Backoff,
    ChildSpec,
    NotReady,
    StartFailure,
    Status,
    Supervisor,
    TooManyRestarts,
)


class Part(Service):
    """Notes what it is told; starts and stops with what it is given."""

    def __init__(self, journal: list[str], label: str) -> None:
        self.journal = journal
        self.label = label
        self.ended: Deferred[None] = Deferred()
        self.privileged: Any = None
        self.starting: Any = None
        self.stopping: Any = None

    def privilegedStartService(self) -> Any:
        self.journal.append(f"prepare {self.label}")
        return self.privileged

    def startService(self) -> Any:
        self.journal.append(f"start {self.label}")
        if isinstance(self.starting, Exception):
            raise self.starting
        return self.starting

    def stopService(self) -> Any:
        self.journal.append(f"stop {self.label}")
        return self.stopping


class Killable(Part):
    def kill(self) -> None:
        self.journal.append(f"kill {self.label}")

    def detail(self) -> dict[str, Any]:
        return {"pid": 7}


class SupervisorTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.journal: list[str] = []
        self.made: dict[str, list[Part]] = {}
        self.next: dict[str, dict[str, Any]] = {}

    def factory(self, name: str, kind: type[Part] = Part) -> Callable[[], Part]:
        def make() -> Part:
            part = kind(self.journal, name)
            for attribute, value in self.next.pop(name, {}).items():
                setattr(part, attribute, value)
            self.made.setdefault(name, []).append(part)
            return part

        return make

    def spec(self, name: str, *rest: Any, kind: type[Part] = Part, **options: Any) -> ChildSpec:
        return ChildSpec(name, self.factory(name, kind), *rest, **options)

    def supervisor(self, *specs: ChildSpec, **options: Any) -> Supervisor:
        options.setdefault("backoff", Backoff(base=1, jitter=0))
        return Supervisor("root", specs, self.clock, wall=lambda: 1000.0 + self.clock.seconds(), **options)

    def started(self, *specs: ChildSpec, **options: Any) -> Supervisor:
        supervisor = self.supervisor(*specs, **options)
        self.successResultOf(supervisor.startService())
        self.journal.clear()
        return supervisor

    def part(self, name: str) -> Part:
        return self.made[name][-1]

    def states(self, supervisor: Supervisor) -> dict[str, str]:
        return {child.name: child.state for child in supervisor.status().children}


class StartTests(SupervisorTestCase):
    """In order, each once the one before is ready."""

    def test_is_a_service(self) -> None:
        supervisor = self.supervisor(self.spec("a"))
        self.assertTrue(IService.providedBy(supervisor))
        self.assertIsInstance(supervisor, MultiService)
        self.successResultOf(supervisor.startService())
        child = supervisor.getServiceNamed("a")  # type: ignore[no-untyped-call]
        self.assertIs(child, self.part("a"))
        self.assertEqual((list(supervisor), child.parent, supervisor.running), ([child], supervisor, 1))
        self.successResultOf(supervisor.stopService())
        self.assertEqual((list(supervisor), child.parent, supervisor.running), ([], None, 0))
        self.assertRaises(RuntimeError, supervisor.addService, Service())
        self.assertRaises(RuntimeError, supervisor.removeService, child)
        self.assertRaises(RuntimeError, supervisor.startService)

    def test_waits_for_readiness(self) -> None:
        ready: Deferred[None] = Deferred()
        self.next["a"] = {"starting": ready}
        supervisor = self.supervisor(self.spec("a"), self.spec("b"))
        started = supervisor.startService()
        self.assertNoResult(started)
        self.assertEqual(self.journal, ["start a"])
        self.assertEqual(self.states(supervisor), {"a": "starting", "b": "idle"})
        self.assertEqual(supervisor.status().state, "starting")
        ready.callback(None)
        self.successResultOf(started)
        self.assertEqual(self.journal, ["start a", "start b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(supervisor.status().state, "up")

    def test_never_ready(self) -> None:
        self.next["b"] = {"starting": Deferred()}
        supervisor = self.supervisor(self.spec("a"), self.spec("b", ready=7.0))
        started = supervisor.startService()
        self.clock.advance(7)
        error = self.failureResultOf(started, StartFailure).value
        self.assertIsInstance(error.cause, NotReady)
        self.assertEqual(str(error), "b did not start: it was not ready within 7 s")
        self.failureResultOf(supervisor.ended, StartFailure)
        self.assertEqual(self.journal, ["start a", "start b", "stop b", "stop a"])
        self.successResultOf(supervisor.stopService())

    def test_fails_at_once(self) -> None:
        """Raised, since twistd looks at nothing else."""
        for how in (ValueError("taken"), fail(ValueError("taken"))):
            self.next["a"] = {"starting": how}
            supervisor = self.supervisor(self.spec("a"))
            error = self.assertRaises(StartFailure, supervisor.startService)
            self.assertEqual((error.child, str(error)), ("a", "a did not start: taken"))
            self.failureResultOf(supervisor.ended, StartFailure)

    def test_ends_before_it_is_ready(self) -> None:
        for end, said in ((succeed(None), "it ended before it was ready"), (fail(ValueError("x")), "x")):
            self.next["a"] = {"starting": Deferred(), "ended": end}
            supervisor = self.supervisor(self.spec("a"))
            error = self.assertRaises(StartFailure, supervisor.startService)
            self.assertEqual(str(error.cause), said)
            self.failureResultOf(supervisor.ended, StartFailure)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_factory_that_fails(self) -> None:
        def factory() -> Any:
            raise OSError("no such thing")

        supervisor = self.supervisor(ChildSpec("a", factory))
        self.assertRaises(StartFailure, supervisor.startService)
        self.failureResultOf(supervisor.ended, StartFailure)

    def test_no_child(self) -> None:
        supervisor = self.supervisor()
        self.successResultOf(supervisor.startService())
        self.successResultOf(supervisor.stopService())

    def test_what_cannot_be(self) -> None:
        for options in (
            {"strategy": "all_for_one"},
            {"strategy": "simple_one_for_one"},
            {"auto_shutdown": "always"},
            {"intensity": -1},
            {"period": 0},
            {"most": 0},
        ):
            self.assertRaises(ValueError, self.supervisor, self.spec("a"), **options)


class PrivilegedTests(SupervisorTestCase):
    """What twistd does before it sheds privileges."""

    def test_same_incarnation(self) -> None:
        supervisor = self.supervisor(self.spec("a"), self.spec("b"))
        self.successResultOf(supervisor.privilegedStartService())
        self.assertEqual(self.journal, ["prepare a", "prepare b"])
        self.assertIs(supervisor.service("a"), self.part("a"))
        self.successResultOf(supervisor.startService())
        self.assertEqual(self.journal[2:], ["start a", "start b"])
        self.assertEqual(len(self.made["a"]), 1)

    def test_start_waits(self) -> None:
        self.next["a"] = {"privileged": Deferred()}
        waiting = self.next["a"]["privileged"]
        supervisor = self.supervisor(self.spec("a"), self.spec("b"))
        prepared = supervisor.privilegedStartService()
        started = supervisor.startService()
        self.assertEqual(self.journal, ["prepare a"])
        waiting.callback(None)
        self.successResultOf(prepared)
        self.successResultOf(started)
        self.assertEqual(self.journal, ["prepare a", "prepare b", "start a", "start b"])

    def test_fails_at_once(self) -> None:
        self.next["b"] = {"privileged": fail(OSError("taken"))}
        supervisor = self.supervisor(self.spec("a"), self.spec("b"))
        error = self.assertRaises(StartFailure, supervisor.privilegedStartService)
        self.assertEqual(str(error), "b did not start: taken")
        self.assertEqual(self.journal, ["prepare a", "prepare b", "stop b", "stop a"])

    def test_fails_late(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.next["a"] = {"privileged": waiting}
        supervisor = self.supervisor(self.spec("a"))
        prepared, started = supervisor.privilegedStartService(), supervisor.startService()
        waiting.errback(OSError("taken"))
        for one in (prepared, started, supervisor.ended):
            self.failureResultOf(one, StartFailure)
        self.successResultOf(supervisor.stopService())

    def test_stopped_before_it_starts(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.next["b"] = {"privileged": waiting}
        supervisor = self.supervisor(self.spec("a"), self.spec("b"), self.spec("c"))
        supervisor.privilegedStartService()
        supervisor.startService()
        self.successResultOf(supervisor.stopService())
        self.successResultOf(supervisor.stopService())
        waiting.callback(None)
        self.assertEqual(self.journal, ["prepare a", "prepare b", "stop b", "stop a"])
        self.assertNoResult(supervisor.ended)

    def test_start_that_fails_leaves_nothing_prepared(self) -> None:
        self.next["a"] = {"starting": ValueError("no")}
        supervisor = self.supervisor(self.spec("a"), self.spec("b"))
        supervisor.privilegedStartService()
        self.assertRaises(StartFailure, supervisor.startService)
        self.failureResultOf(supervisor.ended, StartFailure)
        self.assertEqual(self.journal, ["prepare a", "prepare b", "start a", "stop a", "stop b"])


class StopTests(SupervisorTestCase):
    """The last first, each within its time."""

    def test_order(self) -> None:
        supervisor = self.started(self.spec("a"), self.spec("b"))
        waiting: Deferred[None] = Deferred()
        self.part("b").stopping = waiting
        stopped = supervisor.stopService()
        self.assertEqual(self.journal, ["stop b"])
        self.assertEqual(self.states(supervisor), {"a": "up", "b": "stopping"})
        waiting.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.journal, ["stop b", "stop a"])
        self.assertEqual(self.states(supervisor), {"a": "ended", "b": "ended"})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNoResult(supervisor.ended)

    def test_deadline(self) -> None:
        supervisor = self.started(self.spec("a", shutdown=2.0), self.spec("b", shutdown=3.0, kind=Killable))
        late: Deferred[None] = Deferred()
        self.part("a").stopping = Deferred()
        self.part("b").stopping = late
        with capturedLogs() as logs:
            stopped = supervisor.stopService()
            self.clock.advance(3)
            self.assertEqual(self.journal, ["stop b", "kill b", "stop a"])
            self.clock.advance(2)
        self.successResultOf(stopped)
        self.assertEqual([entry.get("child") for entry in logs], ["root/b", "root/a"])
        late.callback(None)

    def test_forever_and_kill(self) -> None:
        supervisor = self.started(
            self.spec("a", shutdown="kill"),
            self.spec("b", shutdown="kill", kind=Killable),
            self.spec("c", shutdown="forever"),
        )
        waiting: Deferred[None] = Deferred()
        self.part("c").stopping = waiting
        self.part("a").stopping = Deferred()
        stopped = supervisor.stopService()
        self.clock.advance(1e6)
        self.assertEqual(self.journal, ["stop c"])
        waiting.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.journal, ["stop c", "kill b", "stop a"])

    def test_stop_that_fails(self) -> None:
        supervisor = self.started(self.spec("a"), self.spec("b", shutdown="kill", kind=Killable))
        self.part("a").stopping = fail(ValueError("oops"))
        self.patch(Killable, "kill", lambda _self: 1 / 0)
        self.successResultOf(supervisor.stopService())
        self.assertEqual(len(self.flushLoggedErrors(ValueError, ZeroDivisionError)), 2)

    def test_kill_that_fails(self) -> None:
        supervisor = self.started(self.spec("a", kind=Killable))
        self.part("a").stopping = Deferred()
        self.patch(Killable, "kill", lambda _self: 1 / 0)
        stopped = supervisor.stopService()
        self.clock.advance(5)
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_while_starting(self) -> None:
        ready: Deferred[None] = Deferred()
        self.next["a"] = {"starting": ready}
        supervisor = self.supervisor(self.spec("a"), self.spec("b"))
        started = supervisor.startService()
        self.successResultOf(supervisor.stopService())
        self.assertEqual(self.journal, ["start a", "stop a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        # Whoever waits for the start hears of it; where nobody does, nothing is logged.
        self.assertIsNone(self.successResultOf(started))
        ready.callback(None)

    def test_who_waits_for_the_start_hears_of_the_stop(self) -> None:
        self.next["a"] = {"starting": Deferred()}
        supervisor = self.supervisor(self.spec("a"))
        heard: list[Any] = []
        supervisor.startService().addErrback(heard.append)
        self.successResultOf(supervisor.stopService())
        self.assertEqual([str(failure.value) for failure in heard], ["root was stopped before it was ready"])

    def test_twice(self) -> None:
        supervisor = self.started(self.spec("a"))
        waiting: Deferred[None] = Deferred()
        self.part("a").stopping = waiting
        first, second = supervisor.stopService(), supervisor.stopService()
        waiting.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_before_the_start(self) -> None:
        supervisor = self.supervisor(self.spec("a"))
        self.successResultOf(supervisor.stopService())
        self.assertEqual(self.journal, [])


class RestartTests(SupervisorTestCase):
    """Healing."""

    def test_at_once_then_later(self) -> None:
        supervisor = self.started(self.spec("a"))
        self.part("a").ended.errback(ValueError("boom"))
        self.assertEqual(self.journal, ["stop a", "start a"])
        self.clock.advance(1)
        with capturedLogs() as logs:
            self.part("a").ended.errback(ValueError("again"))
        self.assertEqual((logs[0]["child"], logs[0]["error"], logs[0]["delay"]), ("root/a", "again", 1.0))
        (status,) = supervisor.status().children
        self.assertEqual(
            status,
            Status(name="a", state="waiting", since=1001.0, restarts=1, error="again"),
        )
        self.assertIsNone(supervisor.service("a"))
        self.clock.advance(1)
        (status,) = supervisor.status().children
        self.assertEqual((status.state, status.restarts, status.since), ("up", 2, 1002.0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cleaned_up_first(self) -> None:
        """What has ended is stopped, and what is left of it gone, before it is started again."""
        supervisor = self.started(self.spec("a", kind=Killable))
        waiting: Deferred[None] = Deferred()
        self.part("a").stopping = waiting
        self.part("a").ended.callback(None)
        self.assertEqual(self.journal, ["stop a"])
        waiting.callback(None)
        self.assertEqual(self.journal, ["stop a", "start a"])
        self.assertEqual(supervisor.status().children[0].error, "it came to an end")

    def test_stopped_while_it_is_cleaned_up(self) -> None:
        supervisor = self.started(self.spec("a"))
        waiting: Deferred[None] = Deferred()
        self.part("a").stopping = waiting
        self.part("a").ended.errback(ValueError())
        stopped = supervisor.stopService()
        self.assertNoResult(stopped)
        waiting.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.journal, ["stop a"])

    def test_escalation(self) -> None:
        """Past the intensity the supervisor stops its children and fails."""
        supervisor = self.started(self.spec("a"), self.spec("b"), intensity=1)
        self.part("b").ended.errback(ValueError("one"))
        self.journal.clear()
        with capturedLogs() as logs:
            self.part("b").ended.errback(KeyboardInterrupt())
        error = self.failureResultOf(supervisor.ended, TooManyRestarts).value
        self.assertEqual(error.child, "b")
        self.assertIn("KeyboardInterrupt", str(error))
        self.assertEqual(self.journal, ["stop b", "stop a"])
        self.assertIn("root", {entry.get("child") for entry in logs})
        self.successResultOf(supervisor.stopService())
        self.assertEqual(supervisor.status().state, "ended")

    def test_it_climbs(self) -> None:
        """A supervisor that fails is restarted by its own, whole; then that one fails, too."""

        def branch() -> Supervisor:
            return Supervisor("branch", [self.spec("leaf")], self.clock, intensity=0)

        root = self.started(
            ChildSpec("branch", branch), self.spec("other"), intensity=1, strategy="rest_for_one"
        )
        self.part("leaf").ended.errback(ValueError("one"))
        self.assertEqual(self.journal, ["stop leaf", "stop other", "start leaf", "start other"])
        tree = root.status()
        self.assertEqual([child.kind for child in tree.children], ["supervisor", "child"])
        self.assertEqual(tree.children[0].restarts, 1)
        self.assertIn("leaf ended again", str(tree.children[0].error))
        self.assertEqual(tree.children[0].children[0].state, "up")
        self.assertEqual(root.service("branch").path, "root/branch")
        self.part("leaf").ended.errback(ValueError("two"))
        self.failureResultOf(root.ended, TooManyRestarts)

    def test_one_whose_wait_is_over_waits_for_another(self) -> None:
        """It is started by what happens, not by a clock that turns in circles."""
        supervisor = self.started(self.spec("a", ready=100.0), self.spec("b"), strategy="rest_for_one")
        ready: Deferred[None] = Deferred()
        self.next["a"] = {"starting": ready}
        self.part("a").ended.errback(ValueError())
        self.assertEqual(self.states(supervisor), {"a": "starting", "b": "waiting"})
        (deadline,) = self.clock.getDelayedCalls()
        self.assertEqual(deadline.getTime(), 100.0)
        self.clock.advance(50)
        ready.callback(None)
        self.assertEqual(self.states(supervisor), {"a": "up", "b": "up"})

    def test_auto_shutdown(self) -> None:
        supervisor = self.started(
            self.spec("a"), self.spec("b", "transient", significant=True), auto_shutdown="any_significant"
        )
        self.part("b").ended.callback(None)
        self.successResultOf(supervisor.ended)
        self.assertEqual(self.journal, ["stop b", "stop a"])

    def test_detail(self) -> None:
        supervisor = self.started(self.spec("a", kind=Killable))
        self.assertEqual(supervisor.status().children[0].detail, {"pid": 7})


class ChangeTests(SupervisorTestCase):
    """Children that come and go."""

    def test_add(self) -> None:
        supervisor = self.started(strategy="simple_one_for_one", most=2)
        ready: Deferred[None] = Deferred()
        self.next["b"] = {"starting": ready}
        self.successResultOf(supervisor.add(self.spec("a")))
        second = supervisor.add(self.spec("b"))
        self.assertNoResult(second)
        ready.callback(None)
        self.successResultOf(second)
        self.assertRaises(ValueError, supervisor.add, self.spec("c"))
        for name in ("a", "b"):
            self.part(name).stopping = Deferred()
        self.journal.clear()
        supervisor.stopService()
        self.assertEqual(sorted(self.journal), ["stop a", "stop b"])
        for name in ("a", "b"):
            self.part(name).stopping.callback(None)
        self.assertRaises(ValueError, supervisor.add, self.spec("c"))

    def test_temporary_ones_go(self) -> None:
        supervisor = self.started(strategy="simple_one_for_one")
        supervisor.add(self.spec("a", "temporary"))
        self.part("a").ended.errback(ValueError())
        self.assertEqual(supervisor.status().children, ())
        self.successResultOf(supervisor.add(self.spec("a", "temporary")))

    def test_add_that_fails(self) -> None:
        supervisor = self.started()
        self.next["a"] = {"starting": ValueError("no")}
        self.failureResultOf(supervisor.add(self.spec("a")), ValueError)
        self.assertEqual(supervisor.status().children, ())
        self.successResultOf(supervisor.add(self.spec("a")))
        self.assertRaises(ValueError, supervisor.add, self.spec("a"))

    def test_add_before_the_start(self) -> None:
        supervisor = self.supervisor()
        self.successResultOf(supervisor.add(self.spec("a")))
        self.assertEqual(self.journal, [])
        supervisor.startService()
        self.assertEqual(self.journal, ["start a"])

    def test_remove(self) -> None:
        supervisor = self.started(self.spec("a"), self.spec("b"), self.spec("c"))
        waiting: Deferred[None] = Deferred()
        self.part("b").stopping = waiting
        first, second = supervisor.remove("b"), supervisor.remove("b")
        self.assertNoResult(first)
        waiting.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.journal, ["stop b"])
        self.assertEqual(self.states(supervisor), {"a": "up", "c": "up"})
        self.assertRaises(KeyError, supervisor.remove, "b")

    def test_remove_what_is_starting_or_waits(self) -> None:
        supervisor = self.started()
        self.next["a"] = {"starting": Deferred()}
        added = supervisor.add(self.spec("a"))
        self.successResultOf(supervisor.remove("a"))
        self.failureResultOf(added, RuntimeError)
        supervisor.add(self.spec("b"))
        self.part("b").ended.errback(ValueError())
        self.part("b").ended.errback(ValueError())
        self.assertEqual(self.states(supervisor), {"b": "waiting"})
        self.successResultOf(supervisor.remove("b"))
        self.clock.advance(10)
        self.assertEqual(self.states(supervisor), {})

    def test_end_with_changes_under_way(self) -> None:
        supervisor = self.started(self.spec("a"))
        waiting: Deferred[None] = Deferred()
        self.part("a").stopping = waiting
        removed = supervisor.remove("a")
        self.next["b"] = {"starting": Deferred()}
        added = supervisor.add(self.spec("b"))
        stopped = supervisor.stopService()
        waiting.callback(None)
        self.successResultOf(stopped)
        self.successResultOf(removed)
        self.failureResultOf(added, RuntimeError)

    def test_restart(self) -> None:
        supervisor = self.started(self.spec("a"), intensity=0)
        supervisor.restart("a")
        self.assertEqual(self.journal, ["stop a", "start a"])
        self.assertRaises(KeyError, supervisor.restart, "b")
