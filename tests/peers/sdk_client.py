"""The official Python SDK's client, 2.x, in each of its modes against a server of ours.

Arguments: a mode (``auto``, ``legacy`` or a modern revision), a scenario or ``all``, then the URL of a running server
(HTTP+SSE where it ends with ``/sse``), or ``--`` and the command of a stdio server. Prints what each scenario saw as
one JSON object; a scenario that failed has an ``error``.
"""

import asyncio
import json
import os
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPError

PATIENCE = 20.0
INHERITED = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}  # the SDK hands on very little by itself
WHY = {"reason": "on purpose"}
Scenario = Callable[["Session"], Awaitable[dict[str, Any]]]


class Session:
    """How a scenario makes its client, with callbacks of its own."""

    def __init__(self, target: str | StdioServerParameters, mode: str) -> None:
        self.target = target
        self.mode = mode

    @property
    def legacy(self) -> bool:
        """Whether it opens with ``initialize``."""
        return self.mode == "legacy"

    def client(self, **callbacks: Any) -> Client:
        server: Any = self.target
        if isinstance(server, str) and server.endswith("/sse"):
            server = sse_client(server)
        return Client(server, mode=self.mode, read_timeout_seconds=PATIENCE, **callbacks)


def text(result: types.CallToolResult) -> str:
    """The text of a tool's first content block."""
    block = result.content[0]
    assert isinstance(block, types.TextContent), block
    return block.text


async def discover(session: Session) -> dict[str, Any]:
    """Negotiate as a host does that knows nothing of the server."""
    async with (session if session.legacy else Session(session.target, "auto")).client() as client:
        info = client.server_info
        if session.legacy:
            await client.send_ping()
        return {
            "version": client.protocol_version,
            "server": None if info is None else info.name,
            "capabilities": client.server_capabilities.model_dump(
                exclude_none=True, by_alias=True, mode="json"
            ),
            "tools": sorted(tool.name for tool in (await client.list_tools()).tools),
        }


async def lists(session: Session) -> dict[str, Any]:
    """Every list, to its last page."""
    async with session.client() as client:
        tools = await client.list_tools()
        resources = await client.list_resources()
        templates = await client.list_resource_templates()
        prompts = await client.list_prompts()
        return {
            "tools": sorted(tool.name for tool in tools.tools),
            "schemas": {tool.name: tool.input_schema for tool in tools.tools},
            "resources": sorted(resource.uri for resource in resources.resources),
            "templates": sorted(template.uri_template for template in templates.resource_templates),
            "prompts": sorted(prompt.name for prompt in prompts.prompts),
            "cursors": [tools.next_cursor, resources.next_cursor, templates.next_cursor, prompts.next_cursor],
        }


async def calls(session: Session) -> dict[str, Any]:
    """Results, structured results, and the three kinds of error."""
    async with session.client() as client:
        await client.list_tools()
        added = await client.call_tool("add", {"a": 2, "b": 0.5})
        divided = await client.call_tool("divide", {"a": 7, "b": 2})
        wrong = await client.call_tool("add", {"a": "two", "b": 0.5})
        failed = await client.call_tool("fail", WHY)
        found: dict[str, Any] = {
            "added": text(added),
            "divided": divided.structured_content,
            "wrong": [wrong.is_error, text(wrong)],
            "failed": [failed.is_error, text(failed)],
        }
        try:
            await client.call_tool("no-such-tool", {})
        except MCPError as error:
            found["unknown"] = error.error.code
        return found


async def resources(session: Session) -> dict[str, Any]:
    """Reading: text, bytes, a template, and a URI that nothing answers."""
    async with session.client() as client:
        found: dict[str, Any] = {}
        for uri in ("notes://today", "notes://picture", "notes://7/page"):
            content = (await client.read_resource(uri)).contents[0]
            found[uri] = content.model_dump(exclude_none=True, by_alias=True, mode="json")
        try:
            await client.read_resource("notes://nowhere/at/all")
        except MCPError as error:
            found["unknown"] = error.error.code
        return found


async def prompts(session: Session) -> dict[str, Any]:
    """A prompt with an argument, and completion of it."""
    async with session.client() as client:
        prompt = await client.get_prompt("review", {"language": "python"})
        completed = await client.complete(
            types.PromptReference(type="ref/prompt", name="review"), {"name": "language", "value": "py"}
        )
        return {
            "messages": [
                message.model_dump(exclude_none=True, by_alias=True, mode="json")
                for message in prompt.messages
            ],
            "completed": completed.completion.values,
        }


async def elicitation(session: Session) -> dict[str, Any]:
    """A tool that asks its user twice; one user answers, the other declines."""
    asked: list[str] = []

    def user(action: str) -> Any:
        async def answer(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
            asked.append(params.message)
            content = {"name": "Ada"} if "name" in params.message else {"sure": True}
            return types.ElicitResult(action=action, content=content if action == "accept" else None)

        return answer

    async with session.client(elicitation_callback=user("accept")) as client:
        accepted = text(await client.call_tool("greet"))
    async with session.client(elicitation_callback=user("decline")) as client:
        declined = text(await client.call_tool("greet"))
    async with session.client() as client:
        try:
            await client.call_tool("greet")
            unable = None
        except MCPError as error:
            unable = error.error.code
    return {"asked": asked, "accepted": accepted, "declined": declined, "unable": unable}


async def sampling(session: Session) -> dict[str, Any]:
    """A tool that asks the client's model and for its roots."""

    async def model(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        block = params.messages[0].content
        assert isinstance(block, types.TextContent)
        return types.CreateMessageResult(
            role="assistant",
            model="a model",
            content=types.TextContent(type="text", text=f"you said {block.text}"),
        )

    async def roots(_context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri="file:///work", name="work")])

    async with session.client(sampling_callback=model, list_roots_callback=roots) as client:
        return {"answer": text(await client.call_tool("consult"))}


async def progress(session: Session) -> dict[str, Any]:
    """Progress in its order, and log messages from the level that was asked for."""
    steps: list[list[Any]] = []
    logged: list[list[Any]] = []
    arrived = anyio.Event()

    async def step(now: float, total: float | None, message: str | None) -> None:
        steps.append([now, total, message])

    async def log(params: types.LoggingMessageNotificationParams) -> None:
        logged.append([params.level, params.data])
        arrived.set()

    async with session.client(logging_callback=log, log_level="warning") as client:
        if session.legacy:
            await client.set_logging_level("warning")
        result = text(await client.call_tool("count", {"to": 3}, progress_callback=step))
        with anyio.move_on_after(5.0):
            await arrived.wait()
    return {"result": result, "steps": steps, "logged": logged}


async def cancellation(session: Session) -> dict[str, Any]:
    """A call given up by its client, and the server's work seen to end."""
    async with session.client() as client:
        begun = anyio.Event()
        before = int(text(await client.call_tool("cancelled")))

        async def step(_now: float, _total: float | None, _message: str | None) -> None:
            begun.set()

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.call_tool("wait", progress_callback=step))
            with anyio.fail_after(PATIENCE):
                await begun.wait()
            group.cancel_scope.cancel()
        cancelled = before
        with anyio.move_on_after(PATIENCE):
            while cancelled == before:
                cancelled = int(text(await client.call_tool("cancelled")))
        return {"cancelled": cancelled - before, "still_serves": text(await client.call_tool("fail", WHY))}


async def subscription(session: Session) -> dict[str, Any]:
    """Changes of a list and of a resource: on a stream that is open for them, or as the older era tells them."""
    trick = f"juggle_{session.mode.replace('-', '_')}"
    events: list[str] = []
    complete = anyio.Event()

    async def hear(message: Any) -> None:
        kind = type(message).__name__.removesuffix("Notification").replace("ToolList", "ToolsList")
        events.append(kind)
        if {"ResourceUpdated", "ToolsListChanged"} <= set(events):
            complete.set()

    async with session.client(message_handler=hear if session.legacy else None) as client:
        before = sorted(tool.name for tool in (await client.list_tools()).tools)
        honored = None
        if session.legacy:
            await client.subscribe_resource("notes://today")
            await client.call_tool("learn", {"trick": trick})
            with anyio.fail_after(PATIENCE):
                await complete.wait()
            await client.unsubscribe_resource("notes://today")
        else:
            async with client.listen(
                tools_list_changed=True, resource_subscriptions=["notes://today"]
            ) as stream:
                honored = stream.honored.model_dump(exclude_none=True, by_alias=True, mode="json")
                await client.call_tool("learn", {"trick": trick})
                with anyio.fail_after(PATIENCE):
                    async for event in stream:
                        events.append(type(event).__name__)
                        if len(set(events)) == 2:
                            break
        after = sorted(tool.name for tool in (await client.list_tools()).tools)
        juggled = text(await client.call_tool(trick))
    return {
        "honored": honored,
        "events": sorted(set(events)),
        "new": len(set(after) - set(before)),
        "juggled": juggled == f"here I {trick}",
    }


SCENARIOS: dict[str, Scenario] = {
    "discover": discover,
    "lists": lists,
    "calls": calls,
    "resources": resources,
    "prompts": prompts,
    "elicitation": elicitation,
    "sampling": sampling,
    "progress": progress,
    "cancellation": cancellation,
    "subscription": subscription,
}


async def run(names: list[str], session: Session) -> dict[str, Any]:
    """What each scenario saw."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            async with asyncio.timeout(50.0):
                found[name] = await SCENARIOS[name](session)
        except Exception:
            found[name] = {"error": traceback.format_exc()}
    return found


def main() -> None:
    mode, scenario, target = sys.argv[1:4]
    server: str | StdioServerParameters = target
    if target == "--":
        server = StdioServerParameters(command=sys.argv[4], args=sys.argv[5:], env=INHERITED)
    warnings.simplefilter("ignore")  # the older era's methods are deprecated, and are what is wanted here
    names = list(SCENARIOS) if scenario == "all" else [scenario]
    print(json.dumps(asyncio.run(run(names, Session(server, mode)))))


if __name__ == "__main__":
    main()
