"""SIGHUP to a real daemon: nothing that is under way is lost, and only a configuration that is right is taken up."""

import contextlib
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest import TestCase

from tests.daemon import Daemon, free_port
from tests.test_workers_daemon import until
from tests.wires import Wire, events, meta, text_of

RELOADS = 5
ANSWERS = {"sure": {"action": "accept", "content": {"sure": True}}}


class ReloadTestCase(TestCase):
    """A daemon whose configuration can be written anew."""

    workers = 0

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.mcp, self.console = free_port(), free_port()
        self.file = self.folder / "erlmcp.toml"
        self.write()
        self.daemon = self.enterContext(Daemon(["--config", str(self.file)], [self.mcp, self.console]))
        until(lambda: self.daemon.output().count("ready") > self.workers)
        self.reloads = 0

    def write(self, extra: str = "", *, name: str = "erlmcp", provider: str = "", endpoint: str = "") -> None:
        endpoint = endpoint or f"tcp:{self.mcp}:interface=127.0.0.1"
        self.file.write_text(
            f'[server]\nname = "{name}"\nworkers = {self.workers}\ndrain = 5\n'
            '[[provider]]\nuse = "tests.peers.worker_provider:provider"\n'
            f"{provider}"
            f'[[listen]]\nname = "mcp"\ntransport = "http"\nendpoint = "{endpoint}"\n'
            f'[telemetry]\nendpoint = "tcp:{self.console}:interface=127.0.0.1"\n{extra}'
        )

    def wire(self) -> Wire:
        return self.enterContext(Wire(self.mcp))

    def reload(self) -> str:
        """Have it reload, and wait until it has; the line that says what came of it."""
        before = len(_said(self.daemon.output()))
        self.daemon.signal(signal.SIGHUP)
        said: str = until(lambda: len(now := _said(self.daemon.output())) > before and now[-1])
        return said


def _said(output: str) -> list[str]:
    return re.findall(r"\b(?:not )?reloaded\b[^\n]*", output)


class InPlaceTests(ReloadTestCase):
    """Without workers."""

    def server_name(self) -> str:
        with Wire(self.mcp) as wire:
            message = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta()}}
            headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "server/discover"}
            answer = wire.finish(wire.send("POST", message, headers))[-1]["result"]
            name: str = answer["_meta"]["io.modelcontextprotocol/serverInfo"]["name"]
            return name

    def test_what_is_changed_is_changed(self) -> None:
        self.write(name="other")
        self.assertEqual(self.reload(), "reloaded")
        self.assertEqual(self.server_name(), "other")
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())

    def test_a_wrong_one_changes_nothing(self) -> None:
        for wrong in ("[listen]\n", '[[provider]]\nuse = "no.such:thing"\n', "[server]\nname = 3\n"):
            self.write(wrong)
            self.assertIn("not reloaded, the configuration of before goes on", self.reload())
            with self.wire() as wire:
                self.assertTrue(int(text_of(wire.modern("pid"))))
        self.write()
        self.assertEqual(self.reload(), "reloaded")

    def test_listeners_come_and_go(self) -> None:
        port = free_port()
        kept = self.wire()
        kept.modern("pid")
        extra = (
            f'[[listen]]\nname = "more"\ntransport = "http"\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
        )
        self.write(extra)
        self.assertEqual(self.reload(), "reloaded")
        with Wire(port) as more:
            self.assertTrue(text_of(more.modern("pid")))
        self.write()
        self.assertEqual(self.reload(), "reloaded")
        with Wire(port) as more, self.assertRaises(OSError):
            more.modern("pid")
        with Wire(self.mcp) as wire:
            self.assertTrue(text_of(wire.modern("pid")))
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())

    def test_an_endpoint_changes(self) -> None:
        port = free_port()
        self.write(endpoint=f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual(self.reload(), "reloaded")
        with Wire(port) as wire:
            self.assertTrue(text_of(wire.modern("pid")))
        with Wire(self.mcp) as wire, self.assertRaises(OSError):
            wire.modern("pid")

    def test_a_taken_port_changes_nothing(self) -> None:
        extra = f'[[listen]]\nname = "more"\ntransport = "http"\nendpoint = "tcp:{self.console}:interface=127.0.0.1"\n'
        self.write(extra, name="other")
        self.assertIn("not reloaded", self.reload())
        self.assertIn("Address already in use", self.daemon.output())
        self.assertEqual(self.server_name(), "erlmcp")

    def test_what_only_a_start_takes_up_is_said(self) -> None:
        self.write("[engine]\nentries = 5000\n")
        self.assertIn("but for engine", self.reload())

    def test_other_kinds_of_daemon(self) -> None:
        self.file.write_text(self.file.read_text().replace(f"workers = {self.workers}", "workers = 3"))
        self.assertIn("not reloaded", self.reload())

    def test_providers_come_and_go(self) -> None:
        demo = '[[provider]]\nuse = "erlmcp.examples.demo:provider"\n'
        with self.wire() as wire:
            self.assertEqual(wire.modern("echo", {"message": "x"})["code"], -32602)
        self.write(provider=demo)
        self.assertEqual(self.reload(), "reloaded")
        with self.wire() as wire:
            self.assertEqual(text_of(wire.modern("echo", {"message": "x"})), "x")
        self.write()
        self.assertEqual(self.reload(), "reloaded")
        with self.wire() as wire:
            self.assertEqual(wire.modern("echo", {"message": "x"})["code"], -32602)


class WithWorkersTests(InPlaceTests):
    """The same with two workers."""

    workers = 2

    def test_other_kinds_of_daemon(self) -> None:
        self.write()
        self.file.write_text(self.file.read_text().replace("workers = 2", "workers = 0"))
        self.assertIn("not reloaded", self.reload())
        self.file.write_text(self.file.read_text().replace("workers = 0", "workers = 3"))
        self.assertIn("but for server.workers", self.reload())


class LoadTests(ReloadTestCase):
    """Steady load of both eras, parked calls, streams and sessions, and reload after reload."""

    def setUp(self) -> None:
        super().setUp()
        self.enough = Event()
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self.threads: list[Thread] = []
        self.acknowledged = 0
        self.addCleanup(self.enough.set)

    def start(self, what: Callable[[Wire], None]) -> None:
        """Do something again and again, each time on a connection that the server has not said it will close."""

        def run() -> None:
            wire = Wire(self.mcp)
            try:
                while not self.enough.is_set():
                    what(wire)
                    self.done[what.__name__] += 1
            except Exception as error:
                self.wrong.append(f"{what.__name__}: {error!r}")
            finally:
                wire.close()

        thread = Thread(target=run)
        thread.start()
        self.threads.append(thread)

    def modern(self, wire: Wire) -> None:
        assert text_of(wire.modern("pid"))

    def naps(self, wire: Wire) -> None:
        assert text_of(wire.modern("nap", {"seconds": 0.3}))

    def parks(self, wire: Wire) -> None:
        asked = wire.modern("confirm")
        time.sleep(0.3)
        answer = wire.modern("confirm", requestState=asked["requestState"], inputResponses=ANSWERS)
        assert text_of(answer).startswith("accept"), answer

    def session(self, wire: Wire) -> None:
        if not wire.session:
            wire.initialize()
        assert text_of(wire.call("pid"))

    def questions(self, wire: Wire) -> None:
        if not wire.session:
            wire.initialize()
        stream = events(wire.begin("tools/call", {"name": "confirm", "arguments": {}}))
        question = next(message for _, message in stream if message is not None)
        time.sleep(0.1)
        with Wire(self.mcp) as other:
            assert other.share(wire).answer(question["id"], ANSWERS["sure"]) == 202
        answers = [message for _, message in stream if message is not None]
        assert text_of(answers[-1]["result"]).startswith("accept"), answers
        wire.close()

    def resumes(self, wire: Wire) -> None:
        if not wire.session:
            wire.initialize()
        left = list(events(wire.begin("tools/call", {"name": "leave", "arguments": {"seconds": 0.2}})))
        last = left[-1][0]
        found = [message for _, message in events(wire.listen(last)) if message is not None]
        assert found, f"nothing behind {last}"
        assert text_of(found[-1]["result"]), found

    def listens(self, wire: Wire) -> None:
        params = {"notifications": {"toolsListChanged": True}, "_meta": meta()}
        message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
        response = wire.send("POST", message, headers)
        stream = events(response)
        _, first = next(stream)
        assert "acknowledged" in first["method"], first
        self.acknowledged += 1
        ended: list[Any] = []

        def read() -> None:
            # The test's own end cuts it in the middle.
            with contextlib.suppress(Exception):
                ended.extend(stream)

        # It ends with its result, and by that alone.
        Thread(target=read, daemon=True).start()
        while not ended and not self.enough.wait(0.05):
            pass
        assert self.enough.is_set() or "result" in ended[-1][1], ended
        wire.close()

    def late(self, before: Counter[str]) -> list[str]:
        """What has not been done again since."""
        return [name for name in before if self.done[name] <= before[name]]

    def test_nothing_is_lost(self) -> None:
        work = (self.modern, self.naps, self.parks, self.session, self.questions, self.resumes, self.listens)
        for what in work:
            self.start(what)
        for _ in range(RELOADS):
            # Whoever listens can only be told of what comes after.
            until(lambda: self.wrong or self.acknowledged > self.done["listens"])
            before = Counter({one.__name__: self.done[one.__name__] for one in work})
            self.assertEqual(self.reload(), "reloaded")
            with contextlib.suppress(AssertionError):
                until(lambda before=before: self.wrong or not self.late(before))
            self.assertEqual((self.wrong, self.late(before)), ([], []), self.daemon.output())
        self.enough.set()
        for thread in self.threads:
            thread.join()
        self.assertEqual(self.wrong, [], self.daemon.output())
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())


class LoadWithWorkersTests(LoadTests):
    """The same with two workers."""

    workers = 2
