"""The order of the gates, gates that take their time, and coroutines that do or do not wait."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import Outcome, Peer, Request
from erlmcp.protocol import McpError
from erlmcp.server import Gates, Pipeline
from erlmcp.server._drive import Finished, begin
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
        return self.step("dispatch") or text("done")

    def run_it(self) -> Finished | Deferred[Outcome]:
        return begin(self.pipeline.run(self.request))


def refuse() -> None:
    raise McpError(1, "no")


class Order(Case):
    def test_all(self) -> None:
        """The gates are asked in the order that the design fixes, without a wait."""
        self.assertEqual(self.run_it(), Finished(text("done")))
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
            assert isinstance(running, Deferred)
            self.assertEqual(self.steps, ORDER[: place + 1])
            wait.callback(text("done") if name == "dispatch" else None)
            self.assertEqual(self.successResultOf(running), text("done"))
            self.assertEqual(self.steps, ORDER)

    def test_waiting_refusal(self) -> None:
        wait: Deferred[None] = Deferred()
        self.act["authenticate"] = lambda: wait
        running = self.run_it()
        assert isinstance(running, Deferred)
        outcome: Deferred[None] = Deferred()
        self.act["outcome"] = lambda: outcome
        wait.errback(McpError(1, "no"))
        self.assertNoResult(running)
        outcome.callback(None)
        self.failureResultOf(running, McpError)
        self.assertEqual(self.steps, ["limits", "authenticate", "outcome"])


class Driving(SynchronousTestCase):
    def test_at_once(self) -> None:
        async def work() -> int:
            return 3

        self.assertEqual(begin(work()), Finished(3))

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
        assert isinstance(running, Deferred)
        waits[0].callback(1)
        waits[1].errback(ValueError("two"))
        self.assertNoResult(running)
        waits[2].callback(3)
        self.assertEqual(self.successResultOf(running), [1, "two", 3])

    def test_failure_ends_it(self) -> None:
        wait: Deferred[int] = Deferred()

        async def work() -> int:
            return await wait

        running = begin(work())
        assert isinstance(running, Deferred)
        wait.errback(ValueError("no"))
        self.failureResultOf(running, ValueError)

    def test_failure_is_its_result(self) -> None:
        wait: Deferred[int] = Deferred()

        async def work() -> int:
            try:
                return await wait
            except ValueError:
                return 7

        running = begin(work())
        assert isinstance(running, Deferred)
        wait.errback(ValueError("no"))
        self.assertEqual(self.successResultOf(running), 7)

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
        assert isinstance(running, Deferred)
        running.cancel()
        self.failureResultOf(running)
        self.assertEqual(cancelled, ["wait", "work"])
