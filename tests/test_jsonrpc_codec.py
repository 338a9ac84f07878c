"""The codec's own workings: what counting may prove, what it remembers, what types it takes, deep stacks."""

import json
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    Codec,
    Limits,
    MalformedMessage,
    message_too_large,
    unique_keys,
)
from erlmcp.jsonrpc import _codec as codec_module
from erlmcp.jsonrpc._scan import depth_of, excess
from tests.test_jsonrpc_answers import Params

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1.0"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
}


def request(method: str = "tools/call", id: int = 1, **params: Any) -> bytes:  # noqa: A002
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()


class Loud(Struct):
    """Parameters of every kind of default."""

    needed: str
    words: list[str] | UnsetType = UNSET
    flag: bool | UnsetType = UNSET
    limit: int = 10
    tags: list[str] = msgspec.field(default_factory=lambda: ["a"])


class CountingTests(SynchronousTestCase):
    """No scan where counting settles it, and never a wrong answer from counting."""

    def setUp(self) -> None:
        self.scans = 0

        def counted(data: bytes, limits: Limits) -> str | None:
            self.scans += 1
            return excess(data, limits)

        self.patch(codec_module, "excess", counted)
        self.codec = Codec(Params, Limits())

    def test_usual_messages_are_not_scanned(self) -> None:
        """What clients send all day is settled by counts, URLs and nested objects included."""
        for document in (
            request(name="echo", arguments={"text": "hello"}, _meta=META),
            request(name="add", arguments={"a": 1, "b": 2}, _meta=META),
            request(name="get", arguments={"url": "http://example.com:80/x", "at": "12:30"}, _meta=META),
            request(
                name="put", arguments={"items": [{"id": n, "tags": {"a": 1}} for n in range(50)]}, _meta=META
            ),
            request("resources/read", uri="demo://x/y", _meta={**META, "progressToken": 3}),
            request("tools/list"),
            request("tools/list", unknown={"a": 1, "b": [{}]}),
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
            b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
            b'{"jsonrpc":"2.0","id":1,"result":{"a":{"b":1},"c":[{"b":2}]}}',
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"a: b"}}',
        ):
            for _ in range(3):
                self.codec.decode(document)
            self.assertEqual(self.scans, 0, document)

    def test_what_counting_leaves_open_is_scanned(self) -> None:
        """Escaped colons, numbers out of range, large payloads: good, but looked at."""
        for arguments in (
            b'{"a":1,"b\\u003ac":2}',
            b'{"a":1e999,"b":2}',
            b'{"a":"' + b":" * 70_000 + b'"}',
        ):
            before = self.scans
            document = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"arguments":%s}}' % arguments
            message = self.codec.decode(document)
            self.assertEqual(bytes(message.params.arguments), arguments)  # type: ignore[union-attr, arg-type]
            self.assertEqual(self.scans, before + 1, arguments[:40])

    def test_learned_shape_proves_nothing_it_should_not(self) -> None:
        """After a method's usual parameters are known, documents that differ are still judged by themselves."""
        self.codec.decode(request(name="n", arguments={"a": 1}, _meta=META))
        head = b'{"jsonrpc":"2.0","id":1,"method":"tools/call"'
        for tail in (
            b',"params":{"name":"n","name":"n","_meta":{}}}',
            b',"params":{"name":"n","arguments":{"a":1},"arguments":{}}}',
            b',"params":{"name":"a:b","arguments":{"a":1,"a":2},"_meta":{}}}',
            b',"params":{"arguments":{"a":1,"a":2}}}',
            b',"params":{"name":"a\\u003a\\u003ab","name":1,"arguments":{},"name":"a\\u003a\\u003ab"}}',
            b',"x":1,"x":1}',
        ):
            error = self.assertRaises(MalformedMessage, self.codec.decode, head + tail)
            self.assertIn(error.code, (INVALID_REQUEST, INVALID_PARAMS), tail)
        self.assertIs(self.codec.decode(head + b"}").params, UNSET)
        self.assertTrue(
            self.codec.decode(head.replace(b'"id":1,', b"") + b',"params":{"name":"n"}}').is_notification
        )
        self.assertEqual(self.codec.decode(head + b',"params":{"name":"a:b"}}').params, Params(name="a:b"))
        codec = Codec(Params, Limits(size=100, keys=90))
        codec.decode(head + b',"params":{"name":"n"}}')
        self.assertEqual(
            codec.decode(head + b',"params":{"name":"%s"}}' % (b"n" * 20)).params, Params(name="n" * 20)
        )

    def test_no_colon_makes_up_for_a_repeated_key(self) -> None:
        """Neither a colon spelled as an escape nor a missing id leaves room for a key that is there twice."""
        for codec in [self.codec] * 2:  # the second time with the method known
            for tail in (
                b',"id":1,"params":{"uri":"a\\u003a\\u003A","x":1,"x":2}}',
                b',"id":1,"params":{"uri":"a\\u003a","uri":"a\\u003a"}}',
                b',"params":{"uri":"a","uri":"a"}}',
            ):
                document = b'{"jsonrpc":"2.0","method":"resources/read"' + tail
                self.assertIn("twice", self.assertRaises(MalformedMessage, codec.decode, document).message)
            codec.decode(request("resources/read", uri="a"))

    def test_unproved_payload_after_a_string_full_of_colons(self) -> None:
        """Colons in a string never make up for a payload that counting could not settle."""
        for id_ in (1, 2):
            self.codec.decode(request(name="n", arguments={"a": 1, "b": 2}, id=id_))
        bad = request(name=":" * 50, arguments="ARGS").replace(b'"ARGS"', b'{"a":1,"b":2,"a":3}')
        self.assertEqual(self.assertRaises(MalformedMessage, self.codec.decode, bad).code, INVALID_REQUEST)

    def test_memory_is_bounded(self) -> None:
        """However many methods and payloads a client thinks of, few are remembered."""
        for n in range(1200):
            self.codec.decode(request(f"m{n}", _meta={**META, "n": {"x": n}}))
        self.assertLessEqual(len(self.codec._shapes), 64)
        self.assertLessEqual(len(self.codec._proved), 512)
        self.assertGreater(len(self.codec._proved), 0)
        self.codec._proved.clear()
        self.codec.decode(request(_meta={"a": "x" * 2000, "b": {"c": "d"}}))
        self.assertEqual(self.codec._proved, {})


class TypeTests(SynchronousTestCase):
    """Which types of parameters there can be."""

    def test_any_defaults(self) -> None:
        """Defaults never count as members that the document has."""
        codec = Codec(Loud, Limits())
        message = codec.decode(request(needed="a", words=["b"], flag=True, limit=3, tags=[]))
        self.assertEqual(message.params, Loud("a", ["b"], True, 3, []))
        self.assertEqual(codec.decode(request(needed="a:b")).params, Loud("a:b"))
        for twice in (
            b'"needed":"a","limit":1,"limit":2',
            b'"x":1,"x":1,"needed":"a"',
            b'"needed":"a","flag":true,"flag":true',
        ):
            document = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s}}' % twice
            error = self.assertRaises(MalformedMessage, codec.decode, document)
            self.assertIn("twice", error.message)

    def test_words(self) -> None:
        """A wrong parameter is named by its path, with what would be right."""

        class Inner(Struct, forbid_unknown_fields=True):
            deep: int | float | str = 0
            size: int = 0

        class Outer(Struct):
            inner: Inner | UnsetType = UNSET
            items: list[int | None] | UnsetType = UNSET
            key: Raw | UnsetType = UNSET

        codec = Codec(Outer, Limits())
        for params, words in (
            (
                {"inner": {"deep": None}},
                "params.inner.deep must be an integer or a number or a string, not null",
            ),
            (
                {"inner": {"size": 1.5}},
                "params.inner.size must be an integer, not a number with a fraction or an exponent",
            ),
            ({"inner": {"size": "x"}}, "params.inner.size must be an integer, not a string"),
            ({"inner": []}, "params.inner must be an object, not an array"),
            ({"inner": {"x": 1}}, "params.inner: Object contains unknown field x"),
            ({"items": [1, True]}, "params.items[1] must be an integer or null, not a boolean"),
        ):
            error = self.assertRaises(MalformedMessage, codec.decode, request(**params))
            self.assertEqual(
                (error.code, error.id, error.message, error.method), (INVALID_PARAMS, 1, words, "tools/call")
            )
        error = self.assertRaises(MalformedMessage, Codec(Loud, Limits()).decode, request(words=[]))
        self.assertEqual(error.message, "params.needed is missing")

        class Strict(Struct, forbid_unknown_fields=True):
            pass

        error = self.assertRaises(MalformedMessage, Codec(Strict, Limits()).decode, request(x=1))
        self.assertEqual(error.message, "params: Object contains unknown field x")

    def test_raw(self) -> None:
        """Parameters may be left raw; they are an object all the same, and their keys unique."""
        codec = Codec(Raw, Limits())
        message = codec.decode(request(a={"b": [1]}, c="d:e"))
        self.assertEqual(msgspec.json.decode(message.params), {"a": {"b": [1]}, "c": "d:e"})
        document = b'{"jsonrpc":"2.0","id":"q","method":"m","params":%s}'
        self.assertEqual(
            self.assertRaises(MalformedMessage, codec.decode, document % b"[]").code, INVALID_PARAMS
        )
        error = self.assertRaises(MalformedMessage, codec.decode, document % b'{"a":{"b":1,"b":1}}')
        self.assertEqual((error.code, error.id), (INVALID_REQUEST, "q"))

    def test_unfit_types(self) -> None:
        """A type without names is refused where the codec is made."""

        class Listed(Struct, array_like=True):
            a: int = 0

        for unfit in (dict, int, Listed, Raw | None):
            error = self.assertRaises(TypeError, Codec, unfit, Limits())
            self.assertIn("params_type", str(error))

    def test_kinds(self) -> None:
        """A message is exactly one of three kinds."""
        codec = Codec(Params, Limits())
        for document, kind in (
            (b'{"jsonrpc":"2.0","id":1,"method":"m"}', "is_request"),
            (b'{"jsonrpc":"2.0","method":"m"}', "is_notification"),
            (b'{"jsonrpc":"2.0","id":1,"result":1}', "is_response"),
            (b'{"jsonrpc":"2.0","error":1}', "is_response"),
        ):
            message = codec.decode(document)
            kinds = [
                name for name in ("is_request", "is_notification", "is_response") if getattr(message, name)
            ]
            self.assertEqual(kinds, [kind])


class LimitTests(SynchronousTestCase):
    """The bounds, to the last one."""

    def test_each_to_the_last(self) -> None:
        """What just fits is taken; one more is not."""

        def nested(levels: int) -> bytes:  # the document is one level, params another
            return request(arguments="X").replace(b'"X"', b"[" * (levels - 2) + b"]" * (levels - 2))

        def many(keys: int) -> bytes:  # the envelope has four, params one
            return request(arguments={str(n): ":[{" for n in range(keys - 5)})

        def long(size: int) -> bytes:
            return request(arguments={"a": "\\" * (size // 2) + "x" * (size % 2)})

        def sized(size: int) -> bytes:
            return request().ljust(size)

        cases: list[tuple[str, int, Callable[[int], bytes]]] = [
            *(("depth", bound, nested) for bound in (3, 64, 512)),
            *(("keys", bound, many) for bound in (10, 30)),
            *(("string", bound, long) for bound in (20, 701)),
            ("size", 100, sized),
        ]
        for name, bound, document in cases:
            codec = Codec(Params, Limits(**{name: bound}))
            for _ in range(2):
                codec.decode(document(bound))
                error = self.assertRaises(MalformedMessage, codec.decode, document(bound + 1))
                self.assertEqual(error.code, INVALID_REQUEST)
                self.assertIn(str(bound), error.message, name)

    def test_shallowest(self) -> None:
        """With a depth of two, parameters are all the nesting there is."""
        codec = Codec(Params, Limits(depth=2))
        codec.decode(request(name="x"))
        for params in ({"arguments": {}}, {"x": []}, {"_meta": [1]}):
            self.assertIn(
                "3 levels", self.assertRaises(MalformedMessage, codec.decode, request(**params)).message
            )

    def test_impossible_limits(self) -> None:
        """Limits that cannot be are refused, by name."""
        for wrong in ({"size": 0}, {"keys": 0}, {"string": -1}, {"depth": 1}, {"depth": 513}):
            error = self.assertRaises(ValueError, Limits, **wrong)
            self.assertIn(next(iter(wrong)), str(error))

    def test_no_string_over_the_limit(self) -> None:
        """A document longer than the string limit, with no string near it, is fine."""
        self.assertIsNone(excess(b"[" + b"1," * 50 + b"1]", Limits(string=10)))
        self.assertIsNone(excess(request(arguments={"a": 1}), Limits(string=10)))

    def test_many_brackets_are_not_depth(self) -> None:
        """More brackets than levels are fine, beside each other or in strings, however large the document."""
        wide = b'{"jsonrpc":"2.0","method":"m","params":{"arguments":["%s"%s]}}' % (
            b"[{" * 99,
            b',{"a":[]}' * 9000,
        )
        self.assertGreater(len(wide), 64 * 1024)
        Codec(Params, Limits(depth=5)).decode(wide)
        self.assertIn(
            "5 levels",
            self.assertRaises(MalformedMessage, Codec(Params, Limits(depth=4)).decode, wide).message,
        )

    def test_for_transports(self) -> None:
        """A transport that holds no whole message says the same."""
        error = message_too_large(11, 10)
        self.assertEqual((error.code, error.id), (INVALID_REQUEST, None))
        self.assertEqual(error.message, "the message has 11 bytes; at most 10 are accepted")


class StackTests(SynchronousTestCase):
    """Wherever on the stack a document is decoded, the answer is one of the two."""

    def test_little_stack_left(self) -> None:
        """With little stack left, a deep document is too deep; nothing else escapes."""
        documents = [
            request(arguments="X").replace(b'"X"', text)
            for depth in (20, 60, 200, 400)
            for text in (b"[" * depth + b"]" * depth, b'{"a":1,"b":' * depth + b"1" + b"}" * depth)
        ]
        documents += [document[:-1] + b',"id":1}' for document in documents]
        documents += [document.replace(b'"id": 1', b'"id": null') for document in documents]
        seen = set()
        for depth in (64, 512):
            codec = Codec(Params, Limits(depth=depth))
            for left in range(30, 460, 5):
                for document in documents:
                    outcome = self.deep_down(left, codec, document)
                    self.assertIn(
                        type(outcome), (codec_module.Message, MalformedMessage, type(None)), outcome
                    )
                    if isinstance(outcome, MalformedMessage):
                        seen.add(outcome.message.split(";")[0])
        self.assertIn("the message nests too deep", seen)
        self.assertIn('an object has the key "id" twice', seen)

    def deep_down(self, left: int, codec: Codec[Params], document: bytes) -> Any:
        """The outcome with `left` calls to go; None where Python itself has no room for our own few."""

        def down(levels: int) -> Any:
            if levels:
                return down(levels - 1)
            try:
                return codec.decode(document)
            except MalformedMessage as error:
                return error

        frame, used = sys._getframe(), 0
        while frame:
            used += 1
            frame = frame.f_back  # type: ignore[assignment]
        return down(sys.getrecursionlimit() - used - left)


class ScanTests(SynchronousTestCase):
    """The exact looks."""

    def test_unique_keys(self) -> None:
        """The repeated key is named, however it is spelled, wherever it is."""
        for text, name in (
            (b"1", None),
            (b"[{},{}]", None),
            (b'{"a":{"a":{"a":1}}}', None),
            (b'{"a":[{"b":1},{"b":1,"c":1e999,"c":NaN}]}', "c"),
            (b'{"\\u00e9":1,"\xc3\xa9":2}', "é"),
            (b'{"\\ud83d\\ude00":1,"\xf0\x9f\x98\x80":2}', "\U0001f600"),
            (b'{"a":1,"b":2,"c":3,"b":4,"b":5,"a":6}', "b"),
            (b'{"":' + b"9" * 10_000 + b',"":1}', ""),
            (b'{"a":1,"A":2,"a ":3}', None),
        ):
            self.assertEqual(unique_keys(text), name, text[:50])
        for wrong in (b"", b"{", b'{"a":1} x', b'"\xff"'):
            self.assertRaises(ValueError, unique_keys, wrong)

    def test_depth(self) -> None:
        """Depth is the most brackets open at once."""
        for text, depth in (
            (b"", 0),
            (b"1", 0),
            (b"[]", 1),
            (b"[[],{},[[]]]", 3),
            (b"[" * 1000 + b"]" * 1000, 1000),
        ):
            self.assertEqual(depth_of(text), depth)
