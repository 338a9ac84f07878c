"""The wire over HTTP, in what both eras share: what goes out, what comes back, refusals, redirects, authorization."""

import tracemalloc

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client._http import HttpWire
from erlmcp.client._wire import Outgoing
from tests.client_doubles import JSON, SSE, FakePool, KeepingInbox, Permits, limits, request, site

RESULT = b'{"id":1,"result":{}}'


class Wired(SynchronousTestCase):
    def setUp(self) -> None:
        self.pool = FakePool()
        self.clock = Clock()
        self.inbox = KeepingInbox()
        self.wire = self.wired()

    def wired(self, url: str = "https://mcp.example/mcp?x=1", **means: object) -> HttpWire:
        wire = HttpWire(site(self.pool, self.clock, url, **means))
        self.successResultOf(wire.open(self.inbox))
        return wire

    def send(self, outgoing: Outgoing | None = None) -> Outgoing:
        outgoing = outgoing or request()
        self.wire.send(outgoing)
        return outgoing

    def error(self) -> str:
        ((_, error),) = self.inbox.failures
        return str(error)


class Messages(Wired):
    def test_a_message_is_a_post(self) -> None:
        self.wire = self.wired(headers=[(b"x-own", b"1")])
        self.send(Outgoing(b"{}", "tools/list", ((b"mcp-method", b"tools/list"),), answered=True))
        asked = self.pool.last
        self.assertEqual("https://mcp.example", str(asked.origin))
        self.assertEqual(
            (b"POST", b"/mcp?x=1", b"{}"), (asked.request.method, asked.request.target, asked.request.body)
        )
        self.assertEqual(
            {
                b"content-type": b"application/json",
                b"accept": b"application/json, text/event-stream",
                b"mcp-method": b"tools/list",
                b"x-own": b"1",
            },
            asked.headers,
        )

    def test_a_document_in_small_pieces_takes_no_more_than_it_is(self) -> None:
        sent = self.send()
        asked = self.pool.last
        asked.head(200, JSON)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for turn in range(100_000):
            asked.receiver.body(bytes((97 + turn % 26, 97)))
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)
        asked.receiver.done()
        ((document, outgoing),) = self.inbox.got
        self.assertIs(sent, outgoing)
        self.assertEqual((type(document), len(document), document[:4]), (bytes, 200_000, b"aaba"))

    def test_a_document_is_the_answer(self) -> None:
        sent = self.send()
        asked = self.pool.last
        asked.head(200, JSON)
        asked.receiver.body(RESULT[:5])
        asked.receiver.body(RESULT[5:])
        self.assertEqual([], self.inbox.got)
        asked.receiver.done()
        self.assertEqual([(RESULT, sent)], self.inbox.got)
        self.assertEqual(200, sent.status)
        self.assertEqual([], self.inbox.ends)

    def test_a_document_that_answers_nothing_ends_it(self) -> None:
        sent = self.send()
        self.pool.last.answer(200, b'{"id":2}')
        self.assertEqual([sent], self.inbox.ends)

    def test_types_with_parameters_and_suffixes(self) -> None:
        for kind in (b"application/json; charset=utf-8", b"Application/JSON", b"application/problem+json"):
            self.send()
            self.pool.last.head(200, (b"content-type", kind))
            self.pool.last.receiver.body(RESULT)
            self.pool.last.receiver.done()
        self.assertEqual(3, len(self.inbox.got))

    def test_a_stream_brings_messages_and_the_answer(self) -> None:
        sent = self.send()
        asked = self.pool.last
        asked.events(b": hi\n\ndata: one\n\nevent: message\ndata: two\n\nevent: other\ndata: three\n\n")
        self.assertEqual([(b"one", sent), (b"two", sent)], self.inbox.got)
        asked.receiver.body(b"data: " + RESULT + b"\n\n")
        asked.receiver.done()
        self.assertEqual((RESULT, sent), self.inbox.got[-1])
        self.assertEqual([], self.inbox.ends)
        self.assertFalse(asked.aborted)
        self.clock.advance(100)
        self.assertFalse(asked.aborted)

    def test_a_stream_that_stays_open_after_the_answer_is_closed(self) -> None:
        self.send()
        asked = self.pool.last
        asked.events(b"data: " + RESULT + b"\n\n")
        self.clock.advance(4)
        self.assertFalse(asked.aborted)
        self.clock.pump([1] * 4)
        self.assertTrue(asked.aborted)
        self.assertEqual(([], []), (self.inbox.ends, self.inbox.failures))

    def test_a_stream_without_the_answer_ends(self) -> None:
        sent = self.send()
        self.pool.last.events(b"data: x\n\n")
        self.pool.last.receiver.done()
        self.assertEqual([sent], self.inbox.ends)

    def test_a_stream_that_breaks(self) -> None:
        self.send()
        self.pool.last.events(b"id: 1\ndata: x\n\n")
        self.pool.last.fail()
        self.assertEqual("the connection broke", self.error())
        self.assertFalse(self.inbox.failures[0][1].unsent)

    def test_a_stream_that_breaks_after_the_answer_is_no_fault(self) -> None:
        self.send()
        self.pool.last.events(b"data: " + RESULT + b"\n\n")
        self.pool.last.fail()
        self.assertEqual([], self.inbox.failures)

    def test_a_request_that_was_not_sent(self) -> None:
        self.send()
        self.pool.last.fail("no connection", unsent=True)
        self.assertTrue(self.inbox.failures[0][1].unsent)

    def test_an_accepted_request_is_not_answered(self) -> None:
        sent = self.send()
        self.pool.last.answer(202)
        self.assertEqual([sent], self.inbox.ends)

    def test_an_accepted_notification(self) -> None:
        for status, body in ((202, b""), (204, b""), (200, b""), (200, b"{}"), (202, b"x" * 100_000)):
            self.send(Outgoing(b"{}", "notifications/cancelled"))
            self.pool.last.answer(status, body)
        self.assertEqual(([], [], []), (self.inbox.got, self.inbox.ends, self.inbox.failures))
        self.assertTrue(self.pool.last.aborted)

    def test_abandoning_closes_the_stream(self) -> None:
        sent = self.send()
        self.wire.abandon(sent)
        self.assertTrue(self.pool.last.aborted)
        self.wire.abandon(sent)
        self.assertEqual(([], [], []), (self.inbox.got, self.inbox.ends, self.inbox.failures))

    def test_abandoned_from_within(self) -> None:
        sent = self.send()
        self.inbox.received = lambda data, via: (self.inbox.got.append((data, via)), self.wire.abandon(sent))[
            0
        ]  # type: ignore[method-assign,assignment]
        self.pool.last.events(b"data: 1\n\ndata: 2\n\n")
        self.assertEqual([(b"1", sent)], self.inbox.got)
        self.assertTrue(self.pool.last.aborted)

    def test_pausing(self) -> None:
        self.send()
        self.wire.pause()
        self.send()
        self.wire.resume()
        self.assertEqual([[True, False], [True, False]], [asked.paused for asked in self.pool.asked])

    def test_a_full_wire_refuses(self) -> None:
        self.wire = self.wired(limits=limits(exchanges=1))
        first = self.send()
        self.send()
        self.assertIn("1 messages are under way", self.error())
        self.assertTrue(self.inbox.failures[0][1].unsent)
        self.wire.abandon(first)
        self.send()
        self.assertEqual(1, len(self.inbox.failures))


class Refusals(Wired):
    def test_an_error_of_the_server(self) -> None:
        sent = self.send()
        error = b'{"error":{"code":-32022},"result":0}'
        self.pool.last.answer(400, error)
        self.assertEqual([(error, sent)], self.inbox.got)
        self.assertEqual(400, sent.status)
        self.assertEqual([], self.inbox.failures)

    def test_a_document_that_settles_nothing_is_a_failure_too(self) -> None:
        self.send()
        self.pool.last.answer(500, b'{"oops":1}')
        self.assertEqual(1, len(self.inbox.got))
        self.assertEqual('HTTP status 500: {"oops":1}', self.error())
        self.assertEqual(500, self.inbox.failures[0][1].status)

    def test_text(self) -> None:
        self.send()
        asked = self.pool.last
        asked.head(503, (b"content-type", b"text/html"))
        asked.receiver.body(b"<h1>busy \xff</h1>" + b"x" * 5000)
        asked.receiver.done()
        self.assertIn("HTTP status 503: <h1>busy �</h1>xxx", self.error())
        self.assertLess(len(self.error()), 300)

    def test_long_text_is_not_waited_for(self) -> None:
        for kind in ((b"content-type", b"text/plain"), JSON):
            self.wire = self.wired(limits=limits(message=20_000))
            self.inbox.failures.clear()
            self.send()
            self.pool.last.head(500, kind)
            self.pool.last.receiver.body(b"y" * 10_000)
            self.pool.last.receiver.body(b"y" * 20_000)
            self.assertTrue(self.pool.last.aborted)
            self.assertIn("HTTP status 500: yyy", self.error())

    def test_a_refused_notification(self) -> None:
        self.send(Outgoing(b"{}", "notifications/x"))
        self.pool.last.answer(400, b'{"error":{}}')
        self.assertIn("400", self.error())
        self.assertEqual([], self.inbox.got)

    def test_other_types(self) -> None:
        for headers, said in (
            ([(b"content-type", b"text/html")], "content type text/html"),
            ([], "content type none"),
            ([JSON, (b"content-encoding", b"gzip")], "content-encoding gzip"),
        ):
            self.inbox.failures.clear()
            self.send()
            self.pool.last.head(200, *headers)
            self.assertIn(said, self.error())
            self.assertTrue(self.pool.last.aborted)

    def test_too_much(self) -> None:
        self.wire = self.wired(limits=limits(message=10))
        self.send()
        self.pool.last.head(200, JSON)
        self.pool.last.receiver.body(b"x" * 10)
        self.assertEqual([], self.inbox.failures)
        self.pool.last.receiver.body(b"x")
        self.assertIn("more than 10 bytes", self.error())
        self.assertTrue(self.pool.last.aborted)

    def test_a_stream_without_a_type_that_is_empty(self) -> None:
        sent = self.send()
        self.pool.last.head(200, (b"content-length", b"0"))
        self.pool.last.receiver.done()
        self.assertEqual([sent], self.inbox.ends)

    def test_too_long_an_event(self) -> None:
        self.wire = self.wired(limits=limits(message=10))
        self.send()
        self.pool.last.events(b"data: 1234567890")
        self.assertIn("an event is longer than 10 bytes", self.error())
        self.assertTrue(self.pool.last.aborted)


class Redirects(Wired):
    def redirect(self, status: int, location: bytes) -> None:
        self.pool.last.answer(status, b"", (b"location", location))

    def test_same_origin_is_followed(self) -> None:
        self.send()
        self.redirect(307, b"/mcp/?y=2")
        self.assertEqual(
            (b"POST", b"/mcp/?y=2"), (self.pool.last.request.method, self.pool.last.request.target)
        )
        self.redirect(308, b"https://mcp.example:443/other#here")
        self.assertEqual(b"/other", self.pool.last.request.target)
        self.pool.last.answer(200, RESULT)
        self.assertEqual(1, len(self.inbox.got))
        self.send()
        self.assertEqual(b"/mcp?x=1", self.pool.last.request.target)

    def test_other_origins_are_not(self) -> None:
        for location, said in (
            (b"https://else.example/mcp", "leads away to https://else.example"),
            (b"http://mcp.example/mcp", "leads away to http://mcp.example"),
            (b"ftp://mcp.example/", "leads nowhere"),
            (b"\xff", "leads nowhere"),
        ):
            self.inbox.failures.clear()
            self.send()
            self.redirect(307, location)
            self.assertIn(said, self.error())
        self.assertEqual(4, len(self.pool.asked))

    def test_without_end_they_are_not(self) -> None:
        self.send()
        for _ in range(4):
            self.redirect(307, b"/mcp")
        self.assertIn("is one too many", self.error())
        self.assertEqual(4, len(self.pool.asked))

    def test_a_change_of_method_is_refused(self) -> None:
        for status in (301, 302, 303):
            self.inbox.failures.clear()
            self.send()
            self.redirect(status, b"/other")
            self.assertIn(f"HTTP status {status}", self.error())

    def test_without_a_location(self) -> None:
        self.send()
        self.pool.last.answer(307)
        self.assertIn("307", self.error())
        self.assertEqual(1, len(self.pool.asked))


class Authorized(Wired):
    def setUp(self) -> None:
        super().setUp()
        self.permits = Permits(b"Bearer 1")
        self.wire = self.wired(authorization=self.permits)

    def test_what_is_ready_goes_at_once(self) -> None:
        self.send()
        self.assertEqual(b"Bearer 1", self.pool.last.headers[b"authorization"])

    def test_what_is_not_is_waited_for(self) -> None:
        self.permits.token = None
        self.send()
        self.assertEqual([], self.pool.asked)
        self.permits.waiting[0].callback([(b"authorization", b"Bearer 2")])
        self.assertEqual(b"Bearer 2", self.pool.last.headers[b"authorization"])

    def test_what_is_abandoned_meanwhile_is_not_sent(self) -> None:
        self.permits.token = None
        self.wire.abandon(self.send())
        self.wire.abandon(self.send())
        self.permits.waiting[0].callback([])
        self.permits.waiting[1].errback(ValueError("no"))
        self.assertEqual(([], []), (self.pool.asked, self.inbox.failures))

    def test_failure(self) -> None:
        self.permits.token = None
        self.send()
        self.permits.waiting[0].errback(ValueError("the browser is gone"))
        ((_, error),) = self.inbox.failures
        self.assertIn("could not be authorized: the browser is gone", str(error))
        self.assertTrue(error.unsent)
        self.assertIsInstance(error.__cause__, ValueError)

    def test_a_challenge_that_is_met(self) -> None:
        self.permits.verdicts = [True, True]
        self.send()
        self.permits.token = b"Bearer 2"
        self.pool.last.answer(401, b"", (b"www-authenticate", b"Bearer"))
        self.assertEqual(b"Bearer 2", self.pool.last.headers[b"authorization"])
        self.pool.last.answer(403, b"", (b"www-authenticate", b"Bearer error=insufficient_scope"))
        self.pool.last.answer(200, RESULT)
        self.assertEqual([], self.inbox.failures)
        self.assertEqual([(b"authorization", b"Bearer 1")], self.permits.sent[0])
        self.assertEqual([401, 403], [status for status, *_ in self.permits.challenges])
        _, headers, method, url = self.permits.challenges[0]
        self.assertEqual(
            (b"Bearer", "POST", "https://mcp.example/mcp?x=1"), (headers[b"www-authenticate"], method, url)
        )

    def test_answers_are_shown_where_they_are_wanted(self) -> None:
        self.send()
        self.pool.last.answer(200, RESULT, (b"dpop-nonce", b"1"))
        self.permits.observes = True
        self.send()
        self.pool.last.answer(200, RESULT, (b"dpop-nonce", b"2"))
        self.permits.verdicts = [False]
        self.send()
        self.pool.last.answer(401, b"", (b"dpop-nonce", b"3"))
        self.assertEqual([b"2"], [headers[b"dpop-nonce"] for headers in self.permits.seen])

    def test_a_challenge_that_is_not(self) -> None:
        self.permits.verdicts = [False]
        self.send()
        self.pool.last.answer(403, b"")
        self.assertIn("HTTP status 403", self.error())

    def test_a_challenge_that_fails(self) -> None:
        self.permits.verdicts = [ValueError("no way")]
        self.send()
        self.pool.last.answer(401, b"")
        ((_, error),) = self.inbox.failures
        self.assertIn("could not be authorized: no way", str(error))
        self.assertEqual((401, False), (error.status, error.unsent))

    def test_challenges_without_end(self) -> None:
        self.permits.verdicts = [True] * 9
        self.send()
        for _ in range(4):
            self.pool.last.answer(401, b"")
        self.assertIn("HTTP status 401", self.error())
        self.assertEqual(4, len(self.pool.asked))


class Types(Wired):
    def test_a_stream_is_not_mistaken(self) -> None:
        self.send()
        self.pool.last.head(200, (SSE[0], b"text/event-stream;charset=utf-8"))
        self.pool.last.receiver.body(b"data: x\n\n")
        self.assertEqual(1, len(self.inbox.got))
