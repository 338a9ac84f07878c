"""JSON Schemas: dialects, validity, references, bounds (basic/index, JSON Schema Usage)."""

from typing import Any

from erlmcp import Provider
from erlmcp.catalog import InvalidSchema, UnsupportedDialect
from tests.interaction.cases import Interaction, everywhere, holds

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
MODERN = "https://json-schema.org/draft/2020-12/schema"


async def whatever(**arguments: Any) -> str:
    return repr(arguments)


def offer(schema: dict[str, Any]) -> Provider:
    """A provider of one tool with this inputSchema."""
    provider = Provider("schemas")
    provider.add_tool(whatever, input_schema={"type": "object", **schema})
    return provider


@everywhere
class Dialects(Interaction):
    """Which words a schema may use, and what they mean."""

    def admits(self, schema: dict[str, Any], arguments: dict[str, Any]) -> bool:
        return not self.again(offer(schema)).call("whatever", arguments).result.get("isError", False)

    @holds("basic.index/dialects.1", "basic.index/schemas.1")
    def test_2020_12_is_the_default(self) -> None:
        """``prefixItems`` is 2020-12's; before, ``items`` had that meaning."""
        for dialect in ({}, {"$schema": MODERN}):
            schema = {**dialect, "properties": {"a": {"prefixItems": [{"type": "string"}], "items": False}}}
            self.assertTrue(self.admits(schema, {"a": ["x"]}))
            self.assertFalse(self.admits(schema, {"a": [1]}))
            self.assertFalse(self.admits(schema, {"a": ["x", "y"]}))

    @holds("basic.index/schemas.2")
    def test_each_schema_in_its_own_dialect(self) -> None:
        words = {"a": {"prefixItems": [{"type": "string"}], "items": [{"type": "integer"}]}}
        for dialect in (DRAFT_7, DRAFT_2019):
            self.assertTrue(self.admits({"$schema": dialect, "properties": words}, {"a": [1]}))
            self.assertFalse(self.admits({"$schema": dialect, "properties": words}, {"a": ["x"]}))
        with self.assertRaises(InvalidSchema):
            offer({"$schema": MODERN, "properties": words})

    @holds("basic.index/schemas.3")
    def test_an_unsupported_dialect(self) -> None:
        for dialect in ("https://json-schema.org/draft/2035-01/schema", "", 5):
            with self.assertRaises(UnsupportedDialect) as caught:
                offer({"$schema": dialect})
            self.assertIn(repr(dialect), str(caught.exception))
            self.assertIn("2020-12", str(caught.exception))


class Refused(Interaction):
    """What is not offered."""

    @holds("basic.index/valid-schemas.1", "server.tools/schema.1")
    def test_invalid_schemas(self) -> None:
        for schema in (
            {"properties": {"a": {"type": "text"}}},
            {"properties": []},
            {"required": "a"},
            {"properties": {"a": {"minimum": "1"}}},
            {"properties": {"a": {"pattern": "("}}},
            {"type": "array"},
            {"type": None},
        ):
            with self.assertRaises(InvalidSchema):
                offer(schema)
        with self.assertRaises((InvalidSchema, TypeError)):
            Provider("p").add_tool(whatever, input_schema=None, output_schema=5)  # type: ignore[typeddict-item]

    @holds("basic.index/references.3")
    def test_external_references(self) -> None:
        for target in (
            "https://example.com/schema.json",
            "file:///etc/hostname",
            "other.json#/a",
            "#/$defs/none",
        ):
            with self.assertRaises(InvalidSchema):
                offer({"properties": {"a": {"$ref": target}}})
        provider = offer({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "integer"}}})
        self.assertTrue(self.again(provider).call("whatever", {"a": "x"}).result["isError"])

    @holds("basic.index/bounds.1")
    def test_bounds(self) -> None:
        deep: dict[str, Any] = {}
        for _ in range(100):
            deep = {"not": deep}
        with self.assertRaisesRegex(InvalidSchema, "deep"):
            offer({"properties": {"a": deep}})
        with self.assertRaisesRegex(InvalidSchema, "parts"):
            offer({"properties": {"a": {"anyOf": [{"const": n} for n in range(20_000)]}}})
