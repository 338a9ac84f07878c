"""SIGHUP to a real gateway: upstreams come, go, change, and stay, and no call is lost meanwhile."""

import json
import re
import signal
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest import TestCase

from tests.daemon import ERLMCP, PATIENCE, Daemon, environment, free_port
from tests.test_workers_daemon import alive, until
from tests.wires import Wire, events, meta, text_of

PROVIDER = "tests.peers.worker_provider:provider"
ANSWERS = {"sure": {"action": "accept", "content": {"sure": True}}}
FIXED = "2025-11-25"


def child(name: str, *, mark: Path | None = None, **more: Any) -> str:
    """An upstream that is a child process.

    Args:
        name: its name.
        mark: a file whose text it gets as a variable.
        more: further keys.
    """
    command = json.dumps([*ERLMCP, "stdio", "--provider", PROVIDER])
    env = f'PYTHONPATH = "{environment()["PYTHONPATH"]}"'
    if mark is not None:
        env += f', MARK = {{ file = "{mark}" }}'
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    table = f'[[upstream]]\nname = "{name}"\ntransport = "stdio"\nstart = "eager"\ncommand = {command}\n'
    return f"{table}env = {{ {env} }}\n{keys}"


class UpstreamsTestCase(TestCase):
    """A gateway whose configuration can be written anew, and the far server that some of its upstreams are."""

    workers = 0

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.mcp, self.console, self.far, self.far_console = (free_port() for _ in range(4))
        self.file = self.folder / "erlmcp.toml"
        self.runtime = self.folder / "run"
        self.mark = self.folder / "mark"
        self.mark.write_text("one")

    def begin(self, *upstreams: str, rest: str = "") -> None:
        """Start the gateway."""
        self.write(*upstreams, rest=rest)
        self.daemon = self.enterContext(Daemon(["--config", str(self.file)], [self.mcp, self.console]))
        until(lambda: self.ready() == "ready\n")

    def write(self, *upstreams: str, rest: str = "") -> None:
        self.file.write_text(
            f'[server]\nworkers = {self.workers}\ndrain = 5\nruntime = "{self.runtime}"\n'
            f'[[listen]]\nname = "mcp"\ntransport = "http"\nendpoint = "tcp:{self.mcp}:interface=127.0.0.1"\n'
            f'[listen.views]\n"/team/mcp" = "team"\n'
            f'[[server_view]]\nname = "team"\n'
            f'[telemetry]\nendpoint = "tcp:{self.console}:interface=127.0.0.1"\n{"".join(upstreams)}{rest}'
        )

    def begin_far(self) -> str:
        """Start the far server; gives it as an upstream that knows sessions alone."""
        file = self.folder / "far.toml"
        file.write_text(
            f'[[provider]]\nuse = "{PROVIDER}"\n'
            f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{self.far}:interface=127.0.0.1"\n'
            f'[telemetry]\nendpoint = "tcp:{self.far_console}:interface=127.0.0.1"\n'
        )
        self.far_daemon = self.enterContext(Daemon(["--config", str(file)], [self.far, self.far_console]))
        url = f"http://127.0.0.1:{self.far}/mcp"
        return f'[[upstream]]\nname = "far"\ntransport = "http"\nurl = "{url}"\nera = "{FIXED}"\n'

    def page(self, port: int, name: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=PATIENCE) as response:
            text: str = response.read().decode()
            return text

    def ready(self) -> str:
        try:
            return self.page(self.console, "readyz")
        except OSError:
            return ""

    def sessions(self) -> float:
        """How many sessions were begun with the far server: ``initialize`` is counted with what has no name."""
        text = self.metrics(self.far_console)
        found = re.findall(r'erlmcp_requests_total\{era="handshake",method="other"[^}]*\} ([0-9.]+)', text)
        return sum(map(float, found))

    def metrics(self, port: int = 0) -> str:
        return self.page(port or self.console, "metrics")

    def in_flight(self) -> float:
        """How many calls are under way."""
        found = re.findall(
            r"^erlmcp_requests_in_flight(?:\{[^}]*\})? ([0-9.]+)", self.metrics(), re.MULTILINE
        )
        return sum(map(float, found))

    def reload(self) -> str:
        """Have it reload; the line that says what came of it."""
        before = len(_said(self.daemon.output()))
        self.daemon.signal(signal.SIGHUP)
        said: str = until(lambda: len(now := _said(self.daemon.output())) > before and now[-1])
        return said

    def call(self, tool: str, **arguments: Any) -> Any:
        with Wire(self.mcp) as wire:
            return wire.modern(tool, arguments)

    def pid(self, upstream: str) -> int:
        return int(text_of(self.call(f"{upstream}.pid")))

    def tools(self, path: str = "/mcp") -> set[str]:
        """The upstreams that tools are listed of."""
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta()}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.mcp}{path}",
            json.dumps(message).encode(),
            {
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2026-07-28",
                "Mcp-Method": "tools/list",
            },
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            found = json.load(response)["result"]["tools"]
        return {one["name"].partition(".")[0] for one in found}


def _said(output: str) -> list[str]:
    return re.findall(r"\b(?:not )?reloaded\b[^\n]*", output)


class InPlaceTests(UpstreamsTestCase):
    """Without workers: what has not changed is not touched."""

    def test_added_removed_changed_and_kept(self) -> None:
        far = self.begin_far()
        self.begin(child("kept"), child("moved"), child("gone"), far)
        until(lambda: self.tools() == {"kept", "moved", "gone", "far"})
        kept, moved, gone = self.pid("kept"), self.pid("moved"), self.pid("gone")
        self.assertEqual(self.pid("far"), self.far_daemon.pid)
        sessions = self.sessions()
        self.assertGreaterEqual(sessions, 1)
        with Wire(self.mcp) as wire:
            # Under way with what is to be replaced, and with what is to go.
            asked = wire.modern("moved.confirm")
            napping = [_later(self.mcp, f"{name}.nap", seconds=2.0) for name in ("moved", "gone")]
            until(lambda: self.in_flight() == 2)
            self.write(child("kept"), child("moved", timeout=50), child("new"), far)
            self.assertEqual(self.reload(), "reloaded")
            self.assertEqual(self.tools(), {"kept", "moved", "new", "far"}, "at once, in everything")
            self.assertEqual(self.tools("/team/mcp"), {"kept", "moved", "new", "far"}, "and in a view")
            self.assertEqual(self.pid("kept"), kept)
            now = self.pid("moved")
            self.assertNotEqual(now, moved)
            answers = {"requestState": asked["requestState"], "inputResponses": ANSWERS}
            with Wire(self.mcp) as other:
                self.assertEqual(text_of(other.modern("moved.confirm", **answers)), f"accept {moved}")
            self.assertEqual([int(text_of(one())) for one in napping], [moved, gone])
        self.assertEqual(self.call("gone.pid")["code"], -32602)
        self.assertEqual(self.sessions(), sessions, "nobody connects anew to what has not changed")
        until(lambda: not alive(moved) and not alive(gone))
        self.assertTrue(alive(kept))
        metrics = self.metrics()
        self.assertNotIn('upstream="gone"', metrics)
        for name in ("kept", "moved", "new", "far"):
            self.assertIn(f'erlmcp_upstream_sessions{{upstream="{name}"}}', metrics)
        # And it is supervised as if it had been there from the start.
        self.write(child("kept"), child("moved", timeout=50), child("new"), far)
        self.assertEqual(self.reload(), "reloaded")
        self.assertEqual((self.pid("kept"), self.pid("moved"), self.sessions()), (kept, now, sessions))
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())
        until(lambda: not alive(kept) and not alive(now))

    def test_a_wrong_one_changes_nothing(self) -> None:
        good = (child("kept"), child("other"))
        self.begin(*good)
        until(lambda: self.tools() == {"kept", "other"})
        before = self.pid("kept"), self.pid("other")
        taken = f'[[listen]]\nname = "more"\ntransport = "http"\nendpoint = "tcp:{self.console}:interface=127.0.0.1"\n'
        for wrong, rest, why in (
            ((child("kept"), child("kept", timeout=3)), "", "kept"),
            ((child("kept"), child("other", mark=self.folder / "none")), "", "cannot be read"),
            ((child("kept"), child("other", pins=str(self.folder / "none"))), "", "none"),
            ((child("kept"), child("other", timeout=3), child("third")), taken, "Address already in use"),
        ):
            self.write(*wrong, rest=rest)
            self.assertIn("not reloaded", self.reload())
            self.assertIn(why, self.daemon.output().rpartition("not reloaded")[2])
            self.assertEqual(self.tools(), {"kept", "other"})
            self.assertEqual((self.pid("kept"), self.pid("other")), before)
            self.assertNotIn('upstream="third"', self.metrics())
        until(lambda: len(_children(self.daemon.pid)) == 2)
        self.write(*good)
        self.assertEqual(self.reload(), "reloaded")
        self.assertEqual((self.pid("kept"), self.pid("other")), before)
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())

    def test_files_are_read_again(self) -> None:
        """A secret in a file, and a provider in a process of its own, which has none."""
        isolated = f'[[provider]]\nuse = "{PROVIDER}"\nisolation = "process"\n'
        marked = child("marked", mark=self.mark)
        self.begin(marked, rest=isolated)
        until(lambda: "marked" in self.tools())
        own, before = int(text_of(self.call("pid"))), self.pid("marked")
        self.assertEqual(text_of(self.call("marked.variable", name="MARK")), "one")
        self.assertEqual(self.reload(), "reloaded")
        self.assertEqual(self.pid("marked"), before)
        self.mark.write_text("two")
        self.assertEqual(self.reload(), "reloaded")
        self.assertEqual(text_of(self.call("marked.variable", name="MARK")), "two")
        self.assertNotEqual(self.pid("marked"), before)
        self.assertEqual(int(text_of(self.call("pid"))), own, "nothing about it has changed")
        self.write(marked, rest=isolated + "[provider.pool]\nsize = 2\n")
        self.assertEqual(self.reload(), "reloaded")
        self.assertNotEqual(int(text_of(self.call("pid"))), own)
        until(lambda: not alive(own))
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())


def _later(port: int, tool: str, **arguments: Any) -> Callable[[], Any]:
    """A call that is under way; gives what waits for its answer."""
    found: list[Any] = []

    def run() -> None:
        with Wire(port) as wire:
            found.append(wire.modern(tool, arguments))

    thread = Thread(target=run)
    thread.start()

    def answer() -> Any:
        thread.join()
        return found[0]

    return answer


def _children(pid: int) -> list[int]:
    """The processes that a process has started, and that have a command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and (entry.parent / "cmdline").read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


class LoadTests(UpstreamsTestCase):
    """Steady load over upstreams, of which one changes with each reload."""

    rounds = 3

    def setUp(self) -> None:
        super().setUp()
        self.enough = Event()
        self.addCleanup(self.enough.set)
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()

    def run_on(self, name: str, what: Callable[[Wire], None]) -> Thread:
        def run() -> None:
            wire = Wire(self.mcp)
            try:
                while not self.enough.is_set():
                    what(wire)
                    self.done[name] += 1
            except Exception as error:
                self.wrong.append(f"{name}: {error!r}")
            finally:
                wire.close()

        thread = Thread(target=run)
        thread.start()
        return thread

    def load(self, upstream: str) -> list[Thread]:
        def calls(wire: Wire) -> None:
            assert int(text_of(wire.modern(f"{upstream}.pid")))

        def naps(wire: Wire) -> None:
            assert int(text_of(wire.modern(f"{upstream}.nap", {"seconds": 0.3})))

        def parks(wire: Wire) -> None:
            asked = wire.modern(f"{upstream}.confirm")
            time.sleep(0.2)
            given = dict.fromkeys(asked["inputRequests"], ANSWERS["sure"])
            answers = {"requestState": asked["requestState"], "inputResponses": given}
            answer = wire.modern(f"{upstream}.confirm", **answers)
            assert text_of(answer).startswith("accept"), answer

        def session(wire: Wire) -> None:
            if not wire.session:
                wire.initialize()
            assert int(text_of(wire.call(f"{upstream}.pid")))

        def questions(wire: Wire) -> None:
            if not wire.session:
                wire.initialize()
            stream = events(wire.begin("tools/call", {"name": f"{upstream}.confirm", "arguments": {}}))
            question = next(message for _, message in stream if message is not None)
            with Wire(self.mcp) as other:
                assert other.share(wire).answer(question["id"], ANSWERS["sure"]) == 202
            answers = [message for _, message in stream if message is not None]
            assert text_of(answers[-1]["result"]).startswith("accept"), answers
            wire.close()

        return [
            self.run_on(f"{upstream} {what.__name__}", what)
            for what in (calls, naps, parks, session, questions)
        ]

    def test_nothing_is_lost(self) -> None:
        far = self.begin_far()
        self.begin(child("moved", timeout=50), far)
        until(lambda: self.tools() == {"moved", "far"})
        sessions = self.sessions()
        threads = [*self.load("moved"), *self.load("far")]
        seen = {self.pid("moved")}
        for number in range(self.rounds):
            before = Counter(self.done)
            self.write(child("moved", timeout=51 + number), far)
            self.assertEqual(self.reload(), "reloaded")
            until(
                lambda before=before: (
                    self.wrong
                    or (len(self.done) == 10 and all(self.done[name] > before[name] for name in self.done))
                )
            )
            self.assertEqual(self.wrong, [], self.daemon.output())
            seen.add(self.pid("moved"))
        self.enough.set()
        for thread in threads:
            thread.join()
        self.assertEqual(self.wrong, [], self.daemon.output())
        if not self.workers:
            self.assertEqual(len(seen), self.rounds + 1)
            self.assertLess(self.sessions() - sessions, 15, "those of the load, and none for a reload")
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())
        until(lambda: not any(map(alive, seen)))


class LoadWithWorkersTests(LoadTests):
    """The same with two workers, each of which has its own."""

    workers = 2
