"""Which era a message belongs to, on the channel itself: rules a to h of the design, on lines and over HTTP."""

import json
from typing import Any

from tests.http_wire import Answer, parse
from tests.interaction.clients import INFO, PREFIX, encode, envelope, request_bytes
from tests.interaction.handshake import Handshake, OldOverHttp, OldOverLines, Wire, each

BOTH = (OldOverLines, OldOverHttp)
PING = {"jsonrpc": "2.0", "id": 77, "method": "ping"}
LIST = {"jsonrpc": "2.0", "id": 77, "method": "tools/list"}


class Rules(Handshake):
    def fresh(self) -> Any:
        """A client that has said nothing."""
        client: Any = self.client_class(self.world)
        client._agreed = self.revision
        return client

    def bad(self, sent: Any, code: int = -32602, status: int = 400) -> dict[str, Any]:
        return self.refused_old(sent, code, status)


@each(*BOTH)
class Envelopes(Rules):
    """Rule a."""

    def send(
        self, client: Any, method: str, meta: Any, version: str = "2026-07-28", params: Any = None
    ) -> Any:
        client._ids += 1
        client._modern.add(client._ids)
        message = {
            "jsonrpc": "2.0",
            "id": client._ids,
            "method": method,
            "params": {**(params or {}), "_meta": meta},
        }
        return client.send(message, headers={"MCP-Protocol-Version": version, "Mcp-Method": method})

    def test_any_key_makes_a_request_modern(self) -> None:
        """With or without a session; what is missing is said first."""
        for client in (self.client, self.fresh()):
            whole = envelope()
            for key in whole:
                sent = self.send(client, "tools/list", {key: whole[key]})
                self.bad(sent)
                self.assertIn("_meta", sent.error["message"])
            self.assertEqual(self.send(client, "tools/list", whole).result["resultType"], "complete")

    def test_initialize_too(self) -> None:
        params = {"protocolVersion": self.revision, "capabilities": {}, "clientInfo": INFO}
        sent = self.send(self.fresh(), "initialize", envelope(), params=params)
        self.bad(sent, -32601, 404)
        key = PREFIX + "clientInfo"
        self.bad(self.send(self.fresh(), "initialize", {key: INFO}, params=params))

    def test_an_envelope_of_a_handshake_revision(self) -> None:
        meta = envelope(**{PREFIX + "protocolVersion": self.revision})
        sent = self.send(self.client, "tools/list", meta, self.revision)
        error = self.bad(sent, -32022)
        self.assertEqual(error["data"], {"supported": ["2026-07-28"], "requested": self.revision})

    def test_methods_of_the_handshake_era(self) -> None:
        for method in ("ping", "logging/setLevel", "resources/subscribe"):
            self.bad(self.send(self.client, method, envelope()), -32601, 404)

    def test_other_keys_make_nothing_modern(self) -> None:
        for meta in ({}, {"progressToken": 1}, {PREFIX + "logLevel": "debug"}, {"com.example/x": {}}):
            self.assertNotIn("resultType", self.client.ask("tools/list", {"_meta": meta}).result)

    def test_both_eras_on_one_stream(self) -> None:
        """Each request is answered in its own era, the handshake's state untouched by the other."""
        for _ in range(2):
            old = self.client.tool("echo", {"text": "a"})
            new = self.client.modern("tools/call", {"name": "echo", "arguments": {"text": "a"}})
            self.assertNotIn("resultType", old.result)
            self.assertEqual(new.result["resultType"], "complete")
            read = {"uri": "memo://nothing"}
            self.assertEqual(self.client.ask("resources/read", read).code, -32002)
            self.assertEqual(self.client.modern("resources/read", read).code, -32602)
        self.client.ask("logging/setLevel", {"level": "debug"})
        talked = self.client.modern("tools/call", {"name": "talk", "arguments": {}})
        self.assertEqual(talked.notifications, [])

    def test_asked_in_its_own_era(self) -> None:
        """The modern client is answered ``input_required``, the other is asked."""
        able = {"roots": {}}
        new = self.client.modern("tools/call", {"name": "places", "arguments": {}}, capabilities=able)
        self.assertEqual(new.result["resultType"], "input_required")
        self.assertEqual(self.client.questions, [])
        self.client.tool("places")
        self.assertEqual(len(self.client.questions), 1)


@each(*BOTH)
class Initializing(Rules):
    """Rule b."""

    def test_whatever_the_header_says(self) -> None:
        for version in (None, "2026-07-28", "2024-11-05", "1999-01-01", "x"):
            client = self.fresh()
            params = {"protocolVersion": self.revision, "capabilities": {}, "clientInfo": INFO}
            sent = client.ask("initialize", params, headers={"MCP-Protocol-Version": version})
            self.assertEqual(sent.result["protocolVersion"], self.revision)

    def test_twice(self) -> None:
        """A connection has one session; over HTTP each ``initialize`` begins another."""
        params = {"protocolVersion": self.revision, "capabilities": {}, "clientInfo": INFO}
        sent = self.client.ask("initialize", params)
        if self.client.on_http:
            self.assertNotEqual(sent.http.fields["mcp-session-id"], self.client.session)
        else:
            self.assertEqual(sent.code, -32600)
            self.assertEqual(self.client.ask("ping").result, {})


@each(*BOTH)
class ModernMethods(Rules):
    """Rule c."""

    def test_without_an_envelope(self) -> None:
        for client in (self.client, self.fresh()):
            for method in ("server/discover", "subscriptions/listen"):
                self.bad(client.ask(method, valid=False))

    def test_a_header_that_names_no_handshake_revision(self) -> None:
        if self.client.on_http:
            for client in (self.client, self.fresh()):
                for version in ("2026-07-28", "1999-01-01", "", "2025-11-25, 2025-11-25"):
                    for method in ("tools/list", "ping"):
                        self.bad(client.ask(method, headers={"MCP-Protocol-Version": version}))


@each(*BOTH)
class Notifications(Rules):
    """Rule d."""

    def test_cancelled_hits_either_era_on_a_stream(self) -> None:
        if not self.client.on_http:
            old = self.client.tool("wait", id="old")
            new = self.client.modern("tools/call", {"name": "wait", "arguments": {}})
            for sent in (old, new):
                self.client.tell("notifications/cancelled", {"requestId": sent.id})
                self.assertFalse(sent.answered)
            self.assertEqual(self.stage.cancelled, 2)

    def test_under_a_modern_header(self) -> None:
        """202, and no effect on what a session has in flight."""
        if self.client.on_http:
            sent = self.client.tool("wait", id=5)
            told = self.client.tell(
                "notifications/cancelled", {"requestId": 5}, headers={"MCP-Protocol-Version": "2026-07-28"}
            )
            self.assertEqual((told.http.status, told.http.body, self.stage.cancelled), (202, b"", 0))
            self.stage.go_on("it")
            self.assertEqual(sent.text, "waited for it")

    def test_without_a_session(self) -> None:
        """On a stream there is nobody to tell; over HTTP the status says so."""
        client = self.fresh()
        told = client.tell("notifications/initialized")
        if client.on_http:
            self.bad(told)
        else:
            self.assertEqual(client.inbox, [])

    def test_of_a_lost_session(self) -> None:
        if self.client.on_http:
            told = self.client.tell("notifications/initialized", headers={"Mcp-Session-Id": "x"})
            self.assertEqual(told.http.status, 404)

    def test_under_a_header_that_names_nothing(self) -> None:
        if self.client.on_http:
            told = self.client.tell(
                "notifications/initialized", headers={"MCP-Protocol-Version": "1999-01-01"}
            )
            self.assertEqual(told.http.status, 400)


@each(*BOTH)
class Responses(Rules):
    """Rule e."""

    def test_without_a_session(self) -> None:
        client = self.fresh()
        told = client.send({"jsonrpc": "2.0", "id": 1, "result": {}})
        if client.on_http:
            self.assertEqual(told.http.status, 400)
            self.assertNotIn("id", told.messages[0])
        else:
            self.assertEqual(client.inbox, [])

    def test_of_a_lost_session(self) -> None:
        if self.client.on_http:
            told = self.client.send(
                {"jsonrpc": "2.0", "id": 1, "result": {}}, headers={"Mcp-Session-Id": "x"}
            )
            self.assertEqual(told.http.status, 404)


@each(*BOTH)
class Arrays(Rules):
    """Rule f; what batches do is in `tests.test_handshake_batches`."""

    def refused_whole(self, client: Any, message: Any, **options: Any) -> None:
        sent = client.send(message, **options)
        [answer] = sent.messages
        self.assertEqual(answer["error"]["code"], -32600)
        self.assertNotIn("id", answer)
        if client.on_http:
            self.assertEqual(sent.http.status, 400)

    def test_where_they_are_not(self) -> None:
        """One error for all of it."""
        self.refused_whole(self.fresh(), [PING])
        if self.revision != "2025-03-26":
            for message in (
                [PING],
                [PING, LIST],
                [],
                [{"jsonrpc": "2.0", "method": "notifications/initialized"}],
            ):
                self.refused_whole(self.client, message)
        if self.client.on_http:
            self.refused_whole(self.client, [PING], headers={"Mcp-Session-Id": None})

    def test_what_may_not_be_in_one(self) -> None:
        params = {"protocolVersion": self.revision, "capabilities": {}, "clientInfo": INFO}
        initialize = {"jsonrpc": "2.0", "id": 5, "method": "initialize", "params": params}
        modern = {**LIST, "params": {"_meta": envelope()}}
        for message in ([], [initialize], [PING, initialize], [PING, modern]):
            self.refused_whole(self.client, message)


@each(OldOverHttp)
class Bare(Rules):
    """Rule g: GET and DELETE."""

    def test_statuses(self) -> None:
        for method in ("GET", "DELETE"):
            for version, status in (
                (self.revision, 400),
                ("2025-11-25", 400),
                ("2026-07-28", 405),
                ("x", 405),
                (None, 405),
            ):
                sent = self.client.bare(method, {"Mcp-Session-Id": None, "MCP-Protocol-Version": version})
                self.assertEqual(sent.http.status, status, (method, version))
                if status == 405:
                    self.assertIn("POST", sent.http.fields["allow"])
        self.assertEqual(self.client.bare("GET", {"Mcp-Session-Id": "x"}).http.status, 404)
        self.assertEqual(self.client.bare("DELETE", {"Mcp-Session-Id": "x"}).http.status, 404)

    def test_under_an_unknown_version(self) -> None:
        for method in ("GET", "DELETE"):
            sent = self.client.bare(method, {"MCP-Protocol-Version": "1999-01-01"})
            self.assertEqual(sent.http.status, 400, method)
        self.assertEqual(self.client.ask("ping").result, {})

    def test_other_methods(self) -> None:
        for method in ("PUT", "PATCH"):
            self.assertEqual(self.client.bare(method).http.status, 405)

    def test_a_session_header_on_a_modern_post(self) -> None:
        """Ignored, right or wrong, and never echoed."""
        for session in (self.client.session, "x", ""):
            sent = self.client.modern(
                "tools/call",
                {"name": "echo", "arguments": {"text": "a"}},
                headers={"Mcp-Session-Id": session},
            )
            self.assertEqual(sent.result["resultType"], "complete")
            self.assertNotIn("mcp-session-id", sent.http.fields)


@each(*BOTH)
class TheRest(Rules):
    """Rule h."""

    def test_without_a_session(self) -> None:
        client = self.fresh()
        if client.on_http:
            self.bad(client.ask("ping"))
        else:
            self.assertEqual(client.ask("ping").result, {})
        for method, params in (
            ("tools/list", None),
            ("tools/call", {"name": "echo", "arguments": {"text": "a"}}),
            ("logging/setLevel", {"level": "info"}),
        ):
            sent = client.ask(method, params)
            self.bad(sent)
            self.assertIn("initialize", sent.error["message"])
        self.bad(client.ask("server/dance", valid=False))
        self.assertEqual(self.stage.seen, [])

    def test_the_version_of_the_session_wins(self) -> None:
        if self.client.on_http:
            for version in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", None):
                sent = self.client.ask("tools/list", headers={"MCP-Protocol-Version": version})
                self.assertEqual(
                    [name for name in ("icons",) if name in str(sent.result)],
                    ["icons"] if self.since("2025-11-25") else [],
                )


class OneConnection(Handshake):
    """One HTTP connection that carries clients of both eras and of several sessions in turn."""

    client_class = OldOverHttp

    def post(self, wire: Wire, message: Any, **fields: str) -> Answer:
        return wire.post(message, {name.replace("_", "-"): value for name, value in fields.items()})

    def test_in_turn(self) -> None:
        wire = Wire(self.world)
        second = self.client_class(self.world)
        second.greet("2025-03-26")  # type: ignore[attr-defined]
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "perhaps", "arguments": {}},
        }
        modern = {**call, "params": {**call["params"], "_meta": envelope()}}  # type: ignore[dict-item]
        for _ in range(3):
            newest = self.post(
                wire, call, Mcp_Session_Id=self.client.session, MCP_Protocol_Version="2025-11-25"
            )
            self.assertIn(b'"structuredContent":{"result":{"a":1}}', newest.body)
            older = self.post(wire, call, Mcp_Session_Id=second.session)  # type: ignore[attr-defined]
            self.assertNotIn(b"structuredContent", older.body)
            now = self.post(
                wire, modern, MCP_Protocol_Version="2026-07-28", Mcp_Method="tools/call", Mcp_Name="perhaps"
            )
            self.assertIn(b'"structuredContent":{"a":1}', now.body)
            self.assertEqual({one.status for one in (newest, older, now)}, {200})
            self.assertEqual(self.post(wire, call).status, 400)
            self.assertEqual(self.post(wire, call, Mcp_Session_Id="x").status, 404)

    def test_a_stream_and_then_an_answer(self) -> None:
        """A connection whose stream has ended carries the next request."""
        wire = Wire(self.world)
        fields = {"Mcp-Session-Id": self.client.session, "MCP-Protocol-Version": "2025-11-25"}
        params = {"name": "count", "arguments": {}, "_meta": {"progressToken": 1}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        for _ in range(2):
            self.assertEqual(wire.post(call, fields).fields["content-type"], "text/event-stream")
            self.assertEqual(wire.post({**PING, "id": 2}, fields).fields["content-type"], "application/json")

    def test_pipelined(self) -> None:
        """Two requests at once are answered in their order."""
        wire = Wire(self.world)
        fields = {"Mcp-Session-Id": self.client.session}
        bodies = [encode({**PING, "id": number}) for number in (1, 2)]
        wire.stream.receive(b"".join(request_bytes(body, fields) for body in bodies))
        self.world.turn()
        wire.stream.take()
        found = [json.loads(one.body)["id"] for one in parse(wire.stream.taken)]
        self.assertEqual(found, [1, 2])
