"""A provider whose definitions and results say all that can be said: each revision has something to leave out."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from erlmcp import (
    Audio,
    Context,
    EmbeddedResource,
    Image,
    Message,
    Provider,
    ResourceLink,
    Text,
)
from erlmcp.catalog import Contents, ToolResult
from erlmcp.protocol import Question

PNG = b"\x89PNG\r\n\x1a\n"
ICONS = [{"src": "https://example.com/i.png", "mimeType": "image/png", "sizes": ["48x48"], "theme": "dark"}]
NOTES: dict[str, Any] = {"audience": ["user"], "priority": 0.5, "lastModified": "2026-01-02T03:04:05Z"}
META = {"com.example/own": {"a": 1}}
SERVER: dict[str, Any] = {"title": "Ornate", "website": "https://example.com", "icons": ICONS}
"""What a server of it says of itself."""


@dataclass
class Point:
    """Structured output that is an object."""

    x: int
    y: int


@dataclass
class Visit:
    """A form with a field of each kind that a class can have."""

    name: str
    colour: Literal["red", "green"]
    age: int = 7
    weight: float = 1.5
    sure: bool = True
    motto: str = "none"


FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {
            "type": "string",
            "title": "Size",
            "oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}],
            "default": "l",
        },
        "when": {"type": "string", "format": "date-time", "description": "When"},
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        "sure": {"type": "boolean", "default": True},
    },
    "required": ["size"],
}
SEVERAL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "toppings": {"type": "array", "items": {"type": "string", "enum": ["ham", "egg"]}, "default": ["egg"]}
    },
}
SAMPLING_TOOL = {
    "name": "look",
    "title": "Look",
    "icons": ICONS,
    "inputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
}


class Ornate:
    """The provider.

    Attributes:
        provider: the provider.
    """

    common: ClassVar[dict[str, Any]] = {"title": "A title", "icons": ICONS, "meta": META}

    def __init__(self) -> None:
        self.provider = Provider("ornate", instructions="Look around.", ttl=5.0)
        self._offer_results()
        self._offer_questions()
        self._offer_resources()
        self._offer_prompts()

    def _offer_results(self) -> None:
        provider, common = self.provider, self.common

        @provider.tool(
            **common,
            annotations={"title": "Everything", "readOnlyHint": True, "openWorldHint": False},
        )
        async def everything() -> Any:
            """One block of each kind, with annotations and `_meta`."""
            return ToolResult(
                content=[
                    Text("text", annotations=NOTES, meta=META),
                    Image(PNG, annotations=NOTES, meta=META),
                    Audio(b"RIFF", annotations=NOTES, meta=META),
                    EmbeddedResource("memo://text", "{}", "text/plain", annotations=NOTES, meta=META),
                    EmbeddedResource("memo://blob", PNG, "image/png"),
                    ResourceLink(
                        "memo://text",
                        "text",
                        title="A link",
                        description="It leads there",
                        mime_type="text/plain",
                        size=2,
                        icons=ICONS,
                        annotations=NOTES,
                        meta=META,
                    ),
                ],
                meta=META,
            )

        @provider.tool(**common)
        async def point(x: int = 1) -> Point:
            """An object."""
            return Point(x, 2)

        @provider.tool(structured=True)
        async def numbers() -> list[int]:
            """An array."""
            return [1, 2]

        @provider.tool(structured=True)
        async def number() -> int:
            """A number."""
            return 5

        @provider.tool(output_schema={"anyOf": [{"type": "object"}, {"type": "null"}]})
        async def perhaps(there: bool = True) -> Any:
            """An object, or not."""
            return ToolResult(structured={"a": 1} if there else None)

        @provider.tool(
            input_schema={
                "type": "object",
                "properties": {"any": True, "where": {"type": "string", "x-mcp-header": "Where"}},
            }
        )
        async def free(**arguments: Any) -> str:
            """A schema of its own, with a parameter that modern clients mirror."""
            return str(sorted(arguments))

        @provider.tool
        async def sad() -> Any:
            """An error for the model."""
            return ToolResult(content=["sad"], is_error=True)

    def _offer_questions(self) -> None:
        provider = self.provider

        @provider.tool
        async def guest(ctx: Context) -> str:
            """A form made from a class."""
            answer = await ctx.elicit("Who?", Visit)
            return f"{answer.action} {answer.data}"

        @provider.tool
        async def form(ctx: Context) -> str:
            """A form with titled choices, formats and defaults."""
            answer = (await ctx.ask({"q": Question.elicit_form("Which?", FORM)}))["q"]
            return f"{answer['action']} {answer.get('content')}"

        @provider.tool
        async def several(ctx: Context) -> str:
            """A form that takes several choices."""
            answer = (await ctx.ask({"q": Question.elicit_form("Which?", SEVERAL)}))["q"]
            return f"{answer['action']} {answer.get('content')}"

        @provider.tool
        async def page(ctx: Context) -> str:
            """A page to visit."""
            return (await ctx.elicit_url("There.", "https://example.com/x")).action

        @provider.tool
        async def both(ctx: Context) -> str:
            """Two questions at once."""
            answers = await ctx.ask(
                {"form": Question.elicit_form("Which?", FORM), "roots": Question.list_roots()}
            )
            return f"{answers['form']['action']} {len(answers['roots']['roots'])}"

        @provider.tool
        async def sample(ctx: Context, tools: bool = False, context: bool = False) -> str:
            """Sampling with everything."""
            options: dict[str, Any] = {}
            if tools:
                options = {"tools": [SAMPLING_TOOL], "tool_choice": {"mode": "auto"}}
            if context:
                options["include_context"] = "thisServer"
            found = await ctx.sample(
                [Message("Write."), Message(Image(PNG), role="assistant")],
                max_tokens=10,
                system="Be brief.",
                temperature=0.5,
                stop=["."],
                preferences={"hints": [{"name": "small"}], "speedPriority": 1},
                metadata={"a": 1},
                **options,
            )
            return f"{found.model} {found.stop_reason}"

        @provider.tool
        async def places(ctx: Context) -> str:
            """The client's roots."""
            return " ".join(f"{root.uri} {root.name}" for root in await ctx.roots())

    def _offer_resources(self) -> None:
        provider, common = self.provider, self.common

        @provider.resource(
            "memo://text", **common, mime_type="text/plain", size=4, annotations=NOTES, ttl=9.0
        )
        async def text() -> Any:
            """Text."""
            return Contents("text", meta=META)

        @provider.resource("memo://blob", mime_type="image/png", cache_scope="public")
        async def blob() -> bytes:
            """Bytes."""
            return PNG

        @provider.resource("memo://{name}/page", **common, mime_type="text/plain", annotations=NOTES)
        async def page(name: str) -> str:
            """One of many."""
            return f"page {name}"

        @provider.completion("memo://{name}/page", "name")
        async def names(value: str) -> list[str]:
            return [f"{value}{number}" for number in range(150)]

    def _offer_prompts(self) -> None:
        provider, common = self.provider, self.common

        @provider.prompt(**common)
        async def critique(code: str, language: str = "python") -> Any:
            """Have code reviewed."""
            return [
                f"Review this {language}: {code}",
                Message(Text("Gladly.", annotations=NOTES, meta=META), role="assistant"),
                Image(PNG, annotations=NOTES),
                Audio(b"RIFF", annotations=NOTES, meta=META),
                EmbeddedResource("memo://text", "{}", "text/plain", annotations=NOTES, meta=META),
                ResourceLink("memo://text", "text", icons=ICONS),
            ]

        @provider.completion("critique", "language")
        async def languages(value: str, context: dict[str, str]) -> list[str]:
            found = ["perl", "python"] if context.get("code", "p").startswith("p") else ["ruby"]
            return [one for one in found if one.startswith(value)]
