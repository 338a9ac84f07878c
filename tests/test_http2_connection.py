"""HTTP/2 over its life: requests, streams of events, windows, time and the end."""

import gzip
import json
from typing import Any

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange, WireLimits
from erlmcp.transports.http._phase import Phase
from tests.http2_wire import PREFACE, Second2, head
from tests.http_wire import ANSWER, BODY, Wire, answer, echo, events, post

NOTE = b'{"jsonrpc":"2.0","method":"notifications/progress"}'


class Beginning(SynchronousTestCase):
    """How a connection comes to speak HTTP/2."""

    def test_preface_in_pieces(self) -> None:
        client = Second2(answer, greet=False)
        client.h2.initiate_connection()
        for byte in client.h2.data_to_send():
            client.wire.connection.dataReceived(bytes([byte]))
        client.take()
        self.assertEqual(client.post().body, ANSWER)

    def test_not_told_to(self) -> None:
        """Without ``h2c`` the preface is no HTTP at all."""
        [got] = Wire(answer).send(PREFACE)
        self.assertEqual(got.status, 400)

    def test_first_byte_of_a_post(self) -> None:
        client = Second2(answer, greet=False)
        self.assertEqual(client.wire.send(b"P"), [])
        [got] = client.wire.send(post()[1:])
        self.assertEqual(got.body, ANSWER)

    def test_other_bytes(self) -> None:
        client = Second2(answer, greet=False)
        [got] = client.wire.send(post())
        self.assertEqual(got.body, ANSWER)

    def test_agreed_on_and_not_kept(self) -> None:
        client = Second2(answer, greet=False, transport=Agreed())
        client.wire.connection.dataReceived(post())
        self.assertTrue(client.transport.disconnecting)
        self.assertEqual(client.channel.messages, [])

    def test_agreed_on(self) -> None:
        client = Second2(answer, transport=Agreed())
        self.assertEqual(client.post().body, ANSWER)

    def test_agreed_on_the_other(self) -> None:
        transport = Agreed()
        transport.negotiatedProtocol = b"http/1.1"
        [got] = Second2(answer, greet=False, transport=transport).wire.send(post())
        self.assertEqual(got.body, ANSWER)

    def test_settings(self) -> None:
        client = Second2(streams=7, limits=WireLimits(headers=5000))
        settings = client.h2.remote_settings
        self.assertEqual(settings.max_concurrent_streams, 7)
        self.assertEqual(settings.max_header_list_size, 5000)
        self.assertEqual(settings[SettingCodes.INITIAL_WINDOW_SIZE], 256 * 1024)

    def test_counted_once(self) -> None:
        client = Second2(answer)
        client.post()
        self.assertEqual(len(client.wire.admission.here), 1)
        self.assertEqual(list(client.wire.shared.connections), [client.connection])
        client.wire.lose()
        self.assertEqual((client.wire.admission.here, dict(client.wire.shared.connections)), ([], {}))
        self.assertEqual(client.connection.phase, Phase.GONE)


class Agreed(StringTransport):
    """TLS on which HTTP/2 was agreed on."""

    negotiatedProtocol = b"h2"  # noqa: N815 - Twisted's name

    def getPeerCertificate(self) -> None:  # noqa: N802
        return None


class Requests(SynchronousTestCase):
    """What is asked and what it is answered with."""

    def test_interface(self) -> None:
        client = Second2()
        client.post()
        verifyObject(IExchange, client.channel.exchanges[0])
        self.assertEqual(client.channel.exchanges[0].headers[b"host"], b"127.0.0.1:8765")

    def test_usual(self) -> None:
        client = Second2(answer)
        for _ in range(3):
            got = client.post()
            self.assertEqual((got.status, got.body, got.ended, got.reset), (200, ANSWER, True, None))
            self.assertEqual(
                got.fields,
                {
                    "date": "Sun, 06 Nov 1994 08:49:37 GMT",
                    "content-type": "application/json",
                    "content-length": str(len(ANSWER)),
                },
            )
        self.assertEqual(client.channel.messages, [BODY] * 3)

    def test_no_length(self) -> None:
        self.assertEqual(Second2(answer).post(headers=head(drop=("content-length",))).body, ANSWER)

    def test_many_at_once_in_any_order(self) -> None:
        client = Second2()
        numbers = []
        for turn in range(10):
            number = client.begin(head(b"%d" % turn))
            client.h2.send_data(number, b"%d" % turn, end_stream=True)
            numbers.append(number)
        client.exchange()
        self.assertEqual(client.channel.messages, [b"%d" % turn for turn in range(10)])
        for turn, exchange in reversed(list(enumerate(client.channel.exchanges))):
            exchange.reply(b"answer %d" % turn)
        client.take()
        self.assertEqual(
            [client.got[number].body for number in numbers], [b"answer %d" % turn for turn in range(10)]
        )

    def test_status_and_fields(self) -> None:
        fields = ((b"WWW-Authenticate", b"Bearer"), (b"Mcp-Session-Id", b"secret"))
        for status in (400, 401, 403, 404, 500, 299):
            client = Second2(lambda _, exchange, status=status: exchange.reply(ANSWER, status, fields))
            for _ in range(2):
                got = client.post()
                self.assertEqual((got.status, got.body), (status, ANSWER))
                self.assertEqual(got.fields["www-authenticate"], "Bearer")
                self.assertEqual(got.fields["mcp-session-id"], "secret")

    def test_secrets_are_never_indexed(self) -> None:
        client = Second2(lambda _, exchange: exchange.reply(ANSWER, 200, ((b"Mcp-Session-Id", b"secret"),)))
        client.post()
        self.assertIn(b"\x10\x0emcp-session-id\x06secret", client.raw)

    def test_accept(self) -> None:
        got = Second2(lambda _, exchange: exchange.accept()).post()
        self.assertEqual((got.status, got.body, got.fields["content-length"]), (202, b"", "0"))
        self.assertTrue(got.ended)

    def test_abandon(self) -> None:
        """Only the stream ends."""
        client = Second2()
        client.post()
        client.channel.exchanges[0].abandon()
        client.take()
        self.assertEqual(client.got[1].reset, ErrorCodes.CANCEL)
        self.assertEqual(client.channel.gone, [])
        client.channel.answer = answer
        self.assertEqual(client.post().body, ANSWER)

    def test_stream_of_events(self) -> None:
        def tell(_: bytes, exchange: Any) -> None:
            exchange.notify(NOTE)
            exchange.notify(NOTE, "e-1")
            exchange.reply(ANSWER)

        got = Second2(tell).post()
        self.assertEqual(got.fields["content-type"], "text/event-stream")
        self.assertEqual(got.fields["cache-control"], "no-store, no-transform")
        self.assertEqual(events(got.body), [NOTE.decode(), NOTE.decode(), ANSWER.decode()])
        self.assertIn(b"id: e-1\n", got.body)
        self.assertTrue(got.ended)

    def test_later_events(self) -> None:
        client = Second2()
        client.post()
        [exchange] = client.channel.exchanges
        exchange.prime("e-1", 500)
        client.take()
        self.assertEqual(client.got[1].body, b"id: e-1\nretry: 500\ndata: \n\n")
        exchange.abandon()
        client.take()
        self.assertEqual((client.got[1].ended, client.got[1].reset), (True, None))

    def test_leave(self) -> None:
        client = Second2(lambda _, exchange: exchange.leave())
        got = client.post()
        self.assertEqual((got.status, got.body, got.ended), (200, b"", True))

    def test_stream_alone(self) -> None:
        got = Second2(answer).post(headers=head(accept="text/event-stream"))
        self.assertEqual(events(got.body), [ANSWER.decode()])

    def test_open(self) -> None:
        client = Second2()
        fields = head(method="GET", mcp_session_id="s", drop=("content-length", "content-type"))
        number = client.begin(fields, end=True)
        client.exchange()
        got = client.got[number]
        self.assertEqual((got.status, got.fields["content-type"]), (200, "text/event-stream"))
        client.channel.open[0].notify(NOTE)
        client.channel.open[0].leave()
        client.take()
        self.assertEqual((events(got.body), got.ended), ([NOTE.decode()], True))

    def test_delete(self) -> None:
        client = Second2(on_delete=lambda exchange: exchange.reply(b"", 204))
        fields = head(method="DELETE", mcp_session_id="s", drop=("content-length", "content-type"))
        number = client.begin(fields, end=True)
        client.exchange()
        self.assertEqual(client.got[number].status, 204)
        self.assertNotIn("content-length", client.got[number].fields)

    def test_old_stream(self) -> None:
        client = Second2(answer, sse=b"/sse")
        number = client.begin(
            head(method="GET", path="/sse", drop=("content-length", "content-type")), end=True
        )
        client.exchange()
        [endpoint] = events(client.got[number].body)
        self.assertEqual(client.post(headers=head(path=endpoint)).status, 202)
        self.assertEqual(events(client.got[number].body)[1:], [ANSWER.decode()])

    def test_old_stream_that_is_reset_with_its_message(self) -> None:
        """In one packet: what is posted is for a stream that is gone by then."""
        client = Second2(answer, sse=b"/sse")
        number = client.begin(
            head(method="GET", path="/sse", drop=("content-length", "content-type")), end=True
        )
        client.exchange()
        [endpoint] = events(client.got[number].body)
        late = client.begin(head(path=endpoint))
        client.h2.send_data(late, BODY, end_stream=True)
        client.h2.reset_stream(number)
        client.exchange()
        self.assertEqual(client.got[late].status, 404)
        self.assertEqual(client.ended, [])

    def test_gzip(self) -> None:
        client = Second2(echo)
        body = gzip.compress(BODY)
        self.assertEqual(client.post(body, head(body, content_encoding="gzip")).body, BODY)
        self.assertEqual(client.post(b"what", head(b"what", content_encoding="gzip")).status, 400)

    def test_expectation(self) -> None:
        client = Second2(answer)
        number = client.begin(head(expect="100-continue"))
        client.exchange()
        self.assertEqual(client.got[number].informed, (100,))
        client.h2.send_data(number, BODY, end_stream=True)
        client.exchange()
        self.assertEqual(client.got[number].body, ANSWER)

    def test_refusals_end_their_stream_alone(self) -> None:
        client = Second2(answer, limits=WireLimits(message=100, header_count=12))
        many = [*head(), *((b"x-%d" % each, b"") for each in range(20))]
        for status, fields in (
            (404, head(path="/nowhere")),
            (405, head(method="PUT")),
            (403, head(authority="evil.example")),
            (403, head(origin="https://evil.example")),
            (406, head(accept="text/html")),
            (413, head(content_length="101")),
            (415, head(content_type="text/plain")),
            (415, head(content_encoding="br")),
            (417, head(expect="magic")),
            (431, many),
        ):
            number = client.begin(fields)
            client.exchange()
            got = client.got[number]
            self.assertEqual((got.status, got.ended, got.reset), (status, True, ErrorCodes.NO_ERROR), fields)
            self.assertIn("error", json.loads(got.body))
        self.assertEqual(client.post().body, ANSWER)
        self.assertEqual(client.channel.messages, [BODY])

    def test_refusal_of_what_has_ended(self) -> None:
        client = Second2()
        number = client.begin(head(method="GET", drop=("content-length",)), end=True)
        client.exchange()
        self.assertEqual((client.got[number].status, client.got[number].reset), (405, None))

    def test_head(self) -> None:
        client = Second2()
        number = client.begin(head(method="HEAD", drop=("content-length",)), end=True)
        client.exchange()
        self.assertEqual((client.got[number].status, client.got[number].body), (405, b""))

    def test_connect(self) -> None:
        client = Second2()
        number = client.begin(head(method="CONNECT", drop=(":path", ":scheme", "content-length")))
        client.exchange()
        self.assertEqual(client.got[number].status, 405)

    def test_malformed(self) -> None:
        """RFC 9113, 8.1.1: the stream ends, and it alone."""
        late = [*head(), (b":path", b"/mcp")]
        for fields in (
            head(connection="close"),
            head(transfer_encoding="chunked"),
            head(te="gzip"),
            head(host="other.example"),
            head(drop=(":path",)),
            head(drop=(":scheme",)),
            head(drop=(":method",)),
            head(path=""),
            head(method="CONNECT"),
            [(b":protocol", b"websocket"), *head()],
            [(b":path", b"/mcp"), *head()],
            late,
            [*head(), (b"X-Upper", b"1")],
            [*head(), (b"x-white", b" white")],
            [*head(), (b"x-nul", b"a\0b")],
            [*head(), (b"x-line", b"a\nb: c")],
            [*head(), (b"x:y", b"1")],
            [*head(), (b"", b"1")],
            [*head(), (b"content-length", b"%d" % len(BODY))],
        ):
            client = Second2(answer)
            number = client.begin(fields)
            client.exchange()
            self.assertEqual(client.got[number].reset, ErrorCodes.PROTOCOL_ERROR, fields)
            self.assertEqual(client.post().body, ANSWER)

    def test_repeated_fields_are_joined(self) -> None:
        client = Second2(answer)
        client.post(headers=[*head(), (b"x-a", b"1"), (b"x-a", b"2"), (b"cookie", b"a"), (b"cookie", b"b")])
        headers = client.channel.exchanges[0].headers
        self.assertEqual((headers[b"x-a"], headers[b"cookie"]), (b"1, 2", b"a; b"))

    def test_cancelled(self) -> None:
        client = Second2()
        client.post()
        client.h2.reset_stream(1, ErrorCodes.CANCEL)
        client.exchange()
        [exchange] = client.channel.exchanges
        self.assertEqual(client.channel.gone, [exchange])
        exchange.reply(ANSWER)
        client.take()
        self.assertEqual(client.got[1].body, b"")

    def test_cancelled_at_once(self) -> None:
        """Taken back in the packet that it came in: nobody hears of it."""
        client = Second2(answer)
        number = client.begin()
        client.h2.send_data(number, BODY, end_stream=True)
        client.h2.reset_stream(number)
        client.exchange()
        self.assertEqual((client.channel.messages, client.channel.gone), ([], []))
        self.assertEqual(client.post().body, ANSWER)

    def test_trailers(self) -> None:
        client = Second2(answer)
        number = client.begin()
        client.h2.send_data(number, BODY)
        client.h2.send_headers(number, [(b"x-check", b"1")], end_stream=True)
        client.exchange()
        self.assertEqual(client.got[number].body, ANSWER)
        self.assertNotIn(b"x-check", client.channel.exchanges[0].headers)

    def test_padding(self) -> None:
        client = Second2(answer)
        number = client.begin()
        client.h2.send_data(number, BODY, end_stream=True, pad_length=200)
        client.exchange()
        self.assertEqual(client.channel.messages, [BODY])

    def test_crowded(self) -> None:
        client = Second2(answer, transport=Agreed())
        client.wire.admission.reason = "the limit of addresses"
        # What a proxy or TLS says of the peer comes with the first bytes.
        client.transport.peerAddr = IPv4Address("TCP", "192.0.2.9", 1)
        got = client.post()
        self.assertEqual(got.status, 503)
        self.assertTrue(client.transport.disconnecting)
        self.assertEqual((client.channel.messages, client.wire.admission.here), ([], []))


def headers_frame(number: int, block: bytes, flags: tuple[str, ...] = ("END_HEADERS",)) -> bytes:
    return HeadersFrame(number, block, flags=flags).serialize()


class Full(StringTransport):
    """Says that it is full as a socket does: while it is written to."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.value()) > 64 * 1024:
            self.producer.pauseProducing()


class Windows(SynchronousTestCase):
    """Flow control, both ways."""

    def narrow(self, client: Second2, size: int) -> None:
        """Let the client's windows for new streams be so wide."""
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
        client.exchange()

    def hold_back(self, client: Second2) -> None:
        """Let the client read without widening its windows."""
        client.h2.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]

    def test_long_answer(self) -> None:
        long = b"x" * 300_000
        client = Second2(lambda _, exchange: exchange.reply(long))
        got = client.post()
        client.exchange()
        self.assertEqual((got.body, got.ended), (long, True))
        self.assertEqual((client.connection._pending, client.connection._waiting), (0, {}))

    def test_long_request(self) -> None:
        """More than each window: the server says that more may come."""
        long = b"y" * 1_600_000
        client = Second2(echo)
        number = client.begin(head(long))
        while long:
            size = min(len(long), 16384, client.h2.local_flow_control_window(number))
            self.assertGreater(size, 0)
            client.h2.send_data(number, long[:size], end_stream=size == len(long))
            long = long[size:]
            client.exchange()
        client.exchange()
        self.assertEqual(client.got[number].body, b"y" * 1_600_000)

    def test_windows_of_one_byte(self) -> None:
        client = Second2(lambda _, exchange: exchange.reply(b"12345"))
        self.narrow(client, 1)
        self.hold_back(client)
        got = client.post()
        self.assertEqual(got.body, b"1")
        for _ in range(4):
            client.h2.increment_flow_control_window(1, 1)
            client.exchange()
        self.assertEqual((got.body, got.ended), (b"12345", True))

    def test_window_made_narrower(self) -> None:
        client = Second2()
        client.post()
        client.channel.exchanges[0].notify(b"x" * 1000)
        client.take()
        self.narrow(client, 10)  # the stream's window is negative now
        client.channel.exchanges[0].notify(b"y")
        client.take()
        self.assertNotIn(b"y", client.got[1].body)
        self.narrow(client, 100_000)
        self.assertIn(b"y", client.got[1].body)

    def test_end_needs_no_window(self) -> None:
        client = Second2()
        self.narrow(client, len(b"data: x\n\n"))
        client.post()
        [exchange] = client.channel.exchanges
        exchange.notify(b"x")
        exchange.leave()
        client.take()
        self.assertTrue(client.got[1].ended)

    def test_in_turn(self) -> None:
        """A connection's window is shared out: nobody waits for another's end."""
        client = Second2()
        self.hold_back(client)
        client.post()
        client.post()
        for exchange in client.channel.exchanges:
            exchange.reply(b"z" * 80_000)
        client.take()
        before = [len(client.got[number].body) for number in (1, 3)]
        for _ in range(2):
            client.h2.increment_flow_control_window(1000)
            client.h2.increment_flow_control_window(1000, 1)
            client.h2.increment_flow_control_window(80_000, 3)
            client.exchange()
        after = [len(client.got[number].body) for number in (1, 3)]
        self.assertEqual([was < now for was, now in zip(before, after, strict=True)], [True, True])

    def test_reader_that_stalls(self) -> None:
        client = Second2()
        self.narrow(client, 100)
        self.hold_back(client)
        client.post()
        client.channel.exchanges[0].notify(b"x" * 1000)
        client.wire.after(5)
        client.h2.increment_flow_control_window(1, 1)
        client.exchange()
        client.wire.after(7)
        client.take()
        self.assertIsNone(client.got[1].reset)
        client.wire.after(4)
        client.take()
        self.assertEqual(client.got[1].reset, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertEqual(client.channel.gone, client.channel.exchanges)
        self.assertEqual(client.connection._pending, 0)
        self.assertEqual(client.ended, [])

    def test_congestion_and_cut(self) -> None:
        client = Second2(limits=WireLimits(write_buffer=1000))
        self.narrow(client, 0)
        client.post()
        client.post()
        one, other = client.channel.exchanges
        one.notify(b"x" * 900)
        self.assertFalse(one.congested)
        one.notify(b"x" * 900)
        self.assertEqual((one.congested, other.congested), (True, False))
        one.notify(b"x" * 2500)
        one.notify(b"more")
        client.take()
        self.assertEqual(client.got[1].reset, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertEqual(client.channel.gone, [one])
        self.assertTrue(one.congested)
        self.assertEqual((client.got[3].reset, client.connection._pending), (None, 0))

    def test_answers_are_owed_but_not_for_ever(self) -> None:
        client = Second2(limits=WireLimits(write_buffer=1000))
        self.narrow(client, 0)
        for _ in range(3):
            client.post()
        for exchange in client.channel.exchanges:
            exchange.reply(b"x" * 10_000)
        client.take()
        self.assertEqual([client.got[number].reset for number in (1, 3, 5)], [None, 11, 11])
        self.assertEqual(client.connection._pending, 10_000)
        self.assertEqual(client.channel.gone, [])  # they have been answered, as far as the channel goes

    def test_long_answers_to_one_packet(self) -> None:
        """All windows are wide open, and nobody reads: what is joined is bounded as what waits is."""
        transport = Full()
        client = Second2(
            lambda _, exchange: exchange.reply(b"x" * 50_000),
            limits=WireLimits(write_buffer=10_000),
            transport=transport,
        )
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
        client.h2.increment_flow_control_window(2**30)
        client.exchange()
        for _ in range(20):
            client.h2.send_data(client.begin(), BODY, end_stream=True)
        client.wire.connection.dataReceived(client.h2.data_to_send())
        self.assertEqual(len(client.channel.messages), 20)
        self.assertLess(len(transport.value()), 110_000)
        self.assertLessEqual(client.connection._pending, 160_000)

    def test_socket_that_is_full(self) -> None:
        client = Second2()
        client.post()
        [exchange] = client.channel.exchanges
        client.connection.pauseProducing()
        exchange.notify(NOTE)
        client.take()
        self.assertEqual(client.got[1].body, b"")
        number = client.begin()
        client.h2.send_data(number, BODY, end_stream=True)
        client.exchange()
        self.assertEqual(len(client.channel.messages), 1)
        client.connection.resumeProducing()
        client.take()
        self.assertEqual(events(client.got[1].body), [NOTE.decode()])
        self.assertEqual(len(client.channel.messages), 2)
        exchange.leave()
        client.take()
        self.assertTrue(client.got[1].ended)

    def test_end_while_the_socket_is_full(self) -> None:
        client = Second2()
        client.post()
        [exchange] = client.channel.exchanges
        exchange.notify(NOTE)
        client.connection.pauseProducing()
        exchange.leave()
        client.take()
        self.assertTrue(client.got[1].ended)

    def test_reading_pauses_while_the_socket_is_full(self) -> None:
        client = Second2(answer)
        client.connection.pauseProducing()
        for _ in range(70):
            client.send(DataFrame(1, b"x" * 1000))
        self.assertEqual(client.transport.producerState, "paused")


class Time(SynchronousTestCase):
    """What the clock cuts off."""

    def test_lease(self) -> None:
        client = Second2()
        for _ in range(3):
            client.wire.after(9)
            client.h2.ping(b"12345678")
            client.exchange()
        self.assertEqual(client.ended, [])
        client.wire.after(4)
        client.take()
        self.assertEqual(client.ended, [ErrorCodes.NO_ERROR])
        self.assertTrue(client.transport.disconnecting)

    def test_preface_that_never_ends(self) -> None:
        client = Second2(greet=False)
        client.wire.connection.dataReceived(PREFACE[:10])
        client.wire.after(31)
        self.assertTrue(client.transport.disconnecting)

    def test_idle(self) -> None:
        client = Second2(answer)
        client.wire.after(20)
        client.post()
        client.wire.after(3590)
        self.assertFalse(client.transport.disconnecting)
        client.wire.after(12)
        client.take()
        self.assertEqual(client.ended, [ErrorCodes.NO_ERROR])

    def test_slow_frame(self) -> None:
        client = Second2()
        client.post()
        client.send(b"\0\0\x10\0")
        client.wire.after(9)
        self.assertFalse(client.transport.disconnecting)
        client.wire.after(2)
        client.take()
        self.assertEqual(client.ended, [ErrorCodes.NO_ERROR])
        self.assertEqual(client.channel.gone, client.channel.exchanges)

    def test_slow_header_block(self) -> None:
        client = Second2()
        block = client.h2.encoder.encode(head())
        client.send(headers_frame(1, block[:5], flags=()))
        for turn in range(4):
            client.wire.after(1.5)
            client.send(ContinuationFrame(1, block[5 + turn : 6 + turn]))
        self.assertFalse(client.transport.disconnecting)
        client.wire.after(3)
        self.assertTrue(client.transport.disconnecting)

    def test_slow_body(self) -> None:
        client = Second2(answer)
        number = client.begin()
        for byte in BODY[:4]:
            client.h2.send_data(number, bytes([byte]))
            client.exchange()
            client.wire.after(2.6)
        client.take()
        self.assertEqual((client.got[number].status, client.got[number].reset), (408, ErrorCodes.NO_ERROR))
        self.assertEqual(client.post().body, ANSWER)

    def test_answers_take_their_time(self) -> None:
        client = Second2()
        client.post()
        client.wire.after(10_000)
        self.assertFalse(client.transport.disconnecting)
        client.channel.exchanges[0].reply(ANSWER)
        client.take()
        self.assertEqual(client.got[1].body, ANSWER)

    def test_heartbeat(self) -> None:
        client = Second2()
        client.post()
        client.channel.exchanges[0].notify(NOTE)
        client.wire.after(31)
        client.take()
        self.assertEqual(client.got[1].body.count(b":\n\n"), 2)

    def test_reader_of_a_full_socket(self) -> None:
        """Nothing taken for `idle` where the transport cannot tell how much waits."""
        client = Second2(limits=WireLimits(idle=20))
        client.post()
        client.connection.pauseProducing()
        client.wire.after(21)
        self.assertTrue(client.transport.disconnected)


class Ends(SynchronousTestCase):
    """How a connection ends."""

    def test_drain_when_idle(self) -> None:
        client = Second2(answer)
        client.post()
        client.connection.drain()
        client.connection.drain()
        client.take()
        self.assertEqual((client.ended, client.transport.disconnecting), ([ErrorCodes.NO_ERROR], True))

    def test_drain_with_requests(self) -> None:
        client = Second2()
        client.post()
        client.post()
        late = client.begin()
        data = client.h2.data_to_send()
        client.connection.drain()
        self.assertFalse(client.transport.disconnecting)
        client.wire.connection.dataReceived(data)
        # What it says of the late stream comes after a GOAWAY, where h2's client side would not look.
        written = client.wire.written()
        self.assertIn(RstStreamFrame(late, error_code=ErrorCodes.REFUSED_STREAM).serialize(), written)
        for exchange in client.channel.exchanges:
            self.assertFalse(client.transport.disconnecting)
            exchange.reply(ANSWER)
        written = client.wire.written()
        self.assertEqual(written.count(ANSWER), 2)
        self.assertTrue(client.transport.disconnecting)
        # What was refused stays refused (RFC 9113, 6.8).
        self.assertTrue(written.endswith(GoAwayFrame(0, last_stream_id=late - 2).serialize()))

    def test_drain_ends_with_an_answer_without_content(self) -> None:
        client = Second2()
        client.post()
        client.connection.drain()
        client.channel.exchanges[0].accept()
        self.assertTrue(client.transport.disconnecting)

    def test_retired(self) -> None:
        """First it says that requests belong elsewhere, and answers those on their way; a while later it takes none."""
        client = Second2(answer)
        client.wire.clock.advance(1)
        client.connection.retire()
        self.assertIn(GoAwayFrame(0, last_stream_id=2**31 - 1).serialize(), client.wire.written())
        self.assertEqual(client.post().status, 200)
        client.connection.sweep(1.0)
        self.assertFalse(client.transport.disconnecting)
        client.wire.clock.advance(1)
        client.connection.sweep(1.0)
        self.assertTrue(client.transport.disconnecting)
        client.connection.retire()
        self.assertEqual(client.wire.written().count(GoAwayFrame(0, last_stream_id=1).serialize()), 1)

    def test_retired_before_it_began(self) -> None:
        client = Second2(answer, greet=False)
        client.wire.clock.advance(1)
        client.wire.connection.retire()
        client.h2.initiate_connection()
        number = client.begin()
        client.h2.send_data(number, BODY, end_stream=True)
        client.wire.connection.dataReceived(client.h2.data_to_send())
        written = client.wire.written()
        self.assertIn(GoAwayFrame(0, last_stream_id=2**31 - 1).serialize(), written)
        self.assertIn(ANSWER, written)

    def test_begun_while_draining(self) -> None:
        client = Second2(answer, greet=False)
        client.wire.connection.closes = True
        client.h2.initiate_connection()
        client.begin()
        client.exchange()
        self.assertEqual((client.ended, client.transport.disconnecting), ([ErrorCodes.NO_ERROR], True))
        self.assertEqual(client.channel.messages, [])

    def test_client_says_goodbye(self) -> None:
        """What is under way is answered still."""
        client = Second2()
        client.post()
        client.h2.close_connection()
        client.wire.connection.dataReceived(client.h2.data_to_send())
        self.assertFalse(client.transport.disconnecting)
        client.channel.exchanges[0].reply(ANSWER)
        self.assertIn(ANSWER, client.wire.written())
        self.assertTrue(client.transport.disconnecting)

    def test_end_of_input(self) -> None:
        client = Second2(answer)
        client.post()
        client.wire.connection.readConnectionLost()
        self.assertTrue(client.transport.disconnecting)
        client.wire.connection.readConnectionLost()

    def test_end_of_input_cancels(self) -> None:
        client = Second2()
        client.post()
        client.wire.connection.readConnectionLost()
        self.assertTrue(client.transport.disconnected)

    def test_lost(self) -> None:
        client = Second2()
        client.post()
        client.post()
        client.begin()
        client.exchange()
        client.wire.lose()
        self.assertEqual(client.channel.gone, client.channel.exchanges)
        for exchange in client.channel.exchanges:
            exchange.reply(ANSWER)
            exchange.notify(NOTE)
        self.assertEqual(client.wire.written(), b"")

    def test_abort(self) -> None:
        client = Second2()
        client.connection.abort()
        self.assertTrue(client.transport.disconnected)

    def test_after_the_end(self) -> None:
        client = Second2(answer)
        client.connection.drain()
        client.wire.connection.dataReceived(b"whatever")
        self.assertEqual(client.channel.messages, [])
        client.wire.after(11)
        self.assertTrue(client.transport.disconnected)

    def test_settings_that_cannot_be(self) -> None:
        client = Second2()
        client.post()
        client.send(SettingsFrame(0, {SettingCodes.MAX_FRAME_SIZE: 1}))
        self.assertEqual((client.ended, client.transport.disconnecting), ([ErrorCodes.PROTOCOL_ERROR], True))
        self.assertEqual(client.channel.gone, client.channel.exchanges)

    def test_window_that_cannot_be(self) -> None:
        """Too wide a window costs its stream; too wide a connection's window costs the connection."""
        client = Second2()
        client.post()
        client.send(WindowUpdateFrame(1, 2**31 - 1))
        self.assertEqual(client.got[1].reset, ErrorCodes.FLOW_CONTROL_ERROR)
        self.assertEqual(client.channel.gone, client.channel.exchanges)
        client.send(WindowUpdateFrame(0, 2**31 - 1))
        self.assertEqual(client.ended, [ErrorCodes.FLOW_CONTROL_ERROR])
