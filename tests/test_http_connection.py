"""One HTTP connection over its life: turns, streams, back-pressure, time and the end."""

from typing import Any

from httptools import HttpParserCallbackError
from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange, Peer, WireLimits
from erlmcp.transports.http._intake import SLICE
from erlmcp.transports.http._phase import Phase
from erlmcp.transports.http._protocol import HttpConnection
from tests.http_wire import (
    ANSWER,
    BODY,
    HalfCloseable,
    Wire,
    answer,
    chunked,
    dechunk,
    echo,
    events,
    parse,
    post,
)

NOTE = b'{"jsonrpc":"2.0","method":"notifications/progress"}'
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    b"Content-Type: text/event-stream\r\n"
    b"Cache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n"
    b"\r\n"
)


class Secure(StringTransport):
    """Looks like TLS."""

    def getPeerCertificate(self) -> None:  # noqa: N802
        return None


class Answers(SynchronousTestCase):
    """What the channel may do with an exchange."""

    def test_interface(self) -> None:
        wire = Wire()
        wire.send(post())
        verifyObject(IExchange, wire.channel.exchanges[0])

    def test_later(self) -> None:
        wire = Wire()
        self.assertEqual(wire.send(post()), [])
        wire.channel.exchanges[0].reply(ANSWER)
        self.assertEqual(wire.answers()[0].body, ANSWER)
        self.assertEqual(wire.connection.phase, Phase.IDLE)

    def test_never(self) -> None:
        wire = Wire()
        wire.send(post())
        wire.after(100_000)
        self.assertFalse(wire.transport.disconnecting)
        self.assertEqual(wire.connection.phase, Phase.ANSWER)

    def test_once(self) -> None:
        wire = Wire()
        wire.send(post())
        [exchange] = wire.channel.exchanges
        for _ in range(2):
            exchange.reply(ANSWER)
            exchange.accept()
            exchange.abandon()
            exchange.notify(NOTE)
        self.assertEqual([each.body for each in wire.answers()], [ANSWER])
        self.assertFalse(wire.transport.disconnecting)

    def test_status_and_headers(self) -> None:
        fields = ((b"WWW-Authenticate", b"Bearer"),)
        for status in (400, 404, 403, 401, 500, 503, 299):
            wire = Wire(lambda _, exchange, status=status: exchange.reply(ANSWER, status, fields))
            [got] = wire.send(post())
            self.assertEqual(
                (got.status, got.body, got.fields["www-authenticate"]), (status, ANSWER, "Bearer")
            )
            self.assertEqual(wire.send(post())[0].status, status)

    def test_headers_with_200(self) -> None:
        [got] = Wire(lambda _, exchange: exchange.reply(ANSWER, headers=((b"Mcp-X", b"1"),))).send(post())
        self.assertEqual((got.status, got.fields["mcp-x"]), (200, "1"))

    def test_accept(self) -> None:
        [got] = Wire(lambda _, exchange: exchange.accept()).send(post())
        self.assertEqual((got.status, got.body, got.fields["content-length"]), (202, b"", "0"))
        self.assertNotIn("content-type", got.fields)

    def test_abandon(self) -> None:
        wire = Wire()
        wire.send(post())
        wire.channel.exchanges[0].abandon()
        self.assertEqual(wire.written(), b"")
        self.assertTrue(wire.transport.disconnecting)
        self.assertEqual(wire.channel.gone, [])

    def test_abandon_at_once(self) -> None:
        wire = Wire(lambda _, exchange: exchange.abandon())
        self.assertEqual(wire.send(post() + post()), [])
        self.assertTrue(wire.transport.disconnecting)
        self.assertEqual(len(wire.channel.messages), 1)

    def test_peer_is_gone(self) -> None:
        wire = Wire()
        wire.send(post())
        [exchange] = wire.channel.exchanges
        self.assertFalse(exchange.congested)
        wire.lose()
        self.assertEqual(wire.channel.gone, [exchange])
        self.assertTrue(exchange.congested)
        for act in (
            lambda: exchange.notify(NOTE),
            lambda: exchange.reply(ANSWER),
            exchange.accept,
            exchange.abandon,
        ):
            act()
        self.assertEqual(wire.written(), b"")
        self.assertEqual(wire.channel.gone, [exchange])

    def test_settled_exchange_is_not_closed(self) -> None:
        wire = Wire(answer)
        wire.send(post())
        wire.lose()
        self.assertEqual(wire.channel.gone, [])
        self.assertEqual(wire.admission.here, [])

    def test_peer_goes_while_it_is_answered(self) -> None:
        for later in (False, True):
            wire = Wire(None if later else answer)
            wire.transport.write = lambda _, wire=wire: wire.lose()  # type: ignore[method-assign]
            wire.connection.dataReceived(post() * 2)
            if later:
                wire.channel.exchanges[0].reply(ANSWER)
            self.assertEqual(wire.connection.phase, Phase.GONE)
            wire.after(1)
            self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_reply_while_the_peer_goes(self) -> None:
        wire = Wire()
        wire.send(post())
        wire.channel.closed = lambda exchange: exchange.reply(ANSWER)  # type: ignore[method-assign]
        wire.lose()
        self.assertEqual(wire.written(), b"")


class Streams(SynchronousTestCase):
    """Event streams."""

    def test_notify_then_reply(self) -> None:
        wire = Wire()
        wire.send(post())
        [exchange] = wire.channel.exchanges
        exchange.notify(NOTE)
        written = wire.written()
        self.assertEqual(written, STREAM_HEAD + b"3b\r\ndata: " + NOTE + b"\n\n\r\n")
        exchange.notify(NOTE)
        exchange.reply(ANSWER, 404, ((b"X", b"y"),))
        rest, left = dechunk(wire.written())
        self.assertEqual((events(rest.decode().encode()), left), ([NOTE.decode(), ANSWER.decode()], b""))
        self.assertFalse(wire.transport.disconnecting)
        self.assertEqual(len(wire.send(post())), 0)
        self.assertEqual(len(wire.channel.messages), 2)

    def test_at_once_in_one_write(self) -> None:
        writes: list[bytes] = []
        wire = Wire(lambda _, exchange: (exchange.notify(NOTE), exchange.reply(ANSWER)))
        wire.transport.write = writes.append  # type: ignore[method-assign]
        wire.connection.dataReceived(post())
        self.assertEqual(len(writes), 1)
        self.assertEqual(events(parse(writes[0])[0].body), [NOTE.decode(), ANSWER.decode()])

    def test_notify_at_once_reply_later(self) -> None:
        wire = Wire(lambda _, exchange: exchange.notify(NOTE))
        wire.send(post())
        self.assertEqual(wire.connection.phase, Phase.STREAM)
        wire.channel.exchanges[0].accept()
        self.assertEqual(wire.connection.phase, Phase.IDLE)

    def test_lines_in_a_message(self) -> None:
        wire = Wire(lambda _, exchange: (exchange.notify(b'{\n"a":\r\n1\r}'), exchange.reply(ANSWER)))
        [got] = wire.send(post())
        self.assertEqual(events(got.body), ['{\n"a":\n1\n}', ANSWER.decode()])

    def test_end_without_answer(self) -> None:
        for act, closes in (("accept", False), ("abandon", True)):
            wire = Wire(lambda _, exchange: exchange.notify(NOTE))
            data = wire.send(post())
            getattr(wire.channel.exchanges[0], act)()
            self.assertEqual(wire.written(), b"0\r\n\r\n")
            self.assertEqual(wire.transport.disconnecting, closes)
            self.assertEqual(events(data[0].body), [NOTE.decode()])

    def test_json_only(self) -> None:
        for accept in ("application/json", "application/*", "application/json, text/event-stream;q=0"):
            wire = Wire(lambda _, exchange: (exchange.notify(NOTE), exchange.reply(ANSWER)))
            [got] = wire.send(post(accept=accept))
            self.assertEqual((got.body, got.fields["content-type"]), (ANSWER, "application/json"))
            self.assertFalse(wire.channel.exchanges[0].streaming)

    def test_both(self) -> None:
        for accept in (
            "*/*",
            "text/*, application/*",
            "application/json;q=0.5,text/event-stream;q=0.1",
            "x" * 300 + ",*/*",
        ):
            wire = Wire(answer)
            self.assertEqual(wire.send(post(accept=accept))[0].fields["content-type"], "application/json")
            self.assertTrue(wire.channel.exchanges[0].streaming)
        wire = Wire(answer)
        wire.send(post(drop=("accept",)))
        self.assertTrue(wire.channel.exchanges[0].streaming)

    def test_stream_only(self) -> None:
        wire = Wire(answer)
        [got] = wire.send(post(accept="text/event-stream"))
        self.assertEqual(got.fields["content-type"], "text/event-stream")
        self.assertEqual(events(got.body), [ANSWER.decode()])
        self.assertFalse(wire.transport.disconnecting)

    def test_errors_are_json_even_so(self) -> None:
        wire = Wire(lambda _, exchange: exchange.reply(ANSWER, 404))
        [got] = wire.send(post(accept="text/event-stream"))
        self.assertEqual((got.status, got.body), (404, ANSWER))

    def test_http_1_0_stream_ends_with_the_connection(self) -> None:
        wire = Wire(lambda _, exchange: exchange.notify(NOTE))
        first = wire.transport
        wire.connection.dataReceived(post(version=b"HTTP/1.0", connection="keep-alive"))
        wire.channel.exchanges[0].reply(ANSWER)
        [got] = wire.answers()
        self.assertEqual(got.fields["connection"], "close")
        self.assertNotIn("transfer-encoding", got.fields)
        self.assertEqual(events(got.body), [NOTE.decode(), ANSWER.decode()])
        self.assertTrue(first.disconnecting)

    def test_http_1_0_abandon(self) -> None:
        wire = Wire(lambda _, exchange: exchange.notify(NOTE))
        wire.connection.dataReceived(post(version=b"HTTP/1.0"))
        wire.written()
        wire.channel.exchanges[0].abandon()
        self.assertEqual(wire.written(), b"")
        self.assertTrue(wire.transport.disconnecting)

    def test_http_1_0_stream_only(self) -> None:
        wire = Wire(answer)
        [got] = wire.send(post(version=b"HTTP/1.0", connection="keep-alive", accept="text/event-stream"))
        self.assertEqual(events(got.body), [ANSWER.decode()])
        self.assertTrue(wire.transport.disconnecting)

    def test_stream_that_closes_says_so(self) -> None:
        wire = Wire(lambda _, exchange: (exchange.notify(NOTE), exchange.reply(ANSWER)))
        [got] = wire.send(post(connection="close"))
        self.assertEqual((got.fields["connection"], got.fields["transfer-encoding"]), ("close", "chunked"))
        self.assertTrue(wire.transport.disconnecting)

    def test_heartbeat(self) -> None:
        wire = Wire(lambda _, exchange: exchange.notify(NOTE))
        wire.send(post())
        wire.after(14)
        self.assertEqual(wire.written(), b"")
        wire.after(2)
        self.assertEqual(wire.written(), b"3\r\n:\n\n\r\n")
        wire.after(15)
        self.assertEqual(wire.written(), b"3\r\n:\n\n\r\n")
        wire.after(8)
        wire.channel.exchanges[0].notify(NOTE)
        wire.written()
        wire.after(10)
        self.assertEqual(wire.written(), b"")

    def test_no_heartbeat_before_the_stream(self) -> None:
        wire = Wire()
        wire.send(post())
        wire.after(8000)
        self.assertEqual(wire.written(), b"")

    def test_no_heartbeat_for_who_does_not_read(self) -> None:
        wire = Wire(lambda _, exchange: exchange.notify(NOTE), limits=WireLimits(idle=100))
        wire.send(post())
        wire.connection.pauseProducing()
        wire.after(90)
        self.assertEqual((wire.written(), wire.transport.disconnected), (b"", False))
        wire.after(40)
        self.assertTrue(wire.transport.disconnected)


class Turns(SynchronousTestCase):
    """Keep-alive and pipelining."""

    def test_pipelined_at_once(self) -> None:
        writes: list[bytes] = []
        wire = Wire(echo)
        wire.transport.write = writes.append  # type: ignore[method-assign]
        bodies = [b'"%d"' % i for i in range(5)]
        wire.connection.dataReceived(b"".join(map(post, bodies)))
        self.assertEqual(wire.channel.messages, bodies)
        self.assertEqual(len(writes), 1)
        self.assertEqual([each.body for each in parse(writes[0])], bodies)

    def test_one_at_a_time_in_order(self) -> None:
        wire = Wire()
        bodies = [b'"%d"' % i for i in range(200)]
        wire.connection.dataReceived(b"".join(map(post, bodies)))
        for i in range(200):
            self.assertEqual(wire.channel.messages, bodies[: i + 1])
            wire.channel.exchanges[i].reply(bodies[i])
            self.assertEqual([each.body for each in wire.answers()], [bodies[i]])
        self.assertEqual(wire.connection.phase, Phase.IDLE)
        self.assertFalse(wire.transport.disconnecting)

    def test_refusals_keep_their_place(self) -> None:
        wire = Wire()
        wire.connection.dataReceived(post() + post(method=b"GET") + post() + b"junk\r\n\r\n")
        self.assertEqual(wire.written(), b"")
        wire.channel.exchanges[0].reply(ANSWER)
        self.assertEqual([each.status for each in wire.answers()], [200, 405])
        wire.channel.exchanges[1].reply(ANSWER)
        self.assertEqual([each.status for each in wire.answers()], [200, 400])
        self.assertTrue(wire.transport.disconnecting)

    def test_what_is_sent_ahead_is_bounded(self) -> None:
        wire = Wire()
        wire.send(post())
        sent = 0
        while wire.transport.producerState == "producing":
            wire.connection.dataReceived(post(b"x" * 1000))
            sent += 1000
            self.assertLess(sent, 200_000)
        self.assertGreater(sent, 50_000)
        self.assertEqual(len(wire.channel.messages), 1)
        count = 0
        while len(wire.channel.exchanges) > count:
            wire.channel.exchanges[count].reply(ANSWER)
            count += 1
        self.assertEqual(count, 1 + sent // 1000)
        self.assertEqual(len(wire.answers()), count)
        self.assertEqual(wire.transport.producerState, "producing")

    def test_large_body_in_one_piece(self) -> None:
        wire = Wire(echo)
        body = b"x" * (SLICE * 5 + 3)
        self.assertEqual([each.body for each in wire.send(post(body) + post())], [body, BODY])

    def test_connection_lost_drops_what_waits(self) -> None:
        wire = Wire()
        wire.send(post() * 3)
        wire.lose()
        self.assertEqual((len(wire.channel.messages), wire.channel.gone), (1, wire.channel.exchanges))

    def test_intakes_are_shared(self) -> None:
        wire = Wire(answer)
        wire.send(post())
        first = wire.shared.lend()
        wire.shared.take_back(first)
        wire.send(post())
        self.assertIs(wire.shared.lend(), first)

    def test_intake_pool_is_bounded(self) -> None:
        wire = Wire(answer)
        lent = [wire.shared.lend() for _ in range(300)]
        for intake in lent:
            wire.shared.take_back(intake)
        kept = [wire.shared.lend() for _ in range(300)]
        self.assertEqual(len({*kept} & {*lent}), 256)

    def test_damage_stays_on_its_connection(self) -> None:
        wire = Wire(answer)
        wire.send(post() + b"\x00")
        other = wire.factory.buildProtocol(None)
        transport = StringTransport()
        other.makeConnection(transport)
        other.dataReceived(post())
        self.assertEqual(parse(transport.value())[0].status, 200)

    def test_a_defect_of_ours_does_not_hide(self) -> None:
        wire = Wire(answer)
        wire.shared.rules.visitors = None  # type: ignore[assignment]
        with self.assertRaises(HttpParserCallbackError) as caught:
            wire.connection.dataReceived(post())
        self.assertIsInstance(caught.exception.__context__, AttributeError)


class BackPressure(SynchronousTestCase):
    """A peer that does not read."""

    LIMITS = WireLimits(write_buffer=1000)

    def test_congested(self) -> None:
        wire = Wire(limits=self.LIMITS)
        wire.send(post())
        [exchange] = wire.channel.exchanges
        wire.connection.pauseProducing()
        self.assertFalse(exchange.congested)
        exchange.notify(b"x" * 1000)
        self.assertTrue(exchange.congested)
        wire.connection.resumeProducing()
        self.assertFalse(exchange.congested)

    def test_cut_at_four_times(self) -> None:
        wire = Wire(limits=self.LIMITS)
        wire.send(post())
        [exchange] = wire.channel.exchanges
        wire.connection.pauseProducing()
        sent = 0
        while not wire.transport.disconnected:
            exchange.notify(b"x" * 100)
            wire.connection.pauseProducing()
            sent += 100
            self.assertLessEqual(sent, 4000)
        self.assertGreater(sent, 3000)

    def test_no_new_request_while_it_does_not_read(self) -> None:
        wire = Wire(answer)
        wire.connection.pauseProducing()
        self.assertEqual(wire.send(post() * 3), [])
        self.assertEqual(wire.channel.messages, [])
        wire.connection.resumeProducing()
        self.assertEqual(len(wire.answers()), 3)

    def test_pressure_between_pipelined_requests(self) -> None:
        big = b"x" * 20_000
        wire = Wire(lambda _, exchange: exchange.reply(big))
        written: list[bytes] = []

        def write(data: bytes) -> None:
            written.append(data)
            wire.connection.pauseProducing()

        wire.transport.write = write  # type: ignore[method-assign]
        wire.connection.dataReceived(post() * 3)
        for count in (1, 2, 3):
            self.assertEqual((len(wire.channel.messages), len(written)), (count, count))
            wire.connection.resumeProducing()

    def test_many_small_notifications_at_once(self) -> None:
        writes: list[bytes] = []

        def flood(message: bytes, exchange: Any) -> None:
            for _ in range(1000):
                exchange.notify(NOTE)
            exchange.reply(ANSWER)

        wire = Wire(flood)
        wire.transport.write = writes.append  # type: ignore[method-assign]
        wire.connection.dataReceived(post())
        self.assertGreater(len(writes), 10)
        self.assertEqual(len(events(parse(b"".join(writes))[0].body)), 1001)

    def test_close_waits_until_it_has_read(self) -> None:
        wire = Wire(answer)

        def write(data: bytes) -> None:
            wire.connection.pauseProducing()

        wire.transport.write = write  # type: ignore[method-assign]
        wire.connection.dataReceived(post(connection="close"))
        self.assertFalse(wire.transport.disconnecting)
        wire.after(60)
        self.assertFalse(wire.transport.disconnecting)
        wire.connection.resumeProducing()
        self.assertTrue(wire.transport.disconnecting)
        self.assertFalse(wire.transport.disconnected)

    def test_close_does_not_wait_for_ever(self) -> None:
        wire = Wire(answer, limits=WireLimits(idle=50))
        wire.transport.write = lambda _: wire.connection.pauseProducing()  # type: ignore[method-assign]
        wire.connection.dataReceived(post(connection="close"))
        wire.after(61)
        self.assertTrue(wire.transport.disconnected)

    def test_idle_and_unread(self) -> None:
        wire = Wire(answer, limits=WireLimits(idle=50))
        wire.transport.write = lambda _: wire.connection.pauseProducing()  # type: ignore[method-assign]
        wire.connection.dataReceived(post())
        wire.after(40)
        self.assertFalse(wire.transport.disconnected)
        wire.after(50)
        self.assertTrue(wire.transport.disconnected)

    def test_who_takes_nothing_is_cut_and_who_takes_something_stays(self) -> None:
        """An answer of megabytes may take its time, but is not kept for a peer that reads none of it."""
        socket = FileDescriptor(Clock())
        wire = Wire(answer, limits=WireLimits(slow=10))
        wire.transport.transport = socket  # type: ignore[attr-defined]  # as TLS has it

        def write(data: bytes) -> None:
            socket.dataBuffer = b"x" * 1_000_000
            wire.connection.pauseProducing()

        wire.transport.write = write  # type: ignore[method-assign]
        wire.connection.dataReceived(post())
        for _ in range(10):
            socket.offset += 1
            wire.after(8)
        self.assertFalse(wire.transport.disconnected)
        wire.after(21)
        self.assertTrue(wire.transport.disconnected)

    def test_more_to_take_does_not_count_as_taken(self) -> None:
        socket = FileDescriptor(Clock())
        wire = Wire(limits=WireLimits(slow=10, write_buffer=1_000_000))
        wire.transport.transport = socket  # type: ignore[attr-defined]
        wire.send(post())
        wire.connection.pauseProducing()
        for _ in range(4):
            self.assertFalse(wire.transport.disconnected)
            wire.channel.exchanges[0].notify(NOTE)
            socket.dataBuffer += wire.written()
            wire.after(2.5)
        self.assertTrue(wire.transport.disconnected)

    def test_slow_does_not_run_while_nothing_can_be_read(self) -> None:
        wire = Wire(answer)
        wire.transport.write = lambda _: wire.connection.pauseProducing()  # type: ignore[method-assign]
        wire.connection.dataReceived(post() + post()[:20])
        wire.after(60)
        wire.connection.resumeProducing()
        wire.after(5)
        self.assertFalse(wire.transport.disconnecting)
        wire.connection.dataReceived(post()[20:])
        self.assertEqual(len(wire.channel.messages), 2)

    def test_stop_producing_is_no_news(self) -> None:
        wire = Wire(answer)
        wire.connection.stopProducing()
        self.assertEqual(wire.send(post())[0].status, 200)


class Time(SynchronousTestCase):
    """What the clock cuts off."""

    LIMITS = WireLimits(slow=10, lease=30, idle=100)

    def test_lease(self) -> None:
        wire = Wire(limits=self.LIMITS)
        wire.after(29)
        self.assertFalse(wire.transport.disconnecting)
        wire.after(2)
        self.assertTrue(wire.transport.disconnecting)
        self.assertEqual(wire.written(), b"")

    def test_lease_is_not_renewed_by_noise(self) -> None:
        wire = Wire(limits=self.LIMITS)
        for _ in range(4):
            wire.send(b"\r\n")
            wire.after(8)
        self.assertTrue(wire.transport.disconnecting)

    def test_idle(self) -> None:
        wire = Wire(answer, limits=self.LIMITS)
        for _ in range(3):
            wire.send(post())
            wire.after(95)
            self.assertFalse(wire.transport.disconnecting)
            wire.send(b"\r\n")
        wire.after(10)
        self.assertTrue(wire.transport.disconnecting)

    def test_slow_head(self) -> None:
        for first in (b"", post()):
            wire = Wire(answer, limits=self.LIMITS)
            wire.send(first)
            wire.connection.dataReceived(b"P")
            for byte in b"OST /mcp":
                wire.after(0.5)
                wire.connection.dataReceived(bytes([byte]))
            self.assertEqual(wire.connection.phase, Phase.HEAD)
            wire.after(2)
            [got] = wire.answers()
            self.assertEqual((got.status, got.fields["connection"]), (408, "close"))
            self.assertTrue(wire.transport.disconnecting)

    def test_slow_body(self) -> None:
        wire = Wire(answer, limits=self.LIMITS)
        request = post()
        wire.connection.dataReceived(request[:20])
        wire.after(8)
        wire.connection.dataReceived(request[20:-2])
        self.assertEqual(wire.connection.phase, Phase.BODY)
        wire.after(8)
        self.assertEqual(wire.written(), b"")
        wire.after(3)
        self.assertEqual(wire.answers()[0].status, 408)

    def test_next_request_has_its_own_time(self) -> None:
        wire = Wire(answer, limits=self.LIMITS)
        request = post()
        wire.connection.dataReceived(request[:20])
        for _ in range(5):
            wire.after(7)
            wire.connection.dataReceived(request[20:] + request[:20])
        self.assertEqual(len(wire.answers()), 5)
        self.assertFalse(wire.transport.disconnecting)

    def test_closing_takes_no_longer_than_slow(self) -> None:
        wire = Wire(limits=self.LIMITS)
        wire.send(b"junk\r\n\r\n")
        self.assertTrue(wire.transport.disconnecting)
        wire.after(11)
        self.assertTrue(wire.transport.disconnected)

    def test_one_timer_for_all(self) -> None:
        wire = Wire(answer)
        others = [wire.factory.buildProtocol(None) for _ in range(10)]
        for other in others:
            other.makeConnection(StringTransport())
            other.dataReceived(post())
        wire.send(post() * 10)
        self.assertEqual(len(wire.clock.getDelayedCalls()), 1)


class Ends(SynchronousTestCase):
    """How a connection is over."""

    def test_half_close_with_nothing_under_way(self) -> None:
        wire = Wire(answer)
        wire.send(post())
        wire.connection.readConnectionLost()
        self.assertTrue(wire.transport.disconnecting)
        self.assertFalse(wire.transport.disconnected)

    def test_half_close_before_the_answer_cancels(self) -> None:
        for stream in (False, True):
            wire = Wire()
            wire.send(post())
            if stream:
                wire.channel.exchanges[0].notify(NOTE)
            wire.connection.readConnectionLost()
            self.assertTrue(wire.transport.disconnected)
            wire.lose()
            self.assertEqual(wire.channel.gone, wire.channel.exchanges)

    def test_half_close_in_a_request(self) -> None:
        wire = Wire()
        wire.send(post()[:-3])
        wire.connection.readConnectionLost()
        self.assertTrue(wire.transport.disconnecting)
        wire.lose()
        self.assertEqual(wire.channel.gone, [])

    def test_refusal_is_seen_before_the_end(self) -> None:
        transport = HalfCloseable()
        wire = Wire(transport=transport, limits=WireLimits(message=1000))
        wire.send(post(b"x" * 1001))
        self.assertTrue(transport.half_closed)
        self.assertFalse(transport.disconnecting)
        wire.connection.writeConnectionLost()
        wire.connection.dataReceived(b"x" * 500)
        self.assertFalse(transport.disconnecting)
        wire.connection.readConnectionLost()
        self.assertTrue(transport.disconnecting)
        self.assertEqual(wire.channel.messages, [])

    def test_lingering_is_bounded_in_bytes(self) -> None:
        transport = HalfCloseable()
        wire = Wire(transport=transport, limits=WireLimits(message=1000))
        wire.send(post(b"x" * 1001))
        for _ in range(3):
            wire.connection.dataReceived(b"x" * 500)
        self.assertTrue(transport.disconnected)

    def test_lingering_is_bounded_in_time(self) -> None:
        transport = HalfCloseable()
        wire = Wire(transport=transport)
        wire.send(b"junk\r\n\r\n")
        self.assertFalse(transport.disconnecting)
        wire.after(11)
        self.assertTrue(transport.disconnected)

    def test_reading_goes_on_to_linger(self) -> None:
        transport = HalfCloseable()
        wire = Wire(transport=transport)
        wire.send(post())
        wire.send(b"junk\r\n\r\n" + b"x" * 70_000)
        self.assertEqual(transport.producerState, "paused")
        wire.channel.exchanges[0].reply(ANSWER)
        self.assertEqual(transport.producerState, "producing")
        self.assertTrue(transport.half_closed)

    def test_drain_closes_idle_connections(self) -> None:
        for prepare in ((), (post(),)):
            wire = Wire(answer)
            wire.send(*prepare)
            wire.connection.drain()
            self.assertTrue(wire.transport.disconnecting)

    def test_drain_answers_what_has_begun(self) -> None:
        wire = Wire()
        wire.send(post())
        wire.connection.drain()
        self.assertFalse(wire.transport.disconnecting)
        wire.channel.exchanges[0].reply(ANSWER)
        [got] = wire.answers()
        self.assertEqual((got.body, got.fields["connection"]), (ANSWER, "close"))
        self.assertTrue(wire.transport.disconnecting)

    def test_drain_in_a_request(self) -> None:
        wire = Wire(answer)
        request = post()
        wire.send(request[:30])
        wire.connection.drain()
        [got] = wire.send(request[30:] + post())
        self.assertEqual(got.fields["connection"], "close")
        self.assertEqual(len(wire.channel.messages), 1)

    def test_drain_while_a_request_is_handed_over(self) -> None:
        wire = Wire(lambda _, exchange: (wire.connection.drain(), exchange.reply(ANSWER)))
        [got] = wire.send(post() * 2)
        self.assertEqual(got.fields["connection"], "close")
        self.assertTrue(wire.transport.disconnecting)
        wire = Wire(lambda _, exchange: (exchange.reply(ANSWER), wire.connection.drain()))
        self.assertEqual(wire.send(post())[0].body, ANSWER)
        self.assertTrue(wire.transport.disconnecting)

    def test_drain_in_a_stream(self) -> None:
        wire = Wire(lambda _, exchange: exchange.notify(NOTE))
        wire.send(post())
        wire.connection.drain()
        wire.channel.exchanges[0].reply(ANSWER)
        self.assertTrue(wire.transport.disconnecting)

    def test_drain_twice(self) -> None:
        wire = Wire(answer)
        wire.connection.drain()
        wire.connection.drain()
        self.assertTrue(wire.transport.disconnecting)

    def test_new_connection_while_draining(self) -> None:
        wire = Wire(answer)
        wire.shared.draining = True
        other = HttpConnection(wire.shared)
        transport = StringTransport()
        other.makeConnection(transport)
        other.dataReceived(post() * 2)
        [got] = parse(transport.value())
        self.assertEqual(got.fields["connection"], "close")


class Admitted(SynchronousTestCase):
    """Connection limits."""

    def test_admit_and_leave(self) -> None:
        wire = Wire(answer)
        [peer] = wire.admission.here
        self.assertEqual(
            peer, Peer(transport="http", listener="web", address="192.168.1.1:54321", host="192.168.1.1")
        )
        wire.lose()
        self.assertEqual(wire.admission.here, [])

    def test_turned_away(self) -> None:
        wire = Wire(answer, reason="64 connections for one address")
        [got] = wire.answers()
        self.assertEqual((got.status, got.fields["retry-after"]), (503, "1"))
        self.assertIn("64 connections for one address", got.error["message"])
        self.assertTrue(wire.transport.disconnecting)
        self.assertEqual(wire.send(post()), [])
        wire.lose()
        self.assertEqual((wire.admission.here, wire.shared.connections), ([], {}))

    def test_turned_away_before_the_handshake(self) -> None:
        wire = Wire(answer, reason="full", transport=Secure())
        self.assertEqual(wire.written(), b"")
        self.assertTrue(wire.transport.disconnected)

    def test_secure_peer(self) -> None:
        wire = Wire(answer, transport=Secure())
        wire.send(post())
        self.assertTrue(wire.channel.exchanges[0].peer.secure)

    def test_recognized_behind_a_proxy(self) -> None:
        wire = Wire(answer)
        wire.transport.peerAddr = type(wire.transport.getPeer())("TCP", "203.0.113.9", 5)
        wire.send(post() + post())
        self.assertEqual([peer.host for peer in wire.admission.asked], ["192.168.1.1", "203.0.113.9"])
        self.assertEqual([peer.host for peer in wire.admission.here], ["203.0.113.9"])
        self.assertEqual([each.peer.host for each in wire.channel.exchanges], ["203.0.113.9"] * 2)

    def test_recognized_and_turned_away(self) -> None:
        wire = Wire(answer)
        wire.transport.peerAddr = type(wire.transport.getPeer())("TCP", "203.0.113.9", 5)
        wire.admission.reason = "no more of these"
        [got] = wire.send(post() * 2)
        self.assertEqual(got.status, 503)
        self.assertIn("no more of these", got.error["message"])
        self.assertEqual((wire.channel.messages, wire.admission.here), ([], []))
        wire.lose()


class ChunkedRefused(SynchronousTestCase):
    """A refused body in chunks is read past, and thrown away."""

    def test_it(self) -> None:
        wire = Wire(answer)
        body = chunked(BODY, BODY, BODY)
        got = wire.send(post(body, length=False, transfer_encoding="chunked", method=b"PUT") + post())
        self.assertEqual([each.status for each in got], [405, 200])


class Familiar(SynchronousTestCase):
    """A second request with the same head, whole and alone, goes past the parser; nothing else differs."""

    def setUp(self) -> None:
        self.wire = Wire()
        self.wire.send(post())
        self.wire.channel.exchanges[0].reply(ANSWER)
        self.wire.answers()
        self.wire.transport.clear()

    def again(self) -> Any:
        self.wire.send(post())
        return self.wire.channel.exchanges[-1]

    def test_answered_at_once(self) -> None:
        self.wire.channel.answer = echo
        self.assertEqual([one.body for one in self.wire.send(post())], [BODY])
        self.assertEqual(self.wire.connection.phase, Phase.IDLE)

    def test_answered_later(self) -> None:
        exchange = self.again()
        self.assertEqual(self.wire.connection.phase, Phase.ANSWER)
        self.wire.send(post())
        self.assertEqual(len(self.wire.channel.messages), 2)
        exchange.reply(ANSWER)
        self.assertEqual(len(self.wire.channel.messages), 3)

    def test_streamed(self) -> None:
        def stream(message: bytes, exchange: Any) -> None:
            exchange.notify(NOTE)

        self.wire.channel.answer = stream
        exchange = self.again()
        self.assertEqual(self.wire.connection.phase, Phase.STREAM)
        exchange.reply(ANSWER)
        self.assertEqual(self.wire.connection.phase, Phase.IDLE)

    def test_gone_meanwhile(self) -> None:
        exchange = self.again()
        self.wire.lose()
        self.assertEqual(self.wire.channel.gone, [exchange])

    def test_drained_meanwhile(self) -> None:
        exchange = self.again()
        self.wire.connection.drain()
        exchange.reply(ANSWER)
        self.assertIn(b"Connection: close", self.wire.transport.value())

    def test_abandoned_at_once(self) -> None:
        self.wire.channel.answer = lambda message, exchange: exchange.abandon()
        self.again()
        self.assertEqual(self.wire.connection.phase, Phase.CLOSING)

    def test_more_while_it_is_handed_over(self) -> None:
        """Bytes that come in the middle of handing over wait for their turn."""

        def chatty(message: bytes, exchange: Any) -> None:
            if len(self.wire.channel.messages) == 2:
                self.wire.connection.dataReceived(post())
            exchange.reply(ANSWER)

        self.wire.channel.answer = chatty
        self.again()
        self.assertEqual(len(self.wire.channel.messages), 3)
        self.assertEqual(self.wire.connection.phase, Phase.IDLE)
