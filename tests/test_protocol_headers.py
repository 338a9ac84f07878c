"""Headers that mirror the body: the standard ones, and those of tool parameters."""

import base64
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import check_headers, check_parameter_headers, decode_header_value, encode_header_value

quick = settings(deadline=None, max_examples=100)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


class Parameter(NamedTuple):
    path: tuple[str, ...]
    header: bytes
    kind: str


def headers_of(**changes):
    fields = {
        b"mcp-protocol-version": b"2026-07-28",
        b"mcp-method": b"tools/call",
        b"mcp-name": b"add",
    }
    for name, value in changes.items():
        key = b"mcp-" + name.replace("_", "-").encode()
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    return fields


def check(name="add", **changes):
    return check_headers(headers_of(**changes), version="2026-07-28", method="tools/call", name=name)


def sentinel(value):
    return b"=?base64?" + base64.b64encode(value) + b"?="


class StandardHeaders(SynchronousTestCase):
    def refused(self, error, *words):
        self.assertIsNotNone(error)
        self.assertEqual((error.code, error.http_status()), (-32020, 400))
        for word in words:
            self.assertIn(word, error.message)

    def test_agreeing_headers_pass(self):
        self.assertIsNone(check())

    def test_whitespace_around_values_does_not_count(self):
        self.assertIsNone(check(protocol_version=b" 2026-07-28", method=b"tools/call\t"))
        self.assertIsNone(
            check_headers(
                headers_of() | {b"mcp-name": b"  add  "},
                version="2026-07-28",
                method="tools/call",
                name="add",
            )
        )

    def test_a_missing_header_is_named(self):
        self.refused(check(protocol_version=None), "MCP-Protocol-Version", "missing", "2026-07-28")
        self.refused(check(method=None), "Mcp-Method", "missing", "tools/call")
        headers = headers_of()
        del headers[b"mcp-name"]
        self.refused(
            check_headers(headers, version="2026-07-28", method="tools/call", name="add"),
            "Mcp-Name",
            "missing",
        )

    def test_a_mismatch_tells_both_values(self):
        self.refused(check(protocol_version=b"2025-11-25"), "2025-11-25", "2026-07-28")
        self.refused(check(method=b"TOOLS/CALL"), "'TOOLS/CALL'", "'tools/call'")
        self.refused(check(name="foo"), "Mcp-Name header value 'add' does not match body value 'foo'")

    def test_values_are_case_sensitive(self):
        self.refused(check(name="Add"))

    def test_without_a_name_to_mirror_the_name_header_is_not_looked_at(self):
        self.assertIsNone(check(name=None))

    def test_invalid_characters(self):
        self.refused(check(protocol_version=b"2026-07-28\xff"), "invalid character at position 10")
        self.refused(check(method=b"tools\x00call"), "Mcp-Method", "position 5")
        for value in (b"add\x07", b"caf\xc3\xa9", b"a\x7f"):
            headers = headers_of() | {b"mcp-name": value}
            name = value.decode("utf-8")
            found = check_headers(headers, version="2026-07-28", method="tools/call", name=name)
            self.refused(found, "Mcp-Name", "invalid character")

    def test_a_sentinel_is_decoded_in_the_name_only(self):
        encoded = headers_of() | {b"mcp-name": sentinel(b"add")}
        self.assertIsNone(check_headers(encoded, version="2026-07-28", method="tools/call", name="add"))
        self.refused(check(method=sentinel(b"tools/call")))
        self.refused(check(protocol_version=sentinel(b"2026-07-28")))

    def test_a_name_that_looks_like_a_sentinel_must_be_encoded(self):
        name = "=?base64?YWRk?="
        plain = headers_of() | {b"mcp-name": name.encode()}
        self.refused(check_headers(plain, version="2026-07-28", method="tools/call", name=name))
        encoded = headers_of() | {b"mcp-name": sentinel(name.encode())}
        self.assertIsNone(check_headers(encoded, version="2026-07-28", method="tools/call", name=name))

    def test_half_a_sentinel_is_literal(self):
        for name in ("=?base64?YWRk", "YWRk?=", "=?base64?=", "=?BASE64?YWRk?="):
            headers = headers_of() | {b"mcp-name": name.encode()}
            self.assertIsNone(check_headers(headers, version="2026-07-28", method="tools/call", name=name))

    def test_broken_sentinels(self):
        for value, word in (
            (b"=?base64?SGVsbG8?=", "Base64"),
            (b"=?base64?SGVs!!!bG8=?=", "Base64"),
            (b"=?base64?SGVs bG8=?=", "Base64"),
            (sentinel(b"\xff\xfe"), "UTF-8"),
        ):
            headers = headers_of() | {b"mcp-name": value}
            found = check_headers(headers, version="2026-07-28", method="tools/call", name="Hello")
            self.refused(found, "Mcp-Name", word)

    def test_long_and_unprintable_values_are_shown_safely(self):
        headers = headers_of() | {b"mcp-name": sentinel(b"x" * 500 + b"\r\n")}
        found = check_headers(headers, version="2026-07-28", method="tools/call", name="a\r\nb")
        self.refused(found)
        self.assertLess(len(found.message), 400)
        self.assertTrue(found.message.isprintable())

    @quick
    @given(text)
    def test_any_encoded_name_passes(self, name):
        headers = headers_of() | {b"mcp-name": encode_header_value(name)}
        self.assertIsNone(check_headers(headers, version="2026-07-28", method="tools/call", name=name))

    @quick
    @given(st.binary(max_size=40), text)
    def test_any_bytes_pass_only_if_they_say_the_name(self, value, name):
        headers = headers_of() | {b"mcp-name": value}
        found = check_headers(headers, version="2026-07-28", method="tools/call", name=name)
        try:
            same = decode_header_value(value) == name
        except ValueError:
            same = False
        self.assertEqual(found is None, same)


class ValueEncoding(SynchronousTestCase):
    def test_the_examples_of_the_specification(self):
        for value, encoded in (
            ("us-west1", b"us-west1"),
            ("Hello, 世界", b"=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", b"=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", b"=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", b"=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            (42, b"42"),
            (-7, b"-7"),
            (True, b"true"),
            (False, b"false"),
            ("", b""),
        ):
            self.assertEqual(encode_header_value(value), encoded)
            if isinstance(value, str):
                self.assertEqual(decode_header_value(encoded), value)

    def test_integers_beyond_the_safe_range_are_refused(self):
        self.assertEqual(encode_header_value(2**53 - 1), b"9007199254740991")
        for value in (2**53, -(2**53)):
            self.assertRaises(ValueError, encode_header_value, value)

    @quick
    @given(text)
    def test_round_trip(self, value):
        encoded = encode_header_value(value)
        self.assertRegex(encoded.decode("latin-1"), r"\A[\t\x20-\x7e]*\Z")
        self.assertEqual(decode_header_value(encoded), value)


class ParameterHeaders(SynchronousTestCase):
    def check(self, kind, value, header, path=("region",)):
        parameters = (Parameter(path, b"mcp-param-region", kind),)
        headers = {} if header is None else {b"mcp-param-region": header}
        return check_parameter_headers(headers, parameters, value)

    def test_strings(self):
        self.assertIsNone(self.check("string", {"region": "us"}, b"us"))
        self.assertIsNone(self.check("string", {"region": "世"}, sentinel("世".encode())))
        self.assertIsNone(self.check("string", {"region": ""}, b""))

    def test_a_mismatch_is_told(self):
        error = self.check("string", {"region": "us"}, b"eu")
        self.assertEqual((error.code, error.http_status()), (-32020, 400))
        self.assertIn("Mcp-Param-Region header value 'eu' does not match body value 'us'", error.message)

    def test_a_value_without_its_header_is_refused(self):
        for value in ("us", 1, True, 1.5, [1], {"a": 1}):
            error = self.check("string", {"region": value}, None)
            self.assertIn("is missing", error.message)

    def test_null_and_absent_expect_no_header(self):
        for arguments in ({}, {"region": None}):
            self.assertIsNone(self.check("string", arguments, None))
            error = self.check("string", arguments, b"us")
            self.assertIn("has no argument", error.message)

    def test_nested_paths(self):
        path = ("where", "region")
        self.assertIsNone(self.check("string", {"where": {"region": "us"}}, b"us", path))
        self.assertIsNone(self.check("string", {"where": "elsewhere"}, None, path))
        self.assertIsNotNone(self.check("string", {"where": {"region": "us"}}, b"eu", path))

    def test_integers_are_compared_as_numbers(self):
        for header in (b"42", b"42.0", b"42.000", b"042", b" 42 "):
            self.assertIsNone(self.check("integer", {"region": 42}, header))
        self.assertIsNone(self.check("integer", {"region": -7}, b"-7"))
        self.assertIsNone(self.check("integer", {"region": 42.0}, b"42"))
        for header in (
            b"43",
            b"42.5",
            b"4_2",
            b"",
            b"0x2a",
            b"1e400",
            b"-42",
            "٤٢".encode(),
            sentinel("٤٢".encode()),
        ):
            self.assertIsNotNone(self.check("integer", {"region": 42}, header))

    def test_huge_numbers_cost_nothing(self):
        self.assertIsNotNone(self.check("integer", {"region": 1}, b"1" * 100_000))

    def test_booleans(self):
        self.assertIsNone(self.check("boolean", {"region": True}, b"true"))
        self.assertIsNone(self.check("boolean", {"region": False}, b"false"))
        for header in (b"True", b"1", b"false"):
            self.assertIsNotNone(self.check("boolean", {"region": True}, header))

    def test_other_kinds_never_match(self):
        self.assertIsNotNone(self.check("string", {"region": ["us"]}, b"us"))
        self.assertIsNotNone(self.check("string", {"region": {"us": 1}}, b"us"))

    def test_broken_headers(self):
        for header in (b"=?base64?SGVsbG8?=", b"\xff", b"a\x00"):
            error = self.check("string", {"region": "Hello"}, header)
            self.assertEqual(error.code, -32020)

    def test_headers_that_no_parameter_declares_are_not_looked_at(self):
        self.assertIsNone(check_parameter_headers({b"mcp-param-other": b"\xff"}, (), {"region": "us"}))

    @quick
    @given(st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1))
    def test_any_safe_integer_round_trips(self, value):
        self.assertIsNone(self.check("integer", {"region": value}, encode_header_value(value)))
        self.assertIsNotNone(self.check("integer", {"region": value + 1}, encode_header_value(value)))
