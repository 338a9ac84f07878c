"""Classes with named fields: dataclasses, attrs, msgspec structs, TypedDict, and NamedTuple (which is an array)."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from erlmcp.catalog._errors import InexpressibleHint
from erlmcp.catalog._shape import ReadsHints, Shape

_NONE = object()


class RecordField(msgspec.Struct, frozen=True):
    """One field.

    Attributes:
        key: its name in JSON.
        parameter: its name in the constructor.
        hint: its type.
        required: whether it has no default.
        default: the default, if it is a plain value, else `_NONE`.
    """

    key: str
    parameter: str
    hint: Any
    required: bool
    default: Any = _NONE


class Record(msgspec.Struct, frozen=True):
    """A class with fields.

    Attributes:
        cls: the class.
        fields: in its order.
        make: the constructor; None keeps the dict (TypedDict).
        row: whether JSON has it as an array.
        tag: a field that only JSON has, and its value.
    """

    cls: type
    fields: list[RecordField]
    make: Callable[..., Any] | None
    row: bool = False
    tag: tuple[str, Any] | None = None


def read(hint: Any, where: str) -> Record | None:
    """What the class consists of, or None if it is not of these kinds.

    Raises:
        InexpressibleHint: it is, but a field of it cannot be read.
    """
    if not isinstance(hint, type):
        return None
    for recognizes, reader in _READERS:
        if recognizes(hint):
            try:
                return reader(hint, where)
            except NameError as error:
                raise InexpressibleHint(
                    f"{where}: the name {error.name!r} in {hint.__qualname__} cannot be resolved;"
                    " define it at module level"
                ) from None
    return None


def shape(shapes: ReadsHints, record: Record, where: str) -> Shape:
    """The shape of a record."""
    name = record.cls.__qualname__
    if record.row:
        make = typing.cast("Callable[..., Any]", record.make)
        hints = [(field.hint, field.required) for field in record.fields]
        return shapes.row(hints, lambda values: make(*values), f"{where}, {name}")
    properties: dict[str, Any] = {}
    required: list[str] = []
    table: dict[str, tuple[str, Callable[[Any], Any] | None]] = {}
    if record.tag is not None:
        properties[record.tag[0]] = {"const": record.tag[1]}
        required.append(record.tag[0])
    for field in record.fields:
        inner = shapes.shape(field.hint, f"{where}, field {name}.{field.key}")
        properties[field.key] = with_default(inner.schema, field.default)
        if field.required:
            required.append(field.key)
        table[field.key] = field.parameter, inner.convert
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if shapes.closed:
        schema["additionalProperties"] = False
    return Shape(schema, _constructor(record.make, table))


def with_default(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    """The schema with its default, where JSON can say it."""
    if default is _NONE:
        return schema
    try:
        return {**schema, "default": msgspec.to_builtins(default)}
    except (TypeError, ValueError):
        return schema


def _constructor(
    make: Callable[..., Any] | None, table: dict[str, tuple[str, Callable[[Any], Any] | None]]
) -> Callable[[Any], Any] | None:
    if make is None and all(convert is None for _, convert in table.values()):
        return None
    build = dict if make is None else make

    def convert(value: dict[str, Any]) -> Any:
        found: dict[str, Any] = {}
        for key, one in value.items():
            place = table.get(key)
            if place is not None:
                parameter, inner = place
                found[parameter] = one if inner is None else inner(one)
        return build(**found)

    return convert


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _read_dataclass(cls: Any, where: str) -> Record:
    hints = _hints(cls)
    if any(isinstance(hint, dataclasses.InitVar) for hint in hints.values()):
        raise InexpressibleHint(f"{where}: {cls.__qualname__} has an InitVar, which JSON cannot give back")
    fields = [
        RecordField(
            item.name,
            item.name,
            hints[item.name],
            item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING,
            _NONE if item.default is dataclasses.MISSING else item.default,
        )
        for item in dataclasses.fields(cls)
        if item.init
    ]
    return Record(cls, fields, cls)


def _read_attrs(cls: Any, where: str) -> Record:
    hints = _hints(cls)
    fields = []
    for item in cls.__attrs_attrs__:
        if not item.init:
            continue
        if item.name not in hints:
            raise InexpressibleHint(f"{where}: the field {cls.__qualname__}.{item.name} has no type")
        # a factory is an instance of attrs.Factory; NOTHING means that there is no default
        kind = type(item.default).__name__
        missing = repr(item.default) == "NOTHING"
        plain = _NONE if missing or kind == "Factory" else item.default
        fields.append(RecordField(item.name, item.alias, hints[item.name], missing, plain))
    return Record(cls, fields, cls)


def _read_struct(cls: Any, where: str) -> Record:
    config = cls.__struct_config__
    if config.array_like:
        raise InexpressibleHint(f"{where}: {cls.__qualname__} is array_like; use a NamedTuple for a row")
    fields = []
    for item in msgspec.structs.fields(cls):
        plain = _NONE if item.default in (msgspec.NODEFAULT, msgspec.UNSET) else item.default
        fields.append(RecordField(item.encode_name, item.name, item.type, item.required, plain))
    tag = None if config.tag is None else (config.tag_field, config.tag)
    return Record(cls, fields, cls, tag=tag)


def _read_typed_dict(cls: Any, where: str) -> Record:  # noqa: ARG001 - all readers have one signature
    fields = []
    for key, hint in _hints(cls).items():
        # with postponed annotations __required_keys__ does not know NotRequired: the hint itself goes first
        required = key in cls.__required_keys__
        inner = hint
        while (name := getattr(typing.get_origin(inner), "_name", None)) in _QUALIFIERS:
            required = {"Required": True, "NotRequired": False}.get(name, required)
            inner = typing.get_args(inner)[0]
        fields.append(RecordField(key, key, inner, required))
    return Record(cls, fields, None)


def _read_named_tuple(cls: Any, where: str) -> Record:
    hints = _hints(cls)
    for name in cls._fields:
        if name not in hints:
            raise InexpressibleHint(
                f"{where}: the field {cls.__qualname__}.{name} has no type; use typing.NamedTuple"
            )
    fields = [RecordField(name, name, hints[name], name not in cls._field_defaults) for name in cls._fields]
    return Record(cls, fields, cls, row=True)


_QUALIFIERS = ("Required", "NotRequired", "ReadOnly")

_READERS: tuple[tuple[Callable[[type], bool], Callable[[Any, str], Record]], ...] = (
    (lambda cls: issubclass(cls, msgspec.Struct), _read_struct),
    (dataclasses.is_dataclass, _read_dataclass),
    (lambda cls: hasattr(cls, "__attrs_attrs__"), _read_attrs),
    (lambda cls: issubclass(cls, dict) and hasattr(cls, "__required_keys__"), _read_typed_dict),
    (lambda cls: issubclass(cls, tuple) and hasattr(cls, "_fields"), _read_named_tuple),
)
