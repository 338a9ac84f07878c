"""FastMCP's proxy in front of another server. Arguments: a loopback port, then a URL, or a stdio server's command."""

import os
import sys

from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy

port, first, *rest = sys.argv[1:]
target = (
    first if first.startswith("http") else StdioTransport(first, rest, env=dict(os.environ), keep_alive=True)
)
create_proxy(target, name="echo").run(
    "http",
    host="127.0.0.1",
    port=int(port),
    json_response=True,
    stateless_http=True,
    log_level="WARNING",
    show_banner=False,
    uvicorn_config={"access_log": False, "log_level": "warning", "timeout_keep_alive": 600},
)
