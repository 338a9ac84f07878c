"""``x-mcp-header``: which arguments HTTP clients mirror into headers (revision 2026-07-28, server/tools)."""

import re
from typing import Any

from erlmcp.catalog._errors import InvalidSchema
from erlmcp.interfaces import HeaderParameter

_KEY = "x-mcp-header"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_KINDS = ("string", "integer", "boolean")
#: keywords whose value is data, not schemas
_DATA = ("const", "default", "enum", "examples")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def header_parameters(schema: Any) -> tuple[HeaderParameter, ...]:
    """The mirrored parameters that an input schema declares.

    Raises:
        InvalidSchema: a declaration breaks the revision's rules; clients would drop the tool.
    """
    found: list[HeaderParameter] = []
    _walk(schema, (), found, reachable=True)
    names = [parameter.header for parameter in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidSchema(f"{_KEY}: two parameters are mirrored into the header {name.decode()!r}")
    return tuple(found)


def _walk(schema: Any, path: tuple[str, ...], found: list[HeaderParameter], *, reachable: bool) -> None:
    """Follow `properties` while the path stays static; look everywhere else for declarations that must not be."""
    if isinstance(schema, list):
        for part in schema:
            _walk(part, path, found, reachable=False)
        return
    if not isinstance(schema, dict):
        return
    if _KEY in schema:
        if not reachable or not path:
            raise InvalidSchema(
                f"{_KEY} at {'.'.join(path) or 'the root'}: only plain properties can be mirrored"
            )
        found.append(_parameter(schema, path))
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, dict):
            for name, part in value.items():
                _walk(part, (*path, name), found, reachable=reachable and keyword == "properties")
        elif keyword not in _DATA and keyword != _KEY:
            _walk(value, path, found, reachable=False)


def _parameter(schema: dict[str, Any], path: tuple[str, ...]) -> HeaderParameter:
    name, kind = schema[_KEY], schema.get("type")
    where = ".".join(path)
    if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
        raise InvalidSchema(
            f"{_KEY} of {where}: {name!r} cannot end a header name; use letters, digits and '-'"
        )
    if kind not in _KINDS:
        raise InvalidSchema(
            f"{_KEY} of {where}: only a string, an integer or a boolean can be mirrored, not {kind or 'a union'}"
            " (give the parameter a default instead of allowing null)"
        )
    return HeaderParameter(path=path, header=f"mcp-param-{name}".lower().encode("ascii"), kind=kind)
