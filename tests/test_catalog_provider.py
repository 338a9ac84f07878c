"""Providers that change while they run, and where their functions run."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import erlmcp
from erlmcp import Context, Provider
from erlmcp.catalog import require_asyncio_reactor
from erlmcp.interfaces import Change, IBackend
from erlmcp.protocol import McpError
from tests.catalog_calls import Conversation, call, call_request, finish, request, text
from tests.daemon import environment


async def one() -> str:
    """The first."""
    return "one"


async def two() -> str:
    return "two"


async def param(a: str) -> str:
    return a


@implementer(IReactorFromThreads)
class ThreadReactor:
    """Runs what threads hand over when it is told to."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.calls: list[Any] = []

    def callFromThread(self, act: Any, *rest: Any) -> None:  # noqa: N802 - Twisted's name
        self.calls.append((act, rest))
        self.came.release()

    def run_next(self) -> None:
        assert self.came.acquire(timeout=30), "no thread came back"
        act, rest = self.calls.pop(0)
        act(*rest)


class ChangeTests(SynchronousTestCase):
    """Definitions are snapshots, and watchers hear of each change after it is made."""

    def setUp(self) -> None:
        self.provider = Provider("p", instructions="Do well.", ttl=2.5)
        self.heard: list[Change] = []
        self.seen: list[int] = []

        def watcher(change: Change) -> None:
            self.heard.append(change)
            self.seen.append(len(self.provider.definitions().tools))

        self.end = self.provider.watch(watcher)

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IBackend, self.provider))

    def test_replaced_before_dispatch(self) -> None:
        """What takes a name after its target was found is not run with arguments that were validated for another."""
        for method, add, remove in (
            ("tools/call", self.provider.add_tool, self.provider.remove_tool),
            ("prompts/get", self.provider.add_prompt, self.provider.remove_prompt),
        ):
            add(param)
            made = request(method, "param", arguments={"a": "x"})
            definitions = self.provider.definitions()
            made.target = {**definitions.tools, **definitions.prompts}["param"]
            remove("param")
            add(two, name="param")
            error = self.assertRaises(McpError, self.provider.dispatch, made)
            self.assertEqual(error.code, -32602)
            remove("param")
        self.provider.add_resource("a:b", one)
        made = request("resources/read", "a:b", target=self.provider.definitions().resources["a:b"])
        self.provider.remove_resource("a:b")
        self.provider.add_resource("a:b", two)
        self.assertIn("not found", str(self.assertRaises(McpError, self.provider.dispatch, made)))

    def test_same_snapshot_until_a_change(self) -> None:
        self.provider.add_tool(one)
        before = self.provider.definitions()
        self.assertIs(self.provider.definitions(), before)
        self.provider.add_tool(two)
        self.assertIsNot(self.provider.definitions(), before)
        self.assertEqual(list(before.tools), ["one"])
        self.assertEqual((before.ttl_ms, before.instructions), (2500, "Do well."))

    def test_each_kind(self) -> None:
        for act, kind in (
            (lambda: self.provider.add_tool(one), "tools"),
            (lambda: self.provider.add_prompt(param), "prompts"),
            (lambda: self.provider.add_resource("a:b", one), "resources"),
            (lambda: self.provider.add_resource("a:{a}", param), "resources"),
            (lambda: self.provider.remove_tool("one"), "tools"),
            (lambda: self.provider.remove_prompt("param"), "prompts"),
            (lambda: self.provider.remove_resource("a:b"), "resources"),
            (lambda: self.provider.remove_resource("a:{a}"), "resources"),
        ):
            self.heard.clear()
            act()
            self.assertEqual(self.heard, [Change(kind)])
        definitions = self.provider.definitions()
        self.assertFalse(
            definitions.tools or definitions.prompts or definitions.resources or definitions.templates
        )

    def test_after_the_change(self) -> None:
        self.provider.add_tool(one)
        self.provider.remove_tool("one")
        self.assertEqual(self.seen, [1, 0])

    def test_updated(self) -> None:
        self.provider.notify_updated("a:b")
        self.assertEqual(self.heard, [Change("updated", "a:b")])

    def test_batch(self) -> None:
        """Once for each kind, at the end, also when the batch fails half way, also when nested."""
        with self.assertRaises(KeyError), self.provider.changes():
            self.provider.add_tool(one)
            with self.provider.changes():
                self.provider.add_tool(two)
                self.provider.add_prompt(param)
            self.assertEqual(self.heard, [])
            self.provider.remove_tool("none")
        self.assertEqual(self.heard, [Change("tools"), Change("prompts")])

    def test_end_of_watch(self) -> None:
        self.end()
        self.end()
        self.provider.add_tool(one)
        self.assertEqual(self.heard, [])

    def test_a_watcher_that_fails(self) -> None:
        """The change is made, and the others hear of it."""

        def fail(change: Change) -> None:
            raise KeyError(change.kind)

        self.provider.watch(fail)
        later: list[Change] = []
        self.provider.watch(later.append)
        self.provider.add_tool(one)
        self.assertEqual(later, [Change("tools")])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_names_are_taken_once(self) -> None:
        self.provider.add_tool(one)
        error = self.assertRaises(ValueError, self.provider.add_tool, two, name="one")
        self.assertIn("provider 'p' has a tool 'one' already", str(error))
        self.assertRaises(KeyError, self.provider.remove_tool, "none")
        self.assertRaises(KeyError, self.provider.remove_resource, "none:")

    def test_completions_go_with_their_prompt(self) -> None:
        self.provider.add_prompt(param)
        self.provider.add_completion("param", "a", param)
        self.provider.remove_prompt("param")
        self.assertFalse(self.provider.definitions().completions)
        self.provider.add_resource("a:{a}", param)
        self.provider.add_completion("a:{a}", "a", param)
        self.provider.remove_resource("a:{a}")
        self.assertFalse(self.provider.definitions().completions)

    def test_logging_is_declared_by_contexts(self) -> None:
        self.assertFalse(self.provider.definitions().logging)

        async def logs(ctx: Context) -> str:
            return ctx.peer.transport

        for add in (
            lambda: self.provider.add_prompt(logs),
            lambda: self.provider.add_tool(logs),
            lambda: self.provider.add_resource("a:b", logs),
        ):
            add()
            self.assertTrue(self.provider.definitions().logging)

    def test_gone_between_gate_and_dispatch(self) -> None:
        """What is removed while a request is on its way is unknown, not a crash."""
        self.provider.add_tool(one)
        self.provider.add_prompt(param)
        self.provider.add_resource("a:b", one)
        self.provider.add_resource("a:{a}", param)
        definitions = self.provider.definitions()
        targets = {
            "tools/call": definitions.tools["one"],
            "prompts/get": definitions.prompts["param"],
            "resources/read": definitions.resources["a:b"],
            "resources/read ": definitions.templates["a:{a}"],
        }
        self.provider.remove_tool("one")
        self.provider.remove_prompt("param")
        self.provider.remove_resource("a:b")
        self.provider.remove_resource("a:{a}")
        for method, target in targets.items():
            made = request(method.strip(), "x")
            made.target = target
            self.assertEqual(self.assertRaises(McpError, self.provider.dispatch, made).code, -32602)
        self.assertEqual(
            self.assertRaises(McpError, self.provider.dispatch, request("tools/list")).code, -32601
        )

    def test_refused_settings(self) -> None:
        for settings, words in (
            ({"name": ""}, "needs a name"),
            ({"name": "p", "ttl": -1}, "ttl=-1"),
            ({"name": "p", "threads": 0}, "threads=0"),
            ({"name": "p", "queue": -1}, "queue=-1"),
            ({"name": "p", "icons": [3]}, ""),
        ):
            error = self.assertRaises((ValueError, TypeError), Provider, **settings)
            self.assertIn(words, str(error))


class DecoratorTests(SynchronousTestCase):
    """The spellings that authors use."""

    def test_with_and_without_parentheses(self) -> None:
        provider = Provider("p")
        self.assertIs(provider.tool(one), one)
        self.assertIs(provider.tool()(two), two)
        self.assertIs(provider.tool("third")(one), one)
        self.assertIs(provider.tool(name="fourth", title="T")(one), one)
        self.assertIs(provider.prompt(one), one)
        self.assertIs(provider.prompt("other")(one), one)
        self.assertIs(provider.prompt(name="another")(one), one)
        self.assertIs(provider.resource("a:{a}")(param), param)
        self.assertIs(provider.completion("a:{a}", "a")(param), param)
        definitions = provider.definitions()
        self.assertEqual(list(definitions.tools), ["fourth", "one", "third", "two"])
        self.assertEqual(list(definitions.prompts), ["another", "one", "other"])

    def test_lazy_names(self) -> None:
        """``from erlmcp import …`` offers what authors need."""
        for name in erlmcp.__all__:
            self.assertTrue(hasattr(erlmcp, name), name)
        self.assertIn("Provider", dir(erlmcp))
        self.assertRaises(AttributeError, getattr, erlmcp, "nothing")


class ThreadTests(SynchronousTestCase):
    """Plain functions run in threads, and their results come back by the reactor."""

    def setUp(self) -> None:
        self.reactor = ThreadReactor()
        self.provider = Provider("p", threads=1, queue=1)
        self.provider.bind(self.reactor)
        self.addCleanup(self.provider.stop)

    def start(self, name: str, **more: Any) -> Deferred[Any]:
        made = call_request(name, **more)
        made.target = self.provider.definitions().tools[name]
        made.arguments = {}
        deferred: Deferred[Any] = finish(self.provider.dispatch(made))
        return deferred

    def test_result(self) -> None:
        here = threading.get_ident()

        @self.provider.tool
        def plain() -> str:
            assert threading.get_ident() != here
            return "from a thread"

        deferred = self.start("plain")
        self.assertNoResult(deferred)
        self.reactor.run_next()
        self.assertEqual(text(self.successResultOf(deferred).fields), "from a thread")

    def test_failure(self) -> None:
        @self.provider.tool
        def bad() -> str:
            raise KeyError("secret")

        deferred = self.start("bad")
        self.reactor.run_next()
        self.assertTrue(self.successResultOf(deferred).fields["isError"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_context(self) -> None:
        """What it reports is done on the reactor's thread, in order."""
        conversation = Conversation()

        @self.provider.tool
        def plain(ctx: Context) -> str:
            ctx.report_progress(1, 2)
            ctx.info("half")
            return "done"

        deferred = self.start("plain", conversation=conversation, progress_token=1, log_level="info")
        for _ in range(3):
            self.reactor.run_next()
        self.assertEqual(text(self.successResultOf(deferred).fields), "done")
        self.assertEqual(conversation.said, [("progress", 1, 2, None), ("log", "info", "half", None)])

    def test_reports_wait(self) -> None:
        """A function that reports faster than the reactor goes on fills no queue, and hears what was wrong."""

        class Failing(Conversation):
            def log(self, level: str, data: Any, logger: str | None) -> None:
                raise TypeError("no JSON")

        @self.provider.tool
        def busy(ctx: Context) -> str:
            for done in range(100):
                ctx.report_progress(done)
            try:
                ctx.info(object())
            except TypeError as error:
                return str(error)
            return "sent"

        deferred = self.start("busy", conversation=Failing(), progress_token=1, log_level="info")
        for _ in range(102):
            self.assertLessEqual(len(self.reactor.calls), 1)
            self.reactor.run_next()
        self.assertEqual(text(self.successResultOf(deferred).fields), "no JSON")

    def test_unwanted_reports(self) -> None:
        """What the client did not ask for costs the function no wait."""
        conversation = Conversation()

        @self.provider.tool
        def busy(ctx: Context) -> str:
            ctx.report_progress(1)
            ctx.info("x")
            return "done"

        deferred = self.start("busy", conversation=conversation)
        self.reactor.run_next()
        self.assertEqual(text(self.successResultOf(deferred).fields), "done")
        self.assertEqual(conversation.said, [])

    def test_changes_from_a_thread(self) -> None:
        """They are made on the reactor's thread, and the function goes on when they are."""
        here = threading.get_ident()
        heard: list[tuple[str, bool]] = []
        self.addCleanup(
            self.provider.watch(lambda change: heard.append((change.kind, threading.get_ident() == here)))
        )

        @self.provider.tool
        def change() -> str:
            with self.provider.changes():
                self.provider.add_tool(one)
                self.provider.add_prompt(param)
            self.provider.notify_updated("a:b")
            try:
                self.provider.add_tool(two, name="one")
            except ValueError as error:
                return str(error)
            return "no error"

        heard.clear()
        deferred = self.start("change")
        for _ in range(6):
            self.reactor.run_next()
        self.assertIn("has a tool 'one' already", text(self.successResultOf(deferred).fields))
        self.assertEqual(heard, [("tools", True), ("prompts", True), ("updated", True)])

    def test_overload(self) -> None:
        """One runs, one waits, the next is refused with an error that says so."""
        running, go = threading.Event(), threading.Event()

        @self.provider.tool
        def slow() -> str:
            running.set()
            go.wait(30)
            return "slow"

        first = self.start("slow")
        self.assertTrue(running.wait(30))
        second = self.start("slow")
        third = self.start("slow")
        error = self.failureResultOf(third, McpError).value
        self.assertEqual(error.code, -31002)
        go.set()
        self.reactor.run_next()
        self.reactor.run_next()
        self.assertEqual(text(self.successResultOf(first).fields), "slow")
        self.assertEqual(text(self.successResultOf(second).fields), "slow")

    def test_something_to_await(self) -> None:
        """A plain function cannot hand over work: that would be lost."""

        @self.provider.tool
        def deferred() -> Any:
            return Deferred()

        @self.provider.tool
        def coroutine() -> Any:
            return one()

        for name in ("deferred", "coroutine"):
            waiting = self.start(name)
            self.reactor.run_next()
            self.assertTrue(self.successResultOf(waiting).fields["isError"])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 2)

    def test_stop_cancels_what_waits(self) -> None:
        running, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        @self.provider.tool
        def slow() -> str:
            running.set()
            go.wait(30)
            return "slow"

        self.start("slow")
        self.assertTrue(running.wait(30))
        second = self.start("slow")
        self.provider.stop()
        self.failureResultOf(second, CancelledError)
        self.provider.stop()


class RealReactorTests(TestCase):
    """Without `bind`, the reactor that runs is found when it is first needed."""

    async def test_found(self) -> None:
        provider = Provider("p")
        self.addCleanup(provider.stop)

        @provider.tool
        def plain(ctx: Context) -> str:
            ctx.report_progress(1)
            return "ok"

        made = call_request("plain", conversation=Conversation())
        made.target = provider.definitions().tools["plain"]
        made.arguments = {}
        outcome: Any = await provider.dispatch(made)  # type: ignore[misc]
        self.assertEqual(text(outcome.fields), "ok")


_SCRIPT = """
import asyncio, sys
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor, defer, task
from erlmcp import Context, Provider
from erlmcp.protocol import McpError
from tests.daemon import environment
from tests.catalog_calls import Conversation, call_request, text

provider = Provider("p", asyncio=True)
provider.bind(reactor)
seen = []

@provider.tool
async def waits(ctx: Context) -> str:
    async with asyncio.timeout(20):
        await asyncio.sleep(0)
    answer = await ctx.elicit("Sure?", bool)
    return f"{asyncio.current_task() is not None} {answer.data}"

@provider.tool
async def fails() -> str:
    raise KeyError("secret")

@provider.tool
async def hangs() -> str:
    seen.append("began")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise

@provider.tool
async def gives_up() -> str:
    raise asyncio.CancelledError

class Slow(Conversation):
    async def ask(self, questions):
        await task.deferLater(reactor, 0)
        return await super().ask(questions)

def start(name):
    answer = {"ask-1": {"action": "accept", "content": {"value": True}}}
    made = call_request(name, conversation=Slow(answer))
    made.target = provider.definitions().tools[name]
    made.arguments = {}
    return provider.dispatch(made)

async def main():
    print(text((await start("waits")).fields))
    print((await start("fails")).fields["isError"])
    hanging = defer.ensureDeferred(start("hangs"))
    while not seen:
        await task.deferLater(reactor, 0)
    hanging.cancel()
    try:
        await hanging
    except defer.CancelledError:
        print("hangs", "CancelledError")
    while len(seen) < 2:
        await task.deferLater(reactor, 0)
    print(*seen)
    try:
        await start("gives_up")
    except defer.CancelledError:
        print("gives_up", "CancelledError")

task.react(lambda _: task.deferLater(reactor, 0, lambda: defer.ensureDeferred(main())))
"""


class AsyncioTests(SynchronousTestCase):
    """``Provider(asyncio=True)`` on asyncio's reactor, in a process of its own; and elsewhere, where it is refused."""

    def test_tasks(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(
            done.stdout.splitlines(),
            ["True True", "True", "hangs CancelledError", "began cancelled", "gives_up CancelledError"],
            done.stderr,
        )

    def test_refused_elsewhere(self) -> None:
        provider = Provider("p", asyncio=True)
        self.assertTrue(provider.needs_asyncio)
        for refuse in (provider.bind, require_asyncio_reactor):
            error = self.assertRaises(RuntimeError, refuse, MemoryReactorClock())
            self.assertIn("asyncio reactor", str(error))
            self.assertIn("MemoryReactorClock", str(error))
        Provider("q").bind(MemoryReactorClock())
        right = object.__new__(AsyncioSelectorReactor)
        self.assertIsNone(require_asyncio_reactor(right))

    def test_refused_in_dispatch(self) -> None:
        """Where nobody has bound it, the first call says what is wrong, in the log."""
        provider = Provider("p", asyncio=True)
        provider.add_tool(one)
        self.assertTrue(call(provider, "one")["isError"])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("asyncio reactor", failure.getErrorMessage())

    def test_on_its_loop(self) -> None:
        """A task runs on whatever loop runs: the loop of this test stands for the reactor's."""
        provider = Provider("p", asyncio=True)

        @provider.tool
        async def where() -> str:
            task = asyncio.current_task()
            return str(task is not None)

        async def main() -> Any:
            made = call_request("where")
            made.target = provider.definitions().tools["where"]
            made.arguments = {}
            waiting: Deferred[Any] = finish(provider.dispatch(made))
            return await waiting.asFuture(asyncio.get_running_loop())

        self.assertEqual(text(asyncio.run(main()).fields), "True")

    def test_asks_across(self) -> None:
        provider = Provider("p", asyncio=True)

        @provider.tool
        async def asks(ctx: Context) -> str:
            return str((await ctx.elicit("Sure?", bool)).data)

        async def main() -> Any:
            answer = {"ask-1": {"action": "accept", "content": {"value": True}}}
            made = call_request("asks", conversation=Conversation(answer))
            made.target = provider.definitions().tools["asks"]
            made.arguments = {}
            waiting: Deferred[Any] = finish(provider.dispatch(made))
            return await waiting.asFuture(asyncio.get_running_loop())

        self.assertEqual(text(asyncio.run(main()).fields), "True")

    def test_given_up(self) -> None:
        """Cancelling the call cancels the task."""
        provider = Provider("p", asyncio=True)
        seen: list[str] = []

        @provider.tool
        async def hangs() -> None:
            seen.append("began")
            try:
                await asyncio.sleep(3600)
            finally:
                seen.append("ended")

        async def main() -> None:
            for give_up in ("cancel", "close"):
                made = call_request("hangs")
                made.target = provider.definitions().tools["hangs"]
                made.arguments = {}
                coroutine: Any = provider.dispatch(made)
                if give_up == "close":
                    coroutine.send(None)
                    await asyncio.sleep(0)
                    coroutine.close()
                else:
                    waiting: Deferred[Any] = finish(coroutine)
                    await asyncio.sleep(0)
                    waiting.cancel()
                    waiting.addErrback(lambda failure: seen.append(failure.type.__name__))
                rest = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[operator]
                await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run(main())
        self.assertEqual(sorted(seen), ["CancelledError", "began", "began", "ended", "ended"])
