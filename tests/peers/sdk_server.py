"""A server made with the official Python SDK, for a client of ours: ``MODE [PORT]``.

Runs with 2.x and with the last 1.x. MODE is ``stdio``, ``sse`` (2024-11-05's), or one of ``http``, ``http-json``,
``http-stateless``, ``http-stateless-json`` and ``http-resumable``, where events are kept and `drop` loses its stream.
"""

import asyncio
import sys
from typing import Any

from pydantic import BaseModel

try:
    from typing import Annotated

    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context, Elicit, Resolve

    IS_V1 = False
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer

    IS_V1 = True


WAITING: list[str] = []


class Answer(BaseModel):
    """What the user is asked for."""

    colour: str


class KeptEvents:
    """An event store that keeps everything; the SDK's interface."""

    def __init__(self) -> None:
        self._events: list[tuple[Any, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        last = int(last_event_id)
        stream_id = self._events[last - 1][0]
        for number, (stream, message) in enumerate(self._events[last:], last + 1):
            if stream == stream_id and message is not None:
                await send_callback(event_message(message, str(number)))
        return str(stream_id)


def event_message(message: Any, event: str) -> Any:
    from mcp.server.streamable_http import EventMessage

    return EventMessage(message, event)


def make(mode: str, port: int) -> Any:
    """The server, whose tools are the same in both."""
    options: dict[str, Any] = {}
    if IS_V1:
        options = {"host": "127.0.0.1", "port": port, "log_level": "WARNING", **streaming(mode)}
    server = MCPServer("peer", instructions="Ask anything.", **options)
    plain_tools(server)
    asking_tool(server)

    @server.resource("peer://text")
    def text() -> str:
        """A text."""
        return "some text"

    @server.prompt()
    def greet(name: str) -> str:
        """Greet."""
        return f"Hello, {name}!"

    return server


def streaming(mode: str) -> dict[str, Any]:
    """What the SDK calls the modes of streamable HTTP."""
    options: dict[str, Any] = {"json_response": mode.endswith("json"), "stateless_http": "stateless" in mode}
    if mode == "http-resumable":
        options |= {"event_store": KeptEvents(), "retry_interval": 50}
    return options


def plain_tools(server: Any) -> None:
    """Tools that ask for nothing."""

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    async def count(to: int, ctx: Context) -> str:
        """Count, and tell how far."""
        for number in range(1, to + 1):
            await ctx.report_progress(number, to)
        return "counted"

    @server.tool()
    async def wait() -> str:
        """Wait for ever, or until cancelled."""
        WAITING.append("wait")
        try:
            await asyncio.sleep(3600)
        finally:
            WAITING.pop()
        return "not cancelled"

    @server.tool()
    def waiting() -> int:
        """Say how many calls of `wait` there are."""
        return len(WAITING)

    @server.tool()
    def fail() -> str:
        """Fail."""
        raise ValueError("as asked")

    @server.tool()
    async def drop(ctx: Context) -> str:
        """Lose the connection, then answer."""
        await ctx.close_sse_stream()
        await asyncio.sleep(0.1)
        return "here after all"


def asking_tool(server: Any) -> None:
    """The tool that asks the user."""
    if IS_V1:

        @server.tool()
        async def ask(ctx: Context) -> str:
            """Ask the user."""
            result = await ctx.elicit("Which colour?", Answer)
            return f"{result.action} {getattr(result, 'data', None) and result.data.colour}"

    else:

        def colour() -> Any:
            return Elicit("Which colour?", Answer)

        @server.tool(name="ask")
        async def ask_modern(answer: Annotated[Answer, Resolve(colour)]) -> str:
            """Ask the user."""
            return f"accept {answer.colour}"


def main() -> None:
    """Serve until ended."""
    mode, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = make(mode, port)
    if mode == "stdio":
        server.run()
        return
    transport = "sse" if mode == "sse" else "streamable-http"
    options: dict[str, Any] = {}
    if not IS_V1:
        options = {"host": "127.0.0.1", "port": port, **({} if mode == "sse" else streaming(mode))}
    server.run(transport, **options)


if __name__ == "__main__":
    main()
