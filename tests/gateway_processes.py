"""Gateways as real processes, in front of upstreams as real processes, for tests that look at them from outside."""

import atexit
import functools
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.daemon import ERLMCP, Daemon, environment, free_port

PROVIDER = "tests.peers.provider:provider"
ERAS = ("modern", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
WAYS = ("stdio", "tcp", "http")


def settings(port: int, *upstreams: dict[str, Any], **server: Any) -> str:
    """The configuration of a gateway on a port."""
    lines = ["[server]", *(f"{key} = {_toml(value)}" for key, value in server.items())]
    lines += [
        "[[listen]]",
        'transport = "http"',
        f'endpoint = "tcp:{port}:interface=127.0.0.1"',
        'sse = "/sse"',
    ]
    for one in upstreams:
        lines += ["[[upstream]]", *(f"{key} = {_toml(value)}" for key, value in one.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


def child(*command: str) -> dict[str, Any]:
    """An upstream that runs a command, which must find this checkout."""
    env = {"PYTHONPATH": environment()["PYTHONPATH"]}
    return {"transport": "stdio", "command": list(command), "env": env}


class Far:
    """A server of ours, over HTTP and TCP.

    Attributes:
        http, tcp: its ports.
    """

    def __init__(self, stack: ExitStack, provider: str = PROVIDER) -> None:
        self.http, self.tcp = free_port(), free_port()
        options = ["--provider", provider, "--listen", f"http:tcp:{self.http}:interface=127.0.0.1"]
        options += ["--listen", f"tcp:tcp:{self.tcp}:interface=127.0.0.1"]
        stack.enter_context(Daemon(options, [self.http, self.tcp]))
        self._provider = provider

    def upstream(self, way: str, era: str, **more: Any) -> dict[str, Any]:
        """It as an upstream, on one of `WAYS`; over stdio a process of its own."""
        if way == "stdio":
            table = child(*ERLMCP, "stdio", "--provider", self._provider)
        elif way == "tcp":
            table = {"transport": "tcp", "endpoint": f"tcp:127.0.0.1:{self.tcp}"}
        else:
            table = {"transport": "http", "url": f"http://127.0.0.1:{self.http}/mcp"}
        return {"name": "far", **table, "era": era, "start": "eager", **more}


def gateway(stack: ExitStack, *upstreams: dict[str, Any], **server: Any) -> int:
    """Start a gateway; gives its port."""
    port = free_port()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="erlmcp-gateway-")))
    file = folder / "erlmcp.toml"
    file.write_text(settings(port, *upstreams, **server))
    stack.enter_context(Daemon(["--config", str(file)], [port]))
    return port


@functools.cache
def lasting() -> ExitStack:
    """What ends with this process: for servers that many tests share."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack
