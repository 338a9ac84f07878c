"""The daemon's tree: what is restarted when a part fails, what the others see of it, and when the daemon gives up."""

from typing import Any, cast

from msgspec import structs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from zope.interface import implementer

from erlmcp import Provider
from erlmcp.catalog import Catalog
from erlmcp.interfaces import Change, Complete, Definitions, IBackend
from erlmcp.protocol import McpError, errors
from erlmcp.supervision import ChildSpec, Status
from erlmcp.tap._frontends import Frontend
from erlmcp.tap._standing import (
    FIRST_WORDS,
    IN_A_ROW,
    BackendService,
    Breaker,
    Crashed,
    Standing,
    begun,
)
from erlmcp.tap._tree import CLOSING, ailing
from tests.test_tap_daemon import DaemonTestCase, Listener

REQUEST: Any = object()


@implementer(IBackend)
class Backend:
    """Answers as it is told to; notes who watches and stops it."""

    def __init__(self, name: str = "b", **tables: Any) -> None:
        self.name = name
        self.tables = tables
        self.answer: Any = Complete({})
        self.ended: Deferred[None] = Deferred()
        self.watchers: list[Any] = []
        self.starts = 0
        self.stops = 0
        self.bound: Any = None

    def definitions(self) -> Definitions:
        return Definitions(**self.tables)

    def watch(self, watcher: Any) -> Any:
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher)

    def dispatch(self, request: Any) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def bind(self, reactor: Any) -> None:
        self.bound = reactor

    def start(self) -> None:
        self.starts += 1

    def stop(self) -> None:
        self.stops += 1


async def later(result: Any) -> Any:
    if isinstance(result, BaseException):
        raise result
    return result


class StandingTests(DaemonTestCase):
    """`Standing`: the backend that the catalog knows."""

    def setUp(self) -> None:
        super().setUp()
        self.first, self.second = Backend(tools={"t": 1}), Backend(prompts={"p": 2})
        self.next: Any = self.second
        self.standing = Standing(self.first, self.rebuild)
        self.crashes: list[Exception] = []
        self.standing.crashed = self.crashes.append

    def rebuild(self) -> Any:
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    def dispatch(self) -> Any:
        answer = self.standing.dispatch(REQUEST)
        return answer if isinstance(answer, Complete) else Deferred.fromCoroutine(cast("Any", answer))

    def test_replaced(self) -> None:
        """Who watches hears of what is there no more, and of what is there now; then of the new one's changes."""
        heard: list[Change] = []
        unwatch = self.standing.watch(heard.append)
        other = self.standing.watch(heard.append)
        self.first.watchers[0](Change("tools"))
        self.assertEqual(heard, [Change("tools")] * 2)
        heard.clear()
        other()
        self.standing.replace(self.reactor)
        self.assertEqual(heard, [Change("tools"), Change("prompts")])
        self.assertEqual((self.first.watchers, len(self.second.watchers)), ([], 1))
        self.assertIs(self.second.bound, self.reactor)
        self.assertEqual(dict(self.standing.definitions().prompts), {"p": 2})
        unwatch()
        self.assertEqual(self.second.watchers, [])

    def test_ended_sessions(self) -> None:
        """The backend of now is told of them, if it wants to know."""
        forgotten: list[Any] = []
        self.standing.forget_sessions({"1"})
        self.second.forget_sessions = forgotten.append  # type: ignore[attr-defined]
        self.standing.replace(self.reactor)
        self.standing.forget_sessions({"2"})
        self.assertEqual(forgotten, [{"2"}])

    def test_in_a_catalog(self) -> None:
        class Tool:
            name = "t"
            wire = b"{}"

        self.first.tables = {"tools": {"t": Tool()}}
        self.second.tables = {}
        catalog = Catalog([self.standing])
        found = catalog.find("tools/call", "t")
        assert found is not None
        self.assertIs(found[0], self.standing)
        self.standing.replace(self.reactor)
        self.assertIsNone(catalog.find("tools/call", "t"))

    def test_replaced_unwatched(self) -> None:
        self.standing.replace(self.reactor)
        self.assertEqual(self.second.watchers, [])

    def test_replaced_by_another(self) -> None:
        self.second.name = "c"
        self.assertRaises(ValueError, self.standing.replace, self.reactor)
        self.standing.refuse("it rests")
        self.assertRaises(McpError, self.standing.dispatch, REQUEST)

    def test_crash(self) -> None:
        """So many requests in a row that raise; one that is answered begins the count anew."""
        self.first.answer = ValueError("oops")
        for _ in range(IN_A_ROW - 1):
            self.assertRaises(ValueError, self.standing.dispatch, REQUEST)
        self.first.answer = Complete({})
        self.dispatch()
        for number in range(IN_A_ROW):
            self.assertEqual(self.crashes, [])
            self.first.answer = later(ValueError("late")) if number else ValueError("oops")
            if number:
                self.failureResultOf(self.dispatch(), ValueError)
            else:
                self.assertRaises(ValueError, self.standing.dispatch, REQUEST)
        (crash,) = self.crashes
        self.assertIsInstance(crash, Crashed)
        self.assertEqual(str(crash), "3 requests in a row: ValueError: late")
        self.first.answer = ValueError("oops")
        self.assertRaises(ValueError, self.standing.dispatch, REQUEST)
        self.assertEqual(len(self.crashes), 1)

    def test_what_is_no_crash(self) -> None:
        for _ in range(IN_A_ROW):
            self.first.answer = errors.internal()
            self.assertRaises(McpError, self.standing.dispatch, REQUEST)
            self.first.answer = later(errors.internal())
            self.failureResultOf(self.dispatch(), McpError)
        self.first.answer = later(Complete({}))
        self.successResultOf(self.dispatch())
        self.assertEqual(self.crashes, [])

    def test_failures_of_the_one_before(self) -> None:
        waiting: Deferred[Any] = Deferred()

        async def wait() -> Any:
            return await waiting

        self.first.answer = wait()
        answer = self.dispatch()
        self.standing.replace(self.reactor)
        waiting.errback(ValueError())
        self.failureResultOf(answer, ValueError)
        self.assertEqual(self.standing._failures, 0)

    def test_end(self) -> None:
        """A backend may say itself that it has ended; what an earlier one says is of no interest."""
        self.standing.start()
        self.standing.start()
        self.standing.replace(self.reactor)
        self.standing.start()
        self.first.ended.errback(ValueError("late"))
        self.assertEqual(self.crashes, [])
        self.second.ended.callback(None)
        self.assertEqual(str(self.crashes[0]), "it came to an end")

    def test_a_provider_answers_for_itself(self) -> None:
        provider = Provider("p")
        standing = Standing(provider)
        self.assertEqual(standing.dispatch, provider.dispatch)
        standing.refuse("it rests")
        error = self.assertRaises(McpError, standing.dispatch, REQUEST)
        self.assertEqual(error.message, "p is not available now: it rests; try again later")
        standing.replace(self.reactor)
        self.assertEqual((standing.dispatch, standing.refusing), (provider.dispatch, None))


class BreakerTests(DaemonTestCase):
    """`Breaker`, and the service that heeds it."""

    def test_table(self) -> None:
        breaker = Breaker(most=2, period=10.0, rest=5.0)
        for now, left in ((0.0, 0.0), (1.0, 0.0), (12.0, 0.0), (13.0, 0.0), (14.0, 5.0)):
            breaker.crashed(now)
            self.assertEqual(breaker.left(now), left, now)
        self.assertEqual([breaker.left(now) for now in (18.0, 19.0, 99.0)], [1.0, 0.0, 0.0])

    def service(self, *made: Any, most: int = 0) -> tuple[Standing, Any]:
        queue = list(made)

        def rebuild() -> Any:
            one = queue.pop(0)
            if isinstance(one, Exception):
                raise one
            return one

        standing = Standing(Backend(), rebuild)
        breaker = Breaker(most=most, rest=5.0)

        def make(*, first: bool = False) -> BackendService:
            return BackendService(standing, breaker, self.reactor, first=first)

        return standing, make

    def test_rebuilt(self) -> None:
        second = Backend()
        standing, make = self.service(second, most=9)
        first = make(first=True)
        first.startService()
        cast("Any", standing._backend).ended.errback(ValueError("gone"))
        self.failureResultOf(first.ended, ValueError)
        before = standing._backend
        first.stopService()
        self.assertEqual((before.stops, standing.refusing), (1, "it is being restarted"))
        service = make()
        service.startService()
        self.assertIs(standing._backend, second)
        self.assertEqual((standing.refusing, service.detail()), (None, {}))
        service.stopService()

    def test_left_alone(self) -> None:
        """Past the breaker's measure it is refused for a while, then tried again."""
        second, third = Backend(), Backend()
        standing, make = self.service(second, third)
        first = make(first=True)
        first.startService()
        cast("Any", standing._backend).ended.callback(None)
        self.failureResultOf(first.ended, Crashed)
        first.stopService()
        service = make()
        service.startService()
        self.assertEqual(service.detail(), {"refusing": "it keeps crashing"})
        self.assertRaises(McpError, standing.dispatch, REQUEST)
        self.reactor.advance(5)
        self.assertIs(standing._backend, second)
        self.assertEqual(service.detail(), {})
        second.ended.callback(None)
        self.failureResultOf(service.ended, Crashed)
        service.stopService()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped_while_left_alone(self) -> None:
        standing, make = self.service()
        first = make(first=True)
        first.startService()
        cast("Any", standing._backend).ended.callback(None)
        self.failureResultOf(first.ended, Crashed)
        service = make()
        service.startService()
        service.stopService()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cannot_be_built(self) -> None:
        """That is a crash like any other: tried again by the supervisor, until the breaker has had enough."""
        standing, make = self.service(
            ValueError("one"), ValueError("two"), ValueError("three"), Backend(), most=1
        )
        self.assertRaises(ValueError, make().startService)
        self.assertIn("could not be built again", str(standing.refusing))
        service = make()
        service.startService()
        self.assertEqual(standing.refusing, "it keeps crashing")
        self.reactor.advance(5)
        self.assertEqual(standing.refusing, "it keeps crashing")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.reactor.advance(5)
        self.assertIsNone(standing.refusing)
        service.stopService()


class Losable(Listener):
    def __init__(self, name: str, journal: list[str], address: Any = None) -> None:
        super().__init__(name, journal, address)
        self.lost: Deferred[str] = Deferred()


class TreeTests(DaemonTestCase):
    """What follows from what."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = (Losable(name, self.journal) for name in ("one", "two"))
        self.remade: list[Losable] = []

    def daemon(self, *listeners: Any, **options: Any) -> Any:
        daemon = super().daemon(*listeners, **options)
        kept = {name: getattr(daemon.parts, name) for name in daemon.parts.__struct_fields__}
        frontends = [
            Frontend(one.listener, one.endpoint, one.open, lambda name=one.listener.name: self.remake(name))
            for one in daemon.parts.frontends
        ]
        daemon.parts = type(daemon.parts)(**{**kept, "frontends": frontends})
        return daemon

    def run_hooks(self) -> None:
        """The reactor runs from now on."""
        for hook, args, named in self.reactor.whenRunningHooks:
            hook(*args, **named)

    def remake(self, name: str) -> Losable:
        made = Losable(name, self.journal)
        self.remade.append(made)
        return made

    def names(self, status: Status | None) -> Any:
        assert status is not None
        return {
            child.name: self.names(child) if child.kind == "supervisor" else child.state
            for child in status.children
        }

    def test_shape(self) -> None:
        daemon = self.daemon(console=Listener("console", self.journal))
        self.assertIsNone(daemon.status())
        daemon.startService()
        self.assertEqual(
            self.names(daemon.status()),
            {
                "backends": {"provider:1": "up", "provider:2": "up"},
                "frontends": {"listen:one": "up", "listen:two": "up"},
                "telemetry": "up",
            },
        )
        report = daemon.admin_answers["status"]({})
        self.assertEqual((report["unready"], report["in_flight"]), (None, 1))
        self.successResultOf(daemon.stopService())

    def test_a_lost_listener_is_made_anew(self) -> None:
        daemon = self.started()
        self.journal.clear()
        self.one.lost.callback("its port was closed")
        self.assertEqual(self.journal, ["close one", "bind one"])
        self.assertIsNone(daemon.unready)
        self.remade[0].lost.callback("again")
        self.assertEqual(daemon.unready, "listen:one is being restarted")
        self.reactor.advance(1)
        self.assertIsNone(daemon.unready)
        self.assertEqual(len(self.remade), 2)
        self.successResultOf(daemon.stopService())

    def test_what_cannot_be_mended_ends_the_daemon(self) -> None:
        """The failure climbs: listener, frontends, root, process. Its status says so."""
        self.reactor.running = True
        daemon = self.started()
        self.remake = lambda _name: 1 / 0  # type: ignore[assignment, return-value]
        with capturedLogs() as logs:
            self.one.lost.callback("its port was closed")
            for _ in range(400):
                self.reactor.advance(1)
        self.assertEqual((self.statuses, self.reactor.stops), ([1], 1))
        said = [entry["why"] for entry in logs if entry.get("what") == "cannot go on"]
        self.assertEqual(len(said), 1)
        self.assertIn("frontends ended again", said[0])
        self.successResultOf(daemon.stopService())

    def test_frontends_stand_on_backends(self) -> None:
        daemon = self.started()
        self.journal.clear()
        assert daemon.tree is not None
        daemon.tree.restart("backends")
        self.assertEqual(self.journal, ["close two", "close one", "stop backend", "bind one", "bind two"])
        self.successResultOf(daemon.stopService())

    def test_the_console_is_made_anew_with_the_others(self) -> None:
        consoles: list[Any] = [Losable("console", self.journal)]
        daemon = self.daemon(console=consoles[0])
        console = daemon.parts.console
        assert console is not None
        consoles.append(Losable("console", self.journal))
        kept = {name: getattr(daemon.parts, name) for name in daemon.parts.__struct_fields__}
        remade = Frontend(console.listener, console.endpoint, console.open, lambda: consoles[1])
        daemon.parts = type(daemon.parts)(**{**kept, "console": remade})
        daemon.startService()
        consoles[0].lost.callback("its port was closed")
        self.assertIsNone(consoles[1].unready())
        self.successResultOf(daemon.stopService())
        self.assertEqual(consoles[1].unready(), "draining")

    def test_other_frontends(self) -> None:
        """What stands in place of the listeners is drained by its own means."""
        from twisted.application.service import Service

        journal = self.journal

        class Workers(Service):
            def startService(self) -> None:
                journal.append("start workers")

            def drain(self) -> Deferred[None]:
                journal.append("drain workers")
                return succeed(None)

            def stopService(self) -> None:
                journal.append("stop workers")

        daemon = self.daemon()
        daemon._frontends = ChildSpec("workers", Workers)
        daemon.startService()
        self.successResultOf(daemon.stopService())
        workers = [one for one in self.journal if "workers" in one]
        self.assertEqual(workers, ["start workers", "drain workers", "stop workers"])
        self.assertNotIn("bind one", self.journal)

    def test_reload(self) -> None:
        daemon = self.started()
        asked: list[int] = []
        daemon.reload = lambda: cast("Any", asked.append(1) or succeed(None))
        assert self.signal is not None
        self.signal("SIGHUP")
        self.assertEqual(asked, [1])
        daemon.reload = lambda: fail(ValueError("no"))
        self.signal("SIGHUP")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.successResultOf(daemon.stopService())
        daemon.reload = lambda: cast("Any", asked.append(2))
        self.signal("SIGHUP")
        self.assertEqual(asked, [1])

    def test_a_reload_that_is_asked_for_too_early(self) -> None:
        """It is done once there is something to reload."""
        asked: list[int] = []
        self.one.binding = Deferred()
        daemon = self.daemon()
        daemon.reload = lambda: cast("Any", asked.append(1) or succeed(None))
        daemon.startService()
        assert self.signal is not None
        self.signal("SIGHUP")
        self.assertEqual(asked, [])
        self.one.binding.callback(None)
        self.run_hooks()
        self.assertEqual(asked, [1])
        self.successResultOf(daemon.stopService())

    def test_parts_that_a_reload_has_brought(self) -> None:
        """What is made anew is what is there now, and what has stayed keeps what is known of it."""
        kept, gone, new = Backend("kept"), Backend("gone"), Backend("new")
        standings = [Standing(one) for one in (kept, gone)]
        daemon = self.daemon()
        daemon.parts = structs.replace(daemon.parts, backends=standings)
        daemon.startService()
        daemon.parts = structs.replace(daemon.parts, backends=[standings[0], Standing(new)])
        supervisor = daemon.tree.service("backends")
        daemon.tree.restart("backends")
        self.reactor.advance(1)
        self.assertIsNot(daemon.tree.service("backends"), supervisor)
        self.assertEqual((kept.stops, gone.stops, new.stops), (1, 1, 0))
        self.assertEqual([one.refusing for one in daemon.parts.backends], [None, None])
        self.successResultOf(daemon.stopService())

    def test_a_listener_that_a_reload_has_brought(self) -> None:
        daemon = self.started()
        service = daemon.tree.service("frontends").service("listen:one")
        brought, anew = Losable("one", self.journal), Losable("one", self.journal)
        service.swap(Frontend(brought, "tcp:2", False, lambda: anew), brought)
        brought.lost.callback("closed")
        self.reactor.advance(2)
        self.assertIs(daemon.tree.service("frontends").service("listen:one").listener, anew)
        self.successResultOf(daemon.stopService())

    def test_what_has_been_left(self) -> None:
        """It serves who still has it, and nobody stops it but who says so."""
        backend = Backend()
        standing = Standing(backend)
        service = BackendService(standing, Breaker(), self.reactor, first=True)
        self.assertIsNone(standing.start_ahead())
        service.startService()
        self.assertEqual(backend.starts, 1, "it has been started before")
        standing.leave()
        self.assertIsNone(service.stopService())
        self.assertEqual((backend.stops, standing.refusing), (0, None))
        backend.ended.errback(ValueError("late"))
        standing.stop()
        self.assertEqual(backend.stops, 1)

    def test_begun(self) -> None:
        """What does not begin is told at once; what says nothing is not waited for long."""
        slow, quick = Backend(), Backend()
        slow.first_word = lambda seconds: Deferred()  # type: ignore[attr-defined]
        beginning = Deferred.fromCoroutine(begun([Standing(slow), Standing(quick)], self.reactor))
        self.assertNoResult(beginning)
        self.reactor.advance(FIRST_WORDS)
        self.successResultOf(beginning)
        broken = Backend()
        broken.start = lambda: fail(ValueError("no"))  # type: ignore[method-assign]
        beginning = Deferred.fromCoroutine(begun([Standing(slow), Standing(broken)], self.reactor))
        self.failureResultOf(beginning, ValueError)

    def test_stopped_before_the_start(self) -> None:
        self.successResultOf(self.daemon().stopService())

    def test_a_part_that_does_not_go(self) -> None:
        """It is left behind after its time."""
        self.one.closing = Deferred()
        stopping = self.started().stopService()
        self.reactor.advance(CLOSING)
        self.successResultOf(stopping)

    def test_refusals_are_told(self) -> None:
        leaf = Status(name="provider:x", state="up", since=0.0, detail={"refusing": "it keeps crashing"})
        root = Status(
            name="r",
            state="up",
            since=0.0,
            children=(Status(name="b", state="up", since=0.0, children=(leaf,)),),
        )
        self.assertEqual(ailing(root), "provider:x: it keeps crashing")
        leaf = structs.replace(leaf, detail={"failing": "it has not been heard yet", "stale": "so"})
        root = structs.replace(
            root, children=(structs.replace(leaf, name="upstream:y", detail={"stale": "so"}), leaf)
        )
        self.assertEqual(ailing(root), "provider:x: it has not been heard yet", "only for what is ours")
