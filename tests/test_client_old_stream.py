"""The wire of 2024-11-05: a stream that says where messages go, and brings every answer."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client._old_stream import OldStreamWire
from erlmcp.client._wire import Outgoing, WireError
from tests.client_doubles import FakePool, KeepingInbox, Permits, limits, request, site


class OldStreams(SynchronousTestCase):
    def setUp(self) -> None:
        self.pool = FakePool()
        self.inbox = KeepingInbox()
        self.opening = self.wired()

    def wired(self, **means: object) -> Deferred[None]:
        self.clock = Clock()
        self.wire = OldStreamWire(site(self.pool, self.clock, "http://mcp.example/sse", **means))
        opening = self.wire.open(self.inbox)
        self.stream = self.pool.asked[-1] if self.pool.asked else None
        return opening

    def opened(self, **means: object) -> None:
        self.opening = self.wired(**means)
        assert self.stream is not None
        self.stream.events(b"event: endpoint\ndata: /messages?session=1\n\n")
        self.successResultOf(self.opening)

    def refusal(self) -> WireError:
        error = self.failureResultOf(self.opening, WireError).value
        assert isinstance(error, WireError)
        self.assertEqual([], self.clock.getDelayedCalls())
        return error

    def test_opening(self) -> None:
        stream = self.pool.last
        self.assertEqual((b"GET", b"/sse"), (stream.request.method, stream.request.target))
        self.assertEqual(b"text/event-stream", stream.headers[b"accept"])
        self.assertNoResult(self.opening)
        stream.events(b"event: endpoint\ndata: /messages?session=1\n\n")
        self.successResultOf(self.opening)
        self.wire.send(request())
        post = self.pool.last
        self.assertEqual((b"POST", b"/messages?session=1"), (post.request.method, post.request.target))
        self.assertEqual(b"application/json", post.headers[b"content-type"])

    def test_messages_come_on_the_stream(self) -> None:
        self.opened()
        self.wire.send(request())
        self.pool.last.answer(202)
        self.pool.asked[1].receiver.body(
            b"event: message\ndata: x\n\nevent: endpoint\ndata: /else\n\ndata: y\n\n"
        )
        self.assertEqual([(b"x", None), (b"y", None)], self.inbox.got)
        self.wire.send(request())
        self.assertEqual(b"/messages?session=1", self.pool.last.request.target)
        self.assertEqual([], self.inbox.ends)

    def test_elsewhere_is_refused(self) -> None:
        for uri, said in (
            (b"http://else.example/messages", "sends messages away to http://else.example"),
            (b"https://mcp.example/messages", "sends messages away"),
            (b"ftp://mcp.example/", "that is no URL"),
            (b"\xff", "that is no URL"),
        ):
            self.opening = self.wired()
            self.pool.last.events(b"event: endpoint\ndata: " + uri + b"\n\n")
            error = self.refusal()
            self.assertIn(said, str(error))
            self.assertTrue(error.unsent)
            self.assertTrue(self.pool.last.aborted)

    def test_refused(self) -> None:
        self.pool.last.answer(404, b"{}")
        self.assertEqual(404, self.refusal().status)

    def test_a_document(self) -> None:
        self.pool.last.answer(200, b"{}")
        self.assertIn("no stream", str(self.refusal()))

    def test_broken(self) -> None:
        self.pool.last.fail("no route", unsent=True)
        self.assertIn("no route", str(self.refusal()))

    def test_too_late(self) -> None:
        self.clock.advance(10)
        self.assertIn("within 10 s", str(self.refusal()))
        self.assertTrue(self.pool.last.aborted)

    def test_closed_before_it_is_open(self) -> None:
        self.successResultOf(self.wire.close())
        self.assertIn("closed before", str(self.refusal()))
        self.failureResultOf(self.wire.open(self.inbox), WireError)

    def test_lost(self) -> None:
        for lose, said in (
            (lambda: self.stream.receiver.done(), "has ended its stream"),  # type: ignore[union-attr]
            (lambda: self.stream.fail(), "the connection broke"),  # type: ignore[union-attr]
        ):
            self.opened()
            self.inbox.losses.clear()
            self.wire.send(request())
            lose()
            (error,) = self.inbox.losses
            self.assertIn(said, str(error))
            self.assertTrue(self.pool.last.aborted)
            self.wire.send(request())
            self.assertIn("not connected", str(self.inbox.failures[-1][1]))
            self.assertTrue(self.inbox.failures[-1][1].unsent)

    def test_a_message_that_is_refused(self) -> None:
        self.opened()
        sent = request()
        self.wire.send(sent)
        self.pool.last.answer(400, b"{}")
        ((outgoing, error),) = self.inbox.failures
        self.assertIs(sent, outgoing)
        self.assertEqual(400, error.status)

    def test_a_message_that_does_not_arrive(self) -> None:
        self.opened()
        self.wire.send(request())
        self.pool.last.fail("gone", unsent=True)
        self.assertTrue(self.inbox.failures[0][1].unsent)

    def test_bounded(self) -> None:
        self.opened(limits=limits(exchanges=1))
        self.wire.send(request())
        self.wire.send(request())
        self.assertIn("1 messages are under way", str(self.inbox.failures[0][1]))

    def test_order_and_giving_up(self) -> None:
        self.opened()
        self.wire.send(Outgoing(b"{}", "notifications/initialized"))
        first = self.pool.last
        kept, given_up = request(), request()
        self.wire.send(given_up)
        self.wire.send(kept)
        self.wire.abandon(given_up)
        count = len(self.pool.asked)
        first.answer(202)
        self.assertEqual(count + 1, len(self.pool.asked))
        self.wire.abandon(kept)
        self.assertFalse(self.pool.last.aborted)
        self.pool.last.answer(202)
        self.wire.abandon(kept)

    def test_what_hangs_does_not_pile_up(self) -> None:
        self.opened()
        asked, told = request(), Outgoing(b"{}", "notifications/x")
        self.wire.send(told)
        self.wire.send(asked)
        hanging = self.pool.asked[-2:]
        self.clock.advance(62)
        self.assertEqual([True, False], [one.aborted for one in hanging])
        asked.settled = True  # by the stream
        self.clock.advance(62)
        self.assertTrue(hanging[1].aborted)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.wire.send(asked)
        self.pool.last.answer(202)
        self.clock.advance(62)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_user_who_is_asked_takes_his_time(self) -> None:
        self.wire.close()
        self.failureResultOf(self.opening)
        permits = Permits()
        self.wire = OldStreamWire(site(self.pool, self.clock, authorization=permits))
        opening = self.wire.open(self.inbox)
        self.clock.advance(100)
        self.assertNoResult(opening)
        permits.waiting[0].callback([])
        self.pool.last.events(b"event: endpoint\ndata: /messages\n\n")
        self.successResultOf(opening)
        self.wire.send(request())
        permits.waiting[1].callback([])
        self.wire.close()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_closing(self) -> None:
        self.opened()
        self.wire.send(Outgoing(b"{}", "notifications/initialized"))
        self.wire.pause()
        self.wire.resume()
        self.successResultOf(self.wire.close())
        assert self.stream is not None
        self.assertTrue(self.stream.aborted and self.pool.last.aborted)
        self.assertEqual([True, False], self.stream.paused)
        self.assertEqual([], self.inbox.losses)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_authorized(self) -> None:
        permits = Permits(b"Bearer 1")
        self.opened(authorization=permits)
        self.assertEqual(b"Bearer 1", self.pool.last.headers[b"authorization"])
        self.wire.send(request())
        self.assertEqual(b"Bearer 1", self.pool.last.headers[b"authorization"])
