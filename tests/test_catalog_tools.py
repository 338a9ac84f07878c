"""Tools: definitions, results, errors."""

import dataclasses
import datetime as dt
import enum
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NewType, TypedDict

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import (
    Audio,
    EmbeddedResource,
    Field,
    Image,
    InputDeclined,
    Message,
    Provider,
    ResourceLink,
    ToolError,
)
from erlmcp.catalog import Block, Content, InexpressibleHint, InvalidSchema, Text, ToolResult
from erlmcp.catalog._tools import is_structured
from erlmcp.interfaces import Complete, NeedsInput
from erlmcp.protocol import McpError, errors
from tests.catalog_calls import Conversation, call, call_request, finish, text, wire


class Weather(TypedDict):
    degrees: float


@dataclasses.dataclass
class Forecast:
    day: dt.date
    degrees: float = 1.5


@dataclasses.dataclass
class Span:
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError("backwards")
        if self.first == self.last:
            raise ValueError


class Level(enum.Enum):
    LOW = "low"


class Named(msgspec.Struct):
    name: str


Id = NewType("Id", int)
Ids = NewType("Ids", list[int])


def returning(value: Any, **options: Any) -> Provider:
    provider = Provider("p")

    async def tool() -> Any:
        return value

    provider.add_tool(tool, **options)
    return provider


class DefinitionTests(SynchronousTestCase):
    """What lists send."""

    def test_everything(self) -> None:
        provider = Provider("p")

        @provider.tool(
            name="deploy.now",
            title="Deploy",
            description="Ship it.",
            annotations={"destructiveHint": True, "idempotentHint": True, "readOnlyHint": False},
            icons=["https://example.com/i.png", {"src": "data:,", "sizes": ["any"], "theme": "dark"}],
            timeout=5.0,
            replay=True,
            meta={"example.com/k": 1},
        )
        async def deploy(service: Annotated[str, Field(header="Service")], count: int = 1) -> Forecast:
            raise AssertionError(service, count)

        definition = provider.definitions().tools["deploy.now"]
        self.assertEqual(
            wire(definition.wire),
            {
                "name": "deploy.now",
                "title": "Deploy",
                "description": "Ship it.",
                "icons": [
                    {"src": "https://example.com/i.png"},
                    {"src": "data:,", "sizes": ["any"], "theme": "dark"},
                ],
                "annotations": {"destructiveHint": True, "idempotentHint": True, "readOnlyHint": False},
                "_meta": {"example.com/k": 1},
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        "service": {"type": "string", "x-mcp-header": "Service"},
                        "count": {"type": "integer", "default": 1},
                    },
                    "required": ["service"],
                    "additionalProperties": False,
                },
                "outputSchema": {
                    "type": "object",
                    "properties": {
                        "day": {"type": "string", "format": "date"},
                        "degrees": {"type": "number", "default": 1.5},
                    },
                    "required": ["day"],
                },
            },
        )
        self.assertEqual(definition.header_parameters[0].header, b"mcp-param-service")
        self.assertTrue(definition.idempotent)
        self.assertFalse(definition.read_only)
        self.assertTrue(definition.replay)
        self.assertEqual(definition.timeout, 5.0)

    def test_no_parameters(self) -> None:
        """The recommended schema for none (server/tools, Tool)."""
        schema = wire(returning(1).definitions().tools["tool"].wire)["inputSchema"]
        self.assertEqual(schema, {"type": "object", "additionalProperties": False})

    def test_refused_options(self) -> None:
        for options, words in (
            ({"name": "has space"}, "tool name 'has space'"),
            ({"name": "x" * 129}, "1 to 128"),
            ({"annotations": {"readonly": True}}, "unknown annotation 'readonly'"),
            ({"annotations": {"readOnlyHint": "yes"}}, "is a bool"),
            ({"icons": [{"sizes": ["any"]}]}, "needs src"),
            ({"icons": [{"src": "x", "colour": "red"}]}, "colour"),
            ({"input_schema": {"type": "array"}}, '"type": "object"'),
            ({"input_schema": True}, '"type": "object"'),
            ({"input_schema": {"type": "object", "required": 3}}, "tool"),
            ({"output_schema": {"type": "nothing"}}, "tool"),
            ({"output_schema": {}, "structured": False}, "contradicts"),
        ):
            error = self.assertRaises(ValueError, returning, 1, **options)
            self.assertIn(words, str(error))

    def test_header_on_a_union(self) -> None:
        """Clients would drop such a tool, so it cannot be registered."""

        async def tool(a: Annotated[str | None, Field(header="A")]) -> None: ...

        error = self.assertRaises(InvalidSchema, Provider("p").add_tool, tool)
        self.assertIn("tool 'tool': x-mcp-header of a", str(error))

    def test_own_schema_passes_arguments_on(self) -> None:
        provider = Provider("p")
        schema = {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "additionalProperties": True,
        }

        @provider.tool(input_schema=schema)
        async def collect(**arguments: Any) -> str:
            return repr(arguments)

        self.assertEqual(text(call(provider, "collect", {"a": 1.0})), "{'a': 1.0}")
        self.assertEqual(wire(provider.definitions().tools["collect"].wire)["inputSchema"], schema)


class StructuredTests(SynchronousTestCase):
    """Which return hints stand for structured output."""

    def test_table(self) -> None:
        for hint, expected in (
            (str, False),
            (int, False),
            (float, False),
            (bool, False),
            (None, False),
            (Any, False),
            (object, False),
            (list, False),
            (Level, False),
            (Id, False),
            (Ids, True),
            (Literal["a"], False),
            (Image, False),
            (Text, False),
            (ToolResult, False),
            (Complete, False),
            (Complete | NeedsInput, False),
            (list[Image], False),
            (list[str | Image], False),
            (dict[str, Image], False),
            (list[Any], True),
            (list[str], True),
            (dict, True),
            (dict[str, Any], True),
            (Weather, True),
            (Forecast, True),
            (Forecast | None, True),
            (Forecast | str, False),
            (Annotated[Forecast, "x"], True),
            (Mapping[str, int], True),
            (tuple[int, int], True),
        ):
            self.assertIs(is_structured(hint), expected, hint)

    def test_on_demand(self) -> None:
        """``structured`` overrides the hint, both ways."""
        provider = Provider("p")

        @provider.tool(structured=True)
        async def scalar() -> float:
            return 1.5

        @provider.tool(structured=False)
        async def plain() -> Weather:
            return {"degrees": 1.5}

        self.assertEqual(call(provider, "scalar")["structuredContent"], 1.5)
        self.assertEqual(call(provider, "plain"), {"content": [{"type": "text", "text": '{"degrees":1.5}'}]})

    def test_refused(self) -> None:
        def untyped():  # type: ignore[no-untyped-def]
            return 1

        def raw() -> bytes:
            return b""

        def odd() -> dict[str, "set[list[int]]"]:
            return {}

        for function, options, words in (
            (untyped, {"structured": True}, "needs a return hint"),
            (raw, {}, "bytes are no result"),
            (odd, {}, "its return value"),
        ):
            error = self.assertRaises(InexpressibleHint, Provider("p").add_tool, function, **options)
            self.assertIn(words, str(error))


class ResultTests(SynchronousTestCase):
    """What handlers return -> content."""

    def test_plain_values(self) -> None:
        for value, expected in (
            ("text", "text"),
            ("héllo", "héllo"),
            (1, "1"),
            (1.5, "1.5"),
            (True, "true"),
            ({"a": 1}, '{"a":1}'),
            (["a", "b"], '["a","b"]'),
            (dt.date(2026, 7, 28), '"2026-07-28"'),
            (Forecast(dt.date(2026, 7, 28)), '{"day":"2026-07-28","degrees":1.5}'),
        ):
            self.assertEqual(
                call(returning(value), "tool"), {"content": [{"type": "text", "text": expected}]}
            )
        self.assertEqual(call(returning(None), "tool"), {"content": []})

    def test_content(self) -> None:
        annotations = {"audience": ["user"], "priority": 0.5, "lastModified": "2026-07-28T00:00:00Z"}
        for value, block in (
            (Image(b"\x00"), {"type": "image", "data": "AA==", "mimeType": "image/png"}),
            (Image("AA==", "image/gif"), {"type": "image", "data": "AA==", "mimeType": "image/gif"}),
            (Audio(b"\x00"), {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}),
            (
                Text("t", annotations=annotations, meta={"k": 1}),
                {"type": "text", "text": "t", "annotations": annotations, "_meta": {"k": 1}},
            ),
            (
                EmbeddedResource("a://b", "t", "text/plain"),
                {"type": "resource", "resource": {"uri": "a://b", "mimeType": "text/plain", "text": "t"}},
            ),
            (
                EmbeddedResource("a://b", b"\x00"),
                {"type": "resource", "resource": {"uri": "a://b", "blob": "AA=="}},
            ),
            (
                ResourceLink("a://b", "n", title="T", size=3, mime_type="text/plain", icons=["i:"]),
                {
                    "type": "resource_link",
                    "uri": "a://b",
                    "name": "n",
                    "title": "T",
                    "mimeType": "text/plain",
                    "size": 3,
                    "icons": [{"src": "i:"}],
                },
            ),
            (Block({"type": "new", "x": 1}), {"type": "new", "x": 1}),
        ):
            self.assertEqual(call(returning(value), "tool"), {"content": [block]})

    def test_mixed_list(self) -> None:
        fields = call(returning(["a", Image(b""), {"b": 1}, None, 2]), "tool")
        self.assertEqual(
            [block.get("text", block["type"]) for block in fields["content"]], ["a", "image", '{"b":1}', "2"]
        )

    def test_whole_result(self) -> None:
        for value, fields in (
            (
                ToolResult(content=["a"], is_error=True, meta={"k": 1}),
                {"content": [{"type": "text", "text": "a"}], "isError": True, "_meta": {"k": 1}},
            ),
            (
                ToolResult(structured=[1]),
                {"content": [{"type": "text", "text": "[1]"}], "structuredContent": [1]},
            ),
            (
                ToolResult(content=["one"], structured={"n": 1}),
                {"content": [{"type": "text", "text": "one"}], "structuredContent": {"n": 1}},
            ),
            (Complete({"content": [], "x": 1}), {"content": [], "x": 1}),
        ):
            self.assertEqual(call(returning(value), "tool"), fields)

    def test_structured(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def weather() -> Weather:
            return {"degrees": 1.5}

        @provider.tool
        async def forecast() -> list[Forecast]:
            return [Forecast(dt.date(2026, 7, 28))]

        @provider.tool
        async def whole() -> Weather:
            return ToolResult(content=["warm"], structured={"degrees": 2})  # type: ignore[return-value]

        @provider.tool
        async def passed() -> Weather:
            return Complete({"content": [], "structuredContent": {"degrees": 3}})  # type: ignore[return-value]

        @provider.tool(output_schema={"type": "object", "required": ["n"]})
        async def own() -> Any:
            return {"n": dt.date(2026, 7, 28)}

        self.assertEqual(
            call(provider, "weather"),
            {"content": [{"type": "text", "text": '{"degrees":1.5}'}], "structuredContent": {"degrees": 1.5}},
        )
        day = {"day": "2026-07-28", "degrees": 1.5}
        self.assertEqual(call(provider, "forecast")["structuredContent"], [day])
        self.assertEqual(call(provider, "whole")["structuredContent"], {"degrees": 2})
        self.assertEqual(call(provider, "passed")["structuredContent"], {"degrees": 3})
        self.assertEqual(call(provider, "own")["structuredContent"], {"n": "2026-07-28"})

    def test_needs_input_passes(self) -> None:
        wanted = NeedsInput({"k": {"method": "roots/list"}}, "s")
        for hint in (Any, Weather):
            provider = Provider("p")

            async def tool() -> Any:
                return wanted

            tool.__annotations__["return"] = hint
            provider.add_tool(tool)
            made = call_request("tool")
            made.target = provider.definitions().tools["tool"]
            made.arguments = {}
            self.assertIs(self.successResultOf(finish(provider.dispatch(made))), wanted)

    def test_refused_content(self) -> None:
        for make, words in (
            (lambda: Text("x", annotations={"audience": ["robot"]}), "audience"),
            (lambda: Text("x", annotations={"priority": 2}), "priority"),
            (lambda: Text("x", annotations={"priority": True}), "priority"),
            (lambda: Text("x", annotations={"lastModified": 3}), "lastModified"),
            (lambda: Text("x", annotations={"color": 1}), "unknown annotation 'color'"),
            (lambda: Text("\ud800"), "surrogates"),
            (lambda: Block({"text": "x"}), "type"),
            (lambda: Message("x", "system"), "'user' or 'assistant'"),  # type: ignore[arg-type]
        ):
            error = self.assertRaises(ValueError, make)
            self.assertIn(words, str(error))
        self.assertRaises(TypeError, Message, 3)
        self.assertRaises(TypeError, EmbeddedResource, "a://b", 3)
        self.assertRaises(NotImplementedError, Content(None, None).block)


class ErrorTests(SynchronousTestCase):
    """What handlers raise (revision 2026-07-28, server/tools, Error Handling)."""

    def raising(self, error: BaseException) -> Provider:
        provider = Provider("p")

        @provider.tool
        async def tool() -> str:
            raise error

        return provider

    def test_tool_error(self) -> None:
        for error in (ToolError("no such city"), InputDeclined("decline", "no such city")):
            self.assertEqual(
                call(self.raising(error), "tool"),
                {"content": [{"type": "text", "text": "no such city"}], "isError": True},
            )

    def test_others_are_logged_and_hidden(self) -> None:
        """The client gets an id, and the log has it together with the error."""
        fields = call(self.raising(KeyError("secret detail")), "tool")
        self.assertTrue(fields["isError"])
        self.assertNotIn("secret", text(fields))
        (failure,) = self.flushLoggedErrors(KeyError)
        self.assertIn("secret detail", failure.getErrorMessage())
        self.assertIsNotNone(re.search(r"\b[0-9a-f]{12}\b", text(fields)))

    def test_unsendable_results(self) -> None:
        """A result that JSON cannot carry is the tool's failure, not the transport's."""
        for value, kind in (
            ("\ud800", UnicodeEncodeError),
            (b"raw", TypeError),
            (object(), TypeError),
            ([Image(b""), b"raw"], TypeError),
        ):
            fields = call(returning(value), "tool")
            self.assertTrue(fields["isError"])
            self.assertEqual(len(self.flushLoggedErrors(kind)), 1)

    def test_protocol_errors_and_cancellation_pass(self) -> None:
        for error, kind in ((errors.invalid_params("x"), McpError), (CancelledError(), CancelledError)):
            self.assertRaises(kind, call, self.raising(error), "tool")

    def test_values_that_only_the_schema_admits(self) -> None:
        """A class that refuses what its fields' types admit: an error that says so, as the schema's would."""
        provider = Provider("p")

        @provider.tool
        async def tool(span: Span) -> str:
            return str(span)

        for value, words in (
            ({"first": 2, "last": 1}, "span: backwards"),
            ({"first": 0, "last": 0}, "span: ValueError"),
        ):
            fields = call(provider, "tool", {"span": value})
            self.assertTrue(fields["isError"])
            self.assertEqual(text(fields), words)

    def test_arguments_that_are_left_out(self) -> None:
        """The function's own default holds, unconverted."""
        provider = Provider("p")

        @provider.tool
        async def tool(count: int = 3, day: dt.date | None = None) -> str:
            return f"{count} {day}"

        self.assertEqual(text(call(provider, "tool", {"count": 1.0})), "1 None")
        self.assertEqual(text(call(provider, "tool", {"day": "2026-07-28"})), "3 2026-07-28")

    def test_waits(self) -> None:
        """A coroutine that awaits a Deferred goes on with its result."""
        provider = Provider("p")
        waiting: Deferred[str] = Deferred()

        @provider.tool
        async def tool() -> str:
            return await waiting

        made = call_request("tool", conversation=Conversation())
        made.target = provider.definitions().tools["tool"]
        made.arguments = {}
        outcome = finish(provider.dispatch(made))
        self.assertNoResult(outcome)
        waiting.callback("late")
        self.assertEqual(
            self.successResultOf(outcome).fields, {"content": [{"type": "text", "text": "late"}]}
        )

    def test_struct_as_result(self) -> None:
        self.assertEqual(text(call(returning(Named("x")), "tool")), '{"name":"x"}')
