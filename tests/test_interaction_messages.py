"""Messages: JSON-RPC, ids, results, errors, notifications, statelessness (basic/index and what repeats it)."""

import json
from typing import Any

from erlmcp.protocol import KeyRing, errors
from tests.interaction import published
from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import PREFIX, OverHttp, envelope
from tests.interaction.stage import SECRET, Stage

DEFINED = {-32700, -32600, -32601, -32602, -32603, -32020, -32021, -32022}
ODD_IDS = (None, 1.5, True, [], {}, 2**70)


@everywhere
class Responses(Interaction):
    """What every response has."""

    @holds("basic.index/parts.1")
    def test_the_parts_that_all_implementations_have(self) -> None:
        discovered = self.client.request("server/discover").result
        self.assertEqual(discovered["supportedVersions"], ["2026-07-28"])
        self.assertEqual(self.client.call("echo", {"text": "a"}).text, "a")
        self.assertEqual(
            self.client.call("count", meta={"progressToken": 1}).noted("progress")[0]["progress"], 1
        )

    @holds(
        "basic.index/messages.1", "basic.index/results.1", "basic.index/results.2", "basic.index/results.3",
        "basic.transports.index/messages.2",
    )  # fmt: skip
    def test_results(self) -> None:
        for number in (0, -3, 2**53, "", "a-b", "\u0000é🦊", "9"):
            response = self.client.call("echo", {"text": "a"}, id=number).response
            self.assertEqual(set(response), {"jsonrpc", "id", "result"})
            self.assertEqual((response["jsonrpc"], response["id"]), ("2.0", number))
            self.assertIs(type(response["id"]), type(number))
            self.assertEqual(response["result"]["resultType"], "complete")

    @holds("basic.index/result-types.1")
    def test_result_types(self) -> None:
        self.assertEqual(self.client.call("add", {"a": 1, "b": 2}).result["resultType"], "complete")
        asked = self.client.call("register", capabilities={"elicitation": {}, "extensions": {"com.x/y": {}}})
        self.assertEqual(asked.result["resultType"], "input_required")

    @holds("basic.index/errors.1", "basic.index/errors.2", "basic.index/errors.3", "schema/error.1")
    def test_errors(self) -> None:
        refusals = [
            self.client.call("unknown", id="one"),
            self.client.request("no/such/method", id=2),
            self.client.request("tools/call", {}, id=3, valid=False),
            self.client.request("tools/list", meta={PREFIX + "protocolVersion": None}, id=4, valid=False),
            self.client.call("register", id=5),
        ]
        for sent in refusals:
            response = sent.response
            self.assertEqual(set(response), {"jsonrpc", "id", "error"})
            self.assertEqual(response["id"], sent.id)
            self.assertIs(type(sent.error["code"]), int)
            message = sent.error["message"]
            self.assertTrue(0 < len(message) < 300, message)
            self.assertNotIn("\n", message)

    @holds("basic.index/errors.1")
    def test_errors_without_a_readable_id(self) -> None:
        for data in (
            b"{",
            b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}',
            b"5",
            b"[]",
            b'{"id":1,"id":1}',
        ):
            sent = self.client.raw(data)
            self.assertNotIn("id", sent.response)
            self.assertIn(sent.code, (-32700, -32600))


@everywhere
class Requests(Interaction):
    """What a server makes of the ids of requests."""

    @holds("basic.index/requests.1", "basic.index/requests.2")
    def test_odd_ids(self) -> None:
        for odd in ODD_IDS:
            message = {"jsonrpc": "2.0", "id": odd, "method": "tools/list", "params": {"_meta": envelope()}}
            sent = self.client.send(message)
            sent.id = None
            self.refused(sent, -32600, 400)

    @holds("basic.index/requests.3")
    def test_an_id_in_use(self) -> None:
        if isinstance(self.client, OverHttp):
            # Each POST is an exchange of its own, perhaps of another client: ids cannot collide there.
            first, second = self.client.call("wait", id=7), self.client.call("echo", {"text": "b"}, id=7)
            self.assertEqual(second.text, "b")
            self.assertFalse(first.answered)
            return
        first = self.client.call("wait", id=7)
        second = self.client.call("echo", {"text": "b"}, id=7)
        self.assertEqual(second.code, -32600)
        self.assertIn("7", second.error["message"])
        self.stage.go_on("a")
        self.assertEqual(first.responses[-1]["result"]["content"][0]["text"], "waited for a")
        self.assertEqual(self.client.call("echo", {"text": "c"}, id=7).text, "c")

    @holds(
        "basic.patterns.index/requests.1", "basic.transports.stdio/requests.1", "basic.patterns.mrtr/only.1"
    )
    def test_the_server_begins_no_request(self) -> None:
        """Each message that comes in any of these tests is checked for this; here, where older revisions asked."""
        every = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
        for tool in ("register", "visit", "compose", "roots"):
            sent = self.client.call(tool, capabilities=every)
            self.assertEqual(sent.result["resultType"], "input_required")
            self.assertEqual(len(sent.messages), 1)
        self.assertEqual([one for one in self.client.inbox if "method" in one and "id" in one], [])
        self.assertIn("servers send no", str(published.received_problem({"id": 1, "method": "ping"}, None)))


@everywhere
class Codes(Interaction):
    """Error codes: what is emitted, and what is not."""

    def provoked(self) -> dict[int, list[dict[str, Any]]]:
        """Errors of every kind that clients can provoke, by code."""
        client = self.client
        sent = [
            client.raw(b"{"),
            client.raw(b"[]"),
            client.request("ping"),
            client.call("unknown"),
            client.request("resources/read", {"uri": "config://nowhere"}),
            client.request("resources/read", {"uri": "broken://resource"}),
            client.request("prompts/get", {"name": "unknown"}),
            client.request("prompts/get", {"name": "hopeless"}),
            client.request("tools/list", {"cursor": "none"}),
            client.request("tools/list", meta={PREFIX + "protocolVersion": "2025-11-25"}, valid=False),
            client.request("tools/list", meta={PREFIX + "logLevel": "loud"}, valid=False),
            client.call("register"),
            client.call("impossible"),
            client.call("echo", {"text": ""}, headers={"Mcp-Name": "other"}),
            client.send({"jsonrpc": "2.0", "id": 90, "method": "initialize", "params": {}}),
        ]
        found: dict[int, list[dict[str, Any]]] = {}
        for one in sent:
            for response in one.responses:
                if "error" in response:
                    found.setdefault(response["error"]["code"], []).append(response["error"])
        self.flushLoggedErrors(RuntimeError)
        self.flushLoggedErrors(ValueError)
        return found

    @holds("basic.index/codes.2", "basic.index/codes.3", "basic.index/codes.5")
    def test_what_is_emitted(self) -> None:
        found = self.provoked()
        reserved = {code for code in found if -32768 <= code <= -32000}
        self.assertLessEqual(reserved, DEFINED)
        self.assertLessEqual({-32700, -32600, -32601, -32602, -32603, -32021, -32022}, set(found))
        self.assertEqual(-32020 in found, self.client.on_http)

    @holds("basic.index/codes.4")
    def test_codes_mean_what_they_say(self) -> None:
        found = self.provoked()
        self.assertEqual(
            [error["data"] for error in found[-32021]], [{"requiredCapabilities": {"elicitation": {}}}]
        )
        for error in found[-32022]:
            self.assertEqual(error["data"]["supported"], ["2026-07-28"])
        for error in found.get(-32020, ()):
            self.assertIn("Mcp-Name", error["message"])


class OwnCodes(Interaction):
    """The codes that this project adds."""

    @holds("basic.index/codes.1", "basic.index/codes.6")
    def test_lie_outside(self) -> None:
        codes = [value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)]
        own = [code for code in codes if code not in DEFINED]
        self.assertTrue(own)
        for code in own:
            self.assertFalse(-32768 <= code <= -32000, code)


@everywhere
class Notifications(Interaction):
    """One-way messages."""

    @holds("basic.index/notifications.1")
    def test_get_no_response(self) -> None:
        cases = (
            ("notifications/cancelled", {"requestId": 1}),
            ("notifications/cancelled", {"requestId": {}}),
            ("notifications/cancelled", None),
            ("notifications/initialized", None),
            ("notifications/no/such", {"a": 1}),
            ("tools/list", {"_meta": envelope()}),
            ("tools/call", {"name": "echo", "arguments": {"text": "unseen"}, "_meta": envelope()}),
        )
        for method, params in cases:
            sent = self.client.notify(method, params, valid=False)
            self.assertEqual([one for one in sent.messages if "id" in one or "result" in one], [])
            if not self.client.on_http:
                self.assertEqual(sent.messages, [])
        self.assertEqual(self.stage.seen, [])
        self.assertEqual(self.client.call("echo", {"text": "alive"}).text, "alive")

    @holds("basic.index/notifications.2")
    def test_sent_have_no_id(self) -> None:
        sent = self.client.call("count", meta={"progressToken": "t", PREFIX + "logLevel": "debug"})
        listening = self.client.request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        self.stage.provider.remove_tool("add")
        found = [*sent.notifications, *listening.notifications]
        self.assertGreaterEqual(len(found), 5)
        for one in found:
            self.assertEqual(set(one), {"jsonrpc", "method", "params"})


@everywhere
class Statelessness(Interaction):
    """Each request is complete in itself."""

    @holds("basic.index/stateless.1", "schema/capabilities.1", "basic.index/meta.8")
    def test_nothing_is_remembered(self) -> None:
        can = {"elicitation": {}}
        self.assertEqual(self.client.call("meet", capabilities=can).text, "elicitation: True")
        self.assertEqual(self.client.call("meet").text, "elicitation: False")
        self.client.call("talk", meta={PREFIX + "logLevel": "debug"})
        self.assertEqual(self.client.call("talk").notifications, [])
        bare = dict.fromkeys(envelope())
        sent = self.client.request("tools/list", meta=bare, valid=False)
        self.assertEqual(sent.code, -32602)

    @holds("basic.index/stateless.2")
    def test_several_conversations(self) -> None:
        waiting = [
            self.client.call("wait", meta={PREFIX + "clientInfo": {"name": str(n), "version": "1"}})
            for n in range(3)
        ]
        self.assertEqual(self.client.call("echo", {"text": "between"}).text, "between")
        for number in (2, 0, 1):
            self.stage.waits[number].callback(number)
            self.assertEqual(waiting[number].text, f"waited for {number}")

    @holds("basic.index/stateless.3", "basic.index/stateless.4")
    def test_related_requests_on_other_connections(self) -> None:
        """A cursor and a state carry what is needed, wherever they are brought back."""
        client = self.again(self.stage.provider, page_size=5)
        first = client.request("tools/list").result
        other = client.another()
        second = other.request("tools/list", {"cursor": first["nextCursor"]}).result
        names = [tool["name"] for tool in first["tools"] + second["tools"]]
        self.assertEqual(len(set(names)), 10)
        can = {"elicitation": {}}
        asked = client.call("visit", capabilities={"elicitation": {"url": {}}}).result
        client.leave()
        answers = {"inputResponses": {"page": {"action": "accept"}}, "requestState": asked["requestState"]}
        self.assertEqual(other.call("visit", params=answers, capabilities=can).text, "accept")

    @holds("basic.index/stateless.3")
    def test_cursors_survive_the_process(self) -> None:
        key = KeyRing.generate()
        client = self.again(self.stage.provider, page_size=5, key_ring=KeyRing([key]))
        first = client.request("tools/list").result
        client = self.again(Stage().provider, page_size=5, key_ring=KeyRing([key]))
        second = client.request("tools/list", {"cursor": first["nextCursor"]}).result
        self.assertEqual(len(second["tools"]), 5)
        self.assertNotEqual(first["tools"], second["tools"])


@everywhere
class Encoding(Interaction):
    """UTF-8, in and out."""

    @holds("basic.transports.index/messages.1")
    def test_utf_8(self) -> None:
        text = "naïve — 日本語 🦊 \U0010ffff \u0000\u0001\u2028"
        self.assertEqual(self.client.call("echo", {"text": text}).text, text)
        escaped = json.dumps(
            {"jsonrpc": "2.0", "id": 5, "method": "tools/call",
             "params": {"name": "echo", "arguments": {"text": text}, "_meta": envelope()}}
        )  # fmt: skip
        fields = self.client.fields(json.loads(escaped), None)
        self.assertEqual(
            self.client.raw(escaped.encode(), id=5, method="tools/call", fields=fields).text, text
        )
        self.assertEqual(self.stage.seen, [text, text])

    @holds("basic.transports.index/messages.1")
    def test_anything_else_is_refused(self) -> None:
        message = json.dumps(
            {"jsonrpc": "2.0", "id": 5, "method": "tools/list", "params": {"_meta": envelope(), "x": "é"}}
        )
        for data in (message.replace("\\u00e9", "\xe9").encode("latin-1"), message.encode("utf-16")):
            sent = self.client.raw(data.replace(b"\n", b""), fields={"Mcp-Method": "tools/list"})
            self.assertEqual(sent.code, -32700)
        self.assertNotIn(SECRET, str(self.client.inbox))
