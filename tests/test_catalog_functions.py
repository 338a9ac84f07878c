"""Authors' functions: what is read from them, and which cannot answer requests."""

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Context, Field, Provider
from erlmcp.catalog import InexpressibleHint
from erlmcp.catalog._functions import read, split_docstring
from tests.catalog_calls import call, text, wire


class Adder:
    """Adds."""

    def __init__(self, base: int) -> None:
        self.base = base

    async def method(self, n: int) -> str:
        """Add to the base."""
        return str(self.base + n)

    async def __call__(self, n: int) -> str:
        """Add as a call."""
        return str(self.base + n)


class ReadingTests(SynchronousTestCase):
    """Names, docstrings, contexts."""

    def test_docstring(self) -> None:
        """Google style: arguments go to the parameters, the rest is the description."""
        found, about = split_docstring(
            "Do it.\n\nLong text.\n\nArgs:\n    first: one\n        more of it\n    *second (int): two\n"
            "        note: no entry\n\n    stray text\nReturns:\n    a value\n"
        )
        self.assertEqual(found, "Do it.\n\nLong text.\n\nReturns:\n    a value")
        self.assertEqual(about, {"first": "one more of it", "second": "two note: no entry stray text"})

    def test_docstring_ends_by_indentation(self) -> None:
        found, about = split_docstring("Do it.\n\nArgs:\n    words before any entry\n    a: one\nAfterwards.")
        self.assertEqual((found, about), ("Do it.\n\nAfterwards.", {"a": "one"}))

    def test_description_of_parameters(self) -> None:
        """A Field's own description goes first."""
        provider = Provider("p")

        @provider.tool
        async def tool(a: int, b: Annotated[int, Field(description="from Field")]) -> str:
            """Do it.

            Args:
                a: from the docstring
                b: also
            """
            return str(a + b)

        schema = wire(provider.definitions().tools["tool"].wire)["inputSchema"]
        self.assertEqual(schema["properties"]["a"]["description"], "from the docstring")
        self.assertEqual(schema["properties"]["b"]["description"], "from Field")

    def test_methods_and_callables(self) -> None:
        provider = Provider("p")
        adder = Adder(10)
        provider.add_tool(adder.method)
        provider.add_tool(adder, name="called")
        provider.add_tool(functools.partial(adder.method), name="partial")
        for name in ("method", "called", "partial"):
            self.assertEqual(text(call(provider, name, {"n": 5})), "15")
        self.assertEqual(wire(provider.definitions().tools["method"].wire)["description"], "Add to the base.")

    def test_context_wherever_it_stands(self) -> None:
        async def one(a: int, ctx: Context) -> None: ...

        async def other(*, me: Context | None = None, a: int) -> None: ...

        self.assertEqual(read(one, "tool", None).context, "ctx")
        self.assertEqual(read(other, "tool", None).context, "me")
        self.assertEqual([p.name for p in read(other, "tool", None).parameters], ["a"])

    def test_without_hints(self) -> None:
        async def anything(a, b=2):  # type: ignore[no-untyped-def]
            return f"{a}{b}"

        provider = Provider("p")
        provider.add_tool(anything)
        schema = wire(provider.definitions().tools["anything"].wire)["inputSchema"]
        self.assertEqual(schema["properties"], {"a": {}, "b": {"default": 2}})
        self.assertEqual(schema["required"], ["a"])


class RefusalTests(SynchronousTestCase):
    """Registration says what is wrong with a function, and what would do."""

    def test_table(self) -> None:
        async def positional(a: int, /) -> None: ...

        async def star(*parts: int) -> None: ...

        async def keywords(**parts: int) -> None: ...

        async def two(a: Context, b: Context) -> None: ...

        async def field(a: int = Field(ge=1)) -> None: ...  # type: ignore[assignment]

        async def stream() -> AsyncIterator[int]:
            yield 1

        def generator() -> Iterator[int]:
            yield 1

        @inlineCallbacks
        def old() -> Iterator[Deferred[Any]]:
            yield Deferred()

        for function, words in (
            (positional, "tool 'positional', parameter 'a' is positional-only"),
            (star, "name each of them instead of *parts"),
            (keywords, "name each of them instead of **parts"),
            (two, "there is a Context already, 'a'"),
            (field, "Annotated[int, Field(…)]"),
            (stream, "is a generator"),
            (generator, "is a generator"),
            (old, "is a generator"),
            (lambda a: a, "needs name="),
            (3, "a tool is a function, not 3"),
        ):
            error = self.assertRaises(TypeError, Provider("p").add_tool, function)
            self.assertIn(words, str(error))

    def test_unresolved_names(self) -> None:
        async def lost(a: "Elsewhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - tested

        error = self.assertRaises(InexpressibleHint, Provider("p").add_tool, lost)
        self.assertIn("tool 'lost': the name 'Elsewhere'", str(error))

    def test_hints_name_function_and_parameter(self) -> None:
        async def odd(a: int, b: set[list[int]]) -> None: ...

        error = self.assertRaises(InexpressibleHint, Provider("p").add_tool, odd)
        self.assertIn("tool 'odd', parameter 'b'", str(error))
