"""Sessions over HTTP: ids, 400 and 404, whose they are, what outlives them; and that none hears of another's."""

import re
from typing import Any

from erlmcp.interfaces import Principal
from erlmcp.protocol import KeyRing
from tests.interaction.clients import INFO, World
from tests.interaction.handshake import ABLE, Handshake, OldOverHttp, each, known

OTHER = Principal(id="mallory", kind="key")


@each(OldOverHttp)
class Ids(Handshake):
    def test_visible_ascii(self) -> None:
        """ "The session ID MUST only contain visible ASCII characters", and each is another."""
        ids = {self.connect().session for _ in range(20)} | {self.client.session}
        self.assertEqual(len(ids), 21)
        for one in ids:
            self.assertRegex(one, re.compile(r"\A[\x21-\x7e]{32,1024}\Z"))

    def test_given_once(self) -> None:
        """With the answer to ``initialize``, and with nothing else."""
        for sent in (self.client.ask("ping"), self.client.tool("count", meta={"progressToken": 1})):
            self.assertNotIn("mcp-session-id", sent.http.fields)

    def test_not_with_an_error(self) -> None:
        params = {"protocolVersion": self.revision, "capabilities": {}}
        sent = self.client.ask("initialize", params, valid=False)
        self.refused_old(sent, -32602)
        self.assertNotIn("mcp-session-id", sent.http.fields)

    def test_to_a_client_that_takes_streams_alone(self) -> None:
        """The id is in the head of a stream, too."""
        client: Any = self.client_class(self.world)
        client._agreed = self.revision
        params = {"protocolVersion": self.revision, "capabilities": {}, "clientInfo": INFO}
        sent = client.ask("initialize", params, headers={"Accept": "text/event-stream"})
        self.assertEqual(sent.result["protocolVersion"], self.revision)
        client.session = sent.http.fields["mcp-session-id"]
        self.assertEqual(client.ask("ping").result, {})

    def test_lost(self) -> None:
        """404 for every message, so that the client begins anew: requests, notifications, responses, batches."""
        good = self.client.session
        wrong = (
            "x",
            good[:-1],
            good + "A",
            good.swapcase(),
            "é",
            " ",
            good[:40] + "~" + good[41:],
            "A" * 1025,
        )
        for session in wrong:
            headers = {"Mcp-Session-Id": session}
            self.assertEqual(self.client.ask("tools/list", headers=headers).http.status, 404, session)
        headers = {"Mcp-Session-Id": "x"}
        for message in (
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 1, "result": {}},
            [{"jsonrpc": "2.0", "id": 1, "method": "ping"}],
        ):
            self.assertEqual(self.client.send(message, headers=headers).http.status, 404)
        self.assertEqual(self.client.listen().http.status, 200)
        self.assertEqual(self.client.bare("GET", headers).http.status, 404)

    def test_answered_with_the_id_of_the_request(self) -> None:
        sent = self.client.ask("tools/list", headers={"Mcp-Session-Id": "x"}, id="mine")
        self.assertEqual(sent.response["id"], "mine")

    def test_expired(self) -> None:
        self.again(self.stage.provider, session_lifetime=60)
        self.world.turn(59)
        self.assertEqual(self.client.ask("ping").http.status, 200)
        self.world.turn(2)
        self.assertEqual(self.client.ask("ping").http.status, 404)

    def test_deleted(self) -> None:
        self.client.ask("logging/setLevel", {"level": "error"})
        stream = self.client.listen()
        self.client.tool("wait")
        ended = self.client.end()
        self.assertEqual((ended.http.status, ended.http.body), (204, b""))
        self.assertEqual(self.stage.cancelled, 1)
        self.assertEqual(self.client._open, [], "the streams have ended")
        self.assertEqual(stream.messages, [])
        for sent in (self.client.ask("ping"), self.client.listen(), self.client.end()):
            self.assertEqual(sent.http.status, 404)
        self.assertEqual((len(self.world.house.server.sessions), self.world.house.server.in_flight), (0, 0))

    def test_deleted_by_nobody_else(self) -> None:
        other = self.connect()
        other.end()
        self.assertEqual(self.client.ask("ping").http.status, 200)

    def test_another_process(self) -> None:
        """The same keys are enough; what is stored goes with the engine."""
        ring = KeyRing([KeyRing.generate()])
        first = World(self.ornate.provider, self.stage.provider, key_ring=ring)
        client: Any = self.client_class(first)
        client.greet(self.revision, known(ABLE, self.revision))
        client.ask("logging/setLevel", {"level": "error"})
        client.ask("resources/subscribe", {"uri": "memo://text"})
        second = World(self.ornate.provider, self.stage.provider, key_ring=ring, engine=first.house.engine)
        client.world = second
        self.assertEqual(len(client.tool("talk").noted("message")), 4)
        client.listen()
        self.ornate.provider.notify_updated("memo://text")
        self.assertEqual(len(client.told("resources/updated")), 1)
        self.assertEqual(client.tool("echo", {"text": "a"}).text, "a")
        client.tool("places")
        self.assertEqual(client.question()["method"], "roots/list")
        self.assertEqual(client.end().http.status, 204)
        client.world = first
        self.assertEqual(client.ask("ping").http.status, 404)

    def test_too_many(self) -> None:
        self.again(self.stage.provider, sessions_per_hour=1)
        client: Any = self.client_class(self.world)
        client._agreed = self.revision
        params = {"protocolVersion": self.revision, "capabilities": {}, "clientInfo": INFO}
        sent = client.ask("initialize", params)
        self.assertEqual(sent.http.status, 429)
        self.assertIn("retry-after", sent.http.fields)


@each(OldOverHttp)
class Whose(Handshake):
    """A session id is no authentication: it opens for the principal alone that it was made for."""

    def become(self, principal: Principal) -> None:
        self.world.house.gates.authenticate.principal = principal

    def test_everything_of_another_is_lost(self) -> None:
        sent = self.client.tool("places")
        question = self.client.question()
        call = self.client.tool("wait", id=50)
        stream = self.client.listen()
        mine = self.world.house.gates.authenticate.principal
        self.become(OTHER)
        for found in (
            self.client.ask("ping"),
            self.client.tell("notifications/cancelled", {"requestId": 50}),
            self.client.respond(question, {"roots": []}),
            self.client.listen(),
            self.client.end(),
        ):
            self.assertEqual(found.http.status, 404)
        self.assertEqual(self.stage.cancelled, 0)
        self.assertFalse(sent.answered)
        self.become(mine)
        self.client.respond(question, {"roots": []})
        self.assertTrue(sent.answered)
        self.stage.go_on("me")
        self.assertEqual(call.text, "waited for me")
        self.assertEqual(stream.messages, [])

    def test_limits_count_for_each(self) -> None:
        self.again(self.stage.provider, sessions_per_hour=1)
        self.become(OTHER)
        self.assertEqual(self.connect().ask("ping").result, {})


@each()
class Apart(Handshake):
    """Several sessions with the same request ids, tokens and subscriptions never get each other's messages."""

    def test_calls(self) -> None:
        clients = [self.client, self.connect(), self.connect()]
        calls = [client.tool("wait", id=7, meta={"progressToken": "t"}) for client in clients]
        for number in range(3):
            self.stage.go_on(number)
        for number, (client, call) in enumerate(zip(clients, calls, strict=True)):
            self.assertEqual(call.text, f"waited for {number}")
            self.assertEqual(len(client.told("progress")), 1)
            self.assertEqual(len(client.told("message")), 1)

    def test_questions(self) -> None:
        clients = [self.client, self.connect()]
        calls = [client.tool("places", id=7) for client in clients]
        for number, client in reversed(list(enumerate(clients))):
            client.pump()
            self.assertEqual(len(client.questions), 1)
            client.respond(client.question(), {"roots": [{"uri": f"file:///{number}"}]})
        self.assertEqual([call.text for call in calls], ["file:///0 None", "file:///1 None"])

    def test_cancellation(self) -> None:
        other = self.connect()
        mine, theirs = self.client.tool("wait", id=7), other.tool("wait", id=7)
        other.tell("notifications/cancelled", {"requestId": 7})
        self.stage.waits.pop(1)
        self.stage.go_on("me")
        self.assertEqual(mine.text, "waited for me")
        self.assertFalse(theirs.answered)

    def test_what_a_session_learns_of_another_revision(self) -> None:
        """Definitions are cut for each: the first to ask does not decide for the others."""
        found = {}
        for revision in ("2025-11-25", "2024-11-05", "2025-06-18", "2025-03-26", "2025-11-25"):
            client: Any = self.client_class(self.world)
            client.greet(revision)
            tools = {one["name"]: one for one in client.ask("tools/list").result["tools"]}
            found[revision] = len(tools["everything"])
        self.assertEqual(found, {"2024-11-05": 3, "2025-03-26": 4, "2025-06-18": 6, "2025-11-25": 7})
