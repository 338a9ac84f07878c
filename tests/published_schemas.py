"""The published JSON Schemas of all revisions, which lie beside CI's checkout: fields, validity, values to try."""

import json
from functools import cache
from typing import Any

import hypothesis.strategies as st
import jsonschema_rs

from tests.skips import SCHEMAS, need

MODERN = "2026-07-28"
#: Where a definition of later revisions is found in earlier ones, which have it in place.
IN_PLACE = {
    "Annotations": ("Annotated.annotations",),
    "ProgressNotificationParams": ("ProgressNotification.params",),
    "LoggingMessageNotificationParams": ("LoggingMessageNotification.params",),
    "ResourceUpdatedNotificationParams": ("ResourceUpdatedNotification.params",),
    "CancelledNotificationParams": ("CancelledNotification.params",),
    "NotificationParams": ("Notification.params",),
    "CreateMessageRequestParams": ("CreateMessageRequest.params",),
    "ElicitRequestFormParams": ("ElicitRequest.params",),
    "LegacyTitledEnumSchema": ("EnumSchema",),
}

#: Properties that hold schemas, which may say anything.
OPEN = {"inputSchema", "outputSchema"}


def need_schemas() -> None:
    """Skip the running test by name where the schemas are not there."""
    need((SCHEMAS / f"{MODERN}.json").exists(), "the published schemas (../shared/schema)")


@cache
def document(version: str) -> dict[str, Any]:
    """A revision's schema."""
    read: dict[str, Any] = json.loads((SCHEMAS / f"{version}.json").read_text())
    return read


def definitions(version: str) -> dict[str, Any]:
    """Its definitions by name."""
    whole = document(version)
    found: dict[str, Any] = whole.get("$defs") or whole["definitions"]
    return found


def definition(version: str, name: str) -> dict[str, Any] | None:
    """One definition, or ``Definition.property`` for what it has in place; None if the revision has it nowhere."""
    for candidate in (name, *IN_PLACE.get(name.partition(".")[0], ())):
        first, *path = candidate.split(".") + (name.split(".")[1:] if candidate != name else [])
        found = definitions(version).get(first)
        for step in path:
            found = None if found is None else resolved(version, found.get("properties", {}).get(step))
        if found is not None and "properties" in found:
            return found
    return None


def resolved(version: str, schema: Any) -> Any:
    """What a schema that is only a reference refers to."""
    while isinstance(schema, dict) and "$ref" in schema:
        schema = definitions(version)[schema["$ref"].rpartition("/")[2]]
    return schema


@cache
def _validator(version: str, name: str, *, strict: bool) -> Any:
    whole = document(version)
    where = "$defs" if "$defs" in whole else "definitions"
    schemas = whole[where]
    if strict:
        # The fields of forms are the same in 2025-11-25, and its prose knows more words for them than its schema.
        left = OPEN | ({"requestedSchema"} if version == "2025-11-25" else set())
        schemas = {one: _closed(schema, left) for one, schema in schemas.items()}
    schema = {where: schemas, "allOf": [{"$ref": f"#/{where}/{name}"}]}
    kind = jsonschema_rs.Draft202012Validator if where == "$defs" else jsonschema_rs.Draft7Validator
    return kind(schema, offline=True)


def _closed(schema: Any, left: set[str]) -> Any:
    """The schema with no other fields than those it names; what is `left` stays open."""
    if isinstance(schema, list):
        return [_closed(one, left) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {word: _closed(part, left) for word, part in schema.items() if word != "properties"}
    if "properties" in schema:
        closed["properties"] = {
            name: part if name in left else _closed(part, left) for name, part in schema["properties"].items()
        }
        if "additionalProperties" not in schema:
            closed["additionalProperties"] = False
            if "method" in schema["properties"]:
                closed["properties"] |= {"jsonrpc": {}, "id": {}}
                params = closed["properties"].get("params")
                if isinstance(params, dict) and "properties" in params:
                    params["properties"].setdefault("_meta", {})
    return closed


def problem(version: str, name: str, value: Any, *, strict: bool = False) -> str | None:
    """Why a value is no `name` of the revision, or None; `strict` lets no field pass that the schema does not name."""
    for error in _validator(version, name, strict=strict).iter_errors(value):
        return f"no {name} of {version}: {error.message} at {error.instance_path}: {json.dumps(value)[:1000]}"
    return None


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.just(0.5) | st.sampled_from(["", "a", "#/$defs/a"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "a", "$ref", "properties", "items"]), inner, max_size=2)
    ),
    max_leaves=5,
)
_TEXTS = {
    "uri": st.sampled_from(["file:///a", "https://example.com/a?b"]),
    "uri-template": st.just("file:///{a}"),
    "byte": st.sampled_from(["", "AAAA", "aGk="]),
}
#: Fields that no revision knows, or only one that the value is not of: all of them are allowed by the schemas.
_FOREIGN = {
    "execution": ANY_JSON,
    "task": ANY_JSON,
    "x-other": ANY_JSON,
    "ttlMs": ANY_JSON,
    "blob": st.just("AAAA"),
    "title": st.just("t"),
}
_SCHEMA_WORDS = {
    "properties": st.dictionaries(st.sampled_from(["a", "$ref"]), ANY_JSON, max_size=2) | ANY_JSON,
    "required": st.just(["a"]) | ANY_JSON,
    "type": st.sampled_from(["object", "array", "string", ["object", "null"]]),
    "$defs": st.dictionaries(st.just("a"), ANY_JSON, max_size=1),
    "$id": st.just("https://example.com/schema"),
    "items": ANY_JSON,
    "$ref": st.sampled_from(["#/$defs/a", "#"]),
}


def values(version: str, name: str) -> st.SearchStrategy[Any]:
    """Values that the revision's schema takes for a definition."""
    return _values(version, definitions(version)[name], 4)


def _values(version: str, schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    schema = resolved(version, schema)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([_values(version, one, depth) for one in schema["anyOf"]])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([_values(version, {**schema, "type": one}, depth) for one in kind])
    if kind == "object":
        return _objects(version, schema, depth)
    if kind == "array":
        if depth <= 0:
            return st.just([])
        return st.lists(
            _values(version, schema["items"], depth - 1), max_size=min(2, schema.get("maxItems", 2))
        )
    if kind == "string":
        return _TEXTS.get(schema.get("format", ""), st.text("ab€\n", max_size=3))
    if kind in ("integer", "number"):
        return st.integers(schema.get("minimum", -9), schema.get("maximum", 9))
    return st.booleans() if kind == "boolean" else ANY_JSON


def _objects(version: str, schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    properties = {
        name: st.deferred(lambda one=one: _values(version, one, depth - 1))  # type: ignore[misc]
        for name, one in schema.get("properties", {}).items()
    }
    required = {name: properties.pop(name) for name in schema.get("required", ())}
    further = schema.get("additionalProperties")
    if not properties and not required:
        inner = _values(version, further, depth - 1) if isinstance(further, dict) and depth > 0 else ANY_JSON
        keys = st.sampled_from(["a", "io.modelcontextprotocol/serverInfo", "example.com/b"])
        return st.dictionaries(keys, inner, max_size=2) if depth > 0 else st.just({})
    if "$schema" in properties:
        properties = {**_SCHEMA_WORDS, **properties}
    elif further is None:
        properties = {**_FOREIGN, **properties}
    optional = {name: value for name, value in properties.items() if depth > 0 and name not in required}
    return st.fixed_dictionaries(required, optional=optional)
