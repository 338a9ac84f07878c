"""Any value that a tool's schema admits reaches its handler unchanged; no value makes a gate fail otherwise."""

import contextlib
import dataclasses
import datetime as dt
import enum
import json
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Field, Provider
from erlmcp.catalog import Catalog, CompiledSchema, InvalidArguments, InvalidSchema, ValidateGate
from erlmcp.catalog._functions import split_docstring
from erlmcp.catalog._header_parameters import header_parameters
from erlmcp.catalog._texts import _candidates
from tests.catalog_calls import call, call_request

examples = settings(deadline=None, max_examples=60)


class Colour(enum.Enum):
    RED = "red"
    ONE = 1


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass
class Node:
    value: int
    rest: "Node | None" = None


class Options(TypedDict):
    name: str
    size: NotRequired[float]


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


texts = st.text(st.characters(codec="utf-8"), max_size=20)
integers = st.integers(-(2**53) + 1, 2**53 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
nodes: st.SearchStrategy[Node] = st.recursive(
    integers.map(Node), lambda inner: st.builds(Node, integers, inner), max_leaves=4
)
json_values = st.recursive(
    st.none() | st.booleans() | integers | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
datetimes = st.datetimes(timezones=st.just(dt.UTC))

#: hint -> values of it; what they are in JSON is msgspec's business, not the catalog's
KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, texts),
    (int, integers),
    (float, numbers),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=20)),
    (dt.datetime, datetimes),
    (dt.date, st.dates()),
    (uuid.UUID, st.uuids()),
    (dt.timedelta, st.timedeltas(dt.timedelta(0), dt.timedelta(days=10**6))),
    (list[int], st.lists(integers, max_size=4)),
    (set[str], st.sets(texts, max_size=4)),
    (frozenset[dt.date], st.frozensets(st.dates(), max_size=3)),
    (tuple[int, ...], st.lists(integers, max_size=3).map(tuple)),
    (tuple[str, float], st.tuples(texts, numbers)),
    (dict[str, float], st.dictionaries(texts, numbers, max_size=3)),
    (dict[str, list[bytes]], st.dictionaries(texts, st.lists(st.binary(max_size=4), max_size=2), max_size=2)),
    (int | None, st.none() | integers),
    (int | float | str, integers | numbers | texts),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),  # noqa: PYI061 - what is tested
    (Colour, st.sampled_from(list(Colour))),
    (Pair, st.builds(Pair, integers, texts)),
    (Node, nodes),
    (Options, st.fixed_dictionaries({"name": texts}, optional={"size": numbers})),
    (Cat | Dog, st.builds(Cat, integers) | st.builds(Dog, texts)),
    (list[Node | int], st.lists(nodes | integers, max_size=3)),
    (Annotated[int, Field(ge=-5, lt=5)], st.integers(-5, 4)),
    (Annotated[str, Field(min_length=2, max_length=4)], st.text("ab", min_size=2, max_size=4)),
    (Any, json_values),
]


def receiving(hint: Any) -> tuple[Provider, list[Any]]:
    """A provider whose tool keeps what it gets."""
    got: list[Any] = []
    provider = Provider("p")

    async def tool(value: Any) -> None:
        got.append(value)

    tool.__annotations__["value"] = hint
    provider.add_tool(tool)
    return provider, got


RECEIVERS = [(hint, values, *receiving(hint)) for hint, values in KINDS]


class UnchangedTests(SynchronousTestCase):
    """What goes in comes out."""

    @given(st.data())
    @settings(deadline=None, max_examples=400)
    def test_values_reach_the_handler(self, data: st.DataObject) -> None:
        hint, values, provider, got = data.draw(st.sampled_from(RECEIVERS))
        value = data.draw(values)
        got.clear()
        fields = call(provider, "tool", {"value": msgspec.to_builtins(value)})
        assert fields == {"content": []}, fields
        assert got == [value], hint
        assert type(got[0]) is type(value), hint

    @given(st.data())
    @settings(deadline=None, max_examples=300)
    def test_other_values_are_refused_or_converted(self, data: st.DataObject) -> None:
        """Any JSON at all: a refusal by the schema, a result, or an error result; never another exception."""
        _, _, provider, got = data.draw(st.sampled_from(RECEIVERS))
        value = data.draw(json_values)
        got.clear()
        try:
            fields = call(provider, "tool", {"value": value})
        except InvalidArguments:
            assert not got
            return
        assert bool(got) != bool(fields.get("isError"))

    @given(integers)
    @examples
    def test_integers_written_as_floats(self, value: int) -> None:
        """JSON Schema takes 1.0 for an integer, and the handler gets an int."""
        provider, got = receiving(int)
        made = call_request("tool")
        made.params.arguments = msgspec.Raw(b'{"value":%d.0}' % value)
        ValidateGate(Catalog([provider])).check(made)
        coroutine: Any = provider.dispatch(made)
        self.assertRaises(StopIteration, coroutine.send, None)
        assert got == [int(float(value))]
        assert type(got[0]) is int


class PureTests(SynchronousTestCase):
    """Parsers of what authors and upstreams write fail in no other way than they say."""

    @given(json_values)
    @settings(deadline=None, max_examples=150)
    def test_schemas(self, schema: Any) -> None:
        for compile_it in (CompiledSchema, header_parameters):
            act: Callable[[Any], Any] = compile_it
            with contextlib.suppress(InvalidSchema):
                act(schema)

    @given(json_values, json_values)
    @examples
    def test_problems_are_sentences(self, value: Any, constant: Any) -> None:
        problem = CompiledSchema({"const": constant}).problem(value)
        assert (problem is None) == (json.dumps(value) == json.dumps(constant)) or value == constant
        assert problem is None or len(problem) < 600

    @given(st.text(max_size=300))
    @examples
    def test_docstrings(self, text: str) -> None:
        description, about = split_docstring(text)
        assert isinstance(description, str)
        assert all(name.isidentifier() or name for name in about)

    @given(
        st.text(max_size=12),
        st.lists(st.sampled_from(["string", "integer", "number", "boolean", "null"]), min_size=1),
    )
    @examples
    def test_text_arguments_always_mean_something(self, text: str, types: list[str]) -> None:
        found = _candidates(text, types)
        assert found
        assert "string" not in types or text in found
