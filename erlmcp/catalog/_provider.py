"""A provider: what an author offers, by decorators, and the backend that answers with it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, Unpack, cast, overload

from zope.interface import implementer

from erlmcp.catalog._calls import Workshop, require_asyncio_reactor
from erlmcp.catalog._completions import NOTHING, Key, Suggestions
from erlmcp.catalog._metadata import icon_list
from erlmcp.catalog._prompts import Prompt, PromptOptions
from erlmcp.catalog._resources import Resource, ResourceOptions
from erlmcp.catalog._tools import Tool, ToolOptions
from erlmcp.catalog._watchers import Watcher, Watchers
from erlmcp.interfaces import (
    Change,
    Complete,
    Definitions,
    IBackend,
    Outcome,
    PromptDefinition,
    Request,
    ResourceDefinition,
    TemplateDefinition,
    ToolDefinition,
)
from erlmcp.protocol import errors

Call = Callable[..., Any]
F = TypeVar("F", bound=Call)


@implementer(IBackend)
class Provider:
    """Tools, resources and prompts written in Python.

    Handlers are coroutines that may await Deferreds, or plain functions, which run in a bounded pool of threads.

    Args:
        name: unique among the backends of a server.
        title: a name to display.
        version: the author's own.
        instructions: guidance for the model.
        icons: URLs or ``Icon`` objects.
        ttl: seconds that lists may be thought fresh.
        asyncio: run coroutines as tasks on asyncio's loop, for handlers that need asyncio libraries. This needs
            Twisted's asyncio reactor; such handlers await asyncio's things, not Deferreds.
        threads: the most threads for plain functions.
        queue: the most plain functions that wait for a thread; past it, calls are refused as overload.

    Attributes:
        name, title, version, icons: as given.
    """

    def __init__(
        self,
        name: str,
        *,
        title: str | None = None,
        version: str | None = None,
        instructions: str = "",
        icons: Sequence[Any] = (),
        ttl: float = 60.0,
        asyncio: bool = False,
        threads: int = 8,
        queue: int = 1024,
    ) -> None:
        if not name:
            raise ValueError("a provider needs a name")
        if ttl < 0:
            raise ValueError(f"provider {name!r}: ttl={ttl} is a time in seconds, at least 0")
        self.name = name
        self.title = title
        self.version = version
        self.icons = icon_list(icons, f"provider {name!r}")
        self._instructions = instructions
        self._ttl_ms = round(ttl * 1000)
        self._workshop = Workshop(asyncio=asyncio, threads=threads, queue=queue, name=name)
        self._tools: dict[str, Tool] = {}
        self._prompts: dict[str, Prompt] = {}
        self._resources: dict[str, Resource] = {}
        self._templates: dict[str, Resource] = {}
        self._completions: dict[Key, Suggestions] = {}
        self._snapshot: Definitions | None = None
        self._watchers = Watchers()
        self._batches = 0
        self._pending: dict[str, None] = {}

    @property
    def needs_asyncio(self) -> bool:
        """Whether it can be served on the asyncio reactor only."""
        return self._workshop.asyncio

    def bind(self, reactor: Any) -> None:
        """Say which reactor serves it; without this, the installed one is taken when a plain function is first called.

        Raises:
            RuntimeError: the provider says ``asyncio=True`` and the reactor is not asyncio's.
        """
        if self._workshop.asyncio:
            require_asyncio_reactor(reactor)
        self._workshop.reactor = reactor

    def stop(self) -> None:
        """End its threads; functions that run are abandoned."""
        self._workshop.stop()

    @overload
    def tool(self, call: F, /) -> F: ...
    @overload
    def tool(self, call: str | None = None, /, **options: Unpack[ToolOptions]) -> Callable[[F], F]: ...
    def tool(self, call: F | str | None = None, /, **options: Unpack[ToolOptions]) -> F | Callable[[F], F]:
        """Offer a function as a tool: ``@provider.tool`` or ``@provider.tool(title="…")``; options: `ToolOptions`."""
        if isinstance(call, str):
            options["name"] = call
        return _decorated(
            None if isinstance(call, str) else call, lambda found: self.add_tool(found, **options)
        )

    def resource(self, uri: str, /, **options: Unpack[ResourceOptions]) -> Callable[[F], F]:
        """Offer what a function returns as a resource, or as many, by URI template; options: `ResourceOptions`."""
        if callable(uri):
            raise TypeError('a resource needs its URI: write @provider.resource("config://settings")')
        return cast(
            "Callable[[F], F]", _decorated(None, lambda found: self.add_resource(uri, found, **options))
        )

    @overload
    def prompt(self, call: F, /) -> F: ...
    @overload
    def prompt(self, call: str | None = None, /, **options: Unpack[PromptOptions]) -> Callable[[F], F]: ...
    def prompt(
        self, call: F | str | None = None, /, **options: Unpack[PromptOptions]
    ) -> F | Callable[[F], F]:
        """Offer a function as a prompt: ``@provider.prompt`` or with options: `PromptOptions`."""
        if isinstance(call, str):
            options["name"] = call
        return _decorated(
            None if isinstance(call, str) else call, lambda found: self.add_prompt(found, **options)
        )

    def completion(self, ref: str, argument: str) -> Callable[[F], F]:
        """Suggest values for an argument of a prompt (by name) or a variable of a resource template (by template)."""
        return cast(
            "Callable[[F], F]", _decorated(None, lambda found: self.add_completion(ref, argument, found))
        )

    def add_tool(self, call: Call, **options: Unpack[ToolOptions]) -> None:
        """Offer a tool; as `tool`, while running too.

        Raises:
            TypeError, ValueError: the function or an option cannot be used, or the name is taken.
        """
        tool = Tool(call, options, self._workshop)
        self._add(self._tools, tool.definition.name, tool, "tools", "tool")

    def add_resource(self, uri: str, call: Call, **options: Unpack[ResourceOptions]) -> None:
        """Offer a resource or a template; as `resource`, while running too."""
        resource = Resource(uri, call, options, self._workshop)
        table = self._templates if isinstance(resource.definition, TemplateDefinition) else self._resources
        self._add(table, uri, resource, "resources", "resource")

    def add_prompt(self, call: Call, **options: Unpack[PromptOptions]) -> None:
        """Offer a prompt; as `prompt`, while running too."""
        prompt = Prompt(call, options, self._workshop)
        self._add(self._prompts, prompt.definition.name, prompt, "prompts", "prompt")

    def add_completion(self, ref: str, argument: str, call: Call) -> None:
        """Suggest values; as `completion`.

        Raises:
            ValueError: there is no such prompt or template, or it has no such argument, or it has suggestions already.
        """
        known = self._prompts[ref].definition.arguments if ref in self._prompts else None
        if known is None and ref in self._templates:
            known = dict.fromkeys(self._templates[ref].variables, True)
        if known is None:
            raise ValueError(f"completion: {ref!r} is no prompt and no resource template; define it first")
        if argument not in known:
            raise ValueError(
                f"completion: {ref!r} has no argument {argument!r}; it has {', '.join(known) or 'none'}"
            )
        if (ref, argument) in self._completions:
            raise ValueError(f"completion: {ref!r} has suggestions for {argument!r} already")
        suggestions = Suggestions(call, (ref, argument), self._workshop)
        self._workshop.on_reactor(self._suggest, (ref, argument), suggestions)

    def remove_tool(self, name: str) -> None:
        """Offer it no longer; KeyError if it is not offered."""
        self._workshop.on_reactor(self._remove, self._tools, name, "tools")

    def remove_resource(self, uri: str) -> None:
        """Offer the resource or template no longer; KeyError if it is not offered."""
        table = self._templates if uri in self._templates else self._resources
        self._workshop.on_reactor(self._remove, table, uri, "resources")

    def remove_prompt(self, name: str) -> None:
        """Offer it no longer; KeyError if it is not offered."""
        self._workshop.on_reactor(self._remove, self._prompts, name, "prompts")

    def notify_updated(self, uri: str) -> None:
        """Tell those who subscribed to this resource that it has changed.

        This and all that changes a provider may be called on the reactor's thread and in the provider's own plain
        functions; from other threads, go through ``reactor.callFromThread``.
        """
        self._workshop.on_reactor(self._watchers.tell, Change("updated", uri))

    @contextmanager
    def changes(self) -> Iterator[None]:
        """Several changes as one: watchers hear of each kind once, at the end."""
        self._workshop.on_reactor(self._begin)
        try:
            yield
        finally:
            self._workshop.on_reactor(self._end)

    def definitions(self) -> Definitions:
        """The current snapshot. The same object as long as nothing has changed."""
        if self._snapshot is None:
            parts = [
                part
                for table in (self._tools, self._prompts, self._resources, self._templates)
                for part in table.values()
            ]
            self._snapshot = Definitions(
                tools=_definitions(self._tools, ToolDefinition),
                prompts=_definitions(self._prompts, PromptDefinition),
                resources=_definitions(self._resources, ResourceDefinition),
                templates=_definitions(self._templates, TemplateDefinition),
                completions=bool(self._completions),
                logging=any(part.takes_context for part in parts),
                subscribe=bool(self._resources or self._templates),
                instructions=self._instructions,
                ttl_ms=self._ttl_ms,
            )
        return self._snapshot

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of each change, after `definitions` has it; returns what ends the watch."""
        return self._watchers.add(watcher)

    def dispatch(self, request: Request) -> Outcome | Awaitable[Outcome]:
        """Answer a request whose target is one of ours (see `IBackend`)."""
        method = request.method
        target = request.target
        # A gate may have waited since the target was found. What has taken its name meanwhile has another schema, which
        # these arguments were not validated with.
        if method == "tools/call":
            tool = self._tools.get(target.name)
            if tool is None or tool.definition is not target:
                raise errors.unknown_tool(request.name)
            return tool.run(request)
        if method == "resources/read":
            table, key = (
                (self._templates, target.uri_template)
                if isinstance(target, TemplateDefinition)
                else (self._resources, target.uri)
            )
            resource = table.get(key)
            if resource is None or resource.definition is not target:
                raise errors.resource_not_found(request.name)
            return resource.run(request)
        if method == "prompts/get":
            prompt = self._prompts.get(target.name)
            if prompt is None or prompt.definition is not target:
                raise errors.unknown_prompt(request.name)
            return prompt.run(request)
        if method == "completion/complete":
            ref = request.params.ref
            found = self._completions.get((_reference(ref), request.params.argument.name))
            return Complete({"completion": dict(NOTHING)}) if found is None else found.run(request)
        raise errors.method_not_found(method)

    def _add(self, table: dict[str, Any], key: str, value: Any, kind: str, what: str) -> None:
        if key in table:
            raise ValueError(f"provider {self.name!r} has a {what} {key!r} already; remove that first")
        self._workshop.on_reactor(self._insert, table, key, value, kind)

    def _insert(self, table: dict[str, Any], key: str, value: Any, kind: str) -> None:
        table[key] = value
        self._changed(kind)

    def _remove(self, table: dict[str, Any], key: str, kind: str) -> None:
        del table[key]
        for reference in [
            reference for reference in self._completions if reference[0] == key and kind != "tools"
        ]:
            del self._completions[reference]
        self._changed(kind)

    def _suggest(self, key: Key, suggestions: Suggestions) -> None:
        self._completions[key] = suggestions
        self._changed("completions")

    def _begin(self) -> None:
        self._batches += 1

    def _end(self) -> None:
        self._batches -= 1
        if not self._batches:
            pending, self._pending = self._pending, {}
            for kind in pending:
                self._watchers.tell(Change(kind))

    def _changed(self, kind: str) -> None:
        self._snapshot = None
        if self._batches:
            self._pending[kind] = None
        else:
            self._watchers.tell(Change(kind))


D = TypeVar("D")


def _definitions(table: Mapping[str, Any], kind: type[D]) -> dict[str, D]:  # noqa: ARG001 - gives the type
    return {key: table[key].definition for key in sorted(table)}


def _reference(ref: Any) -> str:
    return cast("str", ref.name if ref.type == "ref/prompt" else ref.uri)


def _decorated(call: F | None, add: Callable[[Call], None]) -> F | Callable[[F], F]:
    def decorate(found: F) -> F:
        add(found)
        return found

    return decorate if call is None else decorate(call)
