"""A TOML table against the struct that it is to fill: every mistake, not only the first."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta

from erlmcp.config._lines import Path
from erlmcp.config._problems import nearest
from erlmcp.config._secrets import Secret
from erlmcp.config._sources import Merged

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "KIB": 1 << 10,
    "MB": 10**6,
    "MIB": 1 << 20,
    "GB": 10**9,
    "GIB": 1 << 30,
}
_SIZE = re.compile(r"([0-9]{1,12})\s*([A-Za-z]*)")


def check_table(
    shape: type[msgspec.Struct],
    table: Any,
    path: Path,
    merged: Merged,
    *,
    without: Collection[str] = (),
    ours: Collection[str] = (),
    later: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Take what is right out of a table, and note what is wrong with the rest.

    Args:
        shape: the struct whose fields are the known keys.
        table: what the file has.
        path: where it has it.
        merged: where problems go.
        without: fields that are no keys.
        ours: keys that the caller looks at itself.
        later: keys of a later version, with what to say of them.

    Returns:
        the valid values by key, ready for the struct.
    """
    if not isinstance(table, dict):
        merged.problem(path, f"is {_kind(table)}", "it must be a table")
        return {}
    fields = {
        field.encode_name: field for field in msgspec.structs.fields(shape) if field.name not in without
    }
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in ours:
            continue
        if key in fields:
            try:
                values[fields[key].name] = _convert(value, fields[key].type)
            except ValueError as error:
                default = fields[key].default
                known = (
                    default is not NODEFAULT
                    and default is not None
                    and isinstance(default, (int, float, str))
                )
                merged.problem((*path, key), str(error), f"the default is {default!r}" if known else "")
        elif later and key in later:
            merged.problem((*path, key), "not in this version", later[key])
        else:
            merged.problem((*path, key), "unknown key", nearest(key, [*fields, *ours]))
    for name, field in fields.items():
        if field.required and name not in table:
            merged.problem(
                (*path, name), "is missing", f"every [[{path[0]}]] needs it" if len(path) > 1 else ""
            )
    return values


def _convert(value: Any, wanted: Any) -> Any:
    """The value as its field has it. Raises ValueError with what is wrong in plain words."""
    if Secret in get_args(wanted) and isinstance(value, str):
        raise ValueError(
            "a secret is never written in the file itself: say { file = … }, { env = … } or"
            " { credential = … }"
        )
    if isinstance(value, str) and _is_bytes(wanted):
        value = _size(value)
    inner = _struct(wanted) if isinstance(value, dict) else None
    if inner is not None:
        return _inner(value, inner)
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        said = str(error).replace("`", "")
        shown = "" if isinstance(value, (dict, list)) else f"{value!r} will not do: "
        words = _words(wanted)
        if words:
            raise ValueError(f"{shown}it must be {' or '.join(map(repr, words))}") from None
        raise ValueError(shown + said[0].lower() + said[1:]) from None


def _struct(wanted: Any) -> type[msgspec.Struct] | None:
    """The struct that a table within a table is to fill."""
    for hint in (wanted, *get_args(wanted)):
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and hint is not Secret:
            return hint
    return None


def _inner(table: dict[str, Any], shape: type[msgspec.Struct]) -> msgspec.Struct:
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    values = {}
    for key, value in table.items():
        if key not in fields:
            raise ValueError(f"unknown key {key!r} in it; {nearest(key, fields)}")
        try:
            values[fields[key].name] = _convert(value, fields[key].type)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    lacking = [name for name, field in fields.items() if field.required and name not in table]
    if lacking:
        raise ValueError(f"it lacks {lacking[0]}")
    return shape(**values)


def _words(wanted: Any) -> tuple[Any, ...]:
    """The only values of a field that has but a few."""
    for hint in (wanted, *get_args(wanted)):
        if get_origin(hint) is Literal:
            return get_args(hint)
    return ()


def _is_bytes(wanted: Any) -> bool:
    if get_origin(wanted) is not Annotated and get_args(wanted):
        return any(map(_is_bytes, get_args(wanted)))
    return get_origin(wanted) is Annotated and any(
        isinstance(meta, Meta) and meta.extra and meta.extra.get("unit") == "bytes"
        for meta in get_args(wanted)
    )


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f'{text!r} is no size: sizes are bytes, or text such as "64 KiB" or "4 MiB"')
    return int(match[1]) * _UNITS[match[2].upper()]


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "an array of tables" if value and isinstance(value[0], dict) else "an array"
    return "a table" if isinstance(value, dict) else f"the value {value!r}"
