"""Every row of docs/reference/jsonrpc.md, both ways: no row without a case here, no case without its row."""

import re
from pathlib import Path
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType, field
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    Codec,
    Limits,
    MalformedMessage,
    decode_payload,
)

REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "jsonrpc.md"


class Params(Struct):
    """Parameters as the server knows them."""

    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET
    level: int | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    meta: Raw | UnsetType = field(name="_meta", default=UNSET)


LIMITS = Limits(size=2000, depth=8, keys=20, string=1500)


def call(arguments: bytes = b"{}", rest: bytes = b"") -> bytes:
    """A tools/call with id 7."""
    return (
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","arguments":'
        + arguments
        + b"}"
        + rest
        + b"}"
    )


def with_id(id: bytes) -> bytes:  # noqa: A002 - JSON-RPC's own name
    return b'{"jsonrpc":"2.0","method":"ping","id":' + id + b"}"


# name: (documents, code, id, a part of the sentence)
REFUSED: dict[str, tuple[list[bytes], int, int | None, str]] = {
    "too-large": (
        [call(b'"' + b"a" * 2000 + b'"'), b"x" * 2001],
        INVALID_REQUEST,
        None,
        "at most 2000 are accepted",
    ),
    "invalid-utf8": (
        [call(b'"\xff"'), call(b'{"\xc0\x80":1}'), b"\xff", call(rest=b',"x":"\xf4\x90\x80\x80"')],
        PARSE_ERROR,
        None,
        "not UTF-8",
    ),
    "raw-surrogate": ([call(b'"\xed\xa0\x80"')], PARSE_ERROR, None, "not UTF-8"),
    "utf16": ([call().decode().encode("utf-16-le")], PARSE_ERROR, None, "not JSON"),
    "bom": ([b"\xef\xbb\xbf" + call()], PARSE_ERROR, None, "byte order mark"),
    "empty": ([b"", b" \r\n\t"], PARSE_ERROR, None, "the text is empty"),
    "truncated": ([call()[:-1], b'{"jsonrpc":"2.0","id":1', b"["], PARSE_ERROR, None, "ends early"),
    "trailing-garbage": (
        [call() + b" x", call() + b"}", call() + b"\0"],
        PARSE_ERROR,
        None,
        "trailing characters",
    ),
    "two-documents": ([call() + call(), call() + b"\n" + call()], PARSE_ERROR, None, "trailing characters"),
    "nan": (
        [call(b"NaN"), call(b"Infinity"), call(b"[-Infinity]")],
        PARSE_ERROR,
        None,
        "invalid character at byte",
    ),
    "not-json": (
        [
            call(wrong)
            for wrong in (b"'a'", b"/**/1", b"[1,]", b'{"a":1,}', b"01", b"1.", b"+1", b"{a:1}", b"tru")
        ],
        PARSE_ERROR,
        None,
        "not JSON: ",
    ),
    "control-character": ([call(b'"\t"'), call(b'"\0"')], PARSE_ERROR, None, "invalid character"),
    "bad-escape": ([call(b'"\\q"'), call(b'"\\u12"')], PARSE_ERROR, None, "escape"),
    "lone-high-surrogate": (
        [
            call(b'"\\ud800"'),
            call(b'"\\ud800"', b" " * 20),
            call(b'"\\ud800\\u0041"'),
            b'"\\uD83d"',
            b'["\\ud800"]',
        ],
        PARSE_ERROR,
        None,
        "lone surrogate",
    ),
    "lone-low-surrogate": ([call(b'"\\udc00"'), call(b'{"\\uDFFF":1}')], PARSE_ERROR, None, "lone surrogate"),
    "too-deep": (
        [
            call(b"[" * 7 + b"]" * 7),
            call(b'{"a":' * 7 + b"1" + b"}" * 7),
            call(rest=b',"x":' + b"[" * 8 + b"]" * 8),
        ],
        INVALID_REQUEST,
        7,
        "nests 9 levels deep; at most 8 are accepted",
    ),
    "bottomless": (
        [b"[" * 1990, b'{"jsonrpc":1,"x":' + b"[" * 1900],
        INVALID_REQUEST,
        None,
        "too deep; at most 8",
    ),
    "too-many-keys": (
        [call(b"{" + b",".join(b'"%d":1' % n for n in range(15)) + b"}")],
        INVALID_REQUEST,
        7,
        "21 object keys; at most 20",
    ),
    "string-too-long": (
        [call(b'{"a":"' + b"\\n" * 751 + b'"}'), call(b'{"' + b"b" * 1502 + b'":1}')],
        INVALID_REQUEST,
        7,
        "a string of 1502 bytes; at most 1500",
    ),
    "duplicate-key": (
        [
            call(b'{"a":1,"a":2}'),
            call(b'{"b":[{"c":{"a":1,"x":{},"a":1}}]}'),
            call(b'{"a" : 1, "a"\t:"http://x"}'),
            call(rest=b',"a":1,"a":2'),
            b'{"jsonrpc":"2.0","id":7,"method":"x","params":{"arguments":{"a":1,"b":2},"a":[],"a":{}}}',
        ],
        INVALID_REQUEST,
        7,
        'the key "a" twice',
    ),
    "duplicate-escaped": (
        [call(b'{"a":1,"\\u0061":2}'), call(b'{"\\u0061":"x:y","a":1}')],
        INVALID_REQUEST,
        7,
        'the key "a" twice',
    ),
    "duplicate-member": (
        [
            call(rest=b',"id":8'),
            call(rest=b',"jsonrpc":"2.0"'),
            call(rest=b',"\\u006dethod":"y"'),
            call(rest=b',"params":{}'),
            b'{"id":1,"jsonrpc":"2.0","method":"x","params":{"a":1,"a":2},"id":2}',
            b'{"jsonrpc":"2.0","id":7,"result":{},"result":{}}',
            b'{"jsonrpc":"2.0","error":{},"error":{}}',
        ],
        INVALID_REQUEST,
        None,
        "twice; the keys of an object must be unique",
    ),
    "batch": ([b"[]", b" [" + call() + b"]"], INVALID_REQUEST, None, "send each message by itself"),
    "not-an-object": (
        [b"1", b'"x"', b" null", b"true", b"-1.5e3"],
        INVALID_REQUEST,
        None,
        "must be an object, not",
    ),
    "no-version": ([b'{"id":7,"method":"x"}'], INVALID_REQUEST, 7, 'jsonrpc is missing; it must be "2.0"'),
    "other-version": (
        [
            b'{"jsonrpc":%s,"id":7,"method":"x"}' % version
            for version in (b'"1.0"', b"2.0", b"null", b"{}", b'""')
        ],
        INVALID_REQUEST,
        7,
        "jsonrpc must be ",
    ),
    "null-id": (
        [with_id(b"null"), b'{"jsonrpc":"2.0","id":null,"result":{}}'],
        INVALID_REQUEST,
        None,
        "not null",
    ),
    "fractional-id": (
        [with_id(b"1.5"), with_id(b"1.0"), with_id(b"1e3"), with_id(b"1E400")],
        INVALID_REQUEST,
        None,
        "not a number with a fraction or an exponent",
    ),
    "huge-id": (
        [with_id(b"9223372036854775808"), with_id(b"-9223372036854775808"), with_id(b"1" * 1900)],
        INVALID_REQUEST,
        None,
        "between -(2^63-1) and 2^63-1",
    ),
    "long-id": ([with_id(b'"' + b"a" * 1025 + b'"')], INVALID_REQUEST, None, "at most 1024 characters"),
    "other-id": (
        [with_id(b"true"), with_id(b"{}"), with_id(b"[1]")],
        INVALID_REQUEST,
        None,
        "a string or an integer, not a",
    ),
    "no-method": (
        [b"{}"[:1] + b'"jsonrpc":"2.0","id":7}', b'{"jsonrpc":"2.0"}'],
        INVALID_REQUEST,
        None,
        "method is missing",
    ),
    "other-method": (
        [b'{"jsonrpc":"2.0","id":7,"method":5}', b'{"jsonrpc":"2.0","id":7,"method":null,"params":{}}'],
        INVALID_REQUEST,
        7,
        "method must be a string, not ",
    ),
    "method-and-result": (
        [
            b'{"jsonrpc":"2.0","id":7,"method":"x","result":{}}',
            b'{"jsonrpc":"2.0","id":7,"method":"x","error":{}}',
            b'{"jsonrpc":"2.0","id":7,"result":{},"error":{}}',
            call(rest=b',"result":{}'),
        ],
        INVALID_REQUEST,
        None,
        "exclude each other",
    ),
    "response-with-params": (
        [
            b'{"jsonrpc":"2.0","id":7,"result":{},"params":{}}',
            b'{"jsonrpc":"2.0","id":null,"error":{},"params":{}}',
            b'{"jsonrpc":"2.0","id":7,"result":{},"params":[]}',
        ],
        INVALID_REQUEST,
        None,
        "a response has none",
    ),
    "result-without-id": ([b'{"jsonrpc":"2.0","result":{}}'], INVALID_REQUEST, None, "a result needs the id"),
    "params-not-an-object": (
        [
            b'{"jsonrpc":"2.0","id":7,"method":"x","params":%s}' % wrong
            for wrong in (b"[1]", b"null", b'"x"', b"1")
        ],
        INVALID_PARAMS,
        7,
        "params must be an object, not ",
    ),
    "wrong-parameter": (
        [b'{"jsonrpc":"2.0","id":7,"method":"x","params":{"name":%s}}' % wrong for wrong in (b"5", b"5.5")],
        INVALID_PARAMS,
        7,
        "params.name must be a string, not a number",
    ),
}

NOTIFICATIONS = [
    (b'{"jsonrpc":"2.0","method":"n","params":[]}', INVALID_PARAMS),
    (b'{"jsonrpc":"2.0","method":"n","params":{"name":1}}', INVALID_PARAMS),
    (b'{"method":"n"}', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","method":"n","params":{"x":1,"x":2}}', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","method":"n","params":{"x":' + b"[" * 9 + b"]" * 9 + b"}}", INVALID_REQUEST),
]

ACCEPTED: dict[str, list[tuple[bytes, dict[str, Any]]]] = {
    "white-space": [
        (b' \r\n{ "jsonrpc"\t: "2.0" ,\n"id":7 , "method" :"ping" } \n', {"id": 7, "method": "ping"})
    ],
    "member-order": [
        (
            b'{"params":{"uri":"a:b"},"method":"x","id":7,"jsonrpc":"2.0"}',
            {"id": 7, "params": Params(uri="a:b")},
        ),
        (b'{"\\u006asonrpc":"2.0","\\u006dethod":"x","i\\u0064":7}', {"id": 7, "method": "x"}),
    ],
    "unknown-members": [
        (
            b'{"jsonrpc":"2.0","id":7,"method":"x","x":{"y":[{}]},"params":{"name":"n","z":null}}',
            {"params": Params("n")},
        )
    ],
    "integer-id": [
        (with_id(b"0"), {"id": 0}),
        (with_id(b"-0"), {"id": 0}),
        (with_id(b"9223372036854775807"), {"id": 2**63 - 1}),
        (with_id(b"-9223372036854775807"), {"id": 1 - 2**63}),
    ],
    "string-id": [
        (with_id(b'""'), {"id": ""}),
        (with_id(b'"' + "é".encode() * 700 + b'"'), {"id": "é" * 700}),
    ],
    "surrogate-pair": [(with_id(b'"\\ud83d\\ude00"'), {"id": "\U0001f600"})],
    "no-params": [(with_id(b"7"), {"params": UNSET, "result": UNSET, "error": UNSET, "jsonrpc": "2.0"})],
    "same-key-elsewhere": [(call(b'{"a":{"a":[{"a":1},{"a":1}]},"id":1,"name":"x"}'), {"id": 7})],
    "colons-in-strings": [
        (call(b'{"a":"http://x:1/","b":"12:30:00"}'), {"id": 7}),
        (call(b'{"a":"\\"a\\":","b":"\\\\"}'), {"id": 7}),
        (call(b'{"a:b":"c\\u003ad","e":{"f":":"}}'), {"id": 7}),
        (
            b'{"jsonrpc":"2.0","id":"a:b","method":"c:d","params":{"uri":"e:f"}}',
            {"id": "a:b", "method": "c:d"},
        ),
    ],
    "error-without-id": [
        (b'{"jsonrpc":"2.0","error":{"code":1}}', {"id": UNSET, "method": UNSET}),
        (
            b'{"jsonrpc":"2.0","id":null,"error":{"code":1}}',
            {"id": UNSET, "method": UNSET, "is_response": True},
        ),
    ],
    "number-out-of-range": [(call(b'{"a":1e999,"b":' + b"1" * 1000 + b"}"), {"id": 7})],
}


def rows(heading: str) -> set[str]:
    section = REFERENCE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE))


class RefusedTests(SynchronousTestCase):
    """What is no message, and its answer."""

    def refusal(self, document: bytes, codec: Codec[Any]) -> MalformedMessage:
        return self.assertRaises(MalformedMessage, codec.decode, document)

    def test_table(self) -> None:
        """The reference and this table have the same rows."""
        self.assertEqual(rows("Refused"), {*REFUSED, "bad-notification"})

    def test_answers(self) -> None:
        """Each refused document has the code, id and words of its row, whatever was decoded before."""
        fresh = lambda: Codec(Params, LIMITS)  # noqa: E731 - shorter than a def
        used = Codec(Params, LIMITS)
        used.decode(call(b'{"a":{"b":1}}'))
        for name, (documents, code, id_, words) in REFUSED.items():
            for document in documents:
                for codec in (fresh(), used, Codec(Raw, LIMITS)):
                    if codec._countable == () and name == "wrong-parameter":
                        continue
                    error = self.refusal(document, codec)
                    self.assertEqual((error.code, error.id), (code, id_), (name, document, str(error)))
                    self.assertIn(words, error.message, (name, document))
                    self.assertEqual(error.batch, name == "batch")
                    self.assertEqual(error.is_notification, False, (name, document))
                    self.assertIs(error.data, UNSET)
                    self.assertEqual(str(error), f"{error.message} ({error.code})")

    def test_bad_notification(self) -> None:
        """A malformed notification is known as one."""
        for document, code in NOTIFICATIONS:
            error = self.refusal(document, Codec(Params, LIMITS))
            self.assertEqual(
                (error.code, error.id, error.method, error.is_notification), (code, None, "n", True)
            )

    def test_method_is_told(self) -> None:
        """The method comes along where it could be read."""
        codec = Codec(Params, LIMITS)
        self.assertEqual(self.refusal(call(b'{"a":1,"a":1}'), codec).method, "tools/call")
        self.assertEqual(self.refusal(with_id(b"null"), codec).method, "ping")
        self.assertIsNone(self.refusal(b"[]", codec).method)
        self.assertIsNone(self.refusal(b'{"jsonrpc":"2.0","id":1,"method":1}', codec).method)

    def test_doubtful_id_is_not_echoed(self) -> None:
        """Over a limit, an id that is there twice is no id."""
        deep = b'{"id":1,"jsonrpc":"2.0","method":"x","x":[[[[[[[[[]]]]]]]]],"\\u0069d":1}'
        self.assertIsNone(self.refusal(deep, Codec(Params, LIMITS)).id)
        self.assertEqual(self.refusal(deep.replace(b'"\\u0069d"', b'"jd"'), Codec(Params, LIMITS)).id, 1)

    def test_long_key_is_cut(self) -> None:
        """A duplicate key of any length makes a short sentence."""
        key = b'"' + b"k" * 500 + b'"'
        error = self.refusal(call(b"{" + key + b":1," + key + b":2}"), Codec(Params, LIMITS))
        self.assertLess(len(error.message), 160)


class AcceptedTests(SynchronousTestCase):
    """What is unusual, and taken."""

    def test_table(self) -> None:
        """The reference and this table have the same rows."""
        self.assertEqual(rows("Accepted"), set(ACCEPTED))

    def test_messages(self) -> None:
        """Each accepted document becomes what its row says."""
        used = Codec(Params, LIMITS)
        for name, cases in ACCEPTED.items():
            for document, expected in cases:
                for codec in (Codec(Params, LIMITS), used):
                    message = codec.decode(document)
                    got = {key: getattr(message, key) for key in expected}
                    self.assertEqual(got, expected, (name, document))

    def test_null_id_error_keeps_its_error(self) -> None:
        """The error of an error response without a usable id is there to read."""
        message = Codec(Params, LIMITS).decode(
            b'{"id":null,"error":{"code":-32700,"message":"x"},"jsonrpc":"2.0"}'
        )
        self.assertEqual(decode_payload(message.error, "error"), {"code": -32700, "message": "x"})

    def test_numbers_out_of_range(self) -> None:
        """A number that cannot be held is refused by whoever opens the payload, by name."""
        for number in (b"1e999", b"-1e999", b"[1" + b"0" * 5000 + b"]"):
            error = self.assertRaises(MalformedMessage, decode_payload, Raw(number), "params.arguments")
            self.assertEqual(error.code, INVALID_PARAMS)
            self.assertEqual(error.message, "params.arguments holds a number that is out of range")
        for text in (b"{", b'"\xff"', b"[" * 100_000):
            error = self.assertRaises(MalformedMessage, decode_payload, text, "params.arguments")
            self.assertEqual(error.message, "params.arguments is not valid JSON")
