"""``isolation = "process"`` on a real daemon: what a tool does to its process costs that call, and nothing else."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from unittest import TestCase

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase as TrialCase

from erlmcp.admin import ask
from erlmcp.client import Answers, Client, ServerError, accept, http
from tests.daemon import ERLMCP, PATIENCE, Daemon, environment, free_port

MAIN = """
[server]
runtime = "{folder}/run"

[limits]
timeout = {timeout}

[[listen]]
transport = "http"
endpoint = "tcp:{port}:interface=127.0.0.1"

[[provider]]
use = "erlmcp.examples.demo:provider"

[[provider]]
use = "tests.peers.rough_provider:provider"
isolation = "process"
"""


@contextlib.contextmanager
def running(more: str = "", timeout: float = 2.0) -> Iterator[Daemon]:
    """A daemon with the rough provider in processes of its own, and the demo provider within."""
    with tempfile.TemporaryDirectory(prefix="erlmcp-isolation-") as folder:
        port = free_port()
        file = Path(folder) / "erlmcp.toml"
        file.write_text(MAIN.format(folder=folder, port=port, timeout=timeout) + more)
        with Daemon(["--config", str(file)], [port]) as daemon:
            daemon.runtime = Path(folder) / "run"  # type: ignore[attr-defined]
            yield daemon


def status(daemon: Daemon) -> dict[str, Any]:
    """What ``erlmcp status --json`` says of the rough provider."""
    done = subprocess.run(
        [*ERLMCP, "status", "--json", "--runtime", str(daemon.runtime)],  # type: ignore[attr-defined]
        capture_output=True,
        env=environment(),
        check=False,
        timeout=30,
    )
    report = json.loads(done.stdout)
    return found_in(report)


def found_in(report: dict[str, Any]) -> dict[str, Any]:
    """The rough provider in what the daemon says of itself."""

    def found(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "rough" in tree.get("name", ""):
            yield tree
        for child in tree.get("children", ()):
            yield from found(child)

    return next(found(report.get("tree", report)))


def there(pid: int) -> bool:
    """Whether there is such a process, be it one that nobody has reaped yet."""
    return Path(f"/proc/{pid}").exists()


def used(pid: int) -> float:
    """Seconds of a processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> set[int]:
    """The processes below one that run the provider."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"--isolated" in words and b"-I" not in words and pid in _above(int(entry.name)):
                    found.add(int(entry.name))
    return found


def _above(pid: int) -> list[int]:
    found: list[int] = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


class IsolationTests(TrialCase):
    """One daemon for most of it: each of these things must leave it as it was."""

    timeout = 240

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def start(self, more: str = "", timeout: float = 2.0) -> None:
        self.daemon = self.stack.enter_context(running(more, timeout))
        self.client = self.connect()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to be so."""
        ends = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > ends:
                self.fail(self.daemon.output())
            await deferLater(self.reactor, 0.05)

    async def ready(self) -> None:
        """The daemon listens before its providers are there."""
        ends = time.monotonic() + PATIENCE
        while not any(one.name == "pid" for one in await self.client.list_tools()):
            if time.monotonic() > ends:
                self.fail(self.daemon.output())
            await deferLater(self.reactor, 0.05)

    async def detail(self, **expected: int) -> None:
        """Wait until the daemon says so of the provider: its sessions, who waits for one."""
        ends = time.monotonic() + PATIENCE
        while not expected.items() <= (found := found_in(await deferToThread(self.ask))["detail"]).items():
            if time.monotonic() > ends:
                self.fail(f"{expected}: {found}")
            await deferLater(self.reactor, 0.02)

    def ask(self) -> dict[str, Any]:
        return cast("dict[str, Any]", ask(self.daemon.runtime, "status"))  # type: ignore[attr-defined]

    async def works(self, pid: int) -> None:
        """Wait until a process is at work, as one that loops is: of those that wait none uses so much."""
        before = used(pid)
        await self.until(lambda: used(pid) > before + 0.2)

    def connect(self, **options: Any) -> Client:
        client = Client(http(self.reactor, self.daemon.url), self.reactor, **options)
        self.addCleanup(client.close)
        return client

    async def refusal(self, calling: "Deferred[Any]") -> ServerError:
        """The error that a call must come to."""
        return cast("ServerError", await self.assertFailure(calling, ServerError))

    async def pid(self) -> int:
        return int((await self.client.call("pid")).text)

    async def gone(self, pid: int) -> None:
        """Wait until a process has gone, and been reaped."""
        await self.until(lambda: not there(pid))

    async def test_it_is_another_process(self) -> None:
        self.start()
        await self.ready()
        first = await self.pid()
        self.assertNotEqual(first, self.daemon.pid)
        self.assertIn(self.daemon.pid, _above(first))
        self.assertEqual(await self.pid(), first, "it stays")
        [tool] = [one for one in await self.client.list_tools() if one.name == "brief"]
        self.assertNotIn("io.erlmcp/own", str(tool), "what the two tell each other is no affair of clients")
        self.daemon.stop()
        await self.gone(first)

    async def test_segfault(self) -> None:
        """It costs its call; others, in its provider and elsewhere, and the daemon go on."""
        self.start(timeout=20)
        await self.ready()
        waiting = self.client.call("wait", {"seconds": 2.0})
        await deferLater(self.reactor, 0.2)
        error = await self.refusal(self.client.call("segfault"))
        self.assertEqual(error.code, -31004)
        self.assertIn("SIGSEGV", error.message)
        self.assertNotEqual(int((await waiting).text), 0, "a call beside it is not touched")
        self.assertGreater(await self.pid(), 0)
        self.assertGreater(await self.pid(), 0)
        self.assertEqual((await self.client.call("echo", {"message": "x"})).text, "x")
        seen = status(self.daemon)
        self.assertEqual(
            (seen["state"], seen["restarts"]), ("up", 0), "the provider itself was never restarted"
        )
        self.assertEqual(seen["detail"]["losses"], 1)
        self.assertIn("SIGSEGV", seen["detail"]["last loss"])

    async def test_endless_loops(self) -> None:
        """The deadline ends the call, and the process; meanwhile others are served."""
        self.start("pool = { size = 4 }\n", timeout=3)
        await self.ready()
        await self.until(lambda: len(children_of(self.daemon.pid)) == 4)
        await gatherResults([self.client.call("wait", {"seconds": 0.2}) for _ in range(4)])
        for tool in ("spin", "spin_in_a_thread"):
            before = children_of(self.daemon.pid)
            spinning = self.client.call(tool)
            await deferLater(self.reactor, 0.3)
            self.assertGreater(await self.pid(), 0)
            self.assertEqual((await self.refusal(spinning)).code, -31001, tool)
            self.assertGreater(await self.pid(), 0)
            await self.until(lambda before=before: not before <= children_of(self.daemon.pid))
            left = before & children_of(self.daemon.pid)
            self.assertEqual(len(left), len(before) - 1, "the one that looped has gone")
        self.assertIn("not done in time", status(self.daemon)["detail"]["last loss"])

    async def test_given_up(self) -> None:
        """Who goes away leaves no loop behind; a call that can be interrupted costs no process."""
        self.start(timeout=60)
        await self.ready()
        first = await self.pid()
        calling = self.client.call("wait", {"seconds": 50})
        await deferLater(self.reactor, 0.3)
        calling.cancel()
        calling.addErrback(lambda _: None)
        # Meanwhile another process may have been begun; the first comes first again once it is known to be calm.
        ends = time.monotonic() + PATIENCE
        while (now := await self.pid()) != first:
            self.assertTrue(there(first), "it is kept")
            self.assertLess(time.monotonic(), ends, now)
        for tool in ("spin", "spin_in_a_thread"):
            before = await self.pid()
            calling = self.client.call(tool)
            await self.works(before)
            calling.cancel()
            calling.addErrback(lambda _: None)
            await self.gone(before)

    async def test_limits_of_time_of_its_own(self) -> None:
        """A tool's own timeout holds, though another process keeps it; a longer one than the default does, too."""
        # The client itself would wait for a minute, and the daemon for ten.
        self.start(timeout=600)
        await self.ready()
        self.assertEqual((await self.refusal(self.client.call("brief"))).code, -31001)

    async def test_questions_come_back_to_their_process(self) -> None:
        self.start("pool = { size = 2, overflow = 2, recycle = 1 }\n", timeout=30)
        await self.ready()
        for era in ("modern", "2025-11-25"):
            names = iter(("anne", "bert", "carl"))
            client = self.connect(
                era=era, answers=Answers(elicit=lambda _, names=names: accept({"name": next(names)}))
            )
            answers = await gatherResults([client.call("ask") for _ in range(3)])
            said = [one.text.split() for one in answers]
            self.assertEqual(sorted(one[0] for one in said), ["anne", "bert", "carl"], era)
            for _, before, after, _ in said:
                self.assertEqual(before, after)

    async def test_a_process_that_holds_a_call_dies(self) -> None:
        """Nothing is run twice: its client hears that the outcome is unknown."""
        self.start(timeout=30)
        await self.ready()
        answering: Deferred[Any] = Deferred()
        asked: list[Any] = []

        def elicit(question: Any) -> Any:
            asked.append(question)
            return answering

        client = self.connect(era="modern", answers=Answers(elicit=elicit))
        calling = client.call("ask")
        await self.until(lambda: asked)
        [holding] = children_of(self.daemon.pid)
        os.kill(holding, signal.SIGKILL)
        await self.gone(holding)
        answering.callback(accept({"name": "late"}))
        self.assertEqual((await self.refusal(calling)).code, -31004)
        self.assertGreater(await self.pid(), 0)

    async def test_memory(self) -> None:
        self.start('sandbox = { kind = "rlimits", memory = "400 MiB" }\n', timeout=30)
        await self.ready()
        self.assertGreater(int((await self.client.call("hoard", {"megabytes": 10})).text), 0)
        result = await self.client.call("hoard", {"megabytes": 2000})
        self.assertTrue(result.is_error)
        self.assertEqual((await self.client.call("echo", {"message": "x"})).text, "x")

    async def test_recycled(self) -> None:
        self.start("pool = { recycle = 3 }\n", timeout=30)
        await self.ready()
        pids = [await self.pid() for _ in range(9)]
        self.assertEqual(len(set(pids)), 3)
        self.assertEqual(pids, sorted(pids, key=pids.index))
        self.assertEqual(status(self.daemon)["detail"]["losses"], 0, "that was no loss")

    async def test_a_full_pool_and_its_shrinking(self) -> None:
        """As many calls at once as there may be processes; the rest wait in order, until their deadline."""
        self.start("pool = { size = 1, overflow = 2, idle = 1, queue = 3 }\n", timeout=30)
        await self.ready()
        calls = [self.client.call("wait", {"seconds": 3.0}) for _ in range(3)]
        await self.detail(sessions=3, waiting=0)
        waiting = [self.client.call("wait", {"seconds": 0.1}) for _ in range(3)]
        await self.detail(sessions=3, waiting=3)
        refused = await self.refusal(self.client.call("pid"))
        self.assertEqual(refused.code, -31002)
        self.assertIn("all 3 sessions are in use", refused.message)
        pids = {one.text for one in await gatherResults(calls)}
        self.assertEqual(len(pids), 3)
        await gatherResults(waiting)
        # Idle ones end.
        await self.until(lambda: len(children_of(self.daemon.pid)) == 1)
        held = [self.client.call("wait", {"seconds": 25}) for _ in range(3)]
        await self.detail(sessions=3, waiting=0)
        # Its own deadline, of a second and a half, comes before theirs.
        late = self.client.call("brief")
        await self.detail(sessions=3, waiting=1)
        self.assertEqual((await self.refusal(late)).code, -31001)
        for one in held:
            one.cancel()
            await self.assertFailure(one, CancelledError)

    async def test_killed_from_outside(self) -> None:
        self.start(timeout=30)
        await self.ready()
        first = await self.pid()
        os.kill(first, signal.SIGKILL)
        await self.gone(first)
        self.assertNotEqual(await self.pid(), first)

    async def test_sandbox(self) -> None:
        try:
            self.start('sandbox = { kind = "bwrap", writable = [] }\n', timeout=30)
        except RuntimeError as error:
            self.assertIn("bwrap", str(error))
            raise self.skipTest("bubblewrap cannot be used here") from None
        await self.ready()
        result = await self.client.call("write", {"path": "/etc/erlmcp-was-here"})
        self.assertTrue(result.is_error)


class ProblemTests(TestCase):
    """What cannot be is said when the configuration is checked."""

    def check(self, more: str) -> str:
        with tempfile.TemporaryDirectory(prefix="erlmcp-isolation-") as folder:
            file = Path(folder) / "erlmcp.toml"
            file.write_text(MAIN.format(folder=folder, port=free_port(), timeout=2) + more)
            done = subprocess.run(
                [*ERLMCP, "check", str(file)],
                capture_output=True,
                text=True,
                env=environment({"PATH": "/nowhere"}),
                check=False,
                timeout=30,
            )
            self.assertEqual(done.returncode, 1)
            return done.stdout + done.stderr

    def test_no_such_sandbox(self) -> None:
        said = self.check('sandbox = "bwrap"\n')
        self.assertIn("provider[2]", said)
        self.assertIn("bwrap", said)

    def test_no_such_provider(self) -> None:
        said = self.check('\n[[provider]]\nuse = "not_there_at_all:provider"\nisolation = "process"\n')
        self.assertIn("provider[3].use: no module named 'not_there_at_all'", said)

    def test_limits_without_a_sandbox(self) -> None:
        self.assertIn("sandbox", self.check('sandbox = { kind = "none", memory = "1 GiB" }\n'))
