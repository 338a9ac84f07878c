"""Reads that are shared: what is kept and for whom, and questions that are asked once for all."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import Cache
from erlmcp.gateway._sharing import Sharing
from erlmcp.interfaces import Complete, NeedsInput, Outcome, Peer, Request
from erlmcp.protocol import McpError, Params, errors

READ = "resources/read"
KEY = Sharing.key({"uri": "file:///a"})


def result(**more: Any) -> Raw:
    return Raw(msgspec.json.encode({"contents": [], "ttlMs": 10_000, "cacheScope": "private", **more}))


def request(method: str = READ, params: str = "{}", **more: Any) -> Request:
    decoded = msgspec.json.decode(params.encode(), type=Params)
    return Request(id=1, method=method, peer=Peer(transport="tcp"), params=decoded, **more)


class SharingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.cache = Cache(self.clock.seconds)
        self.sharing = Sharing("files", self.cache)


class KeepingTests(SharingCase):
    def keep(self, context: str = "alice", kept: Raw | None = None, method: str = READ) -> None:
        self.sharing.keep(context, method, KEY, kept or result(), self.sharing.stamp)

    def found(self, context: str = "alice", sharing: Sharing | None = None) -> bytes | None:
        kept = (sharing or self.sharing).find(context, READ, KEY)
        return None if kept is None else bytes(kept.result)

    def test_as_it_came_and_for_how_much_longer(self) -> None:
        raw = result(contents=[{"x": 1}])
        self.keep(kept=raw)
        self.clock.advance(4)
        kept = self.sharing.find("alice", READ, KEY)
        assert kept is not None
        self.assertEqual((bytes(kept.result), kept.ttl_ms), (bytes(raw), 6000))
        self.clock.advance(6)
        self.assertIsNone(self.found())

    def test_within_one_context(self) -> None:
        self.keep()
        self.assertIsNone(self.found("bob"))
        self.keep(kept=result(cacheScope="public"))
        self.assertIsNotNone(self.found("bob"))

    def test_of_one_upstream(self) -> None:
        self.keep(kept=result(cacheScope="public"))
        self.assertIsNone(self.found(sharing=Sharing("other", self.cache)))

    def test_what_is_not_kept(self) -> None:
        for one in (result(ttlMs=0), result(resultType="input_required"), Raw(b"[]"), Raw(b'{"ttlMs":"x"}')):
            self.keep(kept=one)
            self.assertIsNone(self.found())
        self.keep(method="prompts/get")
        self.assertIsNone(self.sharing.find("alice", "prompts/get", KEY))

    def test_changes(self) -> None:
        self.keep()
        self.sharing.changed("notifications/resources/updated", "file:///b")
        self.assertIsNotNone(self.found())
        self.sharing.changed("notifications/resources/updated", "file:///a")
        self.assertIsNone(self.found())
        self.keep()
        self.sharing.forget()
        self.assertIsNone(self.found())

    def test_an_answer_from_before_a_change(self) -> None:
        stamp = self.sharing.stamp
        self.sharing.changed("notifications/resources/updated", "file:///a")
        self.sharing.keep("alice", READ, KEY, result(), stamp)
        self.assertIsNone(self.found())

    def test_keys(self) -> None:
        self.assertEqual(Sharing.key({"a": 1, "b": Raw(b"2")}), Sharing.key({"b": 2, "a": 1}))
        self.assertNotEqual(Sharing.key({"a": 1}), Sharing.key({"a": "1"}))


class WhichTests(SynchronousTestCase):
    def test_methods(self) -> None:
        self.assertTrue(Sharing.keeps(request()))
        self.assertTrue(Sharing.keeps(request("tools/list")))
        self.assertTrue(Sharing.keeps(Request(id=1, method=READ, peer=Peer(transport="tcp"))))
        for method in ("tools/call", "prompts/get", "completion/complete"):
            self.assertFalse(Sharing.keeps(request(method)), method)

    def test_rounds(self) -> None:
        self.assertFalse(Sharing.keeps(request(params='{"requestState": "s"}')))
        self.assertFalse(Sharing.keeps(request(params='{"inputResponses": {}}')))

    def test_who_wants_to_hear_of_it(self) -> None:
        self.assertTrue(Sharing.joins(request()))
        self.assertFalse(Sharing.joins(request(progress_token="p")))
        self.assertFalse(Sharing.joins(request(log_level="info")))
        self.assertFalse(Sharing.joins(request("tools/call")))


class Asked:
    """A question that was sent: what it comes to is the test's to say."""

    def __init__(self, part: Callable[[], None]) -> None:
        self.part = part
        self.given_up = False
        self.answer: Deferred[Outcome] = Deferred(self._cancel)

    def _cancel(self, _: Deferred[Outcome]) -> None:
        self.given_up = True


class FlightTests(SharingCase):
    def setUp(self) -> None:
        super().setUp()
        self.asked: list[Asked] = []

    def start(self, part: Callable[[], None]) -> Awaitable[Outcome]:
        self.asked.append(Asked(part))
        return self.asked[-1].answer

    def ask(self, context: str = "alice", key: bytes = KEY) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self.sharing.coalesce(context, READ, key, self.start))

    def test_one_question_for_all(self) -> None:
        waiting = [self.ask() for _ in range(3)]
        self.assertEqual(len(self.asked), 1)
        self.asked[0].answer.callback(Complete({"contents": Raw(b"[]")}))
        outcomes = [self.successResultOf(one) for one in waiting]
        self.assertEqual(outcomes, [Complete({"contents": Raw(b"[]")})] * 3)
        self.assertEqual(self.sharing.joined, 2)
        outcomes[1].fields.clear()  # type: ignore[union-attr]
        self.assertTrue(outcomes[0].fields)  # type: ignore[union-attr]
        self.assertTrue(outcomes[2].fields)  # type: ignore[union-attr]
        self.ask()
        self.assertEqual(len(self.asked), 2, "later ones ask anew")

    def test_what_is_there_at_once(self) -> None:
        async def start(part: Callable[[], None]) -> Outcome:
            return Complete({})

        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(self.sharing.coalesce("alice", READ, KEY, start))),
            Complete({}),
        )
        self.ask()
        self.assertEqual(len(self.asked), 1)

    def test_different_questions(self) -> None:
        self.ask()
        self.ask("bob")
        self.ask(key=b"{}")
        self.assertEqual(len(self.asked), 3)

    def test_whoever_leaves_takes_nothing_along(self) -> None:
        leader, second, third = self.ask(), self.ask(), self.ask()
        second.cancel()
        leader.cancel()
        self.failureResultOf(leader, CancelledError)
        self.failureResultOf(second, CancelledError)
        self.assertFalse(self.asked[0].given_up)
        self.asked[0].answer.callback(Complete({}))
        self.successResultOf(third)

    def test_one_s_answer_is_another_s_end(self) -> None:
        waiting = [self.ask() for _ in range(4)]
        waiting[1].addCallback(lambda _: waiting[2].cancel())
        self.asked[0].answer.callback(Complete({}))
        self.failureResultOf(waiting[2], CancelledError)
        self.successResultOf(waiting[3])
        self.assertFalse(self.asked[0].given_up)

    def test_given_up_when_nobody_waits(self) -> None:
        waiting = [self.ask(), self.ask()]
        for one in waiting:
            one.cancel()
            self.failureResultOf(one, CancelledError)
        self.assertTrue(self.asked[0].given_up)
        self.ask()
        self.assertEqual(len(self.asked), 2)

    def test_given_up_by_the_only_one(self) -> None:
        only = self.ask()
        only.cancel()
        self.failureResultOf(only, CancelledError)
        self.assertTrue(self.asked[0].given_up)

    def test_a_failure_is_tried_once_more_together(self) -> None:
        first, second, third, fourth = (self.ask() for _ in range(4))
        self.asked[0].answer.errback(errors.deadline_exceeded(1.0, "r"))
        self.failureResultOf(first, McpError)
        self.assertEqual(len(self.asked), 2)
        self.asked[1].answer.errback(errors.invalid_params("no such resource"))
        for one in (second, third, fourth):
            self.assertIn("no such resource", str(self.failureResultOf(one, McpError).value))
        self.assertEqual((len(self.asked), self.sharing.joined), (2, 0))

    def test_the_second_time_it_goes_well(self) -> None:
        first, second, third = (self.ask() for _ in range(3))
        self.asked[0].answer.errback(errors.deadline_exceeded(1.0, "r"))
        self.failureResultOf(first, McpError)
        self.asked[1].answer.callback(Complete({}))
        self.successResultOf(second)
        self.successResultOf(third)

    def test_given_up_twice_is_nobody_elses_fault(self) -> None:
        first, second, third = (self.ask() for _ in range(3))
        self.asked[0].answer.cancel()
        self.failureResultOf(first, CancelledError)
        self.asked[1].answer.cancel()
        self.failureResultOf(second, CancelledError)
        self.asked[2].answer.callback(Complete({}))
        self.successResultOf(third)

    def test_what_needs_input_is_each_ones_own(self) -> None:
        first, second = self.ask(), self.ask()
        self.asked[0].answer.callback(NeedsInput({}, "state-of-the-first"))
        self.assertEqual(self.successResultOf(first), NeedsInput({}, "state-of-the-first"))
        self.assertNoResult(second)
        self.asked[1].answer.callback(Complete({"contents": []}))
        self.assertEqual(self.successResultOf(second), Complete({"contents": []}))

    def test_what_asks_its_caller_is_each_ones_own(self) -> None:
        first, second = self.ask(), self.ask()
        self.asked[0].part()
        self.assertEqual(len(self.asked), 2)
        third = self.ask()
        self.assertEqual(len(self.asked), 3, "nobody joins it any more")
        self.asked[1].part()
        for index, (one, text) in enumerate(((first, "a"), (second, "b"), (third, "c"))):
            self.asked[index].answer.callback(Complete({"of": text}))
            self.assertEqual(self.successResultOf(one), Complete({"of": text}))

    def test_who_asks_after_a_change_asks_anew(self) -> None:
        before = self.ask()
        self.sharing.changed("notifications/resources/updated", "file:///a")
        after = self.ask()
        self.asked[0].answer.callback(Complete({"of": "before"}))
        again = self.ask()
        self.asked[1].answer.callback(Complete({"of": "after"}))
        self.assertEqual(self.successResultOf(before), Complete({"of": "before"}))
        self.assertEqual(self.successResultOf(after), Complete({"of": "after"}))
        self.assertEqual(self.successResultOf(again), Complete({"of": "after"}))

    def test_bounds(self) -> None:
        self.sharing = Sharing("files", self.cache, flights=1, followers=1)
        self.ask()
        self.ask()
        self.assertEqual(len(self.asked), 1)
        self.ask()
        self.assertEqual(len(self.asked), 2, "one follower is enough")
        self.ask(key=b"{}")
        self.ask(key=b"{}")
        self.assertEqual(len(self.asked), 4, "one flight is enough")
