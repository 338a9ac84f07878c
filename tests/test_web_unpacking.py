"""The short way through the HTTP/2 client, for answers like those before: it must lead where h2's own way leads."""

import struct
from typing import Any
from unittest import mock

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.web._h2 import STREAM_WINDOW, ClientConnection
from erlmcp.web._unpacking import Unpacker
from tests.test_web_streams import TwoCase, frame, nothing
from tests.web_memory import GET, HEAD, Memory, Told
from tests.web_servers import TwoFactory

OK = b"\x88"
THREE = b"\x88\x0f\x0d\x013"  # content-length: 3
TYPED = b"\x88\x0f\x10\x10application/json"
BLOCKS = (
    OK,
    THREE,
    TYPED,
    b"\x8d",  # 404
    b"\x08\x03100",
    b"\x08\x03999",
    b"\x88\x00\x01A\x01b",  # a name that is none
    b"\x88\x0f\x0d\x013\x0f\x0d\x014",  # two lengths
    b"\x88\x0f\x0d\x01x",
    b"\x88\x40\x03x-a\x01b",  # into the table
    b"\x88\xbe",  # out of it
    b"\xff",
    b"",
)
DATA, HEADERS, PRIORITY, RESET, PING, WINDOW, CONTINUATION = 0, 1, 2, 3, 6, 8, 9
END, END_HEADERS, PADDED = 1, 4, 8


def heads() -> st.SearchStrategy[tuple[int, int, bytes]]:
    flags = st.sampled_from((END_HEADERS, END_HEADERS, END_HEADERS | END, 0, END, END_HEADERS | PADDED))
    return st.tuples(st.just(HEADERS), flags, st.sampled_from(BLOCKS[:4]) | st.sampled_from(BLOCKS))


def parts() -> st.SearchStrategy[tuple[int, int, bytes]]:
    bodies = st.sampled_from((b"abc", b"abc", b"", b"a", b"bc", b"abcd", b"\0ab", b"\x02a"))
    return st.tuples(st.just(DATA), st.sampled_from((END, END, 0, PADDED, PADDED | END)), bodies)


def others() -> st.SearchStrategy[tuple[int, int, bytes]]:
    numbers = st.sampled_from([struct.pack(">L", number) for number in (0, 1, 7, 2**31 - 1)])
    kinds = st.sampled_from((RESET, WINDOW, PRIORITY, PING, 77))
    continued = st.tuples(
        st.just(CONTINUATION), st.sampled_from((0, END_HEADERS)), st.sampled_from(BLOCKS[:4])
    )
    return st.tuples(kinds, st.just(0), numbers) | continued


FRAMES = st.lists(
    st.tuples(st.sampled_from((5, 7, 9, 9, 1, 11)), heads() | parts() | heads() | parts() | others()),
    max_size=12,
)


class SameTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=250)
    @given(FRAMES, st.lists(st.integers(1, 60), max_size=6))
    def test_as_with_h2_alone(self, frames: list[tuple[int, Any]], cuts: list[int]) -> None:
        """Whatever a server says, however it is cut: the same as when h2 looks at every frame."""
        short = self.outcome(frames, cuts)
        with (
            mock.patch.object(ClientConnection, "_take_head", return_value=False),
            mock.patch.object(ClientConnection, "_take_data", return_value=False),
        ):
            self.assertEqual(self.outcome(frames, cuts), short)

    def outcome(self, frames: list[tuple[int, Any]], cuts: list[int]) -> list[Any]:
        memory = Memory(http2="prior_knowledge")
        told = [memory.send(GET)]
        spoken = memory.server(memory.only(), TwoFactory(nothing))
        spoken.pump()
        told += [memory.send(HEAD if number == 7 else GET) for number in (3, 5, 7, 9)]
        spoken.pump()
        # What is known from now on.
        spoken.line.say(
            frame(HEADERS, END_HEADERS, 1, THREE)
            + frame(DATA, END, 1, b"abc")
            + frame(HEADERS, END_HEADERS | END, 3, OK)
        )
        self.assertEqual([one.ends for one in told[:2]], [["done"], ["done"]])
        data = b"".join(frame(kind, flags, stream, body) for stream, (kind, flags, body) in frames)
        for cut in cuts:
            if data[:cut]:
                spoken.line.say(data[:cut])
            data = data[cut:]
        if data:
            spoken.line.say(data)
        spoken.line.end(ConnectionLost())
        aborted = spoken.line.transport.aborted
        # Which rule was broken may be said otherwise, for what comes on a stream that has ended.
        ends = [[str(end).partition("HTTP/2")[0] for end in one.ends] for one in told]
        return [aborted, *((one.status, one.headers, one.text) for one in told), *ends]


class ShortTests(TwoCase):
    def known(self) -> tuple[Any, Told]:
        """A connection that knows two heads, and a request on stream 3 that waits."""
        spoken = self.quiet()
        spoken.line.say(frame(HEADERS, END_HEADERS, 1, THREE) + frame(DATA, END, 1, b"abc"))
        told = self.memory.send(GET)
        spoken.pump()
        return spoken, told

    def test_h2_sees_nothing_of_it(self) -> None:
        spoken, told = self.known()
        h2 = self.memory.pool.connections[0].streams._h2  # type: ignore[attr-defined]
        with mock.patch.object(h2, "receive_data", side_effect=AssertionError):
            spoken.line.say(frame(HEADERS, END_HEADERS, 3, THREE))
            spoken.line.say(frame(DATA, 0, 3, b"ab") + frame(DATA, END, 3, b"c"))
        self.assertEqual((told.status, told.text, told.ends), (200, b"abc", ["done"]))
        self.assertEqual(told.headers, [(b"content-length", b"3")])
        self.assertNotIn(3, h2.streams)
        # Nobody's list is another's.
        told.headers.clear()
        other = self.memory.send(GET)
        spoken.pump()
        spoken.line.say(frame(HEADERS, END_HEADERS, 5, THREE))
        self.assertEqual(other.headers, [(b"content-length", b"3")])

    def test_lengths_that_do_not_fit(self) -> None:
        for body in (b"ab", b"abcd"):
            spoken, told = self.known()
            spoken.line.say(frame(HEADERS, END_HEADERS, 3, THREE) + frame(DATA, END, 3, body))
            self.assertIn("breaks the rules of HTTP/2", str(told.error))
            self.assertEqual(told.text, b"")

    def test_more_than_the_window(self) -> None:
        spoken, told = self.known()
        spoken.line.say(frame(HEADERS, END_HEADERS, 3, OK))
        told.ongoing.pause()
        for _ in range(STREAM_WINDOW // 2**14):
            spoken.line.say(frame(DATA, 0, 3, bytes(2**14)))
        self.assertEqual((len(told.text), told.ends), (STREAM_WINDOW, []))
        spoken.line.taken()
        spoken.line.say(frame(DATA, 0, 3, b"x"))
        self.assertIn("Flow control window", str(told.error))
        self.assertIn(struct.pack(">L", ErrorCodes.FLOW_CONTROL_ERROR), spoken.line.taken())

    def test_closed_by_who_is_told(self) -> None:
        spoken, told = self.known()
        told.when_head = self.memory.pool.close
        spoken.line.say(
            frame(HEADERS, END_HEADERS, 3, THREE) + frame(DATA, END, 3, b"abc") + frame(77, 0, 0, b"")
        )
        self.assertIn("the pool is closed", str(told.error))
        self.assertEqual(told.text, b"")

    def test_aborted_by_who_is_told(self) -> None:
        spoken, told = self.known()
        told.when_head = lambda: told.ongoing.abort()
        spoken.line.say(frame(HEADERS, END_HEADERS, 3, THREE) + frame(DATA, END, 3, b"abc"))
        self.assertEqual((told.text, told.ends), (b"", []))
        other = self.memory.send(GET)
        spoken.pump()
        spoken.line.say(frame(HEADERS, END_HEADERS | END, 5, OK))
        self.assertEqual(other.ends, ["done"])


class UnpackerTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("200", "204", "404", "100")),
                st.lists(
                    st.tuples(
                        st.sampled_from(("x-a", "x-b", "date")),
                        st.sampled_from(("1", "22", "")),
                        st.booleans(),
                    ),
                    max_size=3,
                ),
            ),
            max_size=12,
        ),
        st.sampled_from((0, 60, 4096)),
    )
    def test_as_hpack_does(self, heads: list[Any], table: int) -> None:
        encoder, plain, ours = Encoder(), Decoder(), Unpacker(65536)
        encoder.header_table_size = table
        for status, fields in heads:
            block = encoder.encode([(":status", status), *fields])
            for _ in range(2):
                expected = [(bytes(name), bytes(value)) for name, value in plain.decode(block, raw=True)]
                known = ours.known.get(block)
                if known is not None:
                    self.assertEqual([(b":status", b"%d" % known.status), *known.headers], expected)
                self.assertEqual(list(ours.decode(block, raw=True)), expected)

    def test_what_is_kept(self) -> None:
        ours = Unpacker(65536)
        for block in BLOCKS[:9]:
            ours.decode(block, raw=True)
        self.assertEqual(list(ours.known), [OK, THREE, TYPED, b"\x8d"])
        self.assertEqual([head.length for head in ours.known.values()], [None, 3, None, None])
        ours.decode(BLOCKS[9], raw=True)
        self.assertEqual(ours.known, {})
        ours.decode(b"\x88\xbe", raw=True)
        self.assertEqual(list(ours.known), [b"\x88\xbe"])
        # Another size of the table is another table.
        ours.decode(b"\x20\x88", raw=True)
        self.assertEqual(ours.known, {})

    def test_bounds(self) -> None:
        ours = Unpacker(65536)
        for number in range(200):
            ours.decode(b"\x88\x0f\x0d\x03%03d" % number, raw=True)
            self.assertLessEqual(len(ours.known), 64)
        ours.known.clear()
        ours.decode(b"\x88" + b"\x00\x01a\x7e" + b"x" * 126, raw=True)
        self.assertEqual(len(ours.known), 1)
        ours.decode(b"\x88" + (b"\x00\x01a\x7e" + b"x" * 126) * 8, raw=True)
        self.assertEqual(len(ours.known), 1)
        ours.decode(b"\x88\x0f\x0d\x13" + b"9" * 19, raw=True)
        self.assertEqual(len(ours.known), 1)
