"""server/tools: lists, names, calls, results, errors, access."""

import json
from typing import Annotated, Any

import msgspec
from zope.interface import implementer

from erlmcp import Field, Provider
from erlmcp.catalog import Catalog, InvalidSchema, NameCollision
from erlmcp.interfaces import IAuthorize, Principal, Request
from erlmcp.protocol import errors
from erlmcp.server import Gates
from erlmcp.testing import permissive_gates
from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import World
from tests.interaction.stage import SECRET, Stage

HIDDEN = ("broken", "pic://logo", "gallery", "user://{name}/profile")


@implementer(IAuthorize)
class HidesSome:
    """A gate 3 as the roles' issue will bring it: some names are for nobody here."""

    everything = False

    def check(self, request: Request) -> None:
        if request.method == "completion/complete":
            ref = request.params.ref
            if ref.type == "ref/resource" and ref.uri in HIDDEN:
                raise errors.resource_not_found(ref.uri)
        elif request.name in HIDDEN or request.name.startswith("user://"):
            unknown = {
                "tools/call": errors.unknown_tool,
                "prompts/get": errors.unknown_prompt,
                "resources/read": errors.resource_not_found,
            }
            raise unknown[request.method](request.name)

    def shows(self, principal: Principal, method: str, name: str) -> bool:
        return name not in HIDDEN


def guarded(stage: Stage) -> World:
    """A server that hides some of what it has."""
    gates: Gates = msgspec.structs.replace(permissive_gates(Catalog([stage.provider])), authorize=HidesSome())
    return World(stage.provider, gates=gates)


@everywhere
class Lists(Interaction):
    @holds("server.tools/list.1", "server.tools/schema.1")
    def test_all_tools_with_their_schemas(self) -> None:
        tools = {tool["name"]: tool for tool in self.client.request("tools/list").result["tools"]}
        self.assertIn("echo", tools)
        self.assertEqual(tools["echo"]["annotations"], {"readOnlyHint": True})
        self.assertEqual(tools["weather"]["outputSchema"]["required"], ["city", "celsius"])
        for tool in tools.values():
            self.assertEqual(tool["inputSchema"]["type"], "object")
            self.assertNotIn("ctx", tool["inputSchema"].get("properties", {}))

    @holds("server.tools/list.1", "server.tools/changed.1")
    def test_the_list_changes(self) -> None:
        heard = self.client.request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        deaf = self.client.another()
        other = deaf.request("subscriptions/listen", {"notifications": {"promptsListChanged": True}})
        before = len(self.client.request("tools/list").result["tools"])
        self.stage.provider.remove_tool("add")
        self.stage.provider.add_tool(added)
        self.assertEqual(len(heard.noted("tools/list_changed")), 2)
        self.assertEqual(other.noted("tools/list_changed"), [])
        names = [tool["name"] for tool in self.client.request("tools/list").result["tools"]]
        self.assertEqual(len(names), before)
        self.assertIn("added", names)
        self.assertEqual(self.client.call("add", {"a": 1, "b": 1}).code, -32602)
        self.assertEqual(self.client.call("added").text, "new")

    @holds("server.tools/list.1")
    def test_an_empty_list(self) -> None:
        provider = Provider("p")
        provider.add_tool(added)
        client = self.again(provider)
        client.request("tools/list")
        provider.remove_tool("added")
        self.assertEqual(client.request("tools/list").result["tools"], [])

    @holds("server.tools/list.2", "server.tools/list.3")
    def test_the_same_for_everybody_and_always(self) -> None:
        first = self.client.request("tools/list").result
        for tool in ("echo", "broken", "register"):
            self.client.call(tool, {"text": "a"} if tool == "echo" else {}, capabilities={"elicitation": {}})
        self.flushLoggedErrors(RuntimeError)
        other = self.client.another()
        self.assertEqual(other.request("tools/list", capabilities={"roots": {}}).result, first)
        self.assertEqual(self.client.request("tools/list").result, first)

    @holds("server.tools/list.3")
    def test_the_order_does_not_depend_on_the_order_of_registration(self) -> None:
        def listed(*names: str) -> list[str]:
            provider = Provider("p")
            for name in names:
                provider.add_tool(added, name=name)
            return [tool["name"] for tool in self.again(provider).request("tools/list").result["tools"]]

        self.assertEqual(listed("b", "a", "C", "c"), listed("c", "C", "a", "b"))


async def added() -> str:
    """New."""
    return "new"


class Names(Interaction):
    @holds("server.tools/names.1", "server.tools/names.3", "server.tools/names.4")
    def test_what_names_may_be(self) -> None:
        provider = Provider("p")
        for name in ("a", "x" * 128, "a.B-c_9", "DATA_EXPORT_v2"):
            provider.add_tool(added, name=name)
        for name in ("x" * 129, "a b", "a,b", "a/b", "ä", "a\n", "🦊"):
            with self.assertRaises(ValueError):
                provider.add_tool(added, name=name)
        self.assertEqual(len(self.again(provider).request("tools/list").result["tools"]), 4)

    @holds("server.tools/names.2")
    def test_case_matters(self) -> None:
        self.assertEqual(self.client.call("Echo", {"text": "a"}).code, -32602)
        self.stage.provider.add_tool(added, name="Echo")
        self.assertEqual(self.client.call("Echo").text, "new")
        self.assertEqual(self.client.call("echo", {"text": "a"}).text, "a")

    @holds("server.tools/names.5", "server.tools/names.6")
    def test_names_are_unique(self) -> None:
        with self.assertRaisesRegex(ValueError, "echo"):
            self.stage.provider.add_tool(added, name="echo")
        other = Provider("other")
        other.add_tool(added, name="echo")
        with self.assertRaisesRegex(NameCollision, "'stage' and 'other'.*'echo'"):
            World(self.stage.provider, other)
        world = World(self.stage.provider, second := Provider("second"))
        client = self.connect(world)
        second.add_tool(added, name="echo")
        self.assertEqual(client.call("echo", {"text": "first"}).text, "first")
        names = [tool["name"] for tool in client.request("tools/list").result["tools"]]
        self.assertEqual(names.count("echo"), 1)


@everywhere
class Calls(Interaction):
    @holds("server.tools/structured.1", "server.tools/output.1")
    def test_structured_content(self) -> None:
        result = self.client.call("weather", {"city": "Ulm"}).result
        self.assertEqual(result["structuredContent"], {"city": "Ulm", "celsius": 21.5})
        self.assertEqual(json.loads(result["content"][0]["text"]), result["structuredContent"])

    @holds("server.tools/output.1")
    def test_structured_content_that_does_not_fit_is_not_sent(self) -> None:
        sent = self.client.call("misfit")
        self.assertEqual(sent.code, -32603)
        self.assertNotIn("celsius", json.dumps(sent.response))

    def test_content(self) -> None:
        blocks = self.client.call("media").result["content"]
        self.assertEqual(
            [one["type"] for one in blocks], ["text", "image", "audio", "resource", "resource_link"]
        )
        uri = blocks[3]["resource"]["uri"]
        self.assertIn("resources", self.client.request("server/discover").result["capabilities"])
        self.assertEqual(
            self.client.request("resources/read", {"uri": uri}).result["contents"][0]["text"], "{}"
        )

    @holds("server.tools/errors.1")
    def test_protocol_errors(self) -> None:
        for params in (
            {"name": "unknown"},
            {"name": "unknown", "arguments": {}},
            {},
            {"name": 5},
            {"name": "echo", "arguments": []},
            {"name": "echo", "arguments": "text"},
        ):
            sent = self.client.request("tools/call", params, valid=False)
            if self.client.on_http and params.get("name") == 5:
                self.assertIn(sent.code, (-32602, -32020))
            else:
                self.assertEqual(sent.code, -32602)
        self.assertEqual(self.stage.seen, [])

    @holds("server.tools/errors.1", "schema/tool-errors.1", "server.tools/security.1")
    def test_errors_for_the_model(self) -> None:
        cases: tuple[tuple[str, dict[str, Any], str], ...] = (
            ("picky", {"day": "yesterday"}, "yesterday is in the past"),
            ("echo", {"text": 5}, "text"),
            ("echo", {}, "text"),
            ("echo", {"text": "a", "more": 1}, "more"),
            ("add", {"a": "1", "b": 2}, "a"),
            ("broken", {}, "internal error"),
        )
        for tool, arguments, words in cases:
            result = self.client.call(tool, arguments).result
            self.assertTrue(result["isError"], tool)
            self.assertIn(words, result["content"][0]["text"])
        self.assertEqual(self.stage.seen, [])
        self.flushLoggedErrors(RuntimeError)

    @holds("server.tools/security.4")
    def test_internals_are_not_told(self) -> None:
        sent = [
            self.client.call("broken"),
            self.client.request("resources/read", {"uri": "broken://resource"}),
            self.client.request("prompts/get", {"name": "hopeless"}),
        ]
        for one in sent:
            self.assertTrue(one.answered)
            self.assertNotIn(SECRET, json.dumps(one.messages))
            self.assertNotIn("Traceback", json.dumps(one.messages))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)

    @holds("server.tools/security.4")
    def test_results_are_bounded(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def endless() -> str:
            return "x" * (16 * 1024 * 1024 + 1)

        @provider.tool
        async def surrogate() -> str:
            return "\ud800"

        client = self.again(provider)
        self.assertEqual(client.call("endless").code, -32603)
        self.assertTrue(client.call("surrogate").result["isError"])
        self.flushLoggedErrors(UnicodeEncodeError)


@everywhere
class Access(Interaction):
    """What a caller may not use it neither sees nor reaches, and it is never said to be public."""

    def setUp(self) -> None:
        super().setUp()
        self.world = guarded(self.stage)
        self.client = self.connect()

    @holds(
        "server.tools/security.2", "server.tools/list.1", "server.resources/security.2", "server.resources/security.4",
        "server.resources/list.1", "server.prompts/list.1", "server.utilities.caching/security.2",
        "server.utilities.caching/security.3",
    )  # fmt: skip
    def test_hidden_and_out_of_reach(self) -> None:
        for method, field, key in (
            ("tools/list", "tools", "name"),
            ("resources/list", "resources", "uri"),
            ("resources/templates/list", "resourceTemplates", "uriTemplate"),
            ("prompts/list", "prompts", "name"),
        ):
            names = [one[key] for one in self.client.request(method).result[field]]
            self.assertEqual(set(names) & set(HIDDEN), set())
        denied = self.client.call("broken").error
        unknown = self.client.call("unknown").error
        self.assertEqual(denied["code"], unknown["code"])
        self.assertEqual(denied["message"].replace("broken", "unknown"), unknown["message"])
        for uri in ("pic://logo", "user://ann/profile"):
            self.assertEqual(self.client.request("resources/read", {"uri": uri}).code, -32602)
        self.assertEqual(self.client.request("prompts/get", {"name": "gallery"}).code, -32602)
        self.assertEqual(self.stage.seen, [])
        self.assertEqual(self.client.call("echo", {"text": "open"}).text, "open")

    @holds("server.utilities.caching/security.1")
    def test_never_public(self) -> None:
        for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
            self.assertEqual(self.client.request(method).result["cacheScope"], "private")

    @holds("server.resources/security.4")
    def test_no_subscription_to_what_may_not_be_read(self) -> None:
        wanted = {"resourceSubscriptions": ["config://settings", "pic://logo"]}
        sent = self.client.request("subscriptions/listen", {"notifications": wanted})
        [accepted] = sent.noted("subscriptions/acknowledged")
        self.assertEqual(accepted["notifications"], {"resourceSubscriptions": ["config://settings"]})
        self.stage.provider.notify_updated("pic://logo")
        self.assertEqual(len(sent.notifications), 1)


class Mirrored(Interaction):
    """``x-mcp-header`` at registration: clients would drop the tool, so it is refused."""

    def offer(self, schema: dict[str, Any]) -> dict[str, Any]:
        provider = Provider("p")

        async def tool(**arguments: Any) -> str:
            return ""

        provider.add_tool(tool, input_schema={"type": "object", **schema})
        [found] = self.again(provider).request("tools/list").result["tools"]
        properties: dict[str, Any] = found["inputSchema"]["properties"]
        return properties

    def refused_header(self, header: Any, **more: Any) -> None:
        with self.assertRaises(InvalidSchema):
            self.offer({"properties": {"a": {"type": "string", "x-mcp-header": header, **more}}})

    @holds(
        "server.tools/header.1", "basic.transports.streamable-http/x-mcp-header.1",
        "basic.transports.streamable-http/x-mcp-header.2", "basic.transports.streamable-http/x-mcp-header.3",
    )  # fmt: skip
    def test_names_of_headers(self) -> None:
        self.refused_header("")
        for header in ("a b", "a:b", "a/b", "(a)", "ä", "a\r\nX: y", "\x00", "\x7f", "a\t", 5, None, ["a"]):
            self.refused_header(header)
        self.assertEqual(
            self.offer(
                {"properties": {"a": {"type": "string", "x-mcp-header": "!#$%&'*+-.^_`|~9Az"}}}
            ).keys(),
            {"a"},
        )

    @holds("basic.transports.streamable-http/x-mcp-header.4")
    def test_unique_whatever_the_case(self) -> None:
        for first, second in (("Region", "Region"), ("Region", "REGION")):
            with self.assertRaises(InvalidSchema):
                self.offer(
                    {"properties": {
                        "a": {"type": "string", "x-mcp-header": first},
                        "b": {"type": "object", "properties": {"c": {"type": "string", "x-mcp-header": second}}},
                    }}
                )  # fmt: skip

    @holds("basic.transports.streamable-http/x-mcp-header.5")
    def test_primitive_types(self) -> None:
        for kind in ("number", "array", "object", "null", ["string", "integer"]):
            self.refused_header("A", type=kind)
        for kind in ("string", "integer", "boolean"):
            self.offer({"properties": {"a": {"type": kind, "x-mcp-header": "A"}}})

    @holds("basic.transports.streamable-http/x-mcp-header.6")
    def test_integers_are_bounded(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def tool(n: Annotated[int, Field(header="N")]) -> str:
            return str(n)

        client = self.again(provider)
        [found] = client.request("tools/list").result["tools"]
        bounds = found["inputSchema"]["properties"]["n"]
        self.assertEqual((bounds["minimum"], bounds["maximum"]), (-(2**53) + 1, 2**53 - 1))
        self.assertEqual(client.call("tool", {"n": 2**53 - 1}).text, str(2**53 - 1))
        self.assertTrue(client.call("tool", {"n": 2**53}).result["isError"])

    @holds("basic.transports.streamable-http/x-mcp-header.7")
    def test_reached_through_properties_alone(self) -> None:
        mirrored = {"type": "string", "x-mcp-header": "A"}
        inside = {"type": "object", "properties": {"b": mirrored}}
        self.offer({"properties": {"a": inside}})
        for schema in (
            {"properties": {"a": {"type": "array", "items": mirrored}}},
            {"properties": {"a": {"type": "array", "prefixItems": [inside]}}},
            {"properties": {"a": {"anyOf": [mirrored]}}},
            {"properties": {"a": {"not": mirrored}}},
            {"properties": {}, "allOf": [inside]},
            {"properties": {}, "if": inside, "then": inside},
            {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": mirrored}},
            {"properties": {}, "additionalProperties": mirrored},
            {"properties": {}, "patternProperties": {"x": mirrored}},
            {"properties": {}, "x-mcp-header": "A"},
        ):
            with self.assertRaises(InvalidSchema, msg=str(schema)):
                self.offer(schema)
