"""Tools of the handshake revisions: lists, calls, every kind of content, structured output (server/tools)."""

from typing import Any

from tests.interaction.handshake import Handshake, each
from tests.interaction.ornate import ICONS, META, NOTES, Ornate

NOTED = {"audience": ["user"], "priority": 0.5}
FIELDS = {
    "name": "2024-11-05",
    "description": "2024-11-05",
    "inputSchema": "2024-11-05",
    "annotations": "2025-03-26",
    "title": "2025-06-18",
    "_meta": "2025-06-18",
    "icons": "2025-11-25",
}


class Tools(Handshake):
    def tools(self) -> dict[str, Any]:
        return {one["name"]: one for one in self.client.ask("tools/list").result["tools"]}


@each()
class Listing(Tools):
    def test_fields(self) -> None:
        """A definition has what the revision knows, and all of that."""
        tool = self.tools()["everything"]
        self.assertEqual(set(tool), {name for name, since in FIELDS.items() if self.since(since)})
        if self.since("2025-03-26"):
            hints = {"title": "Everything", "readOnlyHint": True, "openWorldHint": False}
            self.assertEqual(tool["annotations"], hints)
        if self.since("2025-06-18"):
            self.assertEqual(tool["_meta"], META)
        if self.since("2025-11-25"):
            self.assertEqual(tool["icons"], ICONS)

    def test_output_schemas(self) -> None:
        """Those that are of no object are wrapped, and none is told before 2025-06-18."""
        tools = self.tools()
        if not self.since("2025-06-18"):
            self.assertFalse([one for one in tools.values() if "outputSchema" in one])
            return
        self.assertEqual(set(tools["point"]["outputSchema"]["properties"]), {"x", "y"})
        for name, inner in (("numbers", "array"), ("number", "integer")):
            wrapped = tools[name]["outputSchema"]
            self.assertEqual((wrapped["type"], wrapped["required"]), ("object", ["result"]))
            self.assertEqual(wrapped["properties"]["result"]["type"], inner)
        self.assertEqual(tools["perhaps"]["outputSchema"]["type"], "object")
        self.assertNotIn("outputSchema", tools["everything"])

    def test_input_schemas(self) -> None:
        """Properties are objects; what modern clients mirror harms nobody."""
        schema = self.tools()["free"]["inputSchema"]
        self.assertEqual(schema["properties"]["any"], {})
        self.assertEqual(schema["properties"]["where"]["type"], "string")

    def test_pages(self) -> None:
        self.again(Ornate().provider, self.stage.provider, page_size=7)
        names: list[str] = []
        params = None
        while True:
            page = self.client.ask("tools/list", params).result
            names += [one["name"] for one in page["tools"]]
            if "nextCursor" not in page:
                break
            self.assertEqual(len(page["tools"]), 7)
            params = {"cursor": page["nextCursor"]}
        self.again(Ornate().provider, self.stage.provider)
        self.assertEqual(names, list(self.tools()))
        self.refused_old(self.client.ask("tools/list", {"cursor": "x"}), -32602)


@each()
class Calling(Tools):
    def test_content(self) -> None:
        """Each block as the revision has it; of a kind that it has not, as text."""
        result = self.client.tool("everything").result
        blocks = result["content"]
        kinds = ["text", "image", "audio", "resource", "resource", "resource_link"]
        if not self.since("2025-03-26"):
            kinds[2] = "text"
        if not self.since("2025-06-18"):
            kinds[5] = "text"
        self.assertEqual([one["type"] for one in blocks], kinds)
        noted = NOTES if self.since("2025-06-18") else NOTED
        for block in (*blocks[:4], blocks[5]):
            self.assertEqual(block["annotations"], noted)
            self.assertEqual(
                block.get("_meta"), META if self.since("2025-06-18") and block["type"] != "x" else None
            )
        self.assertEqual(blocks[1]["data"], "iVBORw0KGgo=")
        self.assertEqual(
            blocks[3]["resource"], {"uri": "memo://text", "mimeType": "text/plain", "text": "{}"}
        )
        self.assertEqual(blocks[4]["resource"]["blob"], "iVBORw0KGgo=")
        self.assertEqual(result["_meta"], META)
        link = blocks[5]
        if self.since("2025-06-18"):
            self.assertEqual((link["title"], link["size"]), ("A link", 2))
            self.assertEqual("icons" in link, self.since("2025-11-25"))
        else:
            self.assertIn("memo://text", link["text"])
            self.assertIn("A link", link["text"])
        if not self.since("2025-03-26"):
            self.assertIn("audio/wav", blocks[2]["text"])

    def test_structured_objects(self) -> None:
        result = self.client.tool("point", {"x": 7}).result
        self.assertEqual(
            result.get("structuredContent"), {"x": 7, "y": 2} if self.since("2025-06-18") else None
        )
        self.assertEqual(result["content"][0]["type"], "text")

    def test_structured_values(self) -> None:
        """What is no object is wrapped, as its schema is; one that may be an object is always wrapped."""
        for name, arguments, value in (
            ("numbers", {}, [1, 2]),
            ("number", {}, 5),
            ("perhaps", {"there": True}, {"a": 1}),
            ("perhaps", {"there": False}, None),
        ):
            result = self.client.tool(name, arguments).result
            if self.since("2025-06-18"):
                self.assertEqual(result["structuredContent"], {"result": value}, name)
            self.assertTrue(result["content"] or self.since("2025-06-18"), name)

    def test_plain(self) -> None:
        result = self.client.tool("echo", {"text": "é🦊"}).result
        self.assertEqual(result["content"], [{"type": "text", "text": "é🦊"}])
        self.assertLessEqual(set(result), {"content", "isError", "structuredContent"})

    def test_without_arguments(self) -> None:
        self.assertEqual(self.client.ask("tools/call", {"name": "sad"}).result["isError"], True)

    def test_errors_of_a_tool(self) -> None:
        """What a tool fails with is a result that the model can read; nothing of its inside is in it."""
        self.assertTrue(self.client.tool("sad").result["isError"])
        self.assertTrue(self.client.tool("picky", {"day": "monday"}).result["isError"])
        self.assertIn("monday", self.client.tool("picky", {"day": "monday"}).text)
        broken = self.client.tool("broken").response
        self.assertNotIn("swordfish", str(broken))
        self.flushLoggedErrors(RuntimeError)

    def test_unknown_tool(self) -> None:
        self.refused_old(self.client.tool("nobody"), -32602)

    def test_arguments_that_do_not_fit(self) -> None:
        """A result from 2025-11-25 on (server/tools, Error Handling), -32602 before."""
        for arguments in ({}, {"text": 5}, {"text": "a", "more": 1}):
            sent = self.client.tool("echo", arguments)
            if self.since("2025-11-25"):
                self.assertTrue(sent.result["isError"])
            else:
                self.refused_old(sent, -32602)

    def test_mirrored_headers_mean_nothing(self) -> None:
        """Headers of the modern era are not looked at, right or wrong."""
        if not self.client.on_http:
            return
        sent = self.client.tool(
            "mirrored",
            {"region": "eu"},
            headers={"Mcp-Param-Region": "us", "Mcp-Name": "other", "Mcp-Method": "x"},
        )
        self.assertEqual(sent.text, "eu 0 False")


@each()
class Changes(Tools):
    def test_list_changed(self) -> None:
        """Told unasked, without parameters of the modern era: on the stream, or on the one that GET has opened."""
        heard = self.client.listen() if self.client.on_http else None
        provider = self.stage.provider
        provider.remove_tool("echo")
        self.assertEqual(len(self.client.told("tools/list_changed")), 1)
        self.assertNotIn("echo", self.tools())
        provider.remove_prompt("review")
        provider.remove_resource("pic://logo")
        self.assertEqual(len(self.client.told("prompts/list_changed")), 1)
        self.assertEqual(len(self.client.told("resources/list_changed")), 1)
        if heard is not None:
            self.assertEqual(len(heard.messages), 3)
