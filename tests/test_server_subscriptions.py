"""subscriptions/listen: acknowledgement, what is heard, slow readers, and each way it ends."""

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import Change
from erlmcp.testing import Harness, MemoryExchange
from tests.scripted import Scripted, text

ID = "io.modelcontextprotocol/subscriptionId"
ALL = {
    "toolsListChanged": True,
    "promptsListChanged": True,
    "resourcesListChanged": True,
    "resourceSubscriptions": ["memo://a", "memo://nowhere"],
}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = Scripted(
            {"tool": lambda request: text("")}, resources={"memo://a": lambda request: text("")}
        )
        self.house = Harness(self.backend, subscriptions=3)

    def listen(self, wanted: Any, **options: Any) -> MemoryExchange:
        return self.house.send("subscriptions/listen", {"notifications": wanted}, **options)


class Opening(Case):
    def test_acknowledged_first(self) -> None:
        """The acknowledgement comes first and names what will be sent: what was asked for and is offered."""
        exchange = self.listen(ALL, id="sub")
        [message] = exchange.written
        self.assertEqual(message["method"], "notifications/subscriptions/acknowledged")
        self.assertEqual(message["params"]["_meta"], {ID: "sub"})
        self.assertEqual(
            message["params"]["notifications"],
            {
                "toolsListChanged": True,
                "promptsListChanged": True,
                "resourcesListChanged": True,
                "resourceSubscriptions": ["memo://a"],
            },
        )

    def test_nothing_asked(self) -> None:
        exchange = self.listen({})
        self.assertEqual(exchange.written[0]["params"]["notifications"], {})

    def test_nothing_offered(self) -> None:
        """Kinds that the server does not offer are left out."""
        self.house = Harness()
        exchange = self.listen(ALL)
        self.assertEqual(exchange.written[0]["params"]["notifications"], {})

    def test_refusals(self) -> None:
        """No filter, no stream, no room, too many resources: each is said."""
        self.assertEqual(self.house.send("subscriptions/listen").error["code"], -32602)
        exchange = self.listen({}, exchange=MemoryExchange(streaming=False))
        self.assertEqual((exchange.status, exchange.error["code"]), (406, -32602))
        exchange = self.listen({"resourceSubscriptions": [f"memo://{number}" for number in range(1001)]})
        self.assertEqual(exchange.error["code"], -32602)
        self.assertIn("1000", exchange.error["message"])
        for _ in range(3):
            self.listen({})
        exchange = self.listen({})
        self.assertEqual((exchange.status, exchange.error["code"]), (503, -31002))
        self.assertEqual(len(self.house.server.subscriptions), 3)


class Hearing(Case):
    def test_only_what_was_asked(self) -> None:
        tools = self.listen({"toolsListChanged": True}, id=1)
        resource = self.listen({"resourceSubscriptions": ["memo://a"]}, id=2)
        self.backend.change(Change("tools"))
        self.backend.change(Change("prompts"))
        self.backend.change(Change("updated", "memo://a"))
        self.backend.change(Change("updated", "memo://b"))
        self.assertEqual(
            tools.written[1:],
            [{"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": {ID: 1}}}],
        )
        self.assertEqual(
            resource.written[1:],
            [
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/resources/updated",
                    "params": {"_meta": {ID: 2}, "uri": "memo://a"},
                }
            ],
        )

    def test_several_on_one_stream(self) -> None:
        """Subscriptions that share a stream are told apart by their ids."""
        exchange = MemoryExchange()
        self.listen({"toolsListChanged": True}, id="a", exchange=exchange)
        self.listen({"toolsListChanged": True}, id="b", exchange=exchange)
        self.backend.change(Change("tools"))
        self.assertEqual([one["params"]["_meta"][ID] for one in exchange.written], ["a", "b", "a", "b"])

    def test_slow_reader(self) -> None:
        """Changes wait for a slow reader, each once, and are sent when it reads again."""
        exchange = self.listen(ALL)
        exchange.congested = True
        for _ in range(3):
            self.backend.change(Change("tools"))
            self.backend.change(Change("updated", "memo://a"))
        self.assertEqual(len(exchange.written), 1)
        self.house.clock.advance(1)
        self.assertEqual(len(exchange.written), 1)
        exchange.congested = False
        self.house.clock.advance(1)
        self.assertEqual(
            [one["method"] for one in exchange.written[1:]],
            ["notifications/tools/list_changed", "notifications/resources/updated"],
        )
        self.house.clock.advance(1)
        self.assertEqual(self.house.clock.getDelayedCalls(), [])


class Ending(Case):
    def test_by_the_client(self) -> None:
        """notifications/cancelled ends it without an answer."""
        exchange = self.listen(ALL, id=4)
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}}
        self.house.channel.received(msgspec.json.encode(message), exchange)
        self.backend.change(Change("tools"))
        self.backend.change(Change("updated", "memo://a"))
        self.assertEqual(len(exchange.written), 1)
        self.assertEqual(len(self.house.server.subscriptions), 0)

    def test_by_the_connection(self) -> None:
        one, other = self.listen(ALL), self.listen(ALL)
        self.house.channel.closed(one)
        self.backend.change(Change("updated", "memo://a"))
        self.assertEqual((len(one.written), len(other.written)), (1, 2))

    def test_by_the_server_on_a_stream(self) -> None:
        """The teardown is said by notifications/cancelled, then the result ends it; nothing late is lost."""
        exchange = self.listen(ALL, id=4)
        exchange.congested = True
        self.backend.change(Change("tools"))
        self.successResultOf(self.house.server.drain())
        self.assertEqual(
            [one.get("method") for one in exchange.written[1:]],
            ["notifications/tools/list_changed", "notifications/cancelled", None],
        )
        self.assertEqual(exchange.written[2]["params"]["requestId"], 4)
        self.assertEqual(exchange.result["resultType"], "complete")
        self.assertEqual(exchange.result["_meta"][ID], 4)
        self.backend.change(Change("tools"))
        self.assertEqual(len(exchange.written), 4)

    def test_by_the_server_on_http(self) -> None:
        """On HTTP the result ends the stream."""
        headers = {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"subscriptions/listen"}
        exchange = self.listen({}, exchange=MemoryExchange(headers))
        self.house.server.drain()
        self.assertEqual(len(exchange.written), 2)
        self.assertEqual(exchange.result["resultType"], "complete")
