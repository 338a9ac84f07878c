"""Tools' schemas of 2026-07-28, which may say anything, as the handshake revisions have them: of objects.

Up to 2025-11-25 (schema ``Tool``) ``inputSchema`` and ``outputSchema`` have the type ``object``, and their properties
are objects. An output of another kind is wrapped: ``{"result": value}``.
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

WRAPPER: Final = "result"
"""The property that holds an output which is no object."""

_Schema = dict[str, Any]

_MAPS: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
_VALUES: Final = frozenset({"const", "enum", "default", "examples"})
_POINTERS: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_read: Final = msgspec.json.Decoder().decode


def wraps(schema: Any) -> bool:
    """Whether an ``outputSchema`` has to be wrapped: it can be read, and does not say that its values are objects."""
    opened = _opened(schema)
    return isinstance(opened, dict) and opened.get("type") != "object"


def down_input_schema(schema: Any) -> Any:
    """An ``inputSchema``; the same object if nothing is to be changed."""
    opened = _opened(schema)
    if not isinstance(opened, dict):
        return schema
    plain = _plain(opened)
    return schema if plain is opened else plain


def down_output_schema(schema: Any) -> Any:
    """An ``outputSchema``, wrapped where `wraps` says so; UNSET if it cannot be read, so that it is left out."""
    opened = _opened(schema)
    if not isinstance(opened, dict):
        return UNSET
    if wraps(opened):
        wrapper: _Schema = {"type": "object", "properties": {WRAPPER: opened}, "required": [WRAPPER]}
        if "$id" not in opened:
            inner = _rebased(opened)
            dialect = inner.pop("$schema", None)
            wrapper["properties"] = {WRAPPER: inner}
            if dialect is not None:
                wrapper = {"$schema": dialect, **wrapper}
        return wrapper
    plain = _plain(opened)
    return schema if plain is opened else plain


def _opened(schema: Any) -> Any:
    """The schema, parsed if it is not yet; None if it cannot be, as with a number that is out of range."""
    if type(schema) is not Raw:
        return schema
    try:
        return _read(schema)
    except (msgspec.DecodeError, RecursionError):
        return None


def _plain(schema: _Schema) -> _Schema:
    """The schema with ``properties`` of objects (``true`` and ``false`` have such equals), and good ``required``."""
    properties = schema.get("properties", UNSET)
    if properties is not UNSET:
        if not isinstance(properties, dict):
            schema = {name: value for name, value in schema.items() if name != "properties"}
        elif not all(isinstance(one, dict) for one in properties.values()):
            schema = {
                **schema,
                "properties": {name: _as_object(one) for name, one in properties.items()},
            }
    required = schema.get("required", UNSET)
    if required is not UNSET and not (
        isinstance(required, list) and all(isinstance(name, str) for name in required)
    ):
        schema = {name: value for name, value in schema.items() if name != "required"}
    return schema


def _as_object(schema: Any) -> _Schema:
    if isinstance(schema, dict):
        return schema
    return {"not": {}} if schema is False else {}


def _rebased(schema: _Schema) -> _Schema:
    """The schema as a part of its wrapper: references into itself get the longer way."""
    rebased: _Schema = {}
    for name, value in schema.items():
        if name in _POINTERS and isinstance(value, str) and (value == "#" or value.startswith("#/")):
            # $recursiveRef may only be "#", and $dynamicRef without an anchor is a $ref.
            rebased["$ref"] = f"#/properties/{WRAPPER}{value[1:]}"
        elif name in _MAPS and isinstance(value, dict):
            rebased[name] = {key: _rebased_value(one) for key, one in value.items()}
        else:
            rebased[name] = value if name in _VALUES else _rebased_value(value)
    return rebased


def _rebased_value(value: Any) -> Any:
    if isinstance(value, dict):
        # A part with its own $id is a document of its own: its references begin there.
        return value if "$id" in value else _rebased(value)
    if isinstance(value, list):
        return [_rebased_value(one) for one in value]
    return value
