"""An upstream's lists: fetched within bounds, kept while it is away, said to be stale, never invented."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import Backoff, BadAnswer, Change, Client, ClientError, Edge, TimedOut, WireError
from erlmcp.gateway import _lists
from erlmcp.gateway._listing import Listing
from erlmcp.gateway._lists import LISTS, Fetched, Lists, fetch
from erlmcp.protocol import McpError
from erlmcp.testing import StubServer

EVERYTHING = {"tools": {}, "resources": {}, "prompts": {}}
METHODS = tuple(method for method, _, _ in LISTS.values())


def page(kind: str, *names: str, **more: Any) -> dict[str, Any]:
    """A page of a list."""
    return {"resultType": "complete", LISTS[kind][1]: [{"name": name} for name in names], **more}


def names(entries: tuple[Any, ...]) -> list[str]:
    """What a list names."""
    return [bytes(one).decode().split('"')[3] for one in entries]


class Case(SynchronousTestCase):
    """A stub whose lists have one entry each."""

    version = "2026-07-28"

    def setUp(self) -> None:
        self.stub = StubServer(self.version, EVERYTHING, linked=True)
        for kind, (method, _, _) in LISTS.items():
            self.stub.on(method, page(kind, f"a-{kind}"))
        self.clock = Clock()
        self.client = Client(self.stub.target, self.clock, backoff=Backoff(jitter=0.0))
        self.addCleanup(self._close)

    def _close(self) -> None:
        self.successResultOf(self.client.close())
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FetchTests(Case):
    def fetch(self, kind: str = "tools", deadline: float = 5.0) -> Deferred[Fetched]:
        async def fetched() -> Fetched:
            edge = await self.client._connection.connected()
            return await fetch(edge, kind, self.clock, deadline)

        return Deferred.fromCoroutine(fetched())

    def test_pages(self) -> None:
        """All of them, in order; the least time, and private if one page is."""
        self.stub.on(
            "tools/list",
            page("tools", "a", "b", nextCursor="1", ttlMs=5000, cacheScope="public"),
            page("tools", nextCursor="", ttlMs=3000, cacheScope="public"),
            page("tools", "c", ttlMs=4000.7, cacheScope="public"),
        )
        found = self.successResultOf(self.fetch())
        self.assertEqual(names(found.entries), ["a", "b", "c"])
        self.assertEqual((found.offered, found.ttl_ms, found.public), (True, 3000, True))
        cursors = [params.get("cursor") for params in self.stub.asked("tools/list")]
        self.assertEqual(cursors, [None, "1", ""])

    def test_what_is_not_said(self) -> None:
        """Without a time and a scope it is stale at once and private."""
        found = self.successResultOf(self.fetch())
        self.assertEqual((found.ttl_ms, found.public), (0, False))
        for ttl, expected in ((-5, 0), (1e300, 24 * 3600 * 1000)):
            self.stub.on("tools/list", page("tools", ttlMs=ttl, cacheScope="public"))
            self.assertEqual(self.successResultOf(self.fetch()).ttl_ms, expected)

    def test_not_offered(self) -> None:
        """What is not declared is not asked for."""
        self.stub = StubServer(self.version, {"tools": {}})
        self.client = Client(self.stub.target, self.clock)
        self.assertEqual(self.successResultOf(self.fetch("prompts")), Fetched())
        self.stub.assert_methods("server/discover")

    def test_no_such_method(self) -> None:
        """It is declared with the resources, and many do not have it; on a later page it is an error."""
        self.stub.on("resources/templates/list")
        self.assertEqual(self.successResultOf(self.fetch("templates")), Fetched())
        self.stub.on("tools/list", page("tools", nextCursor="1"), McpError(-32601, "what?"))
        self.failureResultOf(self.fetch(), ClientError)

    def test_no_answer(self) -> None:
        self.stub.on("tools/list", None)
        fetching = self.fetch()
        self.clock.advance(4.9)
        self.assertNoResult(fetching)
        self.clock.advance(0.3)
        self.failureResultOf(fetching, TimedOut)

    def test_all_pages_share_the_deadline(self) -> None:
        """However lively it is: each page in time, and all of them too late."""
        waiting: list[int] = []

        def late(params: dict[str, Any]) -> None:
            waiting.append(int(params.get("cursor", "0")))

        self.stub.on("tools/list", late)
        fetching = self.fetch()
        for count in range(4):
            self.assertEqual(waiting, list(range(count + 1)))
            self.clock.advance(1.3)
            if count < 3:
                number = self.stub.requests[-1]["id"]
                self.stub.wire.answer(number, page("tools", nextCursor=str(count + 1)))
        self.failureResultOf(fetching, TimedOut)
        self.stub.on("tools/list", page("tools", nextCursor="1"))
        failure = self.failureResultOf(self.fetch(deadline=0.0), TimedOut)
        self.assertIn("its pages take more than 0 s", str(failure.value))

    def test_endless(self) -> None:
        """Pages in a circle, more entries or bytes than may be: refused, not kept in part."""
        self.stub.on(
            "tools/list",
            page("tools", "a", nextCursor="1"),
            page("tools", "b", nextCursor="2"),
            page("tools", nextCursor="1"),
        )
        failure = self.failureResultOf(self.fetch(), BadAnswer)
        self.assertIn("its pages do not end: 2 so far", str(failure.value))
        numbers = iter(range(100))
        self.stub.on("tools/list", lambda _: page("tools", "a", nextCursor=str(next(numbers))))
        for name, most, words in (
            ("_MOST_PAGES", 5, "do not end: 5"),
            ("_MOST_ENTRIES", 3, "more than 3 entries"),
            ("_MOST_BYTES", 99, "more than 99 bytes"),
        ):
            self.patch(_lists, name, most)
            self.assertIn(words, str(self.failureResultOf(self.fetch(), BadAnswer).value))

    def test_wrong_shapes(self) -> None:
        for wrong in (
            {},
            {"tools": {}},
            {"tools": None},
            {"tools": [], "nextCursor": 5},
            {"tools": [], "ttlMs": "1"},
        ):
            self.stub.on("tools/list", {"resultType": "complete", **wrong})
            failure = self.failureResultOf(self.fetch(), BadAnswer)
            self.assertIn("tools/list: ", str(failure.value))


class ListingCase(Case):
    def setUp(self) -> None:
        super().setUp()
        self.changes: list[tuple[Lists, frozenset[str]]] = []
        self.stales: list[str | None] = []
        self.dropped: list[Edge] = []
        self.listing = self.make()

    def make(self, **options: Any) -> Listing:
        def drop(edge: Edge) -> None:
            self.dropped.append(edge)
            self.client._connection.drop(edge)

        listing = Listing(
            "files",
            self.client._connection.connected,
            self.clock,
            lambda lists, kinds: self.changes.append((lists, kinds)),
            self.stales.append,
            **{"dropped": drop, "deadline": 5.0, "backoff": Backoff(jitter=0.0), **options},
        )
        self.addCleanup(listing.stop)
        return listing

    def count(self, method: str = "tools/list") -> int:
        return len(self.stub.asked(method))


class ListingTests(ListingCase):
    def test_start(self) -> None:
        """Until all is heard it is stale, so that what is missing is not taken for all there is."""
        self.stub.on("prompts/list", None)
        self.assertIsNone(self.listing.stale)
        self.listing.start()
        self.assertEqual(self.stales, ["it has not been heard yet"])
        self.assertFalse(self.listing.known)
        self.assertEqual(names(self.listing.lists.tools), ["a-tools"])
        self.stub.wire.answer(self.stub.requests[-1]["id"], page("prompts"))
        self.assertEqual((self.stales[1:], self.listing.known), ([None], True))
        self.assertEqual(
            sorted(map(sorted, (kinds for _, kinds in self.changes))),
            [[], ["resources"], ["templates"], ["tools"]],
        )
        self.assertEqual(self.listing.lists.capabilities, EVERYTHING)
        self.listing.start()
        self.assertEqual(self.count(), 1)

    def test_merged(self) -> None:
        """Of all lists together: the least time, private if one is; one that is not there says nothing."""
        for kind, (method, _, _) in LISTS.items():
            self.stub.on(method, page(kind, ttlMs=60_000 if kind == "tools" else 90_000, cacheScope="public"))
        self.stub.on("resources/templates/list")
        self.listing.start()
        self.assertEqual((self.listing.lists.ttl_ms, self.listing.lists.cache_scope), (60_000, "public"))
        self.stub.on("prompts/list", page("prompts", ttlMs=1000, cacheScope="private"))
        self.listing.fresh("prompts")
        self.assertEqual((self.listing.lists.ttl_ms, self.listing.lists.cache_scope), (1000, "private"))
        # A list asked for alone does not make the others forgotten.
        self.listing.fresh("tools")
        self.assertEqual((self.listing.lists.ttl_ms, self.listing.lists.cache_scope), (1000, "private"))

    def test_one_that_hangs(self) -> None:
        """The others are known at once; when it is given up it is stale, and what was heard of it before stays."""
        self.listing.start()
        self.stub.on("tools/list", None)
        self.listing.heard(Change("tools"))
        self.listing.heard(Change("prompts"))
        self.clock.advance(0.5)
        self.assertEqual(self.count("prompts/list"), 2)
        self.assertIsNone(self.listing.stale)
        self.clock.advance(5.2)
        self.assertIn("tools/list: no answer within 5 s", str(self.listing.stale))
        self.assertEqual(names(self.listing.lists.tools), ["a-tools"])
        self.stub.on("tools/list", page("tools", "b"))
        self.clock.advance(1)
        self.assertIsNone(self.listing.stale)
        self.assertEqual(names(self.listing.lists.tools), ["b"])
        self.assertEqual(self.changes[-1][1], {"tools"})

    def test_one_that_is_refused(self) -> None:
        """An error is not an empty list; asked again after 1, 2, 4, … seconds, said once in the log."""
        self.stub.on("tools/list", McpError(-32603, "out of order"))
        self.listing.start()
        self.assertIn("out of order", str(self.listing.stale))
        self.assertFalse(self.listing.known)
        for pause in (1, 2, 4, 8, 16, 30, 30):
            count = self.count()
            self.clock.advance(pause - 0.1)
            # What it says meanwhile is no reason to ask it sooner.
            self.listing.heard(Change("tools"))
            self.assertEqual(self.count(), count)
            self.clock.advance(0.1)
            self.assertEqual(self.count(), count + 1)
        self.assertEqual(self.count("prompts/list"), 1)
        self.stub.on("tools/list", page("tools"))
        self.clock.advance(30)
        self.assertEqual((self.listing.stale, self.listing.known), (None, True))
        self.assertEqual(self.listing.lists.tools, ())

    def test_away(self) -> None:
        """An upstream that is not there is stale with the reason, and asked for again."""
        self.stub.refusal = "nobody listens there"
        self.listing.start()
        self.clock.advance(10)
        self.assertIn("nobody listens there", str(self.listing.stale))
        self.assertEqual(self.changes, [])
        self.stub.refusal = None
        self.clock.advance(30)
        self.assertEqual((self.listing.stale, self.listing.known), (None, True))

    def test_stop_while_fetching(self) -> None:
        """It is given up: nothing is taken in any more, nobody waits for it; it can be started again."""
        self.stub.on("tools/list", None)
        self.listing.start()
        waiter = self.listing.fresh("tools")
        self.assertNoResult(waiter)
        self.listing.stop()
        self.successResultOf(waiter)
        self.assertEqual(len(self.stub.wire.abandoned), 1)
        self.listing.want("tools")
        self.listing.heard(Change("tools"))
        self.listing.lost("gone")
        self.successResultOf(self.listing.fresh())
        self.clock.advance(1000)
        self.assertEqual(self.count(), 1)
        self.stub.on("tools/list", page("tools", "b"))
        self.listing.start()
        self.clock.advance(1)
        self.assertEqual(names(self.listing.lists.tools), ["b"])

    def test_stop_while_connecting(self) -> None:
        self.stub.on("server/discover", None)
        self.listing.start()
        self.listing.stop()
        self.assertEqual(self.changes, [])

    def test_refresh(self) -> None:
        """Asked for again after what it says, within bounds; with 0, when it says that it has changed alone."""
        self.stub.on("tools/list", page("tools", ttlMs=60_000))
        self.stub.on("prompts/list", page("prompts", ttlMs=1))
        self.stub.on("resources/list", page("resources", ttlMs=10_000_000))
        self.listing.start()
        for _ in range(290):
            self.clock.advance(1)
        self.assertEqual([self.count(method) for method in METHODS], [5, 1, 1, 30])
        self.clock.advance(10)
        self.assertEqual([self.count(method) for method in METHODS], [6, 2, 2, 31])
        self.listing.stop()
        self.listing = self.make(refresh=0.0)
        self.listing.start()
        self.clock.advance(1_000_000)
        self.assertEqual(self.count(), 7)

    def test_what_listens_fails(self) -> None:
        """Its failure is logged; what it could not take in is stale, and tried again."""
        told: list[Lists] = []

        def changed(lists: Lists, kinds: frozenset[str]) -> None:
            del kinds
            told.append(lists)
            if len(told) == 1:
                raise RuntimeError("cannot")

        self.listing = Listing(
            "files", self.client._connection.connected, self.clock, changed, self.stales.append
        )
        self.addCleanup(self.listing.stop)
        self.listing.start()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.listing.stale, "tools/list: it could not be taken in")
        self.clock.advance(1)
        self.assertIsNone(self.listing.stale)


class ChangeTests(ListingCase):
    def test_while_fetching(self) -> None:
        """What changes while it is being fetched is fetched once more, when it has ended and a pause has passed."""
        self.listing.start()
        self.stub.on("tools/list", None)
        self.clock.advance(1)
        self.listing.heard(Change("tools"))
        self.listing.heard(Change("tools"))
        self.assertEqual(self.count(), 2)
        self.stub.on("tools/list", page("tools", "c"))
        self.stub.wire.answer(self.stub.requests[-1]["id"], page("tools", "b"))
        self.assertEqual(names(self.listing.lists.tools), ["b"])
        self.clock.advance(0.4)
        self.assertEqual(self.count(), 2)
        self.clock.advance(0.1)
        self.assertEqual(self.count(), 3)
        self.assertEqual(names(self.listing.lists.tools), ["c"])
        self.clock.advance(5)
        self.assertEqual(self.count(), 3)

    def test_at_once(self) -> None:
        """The first change after a while is not waited with."""
        self.listing.start()
        self.clock.advance(60)
        self.listing.heard(Change("resources"))
        self.assertEqual([self.count(method) for method in METHODS], [1, 2, 2, 1])
        self.listing.heard(Change("completions"))
        self.listing.heard(Change("resource", "a:b"))
        self.assertEqual(len(self.stub.requests), 7)

    def test_flood(self) -> None:
        """Who says all the time that it has changed is asked twice a second; its watchers hear no more often."""
        self.listing.start()
        self.changes.clear()
        for _ in range(100):
            self.clock.advance(0.1)
            self.listing.heard(Change("tools"))
        self.assertLessEqual(self.count(), 21)
        self.assertGreater(self.count(), 15)
        self.assertLessEqual(len(self.changes), self.count())
        self.assertEqual({kinds for _, kinds in self.changes}, {frozenset({"tools"})})

    def test_what_it_says_of_itself(self) -> None:
        """Other capabilities with the same lists are a change, of no list."""
        self.listing.start()
        self.changes.clear()
        self.stub.capabilities = {**EVERYTHING, "completions": {}}
        self.stub.on("server/discover", self.stub._greeting())
        self.client._connection.drop(self.client._connection.edge)  # type: ignore[arg-type]
        self.listing.fresh("tools")
        [(lists, kinds)] = self.changes
        self.assertEqual((kinds, "completions" in lists.capabilities), (frozenset(), True))


class FreshTests(ListingCase):
    def test_now(self) -> None:
        """Fetched now, pause or not; it fires when that has been tried, with success or not."""
        self.listing.start()
        self.successResultOf(self.listing.fresh("tools"))
        self.assertEqual((self.count(), self.count("prompts/list")), (2, 1))
        self.successResultOf(self.listing.fresh())
        self.assertEqual([self.count(method) for method in METHODS], [3, 2, 2, 2])
        self.stub.on("tools/list", McpError(-32603, "no"))
        self.successResultOf(self.listing.fresh("tools"))
        self.assertIsNotNone(self.listing.stale)

    def test_after_what_is_under_way(self) -> None:
        """What was asked before may not know yet: it is asked again at once."""
        self.stub.on("tools/list", None)
        self.listing.start()
        first, given_up = self.listing.fresh("tools"), self.listing.fresh("tools", "prompts")
        given_up.cancel()
        self.failureResultOf(given_up)
        [number] = self.stub.wire.open_requests
        self.stub.wire.answer(number, page("tools", "old"))
        self.assertNoResult(first)
        self.stub.on("tools/list", page("tools", "new"))
        self.clock.advance(0)
        self.successResultOf(first)
        self.assertEqual(names(self.listing.lists.tools), ["new"])


class LossTests(ListingCase):
    def test_lost(self) -> None:
        """From then on it is stale, until it has been heard again."""
        self.listing.start()
        self.clock.advance(60)
        self.client._connection.on_lost = lambda error: self.listing.lost(str(error))
        self.stub.refusal = "nobody there"
        self.stub.wire.cut("the cable")
        self.assertIn("the cable", self.stales)
        self.assertEqual(names(self.listing.lists.tools), ["a-tools"])
        self.clock.advance(0.5)
        self.assertIn("nobody there", str(self.listing.stale))
        self.stub.refusal = None
        self.clock.advance(40)
        self.assertEqual((self.stales[-1], self.listing.stale), (None, None))

    def test_in_the_middle(self) -> None:
        """Lists do no harm: asked again at once on another connection, and nobody notices."""
        self.stub.on("tools/list", None)
        self.listing.start()
        self.stales.clear()
        self.stub.on("tools/list", page("tools", "b"))
        self.stub.wire.cut()
        self.assertEqual(len(self.stub.wires), 2)
        self.assertEqual((names(self.listing.lists.tools), self.stales), (["b"], [None]))

    def test_again_and_again(self) -> None:
        """Twice in a row is a failure, and waited with."""
        self.stub.on("tools/list", lambda _: WireError("the server ended"))
        self.listing.start()
        self.assertEqual(self.count(), 2)
        self.assertIn("the server ended", str(self.listing.stale))
        self.clock.advance(0.9)
        self.assertEqual(self.count(), 2)
        self.clock.advance(0.1)
        self.assertEqual(self.count(), 4)


class EdgeTests(ListingCase):
    def test_another_era(self) -> None:
        """It has been replaced by one that does not know the revision: its era is found out again."""
        self.listing.start()
        self.clock.advance(1)
        for wrong in (McpError(-32600, "not initialized"), WireError("404", status=404)):
            self.stub.on("tools/list", wrong, page("tools", "b"))
            self.listing.heard(Change("tools"))
            self.clock.advance(1)
        self.assertEqual((len(self.dropped), self.listing.stale), (2, None))

    def test_refused(self) -> None:
        """Another status is an answer: not asked again at once."""
        self.listing.start()
        self.clock.advance(1)
        self.stub.on("tools/list", WireError("503", status=503))
        self.listing.heard(Change("tools"))
        self.assertEqual((self.count(), self.dropped), (2, []))
        self.assertIn("503", str(self.listing.stale))


class SessionTests(ListingCase):
    version = "2025-11-25"

    def test_forgotten(self) -> None:
        """A session that is lost is begun again at once, and nobody notices."""
        self.listing.start()
        self.clock.advance(1)
        self.stales.clear()
        self.stub.on(
            "tools/list", WireError("404", session_lost=True, unsent=True, status=404), page("tools", "b")
        )
        self.listing.heard(Change("tools"))
        self.assertEqual((len(self.dropped), self.stales), (1, []))
        self.assertEqual(names(self.listing.lists.tools), ["b"])
        self.assertEqual(len(self.stub.asked("initialize")), 2)
        # An error code of the other era's means what it says here.
        self.stub.on("tools/list", McpError(-32600, "no"))
        self.clock.advance(1)
        self.listing.heard(Change("tools"))
        self.assertEqual(len(self.dropped), 1)
