"""What a client listens to, where the server cannot take it up just now: it is asked again until it does."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import Backoff, Change, Client, WireError
from erlmcp.protocol import errors
from erlmcp.testing import StubServer

HANDSHAKE = "2025-11-25"


class SubscribingTests(SynchronousTestCase):
    def listen(self, stub: StubServer) -> None:
        """Listen to one resource, over a way like HTTP: what is lost on it is one message, not the connection."""
        self.clock = Clock()
        self.heard: list[Change] = []
        client = Client(stub.target, self.clock, backoff=Backoff(first=1.0, jitter=0.0))
        self.addCleanup(lambda: self.successResultOf(client.close()))
        self.subscription = client.listen(self.heard.append, uris=["a:b"])
        self.wait(0.0)

    def wait(self, seconds: float) -> None:
        for _ in range(11):
            self.clock.advance(seconds / 10)

    def handshake(self) -> StubServer:
        stub = StubServer(HANDSHAKE, {"resources": {"subscribe": True}}, linked=True)
        stub.on("server/discover", errors.method_not_found("server/discover"))
        return stub

    def test_asked_again(self) -> None:
        for trouble in (WireError("lost"), errors.overloaded(), errors.shutting_down()):
            stub = self.handshake()
            stub.on("resources/subscribe", trouble, {})
            self.listen(stub)
            self.assertNoResult(self.subscription.acknowledged)
            self.wait(2.0)
            self.assertEqual(len(stub.asked("resources/subscribe")), 2, trouble)
            self.successResultOf(self.subscription.acknowledged)
            # Nobody knows what was missed meanwhile.
            self.assertEqual(self.heard, [Change("resource", "a:b")])

    def test_not_what_would_be_answered_the_same(self) -> None:
        stub = self.handshake()
        stub.on("resources/subscribe", errors.resource_not_found("a:b"))
        self.listen(stub)
        self.wait(60.0)
        self.assertEqual(len(stub.asked("resources/subscribe")), 1)
        self.successResultOf(self.subscription.acknowledged)

    def test_not_once_closed(self) -> None:
        stub = self.handshake()
        stub.on("resources/subscribe", WireError("lost"))
        stub.on("resources/unsubscribe", WireError("lost"))
        self.listen(stub)
        self.subscription.close()
        self.wait(60.0)
        self.assertEqual(len(stub.asked("resources/subscribe")), 1)

    def test_closed_meanwhile(self) -> None:
        stub = self.handshake()
        stub.on("resources/subscribe", None)
        self.listen(stub)
        self.subscription.close()
        stub.wire.answer(stub.requests[-2]["id"], {})
        self.assertEqual(self.heard, [])

    def test_modern_too(self) -> None:
        stub = StubServer(capabilities={"resources": {"subscribe": True}}, linked=True)
        stub.on("subscriptions/listen", errors.shutting_down(), None)
        self.listen(stub)
        self.assertNoResult(self.subscription.acknowledged)
        self.wait(2.0)
        self.assertEqual(len(stub.asked("subscriptions/listen")), 2)
