"""What is kept of streams for clients that come back, and how little that may be."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import Outcome, Request
from erlmcp.server._events import MOST_BYTES, MOST_EVENTS, EventStream, Room
from erlmcp.testing import Harness, MemoryExchange
from tests.scripted import Scripted, text

MESSAGE = b'"' + b"x" * 998 + b'"'


def stream(room: Room, name: str = "s") -> EventStream:
    return EventStream(room, name, primed=True)


def replayed(one: EventStream, after: int = 0) -> list[str]:
    """The ids that a client gets which comes back."""
    exchange = MemoryExchange({})
    one.resume(exchange, after)
    return exchange.events


class RoomTests(SynchronousTestCase):
    def test_one_stream(self) -> None:
        """Its oldest events go first, by number and by size; one that is too large alone stays."""
        room = Room()
        one = stream(room)
        for _ in range(MOST_EVENTS + 5):
            one.send(MESSAGE)
        self.assertEqual((len(replayed(one)), replayed(one)[0]), (MOST_EVENTS, "s.6"))
        self.assertEqual(room.bytes, MOST_EVENTS * 1000)
        one.send(b'"' + b"x" * MOST_BYTES + b'"')
        self.assertEqual(replayed(one), [f"s.{MOST_EVENTS + 6}"])
        self.assertEqual(room.bytes, MOST_BYTES + 2)

    def test_all_together(self) -> None:
        """Who has been silent longest forgets; who speaks goes on."""
        room = Room(3000)
        first, second, third = (stream(room, name) for name in "abc")
        for one in (first, second, first, third):
            one.send(MESSAGE)
        self.assertEqual([len(replayed(one)) for one in (first, second, third)], [2, 0, 1])
        second.finish(MESSAGE)
        self.assertEqual([len(replayed(one)) for one in (first, second, third)], [0, 1, 1])
        self.assertEqual((room.bytes, first.lost, second.lost), (2000, False, False))
        first.send(MESSAGE)
        self.assertEqual(replayed(first), ["a.3"])
        for one in (first, second, third, second):
            one.forget()
        self.assertEqual((room.bytes, first.lost, second.lost), (0, False, True))

    def test_more_than_there_is_room_for(self) -> None:
        """It is sent, and not kept."""
        room = Room(500)
        one = stream(room)
        heard = MemoryExchange({})
        one.begin(heard)
        one.finish(MESSAGE)
        self.assertEqual((len(heard.written), room.bytes, one.lost), (1, 0, True))


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wait: Deferred[str] = Deferred()

        async def tell(request: Request) -> Outcome:
            assert request.conversation is not None
            request.conversation.progress(1, None, None)
            return text("x" * 900)

        self.house = Harness(Scripted({"tell": tell}), session_events=10_000)
        exchange = self.house.initialize(exchange=MemoryExchange({}))
        [((_, token),)] = exchange.reply_headers
        self.headers = {b"mcp-session-id": token}

    def tell(self) -> MemoryExchange:
        params: dict[str, Any] = {"name": "tell", "arguments": {}, "_meta": {"progressToken": 1}}
        return self.house.legacy("tools/call", params, exchange=MemoryExchange(self.headers))

    def resume(self, event: str) -> MemoryExchange:
        exchange = MemoryExchange({**self.headers, b"last-event-id": event.encode()})
        self.house.channel.opened(exchange)
        return exchange

    def test_forgotten_answers(self) -> None:
        """The latest answers can be had again; of one that has been forgotten it is said that it is gone."""
        calls = [self.tell() for _ in range(30)]
        self.assertEqual(self.resume(calls[0].events[0]).status, 400)
        again = self.resume(calls[-1].events[0])
        self.assertEqual(again.written[-1]["id"], calls[-1].written[-1]["id"])

    def test_the_end_of_a_session(self) -> None:
        room = self.house.server.sessions._room
        self.tell()
        self.assertGreater(room.bytes, 900)
        self.house.channel.deleted(MemoryExchange(self.headers))
        self.assertEqual(room.bytes, 0)

    def test_idle(self) -> None:
        room = self.house.server.sessions._room
        self.tell()
        self.house.clock.pump([30.0] * 70)
        self.assertEqual(room.bytes, 0)
