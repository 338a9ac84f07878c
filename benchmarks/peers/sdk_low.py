"""The official Python SDK's low-level server with one tool. Argument: a loopback port, or ``stdio``."""

import sys
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server

SCHEMA = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}


async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[types.Tool(name="echo", description="Say it again.", input_schema=SCHEMA)]
    )


async def call_tool(_context: Any, params: Any) -> types.CallToolResult:
    message = (params.arguments or {}).get("message")
    if params.name != "echo" or not isinstance(message, str):
        raise ValueError("only echo(message: string) is here")
    return types.CallToolResult(content=[types.TextContent(type="text", text=message)])


def main() -> None:
    server = Server("echo", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    if sys.argv[1] == "stdio":
        import anyio
        from mcp.server.stdio import stdio_server

        async def run() -> None:
            async with stdio_server() as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())

        anyio.run(run)
        return
    import uvicorn

    app = server.streamable_http_app(json_response=True, stateless_http=True)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=600,
    )


main()
