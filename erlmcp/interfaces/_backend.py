"""Who answers: providers here, upstreams elsewhere."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from erlmcp.interfaces._definitions import (
    PromptDefinition,
    ResourceDefinition,
    TemplateDefinition,
    ToolDefinition,
)
from erlmcp.interfaces._outcome import Outcome
from erlmcp.interfaces._request import Request


class Change(msgspec.Struct, frozen=True):
    """Something that listeners want to hear of.

    Attributes:
        kind: ``tools``, ``prompts``, ``resources`` (a list has changed), ``completions`` (what is suggested has, of
            which no client is told) or ``updated`` (a resource has).
        uri: the resource, for ``updated``.
        everywhere: whether every worker that it matters to hears of it by itself, so that none need be told.
    """

    kind: str
    uri: str = ""
    everywhere: bool = False


class Definitions(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of what a backend offers. Replaced as a whole when it changes, never altered.

    Attributes:
        tools, prompts: by name; resources: by URI; templates: by URI template.
        completions: whether the backend answers ``completion/complete``.
        logging: whether it may send log messages.
        subscribe: whether it announces updates of single resources.
        instructions: guidance for the model, empty for none.
        ttl_ms: how long lists of this backend may be thought fresh.
        cache_scope: ``public`` or ``private``.
        expected: which of ``tools``, ``prompts``, ``resources``, ``completions``, ``logging`` and ``subscribe`` there
            may be later, of a backend that does not know yet: clients are told at their beginning what there is to ask
            for, and some never again.
        stale: why this may not be true any more, for the operator; empty while it is. Clients learn the backend's
            name alone: the reason may have addresses in it.
    """

    tools: Mapping[str, ToolDefinition] = {}
    prompts: Mapping[str, PromptDefinition] = {}
    resources: Mapping[str, ResourceDefinition] = {}
    templates: Mapping[str, TemplateDefinition] = {}
    completions: bool = False
    logging: bool = False
    subscribe: bool = False
    instructions: str = ""
    ttl_ms: int = 0
    cache_scope: str = "public"
    expected: frozenset[str] = frozenset()
    stale: str = ""


class IFollowing(Protocol):
    """Somebody wants to hear of the updates of a resource, until `end`."""

    def ready(self) -> "Deferred[None] | None":
        """None if updates are heard of from now on; else what fires when they are, or nobody knows when they will be.

        It does not fail, and takes a few seconds at most.
        """

    def end(self) -> None:
        """Nobody wants to any more."""


class IBackend(Interface):
    """Something that answers requests: a provider in this process, or an MCP server elsewhere."""

    name: str = Attribute("unique in a catalog")

    def definitions() -> Definitions:
        """The current snapshot. The same object as long as nothing has changed."""

    def watch(watcher: Callable[[Change], None]) -> Callable[[], None]:
        """Tell `watcher` of each change, after `definitions` has it; returns what ends the watch."""

    def dispatch(request: Request) -> Outcome | Awaitable[Outcome]:
        """Answer ``tools/call``, ``resources/read``, ``prompts/get`` or ``completion/complete``.

        The request is validated; its `target` is one of this backend's definitions (for completion: None). An answer
        that is there at once is returned as it is; else a coroutine, which may await Deferreds and `Request.ask`; or a
        Deferred; or a `Pending`, which costs less.

        Raises:
            erlmcp.protocol.McpError: a protocol error for the client.
        """


class IFollows(Interface):
    """What a backend has beside `IBackend` if it must ask elsewhere for the updates that it announces."""

    def follow(uri: str) -> IFollowing:
        """Somebody wants to hear of this resource's updates: announce them. Each call has an `end` of its own."""


class IClaims(Interface):
    """What a backend has beside `IBackend` if resources may be its own that it lists nowhere."""

    def claim(uri: str) -> ResourceDefinition | None:
        """The resource, if its URI shows that it is this backend's.

        Results may link to what no list has (revision 2026-07-28, server/tools, "Resource Links").
        """


class IForgets(Interface):
    """What a backend has beside `IBackend` if it keeps something for each client that has a session of its own."""

    def forget_sessions(sessions: Collection[str]) -> None:
        """These have ended, by their `Request.session`: nobody comes back for what was theirs.

        It does not raise. A session may be told of more than once, and is if several workers or views know of it;
        one that its client has merely left is not told of.
        """


class IHeardLater(Interface):
    """What a backend has beside `IBackend` if it is served before it is known what it offers."""

    def may_have(method: str, name: str) -> Deferred[None] | None:
        """Wait until it is known whether it offers this, for a few seconds at most.

        Args:
            method: ``tools/call``, ``prompts/get`` or ``resources/read``; or that of a list.
            name: what nobody offers so far; empty with a list.

        Returns:
            None where it is known already, or nothing of the backend could be called so. It never fails.
        """


class IProvider(IPlugin):
    """A plugin that offers tools, resources and prompts."""

    name: str = Attribute("what ``use = ...`` may say instead of MODULE:ATTRIBUTE")

    def backend(options: Mapping[str, Any]) -> IBackend:
        """Make the backend from its own configuration table."""


class IMiddleware(IPlugin):
    """A plugin around the dispatch of each request to its backend."""

    name: str = Attribute("what the configuration calls it")

    def wrap(request: Request, call_next: Callable[[Request], Awaitable[Outcome]]) -> Awaitable[Outcome]:
        """Do what must be done before and after ``await call_next(request)``; a coroutine method."""
