"""A catalog that is searched instead of listed: three tools stand for all others (``expose = "search"``).

A call by way of ``call_tool`` becomes a call of the tool that it names before any gate judges it: what follows, from
authorization to receipts and metrics, sees that tool and nothing of the detour.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from erlmcp.catalog._catalog import Catalog, Found
from erlmcp.catalog._errors import InvalidArguments
from erlmcp.catalog._ranking import MOST_DOCUMENTS, Ranking
from erlmcp.catalog._results import tool_error
from erlmcp.catalog._schemas import CompiledSchema
from erlmcp.catalog._watchers import Watcher
from erlmcp.interfaces import (
    Change,
    Complete,
    Definitions,
    IAuthorize,
    IBackend,
    Outcome,
    Principal,
    Request,
    ToolDefinition,
)

log = Logger(namespace="erlmcp.catalog")

SEARCH: Final = "search_tools"
DESCRIBE: Final = "describe_tool"
CALL: Final = "call_tool"
NAMES: Final = frozenset({SEARCH, DESCRIBE, CALL})

SLICE: Final = 50
"""How many tools are taken into the index in one turn of the reactor."""

_INSTRUCTIONS: Final = (
    "The tools of this server are not listed. Find some with search_tools, read how one is called with describe_tool,"
    " and call it with call_tool."
)
_USUAL: Final = 10
_MOST: Final = 50
_SUMMARY: Final = 240
_NEAR: Final = 3
_HOUR_MS: Final = 3_600_000
_UNTOLD: Final = ("icons", "_meta")
"""What of a tool's definition is for programs, not for models."""

_READS: Final = {"readOnlyHint": True, "openWorldHint": False}
_NAMED: Final = {"type": "string", "description": "The tool's name, as search_tools gave it.", "minLength": 1}


class _Called(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def _tool(
    name: str, description: str, properties: dict[str, Any], required: list[str], **annotations: bool
) -> ToolDefinition:
    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    tool: dict[str, Any] = {"name": name, "description": description, "inputSchema": schema}
    if annotations:
        tool["annotations"] = annotations
    return ToolDefinition(
        name=name,
        wire=msgspec.Raw(msgspec.json.encode(tool)),
        input=CompiledSchema(schema),
        read_only=bool(annotations),
        idempotent=bool(annotations),
    )


_TOOLS: Final = {
    one.name: one
    for one in (
        _tool(
            CALL,
            "Call one of this server's tools by its name. Its result is that tool's own.",
            {
                "name": _NAMED,
                "arguments": {
                    "type": "object",
                    "description": "The tool's arguments, as describe_tool says that they must be.",
                },
            },
            ["name"],
        ),
        _tool(
            DESCRIBE,
            "How one of this server's tools is called: its description and the JSON Schema of its arguments.",
            {"name": _NAMED},
            ["name"],
            **_READS,
        ),
        _tool(
            SEARCH,
            "Find tools of this server by a few words about what is to be done. Gives names and short descriptions,"
            " the best match first.",
            {
                "query": {
                    "type": "string",
                    "description": "Words that the tool's name, description or parameters may have.",
                    "minLength": 1,
                    "maxLength": 1000,
                },
                "limit": {
                    "type": "integer",
                    "description": "How many are wanted.",
                    "minimum": 1,
                    "maximum": _MOST,
                    "default": _USUAL,
                },
            },
            ["query"],
            **_READS,
        ),
    )
}
_DEFINITIONS: Final = Definitions(tools=_TOOLS, instructions=_INSTRUCTIONS, ttl_ms=_HOUR_MS)


class SearchCatalog(Catalog):
    """A catalog whose list of tools has only the three; everything else is as in any other.

    Args:
        backends: providers and upstreams, in configuration order.
        authorize: what decides who may use, and so find, which tool.
        clock: for the turns in which many tools are taken into the index.
        chosen: as `Catalog` has it.

    Raises:
        NameCollision: as `Catalog`; also where a backend has a tool with the name of one of the three.
    """

    def __init__(
        self,
        backends: Iterable[IBackend],
        authorize: IAuthorize,
        clock: IReactorTime,
        chosen: Callable[[str], bool] | None = None,
    ) -> None:
        facade: IBackend = Facade(self._tools, authorize, clock)
        self._offered = chosen
        super().__init__((facade, *backends), self._is_chosen)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """See `Catalog`: of tools there is nothing to tell, their list never changes."""

        def told(change: Change) -> None:
            if change.kind != "tools":
                watcher(change)

        return super().watch(told)

    def _merge(self) -> Any:
        merged = super()._merge()
        merged.keys["tools"] = sorted(NAMES)
        return merged

    def _is_chosen(self, name: str) -> bool:
        return name in NAMES or self._offered is None or self._offered(name)

    def _tools(self) -> dict[str, Found]:
        return (self._merged or self._merge()).tables["tools"]


@implementer(IAuthorize)
class SearchAuthorize:
    """Gate 3 before a `SearchCatalog`: everybody may search; a call by way of ``call_tool`` is judged by its target.

    Args:
        inner: judges.

    Attributes:
        everything: as `inner` has it.
    """

    __slots__ = ("_inner", "everything")

    def __init__(self, inner: IAuthorize) -> None:
        self._inner = inner
        self.everything = inner.everything

    def check(self, request: Request) -> Awaitable[None] | None:
        """Make a call of ``call_tool`` one of the tool that it names, then judge.

        Raises:
            InvalidArguments: it names none, or its arguments are no object.
            erlmcp.protocol.McpError: as the inner gate.
        """
        if request.method == "tools/call":
            if request.name == CALL:
                _readdress(request)
            elif request.name in NAMES:
                return None
        return self._inner.check(request)

    def shows(self, principal: Principal, method: str, name: str) -> bool:
        """See `IAuthorize`."""
        return (method == "tools/call" and name in NAMES) or self._inner.shows(principal, method, name)


def _readdress(request: Request) -> None:
    params = request.params
    try:
        called = msgspec.json.decode(
            b"{}" if params.arguments is msgspec.UNSET else params.arguments, type=_Called
        )
    except msgspec.DecodeError as error:
        said = str(error).replace("`", "")
        raise _wrong(said[0].lower() + said[1:]) from None
    arguments = called.arguments
    if arguments is not msgspec.UNSET and not bytes(arguments).lstrip().startswith(b"{"):
        raise _wrong("arguments: it must be an object, not text or anything else")
    if called.name in NAMES:
        raise _wrong(f"name: {called.name} is called directly")
    request.name = params.name = called.name
    params.arguments = arguments
    # What a client mirrors into header fields is what it knows of `call_tool`: nothing of this tool's parameters.
    request.headers = None


def _wrong(what: str) -> InvalidArguments:
    return InvalidArguments(f"Invalid arguments for tool {CALL}: {what}")


@implementer(IBackend)
class Facade:
    """Answers ``search_tools`` and ``describe_tool``; ``call_tool`` never gets here.

    Args:
        tools: gives the tools of now, by name: the same object as long as nothing has changed.
        authorize: what decides who may use which of them.
        clock: for the turns of the reactor.

    Attributes:
        name: one that no configured backend has.
    """

    name = "erlmcp:search"

    def __init__(
        self, tools: Callable[[], dict[str, Found]], authorize: IAuthorize, clock: IReactorTime
    ) -> None:
        self._tools = tools
        self._authorize = authorize
        self._clock = clock
        self._ranking = Ranking()
        self._known: dict[str, bytes] = {}  # what is in the index, as it was listed
        self._of: dict[str, Found] = {}  # the tools that the index is, or will be, of
        self._waiting: deque[str] = deque()

    def definitions(self) -> Definitions:
        """See `IBackend`."""
        return _DEFINITIONS

    def watch(self, watcher: Watcher) -> Callable[[], None]:  # noqa: ARG002 - there is nothing to tell
        """See `IBackend`."""
        return lambda: None

    def dispatch(self, request: Request) -> Outcome | Awaitable[Outcome]:
        """See `IBackend`."""
        return self._search(request) if request.name == SEARCH else self._describe(request)

    async def _search(self, request: Request) -> Outcome:
        arguments: dict[str, Any] = request.arguments or {}
        while not self._catch_up():
            await deferLater(self._clock, 0)
        most = arguments.get("limit", _USUAL)
        names = self._ranking.best(arguments["query"], most + 1, self._shows(request.principal))
        if not names:
            return _said("No tool here matches these words. Other words may: say what the tool would do.")
        answer: dict[str, Any] = {"tools": [_summary(self._of[name][1]) for name in names[:most]]}
        if len(names) > most:
            answer["more"] = True
        return _said(msgspec.json.encode(answer).decode())

    def _describe(self, request: Request) -> Outcome:
        name = (request.arguments or {})["name"]
        shows = self._shows(request.principal)
        found = None if name in NAMES else self._tools().get(name)
        if found is None or not (shows is None or shows(name)):
            near = self._ranking.best(name, _NEAR, shows)
            hint = f"; there is {', '.join(near)}" if near else ""
            return tool_error(f"No tool here is named {name[:200]!r}{hint}")
        return _said(_told(found[1]))

    def _shows(self, principal: Principal) -> Callable[[str], bool] | None:
        if self._authorize.everything:
            return None
        return lambda name: self._authorize.shows(principal, "tools/call", name)

    def _catch_up(self) -> bool:
        """Take some more of what is new into the index; whether all of it is there."""
        tools = self._tools()
        if tools is not self._of:
            self._follow(tools)
        for _ in range(SLICE):
            if not self._waiting:
                return True
            name = self._waiting.popleft()
            wire = bytes(tools[name][1].wire)
            if self._ranking.put(name, _fields(name, wire)):
                self._known[name] = wire
            else:
                self._known.pop(name, None)
        return not self._waiting

    def _follow(self, tools: dict[str, Found]) -> None:
        """The tools are others than before: forget those that have gone, and look at what is new or has changed."""
        self._of = tools
        for name in [name for name in self._known if name not in tools]:
            del self._known[name]
            self._ranking.drop(name)
        self._waiting = deque(
            name
            for name, (_, definition) in tools.items()
            if name not in NAMES and self._known.get(name) != bytes(definition.wire)
        )
        if len(tools) - len(NAMES) > MOST_DOCUMENTS:
            log.warn(  # noqa: G010 - Twisted's name
                "{count} tools: more than {most} cannot be searched; the others can be described and called",
                count=len(tools) - len(NAMES),
                most=MOST_DOCUMENTS,
            )


def _fields(name: str, wire: bytes) -> list[tuple[float, str]]:
    """What a tool is found by: its name most of all, then its title, its description, and its parameters."""
    tool = msgspec.json.decode(wire)
    hints = tool.get("annotations")
    schema = tool.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    found: list[tuple[float, Any]] = [
        (3.0, name),
        (2.0, tool.get("title")),
        (2.0, hints.get("title") if isinstance(hints, dict) else None),
        (1.0, tool.get("description")),
    ]
    for key, value in (properties if isinstance(properties, dict) else {}).items():
        found.append((0.5, key))
        found.append((0.3, value.get("description") if isinstance(value, dict) else None))
    return [(weight, text) for weight, text in found if isinstance(text, str)]


def _summary(definition: ToolDefinition) -> dict[str, str]:
    tool = msgspec.json.decode(definition.wire)
    found = {"name": definition.name}
    description = tool.get("description") or tool.get("title")
    if isinstance(description, str):
        first = " ".join(description.strip().partition("\n\n")[0].split())
        found["description"] = first if len(first) <= _SUMMARY else f"{first[: _SUMMARY - 2]} …"
    return found


def _told(definition: ToolDefinition) -> str:
    parts = msgspec.json.decode(definition.wire, type=dict[str, msgspec.Raw])
    for key in _UNTOLD:
        parts.pop(key, None)
    return msgspec.json.encode(parts).decode()


def _said(text: str) -> Complete:
    return Complete({"content": [{"type": "text", "text": text}]})
