"""pydantic models and types, which authors bring along."""

import datetime as dt
import subprocess
import sys
from typing import Annotated, Any
from unittest import mock

import pydantic
from pydantic import AfterValidator, BaseModel, EmailStr
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Field, Provider
from erlmcp.catalog import InexpressibleHint, _pydantic
from erlmcp.catalog._hints import Shapes
from tests.catalog_calls import call, text
from tests.daemon import environment


class Address(BaseModel):
    street: str
    since: dt.date | None = None


class Person(BaseModel):
    name: str = pydantic.Field(min_length=1, alias="fullName")
    home: Address
    work: Address | None = None


@pydantic.dataclasses.dataclass
class Size:
    width: int


class Opaque:
    pass


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class PydanticTests(SynchronousTestCase):
    """Models come in validated, and go out as JSON."""

    def test_model_in_and_out(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def move(person: Person) -> Person:
            assert isinstance(person, Person)
            assert person.home.since == dt.date(2026, 7, 28)
            return person

        given = {"fullName": "Ada", "home": {"street": "S", "since": "2026-07-28"}}
        fields = call(provider, "move", {"person": given})
        self.assertEqual(fields["structuredContent"], {**given, "work": None})

    def test_list_of_models(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def streets(homes: list[Address]) -> list[Address]:
            return homes

        fields = call(provider, "streets", {"homes": [{"street": "A"}]})
        self.assertEqual(fields["structuredContent"], [{"street": "A", "since": None}])

    def test_definitions_of_two_models_do_not_mix(self) -> None:
        shapes = Shapes(closed=True)
        for hint in (Person, list[Person], Address):
            shapes.shape(hint, "here")
        body = shapes.finish(shapes.shape(Person, "here").schema)
        self.assertIn("home", body["properties"])

    def test_dataclass(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def area(size: Size) -> str:
            return str(size.width * 2)

        self.assertEqual(text(call(provider, "area", {"size": {"width": 2}})), "4")

    def test_field_and_types(self) -> None:
        """Its Field is understood as ours is; types that only pydantic knows go to it."""
        shapes = Shapes(closed=True)
        field = shapes.shape(Annotated[int, pydantic.Field(ge=1, multiple_of=2, description="n")], "here")
        self.assertEqual(field.schema, {"type": "integer", "minimum": 1, "multipleOf": 2, "description": "n"})
        pattern = shapes.shape(Annotated[str, pydantic.Field(pattern="^a", max_length=3)], "here")
        self.assertEqual(pattern.schema, {"type": "string", "pattern": "^a", "maxLength": 3})
        self.assertEqual(shapes.shape(EmailStr, "here").schema, {"type": "string", "format": "email"})

    def test_validators_run(self) -> None:
        provider = Provider("p")

        @provider.tool
        async def half(number: Annotated[int, AfterValidator(_even)]) -> str:
            return str(number // 2)

        self.assertEqual(text(call(provider, "half", {"number": 4})), "2")
        fields = call(provider, "half", {"number": 3})
        self.assertTrue(fields["isError"])
        self.assertIn("number", text(fields))

    def test_what_it_does_not_know_either(self) -> None:
        error = self.assertRaises(InexpressibleHint, Shapes(closed=True).shape, Opaque, "here")
        self.assertIn("no JSON Schema expresses Opaque", str(error))

    def test_field_as_default(self) -> None:
        def wrong(count: int = pydantic.Field(ge=0)) -> str:
            return str(count)

        error = self.assertRaises(TypeError, Provider("p").add_tool, wrong)
        self.assertIn("Annotated[int, Field(…)]", str(error))

    def test_never_imported_by_us(self) -> None:
        """Without pydantic in the process, nothing of it is asked for; and no reactor is chosen by an import."""
        script = (
            "import sys, erlmcp.examples.demo as d; d.provider.definitions();"
            "print('pydantic' in sys.modules, 'twisted.internet.reactor' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        self.assertEqual(done.stdout, "False False\n")
        without: dict[str, Any] = {}
        with mock.patch.object(_pydantic.sys, "modules", without):
            self.assertFalse(_pydantic.claims(Address))
            self.assertFalse(_pydantic.insists([AfterValidator(_even)]))
            error = self.assertRaises(InexpressibleHint, Shapes(closed=True).shape, Opaque, "here")
        self.assertIn("dataclass", str(error))

    def test_dump_refuses_others(self) -> None:
        self.assertRaises(TypeError, _pydantic.dump, object())
        self.assertEqual(Field().description, None)
