"""A parent and its workers in one process: ready one after the other, replaced, hung, killed, counted."""

import os
import signal
import socket
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.engine import EmbeddedEngine
from erlmcp.telemetry import Counters, Sums, snapshot
from erlmcp.workers import (
    Crew,
    Duties,
    Kit,
    Line,
    Place,
    Plan,
    Pulse,
    Refused,
    State,
    Worker,
    WorkerDied,
    Workers,
)
from erlmcp.workers import _duties as duties_module
from erlmcp.workers._words import encode
from tests.lines import World

DRAIN = 5.0


class Work:
    """What a worker does here: nothing, and it keeps what it is told."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.told: list[Any] = []
        self.counts = Counters()
        self.counts.gauge("erlmcp_connections_active", ("mcp", "http"), lambda: 3.0)
        self.counts.gauge("erlmcp_connections_refused_total", ("mcp", "all"), lambda: 2.0)
        self.counts.error("tools/call", -32602)
        self.ended: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        self.told.append("start")
        return succeed(None)

    def end(self, seconds: float, *, gently: bool) -> Deferred[None]:
        self.told.append(("end", seconds, gently))
        return self.ended

    def pulse(self) -> Pulse:
        return Pulse(3, 1)

    def counters(self) -> bytes:
        return snapshot(self.counts)


class Process:
    """One worker process, in this one."""

    def __init__(self, world: "Shop", protocol: Any, arguments: list[str], env: Any) -> None:
        self.world, self.protocol, self.arguments, self.env = world, protocol, arguments, env
        self.pid = 1000 + len(world.processes)
        self.work: Any = None
        self.over = False
        self.stopped = False
        self.duties = Duties(world, self.build, self.leave)
        self.duties.line.lost = lambda: None

    def build(self, kit: Kit) -> Any:
        if self.world.wrong:
            raise ValueError(self.world.wrong)
        self.work = Work(kit)
        return self.work

    def leave(self) -> None:
        self.finish(ProcessDone(0))

    def signalProcess(self, number: int) -> None:  # noqa: N802
        if self.over:
            raise ProcessExitedAlready
        self.finish(ProcessTerminated(signal=number))

    def loseConnection(self) -> None:
        """Its output is read no more."""
        self.finish(ProcessTerminated(signal=9))

    def finish(self, reason: Exception) -> None:
        if not self.over:
            self.over = True
            self.duties.line.cut()
            self.world.post.pump()
            self.protocol.childDataReceived(2, b"last words")
            self.protocol.processEnded(Failure(reason))


class Shop(World):
    """A reactor whose processes are here."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.wrong = ""
        self.lines: list[Line] = []

    def spawnProcess(  # noqa: N802
        self,
        protocol: Any,
        path: str,
        arguments: list[str],
        env: Any,
        childFDs: Any,  # noqa: N803  # noqa: N803
    ) -> Process:
        assert set(childFDs) == {0, 1, 2, 3}
        process = Process(self, protocol, arguments, env)
        self.processes.append(process)
        return process

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:  # noqa: N802
        line = factory.buildProtocol(None)
        if len(self.lines) < len(self.processes):
            self.lines.append(line)
            self.post.join(line, self.processes[-1].duties.line)


class CrewTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.shop = Shop()
        self.made: list[Worker] = []
        self.patch(duties_module, "adopt", lambda _reactor, descriptor, line: os.close(descriptor))
        self.engine = EmbeddedEngine(self.shop, steady=self.shop.seconds)
        self.place = Place("mcp", "tcp:0:interface=127.0.0.1")
        self.successResultOf(self.place.bind(self.shop, 2, lambda *_: None))
        self.addCleanup(self.place.shut)
        self.crew = Crew(self.shop, self.engine, ["python"], self.plan())
        self.addCleanup(self.sweep)

    def plan(self, **places: Place) -> Plan:
        return Plan(settings=b"s", keys=[b"k"], places={"mcp": self.place, **places}, drain=DRAIN)

    def sweep(self) -> None:
        for process in self.shop.processes:
            if process.work is not None:
                for one in process.work.kit.reactors.values():
                    one.release()
            process.finish(ProcessTerminated(signal=9))
        for worker in self.made:
            # How it ends here concerns nobody; unread, it would be logged when it is collected, in some later test.
            worker.ended.addErrback(lambda _: None)
        self.flushLoggedErrors()

    def run_for(self, seconds: float = 0.0) -> None:
        self.shop.turn(seconds)
        for _ in range(12):
            self.shop.turn()

    def replaced(self, worker: Worker) -> Deferred[None]:
        """Have it replaced by another plan."""
        self.crew.plan = self.plan()
        return worker.replace()

    def new(self, slot: int = 1) -> Worker:
        """A worker that is not started yet."""
        worker = Worker(self.crew, slot)
        self.made.append(worker)
        return worker

    def worker(self, slot: int = 1) -> Worker:
        """A worker that serves."""
        worker = self.new(slot)
        started = worker.startService()
        self.run_for()
        self.successResultOf(started)
        return worker


class WorkerTests(CrewTestCase):
    """One of them."""

    def test_ready(self) -> None:
        worker = self.worker()
        (process,) = self.shop.processes
        kit = process.work.kit
        self.assertEqual(process.work.told, ["start"])
        self.assertEqual((kit.begin.slot, kit.begin.settings, kit.begin.keys), (1, b"s", [b"k"]))
        self.assertEqual(process.arguments, ["python", str(os.getpid())])
        self.assertNotIn("NOTIFY_SOCKET", process.env)
        (descriptor,) = kit.reactors["mcp"]._sockets
        with socket.socket(fileno=os.dup(descriptor)) as one:
            self.assertEqual(one.getsockname(), self.place.sockets[0][0].getsockname())
        self.run_for(1.0)
        self.assertEqual(worker.detail(), {"pid": 1000, "connections": 3, "in_flight": 1, "parked": 0})
        self.assertEqual((self.crew.ready, self.crew.ending), (1, 0))

    def test_the_engine_is_shared(self) -> None:
        self.worker()
        engine = self.shop.processes[0].work.kit.engine
        done = engine.put("session/x", b"1")
        self.run_for()
        self.successResultOf(done)
        self.assertEqual(engine.peek("session/x").value, b"1")
        self.assertEqual(self.engine.peek("session/x").value, b"1")  # type: ignore[union-attr]

    def test_one_that_cannot(self) -> None:
        self.shop.wrong = "no such provider"
        worker = self.new()
        started = worker.startService()
        self.run_for()
        self.assertEqual(str(self.failureResultOf(started, Refused).value), "no such provider")
        self.assertEqual(self.crew.processes, [])
        self.flushLoggedErrors()

    def test_one_that_dies(self) -> None:
        worker = self.worker()
        self.shop.processes[0].finish(ProcessTerminated(exitCode=3))
        self.assertIn("exit code 3", str(self.failureResultOf(worker.ended).value))
        self.assertEqual((self.crew.processes, worker.detail()), ([], {}))
        self.successResultOf(worker.end())
        worker.kill()

    def test_one_that_dies_before_it_is_ready(self) -> None:
        worker = self.new()
        started = worker.startService()
        self.shop.processes[0].finish(ProcessTerminated(signal=signal.SIGSEGV))
        self.run_for()
        self.failureResultOf(started)
        self.assertNoResult(worker.ended)

    def test_one_that_hangs_is_killed(self) -> None:
        worker = self.worker()
        self.shop.processes[0].duties.line.asked = lambda what, body: Deferred()
        for _ in range(11):
            self.run_for(1.0)
        self.assertIn("SIGKILL", str(self.failureResultOf(worker.ended).value))

    def test_a_parent_that_hung_kills_nobody(self) -> None:
        worker = self.worker()
        self.run_for(60.0)
        self.assertNoResult(worker.ended)
        self.run_for(1.0)
        self.assertEqual(self.crew.ready, 1)

    def test_a_parent_that_hung_for_a_moment_kills_nobody(self) -> None:
        worker = self.worker()
        self.run_for(1.0)
        self.run_for(2.5)
        for _ in range(15):
            self.run_for(1.0)
        self.assertNoResult(worker.ended)
        self.assertEqual(self.crew.ready, 1)

    def test_one_that_hangs_is_asked_once(self) -> None:
        self.worker()
        asked: list[str] = []

        def never(what: str, _body: bytes) -> Deferred[bytes]:
            asked.append(what)
            return Deferred()

        self.shop.processes[0].duties.line.asked = never
        for _ in range(9):
            self.run_for(1.0)
        self.assertEqual(asked.count("pulse"), 1)

    def test_what_it_was_handed_after_it_was_asked_counts(self) -> None:
        """What it says of its connections is of before: one that is on its way to it is not forgotten."""
        self.worker()
        (process,) = self.crew.processes
        answers: list[Deferred[bytes]] = []

        def late(_what: str, _body: bytes) -> Deferred[bytes]:
            answers.append(Deferred())
            return answers[-1]

        self.shop.processes[0].duties.line.asked = late
        self.shop.processes[0].work.kit.reactors["mcp"].take = os.close
        self.run_for(1.0)
        before = process.load
        one, other = socket.socketpair()
        with one, other:
            process.connect("mcp", one.fileno())
            self.assertEqual(process.load, before + 1)
            answers[0].callback(encode(Pulse(3, 1)))
            self.run_for()
            self.assertEqual(process.load, 4, "three that it told of, and the one on its way")
            self.run_for(1.0)
            answers[-1].callback(encode(Pulse(4, 1)))
            self.run_for()
            self.assertEqual(process.load, 4)

    def test_a_line_that_is_lost(self) -> None:
        worker = self.worker()
        self.shop.lines[0].cut()
        self.run_for()
        self.failureResultOf(worker.ended)

    def test_the_end(self) -> None:
        worker = self.worker()
        stopped = worker.stopService()
        self.run_for()
        work = self.shop.processes[0].work
        self.assertEqual(work.told[-1], ("end", DRAIN, False))
        self.assertNoResult(stopped)
        self.assertEqual(self.crew.ending, 1)
        again = worker.end()
        work.ended.callback(None)
        self.run_for()
        self.run_for(0.2)
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertNoResult(worker.ended)
        self.assertEqual([call for call in self.shop.getDelayedCalls() if call.active()], [])

    def test_one_that_does_not_end_is_killed(self) -> None:
        worker = self.worker()
        stopped = worker.stopService()
        self.run_for(DRAIN + 10)
        self.successResultOf(stopped)
        self.assertTrue(self.shop.processes[0].over)

    def test_stopped_before_it_is_ready(self) -> None:
        worker = self.new()
        started = worker.startService()
        self.successResultOf(worker.stopService())
        self.run_for()
        self.failureResultOf(started)
        self.assertEqual(self.crew.processes, [])

    def test_a_successor(self) -> None:
        worker = self.worker()
        replaced = self.replaced(worker)
        self.run_for()
        self.successResultOf(replaced)
        former, new = self.shop.processes
        self.assertEqual((former.work.told[-1], new.work.told), (("end", DRAIN, True), ["start"]))
        self.assertEqual((self.crew.ready, self.crew.ending), (1, 1))
        former.work.ended.callback(None)
        self.run_for(0.2)
        self.assertEqual(worker.detail()["pid"], 1001)
        self.assertNoResult(worker.ended)

    def test_a_successor_that_cannot(self) -> None:
        worker = self.worker()
        self.shop.wrong = "no"
        replaced = self.replaced(worker)
        self.run_for()
        self.failureResultOf(replaced, Refused)
        self.assertEqual(worker.detail()["pid"], 1000)
        self.assertEqual(self.crew.ready, 1)
        self.flushLoggedErrors()

    def test_nobody_to_replace(self) -> None:
        self.successResultOf(self.replaced(Worker(self.crew, 1)))

    def test_it_is_by_the_plan_of_now_already(self) -> None:
        worker = self.worker()
        self.successResultOf(worker.replace())
        self.assertEqual(len(self.shop.processes), 1)

    def test_one_that_was_begun_before_the_plan_changed(self) -> None:
        worker = self.new()
        started = worker.startService()
        replaced = self.replaced(worker)
        self.run_for()
        self.run_for()
        self.successResultOf(started)
        self.successResultOf(replaced)
        former, new = self.shop.processes
        self.assertEqual((former.work.told[-1], new.work.told), (("end", DRAIN, True), ["start"]))

    def test_a_successor_that_dies_says_how(self) -> None:
        worker = self.worker()
        replaced = self.replaced(worker)
        self.shop.processes[1].finish(ProcessTerminated(signal=signal.SIGSEGV))
        self.run_for()
        error = self.failureResultOf(replaced, WorkerDied).value
        self.assertEqual(str(error), "worker 1 has ended before it was ready: signal SIGSEGV")
        self.assertEqual(worker.detail()["pid"], 1000)

    def test_a_successor_that_is_never_ready(self) -> None:
        worker = self.worker()
        replaced = self.replaced(worker)
        self.shop.processes[1].duties.line.asked = lambda what, body: Deferred()
        for _ in range(61):
            self.run_for(1.0)
        error = self.failureResultOf(replaced, WorkerDied).value
        self.assertIn("it was not ready within 60 s", str(error))
        self.assertEqual((worker.detail()["pid"], self.crew.ready), (1000, 1))

    def test_output_that_a_child_of_it_keeps_open(self) -> None:
        worker = self.worker()
        (process,) = self.shop.processes
        process.protocol.processExited(Failure(ProcessTerminated(signal=9)))
        self.run_for(0.1)
        self.assertNoResult(worker.ended)
        self.run_for(0.2)
        self.failureResultOf(worker.ended)


class CrewTests(CrewTestCase):
    """All of them."""

    def test_they_meet(self) -> None:
        self.worker(1)
        self.worker(2)
        relays = [process.work.kit.relay for process in self.shop.processes]
        self.assertIn(relays[1].owner, relays[0]._lines)
        self.assertIn(relays[0].owner, relays[1]._lines)

    def test_what_they_have_counted(self) -> None:
        first, _ = self.worker(1), self.worker(2)
        sums = self.crew.sums()
        self.run_for()
        found: Sums = self.successResultOf(sums)
        self.assertEqual(found.errors["tools/call", -32602], 2)
        self.assertEqual(found.gauges["erlmcp_connections_active"]["mcp", "http"](), 6.0)
        self.assertEqual(found.gauges["erlmcp_workers"]["ready",](), 2.0)
        first.kill()
        self.failureResultOf(first.ended)
        self.shop.processes[1].duties.line.asked = lambda what, body: Deferred()
        sums = self.crew.sums()
        self.run_for(2.0)
        found = self.successResultOf(sums)
        self.assertEqual(found.errors["tools/call", -32602], 2, "a total never falls")
        self.assertEqual(found.gauges["erlmcp_connections_refused_total"]["mcp", "all"](), 4.0)
        self.assertEqual(found.gauges["erlmcp_connections_active"]["mcp", "http"](), 3.0)

    def connection(self) -> socket.socket:
        one, other = socket.socketpair()
        self.addCleanup(other.close)
        return one

    def test_connections_go_to_the_one_with_the_fewest(self) -> None:
        self.worker(1)
        self.worker(2)
        self.run_for(1.0)
        got: list[int] = []
        for number, process in enumerate(self.shop.processes):
            process.work.kit.reactors["mcp"].take = lambda descriptor, number=number: (
                got.append(number),
                os.close(descriptor),
            )
        for _ in range(4):
            self.crew.accepted("mcp", self.connection())
        self.run_for()
        self.assertEqual(sorted(got), [0, 0, 1, 1])
        gone = self.connection()
        self.shop.lines[0].hand = lambda *_: fail(Refused("no"))  # type: ignore[method-assign]
        self.shop.lines[1].hand = self.shop.lines[0].hand  # type: ignore[method-assign]
        self.crew.accepted("mcp", gone)
        self.run_for()
        self.assertEqual(gone.fileno(), -1)

    def test_connections_wait_for_a_worker(self) -> None:
        got: list[int] = []
        one = self.connection()
        self.crew.accepted("mcp", one)
        self.assertNotEqual(one.fileno(), -1)
        worker = self.new()
        started = worker.startService()
        self.shop.turn()
        self.run_for()
        self.successResultOf(started)
        self.run_for()
        self.assertEqual(one.fileno(), -1)
        del got
        late = self.connection()
        self.crew.accepted("other", late)
        again = self.worker(2)  # who has no use for it: it goes on waiting
        self.assertNotEqual(late.fileno(), -1)
        self.crew.drop("other")
        self.assertEqual(late.fileno(), -1)
        late = self.connection()
        self.crew.accepted("other", late)
        self.crew.close()
        self.assertEqual(late.fileno(), -1)
        self.successResultOf(again.replace())
        self.failureResultOf(Worker(self.crew, 2).startService(), Refused)

    def test_too_many_wait(self) -> None:
        from erlmcp.workers import _crew

        self.patch(_crew, "_WAITING", 1)
        first, second = self.connection(), self.connection()
        self.crew.accepted("mcp", first)
        self.crew.accepted("mcp", second)
        self.assertEqual((first.fileno() == -1, second.fileno() == -1), (False, True))
        self.crew.close()

    def test_what_a_worker_asks_and_tells_of_else(self) -> None:
        self.worker()
        line = self.shop.processes[0].duties.line
        asked = line.ask("what")
        line.tell("what")
        self.run_for()
        self.failureResultOf(asked, Refused)
        self.flushLoggedErrors(Refused)


class DutiesTests(CrewTestCase):
    """What a worker does for its parent, and what not."""

    def test_out_of_order(self) -> None:
        duties = Duties(self.shop, lambda kit: Work(kit), lambda: None)
        duties.line.lost = lambda: None
        line = Line()
        self.shop.post.join(line, duties.line)
        asked = [line.ask(what) for what in ("pulse", "serve", "end", "what", "news")]
        handed = [line.hand(what, b"mcp", 0) for what in ("peer", "connection", "what")]
        self.run_for()
        for one in (*asked, *handed):
            self.failureResultOf(one, Refused)

    def test_a_parent_that_has_gone(self) -> None:
        left: list[int] = []
        self.patch(os, "_exit", left.append)
        duties_module.die_with_parent(os.getppid())
        self.assertEqual(left, [])
        duties_module.die_with_parent(-1)
        self.assertEqual(left, [70])
        # This process must not have it: it is the tests' own.
        import ctypes

        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)


class WorkersTests(CrewTestCase):
    """The supervisor."""

    def setUp(self) -> None:
        super().setUp()
        self.steps: list[str] = []
        self.binding: Deferred[None] = succeed(None)
        self.workers = Workers(self.crew, 2, self.shop, bind=self.bind, unbind=self.unbind)

    def bind(self) -> Deferred[None]:
        self.steps.append("bind")
        return self.binding

    def unbind(self) -> Deferred[None]:
        self.steps.append("unbind")
        return succeed(None)

    def test_life(self) -> None:
        self.workers.privilegedStartService()
        started = self.workers.startService()
        self.assertEqual(len(self.shop.processes), 2, "their interpreters start at the same time")
        self.run_for()
        self.run_for()
        self.successResultOf(started)
        self.assertEqual((self.steps, self.crew.ready), (["bind"], 2))
        self.crew.plan = self.plan()
        replaced = Deferred.fromCoroutine(self.workers.replace())
        self.run_for()
        self.run_for()
        self.successResultOf(replaced)
        self.assertEqual((self.crew.ready, self.crew.ending), (2, 2))
        drained = self.workers.drain()
        self.run_for()
        for process in self.shop.processes:
            if not process.work.ended.called:
                process.work.ended.callback(None)
        self.run_for()
        self.run_for(0.2)
        self.successResultOf(drained)
        stopped = self.workers.stopService()
        self.run_for(1)
        self.successResultOf(stopped)
        self.assertEqual(self.steps, ["bind", "unbind"])

    def test_one_that_dies_is_restarted(self) -> None:
        self.workers.startService()
        self.run_for()
        self.run_for()
        self.shop.processes[0].finish(ProcessTerminated(signal=signal.SIGKILL))
        self.run_for(0.1)
        self.run_for()
        self.assertEqual((len(self.shop.processes), self.crew.ready), (3, 2))
        self.flushLoggedErrors()

    def test_one_that_dies_while_it_is_replaced(self) -> None:
        self.workers.startService()
        self.run_for()
        self.run_for()
        self.crew.plan = self.plan()
        replaced = Deferred.fromCoroutine(self.workers.replace())
        self.shop.processes[0].finish(ProcessTerminated(signal=signal.SIGKILL))
        for _ in range(4):
            self.run_for(0.1)
        self.successResultOf(replaced)
        self.assertEqual(self.crew.ready, 2)
        serving = [one for one in self.crew.processes if one.state is State.READY]
        self.assertTrue(all(one.plan is self.crew.plan for one in serving))
        self.flushLoggedErrors()

    def test_the_second_successor_cannot(self) -> None:
        self.workers.startService()
        self.run_for()
        self.run_for()
        former, self.crew.plan = self.crew.plan, self.plan()
        build = Process.build

        def second_wrong(process: Process, kit: Kit) -> Any:
            if kit.begin.slot == 2:
                raise ValueError("not this one")
            return build(process, kit)

        self.patch(Process, "build", second_wrong)
        replaced = Deferred.fromCoroutine(self.workers.replace())
        self.run_for()
        self.run_for()
        self.failureResultOf(replaced, Refused)
        self.patch(Process, "build", build)
        self.crew.plan = former
        put_back = Deferred.fromCoroutine(self.workers.put_back())
        self.run_for()
        self.run_for()
        self.successResultOf(put_back)
        serving = [one for one in self.crew.processes if one.state is State.READY]
        self.assertEqual([one.plan is former for one in serving], [True, True])
        self.crew.plan = self.plan()
        self.shop.wrong = "not this one either"
        put_back = Deferred.fromCoroutine(self.workers.put_back())
        self.run_for()
        self.successResultOf(put_back)
        self.assertEqual(self.crew.ready, 2)
        self.flushLoggedErrors()

    def test_a_port_that_is_taken(self) -> None:
        self.binding = fail(OSError("taken"))
        self.failureResultOf(self.workers.privilegedStartService(), OSError)
        self.failureResultOf(self.workers.startService(), OSError)
        self.assertEqual(self.shop.processes, [])

    def test_one_that_dies_before_its_turn(self) -> None:
        self.crew.warm(2)
        self.shop.processes[1].finish(ProcessTerminated(signal=9))
        self.assertEqual(len(self.crew.processes), 1)
        self.crew.close()
        self.assertEqual(self.crew.processes, [])


class StateTests(SynchronousTestCase):
    """What is said of them."""

    def test_words(self) -> None:
        self.assertEqual([one.value for one in State], ["starting", "ready", "ending", "gone"])
