"""What HTTP/2 needs that is pure: compression that remembers, and fields."""

from hpack import Decoder, Encoder, HeaderTuple
from hpack.exceptions import InvalidTableIndex, OversizedHeaderListError
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import WireLimits
from erlmcp.transports.http._familiar import Kept
from erlmcp.transports.http._fields import exchange_for
from erlmcp.transports.http._head import Fields, Headers, Rules
from erlmcp.transports.http._hpack import PlainEncoder, RememberingDecoder
from erlmcp.transports.http._origin import Visitors
from tests.http2_wire import head

NAMES = st.sampled_from([b":path", b"content-length", b"date", b"x-a", b"mcp-session-id", b"x-b"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=8)


def pairs(fields: object) -> list[tuple[bytes, bytes]]:
    return [tuple(field) for field in fields]  # type: ignore[attr-defined]


class Compression(SynchronousTestCase):
    """Both sides say what hpack's own would."""

    def test_encoder(self) -> None:
        @given(FIELDS, st.lists(st.integers(0, 5000), max_size=2))
        @settings(deadline=None)
        def check(fields: list[tuple[bytes, bytes]], sizes: list[int]) -> None:
            encoder, decoder = PlainEncoder(), Decoder()
            for size in sizes:
                encoder.header_table_size = size
            decoder.max_allowed_table_size = max(sizes, default=4096)
            for _ in range(2):
                self.assertEqual(pairs(decoder.decode(encoder.encode(fields), raw=True)), fields)
            self.assertEqual(len(decoder.header_table.dynamic_entries), 0)

        check()

    def test_decoder(self) -> None:
        """The same as a decoder that remembers nothing, however blocks repeat and tables change."""
        block = st.tuples(FIELDS, st.sampled_from([None, None, None, 0, 100, 4096]), st.booleans())

        @given(st.lists(block, max_size=12), st.lists(st.integers(0, 11), max_size=30))
        @settings(deadline=None)
        def check(blocks: list[tuple[list[tuple[bytes, bytes]], int | None, bool]], order: list[int]) -> None:
            ours, theirs, encoder = RememberingDecoder(65536), Decoder(), Encoder()
            for turn in order:
                if turn < len(blocks):
                    fields, size, secret = blocks[turn]
                    if size is not None:
                        encoder.header_table_size = size
                    data = encoder.encode([HeaderTuple(*f) if not secret else (*f, True) for f in fields])
                    self.assertEqual(pairs(ours.decode(data, raw=True)), pairs(theirs.decode(data, raw=True)))

        check()

    def test_a_table_that_is_emptied_and_left_as_large(self) -> None:
        """Two updates in one block: as large as before, and nothing in it."""
        decoder, encoder = RememberingDecoder(65536), Encoder()
        first = encoder.encode([(b"x-a", b"1")])
        again = encoder.encode([(b"x-a", b"1")])
        decoder.decode(first, raw=True)
        self.assertEqual(pairs(decoder.decode(again, raw=True)), [(b"x-a", b"1")])
        decoder.decode(b"\x20\x3f\xe1\x1f\x82", raw=True)
        self.assertRaises(InvalidTableIndex, decoder.decode, again, raw=True)

    def test_what_is_remembered_is_bounded(self) -> None:
        decoder, encoder = RememberingDecoder(65536), Encoder()
        for turn in range(100):
            decoder.decode(encoder.encode([(b"x-a", b"%d" % turn, True)]), raw=True)
            self.assertLessEqual(len(decoder._known), 16)
        before = len(decoder._known)
        decoder.decode(encoder.encode([(b"x-a", b"y" * 1000, True)], huffman=False), raw=True)
        self.assertEqual(len(decoder._known), before)

    def test_too_large(self) -> None:
        decoder = RememberingDecoder(100)
        data = Encoder().encode([(b"x-a", b"y" * 200)])
        self.assertRaises(OversizedHeaderListError, decoder.decode, data, raw=True)


class Familiar(SynchronousTestCase):
    """Fields that were taken before."""

    def setUp(self) -> None:
        visitors = Visitors()
        visitors.listen_on("127.0.0.1")
        self.rules = Rules(b"/mcp", visitors, 1000)
        self.known: Kept[Fields, Headers] = Kept()

    def ask(self, **fields: str) -> object:
        return exchange_for(tuple(head(**fields)), self.rules, WireLimits(), self.known)

    def test_kept(self) -> None:
        first, second = self.ask(), self.ask()
        self.assertIs(first.headers, second.headers)  # type: ignore[attr-defined]
        self.assertEqual(len(self.known), 1)

    def test_not_kept(self) -> None:
        for fields in (
            {"path": "/nowhere"},
            {"accept": "application/json"},
            {"origin": "http://localhost"},
            {"expect": "100-continue"},
            {"content_encoding": "gzip"},
            {"x_long": "y" * 3000},
            {"method": "GET", "mcp_session_id": "s"},
        ):
            self.ask(**fields)
            self.assertEqual(len(self.known), 0, fields)

    def test_bounded(self) -> None:
        for turn in range(1000):
            self.ask(mcp_session_id=str(turn))
        self.assertEqual(len(self.known), 512)
