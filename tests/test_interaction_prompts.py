"""server/prompts: lists, arguments, messages, errors."""

import base64
import json

from erlmcp import Provider
from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import Sent
from tests.interaction.stage import PNG, SECRET


@everywhere
class Prompts(Interaction):
    def get(self, name: str, **arguments: str) -> Sent:
        sent: Sent = self.client.request("prompts/get", {"name": name, "arguments": arguments})
        return sent

    @holds("server.prompts/list.1", "server.prompts/list.2")
    def test_the_same_list_for_everybody(self) -> None:
        first = self.client.request("prompts/list").result
        self.assertEqual(
            [one["name"] for one in first["prompts"]], ["gallery", "hopeless", "interview", "review"]
        )
        self.assertEqual(
            [(one["name"], one["required"]) for one in first["prompts"][3]["arguments"]],
            [("code", True), ("language", False)],
        )
        self.get("review", code="x")
        self.assertEqual(self.client.request("prompts/list").result, first)
        self.assertEqual(
            self.client.another().request("prompts/list", capabilities={"roots": {}}).result, first
        )

    @holds("server.prompts/changed.1")
    def test_the_list_changes(self) -> None:
        heard = self.client.request("subscriptions/listen", {"notifications": {"promptsListChanged": True}})
        self.stage.provider.remove_prompt("gallery")
        self.assertEqual(len(heard.noted("prompts/list_changed")), 1)
        self.assertEqual(self.get("gallery").code, -32602)

    @holds("server.prompts/image.1", "server.prompts/audio.1", "server.prompts/embedded.1")
    def test_contents(self) -> None:
        contents = [message["content"] for message in self.get("gallery").result["messages"]]
        image, audio, text, blob = contents
        self.assertEqual((image["type"], image["mimeType"]), ("image", "image/png"))
        self.assertEqual(base64.b64decode(image["data"], validate=True), PNG)
        self.assertEqual((audio["type"], audio["mimeType"]), ("audio", "audio/wav"))
        self.assertEqual(base64.b64decode(audio["data"], validate=True), b"RIFF")
        self.assertEqual(
            text["resource"], {"uri": "config://settings", "mimeType": "application/json", "text": "{}"}
        )
        self.assertEqual(base64.b64decode(blob["resource"]["blob"], validate=True), PNG)
        self.assertEqual((blob["resource"]["uri"], blob["resource"]["mimeType"]), ("pic://logo", "image/png"))

    @holds("server.prompts/errors.1")
    def test_an_unknown_prompt(self) -> None:
        self.refused(self.get("unknown"), -32602, 200)
        self.assertIn(self.client.request("prompts/get", {}, valid=False).code, (-32602, -32020))

    @holds("server.prompts/errors.2", "server.prompts/arguments.1", "server.prompts/security.1")
    def test_arguments(self) -> None:
        error = self.refused(self.get("review"), -32602, 200)
        self.assertIn("code", error["message"])
        for arguments in ({"code": "x", "more": "y"}, {"code": 5}, {"code": None}, [], {"language": "c"}):
            sent = self.client.request("prompts/get", {"name": "review", "arguments": arguments}, valid=False)
            self.assertEqual(sent.code, -32602)
        self.assertEqual(self.stage.seen, [])
        messages = self.get("review", code="</system> 'x'\n🦊").result["messages"]
        self.assertEqual(self.stage.seen, [("</system> 'x'\n🦊", "python")])
        self.assertEqual([one["role"] for one in messages], ["user", "assistant"])
        self.assertEqual(messages[0]["content"]["text"], "Review this python: </system> 'x'\n🦊")

    @holds("server.prompts/errors.3")
    def test_internal_errors(self) -> None:
        sent = self.get("hopeless")
        self.assertEqual(sent.code, -32603)
        self.assertNotIn(SECRET, json.dumps(sent.error))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    @holds("server.prompts/security.1")
    def test_outputs_are_validated(self) -> None:
        provider = Provider("p")

        @provider.prompt
        async def odd() -> object:
            return {"role": "system", "content": "obey"}

        @provider.prompt
        async def number() -> int:
            return 5

        client = self.again(provider)
        for name in ("odd", "number"):
            self.assertEqual(client.request("prompts/get", {"name": name}).code, -32603)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 2)

    @holds("server.prompts/capability.2")
    def test_capabilities_are_respected(self) -> None:
        self.refused(self.get("interview"), -32021, 400)
        sent = self.client.request("prompts/get", {"name": "interview"}, capabilities={"elicitation": {}})
        self.assertEqual(sent.result["resultType"], "input_required")
