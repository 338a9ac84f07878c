"""The catalog of all backends, and the gates that ask it."""

import re
from typing import Annotated, Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from erlmcp import Context, Field, Provider
from erlmcp.catalog import AnswerGate, Catalog, InvalidArguments, NameCollision, ValidateGate
from erlmcp.catalog._gates import weight
from erlmcp.interfaces import (
    Change,
    Complete,
    Definitions,
    IBackend,
    IClaims,
    IGate,
    NeedsInput,
    ResourceDefinition,
    ToolDefinition,
)
from erlmcp.protocol import McpError
from tests.catalog_calls import call_request, request, wire


async def nothing() -> None: ...


async def word(a: str) -> str:
    return a


def offering(name: str, *tools: str, **settings: Any) -> Provider:
    provider = Provider(name, **settings)
    for tool in tools:
        provider.add_tool(nothing, name=tool)
    return provider


@implementer(IBackend)
class Upstream:
    """A backend of another kind, as a gateway has."""

    def __init__(self, name: str, definitions: Definitions) -> None:
        self.name = name
        self._definitions = definitions

    def definitions(self) -> Definitions:
        return self._definitions

    def watch(self, watcher: Any) -> Any:
        return lambda: None

    def dispatch(self, made: Any) -> Any:
        raise AssertionError


@implementer(IClaims)
class Claiming(Upstream):
    """One whose resources begin with its name, listed or not."""

    def claim(self, uri: str) -> ResourceDefinition | None:
        if not uri.startswith(f"{self.name}+"):
            return None
        return ResourceDefinition(uri=uri, wire=msgspec.Raw(b"{}"))


class ClaimTests(SynchronousTestCase):
    """Resources that results link to and no list has."""

    def test_claimed(self) -> None:
        listed = ResourceDefinition(uri="a+x:listed", wire=msgspec.Raw(b"{}"))
        one = Claiming("a", Definitions(resources={"a+x:listed": listed}))
        other = Claiming("b", Definitions())
        verifyObject(IClaims, one)
        catalog = Catalog([Upstream("plain", Definitions()), one, other])
        self.assertEqual(catalog.find("resources/read", "a+x:listed"), (one, listed))
        found = catalog.find("resources/read", "b+x:unlisted")
        assert found is not None
        self.assertEqual((found[0], found[1].uri), (other, "b+x:unlisted"))
        self.assertEqual(catalog.find_reference("ref/resource", "b+x:unlisted"), found)
        self.assertIsNone(catalog.find("resources/read", "x:unlisted"))
        self.assertIsNone(catalog.find("tools/call", "a+x"))
        self.assertIsNone(catalog.find_reference("ref/prompt", "a+x"))
        self.assertNotIn("a+x", [bytes(entry) for entry in catalog.page("resources", None, 10)[0]])


class CatalogTests(SynchronousTestCase):
    """Many backends as one."""

    def test_find(self) -> None:
        first, second = offering("first", "a"), offering("second", "b")
        second.add_prompt(word)
        second.add_resource("x:1", nothing)
        catalog = Catalog([first, second])
        self.assertEqual(catalog.backends, (first, second))
        for method, name, backend in (
            ("tools/call", "a", first),
            ("tools/call", "b", second),
            ("prompts/get", "word", second),
            ("resources/read", "x:1", second),
        ):
            found = catalog.find(method, name)
            assert found is not None
            self.assertIs(found[0], backend)
        for method in ("tools/call", "prompts/get", "resources/read"):
            self.assertIsNone(catalog.find(method, "none"))

    def test_templates(self) -> None:
        """A resource wins over a template, the longer beginning over the shorter."""
        provider = Provider("p")
        provider.add_resource("x:{+a}", word)
        provider.add_resource("x:special/{a}", word, name="special")
        provider.add_resource("x:special/one", nothing, name="one")
        catalog = Catalog([provider])
        for uri, name in (("x:special/one", "one"), ("x:special/two", "special"), ("x:other/two", "word")):
            found = catalog.find("resources/read", uri)
            assert found is not None
            self.assertEqual(wire(found[1].wire)["name"], name)

    def test_references(self) -> None:
        provider = Provider("p")
        provider.add_prompt(word)
        provider.add_resource("x:{a}", word)
        catalog = Catalog([provider])
        for kind, name, known in (
            ("ref/prompt", "word", True),
            ("ref/prompt", "x:{a}", False),
            ("ref/resource", "x:{a}", True),
            ("ref/resource", "x:1", True),
            ("ref/resource", "y:1", False),
        ):
            self.assertEqual(catalog.find_reference(kind, name) is not None, known, name)

    def test_pages(self) -> None:
        """In the order of names, whatever backend they are of, with nothing lost or doubled."""
        catalog = Catalog([offering("first", "d", "b", "a"), offering("second", "c", "e")])

        def names(found: list[msgspec.Raw]) -> list[str]:
            return [wire(raw)["name"] for raw in found]

        pages = []
        after = None
        while True:
            found, after = catalog.page("tools", after, 2)
            pages.append(names(found))
            if after is None:
                break
        self.assertEqual(pages, [["a", "b"], ["c", "d"], ["e"]])
        self.assertEqual(catalog.page("tools", None, 5)[1], None)
        found, after = catalog.page("tools", None, 2, lambda name: name not in "ae")
        self.assertEqual((names(found), after), (["b", "c"], "c"))
        found, after = catalog.page("tools", after, 2, lambda name: name not in "ae")
        self.assertEqual((names(found), after), (["d"], None))
        self.assertEqual(catalog.page("prompts", None, 2), ([], None))
        self.assertEqual(
            names(catalog.page("tools", "bb", 1)[0]), ["c"], "a name that has gone is a place still"
        )

    def test_capabilities(self) -> None:
        """What is offered is declared, and stays so when it goes: lists may be empty."""
        provider = Provider("p")
        catalog = Catalog([provider])
        self.assertEqual(catalog.capabilities(), {})
        provider.add_tool(nothing)
        self.assertEqual(catalog.capabilities(), {"tools": {"listChanged": True}})
        provider.remove_tool("nothing")

        async def logs(ctx: Context) -> str:
            return ctx.peer.transport

        provider.add_prompt(word)
        provider.add_completion("word", "a", word)
        provider.add_resource("x:{a}", word)
        provider.add_tool(logs)
        self.assertEqual(
            catalog.capabilities(),
            {
                "tools": {"listChanged": True},
                "prompts": {"listChanged": True},
                "resources": {"listChanged": True, "subscribe": True},
                "completions": {},
                "logging": {},
            },
        )

    def test_first_completion_while_running(self) -> None:
        """Suggestions that come while running are declared from then on."""
        provider = Provider("p")

        @provider.prompt
        async def word(a: str) -> str:
            return a

        async def suggest(value: str) -> list[str]:
            return [value]

        catalog = Catalog([provider])
        heard: list[Change] = []
        catalog.watch(heard.append)
        self.assertNotIn("completions", catalog.capabilities())
        provider.add_completion("word", "a", suggest)
        self.assertIn("completions", catalog.capabilities())
        self.assertEqual(heard, [Change("completions")])

    def test_merged_values(self) -> None:
        first = offering("first", instructions="One.", ttl=5)
        second = offering("second", instructions="Two.", ttl=3)
        catalog = Catalog([first, second])
        self.assertEqual((catalog.ttl_ms, catalog.cache_scope), (3000, "public"))
        self.assertEqual(catalog.instructions, "One.\n\nTwo.")
        catalog.add_backend(Upstream("up", Definitions(ttl_ms=9, cache_scope="private")))
        self.assertEqual((catalog.ttl_ms, catalog.cache_scope), (9, "private"))
        self.assertEqual((Catalog().ttl_ms, Catalog().cache_scope, Catalog().instructions), (0, "public", ""))

    def test_collisions(self) -> None:
        """A configuration error that names both."""
        error = self.assertRaises(NameCollision, Catalog, [offering("one", "a"), offering("two", "a")])
        self.assertIn("both 'one' and 'two' offer the tool 'a'", str(error))
        error = self.assertRaises(NameCollision, Catalog, [offering("one"), offering("one")])
        self.assertIn("two backends are called 'one'", str(error))

    def test_collision_while_running(self) -> None:
        """The backend configured first goes on answering, and the log says so."""
        first, second = offering("first"), offering("second", "a")
        catalog = Catalog([first, second])
        second_target = catalog.find("tools/call", "a")
        assert second_target is not None
        self.assertIs(second_target[0], second)
        first.add_tool(nothing, name="a")
        target = catalog.find("tools/call", "a")
        assert target is not None
        self.assertIs(target[0], first)

    def test_changes(self) -> None:
        """Watchers hear of each, when the catalog has it already."""
        first = offering("first", "a")
        catalog = Catalog([first])
        heard: list[tuple[Change, int]] = []
        end = catalog.watch(lambda change: heard.append((change, len(catalog.page("tools", None, 9)[0]))))
        first.add_tool(nothing, name="b")
        first.notify_updated("x:1")
        second = offering("second", "c")
        second.add_resource("x:{a}", word)
        catalog.add_backend(second)
        self.assertEqual(
            heard,
            [
                (Change("tools"), 2),
                (Change("updated", "x:1"), 2),
                (Change("tools"), 3),
                (Change("resources"), 3),
            ],
        )
        end()
        end()
        first.add_tool(nothing, name="d")
        self.assertEqual(len(heard), 4)
        catalog.watch(lambda change: heard.append((change, 0)))
        catalog.close()
        second.add_tool(nothing, name="e")
        self.assertEqual(len(heard), 4)


class ValidateGateTests(SynchronousTestCase):
    """Gate 5."""

    def setUp(self) -> None:
        self.provider = Provider("p")

        @self.provider.tool
        async def add(a: int, region: Annotated[str, Field(header="Region")] = "eu") -> str:
            return f"{a}{region}"

        self.provider.add_prompt(word)
        self.gate = ValidateGate(Catalog([self.provider]))

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IGate, self.gate))

    def refusal(self, made: Any) -> McpError:
        return self.assertRaises(McpError, self.gate.check, made)

    def test_passes(self) -> None:
        made = call_request("add", {"a": 1})
        self.assertIsNone(self.gate.check(made))
        self.assertIs(made.backend, self.provider)
        self.assertEqual((made.target.name, made.arguments), ("add", {"a": 1}))
        self.assertIsNone(self.gate.check(request("tools/list")))

    def test_unknown(self) -> None:
        for method, words in (
            ("tools/call", "Unknown tool: x:y"),
            ("prompts/get", "Unknown prompt: x:y"),
            ("resources/read", "Resource not found: x:y"),
        ):
            error = self.refusal(request(method, "x:y"))
            self.assertEqual(error.code, -32602)
            self.assertEqual(error.message, words)

    def test_arguments_that_are_no_object(self) -> None:
        for arguments in ([], "x", 3, None):
            for method, name in (("tools/call", "add"), ("prompts/get", "word")):
                made = request(method, name, {"arguments": arguments})
                error = self.refusal(made)
                self.assertEqual((error.code, error.message), (-32602, "params.arguments must be an object"))

    def test_schema(self) -> None:
        """The edge makes a result of it, so that the model can do better (server/tools, Error Handling)."""
        for arguments, words in (
            (None, '"a" is a required property'),
            ({"a": "x"}, 'a: "x" is not of type "integer"'),
            ({"a": 1, "b": 2}, "'b' was unexpected"),
        ):
            error = self.assertRaises(InvalidArguments, self.gate.check, call_request("add", arguments))
            self.assertTrue(str(error).startswith("Invalid arguments for tool add: "))
            self.assertIn(words, str(error))

    def test_without_schema(self) -> None:
        """An upstream validates itself."""
        tool = ToolDefinition(name="t", wire=msgspec.Raw(b"{}"))
        upstream = Upstream("up", Definitions(tools={"t": tool}))
        self.assertTrue(verifyObject(IBackend, upstream))
        made = call_request("t", {"any": 1})
        ValidateGate(Catalog([upstream])).check(made)
        self.assertEqual(made.arguments, {"any": 1})

    def test_mirrored_headers(self) -> None:
        """On HTTP they must be there and agree; elsewhere there are none."""
        for headers, arguments, code in (
            (None, {"a": 1, "region": "us"}, None),
            ({b"mcp-param-region": b"us"}, {"a": 1, "region": "us"}, None),
            ({}, {"a": 1}, None),
            ({b"mcp-param-region": b"eu"}, {"a": 1, "region": "us"}, -32020),
            ({}, {"a": 1, "region": "us"}, -32020),
            ({b"mcp-param-region": b"eu"}, {"a": 1}, -32020),
        ):
            made = call_request("add", arguments, headers=headers)
            if code is None:
                self.gate.check(made)
            else:
                self.assertEqual(self.refusal(made).code, code)

    def test_prompts(self) -> None:
        for arguments, words in (
            ({}, "needs the argument a"),
            ({"a": 1}, "argument a: must be a string"),
            ({"a": "x", "b": "y"}, "has no argument 'b'"),
        ):
            error = self.refusal(request("prompts/get", "word", {"arguments": arguments}))
            self.assertEqual(error.code, -32602)
            self.assertIn(words, error.message)
        self.assertIn("needs", self.refusal(request("prompts/get", "word")).message)
        made = request("prompts/get", "word", {"arguments": {"a": "x"}})
        self.gate.check(made)
        self.assertEqual(made.arguments, {"a": "x"})


class AnswerGateTests(SynchronousTestCase):
    """Gate 9."""

    def setUp(self) -> None:
        provider = Provider("p")
        schema = {"type": "object", "required": ["n"]}
        provider.add_tool(nothing, name="typed", output_schema=schema)
        provider.add_tool(nothing, name="plain")
        self.tools = provider.definitions().tools

    def check(self, tool: str, fields: dict[str, Any], size: int = 1000) -> None:
        made = call_request(tool)
        made.target = self.tools[tool]
        AnswerGate(size).check(made, Complete(fields))

    def test_structure(self) -> None:
        self.check("typed", {"content": [], "structuredContent": {"n": 1}})
        self.check("typed", {"content": [], "structuredContent": msgspec.Raw(b'{"n":1}')})
        self.check("typed", {"content": [], "isError": True})
        self.check("plain", {"content": [], "structuredContent": 3})
        for fields in (
            {"content": [], "structuredContent": {}},
            {"content": [], "structuredContent": msgspec.Raw(b"[]")},
            {"content": []},
            {"content": [], "isError": False},
        ):
            error = self.assertRaises(McpError, self.check, "typed", fields)
            self.assertEqual(error.code, -32603)
            self.assertIsNotNone(re.search("output schema", error.message))

    def test_size(self) -> None:
        """Whatever the parts are, they count."""
        text = {"type": "text", "text": "x" * 90}
        for fields in (
            {"content": [text]},
            {"content": [{**text, "annotations": {}}]},
            {"content": [text["text"]]},
            {"content": (text,)},
            {"content": [], "structuredContent": [1.5] * 11},
            {"content": msgspec.Raw(b"[" + b" " * 90 + b"]")},
            {"content": [{"type": "text", "text": msgspec.Raw(b'"' + b"x" * 90 + b'"')}]},
            {"x" * 90: None, "y": b"z"},
        ):
            self.check("plain", fields, size=1000)
            self.assertEqual(self.assertRaises(McpError, self.check, "plain", fields, 80).code, -32603)

    def test_default_and_others(self) -> None:
        made = call_request("plain")
        self.assertIsNone(AnswerGate().check(made, NeedsInput({}, "s")))
        self.assertIsNone(AnswerGate().check(made, Complete({"content": [{"type": "text", "text": "x"}]})))
        self.assertEqual(weight({"a": ["bc", 1]}, 100), 1 + 4 + 2 + 2 + 8)
