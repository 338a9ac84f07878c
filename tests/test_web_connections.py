"""The HTTP client's pool and its HTTP/1.1 connections, on a memory reactor."""

from typing import Any
from unittest import mock

from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.web import Origin, WebRequest
from tests.web_memory import GET, HEAD, Line, Memory, Told

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"


class OneTests(SynchronousTestCase):
    def test_one_after_the_other_on_one_connection(self) -> None:
        memory = Memory()
        first = memory.send()
        line = memory.only()
        self.assertTrue(line.taken().startswith(b"POST /mcp HTTP/1.1\r\nhost: 192.0.2.1\r\n"))
        second = memory.send()
        self.assertEqual(memory.pool.waiting, 1)
        line.say(OK[:10])
        line.say(OK[10:])
        self.assertEqual((first.status, first.text, first.ends), (200, b"ab", ["done"]))
        # The second did not wait for the connection that was asked for on its behalf.
        self.assertTrue(line.taken().endswith(b"{}"))
        line.say(OK)
        self.assertEqual(second.ends, ["done"])
        third = Told()
        third.when_done = lambda: memory.send(GET)
        memory.send(told=third)
        line.taken()
        line.say(OK)
        self.assertTrue(line.taken().startswith(b"GET / "))
        self.assertEqual(len(memory.pool.connections), 1)

    def test_a_request_from_within_an_answer_takes_the_same_connection(self) -> None:
        memory = Memory()
        told = Told()
        after: list[Told] = []
        told.when_done = lambda: after.append(memory.send())
        memory.send(told=told)
        line = memory.only()
        line.taken()
        line.say(OK)
        self.assertTrue(line.taken())
        self.assertEqual(memory.dials(), [])
        line.say(OK)
        self.assertEqual(after[0].ends, ["done"])

    def test_as_many_connections_as_are_allowed(self) -> None:
        memory = Memory(connections_per_origin=3)
        told = [memory.send() for _ in range(7)]
        lines = memory.accept()
        self.assertEqual(len(lines), 3)
        for _ in range(3):
            for line in lines:
                if line.taken():
                    line.say(OK)
        self.assertEqual([one.ends for one in told], [["done"]] * 7)

    def test_answers_that_end_the_connection(self) -> None:
        for answer in (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab",
            OK + b"more",
        ):
            memory = Memory()
            told = memory.send()
            line = memory.only()
            line.say(answer)
            self.assertEqual((told.text, told.ends), (b"ab", ["done"]))
            self.assertTrue(line.transport.disconnecting)
            line.say(b"late")
            again = memory.send()
            (other,) = memory.accept()
            line.end()
            other.say(OK)
            self.assertEqual(again.ends, ["done"])

    def test_until_the_connection_closes(self) -> None:
        memory = Memory()
        told = memory.send()
        line = memory.only()
        line.say(b"HTTP/1.1 200 OK\r\n\r\nab")
        self.assertEqual(told.ends, [])
        line.end()
        self.assertEqual((told.text, told.ends), (b"ab", ["done"]))
        told = memory.send()
        line = memory.only()
        line.say(b"HTTP/1.1 200 OK\r\n\r\nab")
        line.end(ConnectionLost())
        self.assertIn("in the middle of its answer", str(told.error))

    def test_head(self) -> None:
        memory = Memory()
        told = memory.send(HEAD)
        line = memory.only()
        line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        self.assertEqual(told.ends, ["done"])
        self.assertIn((b"content-length", b"900"), told.headers)
        told = memory.send(GET)
        line.say(OK)
        self.assertEqual(told.text, b"ab")

    def test_lost(self) -> None:
        memory = Memory()
        told = memory.send()
        memory.only().end()
        self.assertIn("http://192.0.2.1: the connection ended before it answered", str(told.error))
        self.assertFalse(told.error.unsent)
        told = memory.send()
        line = memory.only()
        line.say(OK[:-1])
        line.end(ConnectionLost("gone"))
        self.assertIn("in the middle", str(told.error))
        self.assertEqual(memory.pool.connections, [])

    def test_no_http(self) -> None:
        memory = Memory()
        told = memory.send()
        line = memory.only()
        line.say(b"220 mail.example ESMTP\r\n")
        self.assertIn("http://192.0.2.1: the answer is not HTTP/1.1", str(told.error))
        self.assertTrue(line.transport.aborted)
        line.end(ConnectionAborted())
        self.assertEqual(len(told.ends), 1)

    def test_what_nobody_asked_for(self) -> None:
        memory = Memory()
        memory.send()
        line = memory.only()
        line.say(OK)
        line.say(b"HTTP/1.1 408 Too slow\r\n\r\n")
        self.assertTrue(line.transport.disconnecting)
        told = memory.send()
        memory.only().say(OK)
        self.assertEqual(told.ends, ["done"])
        # One that closes takes that long and no longer.
        memory.advance(10)
        self.assertTrue(line.transport.aborted)

    def test_abort(self) -> None:
        memory = Memory(connections_per_origin=1)
        told, waits, after = memory.send(), memory.send(), memory.send()
        line = memory.only()
        waits.ongoing.abort()
        waits.ongoing.abort()
        told.ongoing.abort()
        self.assertTrue(line.transport.aborted)
        line.say(OK)
        line.end(ConnectionAborted())
        told.ongoing.pause()
        told.ongoing.resume()
        other = memory.only()
        other.say(OK)
        self.assertEqual((told.ends, waits.ends, after.ends), ([], [], ["done"]))
        after.ongoing.abort()

    def test_abort_from_within(self) -> None:
        for moment in ("when_head", "when_body"):
            memory = Memory()
            told = Told()
            setattr(told, moment, lambda told=told: told.ongoing.abort())
            memory.send(told=told)
            line = memory.only()
            line.say(OK)
            self.assertEqual((told.status, told.ends), (200, []))
            self.assertTrue(line.transport.aborted)
            line.end(ConnectionAborted())
            self.assertEqual(told.ends, [])

    def test_pause(self) -> None:
        memory = Memory()
        told = memory.send()
        told.ongoing.pause()
        line = memory.only()
        self.assertEqual(line.transport.producerState, "paused")
        told.ongoing.resume()
        told.ongoing.resume()
        self.assertEqual(line.transport.producerState, "producing")
        told.ongoing.pause()
        told.ongoing.pause()
        self.assertEqual(line.transport.producerState, "paused")
        # What was on its way completes the answer; the next one is read again.
        line.say(OK)
        self.assertEqual(told.ends, ["done"])
        self.assertEqual(line.transport.producerState, "producing")
        other = memory.send()
        told.ongoing.pause()
        self.assertEqual(line.transport.producerState, "producing")
        line.say(OK)
        self.assertEqual(other.ends, ["done"])

    def test_answered_before_all_is_sent(self) -> None:
        memory = Memory()
        told = memory.send(WebRequest(b"POST", b"/", (), b"x" * 100_000))
        line = memory.only()
        line.transport.producer.pauseProducing()
        line.say(OK)
        self.assertEqual(told.ends, ["done"])
        self.assertTrue(line.transport.disconnecting)
        line.protocol.connectionLost(Failure(ConnectionDone()))
        told = memory.send()
        line = memory.only()
        line.transport.producer.pauseProducing()
        line.transport.producer.resumeProducing()
        line.transport.producer.stopProducing()
        line.say(OK)
        self.assertFalse(line.transport.disconnecting)

    def test_receivers_that_fail(self) -> None:
        memory = Memory()
        told = Told()
        told.when_done = lambda: 1 / 0
        memory.send(told=told)
        line = memory.only()
        line.say(OK)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        other = memory.send()
        line.say(OK)
        self.assertEqual(other.ends, ["done"])
        told = Told()
        with mock.patch.object(told, "failed", side_effect=KeyError):
            memory.send(told=told)
            line.end()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        told = Told()
        told.when_head = lambda: 1 / 0
        memory.send(told=told)
        memory.only().say(OK)
        self.assertIn("receiver", str(told.error))
        self.flushLoggedErrors(ZeroDivisionError)


class TimeTests(SynchronousTestCase):
    def test_no_answer(self) -> None:
        for limit in (3, 200):
            memory = Memory(response_head_timeout=limit)
            told = memory.send()
            line = memory.only()
            memory.advance(limit - 1)
            self.assertEqual(told.ends, [])
            memory.advance(2)
            self.assertIn(f"no answer within {limit} s", str(told.error))
            self.assertTrue(line.transport.aborted)

    def test_a_body_takes_as_long_as_it_takes(self) -> None:
        memory = Memory(response_head_timeout=3, idle=5)
        told = memory.send()
        line = memory.only()
        line.say(OK[:-1])
        memory.advance(600)
        self.assertEqual(told.ends, [])
        line.say(OK[-1:])
        self.assertEqual(told.ends, ["done"])

    def test_idle(self) -> None:
        memory = Memory(idle=20, response_head_timeout=4)
        for _ in range(5):
            memory.send()
            if not memory.pool.connections:
                line = memory.only()
            line.say(OK)
            memory.advance(10)
            self.assertFalse(line.transport.disconnecting)
        memory.advance(11)
        self.assertTrue(line.transport.disconnecting)
        self.assertFalse(line.transport.aborted)
        line.end()
        self.assertEqual(memory.pool.connections, [])

    def test_no_turn(self) -> None:
        memory = Memory(queue_timeout=10, connections_per_origin=1)
        memory.send()
        line = memory.only()
        first = memory.send()
        memory.advance(6)
        second = memory.send()
        memory.advance(5)
        self.assertIn("no turn within 10 s on 1 connections", str(first.error))
        self.assertTrue(first.error.unsent)
        self.assertEqual(second.ends, [])
        line.say(OK)
        line.say(OK)
        self.assertEqual(second.ends, ["done"])
        memory.advance(30)
        self.assertEqual(second.ends, ["done"])


class PoolTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        memory = Memory(queue=2, connections_per_origin=1, origins=1)
        told = [memory.send() for _ in range(3)]
        elsewhere = memory.send(origin=Origin("http", "192.0.2.2", 80))
        # Never from within `send`.
        self.assertEqual((told[2].ends, elsewhere.ends), ([], []))
        memory.turn()
        self.assertIn("2 requests wait already", str(told[2].error))
        self.assertIn("1 origins", str(elsewhere.error))
        self.assertTrue(told[2].error.unsent)

    def test_bad_requests(self) -> None:
        memory = Memory()
        told = memory.send(WebRequest(b"GET", b"/", ((b"x-a", b"1\n"),)))
        aborted = memory.send(WebRequest(b"G T", b"/"))
        aborted.ongoing.abort()
        memory.turn()
        self.assertIn("x-a has a line break", str(told.error))
        self.assertTrue(told.error.unsent)
        self.assertEqual(aborted.ends, [])
        self.assertEqual(memory.dials(), [])

    def test_bad_options(self) -> None:
        for name, value in (("queue", 0), ("idle", -1), ("http2", "yes")):
            with self.assertRaises(ValueError) as caught:
                Memory(**{name: value})
            self.assertIn(name, str(caught.exception))

    def test_close(self) -> None:
        memory = Memory(connections_per_origin=2)
        told = [memory.send() for _ in range(4)]
        busy, idle = memory.accept()
        idle.say(OK)
        idle.say(OK)
        idle.say(OK)
        dialled = memory.send(origin=Origin("http", "192.0.2.2", 80))
        memory.turn()
        done = memory.pool.close()
        self.assertEqual([one.ends for one in told[1:]], [["done"]] * 3)
        for one in (told[0], dialled):
            self.assertIn("the pool is closed", str(one.error))
        self.assertTrue(busy.transport.aborted)
        self.assertTrue(idle.transport.disconnecting)
        self.assertFalse(idle.transport.aborted)
        self.assertNoResult(done)
        busy.end(ConnectionAborted())
        idle.end()
        self.successResultOf(done)
        late = memory.send()
        memory.turn()
        self.assertIn("closed", str(late.error))
        self.successResultOf(memory.pool.close())
        self.assertEqual([call for call in memory.reactor.getDelayedCalls() if call.active()], [])

    def test_dials_that_fail(self) -> None:
        memory = Memory()
        told = [memory.send() for _ in range(3)]
        dials = memory.dials()
        self.assertEqual(len(dials), 3)
        for _, _, factory, _, _ in dials:
            factory.clientConnectionFailed(None, Failure(ConnectError("no")))
        for one in told:
            self.assertIn("http://192.0.2.1: it cannot be reached: ", str(one.error))
            self.assertTrue(one.error.unsent)
        self.assertEqual(memory.pool._lanes, {})
        # The wheel stands still by itself.
        memory.advance(1)
        self.assertEqual([call for call in memory.reactor.getDelayedCalls() if call.active()], [])

    def test_who_waits_hopes_for_what_there_is(self) -> None:
        memory = Memory()
        first = memory.send()
        line = memory.only()
        second = memory.send()
        (dial,) = memory.dials()
        dial[2].clientConnectionFailed(None, Failure(ConnectError()))
        self.assertEqual(second.ends, [])
        third = memory.send()
        # Not at once again, as long as there is one.
        self.assertEqual(memory.dials(), [])
        line.say(OK)
        line.say(OK)
        line.say(OK)
        self.assertEqual([one.ends for one in (first, second, third)], [["done"]] * 3)
        memory.send()
        waits = memory.send()
        line.end()
        memory.accept()[0].say(OK)
        self.assertEqual(waits.ends, ["done"])

    def test_late(self) -> None:
        memory = Memory(connect_timeout=5)
        told = memory.send()
        memory.dials()
        memory.advance(6)
        self.assertIn("no connection within 5 s", str(told.error))
        self.assertTrue(told.error.unsent)

    def test_admit(self) -> None:
        seen: list[str] = []

        def admit(address: str) -> None:
            seen.append(address)
            raise PermissionError("it is private")

        memory = Memory(admit=admit)
        told = memory.send()
        self.assertEqual(memory.dials(), [])
        self.assertEqual(seen, ["192.0.2.1"])
        self.assertIn("192.0.2.1 is not allowed: it is private", str(told.error))

    def test_a_connection_that_is_gone_is_not_used(self) -> None:
        """What is written to it nobody has read; whether that is so is asked of the socket."""
        memory = Memory()
        memory.send()
        line = memory.only()
        line.say(OK)
        with mock.patch("erlmcp.web._one.is_quiet", return_value=False):
            told = memory.send()
        self.assertEqual(told.ends, [])
        line.taken()
        self.assertEqual(line.taken(), b"")
        other = memory.only()
        line.end()
        other.say(OK)
        self.assertEqual(told.ends, ["done"])

    def test_nothing_has_left(self) -> None:
        memory = Memory()
        memory.send()
        line = memory.only()
        line.say(OK)
        memory.pool.connections[0]._direct = True
        line.taken()
        with mock.patch("erlmcp.web._one.send_at_once", side_effect=BrokenPipeError):
            told = memory.send()
        self.assertEqual(told.ends, [])
        memory.only().say(OK)
        self.assertEqual(told.ends, ["done"])

    def test_the_kernel_takes_a_part(self) -> None:
        memory = Memory()
        memory.send()
        line = memory.only()
        line.say(OK)
        memory.pool.connections[0]._direct = True
        line.taken()
        with mock.patch("erlmcp.web._one.send_at_once", side_effect=lambda _, data: data[5:]):
            memory.send()
        self.assertTrue(line.taken().startswith(b"/mcp HTTP/1.1"))


class Resolver:
    """A name resolver that says what it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str]] = []

    def resolveHostName(self, receiver: Any, host: str, *_: Any, **__: Any) -> None:  # noqa: N802
        self.asked.append((receiver, host))

    def say(self, *addresses: str) -> None:
        from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

        receiver, _ = self.asked.pop()
        receiver.resolutionBegan(None)
        receiver.addressResolved(UNIXAddress("odd"))
        for address in addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, 80))
        receiver.resolutionComplete()


class NameTests(SynchronousTestCase):
    def memory(self, **options: Any) -> Memory:
        memory = Memory(**options)
        self.resolver = Resolver()
        memory.reactor.nameResolver = self.resolver
        return memory

    named = Origin("http", "h.example", 80)

    def test_each_address_in_turn(self) -> None:
        memory = self.memory()
        told = memory.send(origin=self.named)
        memory.turn()
        self.resolver.say("2001:db8::1", "192.0.2.1", "192.0.2.2")
        first = memory.dials()
        self.assertEqual([dial[0] for dial in first], ["2001:db8::1"])
        memory.reactor.advance(0.31)
        second = memory.dials()
        self.assertEqual([dial[0] for dial in second], ["192.0.2.1"])
        second[0][2].clientConnectionFailed(None, Failure(ConnectError()))
        third = memory.dials()
        self.assertEqual([dial[0] for dial in third], ["192.0.2.2"])
        line = Line(third[0][2].buildProtocol(None))
        # Those that are still being made are given up.
        memory.turn()
        self.assertTrue(all(connector.stoppedConnecting for connector in memory.reactor.connectors[:1]))
        self.assertIn(b"host: h.example\r\n", line.taken())
        line.say(OK)
        self.assertEqual(told.ends, ["done"])

    def test_none(self) -> None:
        memory = self.memory()
        told = memory.send(origin=self.named)
        memory.turn()
        self.resolver.say()
        self.assertIn("http://h.example: the name does not resolve", str(told.error))

    def test_what_resolves_too_late(self) -> None:
        memory = self.memory(connect_timeout=2)
        told = memory.send(origin=self.named)
        memory.turn()
        memory.advance(3)
        self.assertIn("no connection within 2 s", str(told.error))
        self.resolver.say("192.0.2.1")
        self.assertEqual(memory.dials(), [])

    def test_only_what_is_admitted(self) -> None:
        def admit(address: str) -> None:
            if address.startswith("10."):
                raise PermissionError("private")

        memory = self.memory(admit=admit)
        memory.send(origin=self.named)
        memory.turn()
        self.resolver.say("10.0.0.1", "192.0.2.9")
        self.assertEqual([dial[0] for dial in memory.dials()], ["192.0.2.9"])
        memory.advance(1)
        self.assertEqual(memory.dials(), [])

    def test_nobody_wants_it_any_more(self) -> None:
        memory = self.memory()
        told = memory.send(origin=self.named)
        memory.turn()
        self.successResultOf(memory.pool.close())
        self.resolver.say("192.0.2.1")
        self.assertEqual(memory.dials(), [])
        self.assertIn("closed", str(told.error))


class UnixTests(SynchronousTestCase):
    def test_path(self) -> None:
        memory = Memory(unix="/run/x.sock")
        told = memory.send(origin=Origin("http", "localhost", 80))
        memory.turn()
        ((path, factory, _, _),) = memory.reactor.unixClients
        self.assertEqual(path, "/run/x.sock")
        factory.clientConnectionFailed(None, Failure(ConnectError()))
        self.assertIn("http://localhost over /run/x.sock: it cannot be reached", str(told.error))


class ContextTests(SynchronousTestCase):
    def test_kept_within_a_bound(self) -> None:
        memory = Memory()
        with mock.patch("erlmcp.web._pool.optionsForClientTLS", side_effect=lambda *_, **__: object()):
            first = memory.pool.context_for("h0")
            self.assertIs(memory.pool.context_for("h0"), first)
            for number in range(1, 300):
                memory.pool.context_for(f"h{number}")
            self.assertEqual(len(memory.pool._contexts), 256)
            self.assertIsNot(memory.pool.context_for("h0"), first)
