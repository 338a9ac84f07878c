"""The client: what can be asked of an MCP server, the same for both eras and every transport."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, Self, TypeVar

import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from erlmcp import __version__
from erlmcp.client._answers import Answers
from erlmcp.client._backoff import Backoff
from erlmcp.client._cache import Cache
from erlmcp.client._connection import Connection
from erlmcp.client._edges import Edge, Headers
from erlmcp.client._errors import BadAnswer
from erlmcp.client._identity import Identity
from erlmcp.client._mirrors import Mirrors
from erlmcp.client._opening import EraMemory, Opening
from erlmcp.client._requests import Requests, Wanted
from erlmcp.client._results import (
    CallResult,
    CompletionResult,
    Kept,
    LogMessage,
    Progress,
    Prompt,
    PromptResult,
    ReadResult,
    Resource,
    ResourceTemplate,
    Server,
    Tool,
    read,
)
from erlmcp.client._subscriptions import Change, Subscription, change_of
from erlmcp.client._targets import Target
from erlmcp.client._watching import watching
from erlmcp.jsonrpc import Limits
from erlmcp.protocol import LOG_LEVELS, METHODS
from erlmcp.timing import Wheel

log = Logger(namespace="erlmcp.client")

K = TypeVar("K", bound=Kept)

_MOST_PAGES: Final = 10_000


class Client:
    """A client of one MCP server.

    It connects when it is first asked for something, and again after a loss. Every method that asks the server returns
    a Deferred, which coroutines can await and whose cancellation the server is told of. What goes wrong is a
    `ClientError`: `ServerError` if the server said so, `Disconnected`, `TimedOut`, `BadAnswer`, `NotOffered`, `Busy`.

    Args:
        target: the server, as `http`, `stdio`, `stream` and `target` in this package make it.
        reactor: what it runs on.
        name: its own name, for the server's display.
        version: its own version.
        title: its own name for people; empty for none.
        answers: who answers when the server asks; with None it is told that nobody does.
        era: ``modern``, ``handshake`` or a revision to speak without asking; None to find out.
        memory: which era servers were found to be of; give the same one to many clients, or keep it.
        cache: keeps what servers allow to be kept; None for one of its own, False for none.
        principal: whose client this is, if `cache` is shared by several.
        timeout: seconds without an answer or progress after which a request fails.
        longest: seconds that a request may take whatever progress it makes.
        connect_timeout: seconds for each step of connecting.
        rounds: how often a server may ask for input within one request.
        in_flight: how many requests may be under way at once; more wait.
        waiting: how many may wait; more fail with `Busy`.
        backoff: the pauses between attempts to connect.
        limits: the bounds of one message from the server.
        on_log: gets each `LogMessage` that belongs to no call which wants them itself.

    Attributes:
        peer: the server's name in errors: a URL, an endpoint or a command.
    """

    def __init__(
        self,
        target: Target,
        reactor: Any,
        *,
        name: str = "erlmcp",
        version: str = __version__,
        title: str = "",
        answers: Answers | None = None,
        era: str | None = None,
        memory: EraMemory | None = None,
        cache: Cache | bool | None = None,
        principal: str = "",
        timeout: float = 60.0,
        longest: float = 600.0,
        connect_timeout: float = 30.0,
        rounds: int = 10,
        in_flight: int = 1000,
        waiting: int = 100_000,
        backoff: Backoff | None = None,
        limits: Limits | None = None,
        on_log: Callable[[LogMessage], None] | None = None,
    ) -> None:
        answers = answers or Answers()
        self.peer = target.peer
        self._target = target
        self._timeout = timeout
        self._longest = longest
        self._on_log = on_log
        self._principal = principal
        self._cache = Cache(reactor.seconds) if cache is None or cache is True else cache or None
        self._mirrors = Mirrors()
        self._learners: list[Deferred[None]] = []
        self._wheel = Wheel(reactor, tick=0.1)
        opening = Opening(
            target.make_wire,
            Identity(name, version, _declared(answers, target), title),
            self._wheel,
            reactor,
            make_old_wire=target.make_old_wire,
            era=era,
            memory=memory,
            timeout=connect_timeout,
            in_flight=in_flight,
            waiting=waiting,
            limits=limits,
        )
        self._connection = Connection(
            target.peer, opening, answers, reactor, backoff or Backoff(), self._notified
        )
        self._requests = Requests(self._connection, answers, rounds, self._mirrored)

    # the connection

    def connect(self) -> Deferred[Server]:
        """Connect now rather than with the first request; fires with what is known of the server."""
        return self._connection.connected().addCallback(lambda edge: edge.server)

    @property
    def server(self) -> Server | None:
        """What is known of the server; None while there is no connection."""
        return None if self._connection.edge is None else self._connection.edge.server

    def close(self) -> Deferred[None]:
        """End it: requests fail, subscriptions end, a session is deleted, a child process is ended."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._connection.close()
        self._wheel.stop()
        await self._target.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # lists

    def list_tools(self) -> Deferred[list[Tool]]:
        """All tools, every page of them; over HTTP without those whose ``x-mcp-header`` is invalid."""
        return Deferred.fromCoroutine(_all(self.tools()))

    def list_resources(self) -> Deferred[list[Resource]]:
        """All resources."""
        return Deferred.fromCoroutine(_all(self.resources()))

    def list_templates(self) -> Deferred[list[ResourceTemplate]]:
        """All resource templates."""
        return Deferred.fromCoroutine(_all(self.templates()))

    def list_prompts(self) -> Deferred[list[Prompt]]:
        """All prompts."""
        return Deferred.fromCoroutine(_all(self.prompts()))

    async def tools(self) -> AsyncIterator[Tool]:
        """The tools, asked for page by page as they are used up."""
        async for page in self._pages("tools/list", "tools", Tool):
            edge = self._connection.edge
            linked = edge is not None and edge.asks_again and edge.conversation.wire.linked
            for tool in self._mirrors.learn(page, self.peer, linked=linked):
                yield tool
        self._mirrors.complete = True

    async def resources(self) -> AsyncIterator[Resource]:
        """The resources, page by page."""
        async for page in self._pages("resources/list", "resources", Resource):
            for one in page:
                yield one

    async def templates(self) -> AsyncIterator[ResourceTemplate]:
        """The resource templates, page by page."""
        async for page in self._pages("resources/templates/list", "resourceTemplates", ResourceTemplate):
            for one in page:
                yield one

    async def prompts(self) -> AsyncIterator[Prompt]:
        """The prompts, page by page."""
        async for page in self._pages("prompts/list", "prompts", Prompt):
            for one in page:
                yield one

    async def _pages(self, method: str, member: str, shape: type[K]) -> AsyncIterator[list[K]]:
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            raw = await self._make(method, {} if cursor is None else {"cursor": cursor}, Wanted())
            entries, cursor = self._page(method, member, raw)
            yield [self._read(method, shape, entry) for entry in entries]
            if cursor is None:
                return
            if cursor in seen or len(seen) >= _MOST_PAGES:
                raise BadAnswer(self.peer, f"{method}: its pages do not end: {len(seen)} so far")
            seen.add(cursor)

    def _page(self, method: str, member: str, raw: Raw) -> tuple[list[Raw], str | None]:
        try:
            page = msgspec.json.decode(raw, type=dict[str, Raw])
            cursor = msgspec.json.decode(page.get("nextCursor", b"null"), type=str | None)
            if member not in page:
                raise BadAnswer(self.peer, f"{method}: its result has no {member}")
            return msgspec.json.decode(page[member], type=list[Raw]), cursor
        except msgspec.DecodeError as error:
            raise BadAnswer(self.peer, f"{method}: {error}") from error

    # the rest of what can be asked

    def call(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        longest: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_log: Callable[[LogMessage], None] | None = None,
        level: str | None = None,
        repeatable: bool = False,
        meta: dict[str, Any] | None = None,
    ) -> Deferred[CallResult]:
        """Call a tool.

        Args:
            name: the tool's.
            arguments: what it takes.
            timeout: instead of the client's.
            longest: instead of the client's.
            on_progress: gets the call's progress; what does not increase is left out.
            on_log: gets what the server logs for this call.
            level: which of that is wanted; in the handshake revisions see `set_level`.
            repeatable: the call may be made again when its outcome is unknown, as with tools that say so
                (`Tool.repeatable`).
            meta: more for `_meta`.

        Returns:
            The result; one of a tool that failed has `is_error`, and is no failure here.
        """
        params: dict[str, Any] = {"name": name, "arguments": {} if arguments is None else arguments}
        wanted = Wanted(
            watch=watching(on_progress, on_log),
            timeout=self._timeout if timeout is None else timeout,
            longest=self._longest if longest is None else longest,
            level=level,
            meta=meta,
            repeatable=repeatable,
        )
        return Deferred.fromCoroutine(self._result("tools/call", params, CallResult, wanted))

    def read(self, uri: str, *, meta: dict[str, Any] | None = None) -> Deferred[ReadResult]:
        """Read a resource."""
        return Deferred.fromCoroutine(
            self._result("resources/read", {"uri": uri}, ReadResult, self._usual(meta))
        )

    def get(
        self, name: str, arguments: dict[str, str] | None = None, *, meta: dict[str, Any] | None = None
    ) -> Deferred[PromptResult]:
        """Get a prompt, filled in."""
        params: dict[str, Any] = {"name": name}
        if arguments is not None:
            params["arguments"] = arguments
        return Deferred.fromCoroutine(self._result("prompts/get", params, PromptResult, self._usual(meta)))

    def complete(
        self,
        argument: str,
        value: str,
        *,
        prompt: str | None = None,
        template: str | None = None,
        given: dict[str, str] | None = None,
    ) -> Deferred[CompletionResult]:
        """Complete an argument of a prompt or of a resource template.

        Args:
            argument: its name.
            value: what was typed so far.
            prompt: the prompt's name.
            template: or the template's URI.
            given: the arguments that have a value already.
        """
        if (prompt is None) == (template is None):
            raise ValueError("complete() is about a prompt or a template: give one of the two")
        ref = (
            {"type": "ref/resource", "uri": template}
            if prompt is None
            else {"type": "ref/prompt", "name": prompt}
        )
        params: dict[str, Any] = {"ref": ref, "argument": {"name": argument, "value": value}}
        if given:
            params["context"] = {"arguments": given}
        return Deferred.fromCoroutine(
            self._result("completion/complete", params, CompletionResult, self._usual(None))
        )

    def listen(
        self,
        on_change: Callable[[Change], None],
        *,
        tools: bool = False,
        prompts: bool = False,
        resources: bool = False,
        uris: Iterable[str] = (),
    ) -> Subscription:
        """Hear of changes, over reconnections too, until the subscription is closed.

        Args:
            on_change: gets each `Change`.
            tools: whether to hear of changes of the list of tools.
            prompts: likewise of prompts.
            resources: likewise of resources.
            uris: resources whose contents are of interest.
        """
        flags = {"tools": tools, "prompts": prompts, "resources": resources}
        kinds = [kind for kind, wanted in flags.items() if wanted]
        return self._connection.subscriptions.add(kinds, uris, on_change)

    def ping(self) -> Deferred[None]:
        """Ask whether the server is there; the modern revision has ``server/discover`` for that."""
        return Deferred.fromCoroutine(self._ping())

    async def _ping(self) -> None:
        edge = await self._connection.connected()
        await self._make("server/discover" if edge.asks_again else "ping", {}, self._usual(None), fresh=True)

    def set_level(self, level: str) -> Deferred[None]:
        """Say which log messages are wanted; only the handshake revisions have it (`NotOffered` in the modern one)."""
        if level not in LOG_LEVELS:
            raise ValueError(f"level is {level!r}; it is one of {', '.join(LOG_LEVELS)}")
        making = Deferred.fromCoroutine(self._make("logging/setLevel", {"level": level}, self._usual(None)))
        return making.addCallback(lambda _: None)

    def request(self, method: str, params: dict[str, Any] | None = None, **wanted: Any) -> Deferred[Raw]:
        """Make any request, of an extension for instance; gives the raw result. See `call` for the options."""
        options = {"timeout": self._timeout, "longest": self._longest, **wanted}
        return Deferred.fromCoroutine(self._make(method, params or {}, Wanted(**options), fresh=True))

    # inside

    def _usual(self, meta: dict[str, Any] | None) -> Wanted:
        return Wanted(timeout=self._timeout, longest=self._longest, meta=meta)

    async def _result(self, method: str, params: dict[str, Any], shape: type[K], wanted: Wanted) -> K:
        return self._read(method, shape, await self._make(method, params, wanted))

    async def _make(self, method: str, params: dict[str, Any], wanted: Wanted, *, fresh: bool = False) -> Raw:
        known = METHODS.get(method)
        cache = (
            self._cache if known is not None and known.cacheable and not fresh and not wanted.meta else None
        )
        if cache is None:
            raw, _ = await self._requests.make(method, params, wanted)
            return raw
        key = msgspec.json.encode(params, order="sorted")
        kept = cache.find(self._principal, self.peer, method, key)
        if kept is not None:
            return kept
        raw, first = await self._requests.make(method, params, wanted)
        if first:
            cache.keep(self._principal, self.peer, method, key, raw)
        return raw

    def _read(self, method: str, shape: type[K], raw: Raw) -> K:
        try:
            return read(shape, raw)
        except msgspec.DecodeError as error:
            raise BadAnswer(self.peer, f"{method}: {error}") from error

    async def _mirrored(self, edge: Edge, params: dict[str, Any], anew: bool) -> Headers:
        """The ``Mcp-Param-*`` headers of a call, for which the tool's schema has to be known."""
        if anew:
            self._mirrors.forget()
            if self._cache is not None:
                self._cache.changed(self.peer, "notifications/tools/list_changed")
        headers = self._mirrors.headers(params["name"], params["arguments"])
        if headers is None and not self._mirrors.complete and edge.server.offers("tools"):
            await self._learnt()
            headers = self._mirrors.headers(params["name"], params["arguments"])
        return headers or ()

    def _learnt(self) -> Deferred[None]:
        """The list of tools, asked for once by however many calls wait for it."""
        waiter: Deferred[None] = Deferred()
        self._learners.append(waiter)
        if len(self._learners) == 1:
            Deferred.fromCoroutine(self._learn()).addBoth(self._has_learnt)
        return waiter

    async def _learn(self) -> None:
        async for _ in self.tools():
            pass

    def _has_learnt(self, outcome: Any) -> None:
        learners, self._learners = self._learners, []
        for one in learners:
            one.callback(outcome)

    def _notified(self, method: str, params: Raw) -> None:
        change = change_of(method, params)
        if change is not None:
            if change.kind == "tools":
                self._mirrors.forget()
            if self._cache is not None:
                self._cache.changed(self.peer, method, change.uri)
        elif method == "notifications/message" and self._on_log is not None:
            watch = watching(None, self._on_log)
            if watch is not None:
                watch(method, params)


def _declared(answers: Answers, target: Target) -> dict[str, Any]:
    """The client's capabilities: what is answered here, and what the way to the server is an extension of."""
    declared = answers.capabilities()
    if target.extensions:
        declared["extensions"] = {
            **declared.get("extensions", {}),
            **{name: {} for name in target.extensions},
        }
    return declared


async def _all(entries: AsyncIterator[K]) -> list[K]:
    return [one async for one in entries]
