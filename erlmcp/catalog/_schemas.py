"""JSON Schemas, compiled: dialects, bounds, and sentences about what is wrong. No reference is ever fetched."""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema_rs
import msgspec
from zope.interface import implementer

from erlmcp.catalog._errors import InvalidSchema, UnsupportedDialect
from erlmcp.interfaces import IArguments

#: bounds on one schema (revision 2026-07-28, basic, Composition-Keyword Resource Use)
MAX_DEPTH = 64
MAX_NODES = 10_000
MAX_BACKTRACKING = 100_000

_MODERN = "https://json-schema.org/draft/2020-12/schema"
#: the dialects that `$schema` may name, without a trailing ``#``
DIALECTS: Mapping[str, str] = {
    _MODERN: "2020-12",
    "https://json-schema.org/draft/2019-09/schema": "2019-09",
    "http://json-schema.org/draft-07/schema": "draft-07",
    "http://json-schema.org/draft-06/schema": "draft-06",
    "http://json-schema.org/draft-04/schema": "draft-04",
}


def _time_format(kind: Any, *, zoned: bool) -> Callable[[str], bool]:
    """A check that admits what becomes a value of `kind`, no less and no more."""

    def check(text: str) -> bool:
        try:
            value = msgspec.convert(text, kind)
        except msgspec.ValidationError:
            return False
        return not zoned or value.tzinfo is not None

    return check


#: stricter than RFC 3339 in what Python cannot hold (second 60), wider in durations (fractions of seconds)
_FORMATS = {
    "date-time": _time_format(dt.datetime, zoned=True),
    "date": _time_format(dt.date, zoned=False),
    "time": _time_format(dt.time, zoned=True),
    "duration": _time_format(dt.timedelta, zoned=False),
}
_VALUE_LENGTH = 80
_REASON_LENGTH = 400


def check_dialect(schema: Mapping[str, Any]) -> str:
    """The short name of the schema's dialect, 2020-12 where it names none.

    Raises:
        UnsupportedDialect: it names one that is not known here.
    """
    named = schema.get("$schema", _MODERN)
    found = DIALECTS.get(named.removesuffix("#")) if isinstance(named, str) else None
    if found is None:
        known = ", ".join(DIALECTS.values())
        raise UnsupportedDialect(f"the JSON Schema dialect {named!r} is not supported; supported are {known}")
    return found


def check_bounds(schema: Any) -> None:
    """Refuse a schema that is too deep or has too many parts.

    Raises:
        InvalidSchema: it passes `MAX_DEPTH` or `MAX_NODES`.
    """
    nodes = 0
    waiting = [(schema, 1)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            raise InvalidSchema(f"the schema is nested more than {MAX_DEPTH} levels deep")
        if nodes > MAX_NODES:
            raise InvalidSchema(f"the schema has more than {MAX_NODES} parts")
        if isinstance(node, dict):
            waiting.extend((child, depth + 1) for child in node.values() if isinstance(child, dict | list))
        elif isinstance(node, list):
            waiting.extend((child, depth + 1) for child in node if isinstance(child, dict | list))


@implementer(IArguments)
class CompiledSchema:
    """A schema that values are checked against, in the microsecond that a call has.

    Args:
        schema: a JSON Schema object, or a boolean schema.
        formats: whether ``format`` refuses values; else it only annotates, as 2020-12 has it.

    Raises:
        InvalidSchema: it is no valid schema, too large, or refers to something outside itself.
    """

    __slots__ = ("_is_valid", "_validator", "schema")

    def __init__(self, schema: dict[str, Any] | bool, *, formats: bool = False) -> None:
        if isinstance(schema, dict):
            check_dialect(schema)
        elif not isinstance(schema, bool):
            raise InvalidSchema(f"a JSON Schema is an object, not {type(schema).__name__}")
        check_bounds(schema)
        self.schema = schema
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                offline=True,
                validate_formats=formats,
                formats=_FORMATS if formats else None,
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=MAX_BACKTRACKING),
            )
        except jsonschema_rs.ValidationError as error:
            raise InvalidSchema(_about_schema(error)) from None
        except (ValueError, TypeError) as error:
            raise InvalidSchema(f"the schema is no JSON: {error}") from None
        self._is_valid = self._validator.is_valid

    def problem(self, value: Any) -> str | None:
        """None if the value is valid, else one sentence that says where and why not."""
        if self._is_valid(value):
            return None
        error = next(iter(self._validator.iter_errors(value)), None)
        return "it does not match the schema" if error is None else _about_value(error, value)


def _about_schema(error: jsonschema_rs.ValidationError) -> str:
    reason = error.message
    if "Retrieval is disabled" in reason:
        target = reason.split("'")[1]
        return f"the schema refers to {target!r}, which is outside of it; references are never fetched"
    where = "".join(f"/{part}" for part in error.instance_path)
    return f"the schema is not valid{f' at {where}' if where else ''}: {reason[:_REASON_LENGTH]}"


def _about_value(error: jsonschema_rs.ValidationError, value: Any) -> str:
    where = ".".join(str(part) for part in error.instance_path)
    reason = error.message
    if error.kind.name == "falseSchema":
        # The library's sentence is about the schema `false`; those who sent the value want to hear what is too much.
        reason = "nothing is allowed here"
        if error.schema_path[-1:] == ["additionalProperties"]:
            for part in error.instance_path:
                value = value[part]
            reason = f"no properties are allowed, but there is {', '.join(map(repr, value))}"
    if len(reason) > _REASON_LENGTH:
        reason = f"{reason[:_VALUE_LENGTH]} … {reason[-_VALUE_LENGTH:]}"
    return f"{where}: {reason}" if where else reason
