"""Whatever a backend does wrong, each message is settled once, and nothing of a call outlives it."""

import sys
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Context, Provider
from erlmcp.interfaces import Complete, NeedsInput, Outcome, Request
from erlmcp.protocol import Question
from erlmcp.testing import Harness, MemoryExchange
from tests.scripted import Scripted, Tool, text

CAN = {"elicitation": {}}
NAME = Question.elicit_form("Your name?", {"type": "object", "properties": {"name": {"type": "string"}}})
AGE = Question.elicit_form("Your age?", {"type": "object", "properties": {"age": {"type": "integer"}}})


def accepted(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


class Case(SynchronousTestCase):
    def serve(self, tool: Tool, **options: Any) -> Harness:
        self.house = Harness(Scripted({"tool": tool}), **options)
        return self.house

    def call(self, **options: Any) -> MemoryExchange:
        return self.house.call("tool", **options)

    def assert_nothing_left(self) -> None:
        self.assertEqual(self.house.server.in_flight, 0)
        self.assertEqual(self.house.gates.admit.under_way, 0)
        self.assertEqual(len(self.house.server.parking), 0)


class Answers(Case):
    """Outcomes that no answer can be made of."""

    def test_too_deep(self) -> None:
        nested: list[Any] = []
        for _ in range(5000):
            nested = [nested]
        self.serve(lambda _: Complete({"content": [], "structuredContent": nested}))
        self.assertEqual(self.call().error["code"], -32603)
        self.assertEqual(len(self.flushLoggedErrors(RecursionError)), 1)

    def test_question_without_method(self) -> None:
        self.serve(lambda _: NeedsInput({"name": {}}))
        self.assertEqual(self.call(capabilities=CAN).error["code"], -32603)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_question_that_cannot_be_sent(self) -> None:
        """Nothing is parked for a question that its client never sees."""
        ended: list[str] = []

        async def asks(request: Request) -> Outcome:
            try:
                await request.ask({"name": Question.elicit_form("?", {"default": object()})})
            except CancelledError:
                ended.append("cancelled")
                raise
            return text("never")

        self.serve(asks)
        self.assertEqual(self.call(capabilities=CAN).error["code"], -32603)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(ended, ["cancelled"])
        self.assert_nothing_left()

    def test_question_that_the_retry_cannot_be_asked(self) -> None:
        """A question still open on a retry that declares less ends the work: nobody could go on with it."""
        ended: list[str] = []

        async def asks(request: Request) -> Outcome:
            try:
                await request.ask({"name": NAME, "age": AGE})
            except CancelledError:
                ended.append("cancelled")
                raise
            return text("never")

        self.serve(asks)
        state = self.call(capabilities=CAN).result["requestState"]
        params = {"requestState": state, "inputResponses": {"name": accepted(name="Ann")}}
        self.assertEqual(self.call(params=params).error["code"], -32021)
        self.assertEqual(ended, ["cancelled"])
        self.assert_nothing_left()


class Exits(Case):
    """What is no `Exception` is a failure like any other."""

    def test_at_once(self) -> None:
        def leave(request: Request) -> Outcome:
            sys.exit(3)

        self.serve(leave)
        self.assertEqual(self.call().error["code"], -32603)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.assertEqual(self.house.counters.requests, [("tools/call", "error")])
        self.assertEqual(len(self.house.gates.record.outcomes), 1)
        self.assert_nothing_left()

    def test_later(self) -> None:
        gate: Deferred[None] = Deferred()

        async def leave(request: Request) -> Outcome:
            await gate
            sys.exit(3)

        exchange = self.serve(leave).call("tool")
        gate.callback(None)
        self.assertEqual(exchange.error["code"], -32603)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.assertEqual(self.house.counters.requests, [("tools/call", "error")])
        self.assert_nothing_left()

    def test_interrupt(self) -> None:
        """The keyboard's is answered too, and goes on to whom it is for."""

        def interrupted(request: Request) -> Outcome:
            raise KeyboardInterrupt

        exchange = MemoryExchange()
        self.serve(interrupted)
        self.assertRaises(KeyboardInterrupt, self.call, exchange=exchange)
        self.assertEqual(exchange.error["code"], -32603)
        self.flushLoggedErrors(KeyboardInterrupt)

    def test_in_a_provider(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def leave() -> str:
            sys.exit(3)

        result = Harness(provider).call("leave").result
        self.assertTrue(result["isError"])
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)

    def test_own_cancellation(self) -> None:
        """What a backend's own waiting was cancelled for is no shutdown of this server."""

        async def gives_up(request: Request) -> Outcome:
            waiting: Deferred[None] = Deferred()
            waiting.cancel()
            await waiting
            return text("never")

        self.serve(gives_up)
        exchange = self.call()
        self.assertEqual((exchange.status, exchange.error["code"]), (200, -32603))
        self.assertEqual(len(self.flushLoggedErrors(CancelledError)), 1)


class OnCancel(Case):
    """Callbacks of `on_cancel` that fail."""

    def setUp(self) -> None:
        self.heard: list[str] = []

        async def hangs(request: Request) -> Outcome:
            request.on_cancel = [self.fail_at_it, lambda: self.heard.append("told")]
            await Deferred()
            return text("never")

        self.serve(hangs)

    def fail_at_it(self) -> None:
        raise ValueError("at cancellation")

    def test_lost_connection(self) -> None:
        """All calls of a connection end with it."""
        exchange = MemoryExchange()
        self.call(exchange=exchange)
        self.call(exchange=exchange)
        self.house.channel.closed(exchange)
        self.assertEqual((exchange.abandoned, self.heard), (2, ["told", "told"]))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assert_nothing_left()

    def test_deadline(self) -> None:
        self.house.gates.admit.timeout = 5
        exchange = self.call()
        self.house.clock.pump([1] * 7)
        self.assertEqual(exchange.error["code"], -31001)
        self.assertEqual(self.house.counters.requests, [("tools/call", "error")])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assert_nothing_left()


class Asking(Case):
    """Questions whose asker has gone."""

    def test_malformed_answers_begin_nothing(self) -> None:
        """Answers that cannot be read are refused before there is work to undo."""
        begun: list[str] = []

        async def waits(request: Request) -> Outcome:
            begun.append("begun")
            await Deferred()
            return text("never")

        self.serve(waits)
        self.assertEqual(self.call(params={"inputResponses": [1]}).error["code"], -32602)
        self.assertEqual(begun, [])
        self.assert_nothing_left()

    def test_withdrawn(self) -> None:
        """A question that nobody waits for any more is not asked, and its key is free again."""

        async def changes_its_mind(request: Request) -> Outcome:
            asked = Deferred.fromCoroutine(request.ask({"name": NAME}))
            asked.addErrback(lambda failure: failure.trap(CancelledError))
            asked.cancel()
            answers = await request.ask({"name": AGE})
            return text(str(answers["name"]["content"]["age"]))

        self.serve(changes_its_mind)
        first = self.call(capabilities=CAN).result
        self.assertEqual(first["inputRequests"], {"name": AGE})
        params = {"requestState": first["requestState"], "inputResponses": {"name": accepted(age=7)}}
        self.assertEqual(self.call(capabilities=CAN, params=params).result["content"][0]["text"], "7")

    def test_withdrawn_one_of_two(self) -> None:
        async def hesitates(request: Request) -> Outcome:
            asked = Deferred.fromCoroutine(request.ask({"name": NAME}))
            asked.addErrback(lambda failure: failure.trap(CancelledError))
            other = Deferred.fromCoroutine(request.ask({"age": AGE}))
            asked.cancel()
            return text(str((await other)["age"]["content"]["age"]))

        self.serve(hesitates)
        self.assertEqual(self.call(capabilities=CAN).result["inputRequests"], {"age": AGE})

    def test_left_behind(self) -> None:
        """Work that ends takes its open questions with it."""
        failures: list[Failure] = []

        async def leaves(request: Request) -> Outcome:
            Deferred.fromCoroutine(request.ask({"name": NAME})).addErrback(failures.append)
            waiting: Deferred[None] = Deferred()
            self.house.clock.callLater(0, waiting.callback, None)
            await waiting
            return text("done")

        self.serve(leaves)
        first = self.call(capabilities=CAN)
        self.house.clock.advance(0)
        params = {"requestState": first.result["requestState"]}
        self.assertEqual(self.call(capabilities=CAN, params=params).result["content"][0]["text"], "done")
        self.assertIsNotNone(failures[0].check(CancelledError))

    def test_after_the_end(self) -> None:
        """What still runs when its call has ended cannot ask, whether the call waited or not."""
        kept: list[Request] = []
        gates: list[Deferred[None]] = []

        async def ends(request: Request) -> Outcome:
            kept.append(request)
            if gates:
                await gates[0]
            return text("done")

        self.serve(ends)
        self.call(capabilities=CAN)
        gates.append(Deferred())
        self.call(capabilities=CAN)
        gates[0].callback(None)
        for request in kept:
            late = Deferred.fromCoroutine(request.ask({"name": NAME}))
            self.assertIn("has ended", str(self.failureResultOf(late, RuntimeError)))

    def test_asks_on_while_it_is_cancelled(self) -> None:
        """Work that answers its cancellation with a question gets a second one."""
        failures: list[str] = []

        async def insists(request: Request) -> Outcome:
            try:
                await Deferred()
            except CancelledError:
                try:
                    await request.ask({"name": NAME})
                except CancelledError:
                    failures.append("cancelled")
            return text("never")

        exchange = self.serve(insists).call("tool", capabilities=CAN)
        self.house.channel.closed(exchange)
        self.assertEqual((failures, exchange.written), (["cancelled"], []))
        self.assert_nothing_left()


class Notifying(SynchronousTestCase):
    """What no notification can carry is the handler's error, whether the client wants it or not."""

    def test_progress(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def report(done: float, ctx: Context) -> str:
            try:
                ctx.report_progress(done * float("inf"))
            except ValueError as error:
                return str(error)
            return "sent"

        @provider.tool
        async def total(ctx: Context) -> str:
            try:
                ctx.report_progress(1, float("nan"))
            except ValueError as error:
                return str(error)
            return "sent"

        house = Harness(provider)
        for exchange in (house.call("report", {"done": 1}, meta={"progressToken": 1}), house.call("total")):
            self.assertIn("that JSON has", exchange.result["content"][0]["text"])
            self.assertEqual(exchange.notifications, [])

    def test_level(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def shout(ctx: Context) -> str:
            try:
                ctx.log("loud", "x")
            except ValueError as error:
                return str(error)
            return "sent"

        self.assertIn("'loud'", Harness(provider).call("shout").result["content"][0]["text"])
