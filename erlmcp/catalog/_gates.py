"""Gate 5, which finds the target and validates what it is called with, and gate 9, which checks the answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import implementer

from erlmcp.catalog._catalog import Catalog
from erlmcp.catalog._errors import InvalidArguments
from erlmcp.interfaces import Complete, IGate, Outcome, Request, ToolDefinition
from erlmcp.jsonrpc import MalformedMessage, decode_payload
from erlmcp.protocol import McpError, check_parameter_headers, errors
from erlmcp.telemetry import about

_log = Logger(namespace="erlmcp.catalog")
_decode = msgspec.json.Decoder().decode
_UNSET = msgspec.UNSET
_UNKNOWN: dict[str, Callable[[str], McpError]] = {
    "tools/call": errors.unknown_tool,
    "prompts/get": errors.unknown_prompt,
    "resources/read": errors.resource_not_found,
}
#: the most that a result may weigh: characters of texts and data, and bytes of what an upstream encoded
RESULT_SIZE = 16 * 1024 * 1024


@implementer(IGate)
class ValidateGate:
    """Finds `Request.target` and `Request.backend`, and sets `Request.arguments`, validated.

    Args:
        catalog: where to look.
    """

    __slots__ = ("_coming", "_find", "_find_reference")

    def __init__(self, catalog: Catalog) -> None:
        self._find = catalog.find
        self._coming = catalog.coming
        self._find_reference = catalog.find_reference

    def check(self, request: Request) -> Awaitable[None] | None:
        """Pass, or refuse. A name that nobody answers is waited for where a backend has not said yet what it offers.

        Raises:
            erlmcp.protocol.McpError: no such target, arguments that are no object, headers that do not mirror them, or
                a prompt's arguments that are missing or no texts.
            InvalidArguments: a tool's arguments break its schema.
        """
        method = request.method
        if method == "completion/complete":
            self._check_completion(request)
        elif method in _UNKNOWN:
            found = self._find(method, request.name)
            if found is not None:
                self._take(request, found)
            else:
                coming = self._coming(method, request.name)
                if coming:
                    return self._wait(request, coming)
                raise _UNKNOWN[method](request.name)
        return None

    async def _wait(self, request: Request, coming: Sequence[Deferred[None]]) -> None:
        method, name = request.method, request.name
        left = list(coming)
        while left:
            # Whoever speaks first may be the one; who says nothing delays nobody else.
            first: int
            _, first = await DeferredList(left, fireOnOneCallback=True)
            del left[first]
            found = self._find(method, name)
            if found is not None:
                self._take(request, found)
                return
        raise _UNKNOWN[method](name)

    def _take(self, request: Request, found: tuple[Any, Any]) -> None:
        if request.method == "tools/call":
            self._check_tool(request, found)
        elif request.method == "prompts/get":
            self._check_prompt(request, found)
        else:
            request.backend, request.target = found

    @staticmethod
    def _check_tool(request: Request, found: tuple[Any, Any]) -> None:
        request.backend, target = found
        request.target = target
        arguments = _arguments(request)
        if target.header_parameters and request.headers is not None:
            problem = check_parameter_headers(request.headers, target.header_parameters, arguments)
            if problem is not None:
                raise problem
        if target.input is not None:
            wrong = target.input.problem(arguments)
            if wrong is not None:
                raise InvalidArguments(f"Invalid arguments for tool {request.name}: {wrong}")
        request.arguments = arguments

    @staticmethod
    def _check_prompt(request: Request, found: tuple[Any, Any]) -> None:
        request.backend, request.target = found
        arguments = _arguments(request)
        known: Mapping[str, bool] = request.target.arguments
        for name, value in arguments.items():
            if name not in known:
                raise errors.invalid_params(f"Prompt {request.name} has no argument {name[:100]!r}")
            if type(value) is not str:
                raise errors.invalid_params(f"Prompt {request.name}, argument {name}: must be a string")
        for name, required in known.items():
            if required and name not in arguments:
                raise errors.invalid_params(f"Prompt {request.name} needs the argument {name}")
        request.arguments = arguments

    def _check_completion(self, request: Request) -> None:
        """Revision 2026-07-28, server/utilities/completion: -32602 for what does not exist."""
        ref = request.params.ref
        name = ref.name if ref.type == "ref/prompt" else ref.uri
        if name is _UNSET:
            raise errors.invalid_params(f"params.ref needs {'name' if ref.type == 'ref/prompt' else 'uri'}")
        found = self._find_reference(ref.type, name)
        if found is None:
            unknown = errors.unknown_prompt if ref.type == "ref/prompt" else errors.resource_not_found
            raise unknown(name)
        request.backend = found[0]


def _arguments(request: Request) -> dict[str, Any]:
    raw = request.params.arguments
    try:
        arguments = {} if raw is _UNSET else decode_payload(raw, "params.arguments")
    except MalformedMessage as bad:
        # It is JSON, but has a number that no double holds, such as 1e400.
        raise errors.invalid_params(bad.message) from None
    if type(arguments) is not dict:
        raise errors.invalid_params("params.arguments must be an object")
    return arguments


class AnswerGate:
    """Checks what a backend answers: structured content against its schema, and the size.

    Args:
        size: the most that a result may weigh (see `weight`).
    """

    __slots__ = ("_size",)

    def __init__(self, size: int = RESULT_SIZE) -> None:
        self._size = size

    def check(self, request: Request, outcome: Outcome) -> None:
        """Pass, or refuse.

        Raises:
            erlmcp.protocol.McpError: -32603; the reason is in the log, since it is the server's own fault.
        """
        if not isinstance(outcome, Complete):
            return
        fields = outcome.fields
        target = request.target
        output = target.output if type(target) is ToolDefinition else None
        if output is not None and not fields.get("isError"):
            self._check_structure(request, output, fields)
        elif len(fields) == 1 and _short_text(fields.get("content"), self._size):
            return
        if weight(fields, self._size) > self._size:
            _log.error("{method} {name} answered more than {size} bytes", size=self._size, **about(request))
            raise errors.internal("The result is too large", {"requestId": request.refer()})

    @staticmethod
    def _check_structure(request: Request, output: Any, fields: Mapping[str, Any]) -> None:
        structured = fields.get("structuredContent", _UNSET)
        if isinstance(structured, msgspec.Raw):
            structured = _decode(structured)
        problem = "there is none" if structured is _UNSET else output.problem(structured)
        if problem is not None:
            _log.error("tool {name}: structured content: {problem}", problem=problem, **about(request))
            raise errors.internal(
                "The tool's result does not match its output schema", {"requestId": request.refer()}
            )


def _short_text(content: Any, limit: int) -> bool:
    """Whether this is the plain text that most tools answer, or is encoded, and not too long: that needs no walk."""
    if type(content) is msgspec.Raw:
        return len(content) <= limit
    if type(content) is not list or len(content) != 1:
        return False
    block = content[0]
    if type(block) is not dict or len(block) != 2:
        return False
    text = block.get("text")
    return type(text) is str and len(text) <= limit


def weight(value: Any, limit: int) -> int:
    """About what a result takes on the wire, counted no further than `limit`: texts, keys, encoded parts."""
    total = 0
    waiting = [value]
    while waiting and total <= limit:
        node = waiting.pop()
        kind = type(node)
        if kind is str:
            total += len(node)
        elif kind is dict:
            for key, child in node.items():
                total += len(key) + 4
                if type(child) is msgspec.Raw:
                    total += len(child)
                else:
                    waiting.append(child)
        elif kind is list or kind is tuple:
            total += len(node)
            waiting.extend(node)
        elif kind is msgspec.Raw or kind is bytes:
            total += len(node)
        else:
            total += 8
    return total
