"""Type hints -> JSON Schema 2020-12, and the way from a JSON value that it admits to the value of that type.

One walk makes both, so they cannot drift apart. Classes with fields are in `_records`.
"""

import base64
import collections.abc
import datetime as dt
import decimal
import enum
import sys
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from erlmcp.catalog import _documents as documents
from erlmcp.catalog import _pydantic, _records
from erlmcp.catalog._errors import InexpressibleHint
from erlmcp.catalog._field import describe, read_metadata
from erlmcp.catalog._schemas import CompiledSchema
from erlmcp.catalog._shape import Convert, Shape

_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_DECIMAL = "^-?[0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]{1,5})?$"


def whole(value: Any) -> Any:
    """JSON Schema takes 1.0 for an integer (2020-12, validation 6.1.1): the handler gets the int."""
    return int(value) if type(value) is float else value


def _by_msgspec(kind: type) -> Convert:
    def convert(value: Any) -> Any:
        return msgspec.convert(value, kind)

    return convert


_SCALARS: dict[Any, tuple[dict[str, Any], Convert | None]] = {
    str: ({"type": "string"}, None),
    bool: ({"type": "boolean"}, None),
    int: ({"type": "integer"}, whole),
    float: ({"type": "number"}, float),
    types.NoneType: ({"type": "null"}, None),
    None: ({"type": "null"}, None),
    Any: ({}, None),
    object: ({}, None),
    bytes: ({"type": "string", "contentEncoding": "base64", "pattern": _BASE64}, base64.b64decode),
    dt.datetime: ({"type": "string", "format": "date-time"}, _by_msgspec(dt.datetime)),
    dt.date: ({"type": "string", "format": "date"}, _by_msgspec(dt.date)),
    dt.time: ({"type": "string", "format": "time"}, _by_msgspec(dt.time)),
    dt.timedelta: ({"type": "string", "format": "duration"}, _by_msgspec(dt.timedelta)),
    decimal.Decimal: ({"type": "string", "format": "decimal", "pattern": _DECIMAL}, decimal.Decimal),
    uuid.UUID: ({"type": "string", "format": "uuid"}, uuid.UUID),
}
_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_SETS: dict[Any, type] = {
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_UNHASHABLE = ("array", "object")
_JSON_TYPES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    types.NoneType: "null",
    list: "array",
    dict: "object",
}


class Shapes:
    """The shapes of one schema document: classes that refer to themselves share its ``$defs``.

    Args:
        closed: whether objects with known fields refuse others; so for what comes in, not for what goes out.
    """

    def __init__(self, *, closed: bool) -> None:
        self.closed = closed
        self.definitions: dict[str, dict[str, Any]] = {}
        self._named: dict[Any, tuple[str, _Late]] = {}

    def shape(self, hint: Any, where: str) -> Shape:
        """The shape of `hint`; `where` names it in errors, such as ``tool add, parameter 'a'``.

        Raises:
            InexpressibleHint: no JSON Schema expresses it.
        """
        try:
            found = _SCALARS.get(hint)
        except TypeError:
            found = None  # unhashable metadata
        if found is not None:
            return Shape(dict(found[0]), found[1])
        if isinstance(hint, str | typing.ForwardRef):
            raise InexpressibleHint(
                f"{where}: the name {hint!r} cannot be resolved; define it at module level"
            )
        shape = self._special(hint, where) or self._container(hint, where) or self._class(hint, where)
        if shape is None:
            raise InexpressibleHint(f"{where}: no JSON Schema expresses {_text(hint)}; {_ADVICE}")
        return shape

    def _special(self, hint: Any, where: str) -> Shape | None:
        """Hints that are no classes: aliases, Annotated, unions, Literal."""
        if isinstance(hint, typing.NewType):
            return self.shape(hint.__supertype__, where)
        if type(hint).__name__ == "TypeAliasType":
            return self.named(hint, hint.__name__, lambda: self.shape(_alias_value(hint), where))
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            return self._annotated(hint, where)
        if origin in (typing.Union, types.UnionType):
            return self._union(typing.get_args(hint), where)
        if origin is typing.Literal:
            return self._choice(typing.get_args(hint), where)
        return None

    def _class(self, hint: Any, where: str) -> Shape | None:
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return self._choice(tuple(hint), where)
        if _pydantic.claims(hint):
            return self._foreign(hint, where)
        record = _records.read(hint, where)
        if record is not None:
            return self.named(hint, hint.__name__, lambda: _records.shape(self, record, where))
        return self._foreign(hint, where) if _pydantic.loaded() else None

    def named(self, key: Any, name: str, build: Callable[[], Shape]) -> Shape:
        """A shape that lives in ``$defs``, so that it may refer to itself."""
        if key not in self._named:
            unique = self._reserve(name)
            late = _Late()
            self._named[key] = unique, late
            built = build()
            self.definitions[unique] = built.schema
            late.convert = built.convert or same
        unique, late = self._named[key]
        return Shape({"$ref": f"#/$defs/{unique}"}, None if late.convert is same else late)

    def _reserve(self, name: str) -> str:
        """A name in ``$defs`` that is not taken."""
        unique, number = name, 1
        while unique in self.definitions:
            number += 1
            unique = f"{name}{number}"
        self.definitions[unique] = {}
        return unique

    def finish(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The whole document: `schema` with the definitions that it needs; those needed once are put in place."""
        return documents.joined(schema, self.definitions)

    def _annotated(self, hint: Any, where: str) -> Shape:
        base, *metadata = typing.get_args(hint)
        if _pydantic.insists(metadata):
            return self._foreign(hint, where)
        shape = self.shape(base, where)
        for item in metadata:
            for field in read_metadata(item, where):
                describe(shape.schema, field, where)
        return shape

    def _container(self, hint: Any, where: str) -> Shape | None:
        kind = typing.get_origin(hint) or hint
        arguments = typing.get_args(hint)
        if kind in _LISTS:
            item = self.shape(arguments[0] if arguments else Any, f"{where}, its items")
            each = item.convert
            schema = {"type": "array"} | ({"items": item.schema} if item.schema else {})
            return Shape(schema, None if each is None else lambda value: [each(one) for one in value])
        if kind in _SETS:
            return self._set(_SETS[kind], arguments, where)
        if kind is tuple:
            return self._tuple((Any, ...) if hint is kind else arguments, where)
        if kind in _MAPPINGS:
            return self._mapping(arguments, where)
        return None

    def _set(self, kind: type, arguments: tuple[Any, ...], where: str) -> Shape:
        item = self.shape(arguments[0] if arguments else Any, f"{where}, its items")
        if not item.schema or item.schema.get("type") in _UNHASHABLE:
            raise InexpressibleHint(
                f"{where}: the items of a set must be hashable; say set[str] or the like, or list"
            )
        each = item.convert
        schema = {"type": "array", "items": item.schema, "uniqueItems": True}
        return Shape(schema, kind if each is None else lambda value: kind(each(one) for one in value))

    def _tuple(self, arguments: tuple[Any, ...], where: str) -> Shape:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            item = self.shape(arguments[0], f"{where}, its items")
            each = item.convert or same
            schema = {"type": "array"} | ({"items": item.schema} if item.schema else {})
            return Shape(schema, lambda value: tuple(map(each, value)))
        return self.row([(one, True) for one in arguments], tuple, where)

    def row(self, hints: list[tuple[Any, bool]], make: Convert, where: str) -> Shape:
        """An array with a fixed meaning for each place: (hint, whether it must be there), from the left."""
        items = [self.shape(hint, f"{where}, item {place}") for place, (hint, _) in enumerate(hints)]
        converts = [item.convert or same for item in items]
        schema: dict[str, Any] = {
            "type": "array",
            "minItems": sum(required for _, required in hints),
            "maxItems": len(items),
        }
        if items:
            schema["prefixItems"] = [item.schema for item in items]
        return Shape(schema, lambda value: make([c(one) for c, one in zip(converts, value, strict=False)]))

    def _mapping(self, arguments: tuple[Any, ...], where: str) -> Shape:
        if not arguments:
            return Shape({"type": "object"})
        key = self.shape(arguments[0], f"{where}, its keys")
        if key.schema.get("type") != "string":
            raise InexpressibleHint(f"{where}: keys of JSON objects are strings; say dict[str, …]")
        value = self.shape(arguments[1], f"{where}, its values")
        schema: dict[str, Any] = {"type": "object"}
        if set(key.schema) != {"type"}:
            schema["propertyNames"] = key.schema
        if value.schema:
            schema["additionalProperties"] = value.schema
        if key.convert is None and value.convert is None:
            return Shape(schema)
        keys, values = key.convert or same, value.convert or same
        return Shape(schema, lambda found: {keys(name): values(one) for name, one in found.items()})

    def _choice(self, options: tuple[Any, ...], where: str) -> Shape:
        """``Literal`` and ``Enum``: options are JSON scalars, or members of an Enum whose values are."""
        table: dict[tuple[bool, Any], Any] = {}
        for option in options:
            plain = option.value if isinstance(option, enum.Enum) else option
            if type(plain) not in (str, int, float, bool, types.NoneType):
                plain = _plain_scalar(plain, option, where)
            table[isinstance(plain, bool), plain] = option
        values = [plain for _, plain in table]
        kinds = list(dict.fromkeys(_JSON_TYPES[type(value)] for value in values))
        schema: dict[str, Any] = {"type": kinds[0]} if len(kinds) == 1 else {}
        schema["enum"] = values
        if all(isinstance(option, str) and not isinstance(option, enum.Enum) for option in options):
            return Shape(schema)
        return Shape(schema, lambda value: table[isinstance(value, bool), value])

    def _union(self, members: tuple[Any, ...], where: str) -> Shape:
        members = tuple(member for member in members if member is not msgspec.UnsetType)
        shapes = [self.shape(member, where) for member in members]
        if len(shapes) == 1:
            return shapes[0]
        schema = {"anyOf": [shape.schema for shape in shapes]}
        if all(shape.convert is None for shape in shapes) or any(not shape.schema for shape in shapes):
            return Shape(schema)
        return Shape(schema, _Branches(self, shapes))

    def _foreign(self, hint: Any, where: str) -> Shape:
        try:
            body, definitions, convert = _pydantic.shape(
                hint, "validation" if self.closed else "serialization"
            )
        except _pydantic.Unknown:
            raise InexpressibleHint(f"{where}: no JSON Schema expresses {_text(hint)}; {_ADVICE}") from None
        renamed = {name: self._reserve(name) for name in definitions}
        for name, unique in renamed.items():
            self.definitions[unique] = documents.renamed(definitions[name], renamed)
        return Shape(documents.renamed(body, renamed), convert)


class _Late:
    """Converts by what is known once a class that refers to itself has been read to its end."""

    __slots__ = ("convert",)

    def __init__(self) -> None:
        self.convert: Convert | None = None

    def __call__(self, value: Any) -> Any:
        return self.convert(value)  # type: ignore[misc]  # set before the first call


class _Branches:
    """Converts a value of a union: the first member, in the author's order, whose schema admits it."""

    __slots__ = ("_compiled", "_members", "_shapes")

    def __init__(self, shapes: Shapes, members: list[Shape]) -> None:
        self._shapes = shapes
        self._members = members
        self._compiled: list[CompiledSchema] | None = None

    def __call__(self, value: Any) -> Any:
        members = self._members
        kind = _JSON_TYPES[type(value)]
        # 1 is an int before it is a float, and 1.0 the other way round
        exact = [m for m in members if m.schema.get("type") == kind and "enum" not in m.schema]
        if len(exact) == 1 and not any(self._open(m, kind) for m in members if m is not exact[0]):
            convert = exact[0].convert
            return value if convert is None else convert(value)
        if self._compiled is None:
            definitions = self._shapes.definitions
            self._compiled = [
                CompiledSchema({**member.schema, "$defs": definitions}, formats=True) for member in members
            ]
        ranked = sorted(range(len(members)), key=lambda place: members[place].schema.get("type") != kind)
        if kind not in ("integer", "number"):
            ranked = list(range(len(members)))
        for place in ranked:
            if self._compiled[place].problem(value) is None:
                convert = members[place].convert
                return value if convert is None else convert(value)
        raise ValueError("no member of the union takes this value")

    @staticmethod
    def _open(member: Shape, kind: str) -> bool:
        """Whether a value of this JSON type could be this member's too."""
        named = member.schema.get("type")
        return named is None or named == kind


_ADVICE = (
    "use scalars, list, dict[str, …], Literal, Enum, a dataclass, TypedDict, attrs class,"
    " msgspec Struct or pydantic model"
)


def described(shape: Shape, text: str) -> Shape:
    """The shape with a description, where it has none of its own."""
    if not text or "description" in shape.schema:
        return shape
    return Shape({**shape.schema, "description": text}, shape.convert)


def _alias_value(alias: Any) -> Any:
    """What a ``type`` alias stands for, with the names in it resolved."""
    holder = types.SimpleNamespace(__annotations__={"value": alias.__value__})
    names = vars(sys.modules[alias.__module__])
    return typing.get_type_hints(holder, names, include_extras=True)["value"]


def _text(hint: Any) -> str:
    return getattr(hint, "__qualname__", None) or repr(hint)


def same(value: Any) -> Any:
    return value


def _plain_scalar(value: Any, option: Any, where: str) -> Any:
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise InexpressibleHint(
        f"{where}: {option!r} is no JSON scalar; choices are strings, numbers, booleans or None"
    )
