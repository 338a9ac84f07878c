"""Type hints -> schemas and values: a table of hints, and what cannot be expressed."""

import base64
import collections.abc as abc
import dataclasses
import datetime as dt
import decimal
import enum
import typing
import uuid
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
)
from unittest import mock

import annotated_types
import attrs
import msgspec
import typing_extensions
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Field
from erlmcp.catalog import CompiledSchema, InexpressibleHint, _pydantic
from erlmcp.catalog._hints import Shapes


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    ONE = 1
    TEXT = "text"
    NOTHING = None
    NO = False


class Number(enum.IntEnum):
    TWO = 2


class Steps(int):
    """An int of one's own."""


class Walk(enum.Enum):
    FAR = Steps(9)


class Strange(enum.Enum):
    PAIR = (1, 2)


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0
    names: list[str] = dataclasses.field(default_factory=list)
    made: bool = dataclasses.field(default=False, init=False)


@dataclasses.dataclass
class Tree:
    value: int
    children: list["Tree"] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Left:
    right: Optional["Right"] = None


@dataclasses.dataclass
class Right:
    left: Left | None = None


@dataclasses.dataclass
class WithInitVar:
    x: dataclasses.InitVar[int]


@dataclasses.dataclass
class Unresolved:
    x: "Nowhere"  # noqa: F821 - that is the point


@attrs.define
class Car:
    wheels: int
    _engine: str = "diesel"
    doors: list[int] = attrs.Factory(list)
    run: bool = attrs.field(default=False, init=False)


@attrs.define
class Untyped:
    wheels = attrs.field()


class Cat(msgspec.Struct, tag=True):
    name: str
    lives: int | msgspec.UnsetType = msgspec.UNSET


class Dog(msgspec.Struct, rename="camel"):
    pet_name: Annotated[str, msgspec.Meta(min_length=2, description="what it hears")]
    age: int = 1


class Row(msgspec.Struct, array_like=True):
    x: int


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Show(TypedDict, total=False):
    title: Required[str]
    when: dt.date


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Loose(typing_extensions.TypedDict):
    key: typing_extensions.ReadOnly[int]


import collections  # noqa: E402 - beside the class that shows why

Bare = collections.namedtuple("Bare", ["x"])  # noqa: PYI024 - refused, which is what is tested

Score = NewType("Score", int)
Json = typing_extensions.TypeAliasType("Json", "dict[str, Json] | list[Json] | str | None")
T = typing.TypeVar("T")
UTC = dt.UTC


def shaped(hint: Any, *, closed: bool = True) -> tuple[dict[str, Any], Any]:
    shapes = Shapes(closed=closed)
    shape = shapes.shape(hint, "here")
    return shapes.finish(shape.schema), shape.convert


def converted(hint: Any, value: Any) -> Any:
    schema, convert = shaped(hint)
    problem = CompiledSchema(schema, formats=True).problem(value)
    assert problem is None, problem
    return value if convert is None else convert(value)


class SchemaTests(SynchronousTestCase):
    """Hint -> schema."""

    def test_table(self) -> None:
        """Each kind of hint has its schema."""
        for hint, schema in (
            (str, {"type": "string"}),
            (bool, {"type": "boolean"}),
            (int, {"type": "integer"}),
            (float, {"type": "number"}),
            (None, {"type": "null"}),
            (Any, {}),
            (object, {}),
            (Score, {"type": "integer"}),
            (list, {"type": "array"}),
            (list[int], {"type": "array", "items": {"type": "integer"}}),
            (abc.Sequence[str], {"type": "array", "items": {"type": "string"}}),
            (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
            (tuple, {"type": "array"}),
            (tuple[str, ...], {"type": "array", "items": {"type": "string"}}),
            (
                tuple[int, str],
                {
                    "type": "array",
                    "prefixItems": [{"type": "integer"}, {"type": "string"}],
                    "minItems": 2,
                    "maxItems": 2,
                },
            ),
            (tuple[()], {"type": "array", "minItems": 0, "maxItems": 0}),
            (dict, {"type": "object"}),
            (dict[str, Any], {"type": "object"}),
            (abc.Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
            (
                dict[Colour, int],
                {
                    "type": "object",
                    "propertyNames": {"type": "string", "enum": ["red", "blue"]},
                    "additionalProperties": {"type": "integer"},
                },
            ),
            (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
            (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
            (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
            (Literal["a", 1, None], {"enum": ["a", 1, None]}),  # noqa: PYI061 - that spelling is what is tested
            (Colour, {"type": "string", "enum": ["red", "blue"]}),
            (Mixed, {"enum": [1, "text", None, False]}),
            (Number, {"type": "integer", "enum": [2]}),
            (dt.date, {"type": "string", "format": "date"}),
            (uuid.UUID, {"type": "string", "format": "uuid"}),
        ):
            self.assertEqual(shaped(hint)[0], schema, hint)

    def test_records(self) -> None:
        """Classes with fields are closed objects."""
        for hint, properties, required in (
            (
                Point,
                {
                    "x": {"type": "integer"},
                    "y": {"type": "integer", "default": 0},
                    "names": {"type": "array", "items": {"type": "string"}},
                },
                ["x"],
            ),
            (
                Car,
                {
                    "wheels": {"type": "integer"},
                    "_engine": {"type": "string", "default": "diesel"},
                    "doors": {"type": "array", "items": {"type": "integer"}},
                },
                ["wheels"],
            ),
            (
                Cat,
                {"type": {"const": "Cat"}, "name": {"type": "string"}, "lives": {"type": "integer"}},
                ["type", "name"],
            ),
            (
                Dog,
                {
                    "petName": {"type": "string", "minLength": 2, "description": "what it hears"},
                    "age": {"type": "integer", "default": 1},
                },
                ["petName"],
            ),
            (Movie, {"title": {"type": "string"}, "year": {"type": "integer"}}, ["title"]),
            (Show, {"title": {"type": "string"}, "when": {"type": "string", "format": "date"}}, ["title"]),
            (Loose, {"key": {"type": "integer"}}, ["key"]),
        ):
            self.assertEqual(
                shaped(hint)[0],
                {
                    "type": "object",
                    "properties": properties,
                    "required": required,
                    "additionalProperties": False,
                },
                hint,
            )

    def test_open_for_output(self) -> None:
        """What goes out may have more."""
        self.assertNotIn("additionalProperties", shaped(Movie, closed=False)[0])

    def test_union_of_two_structs(self) -> None:
        schema, _ = shaped(Cat | Dog)
        self.assertEqual([one["type"] for one in schema["anyOf"]], ["object", "object"])

    def test_recursive_types_share_a_definition(self) -> None:
        schema, _ = shaped(Tree)
        self.assertEqual(schema["$ref"], "#/$defs/Tree")
        self.assertEqual(schema["$defs"]["Tree"]["properties"]["children"]["items"], {"$ref": "#/$defs/Tree"})

    def test_a_definition_used_twice_is_kept_once(self) -> None:
        schema, _ = shaped(tuple[Point, Point])
        self.assertEqual(list(schema["$defs"]), ["Point"])

    def test_two_classes_of_one_name(self) -> None:
        """They get different definitions."""

        def made(hint: Any) -> Any:
            return dataclasses.make_dataclass("Same", [("x", hint)])

        first, second = made(int), made(str)
        schema, _ = shaped(tuple[first, first, second, second])  # type: ignore[valid-type]
        self.assertEqual(sorted(schema["$defs"]), ["Same", "Same2"])

    def test_constraints(self) -> None:
        """Field, msgspec.Meta and annotated_types say the same things."""
        for metadata, base, expected in (
            (Field(ge=1, lt=5), int, {"type": "integer", "minimum": 1, "exclusiveMaximum": 5}),
            (Field(gt=0.5, le=2, multiple_of=0.5), float,
             {"type": "number", "exclusiveMinimum": 0.5, "maximum": 2, "multipleOf": 0.5}),
            (Field(min_length=1, max_length=3, pattern="^a"), str,
             {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^a"}),
            (Field(min_length=1), list[int], {"type": "array", "items": {"type": "integer"}, "minItems": 1}),
            (Field(max_length=1), dict, {"type": "object", "maxProperties": 1}),
            (Field(title="T", description="D", examples=[1]), int,
             {"type": "integer", "title": "T", "description": "D", "examples": [1]}),
            (msgspec.Meta(ge=1), int, {"type": "integer", "minimum": 1}),
            (annotated_types.Ge(1), int, {"type": "integer", "minimum": 1}),
            (annotated_types.Interval(gt=1, le=3), int,
             {"type": "integer", "exclusiveMinimum": 1, "maximum": 3}),
            (annotated_types.Len(1, 2), str, {"type": "string", "minLength": 1, "maxLength": 2}),
            (annotated_types.MultipleOf(3), int, {"type": "integer", "multipleOf": 3}),
            ("a note to oneself", int, {"type": "integer"}),
        ):  # fmt: skip
            self.assertEqual(shaped(Annotated[base, metadata])[0], expected, metadata)

    def test_metadata_that_cannot_be_hashed(self) -> None:
        self.assertEqual(shaped(Annotated[int, ["a note"]])[0], {"type": "integer"})

    def test_constraint_reaches_into_a_union(self) -> None:
        schema, _ = shaped(Annotated[int | None, Field(ge=0)])
        self.assertEqual(schema, {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]})

    def test_description_beside_a_reference(self) -> None:
        schema, _ = shaped(Annotated[Tree, Field(description="the root")])
        self.assertEqual(schema["description"], "the root")
        self.assertNotIn("description", schema["$defs"]["Tree"])

    def test_header_of_an_integer_bounds_it(self) -> None:
        schema, _ = shaped(Annotated[int, Field(header="Count")])
        self.assertEqual(schema["maximum"], 2**53 - 1)
        self.assertEqual(schema["x-mcp-header"], "Count")


class ConversionTests(SynchronousTestCase):
    """JSON value -> what the handler gets."""

    def test_table(self) -> None:
        day = dt.datetime(2026, 7, 28, 12, 30, tzinfo=UTC)
        for hint, value, expected in (
            (int, 1.0, 1),
            (float, 1, 1.0),
            (str, "x", "x"),
            (bytes, base64.b64encode(b"\x00\xff").decode(), b"\x00\xff"),
            (dt.datetime, "2026-07-28T12:30:00Z", day),
            (dt.date, "2026-07-28", day.date()),
            (dt.time, "12:30:00Z", dt.time(12, 30, tzinfo=UTC)),
            (dt.timedelta, "PT90.5S", dt.timedelta(seconds=90.5)),
            (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
            (uuid.UUID, str(uuid.UUID(int=5)), uuid.UUID(int=5)),
            (list[dt.date], ["2026-07-28"], [day.date()]),
            (set[int], [1, 2.0], {1, 2}),
            (set[str], ["a"], {"a"}),
            (frozenset[str], ["a"], frozenset({"a"})),
            (abc.Set[str], ["a"], frozenset({"a"})),
            (tuple[int, ...], [1.0, 2], (1, 2)),
            (tuple[str, ...], ["a"], ("a",)),
            (tuple[int, str], [1.0, "a"], (1, "a")),
            (tuple, [1, "x"], (1, "x")),
            (dict[str, dt.date], {"d": "2026-07-28"}, {"d": day.date()}),
            (dict[Colour, str], {"red": "x"}, {Colour.RED: "x"}),
            (Colour, "red", Colour.RED),
            (Mixed, False, Mixed.NO),
            (Mixed, 1.0, Mixed.ONE),
            (Mixed, None, Mixed.NOTHING),
            (Number, 2, Number.TWO),
            (Walk, 9.0, Walk.FAR),
            (Literal[1, "a"], 1.0, 1),
            (Literal[Colour.RED], "red", Colour.RED),
            (int | float, 1, 1),
            (int | float, 1.5, 1.5),
            (int | str, 1.0, 1),
            (int | None, None, None),
            (dt.date | str, "2026-07-28", day.date()),
            (dt.date | str, "soon", "soon"),
            (str | dt.date, "2026-07-28", "2026-07-28"),
            (list[Point] | Point, {"x": 1}, Point(1)),
            (bool | dt.date, True, True),
            (float | Literal["inf"], 3, 3.0),
            (Point | None, {"x": 1.0, "names": ["n"]}, Point(1, 0, ["n"])),
            (Pair, [1.0], Pair(1, "r")),
            (Car, {"wheels": 4, "_engine": "none"}, Car(4, "none")),
            (Cat | Dog, {"petName": "Rex"}, Dog("Rex")),
            (Cat | Dog, {"type": "Cat", "name": "Tom"}, Cat("Tom")),
            (Dog | Movie, {"title": "x", "year": 1.0}, {"title": "x", "year": 1}),
            (Movie, {"title": "x"}, {"title": "x"}),
            (Tree, {"value": 1, "children": [{"value": 2.0}]}, Tree(1, [Tree(2)])),
            (Left, {"right": {"left": {}}}, Left(Right(Left()))),
            (Json, {"a": ["b", None]}, {"a": ["b", None]}),
            (Annotated[Tree, Field(title="t")], {"value": 1}, Tree(1)),
        ):
            found = converted(hint, value)
            self.assertEqual(found, expected, hint)
            self.assertIs(type(found), type(expected), hint)

    def test_unions_check_before_they_choose(self) -> None:
        """A value that no member takes is an error, not a guess."""
        _, convert = shaped(dt.date | uuid.UUID)
        self.assertRaises(ValueError, convert, "neither")


class RefusalTests(SynchronousTestCase):
    """Hints that no schema expresses: the error says where and what would do."""

    def test_table(self) -> None:
        for hint, words in (
            (complex, "no JSON Schema expresses complex"),
            (type, "no JSON Schema"),
            (T, "no JSON Schema"),
            (abc.Callable[[], int], "no JSON Schema"),
            ("Nowhere", "cannot be resolved"),
            (set, "must be hashable"),
            (set[list[int]], "must be hashable"),
            (dict[int, str], "keys of JSON objects are strings"),
            (Strange, "no JSON scalar"),
            (Literal[b"x"], "no JSON scalar"),
            (WithInitVar, "InitVar"),
            (Unresolved, "'Nowhere' in Unresolved"),
            (Untyped, "Untyped.wheels has no type"),
            (Row, "array_like"),
            (Bare, "typing.NamedTuple"),
            (list[complex], "here, its items"),
            (Annotated[str, Field(ge=1)], "needs a plain number or integer"),
            (Annotated[int, Field(pattern="x")], "needs a plain string"),
            (Annotated[bytes, Field(min_length=1)], "min_length=1"),
            (Annotated[int, annotated_types.Predicate(bool)], "Predicate"),
            (dataclasses.make_dataclass("Holder", [("x", complex)]), "field Holder.x"),
        ):
            with mock.patch.object(_pydantic, "loaded", return_value=False):  # other tests import it
                error = self.assertRaises(InexpressibleHint, shaped, hint)
            self.assertIn(words, str(error), hint)
            self.assertTrue(str(error).startswith("here"), error)

    def test_strings_with_another_default(self) -> None:
        """A default that JSON cannot say is left out, and the field stays optional."""
        made = dataclasses.make_dataclass("Odd", [("x", Any, dataclasses.field(default=object()))])
        schema, _ = shaped(made)
        self.assertEqual(schema["properties"], {"x": {}})
        self.assertNotIn("required", schema)
