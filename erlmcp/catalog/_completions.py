"""Completions: which function suggests values for which argument, and what asking it does."""

from collections.abc import Callable
from typing import Any

import msgspec

from erlmcp.catalog._calls import PASSING, Workshop, protocol_error
from erlmcp.catalog._functions import read
from erlmcp.catalog._results import completion_fields
from erlmcp.interfaces import Complete, Outcome, Request

#: prompt name or URI template, argument name
Key = tuple[str, str]
NOTHING: dict[str, Any] = {"values": [], "total": 0, "hasMore": False}
_MOST_PARAMETERS = 2


class Suggestions:
    """A function that suggests values.

    Args:
        call: takes the text typed so far, and, if it wants, the arguments that are settled already.
        key: what it suggests for.
        workshop: where it runs.

    Raises:
        TypeError: the function takes something else.
    """

    __slots__ = ("_await", "_context", "_function", "_names", "_workshop")

    def __init__(self, call: Callable[..., Any], key: Key, workshop: Workshop) -> None:
        self._function = function = read(call, "completion", f"{key[0]}.{key[1]}")
        self._workshop = workshop
        self._await = workshop.awaitable(function)
        self._context = function.context
        names = [parameter.name for parameter in function.parameters if parameter.required]
        names += [parameter.name for parameter in function.parameters if not parameter.required]
        required = sum(parameter.required for parameter in function.parameters)
        if not names or required > _MOST_PARAMETERS:
            raise TypeError(f"{function.label} takes (value) or (value, arguments), besides a Context")
        self._names = names[:_MOST_PARAMETERS]

    async def run(self, request: Request) -> Outcome:
        """Answer ``completion/complete``."""
        params = request.params
        settled = {} if params.context is msgspec.UNSET else params.context.arguments
        values = (params.argument.value, {} if settled is msgspec.UNSET else settled)
        arguments: dict[str, Any] = dict(zip(self._names, values, strict=False))
        if self._context is not None:
            arguments[self._context] = self._workshop.context(self._function, request)
        try:
            return Complete({"completion": completion_fields(await self._await(**arguments))})
        except PASSING:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an answer, never the server's end
            raise protocol_error(self._function, request, error) from None
