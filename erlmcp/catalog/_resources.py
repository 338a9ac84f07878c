"""Resources and resource templates: their definitions, and what reading them does."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import msgspec

from erlmcp.catalog._calls import PASSING, Workshop, protocol_error
from erlmcp.catalog._functions import Function, read
from erlmcp.catalog._metadata import check_annotations, check_uri, icon_list, without_none
from erlmcp.catalog._results import resource_contents
from erlmcp.catalog._texts import TextArgument
from erlmcp.interfaces import Complete, NeedsInput, Outcome, Request, ResourceDefinition, TemplateDefinition
from erlmcp.protocol import UriTemplate, errors


class ResourceOptions(TypedDict, total=False):
    """What may be said of a resource or a resource template.

    Attributes:
        name: its name, the function's own by default.
        title: a name to display.
        description: what it is; the docstring by default.
        mime_type: its type.
        size: bytes, if known; not for templates.
        icons: URLs or ``Icon`` objects.
        annotations: ``audience``, ``priority``, ``lastModified``.
        ttl: seconds that what was read may be thought fresh; 0 by default.
        cache_scope: ``public`` if all who may read it read the same, else ``private``, which is the default.
        timeout: seconds that reading may take.
        meta: goes into its ``_meta``.
    """

    name: str
    title: str
    description: str
    mime_type: str
    size: int
    icons: Sequence[Any]
    annotations: Mapping[str, Any]
    ttl: float
    cache_scope: str
    timeout: float
    meta: Mapping[str, Any]


class Resource:
    """One resource, or one template of many.

    Args:
        uri: its URI, or a URI template (RFC 6570) whose variables are the function's parameters.
        call: the author's function.
        options: what is said of it.
        workshop: where it runs.

    Raises:
        TypeError, ValueError: the URI, the function or an option cannot be used; the message says why.
    """

    __slots__ = (
        "_arguments", "_await", "_cache", "_context", "_function", "_match", "_mime_type", "_workshop", "definition",
    )  # fmt: skip

    def __init__(
        self, uri: str, call: Callable[..., Any], options: ResourceOptions, workshop: Workshop
    ) -> None:
        self._function = function = read(call, f"resource {uri!r}, function", None)
        self._workshop = workshop
        self._await = workshop.awaitable(function)
        self._context = function.context
        self._mime_type = options.get("mime_type")
        self._cache = _cache(options, uri)
        check_uri(uri)
        template = UriTemplate(uri)
        self._arguments = {one.name: TextArgument(function, one) for one in function.parameters}
        _check_variables(template, function)
        label = f"resource {uri!r}"
        wire = without_none(
            name=options.get("name", function.name),
            title=options.get("title"),
            description=options.get("description", function.description),
            mimeType=self._mime_type,
            size=options.get("size"),
            icons=icon_list(options.get("icons", ()), label),
            annotations=check_annotations(options.get("annotations"), label),
            _meta=dict(options.get("meta") or {}),
        )
        timeout = options.get("timeout")
        self.definition: ResourceDefinition | TemplateDefinition
        self._match: Callable[[str], Mapping[str, Any] | None] | None = None
        if template.names:
            if "size" in wire:
                raise ValueError(f"{label}: a template has no size")
            self._match = template.match
            raw = msgspec.Raw(msgspec.json.encode({"uriTemplate": uri, **wire}))
            self.definition = TemplateDefinition(
                uri_template=uri, wire=raw, match=template.match, timeout=timeout
            )
        else:
            raw = msgspec.Raw(msgspec.json.encode({"uri": uri, **wire}))
            self.definition = ResourceDefinition(uri=uri, wire=raw, timeout=timeout)

    @property
    def variables(self) -> frozenset[str]:
        """The names of a template's variables."""
        return frozenset(self._arguments)

    @property
    def takes_context(self) -> bool:
        """Whether it may report, log and ask."""
        return self._context is not None

    async def run(self, request: Request) -> Outcome:
        """Answer ``resources/read``."""
        uri = request.name
        try:
            arguments = self._read_arguments(uri)
            if self._context is not None:
                arguments[self._context] = self._workshop.context(self._function, request)
            value = await self._await(**arguments)
            if isinstance(value, Complete | NeedsInput):
                return value
            return Complete({"contents": resource_contents(value, uri, self._mime_type), **self._cache})
        except PASSING:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an answer, never the server's end
            raise protocol_error(self._function, request, error) from None

    def _read_arguments(self, uri: str) -> dict[str, Any]:
        found = {} if self._match is None else self._match(uri)
        if found is None:
            raise errors.resource_not_found(uri)
        arguments: dict[str, Any] = {}
        for name, argument in self._arguments.items():
            if name in found:
                try:
                    arguments[name] = argument.read(found[name])
                except ValueError as error:
                    raise errors.invalid_params(f"Resource not found: {error}", {"uri": uri}) from None
            elif argument.required:
                raise errors.invalid_params(f"Resource not found: the URI needs {name}", {"uri": uri})
        return arguments


def _cache(options: ResourceOptions, uri: str) -> dict[str, Any]:
    ttl, scope = options.get("ttl", 0.0), options.get("cache_scope", "private")
    if ttl < 0:
        raise ValueError(f"resource {uri!r}: ttl={ttl} is a time in seconds, at least 0")
    if scope not in ("public", "private"):
        raise ValueError(f"resource {uri!r}: cache_scope is 'public' or 'private', not {scope!r}")
    return {"ttlMs": round(ttl * 1000), "cacheScope": scope}


def _check_variables(template: UriTemplate, function: Function) -> None:
    names = {parameter.name for parameter in function.parameters}
    for parameter in function.parameters:
        if parameter.name not in template.names and parameter.required:
            raise TypeError(
                f"{function.where(parameter.name)}: {template.template!r} has no variable of that name;"
                f" write {{{parameter.name}}} in it, or give the parameter a default"
            )
    for name in template.names:
        if name not in names:
            raise TypeError(
                f"{function.label}: {template.template!r} has the variable {name!r}; add that parameter"
            )
    if template.unmatchable is not None:
        raise ValueError(f"{function.label}: {template.template!r} cannot be matched: {template.unmatchable}")
