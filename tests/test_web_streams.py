"""The HTTP client's HTTP/2 connections, against an h2 server in memory that does right, and wrong."""

import struct
from typing import Any
from unittest import mock

from h2.errors import ErrorCodes
from h2.events import PingReceived, RequestReceived, WindowUpdated
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.web import WebRequest
from tests.web_memory import GET, HEAD, Memory, Spoken
from tests.web_servers import TwoFactory


def nothing(*_: Any) -> None:
    """Do not answer yet."""


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">HBBBL", len(body) >> 8, len(body) & 255, kind, flags, stream) + body


class TwoCase(SynchronousTestCase):
    def start(self, factory: TwoFactory | None = None, **options: Any) -> Spoken:
        self.memory = memory = Memory(http2="prior_knowledge", **options)
        self.first = memory.send(GET)
        spoken = memory.server(memory.only(), factory)
        spoken.pump()
        return spoken

    def quiet(self, **options: Any) -> Spoken:
        """A connection whose server answers when it is told to: stream 1 is `self.first`."""
        return self.start(TwoFactory(nothing), **options)


class StreamTests(TwoCase):
    def test_many_on_one(self) -> None:
        spoken = self.start()
        self.assertEqual((self.first.status, self.first.text, self.first.ends), (200, b"/", ["done"]))
        told = [
            self.memory.send(WebRequest(b"POST", b"/x", ((b"x-n", b"%d" % n),), b"body %d" % n))
            for n in range(50)
        ]
        head = self.memory.send(HEAD)
        spoken.pump()
        self.assertEqual([one.text for one in told], [b"body %d" % n for n in range(50)])
        self.assertEqual(head.ends, ["done"])
        self.assertEqual(self.memory.dials(), [])
        self.assertEqual(told[0].headers, [(b"content-type", b"text/plain")])
        requests = [event for event in spoken.protocol.events if isinstance(event, RequestReceived)]
        fields = dict(requests[5].headers)
        self.assertEqual(fields[b":authority"], b"192.0.2.1")
        self.assertEqual(fields[b"content-length"], b"6")
        self.assertEqual(fields[b"accept-encoding"], b"identity")
        # What has ended is forgotten, by h2 too.
        for _ in range(200):
            self.memory.send(GET)
            spoken.pump()
        self.assertLess(len(self.memory.pool.connections[0].streams._h2.streams), 60)

    def test_what_is_sent_in_one_turn_is_written_at_once(self) -> None:
        spoken = self.start()
        with mock.patch.object(spoken.line.transport, "write", wraps=spoken.line.transport.write) as write:
            for _ in range(20):
                self.memory.send()
            self.memory.turn()
        # The first goes at once, the rest together.
        self.assertEqual(write.call_count, 2)

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.integers(1, 400), max_size=40))
    def test_however_it_is_cut(self, sizes: list[int]) -> None:
        spoken = self.quiet()
        spoken.protocol.reply(1, b"x" * 3000, headers=[(b"x-a", b"1"), (b"x-a", b"2")])
        data = spoken.protocol.h2.data_to_send()
        for size in sizes:
            spoken.line.say(data[:size]) if data[:size] else None
            data = data[size:]
        if data:
            spoken.line.say(data)
        self.assertEqual(self.first.text, b"x" * 3000)
        self.assertEqual(self.first.headers, [(b"x-a", b"1"), (b"x-a", b"2")])
        self.assertEqual(self.first.ends, ["done"])

    @settings(deadline=None, max_examples=100)
    @given(st.binary(min_size=1, max_size=200), st.booleans())
    def test_rubbish(self, data: bytes, framed: bool) -> None:
        spoken = self.quiet()
        if framed:
            data = frame(data[0] % 12, data[-1], 1, data[1:-1])
        spoken.line.say(data)
        spoken.line.end(ConnectionLost())
        self.assertEqual(len(self.first.ends), 1)

    def test_long_bodies_both_ways(self) -> None:
        spoken = self.start()
        body = bytes(range(256)) * 8000
        told = self.memory.send(WebRequest(b"POST", b"/", (), body))
        other = self.memory.send(WebRequest(b"POST", b"/", (), body[:300_000]))
        spoken.pump()
        self.assertEqual(told.text, body)
        self.assertEqual(other.text, body[:300_000])
        for _ in range(12):
            told = self.memory.send(WebRequest(b"POST", b"/", (), body))
            spoken.pump()
            self.assertEqual(told.text, body)

    def test_a_long_head(self) -> None:
        spoken = self.start()
        told = self.memory.send(WebRequest(b"POST", b"/", ((b"x-a", b"\xff" * 40_000),), b"x"))
        spoken.pump()
        self.assertEqual(told.text, b"x")
        told = self.memory.send(WebRequest(b"GET", b"/y", ((b"x-b", b"\xff" * 40_000),)))
        spoken.pump()
        self.assertEqual(told.text, b"/y")

    def test_interim_and_trailers(self) -> None:
        spoken = self.quiet()
        h2 = spoken.protocol.h2
        h2.send_headers(1, [(b":status", b"103"), (b"link", b"x")])
        h2.send_headers(1, [(b":status", b"200")])
        h2.send_data(1, b"ab")
        h2.send_headers(1, [(b"x-sum", b"1")], end_stream=True)
        spoken.say()
        self.assertEqual((self.first.status, self.first.text, self.first.ends), (200, b"ab", ["done"]))
        self.assertEqual(self.first.headers, [])

    def test_pause_closes_the_window_of_one_stream(self) -> None:
        spoken = self.quiet()
        other = self.memory.send()
        spoken.pump()
        self.first.ongoing.pause()
        size = 2_000_000
        spoken.protocol.reply(1, b"x" * size)
        spoken.protocol.reply(3, b"y" * size)
        spoken.say()
        self.assertEqual(len(self.first.text), 256 * 1024)
        self.assertEqual(len(other.text), size)
        self.first.ongoing.resume()
        spoken.pump()
        self.assertEqual(len(self.first.text), size)
        self.assertEqual(self.first.ends, ["done"])
        # Little has come, so that there is nothing to open.
        told = self.memory.send()
        spoken.pump()
        told.ongoing.pause()
        told.ongoing.resume()
        spoken.protocol.reply(5, b"z")
        spoken.say()
        self.assertEqual(told.text, b"z")

    def test_resumed_from_within(self) -> None:
        spoken = self.quiet()
        self.first.when_body = lambda: (self.first.ongoing.pause(), self.first.ongoing.resume())
        spoken.protocol.reply(1, b"x" * 1_000_000)
        spoken.say()
        self.assertEqual(len(self.first.text), 1_000_000)

    def test_abort(self) -> None:
        spoken = self.quiet()
        other = self.memory.send()
        spoken.pump()
        self.first.ongoing.abort()
        spoken.pump()
        self.assertEqual(spoken.protocol.resets, [(1, ErrorCodes.CANCEL)])
        spoken.protocol.reply(3, b"x")
        spoken.say()
        self.assertEqual((self.first.ends, other.ends), ([], ["done"]))
        # Over before it has left.
        late = self.memory.send()
        late.ongoing.abort()
        spoken.pump()
        self.assertEqual(late.ends, [])
        self.assertEqual(self.memory.dials(), [])

    def test_abort_from_within(self) -> None:
        for moment in ("when_head", "when_body"):
            spoken = self.quiet()
            setattr(self.first, moment, lambda: self.first.ongoing.abort())
            spoken.protocol.reply(1, b"x" * 200_000)
            spoken.say()
            self.assertEqual(self.first.ends, [])
            spoken = self.quiet()
            setattr(self.first, moment, lambda: self.first.ongoing.abort())
            # The whole answer is there already.
            spoken.protocol.reply(1, b"x")
            spoken.say()
            self.assertEqual(self.first.ends, [])
            told = self.memory.send()
            spoken.pump()
            spoken.protocol.reply(3, b"x")
            spoken.say()
            self.assertEqual(told.ends, ["done"])

    def test_what_comes_for_an_aborted_stream(self) -> None:
        spoken = self.quiet()
        spoken.protocol.reply(1, b"x" * 20_000)
        on_its_way = spoken.protocol.h2.data_to_send()
        self.first.ongoing.abort()
        spoken.line.say(on_its_way)
        told = self.memory.send()
        spoken.line.taken()
        self.assertEqual(self.first.ends, [])
        self.assertEqual(told.ends, [])
        self.assertFalse(spoken.line.transport.disconnecting)

    def test_answered_before_all_is_sent(self) -> None:
        factory = TwoFactory(nothing)
        factory.acknowledge = False
        spoken = self.start(factory)
        told = self.memory.send(WebRequest(b"POST", b"/", (), b"x" * 200_000))
        spoken.pump()
        spoken.protocol.reply(3, b"no", b"413")
        spoken.say()
        self.assertEqual((told.status, told.text, told.ends), (413, b"no", ["done"]))
        self.assertEqual(spoken.protocol.resets, [(3, ErrorCodes.CANCEL)])

    def test_a_body_that_waits_for_the_window(self) -> None:
        factory = TwoFactory(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
        factory.acknowledge = False
        spoken = self.start(factory)
        told = self.memory.send(WebRequest(b"POST", b"/", (), b"x" * 100))
        spoken.pump()
        self.assertEqual(told.ends, [])
        spoken.protocol.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 60})
        spoken.say()
        self.assertEqual(told.ends, [])
        spoken.protocol.h2.increment_flow_control_window(40, 3)
        spoken.say()
        self.assertEqual(told.text, b"x" * 100)

    def test_receivers_that_fail(self) -> None:
        for moment in ("when_head", "when_body", "when_done"):
            spoken = self.quiet()
            setattr(self.first, moment, lambda: 1 / 0)
            other = self.memory.send()
            spoken.pump()
            spoken.protocol.reply(1, b"x")
            spoken.protocol.reply(3, b"x")
            spoken.say()
            self.assertEqual(other.ends, ["done"])
            self.assertEqual(len(self.first.ends), 1)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_answers_that_are_none(self) -> None:
        for fields, says in (
            ([(b":status", b"999")], "no status, or one that is none: b'999'"),
            ([], "no status, or one that is none: b''"),
            ([(b":status", b"2x0")], "no status, or one that is none: b'2x0'"),
            ([(b"x-a", b"1")], "status"),
            ([(b":status", b"200"), (b"connection", b"close")], "connection"),
            ([(b":status", b"200"), (b"x-a", b"1\r\nx: y")], "control character"),
        ):
            spoken = self.quiet()
            h2 = spoken.protocol.h2
            block = h2.encoder.encode(fields)
            spoken.line.say(frame(1, 4, 1, block))
            spoken.pump()
            self.assertIn(says, str(self.first.error))
            other = self.memory.send()
            spoken.pump()
            self.assertEqual(other.ends, [])
            self.assertFalse(spoken.line.transport.disconnecting)


class LimitTests(TwoCase):
    def test_no_more_streams_than_the_server_takes(self) -> None:
        factory = TwoFactory(nothing, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 3})
        spoken = self.start(factory, connections_per_origin=1)
        told = [self.memory.send() for _ in range(6)]
        spoken.pump()
        self.assertEqual(len(spoken.protocol.requests), 3)
        self.assertEqual(self.memory.pool.waiting, 4)
        for stream in range(1, 15, 2):
            spoken.protocol.reply(stream, b"x")
            spoken.say()
        self.assertEqual([one.ends for one in told], [["done"]] * 6)
        # In their order.
        requests = [event.stream_id for event in spoken.protocol.events if isinstance(event, RequestReceived)]
        self.assertEqual(requests, sorted(requests))

    def test_no_more_streams_than_we_want(self) -> None:
        self.quiet(streams_per_connection=2, connections_per_origin=2)
        for _ in range(5):
            self.memory.send()
        (line,) = self.memory.accept()
        other = self.memory.server(line, TwoFactory(nothing))
        other.pump()
        self.assertEqual(len(other.protocol.requests), 2)
        self.assertEqual(self.memory.pool.waiting, 2)

    def test_a_server_that_takes_none(self) -> None:
        spoken = self.quiet(connections_per_origin=1, queue_timeout=5)
        spoken.protocol.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 0})
        spoken.say()
        told = self.memory.send()
        self.memory.advance(6)
        self.assertIn("no turn within 5 s", str(told.error))

    def test_refused_streams_are_sent_again(self) -> None:
        spoken = self.quiet()
        for stream in (1, 3, 5):
            self.assertIn(stream, spoken.protocol.requests)
            spoken.protocol.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            spoken.say()
        self.assertEqual(self.first.ends, [])
        spoken.protocol.h2.reset_stream(7, ErrorCodes.REFUSED_STREAM)
        spoken.say()
        self.assertIn("REFUSED_STREAM", str(self.first.error))
        self.assertTrue(self.first.error.unsent)

    def test_refused_after_the_answer_has_begun(self) -> None:
        """Who answers has acted: nothing is sent twice, whatever is said then."""
        for refuse in (
            lambda h2: h2.reset_stream(1, ErrorCodes.REFUSED_STREAM),
            lambda h2: h2.close_connection(last_stream_id=0),
        ):
            self.setUp()
            spoken = self.quiet()
            spoken.protocol.h2.send_headers(1, [(":status", "200")])
            spoken.protocol.h2.send_data(1, b"some")
            refuse(spoken.protocol.h2)
            spoken.say()
            self.assertEqual((self.first.status, self.first.text), (200, b"some"))
            self.assertFalse(self.first.error.unsent)
            self.assertEqual(self.memory.pool.waiting, 0)

    def test_reset(self) -> None:
        spoken = self.quiet()
        spoken.protocol.h2.reset_stream(1, ErrorCodes.INTERNAL_ERROR)
        spoken.say()
        self.assertIn("reset the stream: INTERNAL_ERROR", str(self.first.error))
        self.assertFalse(self.first.error.unsent)
        told = self.memory.send()
        spoken.pump()
        spoken.protocol.h2.reset_stream(3, 0x1234)
        spoken.say()
        self.assertIn("error 4660", str(told.error))

    def test_congested(self) -> None:
        spoken = self.quiet()
        protocol = spoken.line.transport.producer
        protocol.pauseProducing()
        told = self.memory.send(WebRequest(b"POST", b"/", (), b"x" * 100))
        spoken.pump()
        self.assertEqual(self.memory.pool.waiting, 1)
        protocol.resumeProducing()
        spoken.pump()
        self.assertEqual(len(spoken.protocol.requests), 2)
        protocol.stopProducing()
        protocol.pauseProducing()
        # Its pings are answered, up to a bound, though it reads nothing.
        with mock.patch("erlmcp.web._two._UNREAD", 50):
            for _ in range(4):
                spoken.protocol.h2.ping(b"12345678")
                spoken.line.say(spoken.protocol.h2.data_to_send())
        self.assertTrue(spoken.line.transport.aborted)
        spoken.line.end(ConnectionAborted())
        self.assertIn("does not read", str(self.first.error))
        self.assertEqual(told.error.unsent, False)


class GoawayTests(TwoCase):
    def test_what_the_server_has_taken_is_answered(self) -> None:
        spoken = self.quiet()
        second, third = self.memory.send(), self.memory.send()
        spoken.pump()
        h2 = spoken.protocol.h2
        spoken.line.say(frame(7, 0, 0, struct.pack(">LL", 3, 0)))
        # Two are answered here; the third is sent again elsewhere, and what is new too.
        fourth = self.memory.send()
        (line,) = self.memory.accept()
        spoken.protocol.reply(1, b"x" * 400_000)
        spoken.protocol.reply(3, b"y")
        spoken.say()
        self.assertEqual((len(self.first.text), self.first.ends), (400_000, ["done"]))
        self.assertEqual(second.ends, ["done"])
        self.assertTrue(spoken.line.transport.disconnecting)
        self.assertEqual(len(spoken.protocol.terminated), 1)
        other = self.memory.server(line)
        other.pump()
        self.assertEqual((third.ends, fourth.ends), (["done"], ["done"]))
        spoken.line.end()
        self.assertEqual(len(self.memory.pool.connections), 1)
        self.assertTrue(h2)

    def test_uploads_go_on(self) -> None:
        factory = TwoFactory()
        factory.acknowledge = False
        spoken = self.start(factory)
        told = self.memory.send(WebRequest(b"POST", b"/", (), b"x" * 100_000))
        spoken.pump()
        spoken.line.say(frame(7, 0, 0, struct.pack(">LL", 2**31 - 1, 0)))
        spoken.protocol.h2.increment_flow_control_window(100_000)
        spoken.protocol.h2.increment_flow_control_window(100_000, 3)
        spoken.say()
        self.assertEqual(told.text, b"x" * 100_000)

    def test_nothing_is_under_way(self) -> None:
        spoken = self.start()
        spoken.line.say(frame(7, 0, 0, struct.pack(">LL", 1, 0)))
        self.assertTrue(spoken.line.transport.disconnecting)
        spoken.line.say(frame(7, 0, 0, struct.pack(">LL", 1, 0)))
        self.memory.advance(6)
        self.assertTrue(spoken.line.transport.aborted)

    def test_with_a_reason(self) -> None:
        spoken = self.quiet()
        second = self.memory.send()
        spoken.pump()
        said = struct.pack(">LL", 1, ErrorCodes.ENHANCE_YOUR_CALM) + b"too many pings\n" * 20
        spoken.line.say(frame(7, 0, 0, said))
        spoken.line.end()
        self.assertIn("ENHANCE_YOUR_CALM: 'too many pings", str(self.first.error))
        self.assertNotIn("\n", str(self.first.error))
        self.assertFalse(self.first.error.unsent)
        self.memory.server(self.memory.only()).pump()
        self.assertEqual(second.ends, ["done"])

    def test_at_most_so_often(self) -> None:
        spoken = self.quiet()
        for _ in range(3):
            spoken.line.say(frame(7, 0, 0, struct.pack(">LL", 0, 0)))
            spoken = self.memory.server(self.memory.only(), TwoFactory(nothing))
            spoken.pump()
        self.assertEqual(self.first.ends, [])
        spoken.line.say(frame(7, 0, 0, struct.pack(">LL", 0, 0)))
        self.assertTrue(self.first.error.unsent)
        self.assertIn("takes no more requests: NO_ERROR", str(self.first.error))

    def test_the_last_number(self) -> None:
        spoken = self.start()
        self.memory.pool.connections[0].streams._next = 2**31 - 1
        told = self.memory.send()
        other = self.memory.send()
        line = self.memory.only()
        self.memory.server(line).pump()
        self.assertEqual(other.ends, ["done"])
        spoken.protocol.h2.highest_inbound_stream_id = 2**31 - 3
        spoken.pump()
        self.assertEqual(told.ends, ["done"])
        self.assertTrue(spoken.line.transport.disconnecting)


class LossTests(TwoCase):
    def test_lost(self) -> None:
        spoken = self.quiet()
        before = self.memory.send()
        self.memory.turn()
        # In this turn, so nothing of it has left.
        after = self.memory.send()
        spoken.line.protocol.connectionLost(Failure(ConnectionLost("gone")))
        self.assertIn("before the answer did", str(self.first.error))
        self.assertFalse(before.error.unsent)
        self.assertEqual(after.ends, [])
        self.memory.server(self.memory.only()).pump()
        self.assertEqual(after.ends, ["done"])

    def test_the_kernel(self) -> None:
        spoken = self.quiet()
        self.memory.pool.connections[0]._direct = True
        with mock.patch("erlmcp.web._two.send_at_once", side_effect=lambda _, data: data[9:]):
            self.memory.send()
            self.memory.turn()
        self.assertTrue(spoken.line.taken())
        with mock.patch("erlmcp.web._two.send_at_once", side_effect=BrokenPipeError):
            told = self.memory.send()
            self.memory.turn()
        spoken.line.end(ConnectionDone())
        self.assertEqual(told.ends, [])
        self.memory.server(self.memory.only()).pump()
        self.assertEqual(told.ends, ["done"])

    def test_no_http2(self) -> None:
        memory = Memory(http2="prior_knowledge")
        told = memory.send()
        line = memory.only()
        line.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(
            "http://192.0.2.1: the server breaks the rules of HTTP/2, or speaks no HTTP/2", str(told.error)
        )
        self.assertTrue(line.transport.aborted)
        line.say(b"more")
        line.end(ConnectionAborted())
        self.assertEqual(len(told.ends), 1)

    def test_rules_broken(self) -> None:
        for data in (
            frame(0, 0, 0, b"x"),  # DATA on no stream
            frame(9, 4, 1, b""),  # CONTINUATION of nothing
            frame(5, 4, 1, struct.pack(">L", 2) + b"\x88"),  # a push that was forbidden
            frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff"),  # HPACK that is none
            frame(1, 0, 1, b"\x88") + frame(9, 0, 1, b"") * 200,  # CONTINUATION without end
            frame(4, 0, 0, struct.pack(">HL", 4, 2**31)),  # a window that is too large
            frame(1, 5, 99, b"\x88"),  # an answer to nothing
        ):
            spoken = self.quiet()
            spoken.line.say(data)
            self.assertIn("breaks the rules", str(self.first.error), data)
            self.assertTrue(spoken.line.transport.aborted)
            self.assertIn(b"\0\0\x08\x07", spoken.line.taken())

    def test_a_head_that_is_too_large(self) -> None:
        spoken = self.quiet(header_bytes=2000)
        spoken.protocol.h2.send_headers(1, [(b":status", b"200"), (b"x-a", b"y" * 3000)])
        spoken.say()
        self.assertIn("breaks the rules", str(self.first.error))

    def test_floods(self) -> None:
        for data in (
            frame(6, 0, 0, b"12345678"),  # PING
            frame(4, 0, 0, b""),  # SETTINGS
            frame(8, 0, 0, struct.pack(">L", 1)),  # WINDOW_UPDATE
            frame(0, 0, 1, b""),  # empty DATA
            frame(2, 0, 1, struct.pack(">LB", 0, 1)),  # PRIORITY
            frame(0xB, 0, 1, b"what"),  # unknown
        ):
            spoken = self.quiet()
            spoken.protocol.h2.send_headers(1, [(b":status", b"200")])
            spoken.say()
            for _ in range(30):
                spoken.line.say(data * 40)
            self.assertIn("frame after frame", str(self.first.error), data)
            self.assertTrue(spoken.line.transport.aborted)

    def test_no_flood(self) -> None:
        """As many in an hour are none, nor are those that come with as many requests."""
        spoken = self.quiet()
        for _ in range(60):
            spoken.line.say(frame(6, 0, 0, b"12345678") * 40)
            self.memory.advance(1)
        self.assertEqual(self.first.ends, [])
        spoken = self.start()
        for _ in range(500):
            self.memory.send()
            spoken.line.say(frame(8, 0, 0, struct.pack(">L", 1)) * 3)
            spoken.pump()
        self.assertFalse(spoken.line.transport.aborted)

    def test_close(self) -> None:
        spoken = self.quiet()
        done = self.memory.pool.close()
        self.assertIn("the pool is closed", str(self.first.error))
        self.assertTrue(spoken.line.transport.aborted)
        spoken.line.end()
        self.successResultOf(done)
        spoken = self.start()
        done = self.memory.pool.close()
        self.assertFalse(spoken.line.transport.aborted)
        self.assertTrue(spoken.line.transport.disconnecting)
        self.memory.pool.close()
        spoken.line.end()
        self.successResultOf(done)

    def test_close_from_within(self) -> None:
        spoken = self.quiet()
        other = self.memory.send()
        spoken.pump()
        self.first.when_head = lambda: self.memory.pool.close()
        spoken.protocol.reply(1, b"x")
        spoken.protocol.reply(3, b"x")
        spoken.say()
        self.assertIn("closed", str(self.first.error))
        self.assertIn("closed", str(other.error))

    def test_begun_on_a_connection_that_is_past_it(self) -> None:
        self.start()
        self.memory.pool.connections[0].streams._h2.close_connection()
        told = self.memory.send()
        self.memory.server(self.memory.only()).pump()
        self.assertEqual(told.ends, ["done"])


class TimeTests(TwoCase):
    def test_no_answer(self) -> None:
        spoken = self.quiet(response_head_timeout=10)
        self.memory.advance(6)
        second = self.memory.send()
        spoken.pump()
        self.memory.advance(5)
        self.assertIn("no answer within 10 s", str(self.first.error))
        self.assertEqual(second.ends, [])
        spoken.pump()
        self.assertEqual(spoken.protocol.resets, [(1, ErrorCodes.CANCEL)])
        spoken.protocol.h2.send_headers(3, [(b":status", b"200")])
        spoken.say()
        self.memory.advance(25)
        spoken.pump()
        self.assertEqual(second.ends, [])

    def test_idle(self) -> None:
        spoken = self.start(idle=20)
        self.memory.advance(15)
        self.memory.send()
        spoken.pump()
        self.memory.advance(15)
        self.assertFalse(spoken.line.transport.disconnecting)
        self.memory.advance(20)
        self.assertTrue(spoken.line.transport.disconnecting)
        spoken.pump()
        self.assertEqual(spoken.protocol.terminated[0].error_code, ErrorCodes.NO_ERROR)

    def test_silence(self) -> None:
        spoken = self.quiet(ping=10)
        spoken.protocol.h2.send_headers(1, [(b":status", b"200")])
        spoken.say()
        for _ in range(10):
            self.memory.advance(10)
            spoken.pump()
        self.assertEqual(self.first.ends, [])
        pings = [event for event in spoken.protocol.events if isinstance(event, PingReceived)]
        self.assertGreater(len(pings), 2)
        self.memory.advance(40)
        self.assertIn("nothing was heard for", str(self.first.error))
        self.assertTrue(spoken.line.transport.aborted)

    def test_windows_are_opened_in_large_steps(self) -> None:
        spoken = self.start()
        for _ in range(100):
            self.memory.send(WebRequest(b"POST", b"/", (), b"x" * 1000))
            spoken.pump()
        updates = [event for event in spoken.protocol.events if isinstance(event, WindowUpdated)]
        self.assertLess(len(updates), 3)
