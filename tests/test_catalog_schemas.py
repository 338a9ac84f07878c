"""Compiled schemas: dialects, bounds, references that are never fetched, and mirrored parameters."""

import json
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Provider
from erlmcp.catalog import CompiledSchema, InvalidSchema, UnsupportedDialect, header_parameters
from erlmcp.catalog._schemas import MAX_DEPTH, MAX_NODES
from erlmcp.interfaces import HeaderParameter


class DialectTests(SynchronousTestCase):
    """``$schema`` is honoured (revision 2026-07-28, basic, Schema Dialect)."""

    def test_known(self) -> None:
        """Each dialect is applied: 2020-12 knows prefixItems, draft-07 has items for it."""
        row: dict[str, Any] = {"items": [{"type": "string"}]}
        for dialect in (
            "http://json-schema.org/draft-07/schema#",
            "http://json-schema.org/draft-07/schema",
            "http://json-schema.org/draft-06/schema#",
            "http://json-schema.org/draft-04/schema#",
            "https://json-schema.org/draft/2019-09/schema",
        ):
            compiled = CompiledSchema({"$schema": dialect, **row})
            self.assertIsNotNone(compiled.problem([1]), dialect)
            self.assertIsNone(compiled.problem(["a"]), dialect)
        newest = CompiledSchema(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{"type": "string"}]}
        )
        self.assertIsNotNone(newest.problem([1]))
        self.assertIsNotNone(CompiledSchema({"prefixItems": [{"type": "string"}]}).problem([1]))

    def test_unknown(self) -> None:
        for dialect in ("http://json-schema.org/draft-03/schema#", "https://example.com/mine", 7, "draft-07"):
            error = self.assertRaises(UnsupportedDialect, CompiledSchema, {"$schema": dialect})
            self.assertIn(repr(dialect), str(error))
            self.assertIn("2020-12, 2019-09, draft-07", str(error))


class ReferenceTests(SynchronousTestCase):
    """No reference is fetched (revision 2026-07-28, basic, $ref Resolution)."""

    def test_file(self) -> None:
        """A file that exists and would admit the value is not read: the schema is refused."""
        path = Path(self.mktemp())
        path.write_text(json.dumps({"type": "string"}))
        uri = path.absolute().as_uri()
        error = self.assertRaises(InvalidSchema, CompiledSchema, {"$ref": uri})
        self.assertIn(uri, str(error))
        self.assertIn("never fetched", str(error))

    def test_network(self) -> None:
        """A listening socket sees no connection."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            listener.setblocking(False)
            uri = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
            for schema in (
                {"$ref": uri},
                {"properties": {"a": {"$ref": f"{uri}#/$defs/x"}}},
                {"$id": uri, "$dynamicRef": "other.json"},
                {"$schema": uri},
            ):
                self.assertRaises(InvalidSchema, CompiledSchema, schema)
            self.assertRaises(BlockingIOError, listener.accept)

    def test_in_a_tool(self) -> None:
        """A tool with such a schema cannot be registered; the error names it."""

        async def read(**arguments: Any) -> str:
            return str(arguments)

        schema = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}}
        error = self.assertRaises(InvalidSchema, Provider("p").add_tool, read, input_schema=schema)
        self.assertIn("tool 'read': the schema refers to 'http://127.0.0.1:9/x'", str(error))

    def test_inside(self) -> None:
        compiled = CompiledSchema({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}})
        self.assertIsNotNone(compiled.problem(1))
        error = self.assertRaises(InvalidSchema, CompiledSchema, {"$ref": "#/$defs/a"})
        self.assertIn("/$defs/a", str(error))


class BoundTests(SynchronousTestCase):
    """A schema cannot be a weapon (revision 2026-07-28, basic, Composition-Keyword Resource Use)."""

    def test_depth(self) -> None:
        deep: dict[str, Any] = {}
        for _ in range(MAX_DEPTH):
            deep = {"not": deep}
        self.assertIn("levels deep", str(self.assertRaises(InvalidSchema, CompiledSchema, deep)))
        wide: dict[str, Any] = {"anyOf": [{} for _ in range(MAX_NODES)]}
        self.assertIn("parts", str(self.assertRaises(InvalidSchema, CompiledSchema, wide)))

    def test_regular_expressions_give_up(self) -> None:
        """One that backtracks without end refuses the value, in bounded time."""
        compiled = CompiledSchema({"pattern": "^(?=(a+)+$)(a|aa)+$"})
        self.assertIsNotNone(compiled.problem("a" * 60 + "b"))

    def test_no_schema(self) -> None:
        for schema, words in (
            ({"type": "objekt"}, "/type"),
            ({"pattern": "("}, "regex"),
            ({"const": {1, 2}}, "no JSON"),
            ([], "not list"),
        ):
            error = self.assertRaises(InvalidSchema, CompiledSchema, schema)
            self.assertIn(words, str(error))


class ProblemTests(SynchronousTestCase):
    """One sentence says where a value is wrong, and why."""

    def test_sentences(self) -> None:
        compiled = CompiledSchema(
            {
                "properties": {"a": {"items": {"type": "integer"}}, "b": {"maxLength": 2}},
                "required": ["a"],
                "additionalProperties": False,
            }
        )
        self.assertIsNone(compiled.problem({"a": [1.0]}))
        self.assertEqual(compiled.problem({"a": [1, "x"]}), 'a.1: "x" is not of type "integer"')
        self.assertEqual(compiled.problem({}), '"a" is a required property')
        long = compiled.problem({"a": [], "b": "x" * 5000})
        assert long is not None
        self.assertLess(len(long), 200)
        self.assertTrue(long.startswith('b: "xxx'))

    def test_what_is_too_much(self) -> None:
        """A tool without parameters that gets some: the sentence names them."""
        closed = {"type": "object", "additionalProperties": False}
        self.assertEqual(
            CompiledSchema(closed).problem({"z": 1, "y": 2}),
            "no properties are allowed, but there is 'z', 'y'",
        )
        inside = CompiledSchema({"properties": {"a": {"items": closed}, "b": False}})
        self.assertEqual(
            inside.problem({"a": [{}, {"z": 1}]}), "a.1: no properties are allowed, but there is 'z'"
        )
        self.assertEqual(inside.problem({"b": 1}), "b: nothing is allowed here")

    def test_boolean_schemas(self) -> None:
        self.assertIsNone(CompiledSchema(True).problem(1))
        self.assertIsNotNone(CompiledSchema(False).problem(1))

    def test_formats(self) -> None:
        """They annotate in an author's own schema, and refuse in ours."""
        schema = {"type": "string", "format": "date"}
        self.assertIsNone(CompiledSchema(schema).problem("soon"))
        for name, good, bad in (
            ("date", "2026-07-28", "2026-02-30"),
            ("date-time", "2026-07-28T00:00:00Z", "2026-07-28T00:00:00"),
            ("date-time", "2026-07-28t00:00:00+01:00", "2026-07-28T00:00:60Z"),
            ("time", "07:30:00Z", "07:30:00"),
            ("duration", "PT0.5S", "P1Y"),
            ("uuid", "00000000-0000-0000-0000-000000000005", "5"),
        ):
            compiled = CompiledSchema({"type": "string", "format": name}, formats=True)
            self.assertIsNone(compiled.problem(good), name)
            self.assertIsNotNone(compiled.problem(bad), name)


class HeaderTests(SynchronousTestCase):
    """``x-mcp-header`` (revision 2026-07-28, server/tools)."""

    def test_found(self) -> None:
        schema = {
            "type": "object",
            "properties": {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "options": {
                    "type": "object",
                    "properties": {"n": {"type": "integer", "x-mcp-header": "N-1"}},
                },
                "data": {"default": {"x-mcp-header": "not a declaration"}, "type": "object"},
                "x-mcp-header": {"type": "boolean"},
            },
        }
        self.assertEqual(
            header_parameters(schema),
            (
                HeaderParameter(path=("region",), header=b"mcp-param-region", kind="string"),
                HeaderParameter(path=("options", "n"), header=b"mcp-param-n-1", kind="integer"),
            ),
        )
        self.assertEqual(header_parameters(True), ())

    def test_refused(self) -> None:
        def one(**schema: Any) -> dict[str, Any]:
            return {"type": "object", "properties": {"a": schema}}

        good = {"type": "string", "x-mcp-header": "Same"}
        for schema, words in (
            (one(type="string", **{"x-mcp-header": ""}), "cannot end a header name"),
            (one(type="string", **{"x-mcp-header": "a b"}), "cannot end a header name"),
            (one(type="string", **{"x-mcp-header": "a\r\nb"}), "cannot end a header name"),
            (one(type="string", **{"x-mcp-header": 3}), "cannot end a header name"),
            (one(type="number", **{"x-mcp-header": "A"}), "not number"),
            (one(anyOf=[{"type": "string"}], **{"x-mcp-header": "A"}), "a union"),
            (one(type="array", items=good), "only plain properties"),
            (one(anyOf=[good]), "only plain properties"),
            (one(type="object", patternProperties={"x": good}), "only plain properties"),
            ({"type": "object", "$defs": {"a": good}}, "only plain properties"),
            (good, "the root"),
            (
                {"type": "object", "properties": {"a": good, "b": {**good, "x-mcp-header": "sAME"}}},
                "two parameters",
            ),
        ):
            error = self.assertRaises(InvalidSchema, header_parameters, schema)
            self.assertIn(words, str(error))
