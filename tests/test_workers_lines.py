"""Lines between processes: long values, descriptors, refusals, a peer that is gone or does not read."""

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from erlmcp.workers import Line, LineLost, Refused, adopt, pair
from erlmcp.workers import _line as line_module
from tests.lines import Post


class LineTests(SynchronousTestCase):
    """Two ends in memory."""

    def setUp(self) -> None:
        self.post = Post()
        self.one, self.other = Line(), Line()
        self.post.join(self.one, self.other)

    @given(st.integers(0, 5))
    @settings(max_examples=6, deadline=None)
    def test_values_of_any_length(self, pieces: int) -> None:
        for size in {max(0, pieces * line_module.PIECE + less) for less in (-1, 0, 1)}:
            body = os.urandom(size)
            self.other.asked = lambda what, given: given + what.encode()
            answer = self.one.ask("x", body)
            self.post.pump()
            self.assertEqual(self.successResultOf(answer), body + b"x")

    def test_told(self) -> None:
        heard: list[Any] = []
        self.other.told = lambda what, body: heard.append((what, body))
        self.one.tell("news", b"x" * 70_000)
        self.post.pump()
        self.assertEqual(heard, [("news", b"x" * 70_000)])

    def test_a_hearer_that_fails_does_not_end_the_line(self) -> None:
        self.other.told = lambda what, body: 1 / 0
        self.one.tell("news")
        self.post.pump()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.one.open)

    def test_refused(self) -> None:
        def refuse(what: str, body: bytes) -> bytes:
            raise Refused("not now")

        self.other.asked = refuse
        asked = self.one.ask("x")
        self.post.pump()
        self.assertEqual(str(self.failureResultOf(asked, Refused).value), "not now")

    def test_what_fails_is_refused_and_logged(self) -> None:
        self.other.asked = lambda what, body: 1 / 0  # type: ignore[return-value]
        asked = self.one.ask("x")
        self.post.pump()
        self.assertIn("ZeroDivisionError", str(self.failureResultOf(asked, Refused).value))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.one.open)

    def test_nobody_there(self) -> None:
        asked = self.one.ask("x")
        handed = self.one.hand("y", b"", self.descriptor())
        self.post.pump()
        self.failureResultOf(asked, Refused)
        self.failureResultOf(handed, Refused)

    def test_a_later_answer(self) -> None:
        later: Deferred[bytes] = Deferred()
        self.other.asked = lambda what, body: later
        asked = self.one.ask("x")
        self.post.pump()
        self.assertNoResult(asked)
        later.callback(b"y")
        self.post.pump()
        self.assertEqual(self.successResultOf(asked), b"y")

    def descriptor(self) -> int:
        reading, writing = os.pipe()
        os.close(writing)
        self.addCleanup(os.close, reading)
        return reading

    def test_descriptors(self) -> None:
        got: list[Any] = []
        self.other.handed = lambda what, body, descriptor: got.append((what, body, descriptor))
        given = self.descriptor()
        handed = self.one.hand("socket", b"name", given)
        self.post.pump()
        self.successResultOf(handed)
        ((what, body, descriptor),) = got
        self.assertEqual((what, body), ("socket", b"name"))
        self.assertEqual(os.fstat(descriptor).st_ino, os.fstat(given).st_ino)
        os.close(descriptor)

    def test_a_descriptor_without_its_message(self) -> None:
        """The other end has gone in the middle: it is closed."""
        descriptor = os.dup(self.descriptor())
        self.other.fileDescriptorReceived(descriptor)
        self.other.cut()
        self.post.pump()
        self.assertRaises(OSError, os.fstat, descriptor)

    def test_the_end(self) -> None:
        lost: list[str] = []
        self.one.lost = lambda: lost.append("one")
        self.other.lost = lambda: lost.append("other")
        self.other.asked = lambda what, body: Deferred()
        asked = self.one.ask("x")
        self.post.pump()
        self.other.end()
        self.post.pump()
        self.failureResultOf(asked, LineLost)
        self.assertEqual(sorted(lost), ["one", "other"])
        self.failureResultOf(self.one.ask("x"), LineLost)
        self.one.tell("x")
        for line in (self.one, self.other):
            line.cut()
            line.end()

    def test_a_peer_that_does_not_read(self) -> None:
        self.patch(line_module, "MOST_WAITING", 1000)
        self.one.tell("x", b"y" * 2000)
        self.assertFalse(self.one.congested)
        self.one.pauseProducing()
        self.assertTrue(self.one.congested)
        self.one.tell("x", b"y" * 900)
        self.one.resumeProducing()
        self.one.pauseProducing()
        self.one.tell("x", b"y" * 900)
        self.post.pump()
        self.flushLoggedErrors()
        self.assertTrue(self.one.open)
        self.one.tell("x", b"y" * 101)
        self.post.pump()
        self.assertFalse(self.one.open)
        self.one.stopProducing()
        self.flushLoggedErrors()


class SocketTests(TestCase):
    """The same over a real pair of sockets."""

    async def test_a_pair(self) -> None:
        one, other = Line(), Line()
        other.asked = lambda what, body: body * 2
        got: list[int] = []
        other.handed = lambda what, body, descriptor: got.append(descriptor)
        gone: Deferred[None] = Deferred()
        other.lost = lambda: gone.callback(None)
        for line, descriptor in zip((one, other), pair(), strict=True):
            adopt(reactor, descriptor, line)
        self.assertEqual(await one.ask("x", b"y" * 300_000), b"y" * 600_000)
        reading, writing = os.pipe()
        await one.hand("pipe", b"", reading)
        os.write(writing, b"hello")
        self.assertEqual(os.read(got[0], 5), b"hello")
        for descriptor in (reading, writing, got[0]):
            os.close(descriptor)
        one.end()
        await gone
