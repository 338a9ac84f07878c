"""How objects are cut to the fields that a revision knows, part by part. What is known, others say.

What goes in is never changed; where nothing has to be left out it comes out itself. Parts may be `msgspec.Raw`: only
what has to be looked into is parsed, so the rest keeps its bytes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

Cut = Callable[[Any], Any]
"""A value -> what a revision knows of it; UNSET to leave it out."""
Object = dict[str, Any]

_read_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_read_items: Final = msgspec.json.Decoder(list[Raw]).decode
_read_text: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.Encoder().encode


class Shape:
    """What a revision knows of one kind of object.

    Args:
        known: the names of its fields.
        inner: how those of them are cut that are not taken whole.
    """

    __slots__ = ("_inner", "_known")

    def __init__(self, known: frozenset[str], inner: Mapping[str, Cut]) -> None:
        self._known = known
        self._inner = tuple((name, cut) for name, cut in inner.items() if name in known)

    def cut(self, value: Any) -> Any:
        """The object without what is not known; what is no object stays as it is."""
        members = value if type(value) is dict else members_of(value)
        if members is None:
            return value
        known = self._known
        result = members
        if not known.issuperset(members):
            result = {name: part for name, part in members.items() if name in known}
        for name, cut in self._inner:
            if name in result:
                before = result[name]
                after = cut(before)
                if after is not before:
                    if result is members:
                        result = dict(members)
                    if after is UNSET:
                        del result[name]
                    else:
                        result[name] = after
        return value if result is members else result


class Blocks:
    """What a revision knows of content.

    Args:
        shapes: type -> the shape of such a block, ``text`` among them. A block of any other type becomes text.
    """

    __slots__ = ("_shapes",)

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = dict(shapes)

    def cut(self, block: Any) -> Any:
        """One block."""
        members = block if type(block) is dict else members_of(block)
        if members is None:
            return block
        kind = members.get("type")
        if type(kind) is not str:
            kind = text_of(kind)
        shape = self._shapes.get(kind)
        if shape is None:
            return self._shapes["text"].cut(as_text(members))
        return shape.cut(block)


def each(cut: Cut) -> Cut:
    """The cut of a list whose items are cut so."""

    def cut_each(value: Any) -> Any:
        items = value if type(value) is list else items_of(value)
        if items is None:
            return value
        for place, item in enumerate(items):
            after = cut(item)
            if after is not item:
                return [*items[:place], after, *(cut(one) for one in items[place + 1 :])]
        return value

    return cut_each


def either(cut: Cut) -> Cut:
    """The cut of a value that is cut so, or of a list of such."""
    cut_each = each(cut)
    return lambda value: cut(value) if items_of(value) is None else cut_each(value)


def members_of(value: Any) -> Object | None:
    """The members of an object, in whatever form it is; None of what is none."""
    if isinstance(value, dict):
        return value
    if type(value) is Raw:
        try:
            return _read_members(value)
        except msgspec.ValidationError:
            return None
    if isinstance(value, str | int | float | list | tuple) or value is None:
        return None
    found = msgspec.to_builtins(value)
    return found if isinstance(found, dict) else None


def items_of(value: Any) -> list[Any] | None:
    """The items of an array, in whatever form it is; None of what is none."""
    if isinstance(value, list):
        return value
    if isinstance(value, tuple):
        return list(value)
    if type(value) is Raw:
        try:
            return _read_items(value)
        except msgspec.ValidationError:
            return None
    return None


def is_object(value: Any) -> bool:
    """Whether a JSON value, in whatever form it is, is an object."""
    if type(value) is Raw:
        return bytes(value).lstrip()[:1] == b"{"
    return members_of(value) is not None


def text_of(value: Any) -> str:
    """A string, in whatever form it is; empty for what is none."""
    if type(value) is Raw:
        try:
            return _read_text(value)
        except msgspec.ValidationError:
            return ""
    return value if isinstance(value, str) else ""


def as_text(block: Object) -> Object:
    """A block that a revision has not, as text; its annotations stay."""
    kind = text_of(block.get("type"))
    if kind == "audio":
        size = len(text_of(block.get("data"))) * 3 // 4
        text = f"[audio, {text_of(block.get('mimeType'))}, {size} bytes]"
    elif kind == "resource_link":
        shown = text_of(block.get("title")) or text_of(block.get("name"))
        lines = [f"[{shown}]({text_of(block.get('uri'))})", text_of(block.get("description"))]
        text = "\n".join(filter(None, lines))
    else:
        text = _encode(block).decode()
    converted: Object = {"type": "text", "text": text}
    if "annotations" in block:
        converted["annotations"] = block["annotations"]
    return converted
