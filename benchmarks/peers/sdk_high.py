"""The official Python SDK's decorators with one tool, `echo`. Argument: a port on loopback, or ``stdio``."""

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("echo", log_level="WARNING")


@server.tool()
def echo(message: str) -> str:
    """Say it again."""
    return message


if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    server.run(
        "streamable-http", host="127.0.0.1", port=int(sys.argv[1]), json_response=True, stateless_http=True
    )
