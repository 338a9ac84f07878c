"""basic/patterns/mrtr: asking for input, and what comes back with a retry."""

import base64
import json
from typing import Any

import msgspec
from zope.interface import implementer

from erlmcp import Context, Provider
from erlmcp.catalog import Catalog
from erlmcp.interfaces import Complete, IGate, NeedsInput, Outcome, Principal, Request
from erlmcp.protocol import KeyRing, Question
from erlmcp.testing import permissive_gates
from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import Sent, World
from tests.interaction.stage import Stage

CAN = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}
ANN = {"action": "accept", "content": {"name": "Ann", "age": 30}}
BOB = {"action": "accept", "content": {"name": "Bob"}}
METHODS = {"elicitation/create", "sampling/createMessage", "roots/list"}


@implementer(IGate)
class SetsPrincipal:
    """A gate 2 that the test turns."""

    def __init__(self) -> None:
        self.name = "ann"

    def check(self, request: Request) -> None:
        request.principal = Principal(id=self.name, kind="token")


class Case(Interaction):
    def ask(self, tool: str = "register", **options: Any) -> Sent:
        options.setdefault("capabilities", CAN)
        sent: Sent = self.client.call(tool, **options)
        return sent

    def retry(self, state: str | None, answers: Any = None, tool: str = "register", **options: Any) -> Sent:
        params: dict[str, Any] = {} if state is None else {"requestState": state}
        if answers is not None:
            params["inputResponses"] = answers
        return self.ask(tool, params=params, **options)


@everywhere
class Asking(Case):
    @holds("basic.patterns.mrtr/either.1", "basic.patterns.mrtr/keys.1", "basic.patterns.mrtr/values.1")
    def test_what_is_asked(self) -> None:
        for tool in ("register", "survey", "visit", "compose", "roots"):
            sent = self.ask(tool)
            self.assertEqual(sent.result["resultType"], "input_required")
            self.assertTrue(sent.result["inputRequests"] or sent.result["requestState"])
            self.assertLessEqual({one["method"] for one in sent.result["inputRequests"].values()}, METHODS)
        self.assertEqual(list(self.ask("survey").result["inputRequests"]), ["first", "second"])

    @holds("basic.patterns.mrtr/keys.1")
    def test_a_key_that_is_asked_twice_at_once(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def twice(ctx: Context) -> str:
            schema = {"type": "object", "properties": {}}
            asked = ctx.request.ask({"k": Question.elicit_form("1", schema)})
            asked.send(None)
            await ctx.ask({"k": Question.elicit_form("2", schema)})
            return "never"

        sent = self.again(provider).call("twice", capabilities=CAN)
        self.assertTrue(sent.result.get("isError"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    @holds("basic.patterns.mrtr/values.1")
    def test_nothing_else_can_be_asked(self) -> None:
        sent = self.ask("impossible")
        self.assertTrue(sent.result["isError"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    @holds("basic.patterns.mrtr/supported.1")
    def test_on_three_methods_alone(self) -> None:
        can = {"capabilities": CAN}
        sent = [
            self.ask(),
            self.client.request("resources/read", {"uri": "asking://resource"}, **can),
            self.client.request("prompts/get", {"name": "interview"}, **can),
        ]
        self.assertEqual({one.result["resultType"] for one in sent}, {"input_required"})
        provider = Provider("p")

        @provider.prompt
        async def p(a: str = "") -> str:
            return a

        @provider.completion("p", "a")
        async def suggest(value: str, ctx: Context) -> list[str]:
            return [str((await ctx.elicit("?", bool)).data)]

        argument = {"name": "a", "value": ""}
        params = {"ref": {"type": "ref/prompt", "name": "p"}, "argument": argument}
        refused = self.again(provider).request("completion/complete", params, **can)
        self.assertEqual(refused.code, -32603)

    @holds("basic.patterns.mrtr/declared.1")
    def test_nothing_undeclared(self) -> None:
        first = self.ask(capabilities={"elicitation": {}})
        # The retry's own capabilities hold.
        sent = self.retry(
            first.result["requestState"], {"person": ANN}, capabilities={"sampling": {}, "roots": {}}
        )
        self.refused(sent, -32021, 400)

    @holds("basic.patterns.mrtr/assume.1")
    def test_clients_that_never_come_back(self) -> None:
        """They cost a bounded number of places, for a bounded time."""
        self.again(self.stage.provider, park_limit=60.0, parked_per_principal=3)
        for _ in range(3):
            self.assertEqual(self.ask().result["resultType"], "input_required")
        self.assertEqual(self.ask().code, -31002)
        self.assertEqual(self.client.call("echo", {"text": "others go on"}).text, "others go on")
        self.assertEqual(len(self.world.house.server.parking), 3)
        self.world.turn(61.0)
        self.assertEqual(len(self.world.house.server.parking), 0)
        self.assertEqual(self.ask().result["resultType"], "input_required")


@everywhere
class Answering(Case):
    @holds("basic.patterns.mrtr/responses.1", "basic.patterns.mrtr/assume.1")
    def test_two_rounds(self) -> None:
        first = self.ask()
        self.assertEqual(list(first.result["inputRequests"]), ["person"])
        second = self.retry(first.result["requestState"], {"person": ANN})
        self.assertEqual(list(second.result["inputRequests"]), ["plus"])
        third = self.retry(second.result["requestState"], {"plus": BOB})
        self.assertEqual(third.text, "Ann and Bob come to the party")
        self.assertEqual(len(self.stage.seen), 1)

    @holds("basic.patterns.mrtr/responses.1")
    def test_answers_at_once(self) -> None:
        self.assertEqual(self.retry(None, {"person": ANN, "plus": BOB}).text, "Ann and Bob come to the party")

    @holds("basic.patterns.mrtr/responses.1", "basic.patterns.mrtr/responses.2")
    def test_malformed_answers(self) -> None:
        state = self.ask().result["requestState"]
        for answers in (
            5, [], "person", {"person": 5}, {"person": []}, {"person": None}, {"person": {}},
            {"person": {"action": "no"}}, {"person": {"action": "accept"}},
            {"person": {"action": "accept", "content": {}}},
            {"person": {"action": "accept", "content": {"name": 5}}},
            {"person": {"action": "accept", "content": {"name": "x" * 21}}},
            {"person": {"action": "accept", "content": {"name": "x", "age": -1}}},
            {"person": {"action": "accept", "content": {"name": "x", "age": "1"}}},
            {"person": {"roots": []}},
        ):  # fmt: skip
            message = {"state": state, "answers": answers, "valid": False}
            error = self.refused(self.retry(**message), -32602, 200)
            self.assertIn("inputResponses", error["message"])
        self.assertEqual(list(self.retry(state, {"person": ANN}).result["inputRequests"]), ["plus"])

    @holds("basic.patterns.mrtr/responses.3")
    def test_unexpected_answers(self) -> None:
        state = self.ask().result["requestState"]
        answers = {"person": ANN, "unasked": {"action": "accept", "content": {"x": 1}}, "": {"roots": []}}
        sent = self.retry(state, answers)
        self.assertEqual(list(sent.result["inputRequests"]), ["plus"])

    @holds("basic.patterns.mrtr/responses.4")
    def test_missing_answers(self) -> None:
        state = self.ask("survey").result["requestState"]
        one = {"first": {"action": "accept", "content": {"value": "a"}}}
        two = {"second": {"action": "accept", "content": {"value": "b"}}}
        again = self.retry(state, one, "survey")
        self.assertEqual(list(again.result["inputRequests"]), ["second"])
        for answers in (None, {}, {"other": {"action": "cancel"}}):
            again = self.retry(again.result["requestState"], answers, "survey")
            self.assertEqual(list(again.result["inputRequests"]), ["second"])
        self.assertEqual(self.retry(again.result["requestState"], two, "survey").text, "a b")

    @holds("basic.patterns.mrtr/assume.1", "client.elicitation/outcomes.1", "client.elicitation/outcomes.2")
    def test_answers_that_say_no(self) -> None:
        for action in ("decline", "cancel"):
            state = self.ask().result["requestState"]
            self.assertEqual(
                self.retry(state, {"person": {"action": action}}).text, f"nobody comes: {action}"
            )


@everywhere
class State(Case):
    @holds(
        "basic.patterns.mrtr/state.1", "basic.patterns.mrtr/state.2", "basic.patterns.mrtr/state.3",
        "basic.patterns.mrtr/security.1",
    )  # fmt: skip
    def test_forgeries(self) -> None:
        state = self.ask().result["requestState"]
        payload = json.dumps(["owner", "park", None]).encode()
        forged = [
            "", "x", "null", "{}", "\u0000", "🦊", state[:-1], state[1:], state + "A", state + "=", state[::-1],
            state.swapcase(), "A" * 100_000, base64.urlsafe_b64encode(payload).decode().rstrip("="),
        ]  # fmt: skip
        for place in range(0, len(state), 7):
            forged.append(state[:place] + ("A" if state[place] != "A" else "B") + state[place + 1 :])
        for one in forged:
            if one == state:
                continue
            sent = self.retry(one, {"person": ANN})
            self.refused(sent, -32602, 200)
            self.assertIn("requestState", sent.error["message"])
        for odd in (5, None, [state], {"a": 1}):
            sent = self.ask(params={"requestState": odd}, valid=False)
            if odd is None and "result" in sent.response:
                self.fail("a null state was taken")
            self.assertEqual(sent.code, -32602)
        self.assertEqual(list(self.retry(state, {"person": ANN}).result["inputRequests"]), ["plus"])

    @holds("basic.patterns.mrtr/state.2", "basic.patterns.mrtr/state.3")
    def test_state_of_another_key(self) -> None:
        state = self.ask().result["requestState"]
        self.again(Stage().provider, key_ring=KeyRing([KeyRing.generate()]))
        self.refused(self.retry(state, {"person": ANN}), -32602, 200)

    @holds("basic.patterns.mrtr/state.2")
    def test_it_cannot_be_read(self) -> None:
        state = self.ask(arguments={"event": "secret wedding"}).result["requestState"]
        # Before the seal there is only the name of the process that has the call.
        sealed = state.partition(".")[2]
        decoded = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        for word in (b"secret", b"wedding", b"register", b"anonymous"):
            self.assertNotIn(word, decoded)

    @holds("basic.patterns.mrtr/replay.2")
    def test_it_expires(self) -> None:
        self.again(self.stage.provider, park_limit=60.0)
        state = self.ask().result["requestState"]
        self.world.turn(59.0)
        second = self.retry(state, {"person": ANN}).result["requestState"]
        self.world.turn(61.0)
        self.refused(self.retry(second, {"plus": BOB}), -32602, 200)

    @holds("basic.patterns.mrtr/replay.3")
    def test_it_belongs_to_one_request(self) -> None:
        state = self.ask(arguments={"event": "a"}).result["requestState"]
        for sent in (
            self.retry(state, {"person": ANN}),
            self.retry(state, {"person": ANN}, arguments={"event": "b"}),
            self.retry(state, {"person": ANN}, tool="visit"),
            self.client.request(
                "resources/read", {"uri": "asking://resource", "requestState": state}, capabilities=CAN
            ),
            self.client.request(
                "prompts/get", {"name": "interview", "requestState": state}, capabilities=CAN
            ),
        ):
            self.refused(sent, -32602, 200)
        right = self.retry(state, {"person": ANN}, arguments={"event": "a"})
        self.assertEqual(list(right.result["inputRequests"]), ["plus"])

    @holds("basic.patterns.mrtr/replay.4")
    def test_it_is_taken_once(self) -> None:
        state = self.ask().result["requestState"]
        second = self.retry(state, {"person": ANN}).result["requestState"]
        self.refused(self.retry(state, {"person": ANN}), -32602, 200)
        self.assertEqual(self.retry(second, {"plus": BOB}).text, "Ann and Bob come to the party")
        self.refused(self.retry(second, {"plus": BOB}), -32602, 200)
        self.assertEqual(len(self.stage.seen), 1)

    @holds(
        "basic.patterns.mrtr/replay.1", "client.elicitation/state.1", "client.elicitation/state.2",
        "client.elicitation/binding.1", "client.elicitation/identity.1",
    )  # fmt: skip
    def test_it_belongs_to_one_principal(self) -> None:
        """Which is what authentication says, never what a client says of itself."""
        gate = SetsPrincipal()
        gates = msgspec.structs.replace(permissive_gates(Catalog([self.stage.provider])), authenticate=gate)
        self.world = World(self.stage.provider, gates=gates)
        self.client = self.connect()
        ann = {"io.modelcontextprotocol/clientInfo": {"name": "ann", "version": "1"}}
        state = self.ask(meta=ann).result["requestState"]
        gate.name = "mallory"
        self.refused(self.retry(state, {"person": ANN}, meta=ann), -32602, 200)
        gate.name = "ann"
        other = {"io.modelcontextprotocol/clientInfo": {"name": "another", "version": "9"}}
        self.assertEqual(
            list(self.retry(state, {"person": ANN}, meta=other).result["inputRequests"]), ["plus"]
        )

    @holds("basic.patterns.mrtr/either.1", "basic.patterns.mrtr/state.2", "basic.patterns.mrtr/replay.3")
    def test_state_of_a_backend(self) -> None:
        """A backend that keeps its state in the client gets it back as it was, and only it."""
        provider = Provider("p")
        seen: list[Any] = []

        @provider.tool
        async def stateless(ctx: Context, a: int = 0) -> Outcome:
            given = ctx.request.params.request_state
            if given is msgspec.UNSET:
                return NeedsInput({}, state="my own state")
            seen.append(given)
            return Complete({"content": [{"type": "text", "text": "done"}]})

        self.again(provider)
        result = self.ask("stateless").result
        self.assertNotIn("my own state", result["requestState"])
        self.assertFalse(result.get("inputRequests"))
        self.refused(self.retry("my own state", tool="stateless"), -32602, 200)
        self.refused(self.retry(result["requestState"], tool="stateless", arguments={"a": 1}), -32602, 200)
        self.assertEqual(self.retry(result["requestState"], tool="stateless").text, "done")
        self.assertEqual(seen, ["my own state"])
