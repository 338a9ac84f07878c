"""What waits for a child to read it, against a pipe of limited room."""

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.processes._input import PIECE, Input


class Pipe:
    """A pipe as Twisted writes to one: a real descriptor before a buffer that is emptied on request."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        self.buffer = b""
        self.producer: Any = None
        self.losing = self.closed = False
        self.most = 0

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)

    def fileno(self) -> int:
        return self.writer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        assert not streaming
        self.producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.buffer += data
        self.most = max(self.most, len(self.buffer))

    def loseConnection(self) -> None:
        assert not self.buffer
        assert self.producer is None
        self.closed = True

    def take(self) -> bytes:
        """The child reads all that is there, and the reactor writes on."""
        taken = b""
        while True:
            try:
                taken += os.read(self.reader, 1 << 20)
            except BlockingIOError:
                if not self.buffer and self.producer is None:
                    return taken
            if self.buffer:
                self.buffer = self.buffer[os.write(self.writer, self.buffer[:65536]) :]
            if not self.buffer and self.producer is not None:
                self.producer.resumeProducing()


class InputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.drained = 0
        self.pipe = Pipe()
        self.addCleanup(self.pipe.close)
        self.input = Input(1_000_000, self.hear)
        self.input.attach(self.pipe)

    def hear(self) -> None:
        self.drained += 1

    def test_at_once(self) -> None:
        self.assertTrue(self.input.write(b"x"))
        self.assertEqual((self.input.unsent, self.pipe.take(), self.drained), (0, b"x", 0))

    def test_before_there_is_a_pipe(self) -> None:
        self.assertFalse(Input(100, self.hear).write(b"x"))
        nothing = Input(100, self.hear)
        nothing.close()
        self.assertEqual(nothing.unsent, 0)

    def test_bound(self) -> None:
        for _ in range(10):
            self.assertTrue(self.input.write(b"x" * 100_000))
        waiting = self.input.unsent
        self.assertGreater(waiting, 900_000)
        self.assertTrue(self.input.write(b"y" * (1_000_000 - waiting)))
        self.assertFalse(self.input.write(b"z"))
        self.assertFalse(self.drained)
        self.assertEqual(self.pipe.take(), b"x" * 1_000_000 + b"y" * (1_000_000 - waiting))
        self.assertEqual((self.input.unsent, self.drained), (0, 1))
        self.assertLess(self.pipe.most, PIECE + 100_000)

    def test_close_waits_for_what_was_written(self) -> None:
        self.input.write(b"x" * 500_000)
        self.input.close()
        self.input.close()
        self.assertFalse(self.pipe.closed)
        self.assertFalse(self.input.write(b"y"))
        self.assertEqual(len(self.pipe.take()), 500_000)
        self.assertEqual((self.pipe.closed, self.drained), (True, 0))

    def test_close_at_once(self) -> None:
        self.input.close()
        self.assertTrue(self.pipe.closed)

    def test_the_pipe_breaks(self) -> None:
        """It is found out by the pipe itself, which tells its producer."""
        os.close(self.pipe.reader)
        self.pipe.reader = os.open(os.devnull, os.O_RDONLY)
        self.assertTrue(self.input.write(b"x"))
        self.assertEqual(self.input.unsent, 1)
        self.pipe.producer.pauseProducing()
        self.pipe.producer.stopProducing()
        self.assertEqual(self.input.unsent, 0)
        self.assertFalse(self.input.write(b"x"))

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.integers(0, 300_000) | st.none(), max_size=12))
    def test_nothing_is_lost_or_swapped(self, story: list[int | None]) -> None:
        """Numbers are writes of so many bytes, None is a child that reads."""
        pipe, written, read = Pipe(), b"", b""
        sink = Input(1_000_000, lambda: None)
        sink.attach(pipe)
        for number, size in enumerate(story):
            if size is None:
                read += pipe.take()
                self.assertEqual(sink.unsent, 0)
            else:
                data = bytes([number]) * size
                before = sink.unsent
                if sink.write(data):
                    written += data
                else:
                    self.assertGreater(before + size, 1_000_000)
            self.assertLessEqual(sink.unsent, 1_000_000)
        read += pipe.take()
        pipe.close()
        self.assertEqual(read, written)
