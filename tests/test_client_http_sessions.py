"""The wire over HTTP in the handshake era: the session, its stream, lost streams, its end."""

from twisted.internet.defer import Deferred

from erlmcp.client._backoff import Backoff
from erlmcp.client._wire import Outgoing
from tests.client_doubles import JSON, SSE, Permits, limits, request
from tests.test_client_http import RESULT, Wired

SESSION = (b"mcp-session-id", b"s-1")


class Session(Wired):
    def setUp(self) -> None:
        super().setUp()
        self.wire = self.wired(limits=limits(backoff=Backoff(longest=60.0, jitter=0.0)))

    def greet(self, *headers: tuple[bytes, bytes]) -> None:
        self.send(request("initialize"))
        self.pool.last.answer(200, RESULT, *headers)
        self.wire.begin("2025-11-25")

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class Sessions(Session):
    def test_the_server_names_it(self) -> None:
        self.greet(SESSION)
        self.send()
        self.assertEqual(
            (b"s-1", b"2025-11-25"),
            (self.pool.last.headers[b"mcp-session-id"], self.pool.last.headers[b"mcp-protocol-version"]),
        )

    def test_on_a_stream_too(self) -> None:
        self.send(request("initialize"))
        self.pool.last.events(b"data: " + RESULT + b"\n\n", SESSION)
        self.wire.begin("2025-06-18")
        self.send()
        self.assertEqual(b"s-1", self.pool.last.headers[b"mcp-session-id"])

    def test_or_does_not(self) -> None:
        self.greet()
        self.send()
        self.assertNotIn(b"mcp-session-id", self.pool.last.headers)
        self.assertEqual(b"2025-11-25", self.pool.last.headers[b"mcp-protocol-version"])

    def test_other_answers_name_none(self) -> None:
        self.greet()
        self.send()
        self.pool.last.answer(200, RESULT, SESSION)
        self.send()
        self.assertNotIn(b"mcp-session-id", self.pool.last.headers)

    def test_one_that_no_header_should_carry(self) -> None:
        for value in (b"a b", b"", "ü".encode(), b"x" * 4097):
            self.inbox.failures.clear()
            self.send(request("initialize"))
            self.pool.last.answer(200, RESULT, (b"mcp-session-id", value))
            self.assertIn("names a session that cannot be used", self.error())
            self.assertTrue(self.pool.last.aborted)
            self.assertEqual([], self.inbox.got)

    def test_begun_anew(self) -> None:
        self.greet(SESSION)
        self.wire.forget()
        self.send(request("initialize"))
        self.assertNotIn(b"mcp-session-id", self.pool.last.headers)
        self.assertNotIn(b"mcp-protocol-version", self.pool.last.headers)

    def test_lost(self) -> None:
        self.greet(SESSION)
        self.send()
        self.pool.last.answer(404, b'{"error":{"code":-32001},"result":0}')
        ((_, error),) = self.inbox.failures
        self.assertTrue(error.session_lost)
        self.assertEqual(1, len(self.inbox.got))  # the greeting's answer
        count = len(self.pool.asked)
        self.successResultOf(self.wire.close())
        self.assertEqual(count, len(self.pool.asked))

    def test_lost_for_each_of_those_under_way(self) -> None:
        self.greet(SESSION)
        self.send()
        self.send()
        for asked in self.pool.asked[-2:]:
            asked.answer(404)
        self.assertEqual([True, True], [error.session_lost for _, error in self.inbox.failures])

    def test_not_found_without_a_session_loses_none(self) -> None:
        self.greet()
        self.send()
        self.pool.last.answer(404)
        self.assertFalse(self.inbox.failures[0][1].session_lost)


class Order(Session):
    def test_nothing_overtakes_initialized(self) -> None:
        self.greet(SESSION)
        self.send(Outgoing(b"{}", "notifications/initialized"))
        count = len(self.pool.asked)
        self.send()
        given_up = self.send()
        self.send()
        self.assertEqual(count, len(self.pool.asked))
        self.wire.abandon(given_up)
        self.pool.asked[count - 1].answer(202)
        self.assertEqual(count + 2, len(self.pool.asked))

    def test_nor_for_ever(self) -> None:
        self.send(Outgoing(b"{}", "notifications/initialized"))
        self.send()
        self.clock.pump([1] * 9)
        self.assertEqual(1, len(self.pool.asked))
        self.clock.pump([1] * 3)
        self.assertEqual(2, len(self.pool.asked))
        self.pool.asked[0].answer(202)

    def test_nor_where_it_fails(self) -> None:
        self.send(Outgoing(b"{}", "notifications/initialized"))
        self.send(Outgoing(b"{}", "notifications/initialized"))
        self.send()
        self.pool.asked[0].fail()
        self.assertEqual(2, len(self.pool.asked))
        self.pool.asked[1].answer(202)
        self.assertEqual(3, len(self.pool.asked))


class LostStreams(Session):
    def setUp(self) -> None:
        super().setUp()
        self.greet(SESSION)
        self.sent = self.send(request(resumable=True))
        self.inbox.got.clear()

    def test_taken_up_after_the_pause_that_the_server_wants(self) -> None:
        self.pool.last.events(b"id: e1\nretry: 500\ndata:\n\n")
        self.pool.last.receiver.done()
        count = len(self.pool.asked)
        self.advance(0.499)
        self.assertEqual(count, len(self.pool.asked))
        self.advance(0.001)
        asked = self.pool.last
        self.assertEqual((b"GET", b""), (asked.request.method, asked.request.body))
        self.assertEqual(
            {
                b"accept": b"text/event-stream",
                b"last-event-id": b"e1",
                b"mcp-session-id": b"s-1",
                b"mcp-protocol-version": b"2025-11-25",
            },
            asked.headers,
        )
        asked.events(b"id: e2\ndata: " + RESULT + b"\n\n")
        self.assertEqual([(RESULT, self.sent)], self.inbox.got)
        self.advance(10)
        self.assertTrue(asked.aborted)
        self.assertEqual(([], []), (self.inbox.ends, self.inbox.failures))

    def test_again_and_again_while_it_gets_on(self) -> None:
        for number in range(20):
            self.pool.last.events(b"id: e%d\ndata: x\n\n" % number)
            self.pool.last.fail()
            self.advance(1)
            self.assertEqual(b"e%d" % number, self.pool.last.headers[b"last-event-id"])
        self.assertEqual([], self.inbox.failures)

    def test_not_without_end_where_it_does_not(self) -> None:
        self.pool.last.events(b"id: e1\ndata:\n\n")
        self.pool.last.fail()
        pauses = []
        while not self.inbox.failures:
            (call,) = self.clock.getDelayedCalls()
            pauses.append(call.getTime() - self.clock.seconds())
            self.advance(pauses[-1])
            self.pool.last.fail()
        self.assertEqual([1, 2, 4, 8, 16], pauses)
        self.assertIn("the connection broke", self.error())

    def test_a_stream_that_ends_each_time_is_lost(self) -> None:
        self.pool.last.events(b"id: e1\nretry: 10\ndata:\n\n")
        self.pool.last.receiver.done()
        for _ in range(5):
            self.advance(0.1)  # less than that the server is not granted
            self.pool.last.events(b": nothing\n\n")
            self.pool.last.receiver.done()
        ((sent, error),) = self.inbox.failures
        self.assertIs(sent, self.sent)
        self.assertIn("ends without it whenever it is taken up again", str(error))
        self.assertEqual((error.unsent, error.status), (False, None))
        self.assertEqual([], self.inbox.ends)

    def test_lost_and_at_last_ended(self) -> None:
        """It may have been acted on: that a server ended the last try well makes it no answer that is wrong."""
        self.pool.last.events(b"id: e1\ndata:\n\n")
        self.pool.last.fail()
        for _ in range(4):
            self.advance(30)
            self.pool.last.fail()
        self.advance(30)
        self.pool.last.events(b"")
        self.pool.last.receiver.done()
        self.assertEqual(([self.sent], []), ([one for one, _ in self.inbox.failures], self.inbox.ends))

    def test_a_server_that_has_forgotten_it(self) -> None:
        self.pool.last.events(b"id: e1\ndata:\n\n")
        self.pool.last.receiver.done()
        self.advance(1)
        self.pool.last.answer(404)
        ((_, error),) = self.inbox.failures
        self.assertIn("taking it up again is answered with HTTP status 404", str(error))
        self.assertFalse(error.session_lost)  # what was asked may have been done

    def test_what_was_sent_is_not_taken_for_unsent(self) -> None:
        """That the request for the rest could not be sent says nothing of the message itself."""
        self.pool.last.events(b"id: e1\ndata:\n\n")
        self.pool.last.fail()
        while not self.inbox.failures:
            self.advance(30)
            self.pool.last.fail("connection refused", unsent=True)
        ((_, error),) = self.inbox.failures
        self.assertEqual((error.unsent, error.status), (False, None))

    def test_given_up_meanwhile(self) -> None:
        self.pool.last.events(b"id: e1\ndata:\n\n")
        self.pool.last.receiver.done()
        self.wire.abandon(self.sent)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_without_an_id_it_cannot_be(self) -> None:
        self.pool.last.events(b"data: x\n\n")
        self.pool.last.receiver.done()
        self.assertEqual([self.sent], self.inbox.ends)

    def test_before_a_stream_it_cannot_be(self) -> None:
        self.pool.last.fail()
        self.assertEqual(1, len(self.inbox.failures))
        self.assertEqual([], self.clock.getDelayedCalls())


class OwnStream(Session):
    def setUp(self) -> None:
        super().setUp()
        self.greet(SESSION)
        self.wire.listen()
        self.inbox.got.clear()

    def next_pause(self) -> float:
        (call,) = self.clock.getDelayedCalls()
        pause = call.getTime() - self.clock.seconds()
        self.advance(pause)
        return pause

    def test_it_brings_messages(self) -> None:
        asked = self.pool.last
        self.assertEqual(b"GET", asked.request.method)
        self.assertEqual(b"s-1", asked.headers[b"mcp-session-id"])
        self.assertNotIn(b"last-event-id", asked.headers)
        asked.events(b"data: x\n\nevent: y\ndata: z\n\n")
        self.assertEqual([(b"x", None)], self.inbox.got)

    def test_one_event_that_is_too_long_is_passed_over(self) -> None:
        self.wire.forget()
        self.wire = self.wired(limits=limits(message=100, backoff=Backoff(jitter=0.0)))
        self.wire.listen()
        self.pool.last.events(b"id: 5\ndata: x\n\ndata: " + b"y" * 100)
        self.assertEqual(1, self.next_pause())
        self.assertEqual(b"5", self.pool.last.headers[b"last-event-id"])

    def test_a_session_that_ends_while_nothing_is_asked(self) -> None:
        self.pool.last.events(b"data: x\n\n")
        self.pool.last.receiver.done()
        self.next_pause()
        self.pool.last.answer(404)
        [error] = self.inbox.losses
        self.assertFalse(error.session_lost or error.unsent, "what is under way may have been executed")
        self.assertEqual([], self.clock.getDelayedCalls())
        self.successResultOf(self.wire.close())
        self.assertEqual(b"GET", self.pool.last.request.method, "there is nothing to be deleted")

    def test_a_server_that_never_had_it_has_not_lost_the_session(self) -> None:
        self.pool.last.answer(404)
        self.assertEqual(([], []), (self.inbox.losses, self.clock.getDelayedCalls()))

    def test_many_tokens_later(self) -> None:
        """A stream that lasts is authorized anew whenever it has to be."""
        self.wire.forget()
        permits = Permits(b"t")
        self.wire = self.wired(authorization=permits, limits=limits(challenges=1))
        self.wire.listen()
        for _ in range(5):
            permits.verdicts.append(True)
            self.pool.last.answer(401)
            self.pool.last.events(b"id: 1\nretry: 100\ndata: x\n\n")
            self.pool.last.receiver.done()
            self.next_pause()
        self.assertEqual(5, len(permits.challenges))

    def test_it_is_opened_once(self) -> None:
        count = len(self.pool.asked)
        self.wire.listen()
        self.assertEqual(count, len(self.pool.asked))

    def test_it_is_opened_again(self) -> None:
        self.pool.last.events(b"id: 4\nretry: 250\ndata: x\n\n")
        self.pool.last.receiver.done()
        self.assertEqual(0.25, self.next_pause())
        self.assertEqual(b"4", self.pool.last.headers[b"last-event-id"])
        self.pool.last.fail()
        self.assertEqual(2, self.next_pause())
        self.pool.last.answer(503)
        self.assertEqual(4, self.next_pause())
        self.pool.last.events(b"data: y\n\n")
        self.pool.last.fail()
        self.assertEqual(0.25, self.next_pause())
        self.assertEqual(b"4", self.pool.last.headers[b"last-event-id"])

    def test_a_server_that_is_gone_is_tried_ever_more_rarely(self) -> None:
        self.pool.last.fail()
        pauses = []
        for _ in range(9):
            pauses.append(self.next_pause())
            self.pool.last.fail()
        self.assertEqual([1, 2, 4, 8, 16, 32, 60, 60, 60], pauses)

    def test_a_server_that_has_none(self) -> None:
        for status in (405, 404, 400):
            self.pool.last.answer(status)
            self.assertEqual([], self.clock.getDelayedCalls())
            self.wire.forget()
            self.wire.listen()
        for answer in ((200, b"{}"), (202, b"")):
            self.pool.last.answer(*answer)
            self.assertEqual([], self.clock.getDelayedCalls())
            self.wire.forget()
            self.wire.listen()

    def test_forgotten(self) -> None:
        asked = self.pool.last
        self.wire.forget()
        self.assertTrue(asked.aborted)

    def test_forgotten_in_a_pause(self) -> None:
        self.pool.last.fail()
        self.wire.forget()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_paused(self) -> None:
        self.wire.pause()
        self.wire.resume()
        self.assertEqual([True, False], self.pool.last.paused)

    def test_opened_while_paused(self) -> None:
        self.wire.forget()
        self.wire.pause()
        self.wire.listen()
        self.assertEqual([True], self.pool.last.paused)


class Urgent(Session):
    def test_what_requests_may_be_waiting_for(self) -> None:
        """Answers to a server's questions, notifications, and the end: not behind the calls that asked."""
        self.greet(SESSION)
        self.send()
        self.assertFalse(self.pool.last.urgent)
        for outgoing in (Outgoing(b"{}"), Outgoing(b"{}", "notifications/cancelled")):
            self.wire.send(outgoing)
            self.assertTrue(self.pool.last.urgent)
        self.wire.close()
        self.assertEqual((b"DELETE", True), (self.pool.last.request.method, self.pool.last.urgent))
        self.pool.last.answer(200)


class Hanging(Session):
    def test_what_nothing_answers_does_not_pile_up(self) -> None:
        """A server that never says that it has a notification; a request has a limit of its own, above."""
        self.wire.send(Outgoing(b"{}", "notifications/cancelled"))
        notice = self.pool.last
        sent = self.send()
        self.clock.advance(59)
        self.assertFalse(notice.aborted)
        self.clock.advance(3)
        self.assertTrue(notice.aborted)
        self.assertFalse(self.pool.last.aborted)
        self.assertEqual([], self.inbox.failures)
        self.wire.abandon(sent)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nor_on_a_body_without_end(self) -> None:
        self.wire.send(Outgoing(b"{}", "notifications/cancelled"))
        self.pool.last.head(202)
        self.clock.advance(62)
        self.assertTrue(self.pool.last.aborted)


class Closing(Session):
    def test_the_session_is_deleted(self) -> None:
        self.greet(SESSION)
        self.send()
        waiting = self.pool.last
        self.wire.listen()
        stream = self.pool.last
        done: Deferred[None] = self.wire.close()
        self.assertTrue(waiting.aborted and stream.aborted)
        self.assertEqual(b"DELETE", self.pool.last.request.method)
        self.assertEqual(b"s-1", self.pool.last.headers[b"mcp-session-id"])
        self.assertNoResult(done)
        self.pool.last.answer(204)
        self.successResultOf(done)
        self.assertEqual(([], []), (self.inbox.failures, self.inbox.losses))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_whatever_the_server_says(self) -> None:
        for say in (
            lambda: self.pool.last.answer(405),
            lambda: self.pool.last.fail(),
            lambda: self.advance(5.0),
            lambda: (self.pool.last.head(200, SSE), self.pool.last.receiver.done()),
        ):
            self.wire = self.wired()
            self.greet(SESSION)
            done = self.wire.close()
            say()
            self.successResultOf(done)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_nobody_is_asked_for_authorization(self) -> None:
        permits = Permits(b"t")
        self.wire = self.wired(authorization=permits)
        self.greet(SESSION)
        permits.token = None  # a new one would have to be got
        done = self.wire.close()
        self.assertNotIn(b"authorization", self.pool.last.headers)
        self.pool.last.answer(401)
        self.successResultOf(done)
        self.assertEqual(([], []), (permits.waiting, permits.challenges))

    def test_without_a_session_there_is_nothing_to_delete(self) -> None:
        self.greet()
        count = len(self.pool.asked)
        self.successResultOf(self.wire.close())
        self.assertEqual(count, len(self.pool.asked))

    def test_a_session_that_was_not_begun_is_deleted_too(self) -> None:
        self.send(request("initialize"))
        self.pool.last.answer(200, RESULT, SESSION)
        self.wire.close()
        self.assertEqual(b"s-1", self.pool.last.headers[b"mcp-session-id"])
        self.pool.last.answer(200)

    def test_nothing_goes_afterwards(self) -> None:
        self.successResultOf(self.wire.close())
        self.successResultOf(self.wire.close())
        self.send()
        self.wire.listen()
        self.assertEqual([], self.pool.asked)
        self.assertIn("the client is closing", self.error())

    def test_a_lost_stream_is_not_taken_up(self) -> None:
        self.wire = self.wired(limits=limits(message=100))
        self.greet(SESSION)
        self.send(request(resumable=True))
        self.pool.last.events(b"id: 1\ndata:\n\n")
        self.pool.last.fail()
        self.wire.close()
        self.pool.last.answer(200)
        self.assertEqual([], self.clock.getDelayedCalls())


class Documents(Session):
    def test_a_document_in_place_of_the_stream_is_the_answer(self) -> None:
        self.greet(SESSION)
        sent = self.send(request(resumable=True))
        self.pool.last.events(b"id: e1\nretry: 1\ndata:\n\n")
        self.pool.last.receiver.done()
        self.advance(0.1)
        self.pool.last.head(200, JSON)
        self.pool.last.receiver.body(RESULT)
        self.pool.last.receiver.done()
        self.assertEqual((RESULT, sent), self.inbox.got[-1])
