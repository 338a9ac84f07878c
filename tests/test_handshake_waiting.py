"""Handshake clients whose identity is only known after a wait: no request gets lost meanwhile."""

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from erlmcp.catalog import Catalog
from erlmcp.interfaces import ANONYMOUS, IGate, Request
from erlmcp.testing import permissive_gates
from tests.interaction.handshake import ABLE, Handshake, each, known


@implementer(IGate)
class Slow:
    """Says whose a request is when the test lets it.

    Attributes:
        waits: a Deferred for each request that waits; None while nothing has to.
    """

    def __init__(self) -> None:
        self.waits: list[Deferred[None]] | None = None

    def check(self, request: Request) -> Deferred[None] | None:
        request.principal = ANONYMOUS
        if self.waits is None:
            return None
        self.waits.append(Deferred())
        return self.waits[-1]


@each()
class Waiting(Handshake):
    def setUp(self) -> None:
        super().setUp()
        backends = (self.ornate.provider, self.stage.provider)
        self.slow = Slow()
        gates = msgspec.structs.replace(permissive_gates(Catalog(backends)), authenticate=self.slow)
        self.world = self.serve(*backends, gates=gates)
        self.client: Any = self.client_class(self.world)
        self.client.greet(self.revision, known(ABLE, self.revision))
        self.slow.waits = []

    def admit(self) -> None:
        """Let the oldest request that waits go on."""
        assert self.slow.waits is not None
        self.slow.waits.pop(0).callback(None)
        self.client.pump()

    def test_answered(self) -> None:
        sent = self.client.tool("echo", {"text": "a"})
        self.assertFalse(sent.answered)
        self.admit()
        self.assertEqual(sent.text, "a")

    def test_order(self) -> None:
        """A later request may be answered before an earlier one."""
        first, second = self.client.tool("echo", {"text": "1"}), self.client.tool("echo", {"text": "2"})
        assert self.slow.waits is not None
        self.slow.waits.reverse()
        self.admit()
        self.assertEqual((first.answered, second.text), (False, "2"))
        self.admit()
        self.assertEqual(first.text, "1")

    def test_cancelled_after_it(self) -> None:
        """What has waited is found by its id like everything else."""
        sent = self.client.tool("wait", id=5)
        self.admit()
        self.assertEqual(len(self.stage.waits), 1)
        self.slow.waits = None
        self.client.tell("notifications/cancelled", {"requestId": 5})
        self.assertEqual(self.stage.cancelled, 1)
        self.assertFalse(sent.answered)
        self.assertEqual(self.world.house.server.in_flight, 0)

    def test_the_same_id_after_it(self) -> None:
        sent = self.client.tool("wait", id=5)
        self.admit()
        self.slow.waits = None
        again = self.client.tool("echo", {"text": "a"}, id=5)
        self.assertEqual(again.messages[0]["error"]["code"], -32600)
        self.stage.go_on("it")
        self.assertEqual(sent.messages[-1]["result"]["content"][0]["text"], "waited for it")

    def test_deleted_after_it(self) -> None:
        if self.client.on_http:
            self.client.tool("wait")
            self.admit()
            self.slow.waits = None
            self.client.end()
            self.assertEqual((self.stage.cancelled, self.world.house.server.in_flight), (1, 0))

    def test_asked(self) -> None:
        sent = self.client.tool("places")
        self.admit()
        self.client.respond(self.client.question(), {"roots": []})
        self.admit()
        self.assertEqual(sent.result["content"], [{"type": "text", "text": ""}])
        self.assertEqual(self.world.house.server.in_flight, 0)

    def test_gone_meanwhile(self) -> None:
        """A connection that ends while it waits: on a stream all of it ends; over HTTP the call is done."""
        self.client.tool("echo", {"text": "a"})
        self.client.leave()
        if self.client.on_http:
            self.admit()
        self.assertEqual(self.stage.seen, ["a"] if self.client.on_http else [])
        self.assertEqual(self.world.house.server.in_flight, 0)
