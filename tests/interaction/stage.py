"""The provider that interaction tests talk to, and the levers by which a test moves it."""

from dataclasses import dataclass
from typing import Annotated, Any

from twisted.internet.defer import Deferred

from erlmcp import (
    Audio,
    Context,
    EmbeddedResource,
    Field,
    Image,
    Message,
    Provider,
    ResourceLink,
    ToolError,
)
from erlmcp.catalog import ResourceNotFound, ToolResult
from erlmcp.protocol import Question

PNG = b"\x89PNG\r\n\x1a\n"
SECRET = "the password is swordfish"
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


@dataclass
class Weather:
    """Structured output."""

    city: str
    celsius: float


@dataclass
class Person:
    """A form."""

    name: Annotated[str, Field(max_length=20)]
    age: Annotated[int, Field(ge=0)] = 0


class Stage:
    """One provider with everything that a requirement needs, and no threads.

    Attributes:
        provider: the provider.
        waits: a Deferred for each call that waits, in order.
        seen: what handlers were called with, in order.
        cancelled: how many calls were told that their client gave up.
    """

    def __init__(self) -> None:
        self.provider = Provider("stage", instructions="Mind the gap.", ttl=5.0)
        self.waits: list[Deferred[Any]] = []
        self.seen: list[Any] = []
        self.cancelled = 0
        self._offer_plain()
        self._offer_lively()
        self._offer_questions()
        self._offer_resources()
        self._offer_prompts()

    def wait(self) -> Deferred[Any]:
        """What a handler awaits; the test fires it."""

        def cancel(_: Any) -> None:
            self.cancelled += 1

        waiting: Deferred[Any] = Deferred(cancel)
        self.waits.append(waiting)
        return waiting

    def go_on(self, value: Any = None) -> None:
        """Let the oldest call go on."""
        self.waits.pop(0).callback(value)

    def _offer_plain(self) -> None:
        provider, seen = self.provider, self.seen

        @provider.tool(annotations={"readOnlyHint": True})
        async def echo(text: str) -> str:
            """Give the text back."""
            seen.append(text)
            return text

        @provider.tool
        async def add(a: float, b: float) -> float:
            """Add."""
            return a + b

        @provider.tool
        async def weather(city: str) -> Weather:
            """Structured output."""
            return Weather(city, 21.5)

        @provider.tool
        async def misfit() -> Weather:
            """Structured output that is not what was promised."""
            return ToolResult(structured={"city": 5})  # type: ignore[return-value]

        @provider.tool
        async def broken() -> str:
            """Fail."""
            raise RuntimeError(SECRET)

        @provider.tool
        async def picky(day: str) -> str:
            """Fail in a way that the model can mend."""
            raise ToolError(f"{day} is in the past")

        @provider.tool
        async def media() -> Any:
            """One of each kind of content."""
            return [
                "text",
                Image(PNG),
                Audio(b"RIFF"),
                EmbeddedResource("config://settings", "{}", "application/json"),
                ResourceLink("config://settings", "settings"),
            ]

        @provider.tool
        async def mirrored(
            region: Annotated[str, Field(header="Region")] = "eu",
            count: Annotated[int, Field(header="Count")] = 0,
            dry: Annotated[bool, Field(header="Dry-Run")] = False,
        ) -> str:
            """Parameters that HTTP clients mirror into headers."""
            seen.append((region, count, dry))
            return f"{region} {count} {dry}"

    def _offer_lively(self) -> None:
        provider = self.provider

        @provider.tool
        async def wait(ctx: Context) -> str:
            """Wait until the test says, then tell everything."""
            value = await self.wait()
            ctx.report_progress(1, 1, "done")
            ctx.error("done")
            return f"waited for {value}"

        @provider.tool
        async def count(ctx: Context, steps: int = 3) -> str:
            """Report progress."""
            for step in range(1, steps + 1):
                await ctx.report_progress(step, steps, f"step {step}")
            return f"{steps} steps"

        @provider.tool
        async def stagger(ctx: Context) -> str:
            """Report progress that does not always grow; more when the test says."""
            for value in (1, 1, 0.5, 2, 2):
                ctx.report_progress(value)
            await self.wait()
            ctx.report_progress(1.5)
            ctx.report_progress(3)
            return "staggered"

        @provider.tool
        async def flood(ctx: Context, times: int) -> str:
            """Report progress again and again."""
            for step in range(times):
                ctx.report_progress(step, times, "x" * 1000)
            return "flooded"

        @provider.tool
        async def late(ctx: Context) -> str:
            """Go on talking after the answer."""
            self.waits.append(Deferred())
            self.waits[-1].addCallback(lambda _: (ctx.report_progress(9), ctx.error("late")))
            ctx.report_progress(1)
            return "early"

        @provider.tool
        async def talk(ctx: Context) -> str:
            """Log at every level."""
            for level in LEVELS:
                ctx.log(level, {"level": level}, "stage")
            return "talked"

        @provider.tool
        async def meet(ctx: Context) -> str:
            """Tell who asks, as far as it is declared."""
            declared = ctx.capabilities
            return f"elicitation: {bool(declared.elicitation)}"

    def _offer_questions(self) -> None:
        provider = self.provider

        @provider.tool
        async def register(ctx: Context, event: str = "party") -> str:
            """Ask for a form, then for another."""
            self.seen.append(("begun", event))
            person = await ctx.elicit("Who comes?", Person, key="person")
            if person.data is None:
                return f"nobody comes: {person.action}"
            plus = await ctx.elicit("And with whom?", Person, key="plus")
            other = plus.data.name if plus.data is not None else plus.action
            return f"{person.data.name} and {other} come to the {event}"

        @provider.tool
        async def survey(ctx: Context) -> str:
            """Ask two things at once."""
            schema = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}
            answers = await ctx.ask(
                {
                    "first": Question.elicit_form("First?", schema),
                    "second": Question.elicit_form("Second?", schema),
                }
            )
            return " ".join(answers[key]["content"]["value"] for key in ("first", "second"))

        @provider.tool
        async def visit(ctx: Context) -> str:
            """Send the user to a page."""
            return (
                await ctx.elicit_url("Enter your key there.", "https://example.com/key?e=1", key="page")
            ).action

        @provider.tool
        async def compose(ctx: Context, with_tools: bool = False) -> str:
            """Have the client's model write."""
            tools = [{"name": "t", "inputSchema": {"type": "object"}}] if with_tools else None
            sampled = await ctx.sample("Write.", max_tokens=10, tools=tools, key="text")
            return sampled.text

        @provider.tool
        async def contextual(ctx: Context) -> str:
            """Have the client's model write, with the context of this server."""
            return (await ctx.sample("Write.", max_tokens=10, include_context="thisServer")).text

        @provider.tool
        async def roots(ctx: Context) -> str:
            """List the client's roots."""
            return " ".join(root.uri for root in await ctx.roots(key="roots"))

        @provider.tool
        async def impossible(ctx: Context) -> str:
            """Ask what no client can be asked."""
            await ctx.ask({"x": {"method": "tools/list"}})
            return "unreachable"

    def _offer_resources(self) -> None:
        provider = self.provider

        @provider.resource("config://settings", mime_type="application/json", ttl=9.0, cache_scope="public")
        async def settings() -> str:
            """Text."""
            return "{}"

        @provider.resource("pic://logo", mime_type="image/png")
        async def logo() -> bytes:
            """Bytes."""
            return PNG

        @provider.resource("user://{name}/profile")
        async def profile(name: str) -> str:
            """One of many."""
            self.seen.append(name)
            if name == "nobody":
                raise ResourceNotFound
            return f"profile of {name}"

        @provider.resource("broken://resource")
        async def broken() -> str:
            """Fail."""
            raise RuntimeError(SECRET)

        @provider.resource("asking://resource")
        async def asking(ctx: Context) -> str:
            """Ask before it is read."""
            answer = await ctx.elicit("Really?", bool, key="sure")
            return f"sure: {answer.data}"

        @provider.resource("waiting://resource")
        async def waiting(ctx: Context) -> str:
            """Wait until the test says."""
            return str(await self.wait())

    def _offer_prompts(self) -> None:
        provider = self.provider

        @provider.prompt
        async def review(code: str, language: str = "python") -> list[Any]:
            """Have code reviewed."""
            self.seen.append((code, language))
            return [f"Review this {language}: {code}", Message("Gladly.", role="assistant")]

        @provider.prompt
        async def gallery() -> list[Any]:
            """One of each kind of content."""
            return [
                Image(PNG),
                Audio(b"RIFF"),
                EmbeddedResource("config://settings", "{}", "application/json"),
                EmbeddedResource("pic://logo", PNG, "image/png"),
            ]

        @provider.prompt
        async def interview(ctx: Context) -> str:
            """Ask first."""
            answer = await ctx.elicit("About what?", Person, key="subject")
            return f"About {answer.data}"

        @provider.prompt
        async def hopeless() -> str:
            """Fail."""
            raise RuntimeError(SECRET)

        @provider.completion("review", "language")
        async def languages(value: str) -> list[str]:
            if value == "fail":
                raise RuntimeError(SECRET)
            return [one for one in ("perl", "php", "python") if one.startswith(value)]

        @provider.completion("user://{name}/profile", "name")
        async def names(value: str) -> list[str]:
            return [f"{value}{number}" for number in range(150)]


provider = Stage().provider
"""For processes that are given ``tests.interaction.stage:provider``."""
