"""Types that handlers may have, values of each, and a provider with a tool for each that tells what it got."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
from hypothesis import strategies as st

from erlmcp import Field, Provider

Values = st.SearchStrategy[Any]


class Colour(enum.Enum):
    RED = "red"
    NONE = ""
    FOX = "🦊"


class Level(enum.IntEnum):
    LOW = -1
    HIGH = 2**60


class Mixed(enum.Enum):
    TEXT = "1"
    NUMBER = 1
    FLAG = False


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0
    labels: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Tree:
    value: int
    children: list["Tree"] = dataclasses.field(default_factory=list)


@attrs.define
class Car:
    plate: str
    doors: int = 4


class Cat(msgspec.Struct, tag=True):
    lives: int
    name: str | None = None


class Dog(msgspec.Struct, tag=True, rename="camel"):
    best_friend: str


class Pair(NamedTuple):
    left: int
    right: str


class Address(pydantic.BaseModel):
    street: str
    number: int | None = None


class Person(pydantic.BaseModel):
    name: str
    addresses: list[Address] = []
    tags: dict[str, bool] = {}


@dataclasses.dataclass
class Nested:
    point: Point
    movies: dict[str, Movie]
    choice: Literal["a", 5, None]  # noqa: PYI061 - a literal None is what is tested
    pets: list[Cat | Dog]
    car: Car | None = None


UserId = NewType("UserId", int)

#: every character that UTF-8 can carry: controls, astral ones, private and unassigned ones; no lone surrogates
texts: Values = st.text(st.characters(codec="utf-8"), max_size=12)
#: the same, with what JSON, lines, headers and terminals might stumble over
awkward: Values = st.text(
    st.sampled_from("\x00\n\r\t\x1b\x7f\x85\u2028\u2029\ufeff\ufffe\U0010ffff🦊é\"\\/<>&'%{}[]:, aA0"),
    max_size=12,
)
strings = texts | awkward
integers: Values = st.one_of(
    st.integers(-(2**53), 2**53),
    st.integers(-(2**64) - 2, 2**64 + 2),
    st.integers(-(10**300), 10**300),
)
small: Values = st.integers(-1000, 1000)
floats: Values = st.floats(allow_nan=False, allow_infinity=False)
#: JSON has one way to write 1.0 and 1 apart; a float that is whole must come back a float
numbers = floats | small.map(float)
json_values: Values = st.recursive(
    st.none() | st.booleans() | integers | floats | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
    max_leaves=8,
)
#: JSON has no word for which of two equal hours is meant; in UTC there are none
moments = st.datetimes(timezones=st.just(dt.UTC)).map(lambda moment: moment.replace(fold=0))
points = st.builds(Point, numbers, numbers, st.lists(strings, max_size=2))
movies = st.fixed_dictionaries({"title": strings}, optional={"year": small})
cars = st.builds(Car, strings, small)
pets = st.builds(Cat, integers, st.none() | strings) | st.builds(Dog, strings)
trees: Values = st.recursive(
    st.builds(Tree, integers),
    lambda inner: st.builds(Tree, small, st.lists(inner, max_size=2)),
    max_leaves=4,
)


class Kind(msgspec.Struct):
    """A hint and values of it.

    Attributes:
        exact: whether the schema alone says what is admitted, or also a ``format`` or a ``pattern``, which libraries
            judge in their own ways.
    """

    name: str
    hint: Any
    values: Any
    exact: bool = True


KINDS = [
    Kind("str", str, strings),
    Kind("int", int, integers),
    Kind("float", float, numbers),
    Kind("bool", bool, st.booleans()),
    Kind("none", None, st.none()),
    Kind("any", Any, json_values),
    Kind("bytes", bytes, st.binary(max_size=12), exact=False),
    Kind("datetime", dt.datetime, moments, exact=False),
    Kind("date", dt.date, st.dates(), exact=False),
    Kind("uuid", uuid.UUID, st.uuids(), exact=False),
    Kind(
        "decimal", decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=5), exact=False
    ),
    Kind("list", list[int], st.lists(integers, max_size=4)),
    Kind("sequence", Sequence[str], st.lists(strings, max_size=4)),
    Kind("set", set[str], st.sets(strings, max_size=4)),
    Kind("frozenset", frozenset[int], st.frozensets(small, max_size=4)),
    Kind("tuples", tuple[int, ...], st.lists(integers, max_size=4).map(tuple)),
    Kind("pair", tuple[str, float, bool], st.tuples(strings, numbers, st.booleans())),
    Kind("named", Pair, st.builds(Pair, integers, strings)),
    Kind("dict", dict[str, float], st.dictionaries(strings, numbers, max_size=4)),
    Kind(
        "mapping", Mapping[str, list[int]], st.dictionaries(strings, st.lists(small, max_size=2), max_size=3)
    ),
    Kind("free", dict, st.dictionaries(strings, json_values, max_size=3)),
    Kind("literal", Literal["a", "é🦊", 1, True, None], st.sampled_from(["a", "é🦊", 1, True, None])),  # noqa: PYI061 - as above
    Kind("enum", Colour, st.sampled_from(list(Colour))),
    Kind("int_enum", Level, st.sampled_from(list(Level))),
    Kind("mixed_enum", Mixed, st.sampled_from(list(Mixed))),
    Kind("typed_dict", Movie, movies),
    Kind("dataclass", Point, points),
    Kind("tree", Tree, trees),
    Kind("attrs", Car, cars),
    Kind("struct", Cat, st.builds(Cat, integers, st.none() | strings)),
    Kind("structs", Cat | Dog, pets),
    Kind(
        "pydantic",
        Person,
        st.builds(
            Person,
            name=strings,
            addresses=st.lists(st.builds(Address, street=strings, number=st.none() | small), max_size=2),
            tags=st.dictionaries(strings, st.booleans(), max_size=2),
        ),
        exact=False,
    ),
    Kind("optional", int | None, st.none() | integers),
    Kind("union", int | float | str | bool | None, st.none() | integers | numbers | strings | st.booleans()),
    Kind("list_of_unions", list[str | int | Point], st.lists(strings | integers | points, max_size=3)),
    Kind("new_type", UserId, integers),
    Kind("bounded", Annotated[int, Field(ge=-3, lt=4)], st.integers(-3, 3)),
    Kind(
        "short",
        Annotated[str, Field(min_length=1, max_length=3)],
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=3),
    ),
    Kind(
        "nested",
        Nested,
        st.builds(
            Nested,
            points,
            st.dictionaries(strings, movies, max_size=2),
            st.sampled_from(["a", 5, None]),
            st.lists(pets, max_size=2),
            st.none() | cars,
        ),
    ),
]


def wire(value: Any) -> Any:
    """The value as JSON has it."""
    return json.loads(
        json.dumps(msgspec.to_builtins(value, enc_hook=lambda model: model.model_dump(mode="json")))
    )


def described(value: Any) -> str:
    """A value and its type, as a text that is the same in every process."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__} {sorted(map(described, value))}"
    return f"{type(value).__name__} {value!r}"


class Receivers:
    """A provider with a tool for each kind.

    Attributes:
        got: what handlers were called with, in order.
    """

    def __init__(self) -> None:
        self.provider = Provider("values")
        self.got: list[Any] = []
        for kind in KINDS:
            self._offer(kind)

    def _offer(self, kind: Kind) -> None:
        async def tool(value: Any) -> str:
            self.got.append(value)
            return described(value)

        tool.__annotations__["value"] = kind.hint
        self.provider.add_tool(tool, name=kind.name)


provider = Receivers().provider
"""For processes that are given ``tests.interaction.values:provider``."""
