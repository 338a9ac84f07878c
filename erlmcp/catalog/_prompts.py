"""Prompts: their definitions, and what getting them does."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import msgspec

from erlmcp.catalog._calls import PASSING, Workshop, protocol_error
from erlmcp.catalog._functions import read
from erlmcp.catalog._metadata import icon_list, without_none
from erlmcp.catalog._results import prompt_messages
from erlmcp.catalog._texts import TextArgument
from erlmcp.interfaces import Complete, NeedsInput, Outcome, PromptDefinition, Request
from erlmcp.protocol import errors


class PromptOptions(TypedDict, total=False):
    """What may be said of a prompt.

    Attributes:
        name: its name, the function's own by default.
        title: a name to display.
        description: what it is for; the docstring by default.
        icons: URLs or ``Icon`` objects.
        timeout: seconds that it may take.
        meta: goes into its ``_meta``.
    """

    name: str
    title: str
    description: str
    icons: Sequence[Any]
    timeout: float
    meta: Mapping[str, Any]


class Prompt:
    """One prompt of a provider.

    Args:
        call: the author's function; its arguments come as texts.
        options: what is said of it.
        workshop: where it runs.

    Raises:
        TypeError, ValueError: the function or an option cannot be used; the message says why.
    """

    __slots__ = ("_arguments", "_await", "_context", "_description", "_function", "_workshop", "definition")

    def __init__(self, call: Callable[..., Any], options: PromptOptions, workshop: Workshop) -> None:
        self._function = function = read(call, "prompt", options.get("name"))
        self._workshop = workshop
        self._await = workshop.awaitable(function)
        self._context = function.context
        self._arguments = {one.name: TextArgument(function, one) for one in function.parameters}
        self._description = options.get("description", function.description)
        arguments = [
            without_none(name=one.name, title=one.title, description=one.description)
            | {"required": one.required}
            for one in self._arguments.values()
        ]
        wire = without_none(
            name=function.name,
            title=options.get("title"),
            description=self._description,
            arguments=arguments,
            icons=icon_list(options.get("icons", ()), function.label),
            _meta=dict(options.get("meta") or {}),
        )
        self.definition = PromptDefinition(
            name=function.name,
            wire=msgspec.Raw(msgspec.json.encode(wire)),
            arguments={one.name: one.required for one in self._arguments.values()},
            timeout=options.get("timeout"),
        )

    @property
    def takes_context(self) -> bool:
        """Whether it may report, log and ask."""
        return self._context is not None

    async def run(self, request: Request) -> Outcome:
        """Answer ``prompts/get``."""
        try:
            arguments = self._read_arguments(request.arguments or {})
            if self._context is not None:
                arguments[self._context] = self._workshop.context(self._function, request)
            value = await self._await(**arguments)
            if isinstance(value, Complete | NeedsInput):
                return value
            fields: dict[str, Any] = {"messages": prompt_messages(value)}
            if self._description:
                fields["description"] = self._description
            return Complete(fields)
        except PASSING:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an answer, never the server's end
            raise protocol_error(self._function, request, error) from None

    def _read_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {name: self._arguments[name].read(text) for name, text in given.items()}
        except ValueError as error:
            raise errors.invalid_params(f"Prompt {self.definition.name}, argument {error}") from None
