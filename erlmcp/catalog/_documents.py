"""Schema documents: putting definitions where they are used, and renaming them. Pure dicts in, new dicts out."""

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]
_PREFIX = "#/$defs/"


def joined(schema: Json, definitions: dict[str, Json]) -> Json:
    """`schema` with the definitions that it needs in ``$defs``; those needed once are put in place.

    Fewer references are easier on models and on clients that do not follow them.
    """
    counts = dict.fromkeys(definitions, 0)
    for node in _nodes([schema, *definitions.values()]):
        if (name := _target(node)) is not None:
            counts[name] += 1
    once = {name for name, count in counts.items() if count == 1}
    whole: Json = _inlined(schema, once, definitions)
    kept = {name: _inlined(body, once, definitions) for name, body in definitions.items() if counts[name] > 1}
    return {**whole, "$defs": kept} if kept else whole


def renamed(node: Any, names: dict[str, str]) -> Any:
    """A copy whose references lead to the new names."""
    if isinstance(node, list):
        return [renamed(child, names) for child in node]
    if not isinstance(node, dict):
        return node
    copy = {key: renamed(value, names) for key, value in node.items()}
    if (name := _target(node)) is not None:
        copy["$ref"] = _PREFIX + names[name]
    return copy


def _nodes(waiting: list[Any]) -> Iterable[Json]:
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _target(node: Json) -> str | None:
    reference = node.get("$ref")
    return reference.removeprefix(_PREFIX) if isinstance(reference, str) else None


def _inlined(node: Any, once: set[str], definitions: dict[str, Json]) -> Any:
    if isinstance(node, list):
        return [_inlined(child, once, definitions) for child in node]
    if not isinstance(node, dict):
        return node
    name = _target(node)
    if name in once:
        node = {**definitions[name], **{key: value for key, value in node.items() if key != "$ref"}}
    return {key: _inlined(value, once, definitions) for key, value in node.items()}
