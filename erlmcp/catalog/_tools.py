"""A tool: its definition, and what a call of it does."""

import enum
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import msgspec

from erlmcp.catalog._arguments import NOT_CONVERTED, input_shape
from erlmcp.catalog._calls import PASSING, Workshop, failure_id
from erlmcp.catalog._content import Block, Content, Message, ToolResult
from erlmcp.catalog._errors import InexpressibleHint, InvalidSchema, ToolError
from erlmcp.catalog._functions import Function, read
from erlmcp.catalog._header_parameters import header_parameters
from erlmcp.catalog._hints import Shapes
from erlmcp.catalog._metadata import check_hints, check_tool_name, icon_list, without_none
from erlmcp.catalog._results import structured_result, tool_error, tool_result
from erlmcp.catalog._schemas import CompiledSchema
from erlmcp.interfaces import Complete, NeedsInput, Outcome, Request, ToolDefinition

_encode = msgspec.json.encode


class ToolOptions(TypedDict, total=False):
    """What may be said of a tool.

    Attributes:
        name: its name, the function's own by default.
        title: a name to display.
        description: what it does, for the model; the docstring by default.
        annotations: ``readOnlyHint``, ``destructiveHint``, ``idempotentHint``, ``openWorldHint``, ``title``.
        icons: URLs or ``Icon`` objects.
        input_schema: a JSON Schema of one's own; the function then takes ``**arguments``, or parameters of its own
            without conversion.
        output_schema: a JSON Schema of one's own for structured results.
        structured: whether results are structured; by default so for return hints that are classes with fields,
            dicts, or lists of plain values.
        timeout: seconds that a call may take.
        replay: whether a call may be run again after a loss though it is neither read-only nor idempotent.
        meta: goes into the tool's ``_meta``.
    """

    name: str
    title: str
    description: str
    annotations: Mapping[str, Any]
    icons: Sequence[Any]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    structured: bool
    timeout: float
    replay: bool
    meta: Mapping[str, Any]


class Tool:
    """One tool of a provider.

    Args:
        call: the author's function.
        options: what is said of it.
        workshop: where it runs.

    Raises:
        TypeError, ValueError: the function or an option cannot be used; the message says why.
    """

    __slots__ = ("_await", "_context", "_convert", "_function", "_result", "_workshop", "definition")

    def __init__(self, call: Callable[..., Any], options: ToolOptions, workshop: Workshop) -> None:
        given = options.get("input_schema")
        function = read(call, "tool", options.get("name"), free=given is not None)
        check_tool_name(function.name)
        self._function = function
        self._workshop = workshop
        self._await = workshop.awaitable(function)
        self._context = function.context
        if given is None:
            input_schema, self._convert = input_shape(function)
        else:
            input_schema, self._convert = _own_schema(given, function), NOT_CONVERTED
        output_schema = _output_schema(function, options)
        self._result = tool_result if output_schema is None else structured_result
        self.definition = _definition(function, options, input_schema, output_schema, own=given is not None)

    @property
    def takes_context(self) -> bool:
        """Whether it may report, log and ask."""
        return self._context is not None

    async def run(self, request: Request) -> Outcome:
        """Answer a call. What the function raises becomes an ``isError`` result, `McpError` passes."""
        try:
            arguments: dict[str, Any] = request.arguments  # type: ignore[assignment]  # gate 5 has set them
            if self._convert or self._context is not None:
                arguments = self._convert.apply(arguments)
                if self._context is not None:
                    arguments[self._context] = self._workshop.context(self._function, request)
            return self._result(await self._await(**arguments))
        except PASSING:
            raise
        except ToolError as error:
            return tool_error(str(error))
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an answer, never the server's end
            reference = failure_id(self._function, request, error)
            return tool_error(
                f"The tool failed with an internal error; its operator finds it as {reference}."
            )


def _own_schema(schema: dict[str, Any], function: Function) -> dict[str, Any]:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise InvalidSchema(
            f'{function.label}: an input_schema is an object with "type": "object" at its root'
        )
    return schema


def _definition(
    function: Function,
    options: ToolOptions,
    input_schema: dict[str, Any],
    output_schema: dict[str, Any] | None,
    *,
    own: bool,
) -> ToolDefinition:
    label = function.label
    annotations = check_hints(options.get("annotations"), label)
    wire = without_none(
        name=function.name,
        title=options.get("title"),
        description=options.get("description", function.description),
        icons=icon_list(options.get("icons", ()), label),
        annotations=annotations,
        _meta=dict(options.get("meta") or {}),
    )
    wire["inputSchema"] = input_schema
    if output_schema is not None:
        wire["outputSchema"] = output_schema
    try:
        compiled = CompiledSchema(input_schema, formats=not own)
        mirrored = header_parameters(input_schema)
        output = None if output_schema is None else CompiledSchema(output_schema)
    except InvalidSchema as error:
        raise type(error)(f"{label}: {error}") from None
    return ToolDefinition(
        name=function.name,
        wire=msgspec.Raw(_encode(wire)),
        input=compiled,
        output=output,
        header_parameters=mirrored,
        read_only=annotations.get("readOnlyHint", False),
        idempotent=annotations.get("idempotentHint", False),
        replay=options.get("replay", False),
        timeout=options.get("timeout"),
        interruptible=function.coroutine,
    )


_UNSTRUCTURED = (str, bytes, bool, int, float, type(None), object, list, tuple)
_WHOLE = (Content, ToolResult, Complete, NeedsInput, Message, Block)


def _output_schema(function: Function, options: ToolOptions) -> dict[str, Any] | None:
    given = options.get("output_schema")
    wanted = options.get("structured")
    if given is not None:
        if wanted is False:
            raise ValueError(f"{function.label}: structured=False contradicts output_schema")
        return given
    hint = function.returns
    if hint is bytes:
        raise InexpressibleHint(
            f"{function.label}: bytes are no result; return an Image, Audio or EmbeddedResource"
        )
    if wanted is None:
        wanted = hint is not inspect.Signature.empty and is_structured(hint)
    if not wanted:
        return None
    if hint is inspect.Signature.empty:
        raise InexpressibleHint(f"{function.label}: structured=True needs a return hint or output_schema=…")
    shapes = Shapes(closed=False)
    return shapes.finish(shapes.shape(hint, f"{function.label}, its return value").schema)


def is_structured(hint: Any) -> bool:
    """Whether a return hint stands for structured output, where the author does not say."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return is_structured(typing.get_args(hint)[0])
    if isinstance(hint, typing.NewType):
        return is_structured(hint.__supertype__)
    if hint is Any or hint is None or hint in _UNSTRUCTURED or origin is typing.Literal:
        return False
    arguments = typing.get_args(hint)
    if _is_union(origin):
        rest = [one for one in arguments if one is not type(None)]
        return all(is_structured(one) for one in rest)
    if isinstance(hint, type) and issubclass(hint, _WHOLE):
        return False
    if isinstance(hint, type) and not arguments and issubclass(hint, str | int | float | enum.Enum):
        return False
    return not any(_holds_content(one) for one in arguments)


def _holds_content(hint: Any) -> bool:
    if hint is Any or hint is object:
        return False
    if isinstance(hint, type) and issubclass(hint, _WHOLE):
        return True
    return any(_holds_content(one) for one in typing.get_args(hint))


def _is_union(origin: Any) -> bool:
    return origin is typing.Union or getattr(origin, "__name__", "") == "UnionType"
