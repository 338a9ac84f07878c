"""The demo: each of its parts does what it shows."""

import base64
import json
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp.catalog import Catalog
from erlmcp.examples import demo
from erlmcp.interfaces import Change
from tests.catalog_calls import Conversation, call, call_request, finish, request, run, text, wire


class DemoTests(SynchronousTestCase):
    """What answers at once."""

    def tool(self, name: str, conversation: Conversation | None = None, **arguments: Any) -> Any:
        return call(demo.provider, name, arguments, conversation=conversation)

    def test_calculator(self) -> None:
        for name, arguments, answer in (
            ("echo", {"message": "hi"}, "hi"),
            ("add", {"a": 1, "b": 2.5}, "3.5"),
            ("calculate", {"operation": "divide", "a": 1, "b": 4}, "0.25"),
            ("calculate", {"operation": "subtract", "a": 1, "b": 4}, "-3.0"),
        ):
            self.assertEqual(text(self.tool(name, **arguments)), answer)
        fields = self.tool("calculate", operation="divide", a=1, b=0)
        self.assertEqual((fields["isError"], text(fields)), (True, "Division by zero has no result."))

    def test_slow_job(self) -> None:
        """Without pauses it is done at once; with the smallest number of steps it still reports."""
        conversation = Conversation()
        made = call_request("slow_job", {"steps": 1, "pause": 0}, conversation=conversation)
        made.target = demo.provider.definitions().tools["slow_job"]
        made.arguments = {"steps": 1, "pause": 0}
        self.patch(demo, "sleep", lambda seconds: _at_once())
        outcome = self.successResultOf(finish(demo.provider.dispatch(made)))
        self.assertEqual(text(outcome.fields), "1 steps done")
        self.assertEqual(
            conversation.said,
            [
                ("progress", 0, 1, "step 1"),
                ("progress", 1, 1, "done"),
                ("log", "info", "the job took 1 steps", None),
            ],
        )

    def test_deploy(self) -> None:
        for answer, words in (
            (
                {"action": "accept", "content": {"sure": True, "note": "go"}},
                "web is deployed in us. Note: go",
            ),
            ({"action": "accept", "content": {"sure": True}}, "web is deployed in us."),
            ({"action": "accept", "content": {"sure": False}}, "web was not deployed."),
            ({"action": "decline"}, "web was not deployed."),
        ):
            conversation = Conversation({"confirm": answer})
            self.assertEqual(text(self.tool("deploy", conversation, service="web", region="us")), words)
            self.assertIn("requestedSchema", conversation.asked[0]["confirm"]["params"])
        definition = demo.provider.definitions().tools["deploy"]
        self.assertEqual(definition.header_parameters[0].header, b"mcp-param-region")

    def test_swatch(self) -> None:
        (block,) = self.tool("swatch", red=255, green=0, blue=0)["content"]
        png = base64.b64decode(block["data"])
        self.assertEqual((png[:8], struct.unpack(">II", png[16:24])), (b"\x89PNG\r\n\x1a\n", (16, 16)))

    def test_settings(self) -> None:
        """They change, who watches hears of it, and a greeting shows it."""
        heard: list[Change] = []
        self.addCleanup(demo.provider.watch(heard.append))
        self.addCleanup(demo.settings.update, dict(demo.settings))
        self.tool("configure", key="greeting", value="Servus")
        self.assertEqual(heard, [Change("updated", "config://settings")])
        for uri, found in (
            ("config://settings", {"greeting": "Servus", "colour": "blue"}),
            ("greeting://Ada", "Servus, Ada!"),
        ):
            contents = run(demo.provider, request("resources/read", uri, {"uri": uri}))["contents"][0]["text"]
            self.assertEqual(json.loads(contents) if isinstance(found, dict) else contents, found)

    def test_review(self) -> None:
        params = {"name": "review", "arguments": {"code": "x = 1"}}
        messages = run(demo.provider, request("prompts/get", "review", params))["messages"]
        self.assertEqual([message["role"] for message in messages], ["user", "assistant"])
        self.assertIn("x = 1", messages[0]["content"]["text"])
        reference = {
            "ref": {"type": "ref/prompt", "name": "review"},
            "argument": {"name": "language", "value": "p"},
        }
        found = run(demo.provider, request("completion/complete", "", reference))
        self.assertEqual(found["completion"]["values"], ["python"])

    def test_every_part_is_described(self) -> None:
        definitions = demo.provider.definitions()
        for table in (definitions.tools, definitions.prompts, definitions.resources, definitions.templates):
            self.assertTrue(table)
            for definition in table.values():
                self.assertTrue(wire(definition.wire)["description"])
        self.assertEqual(
            set(Catalog([demo.provider]).capabilities()),
            {"tools", "prompts", "resources", "completions", "logging"},
        )


class WaitingTests(TestCase):
    """What needs a reactor."""

    async def test_clock_runs_in_a_thread(self) -> None:
        self.addCleanup(demo.provider.stop)
        made = call_request("clock", {})
        made.target = demo.provider.definitions().tools["clock"]
        made.arguments = {}
        outcome: Any = await demo.provider.dispatch(made)  # type: ignore[misc]
        self.assertEqual(set(outcome.fields["structuredContent"]), {"iso", "seconds"})

    async def test_sleep(self) -> None:
        waiting = demo.sleep(0)
        self.assertEqual(len(reactor.getDelayedCalls()), 1)  # type: ignore[attr-defined]
        await waiting


def _at_once() -> Any:
    async def nothing() -> None: ...

    return ensureDeferred(nothing())
