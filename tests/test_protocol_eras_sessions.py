"""The rules of an era that sessions bear upon: e to h, as far as they need to know of one."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import (
    HANDSHAKE_VERSIONS,
    NO_META,
    REVISIONS,
    Decision,
    check_batch,
    classify_request,
    classify_session,
    read_meta,
)

VERSION = "io.modelcontextprotocol/protocolVersion"
ENVELOPE = read_meta(msgspec.json.encode({VERSION: "2026-07-28"}))


class BatchRule(SynchronousTestCase):
    """Rule f."""

    def test_f_only_where_2025_03_26_was_negotiated(self):
        calls = [("tools/call", NO_META), ("notifications/cancelled", NO_META)]
        for name, revision in REVISIONS.items():
            error = check_batch(revision, calls)
            if name == "2025-03-26":
                self.assertIsNone(error)
            else:
                self.assertEqual((error.code, error.http_status(modern=False)), (-32600, 400))
        self.assertEqual(check_batch(None, calls).code, -32600)

    def test_f_of_responses_alone(self):
        self.assertIsNone(check_batch(REVISIONS["2025-03-26"], []))

    def test_f_neither_initialize_nor_an_envelope_in_it(self):
        for odd in (("initialize", NO_META), ("tools/call", ENVELOPE)):
            for calls in ([odd], [("ping", NO_META), odd], [odd, ("ping", NO_META)]):
                error = check_batch(REVISIONS["2025-03-26"], calls)
                self.assertEqual((error.code, error.http_status(modern=False)), (-32600, 400))


class SessionRule(SynchronousTestCase):
    """Rule h."""

    def decide(self, method, *, wants_answer=True, on_http=True, session=False, header=None):
        verdict = classify_session(
            method, wants_answer=wants_answer, on_http=on_http, session=session, version_header=header
        )
        self.assertEqual(verdict.error is not None, verdict.decision is Decision.REFUSE)
        if verdict.error is not None:
            self.assertEqual(verdict.error.code, -32602)
            self.assertEqual(verdict.error.http_status(modern=False), 400)
        return verdict

    def test_h_initialize_needs_no_session_and_no_good_header(self):
        for on_http in (True, False):
            for header in (None, b"2025-06-18", b"2026-07-28", b"garbage"):
                verdict = self.decide("initialize", on_http=on_http, header=header)
                self.assertIs(verdict.decision, Decision.HANDSHAKE)

    def test_h_with_a_session_anything_goes_on(self):
        for method, wants_answer in (("tools/call", True), ("no/such", True), ("x", False), (None, False)):
            for on_http in (True, False):
                verdict = self.decide(method, wants_answer=wants_answer, on_http=on_http, session=True)
                self.assertIs(verdict.decision, Decision.HANDSHAKE)

    def test_h_the_sessions_version_wins_over_the_headers(self):
        """A header that names another revision is no error: nobody compares the two."""
        for name in HANDSHAKE_VERSIONS:
            for header in (name.encode(), b" %b " % name.encode()):
                verdict = self.decide("tools/call", session=True, header=header)
                self.assertIs(verdict.decision, Decision.HANDSHAKE)
                self.assertIs(classify_request("tools/call", NO_META, header).decision, Decision.HANDSHAKE)

    def test_h_an_unknown_header_value_is_400_also_with_a_session(self):
        for header in (b"2026-07-28", b"1900-01-01", b"", b"2025-11-25, 2025-11-25"):
            for method, wants_answer in (
                ("tools/call", True),
                ("notifications/cancelled", False),
                (None, False),
            ):
                for session in (True, False):
                    verdict = self.decide(method, wants_answer=wants_answer, session=session, header=header)
                    self.assertIs(verdict.decision, Decision.REFUSE)
                    for name in HANDSHAKE_VERSIONS:
                        self.assertIn(name, verdict.error.message)

    def test_h_without_a_session_on_http_all_else_is_refused(self):
        for method, wants_answer in (
            ("tools/call", True),
            ("ping", True),
            ("initialize", False),
            ("notifications/initialized", False),
            (None, False),
        ):
            for header in (None, b"2025-11-25"):
                verdict = self.decide(method, wants_answer=wants_answer, header=header)
                self.assertIs(verdict.decision, Decision.REFUSE)
                for words in ("initialize", "Mcp-Session-Id", VERSION):
                    self.assertIn(words, verdict.error.message)

    def test_h_without_a_session_on_a_stream(self):
        self.assertIs(self.decide("ping", on_http=False).decision, Decision.HANDSHAKE)
        verdict = self.decide("tools/call", on_http=False)
        self.assertIs(verdict.decision, Decision.REFUSE)
        self.assertNotIn("Mcp-Session-Id", verdict.error.message)
        for method in ("ping", "initialize", "notifications/initialized", None):
            verdict = self.decide(method, wants_answer=False, on_http=False)
            self.assertIs(verdict.decision, Decision.IGNORE)
