"""The last 1.x release of the official Python SDK against a server of ours: everything that its client can do.

Runs in an environment of its own. Arguments: a transport (``http``, ``sse`` or ``stdio``), then the URL of a running
server, or ``--`` and the command of a stdio server. Prints what each scenario saw as one JSON object; a scenario that
failed has an ``error``.
"""

import asyncio
import contextlib
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import httpx
from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import ClientMessageMetadata
from pydantic import AnyUrl

PATIENCE = 20.0
INHERITED = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}  # the SDK hands on very little by itself
OLDER = ("2024-11-05", "2025-03-26", "2025-06-18")


class Peer:
    """One connection with a client that can do everything, and what it was asked and told."""

    def __init__(self, transport: str, target: list[str]) -> None:
        self.transport = transport
        self.target = target
        self.action = "accept"
        self.asked: list[Any] = []
        self.logged: list[list[Any]] = []
        self.told: list[Any] = []
        self.news = anyio.Event()
        self.session_id: Callable[[], str | None] = lambda: None

    @contextlib.asynccontextmanager
    async def connect(self, **callbacks: Any) -> AsyncIterator[ClientSession]:
        """A session that is initialized, with these callbacks only."""
        async with self.streams() as (reading, writing):
            timeout = timedelta(seconds=PATIENCE)
            async with ClientSession(reading, writing, timeout, **callbacks) as session:
                self.greeting = await session.initialize()
                yield session

    @contextlib.asynccontextmanager
    async def able(self) -> AsyncIterator[ClientSession]:
        """A session whose client can do everything."""
        async with self.connect(
            elicitation_callback=self.elicit,
            sampling_callback=self.sample,
            sampling_capabilities=types.SamplingCapability(tools=types.SamplingToolsCapability()),
            list_roots_callback=self.roots,
            logging_callback=self.log,
            message_handler=self.hear,
        ) as session:
            yield session

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Any, Any]]:
        """The two streams of a new connection."""
        if self.transport == "http":
            async with streamable_http_client(self.target[0]) as (reading, writing, self.session_id):
                yield reading, writing
        elif self.transport == "sse":
            async with sse_client(self.target[0]) as streams:
                yield streams
        else:
            command = StdioServerParameters(command=self.target[1], args=self.target[2:], env=INHERITED)
            async with stdio_client(command) as streams:
                yield streams

    async def elicit(self, _context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        if isinstance(params, types.ElicitRequestURLParams):
            self.asked.append(["url", params.url, bool(params.elicitationId)])
            return types.ElicitResult(action=self.action)
        self.asked.append(["form", params.message, sorted(params.requestedSchema["properties"])])
        content: dict[str, Any] = {"name": "Ada"} if "name" in params.message else {"sure": True}
        return types.ElicitResult(action=self.action, content=content if self.action == "accept" else None)

    async def sample(self, _context: Any, params: types.CreateMessageRequestParams) -> Any:
        block = params.messages[0].content
        assert isinstance(block, types.TextContent), block
        if params.tools:
            use = types.ToolUseContent(
                type="tool_use", name=params.tools[0].name, id="1", input={"city": "Paris"}
            )
            words = types.TextContent(type="text", text=f"I look for {block.text}")
            return types.CreateMessageResultWithTools(
                role="assistant", model="a model", content=[words, use], stopReason="toolUse"
            )
        words = types.TextContent(type="text", text=f"you said {block.text}")
        return types.CreateMessageResult(role="assistant", model="a model", content=words)

    async def roots(self, _context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri=AnyUrl("file:///work"), name="work")])

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append([params.level, params.data])

    async def hear(self, message: Any) -> None:
        if isinstance(message, types.ServerNotification):
            self.told.append(message.root)
            self.news.set()
            self.news = anyio.Event()
        elif isinstance(message, Exception):
            self.told.append(message)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for notifications until they make `holds` true."""
        with anyio.fail_after(PATIENCE):
            while not holds():
                await self.news.wait()

    def has(self, kind: type[Any]) -> bool:
        """Whether a notification of this type has come."""
        return any(isinstance(one, kind) for one in self.told)


Scenario = Callable[[Peer, ClientSession], Awaitable[dict[str, Any]]]


def text(result: types.CallToolResult) -> str:
    """The text of a tool's first content block."""
    block = result.content[0]
    assert isinstance(block, types.TextContent), block
    return block.text


async def refused(call: Awaitable[Any]) -> list[Any]:
    """The code and message that a call is refused with."""
    try:
        await call
    except McpError as error:
        return [error.error.code, error.error.message]
    raise AssertionError("it was not refused")


def plain(model: Any) -> Any:
    """A model of the SDK as JSON has it."""
    return model.model_dump(exclude_none=True, by_alias=True, mode="json")


async def greeting(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """What ``initialize`` said, and ping."""
    said = peer.greeting
    return {
        "version": said.protocolVersion,
        "server": said.serverInfo.name,
        "instructions": said.instructions,
        "capabilities": plain(said.capabilities),
        "ping": plain(await session.send_ping()),
        "session": peer.session_id(),
    }


async def lists(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """Every list, page by page."""
    found: dict[str, Any] = {}
    for name, ask, key in (
        ("tools", session.list_tools, "name"),
        ("resources", session.list_resources, "uri"),
        ("resourceTemplates", session.list_resource_templates, "uriTemplate"),
        ("prompts", session.list_prompts, "name"),
    ):
        entries: list[str] = []
        pages, cursor = 0, None
        while cursor is not None or not pages:
            page = await ask(params=types.PaginatedRequestParams(cursor=cursor))
            entries += [str(getattr(one, key)) for one in getattr(page, name)]
            pages, cursor = pages + 1, page.nextCursor
        found[name] = [pages, sorted(entries)]
    params = types.PaginatedRequestParams(cursor="forged")
    found["forged"] = (await refused(session.list_tools(params=params)))[0]
    return found


async def calls(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """Results, structured ones, the kinds of error, and many at once. The SDK checks results by their schemas."""
    divided = await session.call_tool("divide", {"a": 7, "b": 2})
    wrong = await session.call_tool("add", {"a": "two", "b": 0.5})
    failed = await session.call_tool("fail", {"reason": "on purpose"})
    added: dict[int, str] = {}

    async def add(number: int) -> None:
        added[number] = text(await session.call_tool("add", {"a": number, "b": 0.5}))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(add, number)
    return {
        "added": [added[number] for number in range(20)],
        "divided": divided.structuredContent,
        "wrong": [wrong.isError, text(wrong)],
        "failed": [failed.isError, text(failed)],
        "unknown": await refused(session.call_tool("no-such-tool", {})),
    }


async def resources(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """Reading: text, bytes, a template, and a URI that nothing answers."""
    found: dict[str, Any] = {}
    for uri in ("notes://today", "notes://picture", "notes://7/page"):
        found[uri] = plain((await session.read_resource(AnyUrl(uri))).contents[0])
    found["unknown"] = await refused(session.read_resource(AnyUrl("notes://nowhere/at/all")))
    return found


async def prompts(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """A prompt with an argument, and completion of it."""
    prompt = await session.get_prompt("review", {"language": "python"})
    reference = types.PromptReference(type="ref/prompt", name="review")
    completed = await session.complete(reference, {"name": "language", "value": "py"})
    return {
        "messages": [plain(message) for message in prompt.messages],
        "completed": completed.completion.values,
        "lacking": (await refused(session.get_prompt("review")))[0],
    }


async def elicitation(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """A tool that asks its user twice, one that sends them to a page, and users who decline."""
    peer.asked = []
    found: dict[str, Any] = {"accepted": text(await session.call_tool("greet"))}
    found["visited"] = text(await session.call_tool("visit"))
    peer.action = "decline"
    found["declined"] = text(await session.call_tool("greet"))
    peer.action = "accept"
    async with Peer(peer.transport, peer.target).connect() as unable:
        found["unable"] = await refused(unable.call_tool("greet"))
        found["still_serves"] = text(await unable.call_tool("add", {"a": 1, "b": 1}))
    return {"asked": peer.asked, **found}


async def sampling(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """A tool that asks the client's model and for its roots, and one that gives the model tools."""
    found = {"answer": text(await session.call_tool("consult"))}
    found["with_tools"] = text(await session.call_tool("delegate"))
    await session.send_roots_list_changed()
    return found


async def progress(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """Progress in its order, and log messages from the level that was set."""
    steps: list[list[Any]] = []

    async def step(now: float, total: float | None, message: str | None) -> None:
        steps.append([now, total, message])

    logged = {}
    for level in ("debug", "warning", "error"):
        await session.set_logging_level(level)
        peer.logged = []
        await session.call_tool("count", {"to": 3}, progress_callback=step)
        logged[level] = peer.logged
    await session.send_progress_notification("nobody's", 1.0)
    return {"steps": steps, "logged": logged}


async def cancellation(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """A call given up by its client, and the server's work seen to end."""
    begun = anyio.Event()

    async def step(_now: float, _total: float | None, _message: str | None) -> None:
        begun.set()

    before = int(text(await session.call_tool("cancelled")))
    async with anyio.create_task_group() as group:
        number = session._request_id  # this client leaves it to its caller to say that it gave up
        group.start_soon(lambda: session.call_tool("wait", progress_callback=step))
        with anyio.fail_after(PATIENCE):
            await begun.wait()
        params = types.CancelledNotificationParams(requestId=number, reason="enough")
        await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
        after = before
        with anyio.move_on_after(PATIENCE):
            while after == before:
                after = int(text(await session.call_tool("cancelled")))
        group.cancel_scope.cancel()
    return {"cancelled": after - before}


async def changes(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """Changes of a list and of a resource; none of the latter once it is no longer watched."""
    peer.told = []
    juggle, sing = f"juggle_{peer.transport}", f"sing_{peer.transport}"
    await session.subscribe_resource(AnyUrl("notes://today"))
    await session.call_tool("learn", {"trick": juggle})
    await peer.until(
        lambda: peer.has(types.ToolListChangedNotification) and peer.has(types.ResourceUpdatedNotification)
    )
    updated = [str(one.params.uri) for one in peer.told if isinstance(one, types.ResourceUpdatedNotification)]
    await session.unsubscribe_resource(AnyUrl("notes://today"))
    peer.told = []
    await session.call_tool("learn", {"trick": sing})
    await peer.until(lambda: peer.has(types.ToolListChangedNotification))
    return {
        "updated": sorted(set(updated)),
        "juggled": text(await session.call_tool(juggle)),
        "unwatched": [plain(one) for one in peer.told if isinstance(one, types.ResourceUpdatedNotification)],
    }


async def reconnection(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """A call whose server lets the client go: over HTTP it comes back by itself, and misses nothing."""
    tokens: list[str] = []

    async def token(value: str) -> None:
        tokens.append(value)

    request = types.CallToolRequest(params=types.CallToolRequestParams(name="errand", arguments={}))
    result = await session.send_request(
        types.ClientRequest(request),
        types.CallToolResult,
        metadata=ClientMessageMetadata(on_resumption_token_update=token),
    )
    return {"result": text(result), "tokens": len(tokens)}


async def revisions(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """The same client as it was when each older revision was the latest."""
    found = {}
    latest = types.LATEST_PROTOCOL_VERSION
    for version in OLDER:
        other = Peer(peer.transport, peer.target)
        types.LATEST_PROTOCOL_VERSION = version
        try:
            async with other.able() as old:
                divided = await old.call_tool("divide", {"a": 7, "b": 2})
                found[version] = {
                    "version": other.greeting.protocolVersion,
                    "capabilities": sorted(plain(other.greeting.capabilities)),
                    "tools": len((await old.list_tools()).tools),
                    "divided": [text(divided), divided.structuredContent],
                    "consulted": text(await old.call_tool("consult")),
                    "wrong": await outcome(old.call_tool("add", {"a": "two", "b": 1})),
                    "greeted": await outcome(old.call_tool("greet")),
                    "visited": await outcome(old.call_tool("visit")),
                }
        finally:
            types.LATEST_PROTOCOL_VERSION = latest
    return found


async def outcome(call: Awaitable[types.CallToolResult]) -> list[Any]:
    """Whether a call is answered, by a result with an error, or by an error: and with which text or code."""
    try:
        result = await call
    except McpError as error:
        return ["error", error.error.code]
    return ["isError" if result.isError else "result", text(result)]


async def ending(peer: Peer, session: ClientSession) -> dict[str, Any]:
    """Over HTTP, a session that its client has ended is gone."""
    other = Peer(peer.transport, peer.target)
    async with other.able() as ended:
        headers = {
            "Mcp-Session-Id": other.session_id() or "",
            "Accept": "application/json, text/event-stream",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        async with httpx.AsyncClient() as client:
            alive = await client.post(peer.target[0], json=body, headers=headers)
        await ended.send_ping()
    async with httpx.AsyncClient() as client:
        gone = await client.post(peer.target[0], json=body, headers=headers)
    return {"alive": alive.status_code, "gone": gone.status_code}


SCENARIOS: dict[str, Scenario] = {
    "greeting": greeting,
    "lists": lists,
    "calls": calls,
    "resources": resources,
    "prompts": prompts,
    "elicitation": elicitation,
    "sampling": sampling,
    "progress": progress,
    "cancellation": cancellation,
    "changes": changes,
    "reconnection": reconnection,
    "revisions": revisions,
}


async def main() -> None:
    peer = Peer(sys.argv[1], sys.argv[2:])
    found: dict[str, Any] = {}
    scenarios = {**SCENARIOS, "ending": ending} if peer.transport == "http" else SCENARIOS
    async with asyncio.timeout(80.0), peer.able() as session:
        for name, scenario in scenarios.items():
            try:
                found[name] = await scenario(peer, session)
            except Exception:
                found[name] = {"error": traceback.format_exc()}
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
