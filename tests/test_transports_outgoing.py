"""What a connection has written: straight to a socket, or through a transport that says full and empty."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.transports import Outgoing
from erlmcp.transports._outgoing import PIECE


class Writer(Outgoing):
    """Counts how often it hears that the peer has taken something."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0

    def drained(self) -> None:
        self.heard += 1


class Wire:
    """A socket of limited room with Twisted's transport above it: a buffer, a producer, an orderly close."""

    full_at = 64 * 1024

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.out = b""  # in the socket, or beyond
        self.buffer = b""  # in the transport
        self.producer: Any = None
        self.streaming = False
        self.told = False
        self.losing = False
        self.closed = False
        self.aborted = False
        self.broken = False

    def send(self, data: bytes) -> int:
        if self.broken:
            raise BrokenPipeError
        if not self.room:
            raise BlockingIOError
        took = data[: self.room]
        self.out += took
        self.room -= len(took)
        return len(took)

    def write(self, data: bytes) -> None:
        self.buffer += data
        if self.streaming and len(self.buffer) > self.full_at:
            self.told = True
            self.producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer, self.streaming = producer, streaming
        if self.broken:
            producer.stopProducing()
        elif not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        assert self.producer is not None
        self.producer = None
        self.streaming = False

    def resumeProducing(self) -> None:
        pass

    def loseConnection(self) -> None:
        self.losing = True
        self.flow(0)

    def abortConnection(self) -> None:
        self.aborted = True

    def flow(self, room: int) -> None:
        """The peer makes room; the reactor writes until the room or the bytes are used up."""
        self.room += room
        while True:
            if self.room and self.buffer:
                took = self.buffer[: self.room]
                self.buffer = self.buffer[len(took) :]
                self.out += took
                self.room -= len(took)
            if self.buffer:
                return
            if self.producer is not None and (self.told or not self.streaming):
                self.told = False
                self.producer.resumeProducing()
                if self.buffer:
                    continue
            if self.losing and self.producer is None:
                self.closed = True
            return


def writer(wire: Wire, *, direct: bool) -> Writer:
    made = Writer()
    made.transport = wire
    if direct:
        made.begin(wire.send)
    else:
        made.begin()
    return made


class Direct(SynchronousTestCase):
    def test_what_fits_is_sent_at_once(self) -> None:
        wire = Wire(room=100)
        one = writer(wire, direct=True)
        one.send(b"abc")
        self.assertEqual((wire.out, wire.buffer, wire.producer), (b"abc", b"", None))
        self.assertEqual((one.unsent, one.heard), (0, 0))

    def test_what_does_not_fit_waits_in_order(self) -> None:
        wire = Wire(room=2)
        one = writer(wire, direct=True)
        one.send(b"abc")
        one.send(b"def")
        self.assertEqual((wire.out, one.unsent, one.heard), (b"ab", 4, 0))
        wire.flow(1)
        self.assertEqual((wire.out, one.unsent, one.heard), (b"abc", 3, 1))
        wire.flow(100)
        self.assertEqual((wire.out, one.unsent, one.heard), (b"abcdef", 0, 2))
        self.assertIsNone(wire.producer)
        one.send(b"g")
        self.assertEqual(wire.out, b"abcdefg")

    def test_large_queues_are_handed_on_in_pieces(self) -> None:
        wire = Wire()
        one = writer(wire, direct=True)
        for _ in range(10):
            one.send(b"x" * PIECE)
        self.assertEqual(len(wire.buffer), PIECE)
        self.assertEqual(one.unsent, 10 * PIECE)

    def test_a_close_waits_for_what_was_sent(self) -> None:
        wire = Wire(room=1)
        one = writer(wire, direct=True)
        one.send(b"abc")
        one.lose()
        one.send(b"dropped")
        one.lose()
        self.assertFalse(wire.losing)
        wire.flow(10)
        self.assertEqual((wire.out, wire.closed), (b"abc", True))

    def test_a_close_with_nothing_to_wait_for(self) -> None:
        wire = Wire(room=10)
        one = writer(wire, direct=True)
        one.send(b"abc")
        one.lose()
        self.assertTrue(wire.closed)

    def test_a_broken_socket_is_the_transports_to_find(self) -> None:
        wire = Wire(room=10)
        one = writer(wire, direct=True)
        wire.broken = True
        one.send(b"abc")
        one.send(b"def")
        self.assertEqual(wire.out, b"")

    def test_a_cut_waits_for_nothing(self) -> None:
        wire = Wire(room=1)
        one = writer(wire, direct=True)
        one.send(b"abc")
        one.cut()
        one.send(b"dropped")
        wire.flow(10)
        self.assertTrue(wire.aborted)
        self.assertFalse(wire.losing)


class Through(SynchronousTestCase):
    def test_up_to_full_the_transport_has_it(self) -> None:
        wire = Wire()
        one = writer(wire, direct=False)
        one.send(b"x" * Wire.full_at)
        self.assertEqual(one.unsent, 0)
        one.send(b"y")
        one.send(b"z" * 5)
        self.assertEqual((len(wire.buffer), one.unsent), (Wire.full_at + 1, 6))
        wire.flow(10**9)
        self.assertEqual(wire.out, b"x" * Wire.full_at + b"y" + b"z" * 5)
        self.assertEqual((one.unsent, one.heard), (0, 1))

    def test_a_close_waits_for_what_was_sent(self) -> None:
        wire = Wire()
        one = writer(wire, direct=False)
        one.send(b"x" * 2 * PIECE)
        one.send(b"y" * 2 * PIECE)
        one.lose()
        self.assertFalse(wire.losing)
        wire.flow(2 * PIECE)
        self.assertFalse(wire.losing)
        wire.flow(2 * PIECE)
        self.assertEqual(wire.out, b"x" * 2 * PIECE + b"y" * 2 * PIECE)
        self.assertTrue(wire.closed)


class AnyUse(SynchronousTestCase):
    @given(
        st.lists(
            st.tuples(st.sampled_from(["send", "flow"]), st.integers(1, 300_000)), min_size=1, max_size=30
        ),
        st.booleans(),
        st.integers(0, 100_000),
    )
    @settings(deadline=None, max_examples=100)
    def test_all_that_is_sent_arrives_once_in_order_before_the_close(
        self, steps: list[tuple[str, int]], direct: bool, room: int
    ) -> None:
        wire = Wire(room)
        one = writer(wire, direct=direct)
        sent = b""
        for number, (what, size) in enumerate(steps):
            if what == "send":
                data = bytes([number]) * size
                sent += data
                one.send(data)
            else:
                wire.flow(size)
            waiting = len(sent) - len(wire.out)
            if direct:
                self.assertEqual(one.unsent > 0, waiting > 0)
                self.assertGreaterEqual(one.unsent, waiting)
            else:
                self.assertGreaterEqual(one.unsent + Wire.full_at, waiting)
        one.lose()
        while not wire.closed:
            wire.flow(100_000)
        self.assertEqual(wire.out, sent)
