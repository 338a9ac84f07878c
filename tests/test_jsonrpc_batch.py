"""Arrays of messages, where revision 2025-03-26 was negotiated: taken apart in order, or refused as a whole."""

import json
import sys
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, Codec, Limits, MalformedMessage
from tests.test_jsonrpc_answers import Params


def call(id: Any = 1, name: str = "echo") -> dict[str, Any]:  # noqa: A002
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name}}


NOTE = {"jsonrpc": "2.0", "method": "notifications/initialized"}
ANSWER = {"jsonrpc": "2.0", "id": "s1", "result": {}}


class BatchTests(SynchronousTestCase):
    """What `Codec.decode_batch` gives."""

    def setUp(self) -> None:
        self.codec = Codec(Params, Limits())

    def decode(self, value: Any, codec: Codec[Params] | None = None) -> Any:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return (codec or self.codec).decode_batch(data)

    def refused(self, value: Any, codec: Codec[Params] | None = None) -> MalformedMessage:
        with self.assertRaises(MalformedMessage) as caught:
            self.decode(value, codec)
        self.assertIsNone(caught.exception.id)
        return caught.exception

    def test_messages_of_all_kinds_in_order(self) -> None:
        one, two, three = self.decode([call(7), NOTE, ANSWER])
        self.assertEqual((one.id, one.method, one.params.name), (7, "tools/call", "echo"))
        self.assertTrue(two.is_notification)
        self.assertTrue(three.is_response)

    def test_white_space(self) -> None:
        self.assertEqual(len(self.decode(b" \r\n[ " + json.dumps(call()).encode() + b" ]\n")), 1)

    def test_what_is_no_message_has_its_own_answer(self) -> None:
        """JSON-RPC 2.0, section 6: the others are answered all the same."""
        bad = [{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": 5}}, 1, [call()], {}]
        decoded = self.decode([call(1), *bad, call(3)])
        self.assertEqual([decoded[0].id, decoded[-1].id], [1, 3])
        self.assertEqual(
            [(one.code, one.id) for one in decoded[1:-1]],
            [(INVALID_PARAMS, 2), (INVALID_REQUEST, None), (INVALID_REQUEST, None), (INVALID_REQUEST, None)],
        )

    def test_an_empty_one_is_refused(self) -> None:
        problem = self.refused([])
        self.assertEqual((problem.code, problem.batch), (INVALID_REQUEST, True))
        self.assertIn("1 to 100 messages, not 0", problem.message)

    def test_at_most_so_many(self) -> None:
        codec = Codec(Params, Limits(batch=3))
        self.assertEqual(len(self.decode([call(n) for n in range(3)], codec)), 3)
        problem = self.refused([call(n) for n in range(4)], codec)
        self.assertEqual((problem.code, problem.batch), (INVALID_REQUEST, True))
        self.assertIn("1 to 3 messages, not 4", problem.message)
        with self.assertRaises(ValueError):
            Limits(batch=0)

    def test_what_is_no_array(self) -> None:
        for value in (call(), 1, "x", None, b"", b"nonsense"):
            problem = self.refused(value)
            self.assertEqual(problem.code, INVALID_REQUEST)
            self.assertIn("must be an array", problem.message)

    def test_bad_json_is_refused_whole(self) -> None:
        for data in (b"[", b"[1,]", b'[{"id":1} {}]', b"[NaN]", b'["\\ud800"]', b"[] x"):
            self.assertEqual(self.refused(data).code, PARSE_ERROR)
        self.assertEqual(self.refused(b'["\xff"]').code, PARSE_ERROR)

    def test_the_limits_are_the_documents(self) -> None:
        deep = [{"a": [[[]]]}]
        for limits, data in (
            (Limits(size=10), json.dumps([call()]).encode()),
            (Limits(depth=4), json.dumps(deep).encode()),
            (Limits(keys=7), json.dumps([call(), call()]).encode()),
            (Limits(string=9), json.dumps([call()]).encode()),
        ):
            self.assertEqual(self.refused(data, Codec(Params, limits)).code, INVALID_REQUEST)
        self.assertEqual(len(self.decode(deep, Codec(Params, Limits(depth=5)))), 1)

    def test_a_repeated_key_spoils_it_all(self) -> None:
        twice = b'{"jsonrpc":"2.0","id":2,"method":"a","params":{"name":"a","name":"b"}}'
        problem = self.refused(b"[" + json.dumps(call()).encode() + b"," + twice + b"]")
        self.assertEqual(problem.code, INVALID_REQUEST)
        self.assertIn('"name" twice', problem.message)

    def test_a_bottomless_one(self) -> None:
        self.assertEqual(self.refused(b"[" * 100_000).code, INVALID_REQUEST)
        whole = b"[" * 900 + b"]" * 900
        self.assertEqual(self.refused(whole).code, INVALID_REQUEST)

    def test_no_stack_left(self) -> None:
        """Where Python's stack ends, the answer is the same as for what nests too deep."""
        data = json.dumps([{"a": {"b": {"c": [1, {"d": "x"}]}}}]).encode()
        codec = Codec(Params, Limits(depth=2))

        def sink(levels: int, end: Callable[[], Any]) -> Any:
            return end() if levels == 0 else sink(levels - 1, end)

        for levels in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit(), 7):
            try:
                sink(levels, lambda: codec.decode_batch(data))
            except MalformedMessage as problem:
                self.assertEqual(problem.code, INVALID_REQUEST)
            except RecursionError:
                break
        else:
            self.fail("the stack did not end")

    @given(st.lists(st.sampled_from(["call", "note", "answer", "bad"]), min_size=1, max_size=20))
    @settings(deadline=None, max_examples=50)
    def test_as_alone(self, kinds: list[str]) -> None:
        """In a batch a message is what it is alone."""
        samples = {"call": call(), "note": NOTE, "answer": ANSWER, "bad": {"jsonrpc": "1.0", "id": 4}}
        decoded = self.decode([samples[kind] for kind in kinds])
        for kind, found in zip(kinds, decoded, strict=True):
            try:
                alone: Any = self.codec.decode(json.dumps(samples[kind]).encode())
            except MalformedMessage as bad:
                alone = bad
            if isinstance(alone, MalformedMessage):
                self.assertEqual((found.code, found.message, found.id), (alone.code, alone.message, alone.id))
            else:
                self.assertEqual(found, alone)
