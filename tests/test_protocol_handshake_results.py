"""Results, notifications and errors for clients of handshake revisions: what is left, what becomes of the rest."""

from typing import ClassVar

import msgspec
from msgspec import UNSET, Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import (
    REVISIONS,
    McpError,
    complete,
    down,
    down_definition,
    down_error,
    errors,
    notifications,
    server_info_meta,
    wraps_output,
)
from erlmcp.protocol._cuts import _REMEMBERED

OLDEST, BATCHING, STRUCTURED, NEWEST = REVISIONS.values()
ALL = (OLDEST, BATCHING, STRUCTURED, NEWEST)
INFO = server_info_meta({"name": "s", "version": "1"})


def raw(value):
    return Raw(msgspec.json.encode(value))


def plain(value):
    return msgspec.json.decode(msgspec.json.encode(value))


class Results(SynchronousTestCase):
    def test_what_needs_no_change_is_not_copied(self):
        for value in (
            {"content": [{"type": "text", "text": "a"}], "isError": True},
            {"content": [{"type": "text", "text": "a"}], "_meta": {"example.com/a": 1}},
        ):
            for revision in ALL:
                self.assertIs(down("tools/call", value, revision), value)
                encoded = raw(value)
                self.assertIs(down("tools/call", encoded, revision), encoded)
        structured = {"content": [], "structuredContent": {"a": 1}}
        self.assertIs(down("tools/call", structured, NEWEST), structured)

    def test_what_only_modern_results_have(self):
        for kind, fields in (
            ("tools/call", {"content": []}),
            ("tools/list", {"tools": [], "nextCursor": "c"}),
            ("resources/read", {"contents": []}),
            ("no/such", {"a": 1}),
        ):
            modern = {**complete(fields, INFO), "ttlMs": 5, "cacheScope": "private"}
            for revision in ALL:
                self.assertEqual(down(kind, modern, revision), fields)
                self.assertEqual(plain(down(kind, raw(modern), revision)), fields)

    def test_the_hops_own_meta_goes_and_the_rest_stays(self):
        for kind, fields in (("tools/call", {"content": []}), ("no/such", {})):
            modern = complete({**fields, "_meta": {"example.com/a": 1}}, INFO)
            for value in (modern, raw(modern), {**modern, "_meta": raw(modern["_meta"])}):
                for revision in ALL:
                    self.assertEqual(
                        plain(down(kind, value, revision)), {**fields, "_meta": {"example.com/a": 1}}
                    )

    def test_a_result_that_no_table_knows_passes(self):
        value = {"a": 1}
        self.assertIs(down("no/such", value, OLDEST), value)
        self.assertEqual(down("no/such", {"a": 1, "resultType": "complete"}, OLDEST), value)
        odd = raw([1])
        self.assertIs(down("no/such", odd, OLDEST), odd)

    def test_what_is_not_what_it_should_be_passes(self):
        """A broken backend is its own matter: nothing here fails on it."""
        for value in (
            {"content": 5},
            {"content": [5, "x", None]},
            {"content": raw(5)},
            {"content": [raw(5)]},
            {"content": [], "_meta": 5},
            raw(5),
        ):
            for revision in ALL:
                self.assertEqual(plain(down("tools/call", value, revision)), plain(value))
        self.assertEqual(down("resources/read", {"contents": [5]}, OLDEST), {"contents": [5]})
        self.assertEqual(
            down("tools/list", {"tools": [{"inputSchema": 5}]}, OLDEST), {"tools": [{"inputSchema": 5}]}
        )

    def test_other_forms_of_objects_and_arrays(self):
        class Block(msgspec.Struct):
            type: str
            text: str
            extra: int = 1

        found = down("tools/call", {"content": (Block("text", "a"),)}, NEWEST)
        self.assertEqual(plain(found), {"content": [{"type": "text", "text": "a"}]})

    def test_the_input_is_not_changed(self):
        value = {
            "content": [
                {
                    "type": "text",
                    "text": "a",
                    "annotations": {"lastModified": "x", "priority": 1},
                    "_meta": {},
                }
            ]
        }
        before = plain(value)
        self.assertEqual(
            down("tools/call", value, OLDEST),
            {"content": [{"type": "text", "text": "a", "annotations": {"priority": 1}}]},
        )
        self.assertEqual(value, before)


class Content(SynchronousTestCase):
    AUDIO: ClassVar = {
        "type": "audio",
        "data": "AAAAAAAA",
        "mimeType": "audio/wav",
        "annotations": {"priority": 1},
    }
    LINK: ClassVar = {
        "type": "resource_link",
        "uri": "file:///a",
        "name": "a",
        "size": 3,
        "description": "An a",
    }

    def content(self, blocks, revision):
        return plain(down("tools/call", {"content": blocks}, revision))["content"]

    def test_audio_before_2025_03_26(self):
        text = {"type": "text", "text": "[audio, audio/wav, 6 bytes]", "annotations": {"priority": 1}}
        for block in (self.AUDIO, raw(self.AUDIO), {name: raw(part) for name, part in self.AUDIO.items()}):
            self.assertEqual(self.content([block], OLDEST), [text])
            for revision in ALL[1:]:
                self.assertEqual(self.content([block], revision), [self.AUDIO])

    def test_links_before_2025_06_18(self):
        titled = {"type": "resource_link", "uri": "file:///a", "name": "a", "title": "The a"}
        for revision in (OLDEST, BATCHING):
            self.assertEqual(
                self.content([self.LINK, titled], revision),
                [
                    {"type": "text", "text": "[a](file:///a)\nAn a"},
                    {"type": "text", "text": "[The a](file:///a)"},
                ],
            )
        self.assertEqual(self.content([self.LINK], STRUCTURED), [self.LINK])

    def test_a_type_that_no_revision_has(self):
        for revision in ALL:
            self.assertEqual(
                self.content([{"type": "smell", "data": 5}, {"type": 5}, {}], revision),
                [
                    {"type": "text", "text": '{"type":"smell","data":5}'},
                    {"type": "text", "text": '{"type":5}'},
                    {"type": "text", "text": "{}"},
                ],
            )
            endless = Raw(b'{"type":1e999}')
            self.assertEqual(self.content([endless], revision), [{"type": "text", "text": '{"type":1e999}'}])

    def test_in_prompts(self):
        message = {"role": "user", "content": self.AUDIO, "extra": 1}
        found = down("prompts/get", {"messages": [message]}, OLDEST)
        self.assertEqual(found["messages"][0]["content"]["type"], "text")
        self.assertEqual(
            down("prompts/get", {"messages": [message]}, NEWEST),
            {"messages": [{"role": "user", "content": self.AUDIO}]},
        )

    def test_embedded_resources(self):
        text = {"uri": "file:///a", "text": "a", "_meta": {}}
        blob = {"uri": "file:///a", "blob": "AAAA", "mimeType": "a/b"}
        for inner, left in ((text, {"uri": "file:///a", "text": "a"}), (blob, blob)):
            block = {"type": "resource", "resource": inner}
            self.assertEqual(self.content([block], OLDEST), [{"type": "resource", "resource": left}])
            self.assertEqual(self.content([block], NEWEST), [block])


class Structure(SynchronousTestCase):
    """``structuredContent`` and ``outputSchema``."""

    def tool(self, schema):
        return raw({"name": "t", "inputSchema": {"type": "object"}, "outputSchema": schema})

    def listed(self, tool, revision):
        return msgspec.json.decode(down_definition("tools/list", tool, revision))

    def test_before_2025_06_18_it_is_text(self):
        for revision in (OLDEST, BATCHING):
            found = down("tools/call", {"content": [], "structuredContent": {"a": [1]}}, revision)
            self.assertEqual(found, {"content": [{"type": "text", "text": '{"a":[1]}'}]})
            said = {"content": [{"type": "text", "text": "x"}]}
            found = down("tools/call", {**said, "structuredContent": {"a": 1}}, revision)
            self.assertEqual(found, said)

    def test_what_is_no_object_is_wrapped(self):
        for value in ([1], "a", 1, 0.5, None, True):
            for given in (value, raw(value)):
                for revision in (STRUCTURED, NEWEST):
                    found = down("tools/call", {"content": [], "structuredContent": given}, revision)
                    self.assertEqual(plain(found), {"content": [], "structuredContent": {"result": value}})

    def test_an_object_is_wrapped_where_its_schema_is(self):
        value = {"content": [], "structuredContent": {"a": 1}}
        for schema, wrapped in (
            ({"type": "object"}, False),
            ({"anyOf": [{"type": "object"}, {"type": "array"}]}, True),
            ({"type": ["object", "null"]}, True),
        ):
            tool = self.tool(schema)
            self.assertEqual(wraps_output(tool), wrapped)
            for revision in (STRUCTURED, NEWEST):
                found = down("tools/call", value, revision, tool)
                inner = found["structuredContent"]
                self.assertEqual(inner, {"result": {"a": 1}} if wrapped else {"a": 1})
        bare = raw({"name": "t", "inputSchema": {"type": "object"}})
        self.assertFalse(wraps_output(bare))
        self.assertIs(down("tools/call", value, NEWEST, bare), value)

    def test_schemas(self):
        schema = {
            "type": "array",
            "items": {"type": "integer"},
            "$schema": "https://json-schema.org/draft/2020-12/schema",
        }
        for revision in (STRUCTURED, NEWEST):
            self.assertEqual(
                self.listed(self.tool(schema), revision)["outputSchema"],
                {
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "type": "object",
                    "properties": {"result": {"type": "array", "items": {"type": "integer"}}},
                    "required": ["result"],
                },
            )
            plain_schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
            self.assertEqual(self.listed(self.tool(plain_schema), revision)["outputSchema"], plain_schema)
        for revision in (OLDEST, BATCHING):
            self.assertNotIn("outputSchema", self.listed(self.tool(schema), revision))

    def test_references_still_lead_to_the_same_place(self):
        import jsonschema_rs

        node = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/leaf"}]}}
        schemas = [
            {**node, "$defs": {"leaf": {"type": "integer"}}},
            {"anyOf": [node, {"$ref": "#/$defs/leaf"}], "$defs": {"leaf": {"type": "integer"}}},
            {"$id": "https://example.com/s", **node, "$defs": {"leaf": {"type": "integer"}}},
            {
                "type": "array",
                "items": {"anyOf": [{"$dynamicRef": "#/$defs/leaf"}, {"$dynamicRef": "#"}]},
                "$defs": {"leaf": {"type": "integer"}},
            },
            {
                "type": "array",
                "items": {"anyOf": [{"$ref": "#leaf"}, {"$ref": "#"}]},
                "$defs": {"x": {"$anchor": "leaf", "type": "integer"}},
            },
        ]
        for schema in schemas:
            wrapped = self.listed(self.tool(schema), NEWEST)["outputSchema"]
            for value in ([], [1], [[1, []], 2], ["x"], [[["x"]]], {"a": 1}):
                before = jsonschema_rs.Draft202012Validator(schema).is_valid(value)
                after = jsonschema_rs.Draft202012Validator(wrapped).is_valid({"result": value})
                self.assertEqual(after, before, f"{value} by {wrapped}")

    def test_references_of_other_dialects_and_things_that_are_none(self):
        schema = {
            "type": "array",
            "items": {"$recursiveRef": "#"},
            "contains": {"$ref": "https://example.com/#/a"},
            "const": [{"$ref": "#"}],
            "properties": {"const": {"$ref": "#"}, "$ref": {"type": "string"}},
            "prefixItems": [{"$id": "a", "items": {"$ref": "#"}}, True],
            "required": ["$ref"],
        }
        found = self.listed(self.tool(schema), NEWEST)["outputSchema"]["properties"]["result"]
        self.assertEqual(
            found,
            {
                **schema,
                "items": {"$ref": "#/properties/result"},
                "properties": {"const": {"$ref": "#/properties/result"}, "$ref": {"type": "string"}},
            },
        )

    def test_a_schema_that_cannot_be_read(self):
        """A number that no double holds is good JSON; a client would fail on it where we do."""
        wire = Raw(
            b'{"name":"t","inputSchema":{"type":"object","a":1e999},"outputSchema":{"type":"object","a":1e999}}'
        )
        found = msgspec.json.decode(down_definition("tools/list", wire, NEWEST), type=dict[str, Raw])
        self.assertEqual(bytes(found["inputSchema"]), b'{"type":"object","a":1e999}')
        self.assertNotIn("outputSchema", found)
        self.assertFalse(wraps_output(wire))

    def test_properties_are_objects(self):
        schema = {
            "type": "object",
            "properties": {"a": True, "b": False, "c": {"type": "string"}},
            "required": ["a"],
        }
        tool = raw({"name": "t", "inputSchema": schema, "outputSchema": schema})
        left = {**schema, "properties": {"a": {}, "b": {"not": {}}, "c": {"type": "string"}}}
        for revision in ALL:
            found = self.listed(tool, revision)
            self.assertEqual(found["inputSchema"], left)
            self.assertEqual(found.get("outputSchema", left), left)
        odd = {"type": "object", "properties": 5, "required": [5]}
        self.assertEqual(self.listed(raw({"inputSchema": odd}), NEWEST), {"inputSchema": {"type": "object"}})


class Definitions(SynchronousTestCase):
    TOOL: ClassVar = {
        "name": "t",
        "title": "T",
        "description": "d",
        "inputSchema": {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}},
        "outputSchema": {"type": "object"},
        "annotations": {"readOnlyHint": True, "x": 1},
        "icons": [{"src": "data:,", "theme": "dark", "x": 1}],
        "execution": {"taskSupport": "required"},
        "_meta": {"a": 1},
    }

    def test_a_tool(self):
        found = [
            msgspec.json.decode(down_definition("tools/list", raw(self.TOOL), revision)) for revision in ALL
        ]
        base = {name: self.TOOL[name] for name in ("name", "description", "inputSchema")}
        hinted = {**base, "annotations": {"readOnlyHint": True}}
        newer = {**hinted, "title": "T", "outputSchema": {"type": "object"}, "_meta": {"a": 1}}
        self.assertEqual(
            found, [base, hinted, newer, {**newer, "icons": [{"src": "data:,", "theme": "dark"}]}]
        )
        self.assertEqual(found, [down("tools/list", {"tools": [self.TOOL]}, one)["tools"][0] for one in ALL])

    def test_a_prompt(self):
        prompt = {
            "name": "p",
            "title": "P",
            "arguments": [{"name": "a", "title": "A", "required": True}],
            "icons": [],
        }
        old = {"name": "p", "arguments": [{"name": "a", "required": True}]}
        for revision, left in ((OLDEST, old), (NEWEST, prompt)):
            found = down("prompts/list", {"prompts": [raw(prompt)]}, revision)
            self.assertEqual(plain(found), {"prompts": [left]})

    def test_what_is_good_as_it_is_stays_itself(self):
        wire = raw({"uri": "file:///a", "name": "a"})
        for revision in ALL:
            self.assertIs(down_definition("resources/list", wire, revision), wire)

    def test_other_kinds(self):
        with self.assertRaises(KeyError):
            down_definition("tools/call", raw({}), NEWEST)

    def test_memory_is_bounded(self):
        from erlmcp.protocol import _cuts

        self.patch(_cuts, "_REMEMBERED", 4)
        for number in range(40):
            wire = raw({"uriTemplate": f"file:///{number}", "name": "a", "title": "x"})
            for _ in range(2):
                found = msgspec.json.decode(down_definition("resources/templates/list", wire, OLDEST))
                self.assertEqual(found, {"uriTemplate": f"file:///{number}", "name": "a"})
        entries = _cuts.CUTS[0]["template"].__self__
        self.assertLessEqual(len(entries._known), 4)
        known = set(entries._known)
        huge = raw({"uriTemplate": "file:///{a}", "name": "a" * 10_000, "title": "x"})
        self.assertEqual(
            len(msgspec.json.decode(down_definition("resources/templates/list", huge, OLDEST))), 2
        )
        self.assertEqual(set(entries._known), known)
        self.assertGreaterEqual(_REMEMBERED, 1000)


class Notifications(SynchronousTestCase):
    def test_progress_has_a_message_from_2025_03_26_on(self):
        method, params = notifications.progress("t", 1, 2, "half")
        self.assertEqual(down(method, params, OLDEST), {"progressToken": "t", "progress": 1, "total": 2})
        for revision in ALL[1:]:
            self.assertIs(down(method, params, revision), params)

    def test_no_subscription_id(self):
        for method, params in (
            notifications.list_changed("tools", 1),
            notifications.resource_updated("file:///a", 1),
        ):
            left = {name: value for name, value in params.items() if name != "_meta"}
            for revision in ALL:
                self.assertEqual(down(method, params, revision), left)

    def test_log_messages(self):
        method, params = notifications.log_message("info", {"a": 1}, "l")
        for revision in ALL:
            self.assertIs(down(method, params, revision), params)


class Errors(SynchronousTestCase):
    def test_a_resource_that_is_not_there(self):
        error = errors.resource_not_found("file:///a")
        for revision in ALL:
            for method in ("resources/read", "resources/subscribe"):
                code, message, data = down_error(error, method, revision)
                self.assertEqual((code, data), (-32002, {"uri": "file:///a"}))
                self.assertIn("file:///a", message)
            self.assertEqual(down_error(error, "tools/call", revision)[0], -32602)

    def test_other_bad_parameters_stay(self):
        for error in (errors.invalid_params("no"), errors.invalid_params("no", {"a": 1})):
            found = down_error(error, "resources/read", NEWEST)
            self.assertEqual(found, (-32602, "no", error.data))

    def test_codes_of_the_modern_hop(self):
        missing = errors.missing_capability({"elicitation": {}})
        for revision in ALL:
            self.assertEqual(
                down_error(missing, "tools/call", revision),
                (-32600, missing.message, {"requiredCapabilities": {"elicitation": {}}}),
            )
            for error in (
                errors.header_mismatch("x"),
                errors.unsupported_version("x"),
                McpError(-32099, "x", 1),
            ):
                self.assertEqual(down_error(error, "tools/call", revision), (-32603, error.message, UNSET))

    def test_the_code_of_2025_11_25(self):
        error = McpError(-32042, "visit", {"elicitations": []})
        self.assertEqual(down_error(error, "tools/call", NEWEST), (-32042, "visit", {"elicitations": []}))
        for revision in (OLDEST, BATCHING, STRUCTURED):
            self.assertEqual(down_error(error, "tools/call", revision)[0], -32603)

    def test_our_own_and_json_rpcs(self):
        for code in (-31001, -31006, -32700, -32600, -32601, -32603, -32000, -32019, -32002, 5):
            self.assertEqual(down_error(McpError(code, "x", [1]), "tools/call", OLDEST), (code, "x", [1]))
