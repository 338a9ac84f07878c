"""The pool of threads: order, bounds, failures, its end."""

import threading
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from erlmcp.pool import QueueFull, ThreadPool

WAIT = 30.0


@implementer(IReactorFromThreads)
class Inbox:
    """A reactor of one queue, emptied by hand."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.calls: list[Any] = []

    def callFromThread(self, act: Any, *rest: Any) -> None:  # noqa: N802 - Twisted's name
        self.calls.append((act, rest))
        self.came.release()

    def deliver(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.came.acquire(timeout=WAIT), "no thread came back"
            act, rest = self.calls.pop(0)
            act(*rest)


class Held:
    """A function that runs until it is let go."""

    def __init__(self, result: Any = None) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.result = result

    def __call__(self) -> Any:
        self.began.set()
        assert self.go.wait(WAIT)
        return self.result


class ThreadPoolTests(SynchronousTestCase):
    """One after the other, no more than there is room for."""

    def pool(self, size: int = 1, queue: int = 2) -> ThreadPool:
        self.inbox = Inbox()
        pool = ThreadPool(self.inbox, size, queue)
        self.addCleanup(pool.stop)
        return pool

    def held(self, pool: ThreadPool, result: Any = None) -> tuple[Held, Deferred[Any]]:
        held = Held(result)
        self.addCleanup(held.go.set)
        deferred = pool.run(held)
        self.assertTrue(held.began.wait(WAIT))
        return held, deferred

    def test_result_and_arguments(self) -> None:
        pool = self.pool()
        self.assertEqual(pool.threads, 0, "threads are made when they are needed")
        deferred = pool.run(divmod, 7, 3)
        self.inbox.deliver()
        self.assertEqual(self.successResultOf(deferred), (2, 1))
        deferred = pool.run(dict, a=1)
        self.inbox.deliver()
        self.assertEqual(self.successResultOf(deferred), {"a": 1})
        self.assertEqual(pool.threads, 1, "and used again")

    def test_failure(self) -> None:
        pool = self.pool()
        for error in (ValueError("x"), SystemExit(3)):

            def fail(found: BaseException = error) -> None:
                raise found

            deferred = pool.run(fail)
            self.inbox.deliver()
            self.assertIs(self.failureResultOf(deferred).value, error)

    def test_order(self) -> None:
        pool = self.pool(queue=5)
        held, first = self.held(pool)
        ran: list[int] = []
        rest = [pool.run(ran.append, number) for number in range(5)]
        self.assertEqual(pool.waiting, 5)
        held.go.set()
        self.inbox.deliver(6)
        self.assertEqual(ran, [0, 1, 2, 3, 4])
        for deferred in (first, *rest):
            self.successResultOf(deferred)
        self.assertEqual(pool.waiting, 0)

    def test_full(self) -> None:
        pool = self.pool(size=2, queue=1)
        self.held(pool)
        self.held(pool)
        pool.run(int).addErrback(
            lambda failure: failure.trap(CancelledError) and None
        )  # when the pool is stopped
        error = self.assertRaises(QueueFull, pool.run, int)
        self.assertIn("2 threads are busy and 1 functions wait", str(error))
        self.assertEqual(pool.threads, 2)

    def test_no_queue(self) -> None:
        """A pool without a queue runs as many as it has threads."""
        pool = self.pool(size=1, queue=0)
        held, first = self.held(pool, "x")
        self.assertRaises(QueueFull, pool.run, int)
        held.go.set()
        self.inbox.deliver()
        self.assertEqual(self.successResultOf(first), "x")
        again = pool.run(int)
        self.inbox.deliver()
        self.assertEqual(self.successResultOf(again), 0)

    def test_cancel_waiting(self) -> None:
        """It leaves the queue and makes room."""
        pool = self.pool(queue=1)
        held, _ = self.held(pool)
        ran: list[int] = []
        waiting = pool.run(ran.append, 1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        again = pool.run(ran.append, 2)
        held.go.set()
        self.inbox.deliver(2)
        self.successResultOf(again)
        self.assertEqual(ran, [2])

    def test_cancel_running(self) -> None:
        """It goes on, and its result is dropped."""
        pool = self.pool()
        held, deferred = self.held(pool, "late")
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        held.go.set()
        self.inbox.deliver()

    def test_stop(self) -> None:
        pool = self.pool()
        held, running = self.held(pool)
        waiting, forgotten = pool.run(int), pool.run(int)
        forgotten.cancel()
        self.failureResultOf(forgotten, CancelledError)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("erlmcp-")]
        pool.stop()
        self.failureResultOf(waiting, CancelledError)
        self.assertRaises(RuntimeError, pool.run, int)
        self.assertTrue(all(thread.daemon for thread in threads), "a hanging one must not keep the process")
        held.go.set()
        for thread in threads:
            thread.join(WAIT)
            self.assertFalse(thread.is_alive())
        self.assertNoResult(running)
        self.assertEqual((pool.threads, self.inbox.calls), (0, []))

    def test_stop_while_others_give_up(self) -> None:
        """What waits may be cancelled by what hears of the stop."""
        pool = self.pool()
        self.held(pool)
        first, second = pool.run(int), pool.run(int)
        first.addErrback(lambda _: second.cancel())
        pool.stop()
        self.failureResultOf(second, CancelledError)
        self.successResultOf(first)

    def test_inside(self) -> None:
        pool = self.pool()
        self.assertFalse(pool.inside)
        deferred = pool.run(lambda: pool.inside)
        self.inbox.deliver()
        self.assertIs(self.successResultOf(deferred), True)

    def test_idle_threads_end(self) -> None:
        pool = self.pool()
        pool.run(int)
        self.inbox.deliver()
        (thread,) = [one for one in threading.enumerate() if one.name == "erlmcp-1" and one.is_alive()][-1:]
        pool.stop()
        thread.join(WAIT)
        self.assertFalse(thread.is_alive())

    def test_refused_settings(self) -> None:
        for size, queue in ((0, 1), (1, -1)):
            self.assertRaises(ValueError, ThreadPool, Inbox(), size, queue)


class PoolMachine(RuleBasedStateMachine):
    """Any order of submitting, finishing and cancelling keeps the bounds and the order."""

    SIZE, QUEUE = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.inbox = Inbox()
        self.pool = ThreadPool(self.inbox, self.SIZE, self.QUEUE)
        self.running: list[tuple[Held, Deferred[Any]]] = []
        self.waiting: list[tuple[Held, Deferred[Any]]] = []

    @rule()
    def submit(self) -> None:
        held = Held()
        full = len(self.running) == self.SIZE and len(self.waiting) == self.QUEUE
        try:
            deferred = self.pool.run(held)
        except QueueFull:
            assert full
            return
        assert not full
        if len(self.running) < self.SIZE:
            assert held.began.wait(WAIT)
            self.running.append((held, deferred))
        else:
            self.waiting.append((held, deferred))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.running) - 1))
        held, deferred = self.running.pop(place)
        held.go.set()
        self.inbox.deliver()
        assert deferred.called
        if self.waiting:
            following = self.waiting.pop(0)
            assert following[0].began.wait(WAIT), "the one that waited longest is next"
            self.running.append(following)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.waiting) - 1))
        held, deferred = self.waiting.pop(place)
        deferred.addErrback(lambda failure: failure.trap(CancelledError) and None)
        deferred.cancel()
        assert not held.began.is_set()

    @invariant()
    def bounded(self) -> None:
        assert self.pool.threads <= self.SIZE
        assert self.pool.waiting == len(self.waiting)

    def teardown(self) -> None:
        for held, deferred in self.running + self.waiting:
            deferred.addErrback(lambda failure: None)
            held.go.set()
        self.pool.stop()


class PoolMachineTests(SynchronousTestCase):
    def test_any_order(self) -> None:
        """Whatever is run, ended and cancelled in whatever order, size and queue hold and nothing is lost."""
        run_state_machine_as_test(
            PoolMachine, settings=settings(deadline=None, max_examples=20, stateful_step_count=25)
        )
