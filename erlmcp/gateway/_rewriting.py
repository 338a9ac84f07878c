"""What goes through the gateway, under the names of the side that it goes to. Pure.

What need not change keeps its bytes. Lists are in `_offers`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from erlmcp.gateway._names import Naming
from erlmcp.gateway._offers import definitions
from erlmcp.protocol import Params, errors

__all__ = [
    "carried_meta",
    "definitions",
    "own_params",
    "rewrite_error_data",
    "rewrite_fields",
    "rewrite_question",
    "rewrite_result",
]

_encode: Final = msgspec.json.Encoder().encode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_items: Final = msgspec.json.Decoder(list[Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode

Object = dict[str, Any]

#: what belongs to one hop (basic/index, "_meta"); trace context is passed on by who makes the request
_OF_A_HOP: Final = frozenset(
    {
        "io.modelcontextprotocol/protocolVersion",
        "io.modelcontextprotocol/clientInfo",
        "io.modelcontextprotocol/clientCapabilities",
        "io.modelcontextprotocol/logLevel",
        "io.modelcontextprotocol/serverInfo",
        "io.modelcontextprotocol/subscriptionId",
        "progressToken",
        "traceparent",
        "tracestate",
        "baggage",
    }
)


# towards the upstream


def own_params(method: str, params: Params, naming: Naming) -> Object:
    """The parameters of a request as its upstream has them.

    Args:
        method: ``tools/call``, ``prompts/get``, ``resources/read`` or ``completion/complete``; a KeyError if another.
        params: as they came; their arguments are not looked at. A retry's answers and state, and `_meta` (see
            `carried_meta`), are for the caller to add.
        naming: the upstream's.

    Raises:
        erlmcp.protocol.McpError: nothing of the upstream has this name here.
    """
    return _OWN_PARAMS[method](params, naming)


def carried_meta(meta: Raw | UnsetType) -> Object:
    """What of a `_meta` object goes on to the next hop: all but the protocol's own keys."""
    members = None if meta is UNSET else _object(meta)
    return {} if members is None else {key: part for key, part in members.items() if key not in _OF_A_HOP}


def _own_call(params: Params, naming: Naming) -> Object:
    name = str(params.name)
    own = naming.own_tool(name)
    if own is None:
        raise errors.unknown_tool(name)
    return _with_arguments({"name": own}, params)


def _own_get(params: Params, naming: Naming) -> Object:
    name = str(params.name)
    own = naming.own_prompt(name)
    if own is None:
        raise errors.unknown_prompt(name)
    return _with_arguments({"name": own}, params)


def _own_read(params: Params, naming: Naming) -> Object:
    uri = str(params.uri)
    own = naming.own_uri(uri)
    if own is None:
        raise errors.resource_not_found(uri)
    return {"uri": own}


def _own_complete(params: Params, naming: Naming) -> Object:
    ref = params.ref
    assert ref is not UNSET and params.argument is not UNSET  # noqa: S101, PT018 - the method's required parameters
    if ref.type == "ref/prompt":
        name = str(ref.name)
        own = naming.own_prompt(name)
        if own is None:
            raise errors.unknown_prompt(name)
        own_ref = {"type": ref.type, "name": own}
    else:
        uri = str(ref.uri)
        own = naming.own_template(uri)
        if own is None:
            raise errors.resource_not_found(uri)
        own_ref = {"type": ref.type, "uri": own}
    found: Object = {"ref": own_ref, "argument": params.argument}
    if params.context is not UNSET:
        found["context"] = params.context
    return found


def _with_arguments(found: Object, params: Params) -> Object:
    if params.arguments is not UNSET:
        found["arguments"] = params.arguments
    return found


_OWN_PARAMS: Final[Mapping[str, Callable[[Params, Naming], Object]]] = {
    "tools/call": _own_call,
    "prompts/get": _own_get,
    "resources/read": _own_read,
    "completion/complete": _own_complete,
}


# towards the client


def rewrite_result(method: str, result: Raw, naming: Naming) -> Raw:
    """A result as it goes on: URIs in resource links, embedded resources and contents are ours.

    The very same `result` where none has to change, and where it is no such object as the method's result is: what is
    wrong with that others find.

    Args:
        method: the method that it answers.
        result: the whole result object, encoded.
        naming: the upstream's.
    """
    if not naming.changes_uris or not _may_have_uris(result):
        return result
    members = _object(result)
    if members is None:
        return result
    after = rewrite_fields(method, members, naming)
    return result if after is members else Raw(_encode(after))


def rewrite_fields(method: str, fields: Object, naming: Naming) -> Object:
    """`rewrite_result` of a result whose members are apart already, each a `Raw`; `fields` itself if none changes."""
    way = _RESULTS.get(method)
    if way is None or not naming.changes_uris:
        return fields
    member, cut = way
    part = fields.get(member)
    if type(part) is not Raw or not _may_have_uris(part):
        return fields
    after = _each(part, cut, naming)
    return fields if after is part else {**fields, member: after}


def rewrite_question(question: Object, naming: Naming) -> Object:
    """A question of the upstream's to its client: what ``sampling/createMessage`` shows the model may be resources."""
    params = question.get("params")
    if question.get("method") != "sampling/createMessage" or not naming.changes_uris:
        return question
    raw = params if type(params) is Raw else Raw(_encode(params))
    if not _may_have_uris(raw):
        return question
    members = _object(raw)
    if members is None or "messages" not in members:
        return question
    after = _each(members["messages"], _message, naming)
    if after is members["messages"]:
        return question
    return {**question, "params": {**members, "messages": after}}


def rewrite_error_data(data: Any, naming: Naming) -> Any:
    """An error's data: the ``uri`` of a resource that is not there is ours."""
    if isinstance(data, dict) and isinstance(data.get("uri"), str):
        return {**data, "uri": naming.uri(data["uri"])}
    return data


def _may_have_uris(raw: Raw) -> bool:
    """Whether a URI may be among it. A name may be written with escapes, so these are looked into, too."""
    text = bytes(raw)
    if b'"uri"' in text:
        return True
    return b"\\" in text and b"\\u00" in text and (b"\\u006" in text or b"\\u007" in text)


def _each(raw: Raw, cut: Callable[[Raw, Naming], Raw], naming: Naming) -> Raw:
    """A list, or one such value, each rewritten; the very same if none changes."""
    try:
        items = _items(raw)
    except msgspec.DecodeError:
        return cut(raw, naming)
    after = [cut(item, naming) if _may_have_uris(item) else item for item in items]
    if all(one is other for one, other in zip(after, items, strict=True)):
        return raw
    return Raw(_encode(after))


def _block(raw: Raw, naming: Naming) -> Raw:
    """One block of content: a link, an embedded resource, or a tool's result with such in it."""
    members = _object(raw)
    kind = None if members is None else _string(members.get("type"))
    if members is None or kind is None:
        return raw
    if kind == "resource_link":
        return _with_uri(raw, members, naming)
    inner = {"resource": "resource", "tool_result": "content"}.get(kind, "")
    part = members.get(inner)
    if part is None:
        return raw
    after = _contents(part, naming) if kind == "resource" else _each(part, _block, naming)
    return raw if after is part else Raw(_encode({**members, inner: after}))


def _message(raw: Raw, naming: Naming) -> Raw:
    members = _object(raw)
    content = None if members is None else members.get("content")
    if members is None or content is None:
        return raw
    after = _each(content, _block, naming)
    return raw if after is content else Raw(_encode({**members, "content": after}))


def _contents(raw: Raw, naming: Naming) -> Raw:
    members = _object(raw)
    return raw if members is None else _with_uri(raw, members, naming)


def _with_uri(raw: Raw, members: Object, naming: Naming) -> Raw:
    own = _string(members.get("uri"))
    return raw if own is None else Raw(_encode({**members, "uri": naming.uri(own)}))


_RESULTS: Final[Mapping[str, tuple[str, Callable[[Raw, Naming], Raw]]]] = {
    "tools/call": ("content", _block),
    "prompts/get": ("messages", _message),
    "resources/read": ("contents", _contents),
}


def _object(raw: Any) -> Object | None:
    """The members of an object, each as it came; None of what is none."""
    try:
        return _members(raw)
    except msgspec.DecodeError:
        return None


def _string(raw: Any) -> str | None:
    """A string that came encoded; None of what is none."""
    try:
        return None if raw is None else _text(raw)
    except msgspec.DecodeError:
        return None
