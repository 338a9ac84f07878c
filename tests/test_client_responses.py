"""What a client answers to its server's questions, where the way there is bad: a call waits for it."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import WireError
from erlmcp.client._conversation import Conversation
from erlmcp.client._wire import Outgoing
from erlmcp.timing import Wheel


class Wire:
    """Keeps what it is given to send."""

    peer = "the server"

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, outgoing: Outgoing) -> None:
        self.sent.append(outgoing)

    def close(self) -> Deferred[None]:
        return succeed(None)


class ResponseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock, tick=0.1)
        self.addCleanup(self.wheel.stop)
        self.wire = Wire()
        audience: Any = None
        wire: Any = self.wire
        self.conversation = Conversation(wire, self.wheel, self.clock, audience)

    def lose(self, **why: Any) -> int:
        """The one that was sent last is lost; how often anything was sent, a good while later."""
        self.conversation.failed(self.wire.sent[-1], WireError("gone", **why))
        for _ in range(100):
            self.clock.advance(0.1)
        return len(self.wire.sent)

    def test_sent_again(self) -> None:
        self.conversation.answer(7, {"action": "accept"})
        self.assertEqual(self.lose(), 2)
        self.assertIs(self.wire.sent[1], self.wire.sent[0])
        self.assertEqual(self.lose(status=503), 3)

    def test_refusals_too(self) -> None:
        self.conversation.refuse(7, -32603, "no")
        self.assertEqual(self.lose(unsent=True), 2)

    def test_not_for_ever(self) -> None:
        self.conversation.answer(7, {})
        for number in (2, 3, 4, 5, 5):
            self.assertEqual(self.lose(), number)

    def test_not_what_the_server_refuses(self) -> None:
        self.conversation.answer(7, {})
        self.assertEqual(self.lose(status=400), 1)
        self.assertEqual(self.lose(session_lost=True), 1)

    def test_not_once_it_is_over(self) -> None:
        self.conversation.answer(7, {})
        self.conversation.failed(self.wire.sent[0], WireError("gone"))
        self.conversation.close()
        self.clock.advance(10)
        self.assertEqual(len(self.wire.sent), 1)

    def test_not_a_notification(self) -> None:
        self.conversation.notify("notifications/initialized")
        self.assertEqual(self.lose(), 1)
