"""Lines out of chunks."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.jsonrpc import LineFramer, Overlong

STREAMS = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"aaaa", b"\r\r\n", b"a" * 9]), st.binary(max_size=12)
    ),
    max_size=30,
).map(b"".join)


def by_the_book(data: bytes, max_line: int) -> tuple[list[bytes | Overlong], bytes | None]:
    """The same, all at once and without care for memory."""
    *whole, rest = data.split(b"\n")
    lines: list[bytes | Overlong] = []
    for raw in whole:
        line = raw[:-1] if raw.endswith(b"\r") else raw
        if len(line) > max_line:
            lines.append(Overlong(len(raw)))
        elif line:
            lines.append(line)
    last = rest[:-1] if rest.endswith(b"\r") else rest
    return lines, last if 0 < len(last) <= max_line else None


class LineFramerTests(SynchronousTestCase):
    """Cutting."""

    def test_lines(self) -> None:
        """LF and CR LF end lines, empty ones are skipped, order stays."""
        framer = LineFramer(10)
        self.assertEqual(framer.feed(b"a\nbb\r\n\n\r\nc"), [b"a", b"bb"])
        self.assertEqual(framer.pending, 1)
        self.assertEqual(framer.feed(b"d\n"), [b"cd"])
        self.assertEqual(framer.pending, 0)
        self.assertEqual(framer.feed(b"a\rb\n"), [b"a\rb"])
        self.assertEqual(framer.feed(b""), [])
        self.assertIsNone(framer.finish())

    def test_last_line(self) -> None:
        """An unterminated last line is given at the end, and the framer is as new."""
        framer = LineFramer(10)
        framer.feed(b"a\nlast\r")
        self.assertEqual(framer.finish(), b"last")
        self.assertEqual(framer.pending, 0)
        self.assertIsNone(framer.finish())
        framer.feed(b"\r")
        self.assertIsNone(framer.finish())

    def test_overlong(self) -> None:
        """A line that is too long is never held, and is reported in its place with its size."""
        framer = LineFramer(4)
        self.assertEqual(
            framer.feed(b"ok\nabcde\nok\nabcd\r\nabcde\r\n"),
            [b"ok", Overlong(5), b"ok", b"abcd", Overlong(6)],
        )
        self.assertEqual(framer.feed(b"ab"), [])
        self.assertEqual((framer.pending, framer.skipping), (2, False))
        self.assertEqual(framer.feed(b"cde"), [])
        self.assertEqual((framer.pending, framer.skipping), (0, True))
        for _ in range(1000):
            self.assertEqual(framer.feed(b"x" * 1000), [])
            self.assertEqual(framer.pending, 0)
        self.assertEqual(framer.feed(b"\nok\n"), [Overlong(1_000_005), b"ok"])
        self.assertFalse(framer.skipping)

    def test_carriage_return_at_the_bound(self) -> None:
        """One byte more is held for a CR that may end the line; if it does not, the line is too long."""
        framer = LineFramer(4)
        framer.feed(b"abcd\r")
        self.assertEqual((framer.pending, framer.skipping), (5, False))
        self.assertEqual(framer.feed(b"\n"), [b"abcd"])
        framer.feed(b"abcd\r")
        self.assertEqual(framer.feed(b"e\n"), [Overlong(6)])
        framer.feed(b"abcd\r")
        framer.feed(b"\r")
        self.assertTrue(framer.skipping)
        self.assertEqual(framer.feed(b"\n"), [Overlong(6)])
        framer.feed(b"abcd")
        self.assertEqual(framer.feed(b"e\n"), [Overlong(5)])

    def test_overlong_last_line(self) -> None:
        """An overlong line that never ends is dropped with its stream."""
        framer = LineFramer(4)
        framer.feed(b"abcdefg")
        self.assertIsNone(framer.finish())
        self.assertEqual(framer.feed(b"ok\n"), [b"ok"])

    def test_impossible_bound(self) -> None:
        """A line has at least one byte."""
        self.assertIn("at least 1", str(self.assertRaises(ValueError, LineFramer, 0)))

    @settings(deadline=None, max_examples=300)
    @given(data=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=12), max_line=st.integers(1, 12))
    def test_chunking_does_not_matter(self, data: bytes, cuts: list[int], max_line: int) -> None:
        """Any chunking gives the lines of one chunk, and holds no more than its bound."""
        lines, last = by_the_book(data, max_line)
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for chunks in (
            [data],
            [data[start:end] for start, end in pairwise(edges)],
            [data[n : n + 1] for n in range(len(data))],
        ):
            framer = LineFramer(max_line)
            got = []
            for chunk in chunks:
                got += framer.feed(chunk)
                self.assertLessEqual(framer.pending, max_line + 1)
            self.assertEqual(got, lines)
            self.assertEqual(framer.finish(), last)
