"""FastMCP 4 with one tool, `echo`. Argument: a port on loopback, or ``stdio``."""

import sys

from fastmcp import FastMCP

server = FastMCP("echo")


@server.tool
def echo(message: str) -> str:
    """Say it again."""
    return message


if sys.argv[1] == "stdio":
    server.run("stdio", show_banner=False)
else:
    server.run(
        "http",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        json_response=True,
        stateless_http=True,
        log_level="WARNING",
        show_banner=False,
        uvicorn_config={"access_log": False, "log_level": "warning", "timeout_keep_alive": 600},
    )
