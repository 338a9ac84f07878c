"""Any bytes at all: a message or a MalformedMessage, in agreement with the standard library's parser."""

import json
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    Codec,
    Limits,
    MalformedMessage,
    Message,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
    unique_keys,
)
from tests.test_jsonrpc_answers import Params

TEXT = st.one_of(st.text(max_size=8), st.sampled_from(["a", "a:b", ":", '"a":1', "\\", "{", "\U0001f600"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)
IDS = st.integers(1 - 2**63, 2**63 - 1) | st.text(max_size=20)


def spelled(value: Any, draw: Any) -> str:
    """A JSON text of a value, where lists of pairs are objects: keys repeat, escapes and white space vary."""
    if isinstance(value, tuple):
        members = (
            word(key, draw) + blank(draw) + ":" + blank(draw) + spelled(item, draw) for key, item in value
        )
        return "{" + blank(draw) + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(spelled(item, draw) + blank(draw) for item in value) + "]"
    return word(value, draw) if isinstance(value, str) else json.dumps(value)


def word(text: str, draw: Any) -> str:
    plain = json.dumps(text, ensure_ascii=draw(st.booleans()))
    if text and ord(text[0]) < 128 and draw(st.integers(0, 3)) == 0:
        return f'"\\u{ord(text[0]):04x}' + json.dumps(text[1:])[1:]
    return plain


def blank(draw: Any) -> str:
    return str(draw(st.sampled_from(["", "", "", " ", "\n"])))


KEYS = st.sampled_from(
    ["a", "b", "a:b", "id", "method", "params", "result", "error", "name", "arguments", "_meta", "uri"]
)
PAIRS: st.SearchStrategy[Any] = st.recursive(
    st.integers(-5, 5) | st.sampled_from(["x", "a:b", "2.0", ":", None, 1.5, True]),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=4).map(tuple),
    max_leaves=10,
)


@st.composite
def near_messages(draw: Any) -> bytes:
    """Documents that are, or almost are, messages."""
    members = [("jsonrpc", "2.0")] if draw(st.integers(0, 9)) else []
    params = draw(st.lists(st.tuples(KEYS, PAIRS), max_size=4).map(tuple) | PAIRS)
    for member, values in (
        ("id", st.integers(-3, 3) | st.sampled_from(["a", "a:b", None, 1.5])),
        ("method", st.sampled_from(["m", "a:b", 3])),
        ("params", st.just(params)),
        ("result", PAIRS),
        ("error", PAIRS),
    ):
        wanted = {"id": 8, "method": 7, "params": 7}.get(member, 2)
        if draw(st.integers(0, 9)) < wanted:
            members.append((member, draw(values)))
    members += draw(st.lists(st.tuples(KEYS, PAIRS), max_size=1))
    text = spelled(tuple(draw(st.permutations(members))), draw)
    return text.encode()


def repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a repeated key, the slow and certain way."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise KeyError(str(keys))
    return dict(pairs)


def refuse_constant(name: str) -> None:
    raise ValueError(name)


def verdict(data: bytes) -> int | None:
    """The code that a document must get from the standard library's point of view; None for JSON with unique keys."""
    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            return PARSE_ERROR
        value = json.loads(text, object_pairs_hook=repeats, parse_int=len, parse_constant=refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    except ValueError:
        return PARSE_ERROR
    except KeyError:
        try:
            json.dumps(json.loads(data.decode(), parse_int=len), ensure_ascii=False).encode()
        except ValueError:
            return PARSE_ERROR
        return INVALID_REQUEST
    return None


class AnyBytesTests(SynchronousTestCase):
    """Nothing but the two outcomes."""

    def setUp(self) -> None:
        self.typed = Codec(Params, Limits())
        self.raw = Codec(Raw, Limits())
        self.tight = Codec(Params, Limits(size=60, depth=3, keys=6, string=8))

    def outcome(self, codec: Codec[Any], data: bytes) -> Message[Any] | MalformedMessage:
        try:
            message = codec.decode(data)
        except MalformedMessage as error:
            self.assertIn(error.code, (PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS))
            self.assertLess(len(error.message), 400)
            encode_error(error.id, error.code, error.message, error.data)
            return error
        self.assertEqual(message.is_request + message.is_notification + message.is_response, 1)
        return message

    def check(self, data: bytes) -> None:
        must = verdict(data)
        fresh = [self.outcome(Codec(type_, Limits()), data) for type_ in (Params, Raw)]
        for codec, first in zip((self.typed, self.raw), fresh, strict=True):
            got = self.outcome(codec, data)
            self.assertEqual(getattr(got, "message", None), getattr(first, "message", None), data)
            if must is not None:
                self.assertIsInstance(got, MalformedMessage, data)
                self.assertEqual(got.code, must, data)  # type: ignore[union-attr]
            elif isinstance(got, MalformedMessage):
                self.assertNotEqual(got.code, PARSE_ERROR, (data, got))
                self.assertNotIn("twice", got.message)
        self.outcome(self.tight, data)

    @settings(deadline=None, max_examples=300)
    @given(data=st.binary(max_size=200))
    @example(data=b"{" * 5000)
    @example(data=b'{"jsonrpc":"2.0","id":' + b"1" * 5000 + b',"method":"m"}')
    def test_binary(self, data: bytes) -> None:
        """Bytes of any kind."""
        self.check(data)

    @settings(deadline=None, max_examples=300)
    @given(data=st.text(alphabet='{}[]",:\\u0d8c9 1-.eEntfrasl\n\ufeff\u00e9', max_size=60).map(str.encode))
    @example(data=b'{"a":"\\ud800"}')
    @example(data=b'"\\ud83d\\ude00"')
    def test_tokens(self, data: bytes) -> None:
        """Soups of JSON's own characters."""
        self.check(data)

    @settings(deadline=None, max_examples=400)
    @given(data=near_messages())
    def test_near_messages(self, data: bytes) -> None:
        """Messages with members missing, repeated, respelled, of wrong types."""
        self.check(data)

    @settings(deadline=None, max_examples=200)
    @given(data=near_messages(), at=st.integers(0, 300), bite=st.integers(0, 3), more=st.binary(max_size=3))
    def test_damaged_messages(self, data: bytes, at: int, bite: int, more: bytes) -> None:
        """Messages with some bytes taken out and others put in."""
        self.check(data[:at] + more + data[at + bite :])

    @settings(deadline=None, max_examples=200)
    @given(value=PAIRS, data=st.data())
    def test_unique_keys(self, value: Any, data: st.DataObject) -> None:
        """The scan finds a repeated key exactly where the standard library's pairs have one."""
        text = spelled(value, data.draw).encode()
        self.assertEqual(unique_keys(text) is not None, verdict(text) is not None)


class RoundTripTests(SynchronousTestCase):
    """decode(encode(x)) is x."""

    @settings(deadline=None, max_examples=100)
    @given(id_=IDS, value=OBJECTS, method=st.text(max_size=10))
    def test_round_trips(self, id_: int | str, value: dict[str, Any], method: str) -> None:
        """Each kind of message comes back as it was."""
        codec = Codec(Raw, Limits())
        wire = Raw(msgspec.json.encode(value))
        for given_value in (value, wire):
            result = codec.decode(encode_result(id_, given_value))
            self.assertEqual((result.id, json.loads(bytes(result.result))), (id_, value))  # type: ignore[arg-type]
            request = codec.decode(encode_request(id_, method, given_value))
            self.assertEqual((request.id, request.method), (id_, method))
            self.assertEqual(json.loads(bytes(request.params)), value)  # type: ignore[arg-type]
            notification = codec.decode(encode_notification(method, given_value))
            self.assertEqual((notification.id, notification.method), (UNSET, method))
            error = codec.decode(encode_error(id_, 1, method, given_value))
            said = json.loads(bytes(error.error))  # type: ignore[arg-type]
            self.assertEqual((error.id, said), (id_, {"code": 1, "message": method, "data": value}))
