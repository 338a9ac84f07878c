"""A backend whose tools are coroutines over requests: what the server's own tests need, and no more."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from zope.interface import implementer

from erlmcp.interfaces import (
    Change,
    Complete,
    Definitions,
    IBackend,
    Outcome,
    PromptDefinition,
    Request,
    ResourceDefinition,
    ToolDefinition,
)

Tool = Callable[[Request], Outcome | Awaitable[Outcome]]


def text(words: str) -> Complete:
    return Complete({"content": [{"type": "text", "text": words}]})


@implementer(IBackend)
class Scripted:
    """Tools by name; each is called with the request."""

    def __init__(
        self, tools: dict[str, Tool], *, name: str = "scripted", resources: dict[str, Tool] | None = None
    ) -> None:
        self.name = name
        self.watchers: list[Callable[[Change], None]] = []
        self._do: dict[str, Tool] = {**tools, **(resources or {})}
        self._definitions = Definitions(
            tools={one: self._tool(one) for one in tools},
            resources={
                uri: ResourceDefinition(
                    uri=uri, wire=msgspec.Raw(msgspec.json.encode({"uri": uri, "name": uri}))
                )
                for uri in resources or {}
            },
            prompts={
                "greet": PromptDefinition(
                    name="greet", wire=msgspec.Raw(b'{"name":"greet"}'), arguments={"who": True, "how": False}
                )
            },
            completions=True,
            logging=True,
            subscribe=True,
            instructions="Use it.",
            ttl_ms=1000,
        )
        self._do["greet"] = lambda request: Complete(
            {"messages": [{"role": "user", "content": {"type": "text", "text": str(request.arguments)}}]}
        )

    @staticmethod
    def _tool(name: str) -> ToolDefinition:
        wire: dict[str, Any] = {"name": name, "inputSchema": {"type": "object"}}
        return ToolDefinition(name=name, wire=msgspec.Raw(msgspec.json.encode(wire)))

    def definitions(self) -> Definitions:
        return self._definitions

    def watch(self, watcher: Callable[[Change], None]) -> Callable[[], None]:
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher)

    def change(self, change: Change) -> None:
        for watcher in list(self.watchers):
            watcher(change)

    def dispatch(self, request: Request) -> Outcome | Awaitable[Outcome]:
        if request.method == "completion/complete":
            return Complete({"completion": {"values": ["a"]}})
        return self._do[request.name](request)
