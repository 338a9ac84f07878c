"""What comes later: told once, to one listener, however early or late it listens."""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import Pending


class Stopped(Pending[int]):
    """One that says something of its own when it is stopped."""

    def __init__(self, says: Any = None) -> None:
        super().__init__()
        self.says = says
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1
        if isinstance(self.says, Exception):
            self.fail(self.says)
        elif self.says is not None:
            self.succeed(self.says)


class PendingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard: list[Any] = []

    def listen(self, pending: Pending[int]) -> None:
        pending.then(
            lambda result, *rest: self.heard.append((result, *rest)),
            lambda error, *rest: self.heard.append((type(error), *rest)),
            "a",
            "b",
        )

    def test_a_listener_before_and_after(self) -> None:
        for early in (True, False):
            for say, expected in (
                (lambda one: one.succeed(3), 3),
                (lambda one: one.succeed(None), None),
                (lambda one: one.fail(KeyError("x")), KeyError),
                (lambda one: one.cancel(), CancelledError),
            ):
                self.heard.clear()
                pending: Pending[Any] = Pending()
                if early:
                    self.listen(pending)
                say(pending)
                self.assertTrue(pending.over)
                if not early:
                    self.listen(pending)
                self.assertEqual(self.heard, [(expected, "a", "b")])

    def test_once(self) -> None:
        """What is said later is not heard."""
        pending: Pending[int] = Pending()
        self.listen(pending)
        pending.succeed(1)
        pending.succeed(2)
        pending.fail(KeyError("x"))
        pending.cancel()
        self.assertEqual(self.heard, [(1, "a", "b")])

    def test_an_error_that_is_its_result(self) -> None:
        """A result may be an exception, and is none for that."""
        pending: Pending[Any] = Pending()
        error = KeyError("x")
        pending.succeed(error)
        pending.then(self.heard.append, self.fail)
        self.assertEqual(self.heard, [error])

    def test_stopping(self) -> None:
        for says, expected in ((None, CancelledError), (5, 5), (KeyError("x"), KeyError)):
            self.heard.clear()
            pending = Stopped(says)
            self.listen(pending)
            pending.cancel()
            pending.cancel()
            self.assertEqual((self.heard, pending.stops), ([(expected, "a", "b")], 1))

    def test_nothing_is_stopped_that_is_over(self) -> None:
        pending = Stopped()
        pending.succeed(1)
        pending.cancel()
        self.assertEqual(pending.stops, 0)

    def test_awaited(self) -> None:
        async def wait(pending: Pending[int]) -> int:
            return await pending

        good: Pending[int] = Pending()
        waiting = Deferred.fromCoroutine(wait(good))
        self.assertNoResult(waiting)
        good.succeed(4)
        self.assertEqual(self.successResultOf(waiting), 4)
        bad: Pending[int] = Pending()
        bad.fail(KeyError("x"))
        self.failureResultOf(Deferred.fromCoroutine(wait(bad)), KeyError)

    def test_cancelled_by_who_awaits(self) -> None:
        async def wait(pending: Pending[int]) -> int:
            try:
                return await pending
            except CancelledError:
                return -1

        pending = Stopped()
        waiting = Deferred.fromCoroutine(wait(pending))
        waiting.cancel()
        self.assertEqual((self.successResultOf(waiting), pending.stops), (-1, 1))

    def test_as_a_deferred(self) -> None:
        pending: Pending[int] = Pending()
        chained = pending.deferred().addCallback(lambda number: succeed(number + 1))
        pending.succeed(1)
        self.assertEqual(self.successResultOf(chained), 2)

    def test_a_listener_that_fails(self) -> None:
        pending: Pending[int] = Pending()
        pending.then(lambda _: 1 // 0, self.fail)
        pending.succeed(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_it_keeps_nothing(self) -> None:
        """Neither the listener nor the result stays with what has told them."""
        pending: Pending[int] = Pending()
        self.listen(pending)
        pending.succeed(1)
        late: Pending[int] = Pending()
        late.succeed(1)
        self.listen(late)
        kept = {getattr(one, slot) for one in (pending, late) for slot in Pending.__slots__}
        self.assertEqual(kept, {None, True})

    def test_cancelled_and_ended_later(self) -> None:
        """Who awaits is told at once; what is said afterwards hurts nobody."""

        class Slow(Pending[int]):
            __slots__ = ()

            def cancel(self) -> None:
                """It says later what comes of that."""

        for say in (lambda one: one.succeed(1), lambda one: one.fail(KeyError("x"))):
            pending = Slow()
            waiting = pending.deferred()
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            say(pending)
