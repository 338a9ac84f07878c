"""What handlers return -> the fields of results (revision 2026-07-28, schema ``CallToolResult`` and the like)."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from erlmcp.catalog import _pydantic
from erlmcp.catalog._content import Block, Content, Contents, Message, ToolResult, block_of, sendable
from erlmcp.interfaces import Complete, NeedsInput, Outcome

_encode = msgspec.json.Encoder().encode
_NUMBERS = (int, float, bool)
#: revision 2026-07-28, schema ``CompleteResult``: at most 100 values
MAX_COMPLETIONS = 100


def plain(value: Any) -> Any:
    """The value as dicts, lists and scalars.

    Raises:
        TypeError: it holds something that JSON cannot.
    """
    return msgspec.to_builtins(value, enc_hook=_pydantic.dump)


def json_text(value: Any) -> str:
    """The value as JSON text."""
    return _encode(plain(value)).decode()


def tool_result(value: Any) -> Outcome:
    """The result of a tool without an output schema."""
    if type(value) is str:
        if not value.isascii():
            value.encode()  # a lone surrogate is the handler's error, not the transport's
        return Complete({"content": [{"type": "text", "text": value}]})
    if type(value) in _NUMBERS:
        return Complete({"content": [{"type": "text", "text": _encode(value).decode()}]})
    if isinstance(value, Complete | NeedsInput):
        return value
    if isinstance(value, ToolResult):
        return _whole_result(value)
    return Complete({"content": list(_blocks(value))})


def structured_result(value: Any) -> Outcome:
    """The result of a tool with an output schema: structured, and as text for those who read no structure."""
    if isinstance(value, Complete | NeedsInput):
        return value
    if isinstance(value, ToolResult):
        return _whole_result(value)
    found = plain(value)
    return Complete(
        {"content": [{"type": "text", "text": _encode(found).decode()}], "structuredContent": found}
    )


def tool_error(text: str) -> Complete:
    """A result that the model sees as an error."""
    return Complete({"content": [{"type": "text", "text": text}], "isError": True})


def _whole_result(value: ToolResult) -> Complete:
    blocks = [block_of(one) for one in value.content]
    fields: dict[str, Any] = {"content": blocks}
    if value.structured is not msgspec.UNSET:
        fields["structuredContent"] = plain(value.structured)
        if not blocks:
            blocks.append({"type": "text", "text": _encode(fields["structuredContent"]).decode()})
    if value.is_error:
        fields["isError"] = True
    if value.meta:
        fields["_meta"] = dict(value.meta)
    return Complete(fields)


def _blocks(value: Any) -> Iterable[dict[str, Any]]:
    if value is None:
        return
    if isinstance(value, list | tuple) and any(isinstance(one, Content) for one in value):
        for one in value:
            yield from _blocks(one)
    elif isinstance(value, str | Content):
        yield block_of(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(
            "bytes have no content block of their own; return an Image, Audio or EmbeddedResource"
        )
    else:
        yield {"type": "text", "text": json_text(value)}


def prompt_messages(value: Any) -> list[dict[str, Any]]:
    """The messages of a prompt: texts, content blocks and `Message`, one or several."""
    found = value if isinstance(value, list | tuple) else [value]
    return [_message(one) for one in found]


def _message(value: Any) -> dict[str, Any]:
    if isinstance(value, Message):
        return value.wire()
    if isinstance(value, str | Content):
        return Message(value).wire()
    if isinstance(value, Mapping) and value.get("role") in ("user", "assistant") and "content" in value:
        content = value["content"]
        return Message(Block(content) if isinstance(content, Mapping) else content, value["role"]).wire()
    raise TypeError(
        f"a prompt returns text, Message, content blocks, or a list of them; not {type(value).__name__}"
    )


def resource_contents(value: Any, uri: str, mime_type: str | None) -> list[dict[str, Any]]:
    """The contents of a resource: text, bytes, `Contents` or a list of those; anything else becomes JSON."""
    if isinstance(value, list | tuple) and value and all(isinstance(one, Contents) for one in value):
        return [one.wire(uri, mime_type) for one in value]
    if isinstance(value, Contents):
        return [value.wire(uri, mime_type)]
    if isinstance(value, str):
        return [Contents(value, mime_type=mime_type or "text/plain").wire(uri, None)]
    if isinstance(value, bytes | bytearray | memoryview):
        return [Contents(bytes(value), mime_type=mime_type or "application/octet-stream").wire(uri, None)]
    if value is None:
        raise TypeError("a resource returned None; raise ResourceNotFound where there is none")
    return [Contents(json_text(value), mime_type=mime_type or "application/json").wire(uri, None)]


class Completion(msgspec.Struct, frozen=True):
    """Suggestions, where there are more than are returned.

    Attributes:
        values: the best first, cut to 100.
        total: how many there are, None if not known.
        has_more: whether there are more than these; follows from `total` if None.
    """

    values: list[str]
    total: int | None = None
    has_more: bool | None = None


def completion_fields(value: Any) -> dict[str, Any]:
    """The ``completion`` object of a function's suggestions."""
    if not isinstance(value, Completion):
        found = [] if value is None else list(value)
        value = Completion(found, len(found))
    values = [sendable(_suggestion(one)) for one in value.values[:MAX_COMPLETIONS]]
    more = value.has_more
    if more is None:
        more = len(value.values) > len(values) or (value.total is not None and value.total > len(values))
    return {"values": values} | ({} if value.total is None else {"total": value.total}) | {"hasMore": more}


def _suggestion(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"suggestions are strings, not {type(value).__name__}")
    return value
