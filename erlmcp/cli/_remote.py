"""``erlmcp tools`` and ``erlmcp call``: a client for the shell."""

import argparse
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from msgspec import UNSET
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from erlmcp.cli._alive import Alive
from erlmcp.cli._arguments import tool_arguments
from erlmcp.cli._forms import Terminal, printable
from erlmcp.client import (
    Answers,
    CallResult,
    Client,
    ClientError,
    Disconnected,
    Elicitation,
    LogMessage,
    ServerError,
    Target,
    TextContent,
    Tool,
    target,
)

OK: Final = 0
FAILED: Final = 1
"""The tool answered that it failed."""
USAGE: Final = 2
UNREACHED: Final = 3
"""The server could not be reached, was lost, was silent, or answered nonsense."""
REFUSED: Final = 4
"""The server refused: a JSON-RPC error, such as for a tool that is not there."""
FORBIDDEN: Final = 5
"""The server wants authorization, and there is none, or none that will do."""
INTERRUPTED: Final = 130
"""Ended by a signal, as shells say it."""

Work = Callable[[Any, argparse.Namespace], Awaitable[int]]


def tools(options: argparse.Namespace) -> int:
    """List a server's tools."""
    return _run(_tools, options)


def call(options: argparse.Namespace) -> int:
    """Call a tool."""
    return _run(_call, options)


def _run(work: Work, options: argparse.Namespace) -> int:
    from twisted.internet import reactor

    status = INTERRUPTED

    def ended(outcome: Any) -> None:
        nonlocal status
        status = outcome if isinstance(outcome, int) else _status(outcome)
        reactor.stop()

    def begin() -> None:
        ensureDeferred(_guarded(work, reactor, options)).addBoth(ended)

    reactor.callWhenRunning(begin)
    reactor.run()
    return status


def _status(failure: Any) -> int:
    failure.printTraceback(sys.stderr)
    return UNREACHED


async def _guarded(work: Work, reactor: Any, options: argparse.Namespace) -> int:
    try:
        return await work(reactor, options)
    except ValueError as error:
        print(f"erlmcp: {error}", file=sys.stderr)
        return USAGE
    except ServerError as error:
        print(f"erlmcp: {printable(str(error))}", file=sys.stderr)
        if error.data is not UNSET:
            print(f"  {printable(json.dumps(error.data))}", file=sys.stderr)
        return REFUSED
    except ClientError as error:
        print(f"erlmcp: {printable(str(error))}", file=sys.stderr)
        if not isinstance(error, Disconnected) or error.status not in {401, 403}:
            return UNREACHED
        if not options.authorize:
            print(
                "  --authorize gets a token; --header 'Authorization: env:TOKEN' sends one", file=sys.stderr
            )
        return FORBIDDEN


@asynccontextmanager
async def _target(
    reactor: Any, options: argparse.Namespace, alive: Alive | None = None
) -> AsyncIterator[Target]:
    """The server, and what has to be closed after it."""
    more: dict[str, Any] = {}
    if options.header:
        more["headers"] = dict(_header(one) for one in options.header)
    if options.client_id and not options.authorize:
        raise ValueError("--client-id goes with --authorize")
    fetch = None
    if options.authorize:
        if any(name.lower() == "authorization" for name in more.get("headers", ())):
            raise ValueError("--authorize and --header 'Authorization: …': give one of the two")
        more["authorization"], fetch = _authorization(reactor, options, alive)
    try:
        try:
            server = target(reactor, options.server, **more)
        except TypeError:
            raise ValueError("--header is for servers at a URL") from None
        yield server
    finally:
        if fetch is not None:
            await fetch.close()


def _authorization(reactor: Any, options: argparse.Namespace, alive: Alive | None) -> Any:
    # Imported where it is needed: it takes its time.
    from erlmcp.cli._authorize import InTerminal, authorization

    if not options.server.lower().startswith(("http://", "https://")):
        raise ValueError("--authorize is for servers at a URL")
    terminal = sys.stdin.fileno() if sys.stdin.isatty() else None
    talk: dict[str, Any] = {} if alive is None else {"hold": alive.hold, "resume": alive.resume}
    return authorization(
        reactor, options.server, options.client_id, InTerminal(reactor, sys.stderr, terminal, **talk)
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"--header {text!r}: write 'Name: value'")
    value = value.strip()
    if value.startswith("env:"):
        value = os.environ.get(value[4:], "")
        if not value:
            raise ValueError(f"--header {name}: the environment has no {text.partition('env:')[2]}")
    return name.strip(), value


async def _tools(reactor: Any, options: argparse.Namespace) -> int:
    async with (
        _target(reactor, options) as server,
        Client(server, reactor, era=options.era, timeout=options.timeout) as client,
    ):
        found = await client.list_tools()
        if options.json:
            print(json.dumps([tool.wire for tool in found], indent=2))
            return OK
        for tool in found:
            print(_summary(tool))
        if not found:
            print("the server has no tools", file=sys.stderr)
    return OK


def _summary(tool: Tool) -> str:
    lines = (tool.description or tool.title or "").strip().splitlines()
    head = printable(f"{tool.name}{_signature(tool.input_schema)}")
    return head + (f"\n    {printable(lines[0])}" if lines else "")


def _signature(schema: dict[str, Any]) -> str:
    properties = schema.get("properties")
    required = schema.get("required") or []
    if not isinstance(properties, dict):
        return ""
    words = [
        f"{name}={_type(part)}" if name in required else f"[{name}={_type(part)}]"
        for name, part in properties.items()
    ]
    return "".join(f" {word}" for word in words)


def _type(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, list):
        return "|".join(str(one) for one in kind)
    values = part.get("enum") if isinstance(part, dict) else None
    return "|".join(str(one) for one in values) if isinstance(values, list) else str(kind or "any")


async def _call(reactor: Any, options: argparse.Namespace) -> int:
    alive = Alive(sys.stderr, reactor, drawing=sys.stderr.isatty())
    # People think in their own time: a thread of our own, daemonic, so that nobody waits for an unread line.
    people = ThreadPool(0, 1, "terminal")
    people.threadFactory = _daemonic(people.threadFactory)
    answers = _answers(reactor, alive, people) if sys.stdin.isatty() else Answers()
    async with (
        _target(reactor, options, alive) as server,
        Client(
            server,
            reactor,
            era=options.era,
            timeout=options.timeout,
            longest=max(options.timeout, options.longest),
            answers=answers,
            on_log=_logged,
        ) as client,
    ):
        tool = await _tool(client, options.tool)
        arguments = tool_arguments(options.arguments, options.json, tool.input_schema)
        alive.start()
        try:
            result = await client.call(
                options.tool, arguments, on_progress=alive.progress, on_log=_logged, level=options.log_level
            )
        finally:
            # The thread is left alone: it would be waited for, until somebody answers a question of the past.
            alive.stop()
    _show(result, raw=options.raw)
    return FAILED if result.is_error else OK


async def _tool(client: Client, name: str) -> Tool:
    found = await client.list_tools()
    for tool in found:
        if tool.name == name:
            return tool
    names = ", ".join(sorted(tool.name for tool in found)[:50]) or "none"
    raise ValueError(f"the server has no tool {name!r}; it has {names}")


def _answers(reactor: Any, alive: Alive, people: ThreadPool) -> Answers:
    terminal = Terminal(input, lambda line: print(line, file=sys.stderr))
    people.start()

    def elicit(question: Elicitation) -> Deferred[Any]:
        alive.hold()
        asked = deferToThreadPool(reactor, people, terminal.answer, question)
        return asked.addBoth(released)

    def released(outcome: Any) -> Any:
        alive.resume()
        return outcome

    return Answers(elicit=elicit, urls=True)


def _daemonic(factory: Any) -> Any:
    def make(*arguments: Any, **options: Any) -> Any:
        thread = factory(*arguments, **options)
        thread.daemon = True
        return thread

    return make


def _logged(message: LogMessage) -> None:
    data = message.data if isinstance(message.data, str) else json.dumps(message.data)
    print(f"{message.level}: {printable(data)}", file=sys.stderr)


def _show(result: CallResult, *, raw: bool) -> None:
    if raw:
        print(json.dumps(result.wire, indent=2))
        return
    out = sys.stderr if result.is_error else sys.stdout
    for block in result.content:
        if isinstance(block, TextContent):
            print(printable(block.text) if sys.stdout.isatty() else block.text, file=out)
        else:
            wire = getattr(block, "wire", {})
            size = len(wire.get("data") or wire.get("blob") or "")
            print(
                f"[{wire.get('type', 'content')} {wire.get('mimeType', wire.get('uri', ''))}"
                f"{f', {size} characters of Base64; --raw shows them' if size else ''}]",
                file=out,
            )
    if not result.content and result.structured is not UNSET:
        print(msgspec.json.encode(result.structured).decode(), file=out)
