"""What goes to a client of a handshake revision: results, notifications and errors of 2026-07-28, cut to what it knows.

What comes out has no field that the revision's schema does not name; content of a type that it has not becomes text.
``docs/reference/eras.md`` tabulates it.
"""

from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from erlmcp.protocol._cuts import CUTS, cut_meta, wrap_structured
from erlmcp.protocol._errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    MISSING_CAPABILITY,
    McpError,
)
from erlmcp.protocol._revisions import Revision
from erlmcp.protocol._shapes import Object, is_object, items_of, members_of
from erlmcp.protocol._tool_schemas import WRAPPER, wraps

RESOURCE_NOT_FOUND: Final = -32002
"""No such resource, up to 2025-11-25 (server/resources, "Error Handling")."""
URL_ELICITATION_REQUIRED: Final = -32042
"""2025-11-25 alone (client/elicitation, "URL Elicitation Required Error")."""

_RESERVED: Final = range(-32099, -32019)
"""The codes that 2026-07-28 reserves for itself (basic/index, "Error Codes")."""
_ENTRIES: Final = {
    "tools/list": "tool",
    "resources/list": "resource",
    "resources/templates/list": "template",
    "prompts/list": "prompt",
}
_READS: Final = frozenset({"resources/read", "resources/subscribe", "resources/unsubscribe"})
_MODERN_ALONE: Final = frozenset({"resultType", "ttlMs", "cacheScope"})
_encode: Final = msgspec.json.Encoder().encode


class _Outputs(Struct):
    outputSchema: Raw | UnsetType = UNSET  # noqa: N815 - the name on the wire


_read_outputs: Final = msgspec.json.Decoder(_Outputs).decode


def down(kind: str, value: Object | Raw, revision: Revision, tool: Raw | None = None) -> Any:
    """A result or a notification as a handshake revision has it.

    Args:
        kind: the method that the result answers, or the notification's own.
        value: the result, or the notification's parameters. It is not changed; if nothing is to be left out, it is
            what is returned.
        revision: the client's.
        tool: for ``tools/call``: the ``Tool`` object as lists send it, if it is known. Where its ``outputSchema`` is
            wrapped, ``structuredContent`` is wrapped too, whatever it is.

    Returns:
        An object whose parts may be `msgspec.Raw`, or the raw `value` itself.
    """
    cut = CUTS[revision.rank].get(kind)
    if cut is None:
        return _strip(value)
    if kind != "tools/call":
        return cut(value)
    members = value if type(value) is dict else members_of(value)
    if members is None or "structuredContent" not in members:
        return cut(value)
    return _down_structured(members, cut(members), revision, tool)


def down_definition(kind: str, wire: Raw, revision: Revision) -> Raw:
    """One entry of a list as a handshake revision has it. The last few thousand are remembered.

    Args:
        kind: the method of the list, such as ``tools/list``; another is a KeyError.
        wire: the entry, encoded.
        revision: the client's.
    """
    entry: Raw = CUTS[revision.rank][_ENTRIES[kind]](wire)
    return entry


@lru_cache(maxsize=1024)
def _wraps_output(wire: bytes) -> bool:
    schema = _read_outputs(wire).outputSchema
    return schema is not UNSET and wraps(schema)


def wraps_output(wire: Raw) -> bool:
    """Whether a tool's ``outputSchema`` is wrapped for handshake clients: it has one that is of no object.

    Args:
        wire: the ``Tool`` object as lists send it.
    """
    return _wraps_output(bytes(wire))


def down_error(error: McpError, method: str, revision: Revision) -> tuple[int, str, Any]:
    """An error's code, message and data as a handshake revision has them.

    A resource that is not there is -32002. A client capability that is missing is -32600, its names still in data.
    Of the codes that 2026-07-28 reserves only -32042 of 2025-11-25 is known, so the others become -32603 without
    data. This project's own codes stay. The HTTP status is that of the error as it was.

    Args:
        error: what the request came to.
        method: the request's method.
        revision: the client's.
    """
    code, data = error.code, error.data
    if code == INVALID_PARAMS and method in _READS and isinstance(data, dict) and "uri" in data:
        return RESOURCE_NOT_FOUND, error.message, data
    if code == MISSING_CAPABILITY:
        return INVALID_REQUEST, error.message, data
    if code in _RESERVED and not (code == URL_ELICITATION_REQUIRED and revision.url_elicitation):
        return INTERNAL_ERROR, error.message, UNSET
    return code, error.message, data


def _down_structured(members: Object, result: Object, revision: Revision, tool: Raw | None) -> Object:
    structured = members["structuredContent"]
    if not revision.structured:
        # What is only there in structure would be lost.
        if items_of(members.get("content")) == []:
            return {**result, "content": [{"type": "text", "text": _encode(structured).decode()}]}
        return result
    if is_object(structured) and tool is not None and wraps_output(tool):
        return {**result, "structuredContent": {WRAPPER: structured}}
    return wrap_structured(result)


def _strip(value: Object | Raw) -> Any:
    """The result of a method that no table knows: without what only 2026-07-28 puts on every result."""
    members = members_of(value)
    if members is None or not (members.keys() & (_MODERN_ALONE | {"_meta"})):
        return value
    result = {name: part for name, part in members.items() if name not in _MODERN_ALONE}
    if "_meta" in result:
        meta = cut_meta(result.pop("_meta"))
        if meta is not UNSET:
            result["_meta"] = meta
    return result
