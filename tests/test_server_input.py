"""Asking the client in the middle of a call: parking, retries, and what a forged or stale retry gets."""

from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import Complete, NeedsInput, Outcome, Principal, Request
from erlmcp.protocol import KeyRing, Question
from erlmcp.testing import Harness, MemoryExchange
from tests.scripted import Scripted, text

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
CAN = {"elicitation": {}}
NAME = Question.elicit_form(
    "Your name?", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
)
AGE = Question.elicit_form(
    "Your age?", {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
)


def accepted(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


class Asking:
    """Asks for a name, then for an age; counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.request: Request | None = None

    async def __call__(self, request: Request) -> Outcome:
        self.begun += 1
        self.request = request
        assert request.conversation is not None
        request.conversation.progress(1, None, None)
        name = (await request.ask({"name": NAME}))["name"]
        if name["action"] != "accept":
            return text("nobody")
        request.conversation.progress(1, None, None)
        request.conversation.progress(2, None, None)
        age = (await request.ask({"age": AGE}))["age"]
        return text(f"{name['content']['name']} is {age['content']['age']}")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.tool = Asking()
        self.house = self.serve()

    def serve(self, **options: Any) -> Harness:
        return Harness(Scripted({"ask": self.tool}), **options)

    def first(self, **options: Any) -> MemoryExchange:
        return self.house.call("ask", {"a": 1, "b": 2}, capabilities=CAN, **options)

    def retry(self, state: str, answers: dict[str, Any] | None = None, **options: Any) -> MemoryExchange:
        params = {"requestState": state, **({} if answers is None else {"inputResponses": answers})}
        options.setdefault("capabilities", CAN)
        arguments = options.pop("arguments", {"b": 2, "a": 1})
        return self.house.call(options.pop("tool", "ask"), arguments, params=params, **options)


class Rounds(Case):
    def test_two_rounds(self) -> None:
        """The coroutine goes on where it stopped, is begun once, and each round has a state of its own."""
        first = self.first().result
        self.assertEqual(first["resultType"], "input_required")
        self.assertEqual(first["inputRequests"], {"name": NAME})
        self.assertNotIn("ttlMs", first)
        second = self.retry(first["requestState"], {"name": accepted(name="Ann")}).result
        self.assertEqual(second["inputRequests"], {"age": AGE})
        self.assertNotEqual(second["requestState"], first["requestState"])
        third = self.retry(second["requestState"], {"age": accepted(age=7)}).result
        self.assertEqual(third["content"][0]["text"], "Ann is 7")
        self.assertEqual(self.tool.begun, 1)
        self.assertEqual(len(self.house.server.parking), 0)
        self.assertEqual(
            [outcome for _, outcome in self.house.counters.requests],
            ["input_required", "input_required", "complete"],
        )

    def test_holds_no_slot_while_parked(self) -> None:
        self.first()
        self.assertEqual(self.house.gates.admit.under_way, 0)
        self.assertEqual(self.house.server.in_flight, 0)

    def test_decline(self) -> None:
        """A decline is an answer like any other."""
        state = self.first().result["requestState"]
        result = self.retry(state, {"name": {"action": "decline"}}).result
        self.assertEqual(result["content"][0]["text"], "nobody")

    def test_answers_beforehand(self) -> None:
        """Answers without a state satisfy the first ask with their key; unknown keys are ignored."""
        answers = {"name": accepted(name="Ann"), "age": accepted(age=7), "shoe size": {"action": "cancel"}}
        result = self.house.call("ask", capabilities={}, params={"inputResponses": answers}).result
        self.assertEqual(result["content"][0]["text"], "Ann is 7")

    def test_wrong_answer_beforehand(self) -> None:
        """An answer given beforehand is validated as any other."""
        params = {"inputResponses": {"name": accepted(name=5)}}
        error = self.house.call("ask", capabilities=CAN, params=params).error
        self.assertEqual(error["code"], -32602)
        self.assertIn("'name'", error["message"])

    def test_missing_answer(self) -> None:
        """What was not answered is asked again, under a fresh state (basic/patterns/mrtr, "Error Handling")."""
        state = self.first().result["requestState"]
        again = self.retry(state, {"something": accepted()}).result
        self.assertEqual(again["inputRequests"], {"name": NAME})
        self.assertEqual(self.retry(state).error["code"], -32602)
        result = self.retry(again["requestState"], {"name": accepted(name="Ann")}).result
        self.assertEqual(list(result["inputRequests"]), ["age"])

    def test_wrong_answer(self) -> None:
        """An answer that does not fit is refused with the reason, and the work still waits for a right one."""
        state = self.first().result["requestState"]
        error = self.retry(state, {"name": accepted(name=5)}).error
        self.assertEqual(error["code"], -32602)
        result = self.retry(state, {"name": accepted(name="Ann")}).result
        self.assertEqual(list(result["inputRequests"]), ["age"])

    def test_answers_are_objects(self) -> None:
        state = self.first().result["requestState"]
        error = self.retry(state, {"name": 5}).error
        self.assertEqual(error["code"], -32602)
        self.assertIn("inputResponses", error["message"])

    def test_capability_of_the_retry(self) -> None:
        """Each request's own capabilities hold: what the retry does not declare cannot be asked."""
        state = self.first().result["requestState"]
        exchange = self.retry(state, {"name": accepted(name="Ann")}, capabilities={})
        self.assertEqual((exchange.status, exchange.error["code"]), (400, -32021))

    def test_missing_capability(self) -> None:
        """A client that did not declare elicitation is not asked: -32021, HTTP 400."""
        exchange = self.house.call("ask")
        self.assertEqual((exchange.status, exchange.error["code"]), (400, -32021))
        self.assertEqual(exchange.error["data"], {"requiredCapabilities": {"elicitation": {}}})

    def test_progress_across_rounds(self) -> None:
        """Progress goes to the round that is under way, with its token, and never falls back."""
        first = self.first(meta={"progressToken": "one"})
        self.assertEqual(
            [one["params"] for one in first.notifications], [{"progressToken": "one", "progress": 1}]
        )
        state = first.result["requestState"]
        second = self.retry(state, {"name": accepted(name="Ann")}, meta={"progressToken": "two"})
        self.assertEqual(
            [one["params"] for one in second.notifications], [{"progressToken": "two", "progress": 2}]
        )

    def test_retry_refreshes_the_request(self) -> None:
        state = self.first(id="old").result["requestState"]
        self.retry(state, {"name": accepted(name="Ann")}, id="new", meta={"traceparent": TRACEPARENT})
        assert self.tool.request is not None
        self.assertEqual(self.tool.request.id, "new")
        self.assertEqual(self.tool.request.trace, {"traceparent": TRACEPARENT})

    def test_only_where_the_protocol_allows(self) -> None:
        """Completion may not ask its client."""

        class Curious(Scripted):
            async def dispatch(self, request: Request) -> Outcome:  # type: ignore[override]
                await request.ask({"name": NAME})
                raise AssertionError("asked")

        house = Harness(Curious({}))
        params = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": ""}}
        self.assertEqual(house.send("completion/complete", params, capabilities=CAN).error["code"], -32603)


class Several(SynchronousTestCase):
    def test_at_once(self) -> None:
        """Questions of one turn are asked together, and answered in any number of rounds."""

        async def both(request: Request) -> Outcome:
            answers = await gatherResults(
                [
                    Deferred.fromCoroutine(request.ask({"name": NAME})),
                    Deferred.fromCoroutine(request.ask({"age": AGE})),
                ]
            )
            return text(f"{answers[0]['name']['content']['name']} {answers[1]['age']['content']['age']}")

        house = Harness(Scripted({"both": both}))
        first = house.call("both", capabilities=CAN).result
        self.assertEqual(set(first["inputRequests"]), {"name", "age"})
        params = {"requestState": first["requestState"], "inputResponses": {"age": accepted(age=7)}}
        second = house.call("both", params=params, capabilities=CAN).result
        self.assertEqual(set(second["inputRequests"]), {"name"})
        params = {"requestState": second["requestState"], "inputResponses": {"name": accepted(name="Ann")}}
        self.assertEqual(
            house.call("both", params=params, capabilities=CAN).result["content"][0]["text"], "Ann 7"
        )

    def test_one_ask_of_two(self) -> None:
        """One ask may have several questions; it goes on when all are answered, early answers included."""

        async def both(request: Request) -> Outcome:
            answers = await request.ask({"name": NAME, "age": AGE})
            return text(str(sorted(answers)))

        house = Harness(Scripted({"both": both}))
        params: dict[str, Any] = {"inputResponses": {"name": accepted(name="Ann")}}
        first = house.call("both", params=params, capabilities=CAN).result
        self.assertEqual(set(first["inputRequests"]), {"age"})
        params = {"requestState": first["requestState"], "inputResponses": {"age": accepted(age=7)}}
        result = house.call("both", params=params, capabilities=CAN).result
        self.assertEqual(result["content"][0]["text"], "['age', 'name']")

    def test_after_waiting(self) -> None:
        """Work that waited for something else first asks in the same way."""
        wait: Deferred[None] = Deferred()

        async def later(request: Request) -> Outcome:
            await wait
            return text(str(await request.ask({"name": NAME})))

        house = Harness(Scripted({"later": later}))
        exchange = house.call("later", capabilities=CAN)
        wait.callback(None)
        self.assertEqual(exchange.replies, [])
        house.clock.advance(0)
        self.assertEqual(exchange.result["resultType"], "input_required")

    def test_cancelled_before_it_is_asked(self) -> None:
        wait: Deferred[None] = Deferred()

        async def later(request: Request) -> Outcome:
            await wait
            return text(str(await request.ask({"name": NAME})))

        house = Harness(Scripted({"later": later}))
        exchange = house.call("later", capabilities=CAN)
        wait.callback(None)
        house.channel.closed(exchange)
        house.clock.advance(0)
        self.assertEqual(exchange.written, [])
        self.assertEqual(len(house.server.parking), 0)

    def test_same_key_twice(self) -> None:
        """One key for two open questions is the author's mistake, and is said to be one."""

        async def twice(request: Request) -> Outcome:
            Deferred.fromCoroutine(request.ask({"name": NAME}))
            await request.ask({"name": NAME})
            raise AssertionError("asked")

        house = Harness(Scripted({"twice": twice}))
        self.assertEqual(house.call("twice", capabilities=CAN).error["code"], -32603)
        [error] = self.flushLoggedErrors(RuntimeError)
        self.assertIn("'name'", str(error.value))


class Refusals(Case):
    def setUp(self) -> None:
        super().setUp()
        self.state = self.first().result["requestState"]
        self.answers = {"name": accepted(name="Ann")}

    def refused(self, exchange: MemoryExchange) -> None:
        self.assertEqual(exchange.error["code"], -32602)
        self.assertEqual(self.tool.begun, 1)

    def test_other_arguments(self) -> None:
        self.refused(self.retry(self.state, self.answers, arguments={"a": 1, "b": 3}))

    def test_other_tool(self) -> None:
        self.house = Harness(Scripted({"ask": self.tool, "other": self.tool}))
        self.state = self.house.call("ask", capabilities=CAN).result["requestState"]
        self.assertEqual(
            self.retry(self.state, self.answers, tool="other", arguments={}).error["code"], -32602
        )

    def test_other_principal(self) -> None:
        """A state that one principal was given is nothing in another's hands."""
        self.house.gates.authenticate.principal = Principal(id="mallory", kind="key")
        self.refused(self.retry(self.state, self.answers))

    def test_used_twice(self) -> None:
        self.retry(self.state, self.answers)
        self.refused(self.retry(self.state, self.answers))

    def test_altered(self) -> None:
        for position in range(0, len(self.state), 7):
            other = "A" if self.state[position] != "A" else "B"
            self.refused(self.retry(self.state[:position] + other + self.state[position + 1 :], self.answers))
        for garbage in ("", "x", "é", self.state[:-1], self.state + "A"):
            self.refused(self.retry(garbage, self.answers))

    def test_expired(self) -> None:
        """At its limit the work is cancelled, and its state is worth nothing any more."""
        cancelled: list[str] = []
        assert self.tool.request is not None
        self.tool.request.on_cancel = [lambda: cancelled.append("yes")]
        self.house.clock.pump([1.0] * 602)
        self.assertEqual(cancelled, ["yes"])
        self.assertEqual(len(self.house.server.parking), 0)
        self.refused(self.retry(self.state, self.answers))
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_other_process(self) -> None:
        """After the owner's death nothing is run twice: the outcome is unknown."""
        ring = KeyRing([KeyRing.generate()])
        self.house = self.serve(key_ring=ring)
        state = self.first().result["requestState"]
        begun = self.tool.begun
        self.house = self.serve(key_ring=ring)
        error = self.retry(state, self.answers).error
        self.assertEqual(error["code"], -31004)
        self.assertEqual(self.tool.begun, begun)

    def test_deadline_stands_still(self) -> None:
        """The deadline of a parked call does not run; the retry brings a new one."""
        self.house.gates.admit.timeout = 5.0
        state = self.first().result["requestState"]
        self.house.clock.pump([1.0] * 60)
        self.assertEqual(list(self.retry(state, self.answers).result["inputRequests"]), ["age"])

    def test_closing(self) -> None:
        """Draining cancels what is parked."""
        self.successResultOf(self.house.server.drain())
        self.refused(self.retry(self.state, self.answers))


class Bounds(Case):
    def test_per_principal(self) -> None:
        self.house = self.serve(parked_per_principal=2)
        states = [self.first().result["requestState"] for _ in range(2)]
        exchange = self.first()
        self.assertEqual((exchange.status, exchange.error["code"]), (503, -31002))
        self.assertIn("this caller", exchange.error["message"])
        result = self.retry(states[0], {"name": {"action": "cancel"}}).result
        self.assertEqual(result["content"][0]["text"], "nobody")
        self.assertEqual(self.first().result["resultType"], "input_required")

    def test_in_all(self) -> None:
        self.house = self.serve(parked=1)
        self.first()
        self.house.gates.authenticate.principal = Principal(id="other", kind="key")
        self.assertIn("this server", self.first().error["message"])


class Stateless(SynchronousTestCase):
    """A backend that keeps its own state in the client's hands, as a modern upstream does."""

    def setUp(self) -> None:
        self.seen: list[Any] = []

        def tool(request: Request) -> Outcome:
            self.seen.append(request.params.request_state)
            if (
                request.params.request_state is msgspec.UNSET
                and request.params.input_responses is msgspec.UNSET
            ):
                return NeedsInput({"name": NAME}, self.state)
            return Complete(
                {"content": [], "structuredContent": msgspec.json.decode(request.params.input_responses)}
            )

        self.state: str | None = "mine"
        self.house = Harness(Scripted({"ask": tool}))

    def test_state(self) -> None:
        """Its state travels sealed, and comes back to it as it was."""
        first = self.house.call("ask", capabilities=CAN).result
        self.assertNotIn("mine", first["requestState"])
        params = {"requestState": first["requestState"], "inputResponses": {"name": accepted(name="Ann")}}
        result = self.house.call("ask", capabilities=CAN, params=params).result
        self.assertEqual(result["structuredContent"], {"name": accepted(name="Ann")})
        self.assertEqual(self.seen, [msgspec.UNSET, "mine"])

    def test_no_state(self) -> None:
        """Where it keeps none, the client gets none."""
        self.state = None
        first = self.house.call("ask", capabilities=CAN).result
        self.assertNotIn("requestState", first)
        params = {"inputResponses": {"name": accepted(name="Ann")}}
        self.assertEqual(self.house.call("ask", capabilities=CAN, params=params).result["content"], [])

    def test_capability(self) -> None:
        exchange = self.house.call("ask")
        self.assertEqual((exchange.status, exchange.error["code"]), (400, -32021))

    def test_only_where_the_protocol_allows(self) -> None:
        class Curious(Scripted):
            def dispatch(self, request: Request) -> Outcome:
                return NeedsInput({"name": NAME})

        params = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": ""}}
        exchange = Harness(Curious({})).send("completion/complete", params, capabilities=CAN)
        self.assertEqual(exchange.error["code"], -32603)


class EndsWhileParked(SynchronousTestCase):
    def test_result_is_kept(self) -> None:
        """Work that ends while it is parked answers the retry with what it came to."""
        enough: Deferred[None] = Deferred()

        async def impatient(request: Request) -> Outcome:
            asked = Deferred.fromCoroutine(request.ask({"name": NAME}))
            await enough
            asked.cancel()
            asked.addErrback(lambda _: None)
            return text("went on")

        house = Harness(Scripted({"impatient": impatient}))
        first = house.call("impatient", capabilities=CAN).result
        enough.callback(None)
        params = {"requestState": first["requestState"], "inputResponses": {"name": accepted(name="Ann")}}
        result = house.call("impatient", capabilities=CAN, params=params).result
        self.assertEqual(result["content"][0]["text"], "went on")

    def test_failure_is_logged(self) -> None:
        """Work that fails while it is parked is logged at once, and its retry gets an internal error."""
        enough: Deferred[None] = Deferred()

        unanswered: list[Failure] = []

        async def failing(request: Request) -> Outcome:
            Deferred.fromCoroutine(request.ask({"name": NAME})).addErrback(unanswered.append)
            await enough
            raise RuntimeError("fell over")

        house = Harness(Scripted({"failing": failing}))
        first = house.call("failing", capabilities=CAN).result
        enough.callback(None)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertIsNotNone(unanswered[0].check(CancelledError))
        params = {"requestState": first["requestState"], "inputResponses": {"name": accepted(name="Ann")}}
        self.assertEqual(house.call("failing", capabilities=CAN, params=params).error["code"], -32603)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
