"""Forms: a type -> the restricted schema that clients can show, and an answer -> a value of that type.

Revision 2026-07-28, client/elicitation, Requested Schema: a flat object whose properties are primitive.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from erlmcp.catalog._errors import InexpressibleHint
from erlmcp.catalog._hints import Shapes
from erlmcp.catalog._shape import Convert

_FORMATS = ("email", "uri", "date", "date-time")
_COMMON = {"type", "title", "description", "default"}
_KEYWORDS: dict[str, set[str]] = {
    "string": {"minLength", "maxLength", "format", "enum", "enumNames", "oneOf"},
    "number": {"minimum", "maximum"},
    "integer": {"minimum", "maximum"},
    "boolean": set(),
    "array": {"minItems", "maxItems", "items"},
}
_ADVICE = (
    "a form field is str, int, float, bool, a date, Literal or Enum of strings, or a list of those choices"
)
_VALUE = "value"


class Form(msgspec.Struct, frozen=True):
    """What to ask for, and how to read the answer.

    Attributes:
        schema: the ``requestedSchema``.
        read: the answer's ``content`` -> the author's value.
    """

    schema: dict[str, Any]
    read: Convert


def form(kind: Any) -> Form:
    """The form for a type (a class with fields, or a scalar, which becomes a form of one field), or for a schema.

    Raises:
        InexpressibleHint: a field is nothing that a form can have; the message names it.
    """
    if isinstance(kind, Mapping):
        return Form(check_form(dict(kind)), lambda content: content)
    shapes = Shapes(closed=False)
    name = getattr(kind, "__name__", repr(kind))
    shape = shapes.shape(kind, f"form {name}")
    schema = shapes.finish(shape.schema)
    convert = shape.convert
    if schema.get("type") == "object":
        flat = check_form(_flattened(schema))
        return Form(flat, convert or (lambda content: content))
    single = {"type": "object", "properties": {_VALUE: schema}, "required": [_VALUE]}
    flat = check_form(_flattened(single))
    return Form(flat, lambda content: content[_VALUE] if convert is None else convert(content[_VALUE]))


def _flattened(schema: dict[str, Any]) -> dict[str, Any]:
    """The object schema without what forms do not have but can do without."""
    if "properties" not in schema:
        return schema
    required = list(schema.get("required", ()))
    properties = {}
    for name, body in schema["properties"].items():
        optional, plain = _without_null(body)
        if optional and name in required:
            raise InexpressibleHint(
                f"form field {name!r}: a form cannot answer null; give the field a default instead, such as None"
            )
        properties[name] = _plain(plain)
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _without_null(body: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    branches = body.get("anyOf")
    if branches is None or {"type": "null"} not in branches:
        return False, body
    rest = [branch for branch in branches if branch != {"type": "null"}]
    kept = {key: value for key, value in body.items() if key != "anyOf"}
    if kept.get("default", kept) is None:
        del kept["default"]
    return True, {**rest[0], **kept} if len(rest) == 1 else {**kept, "anyOf": rest}


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in body.items() if key not in ("examples", "uniqueItems")}
    if plain.get("type") == "integer":
        if (bound := plain.pop("exclusiveMinimum", None)) is not None:
            plain["minimum"] = max(int(bound // 1) + 1, plain.get("minimum", int(bound // 1) + 1))
        if (bound := plain.pop("exclusiveMaximum", None)) is not None:
            plain["maximum"] = min(-int(-bound // 1) - 1, plain.get("maximum", -int(-bound // 1) - 1))
    return plain


def check_form(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, if clients can make a form of it.

    Raises:
        InexpressibleHint: it is no flat object of primitives; the message names the field and what is wrong.
    """
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise InexpressibleHint('a form is {"type": "object", "properties": {…}}')
    for key in schema:
        if key not in ("$schema", "type", "properties", "required"):
            raise InexpressibleHint(f"a form has no {key!r}; it has properties and required")
    for name in schema.get("required", ()):
        if name not in properties:
            raise InexpressibleHint(f"the form requires {name!r}, which is none of its properties")
    for name, body in properties.items():
        problem = _problem(body)
        if problem is not None:
            raise InexpressibleHint(f"form field {name!r} {problem}; {_ADVICE}")
    return schema


def _problem(body: Any) -> str | None:
    kind = body.get("type") if isinstance(body, dict) else None
    if not isinstance(kind, str) or kind not in _KEYWORDS:
        return "is not of one primitive type"
    if ("enum" in body or "oneOf" in body) and not _choices(body.get("enum"), body.get("oneOf")):
        return "has choices that are not strings"
    extra = set(body) - _COMMON - _KEYWORDS[kind]
    if extra:
        return f"uses {', '.join(sorted(extra))}, which forms do not have"
    if body.get("format", "date") not in _FORMATS:
        return f"has the format {body['format']!r}; forms know {', '.join(_FORMATS)}"
    if kind == "array":
        items = body.get("items")
        if not isinstance(items, dict) or not _choices(items.get("enum"), items.get("anyOf")):
            return "is a list of something else than choices of strings"
    return None


def _choices(plain: Any, titled: Any) -> bool:
    if plain is not None:
        return isinstance(plain, list) and all(isinstance(one, str) for one in plain)
    return isinstance(titled, list) and all(isinstance(one.get("const"), str) for one in titled)
