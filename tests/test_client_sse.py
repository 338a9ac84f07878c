"""Event streams as they come in: whole events from any cut of the bytes, and never more than the bound."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client._sse import Event, EventStream, SseError


def read(*pieces: bytes, limit: int = 1000) -> tuple[list[Event], EventStream]:
    stream = EventStream(limit)
    return [event for piece in pieces for event in stream.feed(piece)], stream


class Events(SynchronousTestCase):
    def test_one(self) -> None:
        events, stream = read(b'event: message\nid: 7\ndata: {"a":1}\n\n')
        self.assertEqual([(b"message", b'{"a":1}')], events)
        self.assertEqual((b"7", None), (stream.last_id, stream.retry))

    def test_line_ends(self) -> None:
        for end in (b"\n", b"\r", b"\r\n"):
            text = end.join((b"data: a", b"data: b", b"", b"event: x", b"data:c", b"", b""))
            self.assertEqual([(b"message", b"a\nb"), (b"x", b"c")], read(text)[0])

    def test_cr_lf_in_two_pieces(self) -> None:
        self.assertEqual([(b"message", b"a")], read(b"data: a\r", b"\n\r", b"\n")[0])
        self.assertEqual([(b"message", b"a")], read(b"data: a\r", b"\n", b"\r")[0])

    def test_pieces_of_two_bytes_take_no_more_than_they_are(self) -> None:
        stream = EventStream(300_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        stream.feed(b"data: ")
        for turn in range(100_000):
            stream.feed(bytes((97 + turn % 26, 97)))
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)
        [(_, data)] = stream.feed(b"\n\n")
        self.assertEqual((len(data), data[:4]), (200_000, b"aaba"))

    def test_byte_order_mark(self) -> None:
        self.assertEqual([(b"message", b"a")], read(b"\xef\xbb", b"\xbfdata: a\n\n")[0])
        self.assertEqual([], read(b"\n\xef\xbb\xbfdata: a\n\n")[0])

    def test_event_without_data_says_its_id_only(self) -> None:
        for data in (b"data:\n", b"data: \n", b""):
            events, stream = read(b"id: e1\nretry: 500\n" + data + b"\n")
            self.assertEqual([], events)
            self.assertEqual((b"e1", 500), (stream.last_id, stream.retry))

    def test_id_of_an_event_that_was_cut_off_does_not_count(self) -> None:
        events, stream = read(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
        self.assertEqual([(b"message", b"a")], events)
        self.assertEqual(b"1", stream.last_id)

    def test_id_stays_until_another_comes(self) -> None:
        _, stream = read(b"id: 1\ndata: a\n\ndata: b\n\n")
        self.assertEqual(b"1", stream.last_id)
        _, stream = read(b"id: 1\ndata: a\n\nid\ndata: b\n\n")
        self.assertEqual(b"", stream.last_id)

    def test_a_stream_that_goes_on_keeps_its_id(self) -> None:
        stream = EventStream(100, b"9")
        stream.feed(b"data: x\n\n")
        self.assertEqual(b"9", stream.last_id)

    def test_ids_that_cannot_go_back(self) -> None:
        _, stream = read(b"id: 1\n\nid: a\0b\n\nid: " + b"x" * 5000 + b"\n\n", limit=10_000)
        self.assertEqual(b"1", stream.last_id)

    def test_retry_must_be_digits(self) -> None:
        for value in (b"1.5", b"-1", b"", b"1e3", b"9" * 10, "٣".encode()):
            self.assertIsNone(read(b"retry: " + value + b"\n\n")[1].retry)

    def test_comments_and_unknown_fields(self) -> None:
        self.assertEqual([(b"message", b"a")], read(b": hello\n\nfoo: bar\ndata: a\nbaz\n\n")[0])

    def test_only_one_blank_is_taken_off(self) -> None:
        self.assertEqual([(b"message", b" a ")], read(b"data:  a \n\n")[0])

    def test_long_events_are_refused(self) -> None:
        for pieces in (
            [b"data: " + b"x" * 1000],
            [b"data: x\n"] * 200,
            [b"x"] * 1001,
            [b"data: x\n", *[b": comment of some length\n"] * 50],
        ):
            with self.assertRaises(SseError) as caught:
                read(*pieces)
            self.assertIn("1000 bytes", str(caught.exception))

    def test_any_number_of_comments_and_events_is_taken(self) -> None:
        events, _ = read(*[b": still here\n\n"] * 500, *[b": still here\n"] * 500, *[b"data: x\n\n"] * 500)
        self.assertEqual(500, len(events))


class Properties(SynchronousTestCase):
    @settings(deadline=None)
    @given(st.binary(max_size=200) | st.text("dat: \r\n\x00ix1", max_size=100).map(str.encode), st.data())
    def test_cuts_make_no_difference(self, text: bytes, data: st.DataObject) -> None:
        whole, together = read(text)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        cut, apart = read(*pieces)
        self.assertEqual(whole, cut)
        self.assertEqual((together.last_id, together.retry), (apart.last_id, apart.retry))

    @settings(deadline=None)
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1)))
    def test_what_is_said_is_read(self, messages: list[str]) -> None:
        text = b"".join(b"data: %b\n\n" % message.encode() for message in messages)
        self.assertEqual([(b"message", message.encode()) for message in messages], read(text, limit=10**6)[0])
