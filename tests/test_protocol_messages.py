"""Errors, parameters, `_meta`, capabilities, methods, levels, results and notifications."""

import importlib
import subprocess
import sys

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from twisted.trial.unittest import SynchronousTestCase

import erlmcp.protocol
from erlmcp.protocol import (
    LOG_LEVELS,
    METHODS,
    NO_CAPABILITIES,
    NO_META,
    ClientCapabilities,
    McpError,
    Params,
    Question,
    at_least,
    cached,
    complete,
    errors,
    http_status,
    input_required,
    notifications,
    read_meta,
    reserved_meta_key,
    server_info_meta,
    valid_meta_key,
)
from tests.skips import ROOT, SCHEMAS, need


class Errors(SynchronousTestCase):
    def test_statuses_of_the_modern_era(self):
        for code, status in (
            (-32700, 400),
            (-32600, 400),
            (-32601, 404),
            (-32602, 200),
            (-32603, 200),
            (-32020, 400),
            (-32021, 400),
            (-32022, 400),
            (errors.OVERLOADED, 503),
            (errors.RATE_LIMITED, 429),
            (errors.SHUTTING_DOWN, 503),
            (errors.NOT_PERMITTED, 403),
            (errors.DEADLINE_EXCEEDED, 200),
            (errors.OUTCOME_UNKNOWN, 200),
            (1, 200),
        ):
            self.assertEqual(http_status(code), status, code)

    def test_the_reference_tells_the_same(self):
        rows = [
            [cell.strip() for cell in line.split("|")[1:-1]]
            for line in (ROOT / "docs" / "reference" / "errors.md").read_text().splitlines()
            if line.startswith("| -")
        ]
        told = {int(code): int(status) for code, meaning, _, status in rows[1:] if "`_meta`" not in meaning}
        self.assertEqual(told, {code: http_status(code) for code in told})
        constants = {
            value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)
        }
        self.assertEqual(set(told), constants)

    def test_statuses_of_the_handshake_era(self):
        for code in (-32601, -32602, -32603, -32020, -32021, -32022):
            self.assertEqual(http_status(code, modern=False), 200)
        for code in (-32700, -32600):
            self.assertEqual(http_status(code, modern=False), 400)

    def test_own_codes_lie_outside_the_reserved_range(self):
        own = {
            errors.DEADLINE_EXCEEDED,
            errors.OVERLOADED,
            errors.RATE_LIMITED,
            errors.OUTCOME_UNKNOWN,
            errors.SHUTTING_DOWN,
            errors.NOT_PERMITTED,
        }
        self.assertEqual(len(own), 6)
        for code in own:
            self.assertFalse(-32768 <= code <= -32000)

    def test_builders(self):
        for error, code, words in (
            (errors.invalid_request("no"), -32600, "no"),
            (errors.invalid_params("no", {"a": 1}), -32602, "no"),
            (errors.method_not_found("x/y"), -32601, "x/y"),
            (errors.internal(), -32603, "Internal"),
            (errors.header_mismatch("Mcp-Name"), -32020, "Header mismatch: Mcp-Name"),
            (errors.resource_not_found("file:///x"), -32602, "file:///x"),
            (errors.unknown_tool("t"), -32602, "Unknown tool: t"),
            (errors.unknown_prompt("p"), -32602, "Unknown prompt: p"),
            (errors.deadline_exceeded(2.5), errors.DEADLINE_EXCEEDED, "within 2.5 s"),
            (errors.deadline_exceeded(), errors.DEADLINE_EXCEEDED, "deadline"),
            (errors.overloaded(), errors.OVERLOADED, "room"),
            (errors.outcome_unknown(), errors.OUTCOME_UNKNOWN, "unknown"),
            (errors.shutting_down(), errors.SHUTTING_DOWN, "shutting down"),
            (errors.not_permitted(), errors.NOT_PERMITTED, "permitted"),
        ):
            self.assertEqual(error.code, code)
            self.assertIn(words, error.message)
            self.assertEqual(str(error), f"{error.message} ({code})")

    def test_a_status_of_its_own_wins(self):
        self.assertEqual(McpError(-32602, "x", status=406).http_status(), 406)
        self.assertEqual(errors.invalid_params("x", status=400).http_status(), 400)
        self.assertEqual(McpError(-32602, "x").http_status(), 200)

    def test_names_are_cut_in_messages(self):
        for build in (
            errors.method_not_found,
            errors.resource_not_found,
            errors.unknown_tool,
            errors.unknown_prompt,
        ):
            self.assertLess(len(build("x" * 100_000).message), 300)

    def test_missing_capabilities(self):
        error = errors.missing_capability({"elicitation": {}, "sampling": {"tools": {}, "context": {}}})
        self.assertEqual(error.code, -32021)
        required = {"elicitation": {}, "sampling": {"tools": {}, "context": {}}}
        self.assertEqual(error.data, {"requiredCapabilities": required})
        self.assertIn("elicitation, sampling.tools, sampling.context", error.message)

    def test_unsupported_versions(self):
        error = errors.unsupported_version("1900-01-01")
        self.assertEqual(error.data, {"supported": ["2026-07-28"], "requested": "1900-01-01"})

    def test_rate_limits_round_up(self):
        error = errors.rate_limited("too fast", 1.2, {"rule": "global"})
        self.assertEqual(error.data, {"rule": "global", "retryAfterMs": 1200})
        self.assertEqual(error.headers, ((b"retry-after", b"2"),))
        self.assertEqual(errors.rate_limited("x", -5).headers, ((b"retry-after", b"0"),))
        self.assertEqual(errors.rate_limited("x", 0.001).headers, ((b"retry-after", b"1"),))


class Parameters(SynchronousTestCase):
    def read(self, text):
        return msgspec.json.decode(text, type=Params)

    def test_names_on_the_wire(self):
        params = self.read(
            b'{"_meta":{"a":1},"name":"n","uri":"u","arguments":{"x":null},"cursor":"c","inputResponses":{"k":{}},'
            b'"requestState":"s","requestId":7,"reason":"r","protocolVersion":"v","capabilities":{},"clientInfo":{},'
            b'"level":"info","ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"v"},'
            b'"context":{"arguments":{"b":"c"}},"notifications":{"toolsListChanged":true,'
            b'"resourceSubscriptions":["file:///a"]},"other":[1]}'
        )
        self.assertEqual(bytes(params.meta), b'{"a":1}')
        self.assertEqual(bytes(params.arguments), b'{"x":null}')
        self.assertEqual(bytes(params.input_responses), b'{"k":{}}')
        self.assertEqual((params.name, params.uri, params.cursor, params.request_state), ("n", "u", "c", "s"))
        self.assertEqual((params.request_id, params.reason, params.level), (7, "r", "info"))
        self.assertEqual((params.protocol_version, bytes(params.client_info)), ("v", b"{}"))
        self.assertEqual((params.ref.type, params.ref.name, params.ref.uri), ("ref/prompt", "p", UNSET))
        self.assertEqual((params.argument.name, params.argument.value), ("a", "v"))
        self.assertEqual(params.context.arguments, {"b": "c"})
        self.assertEqual(
            params.notifications, {"toolsListChanged": True, "resourceSubscriptions": ["file:///a"]}
        )

    def test_all_are_optional(self):
        params = self.read(b"{}")
        self.assertEqual({getattr(params, name) for name in Params.__struct_fields__}, {UNSET})

    def test_wrong_kinds_are_refused_with_their_place(self):
        for text, place in (
            (b'{"name":1}', "$.name"),
            (b'{"ref":{"type":"ref/other"}}', "$.ref.type"),
            (b'{"argument":{"name":"a"}}', "`value`"),
            (b'{"notifications":{"toolsListChanged":"yes"}}', "$.notifications"),
            (b'{"notifications":{"resourceSubscriptions":[1]}}', "$.notifications"),
            (b'{"requestId":1.5}', "$.requestId"),
        ):
            error = self.assertRaises(msgspec.ValidationError, self.read, text)
            self.assertIn(place, str(error))


PREFIX = "io.modelcontextprotocol/"


class MetaObjects(SynchronousTestCase):
    def test_all_that_the_protocol_reads(self):
        meta = read_meta(
            b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
            b'"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1","title":"C","icons":[]},'
            b'"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},'
            b'"io.modelcontextprotocol/logLevel":"warning","progressToken":"t","traceparent":"00-a-b-01",'
            b'"tracestate":"x=y","baggage":"k=v","com.example/other":[1,{"a":2}]}'
        )
        self.assertEqual(meta.protocol_version, "2026-07-28")
        self.assertEqual(
            (meta.client_info.name, meta.client_info.version, meta.client_info.title), ("c", "1", "C")
        )
        self.assertEqual(meta.capabilities.elicitation.form, UNSET)
        self.assertEqual((meta.log_level, meta.progress_token), ("warning", "t"))
        self.assertEqual((meta.traceparent, meta.tracestate, meta.baggage), ("00-a-b-01", "x=y", "k=v"))

    def test_absent(self):
        self.assertIs(read_meta(UNSET), NO_META)
        self.assertEqual(read_meta(b"{}"), NO_META)

    def test_raw_parts_of_a_message_are_taken(self):
        self.assertEqual(read_meta(msgspec.Raw(b'{"progressToken":5}')).progress_token, 5)

    def test_wrong_values_are_refused_and_named(self):
        for key, value in (
            ("protocolVersion", 5),
            ("protocolVersion", None),
            ("clientInfo", "me"),
            ("clientInfo", {"name": "n"}),
            ("clientCapabilities", []),
            ("clientCapabilities", {"elicitation": True}),
            ("clientCapabilities", {"extensions": {"a/b": 1}}),
            ("logLevel", "loud"),
        ):
            text = msgspec.json.encode({PREFIX + key: value})
            error = self.assertRaises(McpError, read_meta, text)
            self.assertEqual((error.code, error.http_status()), (-32602, 400))
            if key != "clientInfo" or value == "me":
                self.assertIn(PREFIX + key, error.message)
        error = self.assertRaises(McpError, read_meta, b'{"progressToken":1.5}')
        self.assertIn("params._meta.progressToken", error.message)
        for text in (b"null", b"[]", b"1", b'"x"', b"{", b""):
            self.assertEqual(self.assertRaises(McpError, read_meta, text).code, -32602)

    def test_the_same_text_is_read_once(self):
        text = b'{"progressToken":"once"}'
        self.assertIs(read_meta(text), read_meta(bytes(bytearray(text))))

    def test_the_memory_is_bounded(self):
        module = importlib.import_module("erlmcp.protocol._meta")
        for number in range(600):
            read_meta(b'{"progressToken":%d}' % number)
        self.assertLessEqual(len(module._cache), 512)
        self.assertEqual(read_meta(b'{"progressToken":1}').progress_token, 1)
        big = b'{"progressToken":"%s"}' % (b"x" * 2000)
        self.assertEqual(read_meta(big), read_meta(big))
        self.assertNotIn(big, module._cache)

    def test_key_grammar(self):
        for key in (
            "progressToken",
            "io.modelcontextprotocol/protocolVersion",
            "com.example/",
            "a/b",
            "",
            "a-b.c/x_y.z-1",
            "0",
        ):
            self.assertTrue(valid_meta_key(key), key)
        for key in ("-a", "a-", "1a/b", "a./b", ".a/b", "a-/b", "a/b/c", "/a", "a b", "é", "a\n", "x" * 513):
            self.assertFalse(valid_meta_key(key), key)

    def test_reserved_keys(self):
        for key in (
            "io.modelcontextprotocol/x",
            "dev.mcp/",
            "org.modelcontextprotocol.api/x",
            "com.mcp.tools/x",
        ):
            self.assertTrue(reserved_meta_key(key), key)
        for key in ("com.example.mcp/x", "mcp/x", "mcp", "dev.mcp", "progressToken"):
            self.assertFalse(reserved_meta_key(key), key)

    @settings(deadline=None, max_examples=100)
    @given(
        st.binary(max_size=60)
        | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(repr).map(str.encode)
    )
    def test_any_bytes_are_read_or_refused(self, text):
        try:
            read_meta(text)
        except McpError as error:
            self.assertEqual(error.code, -32602)


def capabilities(text):
    return msgspec.json.decode(text, type=ClientCapabilities)


class Capabilities(SynchronousTestCase):
    form = Question.elicit_form("m", {"type": "object", "properties": {}})
    url = Question.elicit_url("m", "https://example.com")
    sample = Question.sample([], 10)
    roots = Question.list_roots()

    def test_elicitation(self):
        for declared, form, url in (
            (b"{}", {"elicitation": {}}, {"elicitation": {"url": {}}}),
            (b'{"elicitation":{}}', None, {"elicitation": {"url": {}}}),
            (b'{"elicitation":{"form":{}}}', None, {"elicitation": {"url": {}}}),
            (b'{"elicitation":{"url":{}}}', {"elicitation": {"form": {}}}, None),
            (b'{"elicitation":{"form":{},"url":{}}}', None, None),
        ):
            found = capabilities(declared)
            self.assertEqual(found.missing_for(self.form), form)
            self.assertEqual(found.missing_for(self.url), url)

    def test_an_elicitation_without_mode_is_a_form(self):
        question = {"method": "elicitation/create", "params": {"message": "m"}}
        self.assertIsNone(capabilities(b'{"elicitation":{}}').missing_for(question))

    def test_sampling(self):
        tools = Question.sample([], 10, tools=[])
        choice = Question.sample([], 10, toolChoice={"mode": "none"})
        context = Question.sample([], 10, includeContext="allServers")
        no_context = Question.sample([], 10, includeContext="none")
        for declared, missing in (
            (b"{}", ({}, {"tools": {}}, {"tools": {}}, {"context": {}}, {})),
            (b'{"sampling":{}}', (None, {"tools": {}}, {"tools": {}}, {"context": {}}, None)),
            (b'{"sampling":{"tools":{}}}', (None, None, None, {"context": {}}, None)),
            (b'{"sampling":{"context":{}}}', (None, {"tools": {}}, {"tools": {}}, None, None)),
        ):
            found = capabilities(declared)
            for question, parts in zip(
                (self.sample, tools, choice, context, no_context), missing, strict=True
            ):
                expected = None if parts is None else {"sampling": parts}
                self.assertEqual(found.missing_for(question), expected)

    def test_roots(self):
        self.assertEqual(NO_CAPABILITIES.missing_for(self.roots), {"roots": {}})
        self.assertIsNone(capabilities(b'{"roots":{"listChanged":true}}').missing_for(self.roots))

    def test_no_question(self):
        self.assertRaises(ValueError, NO_CAPABILITIES.missing_for, {"method": "ping"})

    def test_unknown_capabilities_are_dropped(self):
        self.assertEqual(capabilities(b'{"teleport":{"now":true}}'), NO_CAPABILITIES)


class MethodTable(SynchronousTestCase):
    def test_every_request_of_the_revision_is_there(self):
        self.assertEqual(
            set(METHODS),
            {
                "server/discover",
                "tools/list",
                "tools/call",
                "resources/list",
                "resources/templates/list",
                "resources/read",
                "prompts/list",
                "prompts/get",
                "completion/complete",
                "subscriptions/listen",
            },
        )
        self.assertEqual([name for name, method in METHODS.items() if method.name != name], [])

    def test_what_may_ask(self):
        asking = {name for name, method in METHODS.items() if method.may_ask}
        self.assertEqual(asking, {"tools/call", "prompts/get", "resources/read"})

    def test_what_is_cached(self):
        cacheable = {name for name, method in METHODS.items() if method.cacheable}
        lists = {name for name in METHODS if name.endswith("/list")}
        self.assertEqual(cacheable, lists | {"server/discover", "resources/read"})

    def test_required_parameters_exist(self):
        for method in METHODS.values():
            for name in method.required:
                self.assertIn(name, Params.__struct_fields__)
            if method.name_field is not None:
                self.assertIn(method.name_field, method.required)

    def test_against_the_schema(self):
        schema = SCHEMAS / "2026-07-28.json"
        need(schema.exists(), "the specification's JSON Schemas, in ../shared/schema")
        definitions = msgspec.json.decode(schema.read_bytes())["$defs"]
        requests = [one["$ref"].rsplit("/", 1)[1] for one in definitions["ClientRequest"]["anyOf"]]
        for name in requests:
            definition = definitions[name]
            method = METHODS[definition["properties"]["method"]["const"]]
            params = definition["properties"]["params"]
            required = set(definitions[params["$ref"].rsplit("/", 1)[1]]["required"]) - {"_meta"}
            self.assertEqual(required, set(method.required), method.name)
        self.assertEqual(len(requests), len(METHODS))


class Levels(SynchronousTestCase):
    def test_order(self):
        for number, level in enumerate(LOG_LEVELS):
            for other in LOG_LEVELS[: number + 1]:
                self.assertTrue(at_least(level, other))
            for other in LOG_LEVELS[number + 1 :]:
                self.assertFalse(at_least(level, other))
        self.assertEqual((LOG_LEVELS[0], LOG_LEVELS[-1]), ("debug", "emergency"))

    def test_no_level(self):
        self.assertRaises(KeyError, at_least, "loud", "info")


class Results(SynchronousTestCase):
    info = server_info_meta({"name": "s", "version": "1"})

    def test_complete(self):
        self.assertEqual(complete({"a": 1}), {"resultType": "complete", "a": 1})
        self.assertEqual(
            complete({"a": 1}, self.info), {"resultType": "complete", "a": 1, "_meta": self.info}
        )
        key = "io.modelcontextprotocol/serverInfo"
        merged = complete({"_meta": {"x": 1}}, self.info)["_meta"]
        self.assertEqual(merged, {"x": 1, key: {"name": "s", "version": "1"}})
        self.assertEqual(self.info, {key: {"name": "s", "version": "1"}})

    def test_the_hops_meta_wins(self):
        """What a handler or an upstream says of itself is not who answers here."""
        key = "io.modelcontextprotocol/serverInfo"
        self.assertEqual(complete({"_meta": {key: 2}}, self.info)["_meta"], self.info)

    def test_input_required(self):
        questions = {"k": Question.list_roots()}
        self.assertEqual(
            input_required(questions, "state", self.info),
            {
                "resultType": "input_required",
                "inputRequests": questions,
                "requestState": "state",
                "_meta": self.info,
            },
        )
        self.assertEqual(input_required({}, "s"), {"resultType": "input_required", "requestState": "s"})
        self.assertNotIn("requestState", input_required(questions))
        self.assertRaises(ValueError, input_required, {})

    def test_cached(self):
        self.assertEqual(cached({"a": 1}, 5, "public"), {"a": 1, "ttlMs": 5, "cacheScope": "public"})


class Notifications(SynchronousTestCase):
    key = "io.modelcontextprotocol/subscriptionId"

    def test_progress(self):
        self.assertEqual(
            notifications.progress("t", 1), ("notifications/progress", {"progressToken": "t", "progress": 1})
        )
        self.assertEqual(
            notifications.progress(5, 0.5, 2, "half")[1],
            {"progressToken": 5, "progress": 0.5, "total": 2, "message": "half"},
        )

    def test_log_messages(self):
        self.assertEqual(
            notifications.log_message("info", {"a": 1}),
            ("notifications/message", {"level": "info", "data": {"a": 1}}),
        )
        self.assertEqual(notifications.log_message("info", None, "me")[1]["logger"], "me")

    def test_subscriptions(self):
        self.assertEqual(
            notifications.subscriptions_acknowledged({"toolsListChanged": True}, 1),
            (
                "notifications/subscriptions/acknowledged",
                {"_meta": {self.key: 1}, "notifications": {"toolsListChanged": True}},
            ),
        )
        for kind in ("tools", "prompts", "resources"):
            self.assertEqual(
                notifications.list_changed(kind, "s"),
                (f"notifications/{kind}/list_changed", {"_meta": {self.key: "s"}}),
            )
        self.assertRaises(KeyError, notifications.list_changed, "updated", 1)
        self.assertEqual(
            notifications.resource_updated("file:///a", 1),
            ("notifications/resources/updated", {"_meta": {self.key: 1}, "uri": "file:///a"}),
        )

    def test_cancelled(self):
        self.assertEqual(notifications.cancelled(1), ("notifications/cancelled", {"requestId": 1}))
        self.assertEqual(notifications.cancelled(1, "bye")[1], {"requestId": 1, "reason": "bye"})


class GroundFloor(SynchronousTestCase):
    def test_no_io_is_imported(self):
        script = (
            "import sys, erlmcp.protocol\n"
            "print(sorted({'twisted', 'zope', 'asyncio', 'socket', 'ssl', 'erlmcp.jsonrpc'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout.strip(), "[]")

    def test_every_name_that_is_offered_exists(self):
        self.assertEqual(sorted(set(erlmcp.protocol.__all__)), sorted(erlmcp.protocol.__all__))
        for name in erlmcp.protocol.__all__:
            self.assertTrue(hasattr(erlmcp.protocol, name))
