"""Requests and results under the names of the side that they go to; what need not change has the bytes that came."""

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.gateway import Naming
from erlmcp.gateway._rewriting import (
    carried_meta,
    own_params,
    rewrite_error_data,
    rewrite_fields,
    rewrite_question,
    rewrite_result,
)
from erlmcp.protocol import McpError, Params
from tests.published_schemas import ANY_JSON, MODERN, need_schemas, problem, values

examples = settings(deadline=None, max_examples=60)
FILES = Naming("files", deny=["hidden*"])
PLAIN = Naming("files", "none")
LINK = {"type": "resource_link", "uri": "file:///a", "name": "a", "x": 1}
EMBEDDED = {"type": "resource", "resource": {"uri": "ui://app", "text": "t"}, "annotations": {"priority": 1}}
TEXT = {"type": "text", "text": 'a "uri" in a text'}
RESULTS = {
    "tools/call": "CallToolResult",
    "prompts/get": "GetPromptResult",
    "resources/read": "ReadResourceResult",
}


def params(**given_: Any) -> Params:
    return msgspec.json.decode(msgspec.json.encode(given_), type=Params)


def own(method: str, **given_: Any) -> Any:
    return json.loads(msgspec.json.encode(own_params(method, params(**given_), FILES)))


def rewritten(method: str, result: Any, naming: Naming = FILES) -> Any:
    return json.loads(bytes(rewrite_result(method, Raw(json.dumps(result).encode()), naming)))


class TowardsUpstreamTests(SynchronousTestCase):
    def test_names(self) -> None:
        self.assertEqual(
            own("tools/call", name="files.read", arguments={"a": 1}), {"name": "read", "arguments": {"a": 1}}
        )
        self.assertEqual(own("tools/call", name="files.read"), {"name": "read"})
        self.assertEqual(own("prompts/get", name="files.p", arguments={}), {"name": "p", "arguments": {}})
        self.assertEqual(own("resources/read", uri="files+a:b"), {"uri": "a:b"})

    def test_arguments_keep_their_bytes(self) -> None:
        raw = Raw(b'{ "a" : 1.0 }')
        found = own_params("tools/call", Params(name="files.read", arguments=raw), FILES)
        self.assertIs(found["arguments"], raw)

    def test_completion(self) -> None:
        argument = {"name": "path", "value": "/e"}
        context = {"arguments": {"b": "c"}}
        self.assertEqual(
            own("completion/complete", ref={"type": "ref/prompt", "name": "files.p"}, argument=argument),
            {"ref": {"type": "ref/prompt", "name": "p"}, "argument": argument},
        )
        ref = {"type": "ref/resource", "uri": "files+file:///{+path}"}
        self.assertEqual(
            own("completion/complete", ref=ref, argument=argument, context=context),
            {"ref": {**ref, "uri": "file:///{+path}"}, "argument": argument, "context": context},
        )

    def test_not_of_this_upstream(self) -> None:
        argument = {"name": "a", "value": ""}
        for method, given_ in (
            ("tools/call", {"name": "other.read"}),
            ("tools/call", {"name": "files.hidden"}),
            ("prompts/get", {"name": "read"}),
            ("resources/read", {"uri": "file:///a"}),
            ("resources/read", {"uri": "files+hidden:b"}),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}, "argument": argument}),
            ("completion/complete", {"ref": {"type": "ref/resource", "uri": "a:{b}"}, "argument": argument}),
        ):
            self.assertRaises(McpError, own_params, method, params(**given_), FILES)

    def test_meta(self) -> None:
        """What belongs to the hop stays on it; anything else goes on as it came."""
        raw = Raw(
            b'{"io.modelcontextprotocol/clientInfo":{},"progressToken":1,"traceparent":"x","example.com/k":{"a":1.0}}'
        )
        found = carried_meta(raw)
        self.assertEqual({key: bytes(part) for key, part in found.items()}, {"example.com/k": b'{"a":1.0}'})
        self.assertEqual(carried_meta(UNSET), {})
        self.assertEqual(carried_meta(Raw(b"null")), {})


class TowardsClientTests(SynchronousTestCase):
    def test_tool_result(self) -> None:
        found = rewritten(
            "tools/call", {"content": [TEXT, LINK, EMBEDDED], "structuredContent": {"uri": "file:///a"}}
        )
        self.assertEqual(
            found,
            {
                "content": [
                    TEXT,
                    {**LINK, "uri": "files+file:///a"},
                    {**EMBEDDED, "resource": {"uri": "ui://files/app", "text": "t"}},
                ],
                "structuredContent": {"uri": "file:///a"},
            },
        )

    def test_prompt(self) -> None:
        """A message has one block, or, of some servers, several."""
        for content, expected in (
            (LINK, {**LINK, "uri": "files+file:///a"}),
            ([TEXT, LINK], [TEXT, {**LINK, "uri": "files+file:///a"}]),
        ):
            found = rewritten(
                "prompts/get", {"messages": [{"role": "user", "content": content}, {"role": "user"}]}
            )
            self.assertEqual(found, {"messages": [{"role": "user", "content": expected}, {"role": "user"}]})

    def test_contents(self) -> None:
        found = rewritten("resources/read", {"contents": [{"uri": "file:///a", "blob": "AA=="}], "ttlMs": 1})
        self.assertEqual(found, {"contents": [{"uri": "files+file:///a", "blob": "AA=="}], "ttlMs": 1})

    def test_only_what_must_changes(self) -> None:
        raw = Raw(
            b'{"content": [{"type":"text" ,"text":"\\u00fc"},{"type":"resource_link","uri":"a:b"}], "x": 1.0}'
        )
        self.assertEqual(
            bytes(rewrite_result("tools/call", raw, FILES)),
            b'{"content":[{"type":"text" ,"text":"\\u00fc"},{"type":"resource_link","uri":"files+a:b"}],"x":1.0}',
        )

    def test_nothing_to_change(self) -> None:
        for method, naming, text in (
            ("tools/call", PLAIN, b'{"content":[{"type":"resource_link","uri":"a:b"}]}'),
            ("tools/call", FILES, b'{"content":[{"type":"text","text":"a"}]}'),
            (
                "tools/call",
                FILES,
                b'{"content":[{"type":"text","text":"a"}],"structuredContent":{"uri":"a:b"}}',
            ),
            ("tools/call", FILES, b'{"content":[{"type":"other","uri":"a:b"}]}'),
            ("prompts/get", FILES, b'{"messages":[{"content":{"type":"text","text":"\\u0075ri"}}]}'),
            ("tools/call", FILES, b'["uri"]'),
            ("tools/call", FILES, b'{"content":[["uri"],{"uri":"a:b"},{"type":"resource","uri":"a:b"}]}'),
            ("completion/complete", FILES, b'{"completion":{"values":["a"],"uri":"a:b"}}'),
        ):
            raw = Raw(text)
            self.assertIs(rewrite_result(method, raw, naming), raw)

    def test_escapes_hide_nothing(self) -> None:
        for text in (
            b'{"content":[{"type":"resource_link","\\u0075ri":"a:b"}]}',
            b'{"content":[{"\\u0074ype":"\\u0072esource","resource":{"\\u0075\\u0072\\u0069":"a:b"}}]}',
        ):
            self.assertIn("files+a:b", bytes(rewrite_result("tools/call", Raw(text), FILES)).decode())

    def test_fields(self) -> None:
        fields = {"content": Raw(json.dumps([LINK]).encode()), "isError": False}
        found = rewrite_fields("tools/call", fields, FILES)
        self.assertIn(b"files+file:///a", bytes(found["content"]))
        self.assertNotIn(b"files+", bytes(fields["content"]))
        for method, same in (
            ("tools/call", {"content": []}),
            ("tools/list", fields),
            ("prompts/get", fields),
        ):
            self.assertIs(rewrite_fields(method, same, FILES), same)

    def test_question(self) -> None:
        block = {"type": "tool_result", "toolUseId": "1", "content": [TEXT, LINK]}
        question = {
            "method": "sampling/createMessage",
            "params": {"messages": [{"role": "user", "content": [block]}], "maxTokens": 1},
        }
        found = json.loads(msgspec.json.encode(rewrite_question(question, FILES)))
        (message,) = found["params"]["messages"]
        self.assertEqual(message["content"][0]["content"], [TEXT, {**LINK, "uri": "files+file:///a"}])
        self.assertEqual(found["params"]["maxTokens"], 1)
        raw = {**question, "params": Raw(json.dumps(question["params"]).encode())}
        self.assertEqual(json.loads(msgspec.json.encode(rewrite_question(raw, FILES))), found)
        for same in (
            {"method": "elicitation/create", "params": {"uri": "a:b"}},
            {"method": "sampling/createMessage", "params": {"messages": []}},
            {"method": "sampling/createMessage", "params": {"uri": "a:b"}},
            {"method": "sampling/createMessage", "params": {"uri": "a:b", "messages": [TEXT]}},
            {"method": "sampling/createMessage", "params": ["uri"]},
        ):
            self.assertIs(rewrite_question(same, FILES), same)
        self.assertIs(rewrite_question(question, PLAIN), question)

    def test_error(self) -> None:
        self.assertEqual(rewrite_error_data({"uri": "a:b", "x": 1}, FILES), {"uri": "files+a:b", "x": 1})
        for same in ({"uri": 1}, "uri", None):
            self.assertEqual(rewrite_error_data(same, FILES), same)


class AnythingTests(SynchronousTestCase):
    @given(st.data(), st.sampled_from(sorted(RESULTS)))
    @examples
    def test_valid_stays_valid(self, data: st.DataObject, method: str) -> None:
        need_schemas()
        result = data.draw(values(MODERN, RESULTS[method]))
        found = rewritten(method, result)
        self.assertIsNone(problem(MODERN, RESULTS[method], found))
        # Nothing but URIs differs: seen from one gateway further, too.
        self.assertEqual(strip(found), strip(result))

    @given(st.data(), st.sampled_from(sorted(RESULTS)))
    @examples
    def test_there_and_back(self, data: st.DataObject, method: str) -> None:
        """Each URI that a result shows leads back to the one that came; a second naming leaves no trace of itself."""
        need_schemas()
        result = data.draw(values(MODERN, RESULTS[method]))
        for before, after in zip(uris(method, result), uris(method, rewritten(method, result)), strict=True):
            self.assertEqual(FILES.own_uri(after), before)
        self.assertEqual(rewritten(method, result, PLAIN), result)

    @given(ANY_JSON, st.sampled_from(sorted(RESULTS)), st.sampled_from(["content", "messages", "contents"]))
    @examples
    def test_nonsense_passes(self, part: Any, method: str, member: str) -> None:
        for result in (
            part,
            {member: part, "uri": "a"},
            {member: [part, {"uri": 1, "type": "resource_link"}]},
        ):
            self.assertEqual(rewritten(method, result), result)


def uris(method: str, result: Any) -> list[str]:
    """The URIs that clients may read."""
    if method == "resources/read":
        return [one["uri"] for one in result["contents"]]
    blocks = result["content"] if method == "tools/call" else [one["content"] for one in result["messages"]]
    return [one.get("uri") or one["resource"]["uri"] for one in blocks if one["type"].startswith("resource")]


def strip(value: Any) -> Any:
    """A value without its URIs."""
    if isinstance(value, dict):
        return {key: strip(part) for key, part in value.items() if key != "uri"}
    return [strip(one) for one in value] if isinstance(value, list) else value
