"""Type hints -> JSON Schema 2020-12, and the way from a JSON value that it admits to the value of that type.

One walk makes both, so they cannot drift apart. Classes with fields are in `_records`.
"""

import base64
import collections.abc
import datetime
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from erlmcp.catalog import _pydantic, _records
from erlmcp.catalog._errors import InexpressibleHint
from erlmcp.catalog._field import describe, read_metadata
from erlmcp.catalog._schemas import CompiledSchema

Convert = Callable[[Any], Any]

_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_DECIMAL = "^-?[0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]{1,5})?$"


class Shape:
    """A schema, and how a value that it admits becomes what the handler gets (None: as it is)."""

    __slots__ = ("convert", "schema")

    def __init__(self, schema: dict[str, Any], convert: Convert | None = None) -> None:
        self.schema = schema
        self.convert = convert


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
    datetime.datetime: ({"type": "string", "format": "date-time"}, _by_msgspec(datetime.datetime)),
    datetime.date: ({"type": "string", "format": "date"}, _by_msgspec(datetime.date)),
    datetime.time: ({"type": "string", "format": "time"}, _by_msgspec(datetime.time)),
    datetime.timedelta: ({"type": "string", "format": "duration"}, _by_msgspec(datetime.timedelta)),
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
        self._named: dict[Any, tuple[str, Shape]] = {}

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
        if isinstance(hint, typing.NewType):
            return self.shape(hint.__supertype__, where)
        if type(hint).__name__ == "TypeAliasType":
            return self.named(hint, hint.__name__, lambda: self.shape(hint.__value__, where))
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            return self._annotated(hint, where)
        if origin in (typing.Union, types.UnionType):
            return self._union(typing.get_args(hint), where)
        if origin is typing.Literal:
            return self._choice(typing.get_args(hint), where)
        if isinstance(hint, str | typing.ForwardRef):
            raise InexpressibleHint(
                f"{where}: the name {hint!r} cannot be resolved; define it at module level"
            )
        container = self._container(hint, origin, where)
        if container is not None:
            return container
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return self._choice(tuple(hint), where)
        if _pydantic.claims(hint):
            return self._foreign(hint, where)
        record = _records.read(hint, where)
        if record is not None:
            return self.named(hint, hint.__name__, lambda: _records.shape(self, record, where))
        if _pydantic.loaded():
            return self._foreign(hint, where)
        raise InexpressibleHint(f"{where}: no JSON Schema expresses {_text(hint)}; {_ADVICE}")

    def named(self, key: Any, name: str, build: Callable[[], Shape]) -> Shape:
        """A shape that lives in ``$defs``, so that it may refer to itself."""
        if key not in self._named:
            unique = name
            number = 1
            while unique in self.definitions:
                number += 1
                unique = f"{name}{number}"
            self.definitions[unique] = {}
            holder = Shape({})
            holder.convert = lambda value: holder.convert(value)  # type: ignore[misc]  # bound below, before any call
            self._named[key] = unique, holder
            built = build()
            self.definitions[unique] = built.schema
            holder.convert = built.convert or _same
        unique, holder = self._named[key]
        shared = holder.convert
        late = shared if shared is _same else lambda value: holder.convert(value)  # type: ignore[misc]
        return Shape({"$ref": f"#/$defs/{unique}"}, None if late is _same else late)

    def finish(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The whole document: `schema` with the definitions that it needs; those needed once are put in place."""
        counts: dict[str, int] = dict.fromkeys(self.definitions, 0)
        for node in _nodes([schema, *self.definitions.values()]):
            if (name := _target(node)) is not None:
                counts[name] += 1
        once = {name for name, count in counts.items() if count == 1}
        whole_schema: dict[str, Any] = _inlined(schema, once, self.definitions)
        kept = {
            name: _inlined(body, once, self.definitions)
            for name, body in self.definitions.items()
            if counts[name] > 1
        }
        if kept:
            whole_schema["$defs"] = kept
        return whole_schema

    def _annotated(self, hint: Any, where: str) -> Shape:
        base, *metadata = typing.get_args(hint)
        if _pydantic.insists(metadata):
            return self._foreign(hint, where)
        shape = self.shape(base, where)
        for item in metadata:
            for field in read_metadata(item, where):
                describe(shape.schema, field, where)
        return shape

    def _container(self, hint: Any, origin: Any, where: str) -> Shape | None:
        kind = origin or hint
        arguments = typing.get_args(hint)
        if kind in _LISTS:
            item = self.shape(arguments[0] if arguments else Any, f"{where}, its items")
            each = item.convert
            schema = {"type": "array"} | ({"items": item.schema} if item.schema else {})
            return Shape(schema, None if each is None else lambda value: [each(one) for one in value])
        if kind in _SETS:
            return self._set(_SETS[kind], arguments, where)
        if kind is tuple:
            return self._tuple(arguments, where)
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
        if not arguments:
            arguments = (Any, ...)
        if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004 - tuple[X, ...] has two
            item = self.shape(arguments[0], f"{where}, its items")
            each = item.convert or _same
            schema = {"type": "array"} | ({"items": item.schema} if item.schema else {})
            return Shape(schema, lambda value: tuple(map(each, value)))
        if arguments == ((),):
            arguments = ()
        return self.row([(one, True) for one in arguments], tuple, where)

    def row(self, hints: list[tuple[Any, bool]], make: Convert, where: str) -> Shape:
        """An array with a fixed meaning for each place: (hint, whether it must be there), from the left."""
        items = [self.shape(hint, f"{where}, item {place}") for place, (hint, _) in enumerate(hints)]
        converts = [item.convert or _same for item in items]
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
        keys, values = key.convert or _same, value.convert or _same
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
        renamed: dict[str, str] = {}
        for name in definitions:
            unique = name
            while unique in self.definitions:
                unique += "_"
            renamed[name] = unique
            self.definitions[unique] = {}
        for name, unique in renamed.items():
            self.definitions[unique] = _renamed(definitions[name], renamed)
        return Shape(_renamed(body, renamed), convert)


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


_ADVICE = "use scalars, list, dict[str, …], Literal, Enum, a dataclass, TypedDict, attrs class, msgspec Struct or pydantic model"


def described(shape: Shape, text: str) -> Shape:
    """The shape with a description, where it has none of its own."""
    if not text or "description" in shape.schema:
        return shape
    return Shape({**shape.schema, "description": text}, shape.convert)


def _text(hint: Any) -> str:
    return getattr(hint, "__qualname__", None) or repr(hint)


def _same(value: Any) -> Any:
    return value


def _plain_scalar(value: Any, option: Any, where: str) -> Any:
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise InexpressibleHint(
        f"{where}: {option!r} is no JSON scalar; choices are strings, numbers, booleans or None"
    )


def _nodes(waiting: list[Any]) -> Iterable[dict[str, Any]]:
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _target(node: dict[str, Any]) -> str | None:
    reference = node.get("$ref")
    return reference.removeprefix("#/$defs/") if isinstance(reference, str) else None


def _inlined(node: Any, once: set[str], definitions: dict[str, dict[str, Any]]) -> Any:
    if isinstance(node, list):
        return [_inlined(child, once, definitions) for child in node]
    if not isinstance(node, dict):
        return node
    name = _target(node)
    if name in once:
        node = {**definitions[name], **{key: value for key, value in node.items() if key != "$ref"}}
    return {key: _inlined(value, once, definitions) for key, value in node.items()}


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(child, names) for child in node]
    if not isinstance(node, dict):
        return node
    copy = {key: _renamed(value, names) for key, value in node.items()}
    if (name := _target(node)) is not None:
        copy["$ref"] = f"#/$defs/{names[name]}"
    return copy
