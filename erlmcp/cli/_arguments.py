"""Arguments of a tool as people type them: ``key=value`` read by the tool's schema, ``key:=json`` as it stands."""

import json
from collections.abc import Sequence
from typing import Any, Final

_JSON_TYPES: Final = frozenset({"integer", "number", "boolean", "array", "object", "null"})


def tool_arguments(words: Sequence[str], document: str | None, schema: dict[str, Any]) -> dict[str, Any]:
    """Read a call's arguments.

    Args:
        words: ``key=value`` for a string, or for what the schema says the key takes; ``key:=json`` for any JSON value.
        document: all of them as one JSON object; the words are laid over it.
        schema: the tool's ``inputSchema``.

    Raises:
        ValueError: with what is wrong, and what would be right.
    """
    arguments: dict[str, Any] = {}
    if document is not None:
        arguments = _json(document, "--json")
        if not isinstance(arguments, dict):
            raise ValueError(f"--json takes an object such as '{{\"key\": 1}}', not {document!r}")
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or key in {"", ":"}:
            raise ValueError(f"{word!r} is no argument: write key=value, or key:=json")
        if key.endswith(":"):
            arguments[key[:-1]] = _json(value, key[:-1])
        else:
            arguments[key] = _typed(key, value, _types(schema, key))
    return arguments


def _typed(key: str, value: str, types: frozenset[str]) -> Any:
    if not types or "string" in types:
        return value
    return _json(value, f"{key}, which takes {' or '.join(sorted(types))}")


def _types(schema: dict[str, Any], key: str) -> frozenset[str]:
    properties = schema.get("properties")
    one = properties.get(key) if isinstance(properties, dict) else None
    found = _types_of(one)
    # A reference, a combination: what cannot be told from here is a string, and := is there for the rest.
    return found if found <= _JSON_TYPES | {"string"} else frozenset()


def _types_of(schema: Any) -> frozenset[str]:
    if not isinstance(schema, dict):
        return frozenset()
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(one for one in kind if isinstance(one, str))
    parts = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(parts, list) and parts:
        found = [_types_of(part) for part in parts]
        return frozenset().union(*found) if all(found) else frozenset()
    return frozenset()


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what}: {text!r} is not JSON: {error}") from None
