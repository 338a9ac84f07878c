"""Floods on HTTP/2: each ends its connection with ENHANCE_YOUR_CALM, before it costs much; and what is no flood."""

from typing import Any

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import WireLimits
from erlmcp.transports.http._frames import (
    BURST,
    MOST_PAYLOAD,
    RESETS,
    RESETS_STEADY,
    STEADY,
    FloodError,
    Frames,
)
from tests.http2_wire import PREFACE, Second2, head
from tests.http_wire import ANSWER, BODY, answer

CALM = ErrorCodes.ENHANCE_YOUR_CALM


class Floods(SynchronousTestCase):
    """Frames that cost work and bring nothing."""

    def flood(self, *frames: Frame, client: Second2 | None = None, most: int = BURST) -> int:
        """Send these again and again; gives how often it took until the connection ended."""
        client = client or Second2(answer)
        data = b"".join(frame.serialize() for frame in frames)
        for turn in range(most + 2):
            client.send(data)
            if client.transport.disconnecting:
                self.assertEqual(client.ended, [CALM])
                self.assertEqual(client.wire.shared.limits.floods, 1)
                return turn + 1
        raise AssertionError(f"{len(frames) * (most + 2)} frames, and the connection is still there")

    def test_each(self) -> None:
        ack = PingFrame(0, b"12345678", flags=["ACK"])
        for frame, cost in (
            (PingFrame(0, b"12345678"), 2),
            (ack, 2),
            (SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 5}), 10),
            (SettingsFrame(0, flags=["ACK"]), 10),
            (WindowUpdateFrame(0, 1), 1),
            (PriorityFrame(1, stream_weight=3, depends_on=0), 1),
            (ExtensionFrame(0xEE, 0, body=b""), 1),
        ):
            turns = self.flood(frame)
            # The greeting has cost something too: SETTINGS, its acknowledgement, a window.
            self.assertLess(abs(turns - BURST // cost), 30, frame)

    def test_goaway(self) -> None:
        """Kept from h2, and counted."""
        client = Second2()
        client.post()
        self.assertGreater(self.flood(GoAwayFrame(0), client=client), BURST - 30)
        self.assertEqual(client.channel.gone, client.channel.exchanges)

    def test_empty_data(self) -> None:
        client = Second2(answer)
        number = client.begin()
        client.exchange()
        self.assertLessEqual(self.flood(DataFrame(number, b""), client=client), BURST + 1)
        self.assertEqual(client.channel.messages, [])

    def test_data_byte_by_byte(self) -> None:
        client = Second2(answer)
        number = client.begin(head(b"x" * 5000))
        client.exchange()
        self.assertLessEqual(self.flood(DataFrame(number, b"x"), client=client), BURST + 1)

    def test_padding_alone(self) -> None:
        client = Second2(answer)
        number = client.begin()
        client.exchange()
        frame = DataFrame(number, b"", pad_length=200, flags=["PADDED"])
        self.assertLessEqual(self.flood(frame, client=client), BURST + 1)

    def test_data_for_a_stream_that_is_gone(self) -> None:
        client = Second2(lambda _, exchange: exchange.reply(ANSWER))
        number = client.begin()
        client.h2.send_data(number, BODY, end_stream=False)
        client.h2.reset_stream(number)
        client.exchange()
        self.assertLessEqual(self.flood(DataFrame(number, b"x"), client=client), BURST + 1)

    def test_padding_that_is_longer_than_little_content(self) -> None:
        client = Second2(answer)
        number = client.begin(head(drop=("content-length",)))
        client.exchange()
        frame = DataFrame(number, b"x", pad_length=255, flags=["PADDED"])
        self.assertLessEqual(self.flood(frame, client=client), BURST + 1)

    def test_content_for_a_stream_that_is_gone(self) -> None:
        """h2 answers each with a reset."""
        client = Second2(answer)
        number = client.begin()
        client.h2.send_data(number, BODY, end_stream=True)
        client.exchange()
        self.assertLessEqual(self.flood(DataFrame(number, b"x" * 300), client=client), BURST + 1)

    def test_head_for_a_stream_that_was_reset(self) -> None:
        client = Second2(answer)
        number = client.begin()
        client.h2.reset_stream(number)
        client.exchange()
        block = Encoder().encode(head())
        frame = HeadersFrame(number, block, flags=["END_HEADERS", "END_STREAM"])
        self.assertLessEqual(self.flood(frame, client=client), BURST + 1)
        self.assertEqual(client.channel.messages, [])

    def test_window_of_one_byte_at_a_time(self) -> None:
        """Each makes us send a frame of one byte."""
        client = Second2(lambda _, exchange: exchange.reply(b"x" * 10_000))
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.exchange()
        client.h2.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]
        got = client.post()
        while not client.ended:
            client.h2.increment_flow_control_window(1, 1)
            client.exchange()
        self.assertEqual(client.ended, [CALM])
        self.assertLess(abs(len(got.body) - BURST), 30)

    def test_in_one_packet(self) -> None:
        client = Second2(answer)
        client.send(PingFrame(0, b"12345678").serialize() * 3000)
        self.assertEqual(client.ended, [CALM])
        # It is not answered to what is thrown away.
        self.assertLess(len(client.raw), 3000 * 17)

    def test_rapid_reset(self) -> None:
        """A request and its RST_STREAM, again and again (CVE-2023-44487): the channel hears of none."""
        client = Second2(answer)
        encoder = Encoder()
        data = b""
        for turn in range(RESETS + 1):
            number = 2 * turn + 1
            data += HeadersFrame(number, encoder.encode(head()), flags=["END_HEADERS"]).serialize()
            data += DataFrame(number, BODY, flags=["END_STREAM"]).serialize()
            data += RstStreamFrame(number, error_code=8).serialize()
        for at in range(0, len(data), 4096):
            client.wire.connection.dataReceived(data[at : at + 4096])
        self.assertTrue(client.transport.disconnecting)
        self.assertEqual(client.wire.shared.limits.floods, 1)
        self.assertLess(len(client.channel.messages), RESETS // 10)

    def test_resets_that_we_are_made_to_send(self) -> None:
        """Malformed requests: each makes us reset its stream (CVE-2025-8671)."""
        client = Second2(answer)
        for _ in range(RESETS + 1):
            if client.transport.disconnecting:
                break
            client.begin(head(te="gzip"))
            client.exchange()
        self.assertEqual(client.ended, [CALM])

    def test_resets_that_h2_sends_for_us(self) -> None:
        client = Second2()
        for _ in range(RESETS + 1):
            number = client.begin()
            client.exchange()
            client.send(WindowUpdateFrame(number, 2**31 - 1))
            if client.transport.disconnecting:
                break
        self.assertEqual(client.ended, [CALM])

    def test_streams(self) -> None:
        """One too many is refused, and may be sent again (RFC 9113, 8.7); a hundred too many times is a flood."""
        client = Second2(streams=3)
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 10_000
        client.h2.remote_settings.acknowledge()
        numbers = [client.begin() for _ in range(5)]
        client.exchange()
        resets = [client.got[number].reset for number in numbers]
        self.assertEqual(resets, [None, None, None, *[ErrorCodes.REFUSED_STREAM] * 2])
        for _ in range(RESETS):
            client.begin()
        client.exchange()
        self.assertEqual(client.ended, [CALM])

    def test_header_list(self) -> None:
        """What is compressed to a few bytes is as large as it is."""
        client = Second2(limits=WireLimits(headers=2000))
        client.begin([*head(), (b"x-large", b"y" * 3000)])
        client.exchange()
        self.assertEqual((client.ended, client.wire.shared.limits.floods), ([CALM], 1))

    def test_continuation(self) -> None:
        client = Second2(answer)
        client.begin()
        client.exchange()
        client.send(HeadersFrame(3, b"\x82", flags=[]))
        self.assertLessEqual(self.flood(ContinuationFrame(3, b""), client=client, most=40), 34)

    def test_continuation_of_many_bytes(self) -> None:
        client = Second2(answer)
        client.begin()
        client.exchange()
        client.send(HeadersFrame(3, b"\x82", flags=[]))
        self.assertLessEqual(self.flood(ContinuationFrame(3, b"\0" * 16384), client=client, most=5), 3)

    def test_continuation_to_its_end(self) -> None:
        client = Second2(answer)
        block = client.h2.encoder.encode(head())
        number = client.begin()  # for h2 to know of a stream with this number
        client.h2.data_to_send()
        pieces = [block[at : at + 8] for at in range(0, len(block), 8)]
        frames: list[Any] = [HeadersFrame(number, pieces[0], flags=[])]
        frames += [ContinuationFrame(number, piece) for piece in pieces[1:-1]]
        frames.append(ContinuationFrame(number, pieces[-1], flags=["END_HEADERS"]))
        for frame in [*frames, DataFrame(number, BODY, flags=["END_STREAM"])]:
            client.send(frame)
        self.assertEqual(client.got[number].body, ANSWER)

    def test_frame_that_is_too_large(self) -> None:
        """Refused by its first nine bytes; h2 would wait for all 16 MiB of it."""
        client = Second2(answer)
        client.send(b"\xff\xff\xff\x00\x00\0\0\0\x01")
        self.assertEqual(client.ended, [ErrorCodes.FRAME_SIZE_ERROR])

    def test_bodies(self) -> None:
        """Many large requests at once that do not end: what is kept of them is bounded."""
        client = Second2(limits=WireLimits(message=20_000))
        numbers = []
        for _ in range(5):
            number = client.begin(head(drop=("content-length",)))
            for _part in range(2):
                if client.got[number].reset is None:
                    client.h2.send_data(number, b"x" * 9000)
                    client.exchange()
            numbers.append(number)
        self.assertEqual([client.got[number].status for number in numbers], [0, 0, 503, 503, 503])
        self.assertEqual(client.connection._bodies, 36_000)
        client.h2.reset_stream(numbers[0])
        client.exchange()
        self.assertEqual(client.connection._bodies, 18_000)

    def test_body_that_is_too_large(self) -> None:
        client = Second2(limits=WireLimits(message=20_000))
        number = client.begin(head(drop=("content-length",)))
        for _ in range(3):
            if client.got[number].reset is None:
                client.h2.send_data(number, b"x" * 9000)
                client.exchange()
        self.assertEqual((client.got[number].status, client.connection._bodies), (413, 0))

    def test_what_is_said_of_it(self) -> None:
        """One line a minute, however many."""
        said: list[str] = []

        def listen(event: dict[str, Any]) -> None:
            if "was ended" in event.get("log_format", ""):
                said.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(listen)
        self.addCleanup(globalLogPublisher.removeObserver, listen)
        client = Second2(answer)
        for turn in range(3):
            client.wire.shared.flooded(f"reason {turn}", None)
        self.assertEqual(said, ["web: the connection from an unknown address was ended: reason 0 (1 so far)"])
        client.wire.after(61)
        client.wire.shared.flooded("reason 3", None)
        self.assertEqual(len(said), 2)
        self.assertIn("(4 so far)", said[1])


class NoFloods(SynchronousTestCase):
    """What clients do that mean well."""

    def test_one_frame_with_each_request(self) -> None:
        """Three times the burst: a ping, a window and an empty DATA frame around each request."""
        client = Second2(answer)
        for _ in range(BURST):
            client.h2.ping(b"12345678")
            client.h2.increment_flow_control_window(10)
            number = client.begin()
            client.h2.send_data(number, BODY)
            client.h2.send_data(number, b"", end_stream=True)
            client.exchange()
            self.assertEqual(client.got.pop(number).body, ANSWER)
        self.assertEqual(client.ended, [])

    def test_windows_for_a_long_answer(self) -> None:
        """One window update for each frame, and one for the connection."""
        client = Second2(lambda _, exchange: exchange.reply(b"x" * 3_000_000))
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2000})
        client.exchange()
        got = client.post()
        self.assertEqual(len(got.body), 3_000_000)

    def test_cancelling_as_many_as_are_answered(self) -> None:
        client = Second2(answer)
        for turn in range(4 * RESETS):
            client.post()
            client.post()
            if turn % 2:
                client.h2.reset_stream(client.begin())
                client.exchange()
        self.assertEqual(client.ended, [])

    def test_content_on_its_way_to_a_refused_request(self) -> None:
        """A client learns late that its request was too large: a whole window of small frames may follow."""
        client = Second2(answer, limits=WireLimits(message=20_000))
        number = client.begin(head(drop=("content-length",)))
        client.exchange()
        client.send(*[DataFrame(number, b"x" * 1024) for _ in range(255)])
        self.assertEqual((client.got[number].status, client.ended), (413, []))

    def test_time_makes_it_good(self) -> None:
        client = Second2(answer)
        frames = WindowUpdateFrame(0, 1).serialize() * STEADY
        for _ in range(3 * BURST // STEADY):
            client.send(frames)
            client.wire.clock.advance(1)
        self.assertEqual(client.ended, [])


class Budget(SynchronousTestCase):
    """`Frames` by itself."""

    def test_pieces(self) -> None:
        """However the bytes come: the same frames, in the same order, each whole."""
        data = PREFACE + SettingsFrame(0).serialize() + DataFrame(1, b"x" * 300).serialize() * 3

        @given(st.lists(st.integers(1, 40), max_size=20))
        @settings(deadline=None, max_examples=50)
        def check(cuts: list[int]) -> None:
            frames = Frames(1000, 0.0)
            out = b""
            at = 0
            for size in [*cuts, len(data)]:
                out += frames.take(data[at : at + size], 0.0)
                at += size
                self.assertEqual(frames.since is None, len(out) == min(at, len(data)))
            self.assertEqual(out, data)

        check()

    def test_resets_come_back(self) -> None:
        frames = Frames(1000, 0.0)
        frames.take(PREFACE, 0.0)
        for _ in range(RESETS):
            frames.reset()
        frames.take(b"", 1.0)
        for _ in range(RESETS_STEADY):
            frames.reset()
        frames.answered()
        frames.answered()
        frames.reset()
        self.assertRaises(FloodError, frames.reset)

    def test_largest_frame(self) -> None:
        frames = Frames(1000, 0.0)
        data = PREFACE + DataFrame(1, b"x" * MOST_PAYLOAD).serialize()
        self.assertEqual(frames.take(data, 0.0), data)

    def test_goaway_is_taken_out(self) -> None:
        frames = Frames(1000, 0.0)
        ping, bye = PingFrame(0, b"12345678").serialize(), GoAwayFrame(0).serialize()
        self.assertEqual(frames.take(PREFACE + bye + ping + bye + ping[:5], 0.0), PREFACE + ping)
        self.assertTrue(frames.leaving)
        self.assertEqual(frames.take(ping[5:], 0.0), ping)


class AnyBytes(SynchronousTestCase):
    """Whatever comes: answered, refused or cut, and never an exception."""

    def setUp(self) -> None:
        self.block = Encoder().encode(head())

    def test_any_bytes(self) -> None:
        @given(st.binary(max_size=200))
        @settings(deadline=None, max_examples=200)
        def check(data: bytes) -> None:
            client = Second2(answer)
            client.wire.connection.dataReceived(data)
            client.wire.after(11)
            client.wire.lose()

        check()

    def test_any_frames(self) -> None:
        """Frames of every type with any flags and content, for streams that are there and not."""
        frame = st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 7), st.binary(max_size=40))

        @given(st.lists(frame, max_size=30))
        @settings(deadline=None, max_examples=300)
        def check(frames: list[tuple[int, int, int, bytes]]) -> None:
            client = Second2(lambda message, exchange: exchange.reply(message) if len(message) % 2 else None)
            for kind, flags, number, content in frames:
                body = self.block if kind == 1 and not flags & 0x28 else content
                client.wire.connection.dataReceived(
                    len(body).to_bytes(3) + bytes([kind, flags]) + number.to_bytes(4) + body
                )
            for exchange in client.channel.exchanges:
                exchange.notify(b"{}")
                exchange.reply(b"{}")
            client.wire.after(11)
            client.wire.lose()
            self.assertEqual(client.wire.admission.here, [])

        check()
