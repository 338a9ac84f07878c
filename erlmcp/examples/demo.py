"""The demo that ``twistd -n erlmcp`` serves: each thing that a provider can do, once."""

import datetime as dt
import struct
import zlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from twisted.internet.task import deferLater

from erlmcp import Context, Field, Image, Message, Provider, ToolError

provider = Provider(
    "demo",
    title="erlmcp demo",
    instructions="Try `add`, then `deploy`, which asks before it acts.",
)

Level = Annotated[int, Field(ge=0, le=255)]
Operation = Literal["add", "subtract", "multiply", "divide"]
settings = {"greeting": "Hello", "colour": "blue"}


@provider.tool(annotations={"readOnlyHint": True})
async def echo(message: str) -> str:
    """Give the message back."""
    return message


@provider.tool(annotations={"readOnlyHint": True})
async def add(a: float, b: Annotated[float, Field(description="second summand")]) -> float:
    """Add two numbers."""
    return a + b


@provider.tool(annotations={"readOnlyHint": True})
async def calculate(operation: Operation, a: float, b: float) -> float:
    """Calculate with two numbers."""
    if operation == "divide":
        if b == 0:
            raise ToolError("Division by zero has no result.")
        return a / b
    return {"add": a + b, "subtract": a - b, "multiply": a * b}[operation]


@dataclass
class Time:
    """A moment: in ISO 8601, and in seconds since 1970."""

    iso: str
    seconds: int


@provider.tool(annotations={"readOnlyHint": True})
def clock() -> Time:
    """Tell the time (UTC). A plain function runs in a thread; a class as a result is structured output."""
    now = dt.datetime.now(dt.UTC)
    return Time(now.isoformat(timespec="seconds"), int(now.timestamp()))


@provider.tool(annotations={"readOnlyHint": True}, timeout=60.0)
async def slow_job(
    ctx: Context,
    steps: Annotated[int, Field(ge=1, le=100)] = 3,
    pause: Annotated[float, Field(ge=0, le=5)] = 0.2,
) -> str:
    """Work for a while, and tell how far it is.

    Args:
        ctx: the way back to the client.
        steps: how many steps the job has.
        pause: seconds that each takes.
    """
    for step in range(steps):
        ctx.report_progress(step, steps, f"step {step + 1}")
        await sleep(pause)
    ctx.report_progress(steps, steps, "done")
    ctx.info(f"the job took {steps} steps")
    return f"{steps} steps done"


@dataclass
class Confirm:
    """What `deploy` asks its user."""

    sure: Annotated[bool, Field(title="Really deploy?")]
    note: Annotated[str, Field(max_length=200)] = ""


@provider.tool(title="Deploy", annotations={"destructiveHint": True})
async def deploy(
    service: str, ctx: Context, region: Annotated[Literal["eu", "us"], Field(header="Region")] = "eu"
) -> str:
    """Deploy a service, after its user has agreed."""
    answer = await ctx.elicit(f"Deploy {service} to production in {region}?", Confirm, key="confirm")
    if answer.data is None or not answer.data.sure:
        return f"{service} was not deployed."
    ctx.report_progress(1, 2, "building")
    ctx.report_progress(2, 2, "switching over")
    note = f" Note: {answer.data.note}" if answer.data.note else ""
    return f"{service} is deployed in {region}.{note}"


@provider.tool(annotations={"readOnlyHint": True})
async def swatch(red: Level, green: Level, blue: Level) -> Image:
    """Draw a square of one colour, as a PNG image."""
    rows = (b"\x00" + bytes((red, green, blue)) * 16) * 16
    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return Image(b"\x89PNG\r\n\x1a\n" + png)


@provider.tool(annotations={"idempotentHint": True})
async def configure(key: Literal["greeting", "colour"], value: str) -> str:
    """Change a setting; those who watch config://settings hear of it."""
    settings[key] = value
    provider.notify_updated("config://settings")
    return f"{key} is now {value}"


@provider.resource("config://settings", title="Settings", mime_type="application/json")
async def read_settings() -> dict[str, str]:
    """The demo's settings; the tool `configure` changes them."""
    return settings


@provider.resource("greeting://{name}", title="A greeting", mime_type="text/plain")
async def greeting(name: str) -> str:
    """Greet someone."""
    return f"{settings['greeting']}, {name}!"


@provider.prompt(title="Review code")
async def review(code: str, language: str = "python") -> list[Message]:
    """Have code reviewed.

    Args:
        code: the code.
        language: what it is written in.
    """
    return [
        Message(f"Review this {language} code, the gravest problem first:\n\n{code}"),
        Message("I begin with what could go wrong.", role="assistant"),
    ]


@provider.completion("review", "language")
async def languages(value: str) -> list[str]:
    """Suggest languages that begin like this."""
    return [
        name
        for name in ("c", "erlang", "go", "haskell", "javascript", "python", "rust")
        if name.startswith(value)
    ]


def sleep(seconds: float) -> Awaitable[Any]:
    """Wait without keeping anyone else waiting."""
    from twisted.internet import reactor

    return deferLater(reactor, seconds)
