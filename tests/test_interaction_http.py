"""basic/transports/streamable-http: the endpoint, statuses, headers, streams."""

import json
from collections.abc import Mapping
from typing import Any
from unittest import TestCase

from erlmcp import Provider, config
from tests.interaction.cases import Interaction, holds
from tests.interaction.clients import OverHttp, Sent, encode, envelope, header_value, request_bytes

MIRRORED = {"region": "eu", "count": 42, "dry": True}
HEADERS = {"Mcp-Param-Region": "eu", "Mcp-Param-Count": "42", "Mcp-Param-Dry-Run": "true"}


class Http(Interaction):
    client_class = OverHttp

    def post(self, message: Any, fields: Mapping[str, str | None] | None = None, **options: Any) -> Sent:
        """One POST with exactly these fields besides the usual ones."""
        sent: Sent = self.client.exchange_bytes(request_bytes(encode(message), fields or {}, **options))
        if isinstance(message, dict):
            sent.id = message.get("id")
        return sent

    def listing(self) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": envelope()}}

    def good(self) -> dict[str, str | None]:
        return {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}


class Endpoint(Http):
    @holds("basic.transports.streamable-http/endpoint.1")
    def test_one_path_and_post(self) -> None:
        self.assertEqual(self.post(self.listing(), self.good()).http.status, 200)
        self.assertEqual(self.post(self.listing(), self.good(), path="/mcp?x=1").http.status, 200)
        for path in ("/", "/mcp/", "/MCP", "/mcp/messages", "/sse"):
            self.assertEqual(self.post(self.listing(), self.good(), path=path).http.status, 404)

    @holds("basic.transports.streamable-http/earlier.1", "basic.transports.streamable-http/sse.1")
    def test_other_methods(self) -> None:
        for method in ("GET", "DELETE", "PUT", "HEAD", "PATCH"):
            for fields in ({}, {"Accept": "text/event-stream"}, {"MCP-Protocol-Version": "2026-07-28"}):
                data = request_bytes(b"", {**fields, "Content-Length": "0"}, method=method)
                sent = Sent(self.client, None, "", 0)
                sent.own = []
                stream = self.raw(data)
                self.assertTrue(stream.startswith(b"HTTP/1.1 405 "), stream)
                self.assertIn(b"\r\nAllow: POST", stream)
                self.assertNotIn(b"text/event-stream", stream)

    def raw(self, data: bytes) -> bytes:
        """What is written to a connection that sends these bytes."""
        from tests.doubles import Stream

        stream = Stream(self.world.reactor, self.world.factory("http").buildProtocol(None))
        stream.receive(data)
        self.world.turn()
        stream.take()
        return stream.taken

    @holds("basic.transports.streamable-http/earlier.2", "basic.transports.streamable-http/earlier.3")
    def test_fields_of_earlier_revisions(self) -> None:
        plain = self.post(self.listing(), self.good())
        old = self.post(self.listing(), {**self.good(), "Mcp-Session-Id": "abc", "Last-Event-ID": "7"})
        self.assertEqual(old.response, plain.response)
        self.assertNotIn("mcp-session-id", old.http.fields)
        streamed = self.client.call(
            "count", meta={"progressToken": 1}, headers={"Mcp-Session-Id": "abc", "Last-Event-ID": "7"}
        )
        self.assertEqual(len(streamed.messages), 4)
        self.assertNotIn("mcp-session-id", streamed.http.fields)
        self.assertNotIn(b"\nid:", streamed.http.body)


class Listening(TestCase):
    @holds("basic.transports.streamable-http/security.3")
    def test_by_default_on_loopback(self) -> None:
        [listen] = config.load(None, config.transports()).listen
        self.assertEqual((listen.transport, listen.endpoint), ("http", "tcp:8765:interface=127.0.0.1"))
        self.assertFalse(config.endpoint_reachable(listen.endpoint))


class Origins(Http):
    @holds("basic.transports.streamable-http/security.1", "basic.transports.streamable-http/security.2")
    def test_foreign_origins(self) -> None:
        for origin in (
            "https://evil.example", "http://localhost.evil.example", "null", "file://", "http://127.0.0.1.nip.io",
            "http://localhost:8765/path", "", "*", "http://localhost, https://evil.example",
        ):  # fmt: skip
            for method in ("POST", "GET", "OPTIONS"):
                sent = self.post(self.listing(), {**self.good(), "Origin": origin}, method=method)
                self.assertEqual(sent.http.status, 403, (origin, method))
                self.assertNotIn("id", json.loads(sent.http.body or b"{}"))
        call = self.client.call("echo", {"text": "a"}, headers={"Origin": "https://evil.example"})
        self.assertEqual(call.http.status, 403)
        self.assertEqual(self.stage.seen, [])

    @holds("basic.transports.streamable-http/security.1")
    def test_origins_of_this_machine(self) -> None:
        for origin in ("http://localhost:8765", "http://127.0.0.1", "https://[::1]:1"):
            self.assertEqual(self.post(self.listing(), {**self.good(), "Origin": origin}).http.status, 200)

    @holds("basic.transports.streamable-http/security.1")
    def test_configured_origins(self) -> None:
        self.again(self.stage.provider, http={"origins": ("https://app.example.com",)})
        sent = self.post(self.listing(), {**self.good(), "Origin": "https://app.example.com"})
        self.assertEqual(sent.http.status, 200)
        self.assertEqual(sent.http.fields["access-control-allow-origin"], "https://app.example.com")

    @holds("basic.transports.streamable-http/security.1")
    def test_rebound_names(self) -> None:
        """A page whose name was made to mean 127.0.0.1 says that name in Host, and may send no Origin."""
        for host in ("evil.example", "evil.example:8765", "localhost.evil.example"):
            self.assertEqual(self.post(self.listing(), {**self.good(), "Host": host}).http.status, 403)


class Messages(Http):
    @holds("basic.transports.streamable-http/sending.1")
    def test_notifications(self) -> None:
        for method, params in (("notifications/cancelled", {"requestId": 5}), ("notifications/other", None)):
            sent = self.client.notify(method, params, valid=False)
            self.assertEqual((sent.http.status, sent.http.body), (202, b""))
            self.assertNotIn("content-type", sent.http.fields)

    @holds("basic.transports.streamable-http/sending.2")
    def test_notifications_that_cannot_be_taken(self) -> None:
        for message in (
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}},
        ):
            sent = self.post(message, self.good())
            self.assertGreaterEqual(sent.http.status, 400)
            self.assertNotIn("id", json.loads(sent.http.body or b"{}"))
        for fields, status in (
            (self.good() | {"Content-Type": "text/plain"}, 415),
            (self.good() | {"Host": "evil"}, 403),
        ):
            sent = self.post({"jsonrpc": "2.0", "method": "notifications/cancelled"}, fields)
            self.assertEqual(sent.http.status, status)

    @holds("basic.transports.streamable-http/sending.4")
    def test_what_is_no_single_request_or_notification(self) -> None:
        request = self.listing()
        for body in (
            [], [request], [request, request], {}, 5, "x", None, {"jsonrpc": "2.0", "id": 1, "result": {}},
            {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}},
            {"jsonrpc": "1.0", "id": 1, "method": "x"}, {"jsonrpc": "2.0", "id": 1, "method": 5},
        ):  # fmt: skip
            sent = self.post(body, self.good())
            self.assertEqual(sent.http.status, 400, body)
            self.assertEqual(json.loads(sent.http.body)["error"]["code"], -32600)
        self.assertEqual(self.client.raw(b"{", fields={}).http.status, 400)

    @holds("basic.transports.streamable-http/sending.3", "basic.transports.streamable-http/receiving.3",
           "basic.transports.streamable-http/receiving.4")  # fmt: skip
    def test_json_or_a_stream(self) -> None:
        plain = self.client.call("echo", {"text": "a"})
        self.assertEqual(plain.http.fields["content-type"], "application/json")
        self.assertEqual(len(plain.messages), 1)
        stream = self.client.call("count", meta={"progressToken": 1})
        self.assertEqual(stream.http.fields["content-type"], "text/event-stream")
        self.assertEqual(stream.http.fields["x-accel-buffering"], "no")
        self.assertIn("no-", stream.http.fields["cache-control"])
        self.assertEqual([one.get("method", "response") for one in stream.messages],
                         ["notifications/progress"] * 3 + ["response"])  # fmt: skip
        self.assertTrue(stream.carrier.taken.endswith(b"\r\n0\r\n\r\n"))

    @holds("basic.transports.streamable-http/receiving.1", "basic.transports.streamable-http/receiving.2")
    def test_each_stream_is_its_requests(self) -> None:
        listening = self.client.request(
            "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="s"
        )
        waiting = self.client.call("wait", meta={"progressToken": "w"})
        asked = self.client.call("register", capabilities={"elicitation": {}}, meta={"progressToken": "r"})
        self.stage.provider.remove_tool("add")
        self.stage.go_on()
        self.assertEqual([one["method"] for one in waiting.notifications], ["notifications/progress"])
        self.assertEqual([one["method"] for one in listening.notifications],
                         ["notifications/subscriptions/acknowledged", "notifications/tools/list_changed"])  # fmt: skip
        self.assertEqual(asked.notifications, [])
        self.assertEqual(asked.result["resultType"], "input_required")


class StandardHeaders(Http):
    """The fields that mirror the body."""

    @holds(
        "basic.transports.streamable-http/version.1", "basic.transports.streamable-http/validation.1",
        "basic.transports.streamable-http/validation.3", "basic.transports.streamable-http/validation.4",
    )  # fmt: skip
    def test_values_that_differ(self) -> None:
        for name, value in (
            ("MCP-Protocol-Version", "2025-11-25"), ("MCP-Protocol-Version", "2026-07-29"),
            ("MCP-Protocol-Version", ""), ("MCP-Protocol-Version", "=?base64?MjAyNi0wNy0yOA==?="),
            ("Mcp-Method", "tools/list"), ("Mcp-Method", ""), ("Mcp-Name", "add"), ("Mcp-Name", ""),
            ("Mcp-Name", "echo, echo"), ("Mcp-Method", "=?base64?dG9vbHMvY2FsbA==?="),
        ):  # fmt: skip
            sent = self.client.call("echo", {"text": "a"}, headers={name: value})
            error = self.refused(sent, -32020, 400)
            self.assertIn(name, error["message"])
        self.assertEqual(self.stage.seen, [])

    @holds("basic.transports.streamable-http/version.4", "basic.transports.streamable-http/headers.1")
    def test_missing(self) -> None:
        for name in ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"):
            error = self.refused(self.client.call("echo", {"text": "a"}, headers={name: None}), -32020, 400)
            self.assertIn(name, error["message"])
        for method, params in (
            ("resources/read", {"uri": "config://settings"}),
            ("prompts/get", {"name": "gallery"}),
        ):
            self.refused(self.client.request(method, params, headers={"Mcp-Name": None}), -32020, 400)
            self.refused(self.client.request(method, params, headers={"Mcp-Name": "x"}), -32020, 400)
        self.assertIn("tools", self.client.request("tools/list", headers={"Mcp-Name": None}).result)
        self.assertEqual(self.stage.seen, [])

    @holds("basic.transports.streamable-http/case.1")
    def test_case(self) -> None:
        message = self.listing()
        for fields in (
            {"mcp-protocol-version": "2026-07-28", "MCP-METHOD": "tools/list"},
            {"MCP-PROTOCOL-VERSION": "2026-07-28", "mCP-mETHOD": "tools/list"},
        ):
            self.assertIn("tools", self.post(message, fields).result)
        self.refused(self.post(message, {**self.good(), "Mcp-Method": "Tools/List"}), -32020, 400)

    @holds("basic.transports.streamable-http/encoding.1", "basic.transports.streamable-http/validation.5")
    def test_encoded_names(self) -> None:
        provider = Provider("p")

        @provider.resource("note://{text}")
        async def note(text: str) -> str:
            return text

        @provider.prompt(name="grüße 🦊")
        async def greet() -> str:
            return "hello"

        @provider.prompt(name="=?base64?eA==?=")
        async def sentinel() -> str:
            return "sentinel"

        self.again(provider)
        for name in ("grüße 🦊", "=?base64?eA==?="):
            sent = self.client.request("prompts/get", {"name": name})
            self.assertEqual(len(sent.result["messages"]), 1)
        sent = self.client.request(
            "resources/read", {"uri": "note://a"}, headers={"Mcp-Name": "=?base64?bm90ZTovL2E=?="}
        )
        self.assertEqual(sent.result["contents"][0]["text"], "a")
        literal = self.client.request(
            "prompts/get", {"name": "=?base64?eA==?="}, headers={"Mcp-Name": "=?base64?eA==?="}
        )
        self.refused(literal, -32020, 400)

    @holds("basic.transports.streamable-http/encoding.2")
    def test_broken_sentinels(self) -> None:
        for value in (
            "=?BASE64?ZWNobw==?=",
            "=?base64?ZWNobw==",
            "=?base64?ZWNo*w==?=",
            "=?base64?ZWNobw?=",
            "=?base64?/w==?=",
        ):
            self.refused(self.client.call("echo", {"text": "a"}, headers={"Mcp-Name": value}), -32020, 400)
        self.assertEqual(
            self.client.call("echo", {"text": "a"}, headers={"Mcp-Name": "=?base64?ZWNobw==?="}).text, "a"
        )


class ParameterHeaders(Http):
    """``Mcp-Param-*``."""

    def mirrored(self, arguments: dict[str, Any], **headers: str | None) -> Sent:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        sent: Sent = self.client.call("mirrored", arguments, headers=fields)
        return sent

    @holds("basic.transports.streamable-http/custom.3")
    def test_values_that_agree(self) -> None:
        self.assertEqual(self.client.call("mirrored", MIRRORED, headers=HEADERS).text, "eu 42 True")
        lower = {name.lower(): value for name, value in HEADERS.items()}
        self.assertEqual(self.client.call("mirrored", MIRRORED, headers=lower).text, "eu 42 True")
        text = "münchen 🦊\r\nX: y"
        sent = self.mirrored({"region": text}, Mcp_Param_Region=header_value(text))
        self.assertEqual(sent.text, f"{text} 0 False")

    @holds("basic.transports.streamable-http/custom.3", "basic.transports.streamable-http/custom.4",
           "basic.transports.streamable-http/custom.7")  # fmt: skip
    def test_values_that_differ(self) -> None:
        for name, value in (
            ("Mcp-Param-Region", "us"), ("Mcp-Param-Region", "EU"), ("Mcp-Param-Region", None),
            ("Mcp-Param-Region", ""), ("Mcp-Param-Count", "43"), ("Mcp-Param-Count", "forty-two"),
            ("Mcp-Param-Count", None), ("Mcp-Param-Count", "0x2a"), ("Mcp-Param-Count", "4_2"),
            ("Mcp-Param-Count", "42.5"),
            ("Mcp-Param-Dry-Run", "True"), ("Mcp-Param-Dry-Run", "false"), ("Mcp-Param-Dry-Run", "1"),
            ("Mcp-Param-Dry-Run", None),
        ):  # fmt: skip
            error = self.refused(
                self.client.call("mirrored", MIRRORED, headers={**HEADERS, name: value}), -32020, 400
            )
            self.assertIn(name, error["message"])
        self.assertEqual(self.stage.seen, [])

    @holds("basic.transports.streamable-http/validation.2")
    def test_integers_are_numbers(self) -> None:
        for value in ("42", "42.0", "42.000"):
            headers = {**HEADERS, "Mcp-Param-Count": value}
            self.assertEqual(self.client.call("mirrored", MIRRORED, headers=headers).text, "eu 42 True")

    @holds("basic.transports.streamable-http/custom.6")
    def test_absent_arguments(self) -> None:
        self.assertEqual(self.mirrored({}).text, "eu 0 False")
        self.refused(self.mirrored({}, Mcp_Param_Region="eu"), -32020, 400)

    @holds("basic.transports.streamable-http/custom.5")
    def test_null_arguments(self) -> None:
        """No header is expected for null; that this tool takes none is for its schema to say."""
        result = self.mirrored({"region": None}).result
        self.assertTrue(result["isError"])
        self.assertIn("region", result["content"][0]["text"])

    @holds("basic.transports.streamable-http/custom.2")
    def test_invalid_characters(self) -> None:
        for value in ("\xe9u", "\x80", "=?base64?!?="):
            error = self.refused(self.mirrored({"region": "eu"}, Mcp_Param_Region=value), -32020, 400)
            self.assertIn("Mcp-Param-Region", error["message"])
        self.assertEqual(self.stage.seen, [])

    def test_fields_that_no_tool_declares(self) -> None:
        self.assertEqual(self.client.call("echo", {"text": "a"}, headers={"Mcp-Param-Other": "x"}).text, "a")
