"""Many callers at one upstream: each gets what is its own, on a session that is its own where that matters."""

from typing import Any

from twisted.internet.defer import Deferred

from erlmcp.client import Answers, Client, accept
from erlmcp.protocol import MODERN
from tests.gateway_stub import ANNE, BERT, HANDSHAKE, StubCase


class AcrossTests(StubCase):
    """Nobody gets what is another's."""

    def mark(self, params: dict[str, Any]) -> dict[str, Any]:
        return self.said(str(params["arguments"]["who"]))

    def test_each_gets_its_own(self) -> None:
        """Many callers at once, answers in any order: each answer has its asker's mark."""
        for version in (MODERN, HANDSHAKE):
            for linked in (False, True):
                self.begin(version, linked=linked)
                self.stub.on("tools/call", None)
                calls: list[tuple[str, Deferred[Any]]] = []
                clients: dict[str, Client] = {}
                for number in range(60):
                    who = f"{('anne', 'bert')[number % 2]}-{number}"
                    self.act_as((ANNE, BERT)[number % 2])
                    client = clients.setdefault(who[:4], self.stage.client(MODERN))
                    calls.append((who, client.call("far.pay", {"who": who})))
                    self.stage.clock.advance(0.1)
                for wire in self.stub.wires:
                    for number, outgoing in sorted(wire.open_requests.items(), key=lambda one: -int(one[0])):
                        if outgoing.method == "tools/call":
                            [asked] = [
                                one["params"]
                                for one in self.stub.requests
                                if one["method"] == "tools/call"
                                and b'"' + one["params"]["arguments"]["who"].encode() + b'"' in outgoing.body
                            ]
                            wire.answer(number, self.mark(asked))
                for who, calling in calls:
                    self.assertEqual(self.text(calling), who, version)

    def test_sessions(self) -> None:
        """By principal, by capabilities, and by the client's own session; a modern upstream has none."""
        able = Answers(elicit=lambda _: accept({}))
        for version, wanted in ((MODERN, 1), (HANDSHAKE, 5)):
            stage = self.begin(version)
            self.stub.on("tools/call", self.mark)
            modern, asked = stage.client(MODERN), stage.client(MODERN, answers=able)
            for principal, client in (
                (ANNE, modern),
                (BERT, modern),
                (ANNE, asked),
                (ANNE, stage.client(HANDSHAKE)),
                (ANNE, modern),
                (BERT, modern),
            ):
                self.act_as(principal)
                self.assertEqual(self.text(client.call("far.pay", {"who": principal.id})), principal.id)
            self.assertEqual(len(self.stub.asked("initialize")), wanted - 1 if version == HANDSHAKE else 0)
            self.assertEqual(stage.upstream.leases.count, wanted)

    def test_only_what_the_client_declared(self) -> None:
        able = Answers(elicit=lambda _: accept({}))
        for version in (MODERN, HANDSHAKE):
            stage = self.begin(version)
            self.stub.on("tools/call", self.said("x"))
            self.text(self.call(client=stage.client(MODERN)))
            self.text(self.call(client=stage.client(MODERN, answers=able)))
            if version == MODERN:
                declared = [
                    one["_meta"]["io.modelcontextprotocol/clientCapabilities"]
                    for one in self.stub.asked("tools/call")
                ]
            else:
                declared = [{}, *(one["capabilities"] for one in self.stub.asked("initialize"))]
            self.assertEqual([sorted(one) for one in declared], [[], ["elicitation"]])

    def test_reads_are_shared_within_a_context(self) -> None:
        stage = self.begin()
        stage.access.contexts = True
        contents = self.page(contents=[{"uri": "note://a", "text": "A"}])
        contents["cacheScope"] = "private"
        self.stub.on("resources/read", contents)
        client = stage.client(MODERN)
        for principal, asked in ((ANNE, 1), (ANNE, 1), (BERT, 2), (BERT, 2)):
            self.act_as(principal)
            self.successResultOf(stage.client(MODERN).read("far+note://a"))
            self.stub.assert_asked("resources/read", asked)
        del client

    def test_notes_go_to_whose_call_they_are_of(self) -> None:
        """Log messages that cannot be attributed are dropped; those that can be reach one client."""
        stage = self.begin(HANDSHAKE)
        self.stub.on("tools/call", None)
        heard: list[Any] = []
        client = stage.client(MODERN, linked=True)
        first = client.call("far.pay", {}, on_log=heard.append, level="info")
        stage.clock.advance(0.1)
        wire = self.stub.wire
        note = {
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": "info", "data": "one"},
        }
        wire.say(note)
        second = client.call("far.pay", {})
        wire.say({**note, "params": {"level": "info", "data": "whose?"}})
        self.assertEqual([one.data for one in heard], ["one"])
        for number in list(wire.open_requests):
            wire.answer(number, self.said("x"))
        self.text(first), self.text(second)

    def test_levels(self) -> None:
        """The most verbose one is set, each call hears its own; a new session is told anew."""
        stage = self.begin(HANDSHAKE)
        self.stub.on("tools/call", self.said("x"))
        client = stage.client(MODERN)
        for level in ("warning", "error", "debug", "info"):
            self.text(client.call("far.pay", {}, on_log=lambda _: None, level=level))
        self.assertEqual([one["level"] for one in self.stub.asked("logging/setLevel")], ["warning", "debug"])
        self.stub.wires[-1].cut()
        stage.clock.pump([0.5] * 10)
        self.text(client.call("far.pay", {}, on_log=lambda _: None, level="warning"))
        self.stub.assert_asked("logging/setLevel", 2, level="warning")

    def test_what_changed_may_be_told_on_the_calls_own_stream(self) -> None:
        stage = self.begin(HANDSHAKE, linked=True)
        self.stub.on("tools/call", None)
        calling = self.call()
        wire = next(
            one
            for one in self.stub.wires
            if any(o.method == "tools/call" for o in one.open_requests.values())
        )
        [number] = [number for number, one in wire.open_requests.items() if one.method == "tools/call"]
        self.stub.requests.clear()
        wire.say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}, about=number)
        wire.answer(number, self.said("x"))
        self.text(calling)
        stage.clock.pump([0.5] * 10)
        self.assertTrue(self.stub.asked("tools/list"))
