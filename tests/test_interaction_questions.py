"""client/elicitation, client/sampling and client/roots: what a server asks, and what it makes of the answers."""

from dataclasses import dataclass
from typing import Any, Literal

from erlmcp import Context, Provider
from erlmcp.catalog import InexpressibleHint
from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import Sent
from tests.interaction.stage import Person

FORM = {"elicitation": {"form": {}}}
URL = {"elicitation": {"url": {}}}
SAMPLED = {
    "role": "assistant",
    "content": {"type": "text", "text": "Once"},
    "model": "m",
    "stopReason": "endTurn",
}


class Questions(Interaction):
    def question(self, tool: str, capabilities: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """The only question of a call."""
        result = self.client.call(tool, arguments, capabilities=capabilities).result
        [question] = result["inputRequests"].values()
        found: dict[str, Any] = question
        return found

    def answer(self, tool: str, capabilities: dict[str, Any], answer: Any, *, valid: bool = True) -> Sent:
        """Call, and answer its only question."""
        result = self.client.call(tool, capabilities=capabilities).result
        [key] = result["inputRequests"]
        params = {"requestState": result["requestState"], "inputResponses": {key: answer}}
        sent: Sent = self.client.call(tool, params=params, capabilities=capabilities, valid=valid)
        return sent


@everywhere
class Elicitation(Questions):
    @holds("client.elicitation/requests.1", "client.elicitation/forms.1")
    def test_forms(self) -> None:
        self.assertEqual(
            self.question("register", FORM),
            {
                "method": "elicitation/create",
                "params": {
                    "mode": "form",
                    "message": "Who comes?",
                    "requestedSchema": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "maxLength": 20},
                            "age": {"type": "integer", "minimum": 0, "default": 0},
                        },
                        "required": ["name"],
                    },
                },
            },
        )

    @holds("client.elicitation/forms.1")
    def test_what_no_form_can_ask(self) -> None:
        @dataclass
        class Nested:
            person: Person

        provider = Provider("p")
        kinds = {"nested": Nested, "list": list[Person], "any": dict[str, Any], "choice": Literal["a", "b"]}

        @provider.tool
        async def ask(ctx: Context, kind: str) -> str:
            try:
                await ctx.elicit("?", kinds[kind])
            except InexpressibleHint:
                return "no form"
            return "a form"

        client = self.again(provider)
        for kind in ("nested", "list", "any"):
            self.assertEqual(client.call("ask", {"kind": kind}, capabilities=FORM).text, "no form")
        sent = client.call("ask", {"kind": "choice"}, capabilities=FORM)
        [question] = sent.result["inputRequests"].values()
        self.assertEqual(question["params"]["requestedSchema"]["properties"]["value"]["enum"], ["a", "b"])

    @holds("client.elicitation/urls.1", "client.elicitation/requests.1")
    def test_urls(self) -> None:
        self.assertEqual(
            self.question("visit", URL),
            {
                "method": "elicitation/create",
                "params": {
                    "mode": "url",
                    "message": "Enter your key there.",
                    "url": "https://example.com/key?e=1",
                },
            },
        )
        self.assertEqual(self.answer("visit", URL, {"action": "accept"}).text, "accept")

    @holds("client.elicitation/modes.1")
    def test_modes(self) -> None:
        for tool, declared, allowed in (
            ("register", {}, False),
            ("register", {"elicitation": {}}, True),
            ("register", FORM, True),
            ("register", URL, False),
            ("visit", {"elicitation": {}}, False),
            ("visit", FORM, False),
            ("visit", URL, True),
        ):
            sent = self.client.call(tool, capabilities=declared)
            if allowed:
                self.assertEqual(sent.result["resultType"], "input_required")
            else:
                self.refused(sent, -32021, 400)

    @holds("client.elicitation/outcomes.2")
    def test_the_user_does_not_agree(self) -> None:
        for action in ("decline", "cancel"):
            self.assertEqual(self.answer("visit", URL, {"action": action}).text, action)
            self.assertEqual(
                self.answer("register", FORM, {"action": action}).text, f"nobody comes: {action}"
            )

    @holds("client.elicitation/outcomes.2")
    def test_work_that_cannot_go_on_says_so(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def insist(ctx: Context) -> str:
            return (await ctx.elicit("Really?", Person)).required().name

        self.again(provider)
        result = self.answer("insist", FORM, {"action": "decline"}).result
        self.assertTrue(result["isError"])
        self.assertIn("declined", result["content"][0]["text"])

    @holds("client.elicitation/forms.3", "client.elicitation/outcomes.1")
    def test_answers_are_checked(self) -> None:
        for content in (
            {},
            {"name": 5},
            {"name": "x", "age": "old"},
            {"name": "x" * 21},
            {"name": "x", "age": 1.5},
            None,
        ):
            answer = {"action": "accept"} if content is None else {"action": "accept", "content": content}
            sent = self.answer("register", FORM, answer, valid=False)
            self.refused(sent, -32602, 200)


@everywhere
class Sampling(Questions):
    @holds("client.sampling/context.1", "client.sampling/messages.1")
    def test_what_is_asked(self) -> None:
        self.assertEqual(
            self.question("compose", {"sampling": {}}),
            {
                "method": "sampling/createMessage",
                "params": {
                    "messages": [{"role": "user", "content": {"type": "text", "text": "Write."}}],
                    "maxTokens": 10,
                },
            },
        )

    @holds("client.sampling/tools.1")
    def test_tools(self) -> None:
        self.refused(
            self.client.call("compose", {"with_tools": True}, capabilities={"sampling": {}}), -32021, 400
        )
        question = self.question("compose", {"sampling": {"tools": {}}}, with_tools=True)
        self.assertEqual(question["params"]["tools"][0]["name"], "t")

    @holds("client.sampling/context.2")
    def test_context(self) -> None:
        for declared in ({"sampling": {}}, {"sampling": {"tools": {}}}):
            self.refused(self.client.call("contextual", capabilities=declared), -32021, 400)
        question = self.question("contextual", {"sampling": {"context": {}}})
        self.assertEqual(question["params"]["includeContext"], "thisServer")

    @holds("client.sampling/messages.2")
    def test_nothing_is_kept(self) -> None:
        first = self.question("compose", {"sampling": {}})
        self.assertEqual(self.answer("compose", {"sampling": {}}, SAMPLED).text, "Once")
        self.assertEqual(self.question("compose", {"sampling": {}}), first)

    @holds("client.sampling/security.1")
    def test_answers_are_checked(self) -> None:
        for broken in (
            {}, {"role": "assistant"}, {**SAMPLED, "role": "system"}, {**SAMPLED, "content": "Once"},
            {**SAMPLED, "content": {"type": "text"}}, {**SAMPLED, "model": 5}, {"action": "accept"},
        ):  # fmt: skip
            self.refused(self.answer("compose", {"sampling": {}}, broken, valid=False), -32602, 200)


@everywhere
class Roots(Questions):
    @holds("client.roots/roots.1", "client.roots/roots.3")
    def test_each_call_asks_anew(self) -> None:
        self.refused(self.client.call("roots"), -32021, 400)
        can = {"roots": {}}
        self.assertEqual(self.question("roots", can)["method"], "roots/list")
        for uris in (["file:///a", "file:///b"], ["file:///b"], []):
            answer = {"roots": [{"uri": uri} for uri in uris]}
            self.assertEqual(self.answer("roots", can, answer).text, " ".join(uris))

    @holds("client.roots/roots.1")
    def test_answers_are_checked(self) -> None:
        for broken in (
            {},
            {"roots": 5},
            {"roots": [{}]},
            {"roots": [{"uri": 5}]},
            {"roots": [{"uri": "https://a/b"}]},
        ):
            self.refused(self.answer("roots", {"roots": {}}, broken, valid=False), -32602, 200)
