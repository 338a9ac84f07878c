"""The order of the gates, gates that take their time, and coroutines that do or do not wait."""

import gc
import types
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import Outcome, Peer, Pending, Request
from erlmcp.protocol import McpError
from erlmcp.server import Gates, Pipeline
from erlmcp.server._drive import Drive, begin
from tests.scripted import text

ORDER = [
    "limits",
    "authenticate",
    "authorize",
    "rate",
    "validate",
    "admit",
    "intent",
    "dispatch",
    "answer",
    "outcome",
]


class Step:
    """Every gate in one: notes that it was asked, then does as the test says."""

    everything = True

    def __init__(self, case: "Case", name: str) -> None:
        self.case, self.name = case, name

    def check(self, request: Request) -> Any:
        return self.case.step(self.name)

    def release(self, request: Request) -> None:
        self.case.released += 1

    def intent(self, request: Request) -> Any:
        return self.case.step("intent")

    def outcome(self, request: Request, outcome: Any, error: Any) -> Any:
        self.case.recorded.append(error or outcome)
        return self.case.step("outcome")

    def shows(self, *_: Any) -> bool:
        return True


class Counts:
    def __init__(self) -> None:
        self.words: list[str] = []

    def request(self, request: Request, word: str, seconds: float) -> None:
        self.words.append(word)

    def error(self, method: str, code: int) -> None:
        raise AssertionError("the pipeline answers nothing")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.steps: list[str] = []
        self.act: dict[str, Callable[[], Any]] = {}
        self.recorded: list[Any] = []
        self.released = 0
        self.answer: Pending[Any] | None = None
        self.counts = Counts()
        names = ("limits", "authenticate", "authorize", "rate", "validate", "admit")
        gates: Any = {name: Step(self, name) for name in names}
        self.pipeline = Pipeline(
            Gates(**gates, record=Step(self, "record"), check_answer=lambda *_: self.step("answer")),
            self.dispatch,
            self.counts,  # type: ignore[arg-type]
            lambda: 0.0,
        )
        self.request = Request(id=1, method="tools/call", peer=Peer(transport="test"))

    def step(self, name: str) -> Any:
        self.steps.append(name)
        return self.act[name]() if name in self.act else None

    def dispatch(self, request: Request) -> Any:
        waiting = self.step("dispatch")
        if waiting is not None:
            return begin(awaited(waiting))
        return text("done") if self.answer is None else self.answer

    def run_it(self) -> Outcome | Pending[Outcome]:
        return self.pipeline.run(self.request)


async def awaited(waiting: Deferred[Any]) -> Any:
    return await waiting


def refuse() -> None:
    raise McpError(1, "no")


class Order(Case):
    def test_all(self) -> None:
        """The gates are asked in the order that the design fixes, without a wait."""
        self.assertEqual(self.run_it(), text("done"))
        self.assertEqual(self.steps, ORDER)
        self.assertEqual((self.released, self.counts.words), (1, ["complete"]))

    def test_refused_at_each(self) -> None:
        """A refusal ends the way there, is recorded, and releases what was admitted and nothing else."""
        for place, name in enumerate(ORDER[:-1]):
            self.setUp()
            self.act[name] = refuse
            with self.assertRaises(McpError):
                self.run_it()
            self.assertEqual(self.steps, [*ORDER[: place + 1], "outcome"], name)
            self.assertEqual(self.released, 1 if place > ORDER.index("admit") else 0, name)
            self.assertIsInstance(self.recorded[0], McpError)
            expected = "error" if place >= ORDER.index("dispatch") else "refused"
            self.assertEqual(self.counts.words, [expected], name)

    def test_waiting_at_each(self) -> None:
        """Any gate may take its time; the rest waits for it, and it may refuse then."""
        for place, name in enumerate(ORDER):
            if name == "answer":
                continue
            self.setUp()
            wait: Deferred[Any] = Deferred()
            self.act[name] = lambda wait=wait: wait  # type: ignore[misc]
            running = self.run_it()
            assert isinstance(running, Pending)
            ended = end_of(running)
            self.assertEqual(self.steps, ORDER[: place + 1])
            wait.callback(text("done") if name == "dispatch" else None)
            self.assertEqual(self.successResultOf(ended), text("done"))
            self.assertEqual(self.steps, ORDER)

    def test_waiting_refusal(self) -> None:
        wait: Deferred[None] = Deferred()
        self.act["authenticate"] = lambda: wait
        running = self.run_it()
        assert isinstance(running, Pending)
        ended = end_of(running)
        outcome: Deferred[None] = Deferred()
        self.act["outcome"] = lambda: outcome
        wait.errback(McpError(1, "no"))
        self.assertNoResult(ended)
        outcome.callback(None)
        self.failureResultOf(ended, McpError)
        self.assertEqual(self.steps, ["limits", "authenticate", "outcome"])


def end_of(running: Pending[Any]) -> Deferred[Any]:
    """What fires at its end."""
    ended: Deferred[Any] = Deferred()
    running.then(ended.callback, ended.errback)
    return ended


class Driving(SynchronousTestCase):
    def test_at_once(self) -> None:
        async def work() -> int:
            return 3

        self.assertEqual(begin(work()), 3)

    def test_raises_at_once(self) -> None:
        async def work() -> int:
            raise ValueError("no")

        with self.assertRaises(ValueError):
            begin(work())

    def test_waits(self) -> None:
        """Each wait gets what it waited for: a value, or a failure that the coroutine may handle."""
        waits: list[Deferred[int]] = [Deferred(), Deferred(), Deferred()]

        async def work() -> list[Any]:
            got: list[Any] = []
            for wait in waits:
                try:
                    got.append(await wait)
                except ValueError as error:
                    got.append(str(error))
            return got

        running = begin(work())
        assert isinstance(running, Drive)
        ended = end_of(running)
        waits[0].callback(1)
        waits[1].errback(ValueError("two"))
        self.assertNoResult(ended)
        waits[2].callback(3)
        self.assertEqual(self.successResultOf(ended), [1, "two", 3])

    def test_failure_ends_it(self) -> None:
        wait: Deferred[int] = Deferred()

        async def work() -> int:
            return await wait

        running = begin(work())
        assert isinstance(running, Drive)
        ended = end_of(running)
        wait.errback(ValueError("no"))
        self.failureResultOf(ended, ValueError)

    def test_failure_is_its_result(self) -> None:
        wait: Deferred[int] = Deferred()

        async def work() -> int:
            try:
                return await wait
            except ValueError:
                return 7

        running = begin(work())
        assert isinstance(running, Drive)
        ended = end_of(running)
        wait.errback(ValueError("no"))
        self.assertEqual(self.successResultOf(ended), 7)

    def test_cancel(self) -> None:
        """Cancelling reaches what is waited for, and the coroutine's own cleaning up is done."""
        cancelled: list[str] = []
        wait: Deferred[int] = Deferred(lambda _: cancelled.append("wait"))

        async def work() -> int:
            try:
                return await wait
            finally:
                cancelled.append("work")

        running = begin(work())
        assert isinstance(running, Drive)
        ended = end_of(running)
        running.cancel()
        self.failureResultOf(ended)
        self.assertEqual(cancelled, ["wait", "work"])

    def test_cancelled_after_its_end(self) -> None:
        wait: Deferred[int] = Deferred()

        async def work() -> int:
            return await wait

        running = begin(work())
        assert isinstance(running, Drive)
        wait.callback(3)
        running.cancel()
        self.assertEqual(self.successResultOf(end_of(running)), 3)

    def test_what_has_come_already(self) -> None:
        """A generator may yield what has fired: that is no wait, however often, and no recursion either."""

        @types.coroutine
        def early(number: int) -> Generator[Deferred[int], int, int]:
            return (yield succeed(number))

        async def work() -> int:
            return sum([await early(number) for number in range(10_000)])

        running = begin(work())
        assert isinstance(running, Drive)
        self.assertEqual(self.successResultOf(end_of(running)), sum(range(10_000)))

    def test_what_cannot_be_awaited(self) -> None:
        """It is told what is wrong, and what would be right, at the place where it awaits."""

        @types.coroutine
        def stranger() -> Generator[object, None, None]:
            yield object()

        async def work() -> str:
            try:
                await stranger()
            except TypeError as error:
                return str(error)
            return "not told"

        running = begin(work())
        assert isinstance(running, Drive)
        self.assertIn("is no Deferred; of an asyncio.Future", self.successResultOf(end_of(running)))

    def test_context_variables(self) -> None:
        """They are its own from its first wait on: neither lost nor seen by others."""
        seen: ContextVar[str] = ContextVar("seen", default="nobody's")
        wait: Deferred[None] = Deferred()

        async def work() -> str:
            await wait
            seen.set("mine")
            await later
            return seen.get()

        later: Deferred[None] = Deferred()
        running = begin(work())
        assert isinstance(running, Drive)
        wait.callback(None)
        self.assertEqual(seen.get(), "nobody's")
        later.callback(None)
        self.assertEqual(self.successResultOf(end_of(running)), "mine")

    def test_a_listener_that_fails(self) -> None:
        wait: Deferred[int] = Deferred()

        async def work() -> int:
            return await wait

        running = begin(work())
        assert isinstance(running, Drive)
        running.then(lambda _: 1 // 0, self.fail)
        wait.callback(3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancelled_within_a_step(self) -> None:
        """What it does next that would wait is cancelled."""
        first: Deferred[None] = Deferred()
        second: Deferred[None] = Deferred()

        async def work() -> None:
            await first
            running.cancel()
            await second

        running = begin(work())
        assert isinstance(running, Drive)
        ended = end_of(running)
        first.callback(None)
        self.failureResultOf(ended, CancelledError)
        self.assertTrue(second.called)


class GarbageTests(Case):
    """What fails is let go of at once: an error must not hold the frames that hold it."""

    def test_a_failed_call(self) -> None:
        self.answer = pending = Pending()
        heard: list[type] = []
        gc.collect()
        gc.disable()
        try:
            self.run_it().then(self.fail, lambda error: heard.append(type(error)))  # type: ignore[union-attr]
            pending.fail(KeyError("x"))
            self.recorded.clear()
            self.assertEqual(heard, [KeyError])
            self.assertEqual(gc.collect(), 0)
        finally:
            gc.enable()
