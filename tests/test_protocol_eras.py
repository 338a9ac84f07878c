"""The rules for a message's era (a to h), and the order of checks of a modern request."""

import msgspec
from msgspec import UNSET
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import (
    HANDSHAKE_VERSIONS,
    METHODS,
    NO_META,
    Decision,
    McpError,
    Params,
    bare_http_status,
    check_modern,
    check_params,
    classify_notification,
    classify_request,
    classify_response,
    has_envelope,
    read_meta,
    refuse_array,
)

VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
INFO = "io.modelcontextprotocol/clientInfo"


def meta_of(**fields):
    names = {"version": VERSION, "capabilities": CAPABILITIES, "info": INFO}
    return read_meta(msgspec.json.encode({names[key]: value for key, value in fields.items()}))


WHOLE = meta_of(version="2026-07-28", capabilities={})


def params_of(**fields):
    return msgspec.json.decode(msgspec.json.encode(fields), type=Params)


class EraOfARequest(SynchronousTestCase):
    def decision(self, method, meta=NO_META, header=None):
        return classify_request(method, meta, header).decision

    def test_a_any_envelope_key_makes_it_modern(self):
        for meta in (
            meta_of(version="2026-07-28"),
            meta_of(capabilities={}),
            meta_of(info={"name": "c", "version": "1"}),
            meta_of(version="2025-06-18", capabilities={}),
        ):
            self.assertTrue(has_envelope(meta))
            for method in ("tools/call", "initialize", "server/discover", "no/such"):
                self.assertIs(self.decision(method, meta, b"2025-11-25"), Decision.MODERN)

    def test_a_other_meta_keys_make_no_envelope(self):
        meta = read_meta(b'{"progressToken":1,"io.modelcontextprotocol/logLevel":"info","traceparent":"x"}')
        self.assertFalse(has_envelope(meta))
        self.assertIs(self.decision("tools/call", meta), Decision.HANDSHAKE)

    def test_b_initialize_without_envelope_is_handshake_whatever_its_header(self):
        for header in (None, b"2026-07-28", b"2025-06-18", b"garbage"):
            self.assertIs(self.decision("initialize", header=header), Decision.HANDSHAKE)

    def test_c_modern_only_methods_without_envelope_are_refused(self):
        for method in ("server/discover", "subscriptions/listen"):
            for header in (None, b"2025-11-25", b"2026-07-28"):
                verdict = classify_request(method, NO_META, header)
                self.assertIs(verdict.decision, Decision.REFUSE)
                self.assertEqual((verdict.error.code, verdict.error.http_status()), (-32602, 400))
                self.assertIn(VERSION, verdict.error.message)
                self.assertIn(CAPABILITIES, verdict.error.message)

    def test_c_a_header_that_names_no_handshake_revision_is_refused(self):
        for header in (b"2026-07-28", b"1900-01-01", b"", b"2025-11-25, 2025-11-25"):
            verdict = classify_request("tools/call", NO_META, header)
            self.assertIs(verdict.decision, Decision.REFUSE)
            self.assertEqual((verdict.error.code, verdict.error.http_status()), (-32602, 400))

    def test_h_the_rest_is_handshake(self):
        for header in (None, *(version.encode() for version in HANDSHAKE_VERSIONS), b" 2025-06-18 "):
            verdict = classify_request("tools/call", NO_META, header)
            self.assertIs(verdict.decision, Decision.HANDSHAKE)
            self.assertIsNone(verdict.error)


class EraOfTheOthers(SynchronousTestCase):
    def test_d_cancelled_on_a_stream_hits_in_either_era(self):
        verdict = classify_notification("notifications/cancelled", on_http=False)
        self.assertIs(verdict.decision, Decision.CANCEL)

    def test_d_other_notifications_on_a_stream_are_handshake(self):
        verdict = classify_notification("notifications/initialized", on_http=False)
        self.assertIs(verdict.decision, Decision.HANDSHAKE)

    def test_d_on_http_with_a_modern_header_it_is_ignored(self):
        for method in ("notifications/cancelled", "notifications/whatever"):
            verdict = classify_notification(method, on_http=True, version_header=b"2026-07-28")
            self.assertIs(verdict.decision, Decision.IGNORE)

    def test_d_on_http_otherwise_it_is_handshake(self):
        for header in (None, b"2025-06-18", b"garbage"):
            verdict = classify_notification("notifications/cancelled", on_http=True, version_header=header)
            self.assertIs(verdict.decision, Decision.HANDSHAKE)

    def test_e_a_response_on_http_without_a_session_is_refused(self):
        verdict = classify_response(on_http=True)
        self.assertIs(verdict.decision, Decision.REFUSE)
        self.assertEqual((verdict.error.code, verdict.error.http_status()), (-32600, 400))

    def test_e_other_responses_are_handshake(self):
        self.assertIs(classify_response(on_http=True, session=True).decision, Decision.HANDSHAKE)
        self.assertIs(classify_response(on_http=False).decision, Decision.HANDSHAKE)

    def test_f_an_array_gets_one_invalid_request(self):
        error = refuse_array()
        self.assertEqual((error.code, error.http_status()), (-32600, 400))
        self.assertEqual(error.http_status(modern=False), 400)

    def test_g_get_and_delete(self):
        self.assertIsNone(bare_http_status(session=True))
        self.assertIsNone(bare_http_status(session=True, version_header=b"2026-07-28"))
        self.assertEqual(bare_http_status(session=False, version_header=b"2025-11-25"), 400)
        self.assertEqual(bare_http_status(session=False, version_header=b"2026-07-28"), 405)
        self.assertEqual(bare_http_status(session=False), 405)


class ModernChecks(SynchronousTestCase):
    def code(self, method, meta, headers=None, params=UNSET):
        found = check_modern(method, meta, headers, params)
        return found.code if isinstance(found, McpError) else found.name

    def test_a_missing_fields_come_first_and_are_named(self):
        cases = (
            (meta_of(version="1900-01-01"), [CAPABILITIES], [VERSION]),
            (meta_of(capabilities={}), [VERSION], [CAPABILITIES]),
            (meta_of(info={"name": "c", "version": "1"}), [VERSION, CAPABILITIES], []),
        )
        for meta, named, unnamed in cases:
            error = check_modern("no/such", meta, {})
            self.assertEqual((error.code, error.http_status()), (-32602, 400))
            for key in named:
                self.assertIn(key, error.message)
            for key in unnamed:
                self.assertNotIn(key, error.message)

    def test_a_client_info_is_not_required(self):
        self.assertEqual(self.code("tools/list", WHOLE), "tools/list")

    def test_a_headers_come_before_the_version(self):
        old = meta_of(version="1900-01-01", capabilities={})
        self.assertEqual(self.code("no/such", old, {}), -32020)

    def test_a_the_version_comes_before_the_method(self):
        old = meta_of(version="1900-01-01", capabilities={})
        headers = {b"mcp-protocol-version": b"1900-01-01", b"mcp-method": b"no/such"}
        error = check_modern("no/such", old, headers)
        self.assertEqual((error.code, error.http_status()), (-32022, 400))
        self.assertEqual(error.data, {"supported": ["2026-07-28"], "requested": "1900-01-01"})

    def test_a_an_envelope_that_names_a_handshake_revision_is_unsupported(self):
        for version in HANDSHAKE_VERSIONS:
            self.assertEqual(self.code("initialize", meta_of(version=version, capabilities={})), -32022)

    def test_a_the_method_comes_last(self):
        headers = {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"ping"}
        error = check_modern("ping", WHOLE, headers)
        self.assertEqual((error.code, error.http_status()), (-32601, 404))
        self.assertEqual(error.http_status(modern=False), 200)

    def test_a_streams_have_no_headers_to_check(self):
        self.assertEqual(self.code("initialize", WHOLE), -32601)
        self.assertIs(check_modern("tools/call", WHOLE), METHODS["tools/call"])

    def test_the_name_header_mirrors_the_parameter_of_the_method(self):
        headers = {
            b"mcp-protocol-version": b"2026-07-28",
            b"mcp-method": b"resources/read",
            b"mcp-name": b"a",
        }
        self.assertEqual(self.code("resources/read", WHOLE, headers, params_of(name="a", uri="b")), -32020)
        self.assertEqual(
            self.code("resources/read", WHOLE, headers, params_of(name="b", uri="a")), "resources/read"
        )

    def test_the_name_header_is_not_looked_at_elsewhere(self):
        headers = {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"tools/list", b"mcp-name": b"z"}
        self.assertEqual(self.code("tools/list", WHOLE, headers, params_of(name="a")), "tools/list")

    def test_an_absent_name_is_left_to_the_check_of_parameters(self):
        headers = {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"tools/call"}
        for params in (UNSET, params_of(uri="a")):
            self.assertEqual(self.code("tools/call", WHOLE, headers, params), "tools/call")
            error = check_params(METHODS["tools/call"], params)
            self.assertEqual((error.code, error.http_status()), (-32602, 200))
            self.assertIn("params.name", error.message)
        self.assertIsNone(check_params(METHODS["tools/call"], params_of(name="a")))
        self.assertIsNone(check_params(METHODS["tools/list"], UNSET))
