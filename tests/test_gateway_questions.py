"""Questions on their way through the gateway: in rounds, live, as visits to URLs; whose they are, and how they end."""

from collections.abc import Callable
from typing import Any

from erlmcp.client import Answers, Client, accept
from erlmcp.governor import BreakerState
from erlmcp.protocol import MODERN, McpError
from tests.gateway_stub import ANNE, BERT, HANDSHAKE, StubCase

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CLIENTS = (MODERN, HANDSHAKE)


def question(message: str = "Who?", **params: Any) -> dict[str, Any]:
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": message, "requestedSchema": SCHEMA, **params},
    }


def needs(state: str | None = None, **questions: Any) -> dict[str, Any]:
    more = {} if state is None else {"requestState": state}
    return {"resultType": "input_required", "inputRequests": questions, **more}


class RoundTests(StubCase):
    """A modern upstream asks in its results."""

    def answering(self, client: str, asked: list[str]) -> Client:
        def answer(question: Any) -> dict[str, Any]:
            asked.append(question.message)
            return accept({"name": question.message.lower()})

        return self.stage.client(client, answers=Answers(elicit=answer, roots=[{"uri": "file:///home"}]))

    def test_several_rounds(self) -> None:
        """Each round has its own answers and the state of the last, to the byte; ids and tokens are new."""
        for version in CLIENTS:
            self.begin()
            state = 'a "state" \\ of its öwn'
            self.stub.on(
                "tools/call",
                needs(state, first=question("A"), other=question("B")),
                needs(None, second=question("C")),
                needs("only a state"),
                self.said("done"),
            )
            asked: list[str] = []
            calling = self.call(client=self.answering(version, asked))
            self.stage.clock.pump([0.5] * 10)  # a state alone says: ask again, and not at once
            self.assertEqual(self.text(calling), "done", version)
            self.assertEqual(sorted(asked), ["A", "B", "C"])
            made = self.stub.asked("tools/call")
            self.assertEqual([one.get("requestState") for one in made], [None, state, None, "only a state"])
            answers = [
                {key: one["content"] for key, one in made[number].get("inputResponses", {}).items()}
                for number in range(4)
            ]
            self.assertEqual(
                answers,
                [{}, {"first": {"name": "a"}, "other": {"name": "b"}}, {"second": {"name": "c"}}, {}],
            )
            calls = [one["id"] for one in self.stub.requests if one["method"] == "tools/call"]
            self.assertEqual(len(set(calls)), 4)
            self.assertEqual({one["name"] for one in made}, {"pay"})

    def test_rounds_of_reads_and_prompts(self) -> None:
        for version in CLIENTS:
            self.begin()
            contents = self.page(contents=[{"uri": "note://a", "text": "A"}])
            self.stub.on("resources/read", needs("s", k=question()), contents, McpError(-32603, "again?"))
            self.stub.on("prompts/get", needs("p", k=question()), {"resultType": "complete", "messages": []})
            asked: list[str] = []
            client = self.answering(version, asked)
            [read] = self.successResultOf(client.read("far+note://a")).contents
            self.assertEqual((read.uri, read.text), ("far+note://a", "A"))
            self.successResultOf(client.get("far.greet"))
            self.assertEqual(asked, ["Who?", "Who?"])
            self.assertEqual(self.stub.assert_asked("prompts/get", 2)["requestState"], "p")
            self.assertEqual(self.error(client.read("far+note://a")).message, "again?", "it was not kept")

    def test_not_for_ever(self) -> None:
        for version in CLIENTS:
            self.begin()
            self.stub.on("tools/call", needs("s", k=question()))
            calling = self.call(client=self.answering(version, []))
            self.failureResultOf(calling)
            self.assertLessEqual(len(self.stub.asked("tools/call")), 12)

    def test_a_state_is_its_callers_own(self) -> None:
        """Shared credentials upstream or not: the state of one is no good to another, nor for another call."""
        stage = self.begin()
        self.stub.on("tools/call", needs("anne's", k=question()))
        self.act_as(ANNE)
        able = {"elicitation": {}}
        result = stage.near.call("far.pay", capabilities=able).result
        state = result["requestState"]
        self.assertNotIn("anne's", state)
        retry = {"requestState": state, "inputResponses": {"k": {"action": "decline"}}}
        self.act_as(BERT)
        self.assertEqual(stage.near.call("far.pay", capabilities=able, params=retry).error["code"], -32602)
        self.act_as(ANNE)
        self.assertEqual(stage.near.call("far.look", capabilities=able, params=retry).error["code"], -32602)
        self.assertEqual(len(self.stub.asked("tools/call")), 1)
        self.stub.on("tools/call", self.said("yours"))
        stage.near.call("far.pay", capabilities=able, params=retry).result  # noqa: B018 - an AssertionError if it is none
        self.assertEqual(self.stub.asked("tools/call")[-1]["requestState"], "anne's")

    def test_a_client_that_cannot_be_asked(self) -> None:
        stage = self.begin()
        self.stub.on("tools/call", needs("s", k=question()))
        error = stage.near.call("far.pay").error
        self.assertEqual(
            (error["code"], error["data"]), (-32021, {"requiredCapabilities": {"elicitation": {}}})
        )
        self.failureResultOf(self.call(client=stage.client(HANDSHAKE)))

    def test_progress_increases_over_rounds(self) -> None:
        """What a later round says again is not passed on (handshake clients have one call for all of them)."""
        stage = self.begin()

        def progressing(*done: float) -> Callable[[dict[str, Any]], Any]:
            def answer(params: dict[str, Any]) -> None:
                token = params["_meta"]["progressToken"]
                for one in done:
                    note = {"progressToken": token, "progress": one}
                    self.stub.wire.say({"jsonrpc": "2.0", "method": "notifications/progress", "params": note})

            return answer

        for version, wanted in ((HANDSHAKE, [1, 2, 3]), (MODERN, [1, 2, 1, 3])):
            first, second = progressing(1, 1, 2), progressing(1, 2, 3)

            def round_one(params: dict[str, Any], first: Any = first) -> Any:
                first(params)
                return needs("s", k=question())

            def round_two(params: dict[str, Any], second: Any = second) -> Any:
                second(params)
                return self.said("done")

            self.stub.on("tools/call", round_one, round_two)
            heard: list[float] = []
            calling = self.answering(version, []).call(
                "far.pay", {}, on_progress=lambda one, heard=heard: heard.append(one.done)
            )
            self.assertEqual(self.text(calling), "done")
            if version == HANDSHAKE:
                self.assertEqual(heard, wanted)
            else:
                self.assertEqual([heard[0], heard[-1]], [1, 3])
        del stage


class LiveTests(StubCase):
    """A handshake upstream asks live, in the middle of a call."""

    def asks(
        self, *, linked: bool = False, method: str = "elicitation/create", **params: Any
    ) -> tuple[Any, int]:
        """Let the upstream ask about its open call; gives its wire and the call's number."""
        wire, number = next(
            (wire, number)
            for wire in self.stub.wires
            for number, one in wire.open_requests.items()
            if one.method == "tools/call"
        )
        asked = params or {"message": "Who?", "requestedSchema": SCHEMA}
        message = {"jsonrpc": "2.0", "id": "q1", "method": method, "params": asked}
        wire.say(message, about=number if linked else None)
        self.stage.clock.advance(0)
        return wire, int(number)

    def able(self, client: str, reply: Any = None) -> Client:
        reply = reply or (lambda _: accept({"name": "x"}))
        return self.stage.client(client, answers=Answers(elicit=reply, roots=[{"uri": "file:///home"}]))

    def test_asked(self) -> None:
        for version in CLIENTS:
            for linked in (False, True):
                self.begin(HANDSHAKE, linked=linked)
                self.stub.on("tools/call", None)
                calling = self.call(client=self.able(version))
                wire, number = self.asks(linked=linked)
                self.stage.clock.advance(0.1)
                [response] = self.stub.responses
                self.assertEqual(response["result"], {"action": "accept", "content": {"name": "x"}})
                wire.answer(number, self.said("done"))
                self.stage.clock.advance(0.1)
                self.assertEqual(self.text(calling), "done", f"{version} {linked}")
                self.stub.assert_asked("tools/call", 1)

    def test_whose_is_it(self) -> None:
        """On the server's own stream of HTTP, a question belongs to no call: it is refused."""
        self.begin(HANDSHAKE, linked=True)
        self.stub.on("tools/call", None)
        calling = self.call(client=self.able(MODERN))
        wire, number = self.asks(linked=False)
        [response] = self.stub.responses
        self.assertIn("it is not known to whose request", response["error"]["message"])
        wire.answer(number, self.said("done"))
        self.text(calling)

    def test_one_call_at_a_time(self) -> None:
        """On a stream nothing says whose a question is: who may be asked has the session alone."""
        self.begin(HANDSHAKE)
        self.stub.on("tools/call", None)
        client = self.able(MODERN)
        first, second = self.call(client=client), self.call(client=client)
        self.stub.assert_asked("tools/call", 1)
        for calling in (first, second):
            wire, number = self.asks()
            wire.answer(number, self.said("done"))
            self.stage.clock.advance(0.1)
            self.text(calling)
            self.stub.responses.clear()

    def test_a_client_that_cannot(self) -> None:
        """It is the upstream's to say what comes of the call then."""
        for version in CLIENTS:
            self.begin(HANDSHAKE)
            self.stub.on("tools/call", None)
            calling = self.call(client=self.stage.client(version))
            wire, number = self.asks()
            [response] = self.stub.responses
            self.assertEqual(response["error"]["code"], -32602)
            wire.answer(number, self.said("without"))
            self.assertEqual(self.text(calling), "without")

    def test_a_client_that_cannot_and_an_upstream_that_must(self) -> None:
        """A call that comes to an error for want of an answer says what its client lacks."""
        stage = self.begin(HANDSHAKE)
        self.stub.on("tools/call", None)
        exchange = stage.near.call("far.pay")
        stage.clock.advance(0.1)
        wire, number = self.asks()
        wire.answer(number, error={"code": -32603, "message": "cannot go on"})
        self.assertEqual(exchange.error["code"], -32021)
        self.assertEqual(exchange.error["data"], {"requiredCapabilities": {"elicitation": {}}})

    def test_declined(self) -> None:
        self.begin(HANDSHAKE)
        self.stub.on("tools/call", None)
        calling = self.call(client=self.able(MODERN, lambda _: {"action": "decline"}))
        wire, number = self.asks()
        self.assertEqual(self.stub.responses[0]["result"], {"action": "decline"})
        wire.answer(number, self.said("as you like"))
        self.text(calling)

    def test_nobody_comes_back(self) -> None:
        """A parked call whose client stays away: the upstream hears ``cancel``, and that the call is given up."""
        stage = self.begin(HANDSHAKE)
        self.limit(5)
        self.stub.on("tools/call", None)
        exchange = stage.near.call("far.pay", capabilities={"elicitation": {}})
        stage.clock.pump([0.1] * 5)
        self.asks()
        self.assertEqual(exchange.result["resultType"], "input_required")
        stage.clock.pump([10] * 50)
        self.assertEqual(self.stub.responses, [], "its deadline stands still")
        stage.clock.pump([10] * 20)
        self.assertEqual([one["result"] for one in self.stub.responses], [{"action": "cancel"}])
        self.assertIn("notifications/cancelled", [one["method"] for one in self.stub.notifications])
        self.assertIs(stage.upstream.breaker.state, BreakerState.CLOSED)
        self.assertEqual([seat.calls for seat in stage.upstream.leases.seats() if seat.calls], [])

    def test_withdrawn(self) -> None:
        """The upstream no longer wants to know; the client's answers are ignored, and the call goes on."""
        stage = self.begin(HANDSHAKE)
        self.stub.on("tools/call", None)
        able = {"elicitation": {}}
        exchange = stage.near.call("far.pay", capabilities=able)
        stage.clock.pump([0.1] * 5)
        wire, number = self.asks()
        asked = exchange.result
        [key] = asked["inputRequests"]
        wire.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q1"}})
        answers = {key: {"action": "accept", "content": {"name": "late"}}}
        params = {"requestState": asked["requestState"], "inputResponses": answers}
        again = stage.near.call("far.pay", capabilities=able, params=params)
        self.assertEqual(self.stub.responses, [])
        wire.answer(number, self.said("on my own"))
        stage.clock.advance(0.1)
        self.assertEqual(again.result["content"][0]["text"], "on my own")

    def test_lost_while_parked(self) -> None:
        """The upstream dies while its question is with the client: the retry hears that the outcome is unknown."""
        stage = self.begin(HANDSHAKE)
        self.stub.on("tools/call", None)
        able = {"elicitation": {}}
        exchange = stage.near.call("far.pay", capabilities=able)
        stage.clock.pump([0.1] * 5)
        wire, _ = self.asks()
        asked = exchange.result
        wire.cut()
        stage.clock.advance(0.1)
        [key] = asked["inputRequests"]
        params = {"requestState": asked["requestState"], "inputResponses": {key: {"action": "decline"}}}
        again = stage.near.call("far.pay", capabilities=able, params=params)
        self.assertEqual(again.error["code"], -31004)
        self.stub.assert_asked("tools/call", 1)
        self.assertEqual(len(self.flushLoggedErrors(McpError)), 1, "it ended while nobody waited for it")

    def test_answers_that_came_unasked(self) -> None:
        """They are for the edge: a handshake upstream never sees MRTR's parameters."""
        stage = self.begin(HANDSHAKE)
        self.stub.on("tools/call", None)
        answers = {"inputResponses": {"ask-1": {"action": "accept", "content": {"name": "early"}}}}
        exchange = stage.near.call("far.pay", capabilities={"elicitation": {}}, params=answers)
        stage.clock.pump([0.1] * 5)
        self.assertEqual(sorted(self.stub.asked("tools/call")[0]), ["arguments", "name"])
        wire, number = self.asks()
        self.assertEqual(self.stub.responses[0]["result"]["content"], {"name": "early"})
        wire.answer(number, self.said("done"))
        exchange.result  # noqa: B018 - an AssertionError if it is none

    def test_while_its_client_thinks_the_breaker_does_not_wait(self) -> None:
        """A probe that asks its client something has said already that the upstream is well."""
        stage = self.begin(HANDSHAKE)
        self.stub.on("tools/call", McpError(-32603, "broken"))
        client = stage.client(MODERN)
        for _ in range(20):
            self.error(client.call("far.pay"))
        self.assertIs(stage.upstream.breaker.state, BreakerState.OPEN)
        stage.clock.pump([1] * 6)
        self.stub.on("tools/call", None)
        exchanges = []
        for principal in ("a", "b", "c"):
            self.act_as(type(ANNE)(id=principal, kind="key"))
            exchanges.append(stage.near.call("far.pay", capabilities={"elicitation": {}}))
            stage.clock.pump([0.1] * 3)
            for wire in self.stub.wires[-1:]:
                asked = {"message": "Who?", "requestedSchema": SCHEMA}
                wire.say({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": asked})
            stage.clock.advance(0)
        self.assertEqual({one.result["resultType"] for one in exchanges}, {"input_required"})
        self.assertIs(stage.upstream.breaker.state, BreakerState.CLOSED)
        self.successResultOf(stage.upstream.stop())
        self.assertEqual(len(self.flushLoggedErrors(McpError)), 3)


class VisitTests(StubCase):
    """-32042 of 2025-11-25: its user has to have been somewhere first."""

    def wants(self) -> McpError:
        elicitation = {
            "mode": "url",
            "message": "Sign in",
            "url": "https://example.org/x",
            "elicitationId": "e1",
        }
        return McpError(-32042, "URL elicitation required", {"elicitations": [elicitation]})

    def visiting(self, version: str, action: str, seen: list[str]) -> Client:
        def visit(question: Any) -> Any:
            seen.append(question.url)
            return {"action": action}

        return self.stage.client(version, answers=Answers(elicit=visit, urls=True))

    def test_visited(self) -> None:
        for version in CLIENTS:
            self.begin(HANDSHAKE)
            self.stub.on("tools/call", self.wants(), self.said("signed in"))
            seen: list[str] = []
            calling = self.call(client=self.visiting(version, "accept", seen))
            self.assertEqual(self.text(calling), "signed in", version)
            self.assertEqual(seen, ["https://example.org/x"])

    def test_declined(self) -> None:
        self.begin(HANDSHAKE)
        self.stub.on("tools/call", self.wants())
        error = self.error(self.call(client=self.visiting(MODERN, "decline", [])))
        self.assertEqual(error.code, -32603)
        self.assertIn("wants its user to visit a URL first", error.message)
        self.stub.assert_asked("tools/call", 1)

    def test_not_for_ever(self) -> None:
        self.begin(HANDSHAKE)
        self.stub.on("tools/call", self.wants())
        seen: list[str] = []
        self.assertEqual(self.error(self.call(client=self.visiting(MODERN, "accept", seen))).code, -32603)
        self.assertEqual(len(seen), 3)

    def test_a_client_that_visits_nothing(self) -> None:
        stage = self.begin(HANDSHAKE)
        self.stub.on("tools/call", self.wants())
        error = stage.near.call("far.pay", capabilities={"elicitation": {}}).error
        self.assertEqual(error["data"], {"requiredCapabilities": {"elicitation": {"url": {}}}})
