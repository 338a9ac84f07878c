"""Standard error: what is kept, what is reported, and how little of a flood."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.processes._words import BURST, HELD, LINE, RATE, TAIL_LINES, Words, printable


class WordsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.reported: list[tuple[str, int]] = []
        self.words = Words(self.clock.seconds, lambda line, left_out: self.reported.append((line, left_out)))

    def test_lines_however_they_come(self) -> None:
        for piece in (b"one\ntw", b"o\r\n\n", b"thr", b"ee"):
            self.words.feed(piece)
        self.assertEqual(self.reported, [("one", 0), ("two", 0)])
        self.assertEqual(self.words.tail, "one\ntwo\nthree", "what is not finished counts, too")
        self.words.finish()
        self.assertEqual(self.reported[2:], [("three", 0)])
        self.words.finish()
        self.assertEqual(len(self.reported), 3)

    def test_the_last_lines_are_kept(self) -> None:
        self.words.feed(b"".join(b"%d\n" % number for number in range(100)) + b"end")
        self.assertEqual(self.words.tail.split("\n"), [*map(str, range(100 - TAIL_LINES + 1, 100)), "end"])

    def test_a_flood_is_left_out_and_counted(self) -> None:
        self.words.feed(b"x\n" * (BURST + 50))
        self.assertEqual(len(self.reported), BURST)
        self.clock.advance(1 / RATE)
        self.words.feed(b"y\nz\n")
        self.assertEqual(self.reported[BURST:], [("y", 50)])
        self.words.finish()
        self.assertEqual(self.reported[BURST + 1 :], [("(no more)", 1)])

    def test_the_rate_comes_back(self) -> None:
        self.words.feed(b"x\n" * BURST)
        self.clock.advance(3600)
        self.words.feed(b"x\n" * (BURST + 1))
        self.assertEqual(len(self.reported), 2 * BURST)

    def test_a_line_without_end_is_bounded(self) -> None:
        for _ in range(100):
            self.words.feed(b"a" * HELD)
        self.assertEqual(self.words.tail, "a" * LINE + "…")
        self.words.feed(b"\n")
        self.assertEqual(self.reported, [("a" * LINE + "…", 0)])

    def test_nothing_forges_a_log_or_moves_a_cursor(self) -> None:
        self.assertEqual(
            printable(b"a\x1b[2Jb\rc\x00d\te\xff"), "a\\x1b[2Jb\\rc\\x00d\te\N{REPLACEMENT CHARACTER}"
        )
        self.assertEqual(
            printable("right\N{RIGHT-TO-LEFT OVERRIDE}left\N{LINE SEPARATOR}".encode()), "right\\u202eleft"
        )

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=200)))
    def test_any_bytes_in_any_pieces(self, pieces: list[bytes]) -> None:
        def told(pieces: list[bytes]) -> tuple[list[str], str]:
            lines: list[str] = []
            words = Words(lambda: 0.0, lambda line, _: lines.append(line))
            for piece in pieces:
                words.feed(piece)
            tail = words.tail
            words.finish()
            return lines, tail

        lines, tail = told(pieces)
        self.assertEqual((lines, tail), told([b"".join(pieces)]))
        for line in (*lines, *tail.split("\n")):
            self.assertLessEqual(len(line), LINE + 1)
            self.assertTrue(line.replace("\t", "").isprintable())
