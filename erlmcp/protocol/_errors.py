"""Errors as MCP puts them on the wire: codes, HTTP statuses, and a builder for each.

The codes between -32768 and -32000 are JSON-RPC's and MCP's; those of this project lie outside, as revision
2026-07-28 (basic/index, "Error Codes") asks for.
"""

from typing import Any, Final

from msgspec import UNSET

from erlmcp.protocol._versions import MODERN_VERSIONS

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022

DEADLINE_EXCEEDED: Final = -31001
"""The request was not finished before its deadline."""
OVERLOADED: Final = -31002
"""The server has no room for the request now; trying later may help."""
RATE_LIMITED: Final = -31003
"""A rate or quota is used up; ``data.retryAfterMs`` says for how long."""
OUTCOME_UNKNOWN: Final = -31004
"""The work may or may not have been done, and may not be repeated without harm."""
SHUTTING_DOWN: Final = -31005
"""The server is about to end and takes no new requests."""
NOT_PERMITTED: Final = -31006
"""The principal may not do this at all, and the answer may say so."""

_ANY_ERA: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    OVERLOADED: 503,
    RATE_LIMITED: 429,
    SHUTTING_DOWN: 503,
    NOT_PERMITTED: 403,
}
_MODERN_ONLY: Final = {
    METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}


def http_status(code: int, modern: bool = True) -> int:
    """The HTTP status that an error of this code travels with, unless the error says one itself.

    Revision 2026-07-28, basic/transports/streamable-http: 400 for headers, capabilities and versions, 404 for
    an unknown method. In the handshake era 404 means that the session is lost, so there these travel with
    200.
    """
    status = _ANY_ERA.get(code)
    if status is None:
        status = _MODERN_ONLY.get(code, 200) if modern else 200
    return status


class McpError(Exception):
    """A JSON-RPC error for the peer.

    Attributes:
        code: the error code.
        message: one sentence.
        data: further information, `msgspec.UNSET` for none.
        status: the HTTP status if it is not what `http_status` says of the code.
        headers: HTTP header fields to send along, as (name, value) pairs of bytes.
    """

    def __init__(
        self,
        code: int,
        message: str,
        data: Any = UNSET,
        *,
        status: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.data = data
        self.status = status
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"

    def http_status(self, modern: bool = True) -> int:
        """The HTTP status to send this error with."""
        return http_status(self.code, modern) if self.status is None else self.status


def invalid_request(message: str, data: Any = UNSET) -> McpError:
    """-32600: what came is no request, or none that may come here."""
    return McpError(INVALID_REQUEST, message, data)


def invalid_params(message: str, data: Any = UNSET, *, status: int | None = None) -> McpError:
    """-32602: the parameters are not what the method takes."""
    return McpError(INVALID_PARAMS, message, data, status=status)


def malformed_envelope(message: str) -> McpError:
    """-32602 with HTTP 400: `_meta` lacks a required field or has a bad one (basic/index, "_meta")."""
    return McpError(INVALID_PARAMS, message, status=400)


def method_not_found(method: str) -> McpError:
    """-32601: no such method here, or one of a capability that is not declared."""
    return McpError(METHOD_NOT_FOUND, f"Method not found: {_short(method)}")


def internal(message: str = "Internal error", data: Any = UNSET) -> McpError:
    """-32603: something that the client can do nothing about."""
    return McpError(INTERNAL_ERROR, message, data)


def header_mismatch(message: str) -> McpError:
    """-32020: an HTTP header is missing, malformed, or contradicts the body."""
    return McpError(HEADER_MISMATCH, f"Header mismatch: {message}")


def missing_capability(required: dict[str, Any]) -> McpError:
    """-32021: the request needs client capabilities that were not declared.

    Args:
        required: a ``ClientCapabilities`` object of what is missing, such as ``{"elicitation": {}}``.
    """
    names = ", ".join(_capability_names(required))
    message = f"This request needs client capabilities that were not declared: {names}"
    return McpError(MISSING_CAPABILITY, message, {"requiredCapabilities": required})


def unsupported_version(requested: str, supported: tuple[str, ...] = MODERN_VERSIONS) -> McpError:
    """-32022: the version asked for is none of those spoken here."""
    return McpError(
        UNSUPPORTED_VERSION,
        "Unsupported protocol version",
        {"supported": list(supported), "requested": requested},
    )


def resource_not_found(uri: str) -> McpError:
    """-32602: no such resource (server/resources, "Error Handling"; earlier revisions had -32002)."""
    return McpError(INVALID_PARAMS, f"Resource not found: {_short(uri)}", {"uri": uri})


def unknown_tool(name: str) -> McpError:
    """-32602: no such tool (server/tools, "Error Handling")."""
    return McpError(INVALID_PARAMS, f"Unknown tool: {_short(name)}")


def unknown_prompt(name: str) -> McpError:
    """-32602: no such prompt (server/prompts, "Error Handling")."""
    return McpError(INVALID_PARAMS, f"Unknown prompt: {_short(name)}")


def deadline_exceeded(seconds: float | None = None, reference: str = "") -> McpError:
    """The request was not finished in time.

    Args:
        seconds: the time it had, if that is to be told.
        reference: what the log has it under, as ``data.requestId``.
    """
    limit = "before its deadline" if seconds is None else f"within {seconds:g} s"
    data = {"requestId": reference} if reference else UNSET
    return McpError(DEADLINE_EXCEEDED, f"The request was not finished {limit}", data)


def overloaded(message: str = "The server has no room for this request now", data: Any = UNSET) -> McpError:
    """The server sheds load."""
    return McpError(OVERLOADED, message, data)


def rate_limited(message: str, retry_after: float, data: dict[str, Any] | None = None) -> McpError:
    """A rate or quota is used up.

    Args:
        message: which one.
        retry_after: seconds until a try may succeed; goes into ``Retry-After`` (whole seconds, rounded up)
            and ``data.retryAfterMs``.
        data: more for ``error.data``, such as the rule's name.
    """
    milliseconds = max(0, round(retry_after * 1000))
    header = (b"retry-after", b"%d" % -(-milliseconds // 1000))
    return McpError(RATE_LIMITED, message, {**(data or {}), "retryAfterMs": milliseconds}, headers=(header,))


def outcome_unknown(message: str = "The outcome is unknown") -> McpError:
    """What was begun cannot be told to have been done, nor be repeated."""
    return McpError(OUTCOME_UNKNOWN, message)


def shutting_down() -> McpError:
    """The server takes no new requests."""
    return McpError(SHUTTING_DOWN, "The server is shutting down")


def not_permitted(
    message: str = "Not permitted", *, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> McpError:
    """The principal may not do this, and may know it."""
    return McpError(NOT_PERMITTED, message, headers=headers)


def _capability_names(required: dict[str, Any]) -> list[str]:
    names = []
    for name, parts in required.items():
        names += [f"{name}.{part}" for part in parts] if parts else [name]
    return names


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
