"""Lines on one connection: framing, batches, back-pressure, limits of time, endings."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from erlmcp.interfaces import IExchange
from erlmcp.transports import Connections, LineConnection
from erlmcp.transports._lines import Phase
from tests.doubles import OpenLimits, RecordingChannel, Stream, context, echo, hold


class Connected:
    """One line connection over a stream in memory."""

    def __init__(
        self, answer: Any = echo, *, linger: float | None = None, addresses: Any = None, **wire: Any
    ) -> None:
        self.clock = Clock()
        self.channel = RecordingChannel(answer)
        self.limits = OpenLimits(**wire)
        self.siblings = Connections(context(self.channel, self.limits, self.clock), "tcp", linger)
        self.connection = LineConnection(self.siblings)
        self.stream = Stream(self.clock, self.connection, **(addresses or {}))

    def turn(self, seconds: float = 0) -> None:
        self.clock.advance(seconds)

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)

    @property
    def gone(self) -> bool:
        return self.connection.phase is Phase.GONE

    def timers(self) -> int:
        """How many delayed calls are left once the wheel has had its last tick."""
        self.clock.advance(0.5)
        return len(self.clock.getDelayedCalls())


class Lines(SynchronousTestCase):
    def test_provides_its_interfaces(self) -> None:
        connection = Connected().connection
        for interface in (IProtocol, IHalfCloseableProtocol, IExchange):
            verifyObject(interface, connection)
        self.assertIsNone(connection.headers)
        self.assertTrue(connection.streaming)
        self.assertEqual(connection.calls, {})

    def test_each_line_is_a_message(self) -> None:
        it = Connected()
        it.stream.receive(b'{"a":1}\r\n\n{"b"')
        it.stream.receive(b":2}\n[3]\n")
        self.assertEqual(it.channel.messages, [b'{"a":1}', b'{"b":2}', b"[3]"])
        self.assertEqual(it.stream.take(), b'echo {"a":1}\necho {"b":2}\necho [3]\n')

    def test_answers_to_one_read_are_written_together(self) -> None:
        it = Connected()
        it.stream.receive(b"{}\n" * 200)
        self.assertEqual(it.stream.writes, 1)
        self.assertEqual(it.stream.take(), b"echo {}\n" * 200)

    def test_what_the_channel_lets_pass_keeps_no_answer_back(self) -> None:
        """Standard streams outlive it: lines before and after are answered all the same."""

        def fragile(message: bytes, exchange: Any) -> None:
            exchange.reply(message)
            if message == b"{2}":
                raise KeyboardInterrupt

        it = Connected(fragile)
        with self.assertRaises(KeyboardInterrupt):
            it.stream.receive(b"{1}\n{2}\n{3}\n")
        self.assertEqual(it.stream.take(), b"{1}\n{2}\n")
        it.turn()
        self.assertEqual(it.stream.take(), b"{3}\n")

    def test_a_large_batch_is_written_in_pieces(self) -> None:
        it = Connected(lambda message, exchange: exchange.reply(b"x" * 30_000))
        it.stream.full_at = 1_000_000
        it.stream.receive(b"{}\n" * 6)
        self.assertGreater(it.stream.writes, 1)
        self.assertEqual(it.stream.take(), (b"x" * 30_000 + b"\n") * 6)

    def test_late_answers_and_notifications_keep_their_order(self) -> None:
        it = Connected(hold)
        it.stream.receive(b"{1}\n{2}\n")
        exchange = it.connection
        exchange.notify(b"note")
        exchange.reply(b"two", 404, ((b"x", b"y"),))
        exchange.reply(b"one")
        self.assertEqual(it.stream.take(), b"note\ntwo\none\n")

    def test_what_is_only_https(self) -> None:
        """Lines cannot be resumed: no events, nothing primed, and who is left will not come back."""
        it = Connected(hold, in_flight=1)
        it.stream.receive(b"{1}\n{2}\n")
        exchange = it.connection
        exchange.session = exchange
        exchange.prime("a.0", 1000)
        exchange.notify(b"note", "a.1")
        self.assertEqual((it.stream.take(), it.channel.messages), (b"note\n", [b"{1}"]))
        exchange.leave()
        it.turn()
        self.assertEqual(it.channel.messages, [b"{1}", b"{2}"])
        self.assertEqual(it.stream.take(), b"")

    def test_a_notification_within_a_batch_precedes_its_answer(self) -> None:
        def answer(message: bytes, exchange: IExchange) -> None:
            exchange.notify(b"half way")
            exchange.reply(b"done")

        it = Connected(answer)
        it.stream.receive(b"{}\n{}\n")
        self.assertEqual(it.stream.take(), b"half way\ndone\nhalf way\ndone\n")
        self.assertEqual(it.stream.writes, 1)

    def test_a_flood_of_notifications_in_one_call_is_seen_as_congestion(self) -> None:
        seen: list[int] = []

        def answer(message: bytes, exchange: IExchange) -> None:
            count = 0
            while not exchange.congested:
                exchange.notify(b"n" * 1000)
                count += 1
            seen.append(count)
            exchange.reply(b"done")

        it = Connected(answer, write_buffer=100_000)
        it.stream.receive(b"{}\n")
        self.assertLess(seen[0], 250)
        self.assertTrue(it.stream.take().endswith(b"n\ndone\n"))
        self.assertFalse(it.connection.congested)

    def test_an_overlong_line_gets_an_error_and_the_next_is_served(self) -> None:
        it = Connected(message=20)
        it.stream.receive(b'{"a":1}\n{' + b"x" * 100)
        it.stream.receive(b'}\n{"b":2}\n')
        first, second, third = it.stream.take().splitlines()
        self.assertEqual((first, third), (b'echo {"a":1}', b'echo {"b":2}'))
        refusal = json.loads(second)
        self.assertEqual(refusal["error"]["code"], -32600)
        self.assertNotIn("id", refusal)
        self.assertIn("102 bytes", refusal["error"]["message"])
        self.assertIn("20 allowed", refusal["error"]["message"])
        self.assertIn("limits.message", refusal["error"]["message"])
        self.assertEqual(it.channel.messages, [b'{"a":1}', b'{"b":2}'])

    def test_peers_are_described(self) -> None:
        it = Connected()
        peer = it.connection.peer
        self.assertEqual((peer.transport, peer.listener), ("tcp", "test"))
        self.assertEqual((peer.address, peer.host), ("192.168.1.1:54321", "192.168.1.1"))
        self.assertFalse(peer.secure)
        six = Connected(addresses={"peerAddress": IPv6Address("TCP", "::ffff:10.0.0.1", 7)}).connection.peer
        self.assertEqual((six.address, six.host), ("10.0.0.1:7", "10.0.0.1"))
        six = Connected(addresses={"peerAddress": IPv6Address("TCP", "fe80::1", 7)}).connection.peer
        self.assertEqual((six.address, six.host), ("[fe80::1]:7", "fe80::1"))
        unix = Connected(addresses={"peerAddress": UNIXAddress(None)}).connection.peer
        self.assertEqual((unix.address, unix.host, unix.uid), ("unix", "", None))


class FirstBytes(SynchronousTestCase):
    def test_what_is_no_json_is_closed_before_anything_runs(self) -> None:
        for begin in (b"POST /mcp HTTP/1.1\r\n", b"\n \r\nGET / HTTP/1.1\r\n", b"\x16\x03\x01", b"x"):
            it = Connected()
            it.stream.receive(begin + b'\r\n{"method":"tools/call"}\n')
            self.assertEqual(it.channel.messages, [])
            self.assertTrue(it.stream.lost)
            it.turn()
            self.assertTrue(it.gone)
            self.assertEqual(it.channel.gone, [])
            self.assertEqual(it.stream.value(), b"")

    def test_data_after_the_close_is_ignored(self) -> None:
        it = Connected()
        it.stream.receive(b"POST")
        it.connection.dataReceived(b'{"a":1}\n')
        self.assertEqual(it.channel.messages, [])

    def test_white_space_decides_nothing(self) -> None:
        it = Connected()
        it.stream.receive(b" \r\n")
        it.stream.receive(b"\t")
        self.assertIs(it.connection.phase, Phase.FRESH)
        it.stream.receive(b"{}\n")
        self.assertEqual(it.channel.messages, [b"{}"])

    def test_a_batch_may_begin_and_later_lines_may_be_anything(self) -> None:
        it = Connected()
        it.stream.receive(b"[]\nGET\n")
        self.assertEqual(it.channel.messages, [b"[]", b"GET"])

    def test_a_host_on_standard_input_may_begin_with_anything(self) -> None:
        it = Connected(linger=1.0)
        it.stream.receive(b"what\n")
        self.assertEqual(it.channel.messages, [b"what"])


class Admission(SynchronousTestCase):
    def test_connections_are_counted_in_and_out(self) -> None:
        it = Connected()
        self.assertEqual(it.limits.here, [it.connection.peer])
        self.assertEqual(len(it.siblings), 1)
        it.connection.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(it.limits.here, [])
        self.assertEqual(len(it.siblings), 0)

    def test_the_refused_is_cut(self) -> None:
        it = Connected(refusal="per_address")
        self.assertTrue(it.stream.lost)
        it.turn()
        self.assertEqual(it.limits.here, [])
        self.assertEqual(it.channel.gone, [])

    def test_a_proxied_peer_is_counted_by_its_own_address(self) -> None:
        it = Connected()
        proxy = it.connection.peer
        it.stream.peerAddr = IPv6Address("TCP", "::1", 7)
        it.stream.receive(b"{}\n")
        self.assertNotEqual(it.connection.peer, proxy)
        self.assertEqual(it.limits.here, [it.connection.peer])

    def test_a_proxied_peer_may_be_refused_once_known(self) -> None:
        it = Connected()
        it.stream.peerAddr = IPv6Address("TCP", "::1", 7)
        it.limits.refusal = "per_address"
        it.stream.receive(b"{}\n")
        self.assertEqual(it.channel.messages, [])
        it.turn()
        self.assertEqual(it.limits.here, [])
        self.assertTrue(it.gone)
        self.assertEqual(it.timers(), 0)


class InFlight(SynchronousTestCase):
    def test_reading_pauses_at_the_limit(self) -> None:
        it = Connected(hold, in_flight=2)
        it.stream.receive(b"{1}\n{2}\n")
        self.assertEqual(it.stream.producerState, "paused")

    def test_lines_already_framed_wait_too(self) -> None:
        it = Connected(hold, in_flight=2)
        it.stream.receive(b"{1}\n{2}\n{3}\n{4}\n{5")
        self.assertEqual(it.channel.messages, [b"{1}", b"{2}"])
        it.connection.reply(b"1")
        self.assertEqual(len(it.channel.messages), 2, "not from within the channel's call")
        it.turn()
        self.assertEqual(it.channel.messages, [b"{1}", b"{2}", b"{3}"])
        self.assertEqual(it.stream.producerState, "paused")
        it.connection.accept()
        it.connection.abandon()
        it.turn()
        self.assertEqual(it.channel.messages[3:], [b"{4}"])
        self.assertEqual(it.stream.producerState, "producing")
        it.stream.receive(b"}\n")
        self.assertEqual(it.channel.messages[4:], [b"{5}"])

    def test_what_was_read_before_the_pause_took_hold_waits_in_order(self) -> None:
        it = Connected(hold, in_flight=1)
        it.stream.receive(b"{1}\n{2}\n")
        it.connection.dataReceived(b"{3}\n")
        for _ in range(3):
            it.connection.accept()
            it.turn()
        self.assertEqual(it.channel.messages, [b"{1}", b"{2}", b"{3}"])
        self.assertEqual(it.stream.producerState, "producing")

    def test_settling_twice_before_the_turn_schedules_one(self) -> None:
        it = Connected(hold, in_flight=2)
        it.stream.receive(b"{1}\n{2}\n{3}\n")
        it.connection.accept()
        it.connection.accept()
        zero = [call for call in it.clock.getDelayedCalls() if call.getTime() == it.clock.seconds()]
        self.assertEqual(len(zero), 1)

    def test_answering_at_once_never_pauses(self) -> None:
        it = Connected(echo, in_flight=1)
        it.stream.receive(b"{}\n" * 10)
        self.assertEqual(len(it.channel.messages), 10)
        self.assertEqual(it.stream.producerState, "producing")


class SlowReaders(SynchronousTestCase):
    def test_a_peer_that_does_not_read_is_not_read(self) -> None:
        it = Connected(lambda message, exchange: exchange.reply(b"x" * 1000), write_buffer=100_000)
        it.stream.receive(b"{}\n" * 1000)
        self.assertLess(len(it.channel.messages), 250)
        self.assertEqual(it.stream.producerState, "paused")
        self.assertTrue(it.connection.congested)
        got = b""
        while len(got) < 1_001_000:
            piece = it.stream.take()
            self.assertNotEqual(piece, b"")
            got += piece
            it.turn()
        self.assertEqual(got, (b"x" * 1000 + b"\n") * 1000)
        self.assertEqual(it.stream.producerState, "producing")
        self.assertFalse(it.connection.congested)

    def test_one_answer_of_any_size_is_sent(self) -> None:
        it = Connected(lambda message, exchange: exchange.reply(b"x" * 1_000_000), write_buffer=1000)
        it.stream.receive(b"{}\n")
        self.assertTrue(it.connection.congested)
        self.assertEqual(len(it.stream.take()), 1_000_001)
        it.wait(60)
        self.assertFalse(it.gone)
        self.assertEqual(it.stream.producerState, "producing")

    def test_a_burst_of_answers_is_no_reason_to_cut(self) -> None:
        it = Connected(hold, write_buffer=1000)
        it.stream.receive(b"{}\n" * 100)
        for _ in range(100):
            it.connection.reply(b"x" * 5000)
        self.assertFalse(it.stream.lost)
        self.assertEqual(len(it.stream.take()), 100 * 5001)
        it.wait(60)
        self.assertFalse(it.gone)

    def test_a_peer_that_takes_nothing_is_cut(self) -> None:
        it = Connected(hold, write_buffer=1000, slow=5)
        it.stream.receive(b"{}\n" * 100)
        for _ in range(100):
            it.connection.reply(b"x" * 5000)
        it.wait(4.5)
        self.assertFalse(it.gone)
        it.wait(1.5)
        self.assertTrue(it.gone)
        self.assertEqual(it.channel.gone, [it.connection])

    def test_below_four_times_the_buffer_it_is_let_be(self) -> None:
        it = Connected(hold, write_buffer=100_000, slow=5)
        it.stream.receive(b"{}\n" * 3)
        for _ in range(3):
            it.connection.reply(b"x" * 100_000)
        it.wait(60)
        self.assertFalse(it.gone)

    def test_notifications_without_end_are_cut_at_once(self) -> None:
        it = Connected(hold, write_buffer=1000)
        it.stream.receive(b"{}\n")
        for _ in range(20):
            it.connection.notify(b"x" * 5000)
        self.assertTrue(it.stream.lost)
        it.turn()
        self.assertTrue(it.gone)
        it.connection.notify(b"more")
        it.connection.reply(b"the answer")
        self.assertEqual(it.timers(), 0)

    def test_a_cut_within_a_batch_ends_the_batch(self) -> None:
        def flood(message: bytes, exchange: IExchange) -> None:
            for _ in range(100):
                exchange.notify(b"x" * 5000)

        it = Connected(flood, write_buffer=1000)
        it.stream.receive(b"{1}\n{2}\n")
        self.assertEqual(it.channel.messages, [b"{1}"])
        it.turn()
        self.assertTrue(it.gone)

    def test_room_in_flight_and_congestion_must_both_end(self) -> None:
        it = Connected(hold, in_flight=2, write_buffer=1000)
        it.stream.receive(b"{1}\n{2}\n{3}\n{4}\n")
        it.connection.reply(b"x" * 200_000)
        it.turn()
        self.assertEqual(len(it.channel.messages), 2)
        it.stream.take()
        self.assertEqual(len(it.channel.messages), 3)
        self.assertEqual(it.stream.producerState, "paused")
        it.connection.reply(b"x" * 200_000)
        it.stream.take()
        it.turn()
        self.assertEqual(len(it.channel.messages), 4)


class Time(SynchronousTestCase):
    def test_the_lease_ends_a_silent_connection(self) -> None:
        it = Connected(lease=10, idle=100)
        it.wait(9.5)
        self.assertFalse(it.gone)
        it.wait(1)
        self.assertTrue(it.gone)
        self.assertEqual(it.channel.gone, [])
        self.assertEqual(it.timers(), 0)

    def test_white_space_is_no_message(self) -> None:
        it = Connected(lease=10)
        for _ in range(22):
            if not it.gone:
                it.stream.receive(b"\n")
            it.turn(0.5)
        self.assertTrue(it.gone)

    def test_idle_counts_from_the_last_message(self) -> None:
        it = Connected(lease=10, idle=100)
        it.stream.receive(b"{}\n")
        it.wait(60)
        it.stream.receive(b"{}\n")
        it.stream.take()
        it.wait(99)
        self.assertFalse(it.gone)
        it.wait(2)
        self.assertTrue(it.gone)
        self.assertEqual(it.channel.gone, [it.connection])

    def test_what_is_in_flight_is_waited_for_and_idle_begins_at_its_end(self) -> None:
        it = Connected(hold, lease=10, idle=100)
        it.stream.receive(b"{}\n")
        it.wait(350)
        self.assertFalse(it.gone)
        it.connection.reply(b"at last")
        it.stream.take()
        it.wait(99)
        self.assertFalse(it.gone)
        it.wait(102)
        self.assertTrue(it.gone)

    def test_a_line_that_stalls_is_cut(self) -> None:
        it = Connected(slow=5)
        it.stream.receive(b'{}\n{"half')
        it.stream.take()
        for _ in range(9):
            it.turn(0.5)
            it.stream.receive(b"x")
        self.assertFalse(it.gone)
        it.wait(1.5)
        self.assertTrue(it.gone)

    def test_an_overlong_line_must_end_in_time_too(self) -> None:
        it = Connected(slow=5, message=10)
        it.stream.receive(b"{" * 50)
        it.wait(6)
        self.assertTrue(it.gone)

    def test_each_line_has_its_own_time(self) -> None:
        it = Connected(slow=5)
        it.stream.receive(b"{")
        for _ in range(20):
            it.wait(2)
            it.stream.receive(b"}\n{")
        self.assertFalse(it.gone)
        it.stream.receive(b"}\n")
        it.wait(20)
        self.assertFalse(it.gone)
        self.assertEqual(len(it.channel.messages), 21)

    def test_time_that_we_do_not_read_is_not_the_peers(self) -> None:
        it = Connected(hold, slow=5, in_flight=1)
        it.stream.receive(b"{}\n{")
        it.wait(30)
        self.assertFalse(it.gone)
        it.connection.accept()
        it.turn()
        it.wait(3)
        self.assertFalse(it.gone)
        it.wait(8)
        self.assertTrue(it.gone)

    def test_the_host_on_standard_input_has_all_the_time(self) -> None:
        it = Connected(linger=1, lease=1, idle=1, slow=1)
        it.wait(10)
        it.stream.receive(b'{}\n{"')
        it.wait(10)
        self.assertFalse(it.gone)


class Endings(SynchronousTestCase):
    def test_the_end_of_a_stream_cancels_what_it_carried(self) -> None:
        it = Connected(hold)
        it.stream.receive(b"{1}\n{2}\n{3")
        it.connection.reply(b"one")
        it.connection.readConnectionLost()
        self.assertEqual(it.channel.gone, [it.connection])
        self.assertEqual(it.channel.messages, [b"{1}", b"{2}"])
        self.assertEqual(it.stream.take(), b"one\n")
        it.turn()
        self.assertTrue(it.gone)
        self.assertEqual(it.channel.gone, [it.connection])
        self.assertEqual(it.timers(), 0)

    def test_the_end_of_a_stream_before_any_message_concerns_nobody(self) -> None:
        it = Connected()
        it.connection.readConnectionLost()
        it.turn()
        self.assertTrue(it.gone)
        self.assertEqual(it.channel.gone, [])

    def test_a_lost_connection_cancels_and_drops(self) -> None:
        it = Connected(hold, in_flight=1)
        it.stream.receive(b"{1}\n{2}\n")
        it.connection.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(it.channel.gone, [it.connection])
        it.connection.reply(b"late")
        self.assertEqual(it.stream.value(), b"")
        self.assertEqual(it.timers(), 0)
        self.assertEqual(it.channel.messages, [b"{1}"])

    def test_a_lost_connection_takes_its_scheduled_turn_along(self) -> None:
        it = Connected(hold, in_flight=1)
        it.stream.receive(b"{1}\n{2}\n")
        it.connection.accept()
        it.connection.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(it.timers(), 0)

    def test_abandoning_at_the_end_disturbs_nothing(self) -> None:
        it = Connected(hold, in_flight=1)
        it.stream.receive(b"{1}\n{2}\n")
        it.channel.closed = lambda exchange: exchange.abandon()  # type: ignore[method-assign]
        it.connection.readConnectionLost()
        it.turn()
        self.assertEqual(it.channel.messages, [b"{1}"])
        self.assertTrue(it.gone)

    def test_what_is_written_leaves_before_the_close(self) -> None:
        it = Connected(lambda message, exchange: exchange.reply(b"x" * 300_000))
        it.stream.receive(b"{1}\n{2}\n")
        it.connection.readConnectionLost()
        self.assertFalse(it.stream.lost)
        self.assertEqual(len(it.stream.take()), 600_002)
        it.turn()
        self.assertTrue(it.gone)

    def test_a_close_does_not_wait_for_ever(self) -> None:
        it = Connected(lambda message, exchange: exchange.reply(b"x" * 300_000), slow=5)
        it.stream.receive(b"{1}\n{2}\n")
        it.connection.readConnectionLost()
        it.wait(4)
        self.assertFalse(it.gone)
        it.wait(2)
        self.assertTrue(it.gone)

    def test_closing_twice_is_closing_once(self) -> None:
        it = Connected(hold)
        it.stream.receive(b"{}\n")
        it.connection.readConnectionLost()
        it.connection.readConnectionLost()
        it.turn()
        self.assertEqual(it.channel.gone, [it.connection])

    def test_nobody_to_write_to(self) -> None:
        it = Connected(hold)
        it.stream.receive(b"{}\n")
        it.connection.writeConnectionLost()
        it.turn()
        self.assertEqual(it.channel.gone, [it.connection])


class Lingering(SynchronousTestCase):
    """Standard input ends, and what was asked is still answered."""

    def test_what_was_read_is_answered(self) -> None:
        it = Connected(hold, linger=10)
        it.stream.receive(b"{1}\n{2}\nunfinished")
        it.connection.readConnectionLost()
        self.assertEqual(it.channel.gone, [])
        it.connection.reply(b"one")
        it.connection.reply(b"two")
        self.assertEqual(it.stream.take(), b"one\ntwo\n")
        it.turn()
        self.assertTrue(it.gone)
        self.assertEqual(it.channel.gone, [it.connection])
        self.assertEqual(it.timers(), 0)

    def test_nothing_in_flight_ends_at_once(self) -> None:
        it = Connected(linger=10)
        it.stream.receive(b"{1}\n")
        it.stream.take()
        it.connection.readConnectionLost()
        it.turn()
        self.assertTrue(it.gone)

    def test_lines_that_wait_are_answered_too(self) -> None:
        it = Connected(hold, linger=10, in_flight=1)
        it.stream.receive(b"{1}\n{2}\n")
        it.connection.readConnectionLost()
        it.connection.reply(b"one")
        it.turn()
        self.assertEqual(it.channel.messages, [b"{1}", b"{2}"])
        it.connection.reply(b"two")
        self.assertEqual(it.stream.take(), b"one\ntwo\n")
        it.turn()
        self.assertTrue(it.gone)

    def test_the_deadline_cuts_what_takes_too_long(self) -> None:
        it = Connected(hold, linger=3)
        it.stream.receive(b"{1}\n")
        it.connection.readConnectionLost()
        it.wait(2.5)
        self.assertFalse(it.gone)
        it.wait(1)
        self.assertTrue(it.gone)
        self.assertEqual(it.channel.gone, [it.connection])

    def test_reading_slowly_does_not_lift_the_deadline(self) -> None:
        it = Connected(hold, linger=3, write_buffer=1000)
        it.stream.receive(b"{1}\n{2}\n")
        it.connection.readConnectionLost()
        it.connection.reply(b"x" * 200_000)
        it.stream.take()
        it.wait(4)
        self.assertTrue(it.gone)

    def test_a_host_that_pauses_is_not_cut(self) -> None:
        it = Connected(hold, linger=3, write_buffer=1000, slow=1)
        it.stream.receive(b"{}\n" * 100)
        for _ in range(100):
            it.connection.reply(b"x" * 5000)
        it.wait(60)
        self.assertFalse(it.gone)


class Draining(SynchronousTestCase):
    def test_idle_connections_close_at_once(self) -> None:
        it = Connected()
        it.stream.receive(b"{}\n")
        it.stream.take()
        drained = it.siblings.drain()
        self.assertNoResult(drained)
        it.turn()
        self.successResultOf(drained)

    def test_with_none_there_is_nothing_to_wait_for(self) -> None:
        it = Connected()
        it.connection.connectionLost(Failure(ConnectionLost()))
        self.successResultOf(it.siblings.drain())
        self.successResultOf(it.siblings.abort())

    def test_what_is_in_flight_is_answered_and_no_more_is_taken(self) -> None:
        it = Connected(hold, in_flight=2)
        it.stream.receive(b"{1}\n{2}\n{3}\n")
        drained = it.siblings.drain()
        self.assertEqual(it.stream.producerState, "paused")
        it.connection.dataReceived(b"{4}\n")
        it.connection.reply(b"one")
        it.turn()
        self.assertNoResult(drained)
        it.connection.reply(b"two")
        self.assertEqual(it.stream.take(), b"one\ntwo\n")
        it.turn()
        self.successResultOf(drained)
        self.assertEqual(it.channel.messages, [b"{1}", b"{2}"])

    def test_draining_within_a_batch_ends_the_batch(self) -> None:
        it = Connected()
        it.channel.answer = lambda message, exchange: (it.siblings.drain(), exchange.reply(b"last"))[1]
        it.stream.receive(b"{1}\n{2}\n")
        self.assertEqual(it.stream.take(), b"last\n")
        it.turn()
        self.assertTrue(it.gone)
        self.assertEqual(it.channel.messages, [b"{1}"])

    def test_draining_twice_is_draining(self) -> None:
        it = Connected(hold)
        it.stream.receive(b"{1}\n")
        first, second = it.siblings.drain(), it.siblings.drain()
        it.connection.accept()
        it.turn()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_a_client_that_leaves_while_it_is_drained_cancels(self) -> None:
        it = Connected(hold)
        it.stream.receive(b"{1}\n")
        drained = it.siblings.drain()
        it.connection.readConnectionLost()
        self.assertEqual(it.channel.gone, [it.connection])
        it.turn()
        self.successResultOf(drained)

    def test_slow_lines_and_leases_do_not_matter_any_more(self) -> None:
        it = Connected(hold, slow=1)
        it.stream.receive(b"{1}\n{")
        it.siblings.drain()
        it.wait(20)
        self.assertFalse(it.gone)
        it.connection.accept()
        it.turn()
        self.assertTrue(it.gone)

    def test_late_comers_are_refused(self) -> None:
        it = Connected(hold)
        it.siblings.drain()
        late = Stream(it.clock, LineConnection(it.siblings))
        self.assertTrue(late.lost)

    def test_aborting_ends_all_now(self) -> None:
        it = Connected(hold)
        it.stream.receive(b"{1}\n")
        ended = it.siblings.abort()
        it.turn()
        self.successResultOf(ended)
        self.assertEqual(it.channel.gone, [it.connection])
        self.assertEqual(it.limits.here, [])


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"{}\n", b'{"jsonrpc":"2.0"}\r\n', b"\n", b"\r", b" ", b"[", b"{" * 70, b"POST / HTTP/1.1\r\n"]
    ),
)


class AnyBytes(SynchronousTestCase):
    @given(
        st.lists(PIECES, max_size=12),
        st.lists(st.integers(1, 30), max_size=20),
        st.sampled_from(["echo", "hold", "half"]),
        st.booleans(),
    )
    @settings(deadline=None, max_examples=150)
    def test_get_an_answer_or_a_clean_close(
        self, pieces: list[bytes], cuts: list[int], manner: str, host: bool
    ) -> None:
        held: list[IExchange] = []

        def answer(message: bytes, exchange: IExchange) -> None:
            if manner == "echo" or (manner == "half" and len(held) % 2):
                exchange.reply(b"echo")
            else:
                held.append(exchange)

        it = Connected(answer, linger=1.0 if host else None, message=64, in_flight=4)
        data = b"".join(pieces)
        position = 0
        for size in [*cuts, len(data)]:
            chunk, position = data[position : position + size], position + size
            if chunk and it.stream.producerState == "producing":
                it.stream.receive(chunk)
            if held:
                held.pop().reply(b"echo")
            it.turn()
        while held:
            held.pop().reply(b"echo")
            it.turn()
        if not it.gone:
            it.connection.readConnectionLost()
        it.stream.take()
        it.turn()
        self.assertTrue(it.gone)
        answers = it.stream.taken.splitlines()
        refused = [line for line in answers if line != b"echo"]
        self.assertEqual(len(answers) - len(refused), len(it.channel.messages))
        for line in refused:
            self.assertEqual(json.loads(line)["error"]["code"], -32600)
        self.assertEqual(it.timers(), 0)
        self.assertEqual(it.limits.here, [])
