"""``workers = 2`` as processes: who serves, what one worker does for another, and what comes after one has died."""

import os
import signal
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import TestCase

from erlmcp.admin import ask
from tests.daemon import PATIENCE, Daemon, free_port
from tests.wires import Wire, events, text_of

MOST_TRIES = 200


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(what: Callable[[], Any]) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"it never came to be: {what}")


class WorkersTestCase(TestCase):
    """A daemon with two workers; each test has its own."""

    listen = '[[listen]]\nname = "mcp"\ntransport = "http"\nendpoint = "tcp:{mcp}:interface=127.0.0.1"\n'

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.mcp, self.console = free_port(), free_port()
        self.file = self.folder / "erlmcp.toml"
        self.write()
        self.daemon = self.enterContext(Daemon(["--config", str(self.file)], [self.mcp, self.console]))
        until(lambda: self.ready() == b"ready\n")

    def write(self, extra: str = "", *, workers: int = 2) -> None:
        self.file.write_text(
            f'[server]\nruntime = "{self.folder}/run"\nworkers = {workers}\ndrain = 5\n'
            '[[provider]]\nuse = "tests.peers.worker_provider:provider"\n'
            + self.listen.format(mcp=self.mcp, folder=self.folder)
            + f'[telemetry]\nendpoint = "tcp:{self.console}:interface=127.0.0.1"\n{extra}'
        )

    def get(self, page: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.console}/{page}", timeout=PATIENCE) as response:
            text: bytes = response.read()
            return text

    def ready(self) -> bytes:
        try:
            return self.get("readyz")
        except OSError:
            return b""

    def wire(self) -> Wire:
        return self.enterContext(Wire(self.mcp))

    def two(self) -> tuple[Wire, Wire]:
        """Connections to both workers."""
        first = self.wire()
        mine = text_of(first.modern("pid"))
        for _ in range(MOST_TRIES):
            other = Wire(self.mcp)
            if text_of(other.modern("pid")) != mine:
                return first, self.enterContext(other)
            other.close()
        raise AssertionError("all connections come to one worker")

    def pids(self) -> set[int]:
        """The workers that serve."""
        found = set()
        for _ in range(40):
            with Wire(self.mcp) as wire:
                found.add(int(text_of(wire.modern("pid"))))
        return found


class SpreadTests(WorkersTestCase):
    """Both serve, and look like one."""

    def test_connections_are_spread(self) -> None:
        counts: Counter[str] = Counter()
        for _ in range(400):
            with Wire(self.mcp) as wire:
                counts[text_of(wire.modern("pid"))] += 1
        self.assertEqual(len(counts), 2, counts)
        self.assertGreaterEqual(min(counts.values()), 160, counts)
        # All of them in one place, whoever has served.
        metrics = self.get("metrics").decode()
        self.assertIn(
            'erlmcp_requests_total{era="modern",method="tools/call",outcome="complete",tool="pid",transport="http"}'
            " 400.0",
            metrics,
        )
        self.assertIn('erlmcp_workers{state="ready"} 2.0', metrics)
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())

    def test_the_parents_death_ends_them(self) -> None:
        pids = self.pids()
        self.assertEqual(len(pids), 2)
        self.daemon.kill()
        until(lambda: not any(map(alive, pids)))


class ForwardingTests(WorkersTestCase):
    """What belongs to one worker and comes to the other."""

    def test_a_retry_finds_the_parked_call(self) -> None:
        here, there = self.two()
        owner = text_of(here.modern("pid"))
        asked = here.modern("confirm")
        answers = {"sure": {"action": "accept", "content": {"sure": True}}}
        again = there.modern("confirm", requestState=asked["requestState"], inputResponses=answers)
        self.assertEqual(text_of(again), f"accept {owner}")
        used = there.modern("confirm", requestState=asked["requestState"], inputResponses=answers)
        self.assertEqual(used["code"], -32602)

    def test_a_retry_whose_worker_has_died(self) -> None:
        here, there = self.two()
        asked = here.modern("confirm")
        os.kill(int(text_of(here.modern("pid"))), signal.SIGKILL)
        answers = {"sure": {"action": "accept", "content": {"sure": True}}}
        again = there.modern("confirm", requestState=asked["requestState"], inputResponses=answers)
        self.assertIn("outcome is unknown", again["message"])

    def test_a_live_question_is_answered_by_way_of_the_other(self) -> None:
        here, there = self.two()
        owner = text_of(here.modern("pid"))
        here.initialize()
        there.share(here)
        stream = events(here.begin("tools/call", {"name": "confirm", "arguments": {}}))
        question = next(message for _, message in stream if message is not None)
        self.assertEqual(question["method"], "elicitation/create")
        self.assertEqual(there.answer(question["id"], {"action": "accept", "content": {"sure": True}}), 202)
        _, answer = next(stream)
        self.assertEqual(text_of(answer["result"]), f"accept {owner}")

    def test_a_cancellation_finds_its_call(self) -> None:
        here, there = self.two()
        here.initialize()
        there.share(here)
        response = here.begin("tools/call", {"name": "confirm", "arguments": {}}, number=7)
        stream = events(response)
        next(message for _, message in stream if message is not None)
        self.assertEqual(there.notify("notifications/cancelled", {"requestId": 7}), 202)
        rest = [message for _, message in stream]
        self.assertFalse([one for one in rest if one and "result" in one], rest)

    def test_the_rest_of_a_stream_by_way_of_the_other(self) -> None:
        here, there = self.two()
        owner = text_of(here.modern("pid"))
        here.initialize()
        there.share(here)
        left = list(events(here.begin("tools/call", {"name": "leave", "arguments": {"seconds": 0.5}})))
        self.assertEqual([message for _, message in left], [None], "the server has left")
        resumed = [message for _, message in events(there.listen(left[-1][0])) if message is not None]
        self.assertEqual(text_of(resumed[-1]["result"]), owner)

    def test_what_is_said_of_a_session_holds_with_the_other(self) -> None:
        here, there = self.two()
        here.initialize()
        there.share(here)
        self.assertEqual(there.ask("ping"), {})
        self.assertEqual(here.ask("logging/setLevel", {"level": "debug"}), {})
        said = [
            message.get("method")
            for message in there.finish(there.begin("tools/call", {"name": "say", "arguments": {}}))
        ]
        self.assertIn("notifications/message", said)
        listening = self.wire().share(here)
        response = listening.listen()
        self.assertEqual(response.status, 200)
        for wire in (here, there):
            self.assertEqual(wire.ask("resources/subscribe", {"uri": "test://thing"}), {})
            self.assertFalse(wire.call("touch").get("isError"))
        stream = (message for _, message in events(response) if message is not None)
        for _ in range(2):
            self.assertEqual(next(stream)["method"], "notifications/resources/updated")
        # The end, for both.
        self.assertEqual(there.send("DELETE", None, there.session).status, 204)
        there.close()
        self.assertEqual([*stream], [])
        self.assertEqual(here.begin("ping").status, 404)

    def test_a_stream_goes_with_its_client(self) -> None:
        """A GET stream that is begun with one worker and gone on with at the other: nothing is left out."""
        here, there = self.two()
        here.initialize()
        there.share(here)
        listening = self.enterContext(self.two_of(here))
        response = listening.listen()
        self.assertEqual(here.ask("resources/subscribe", {"uri": "test://thing"}), {})
        last, _ = next(events(response))
        listening.close()
        # Whether its end has been noticed or not: what is sent now is kept.
        here.call("touch")
        stream = (message for _, message in events(there.listen(last)) if message is not None)
        self.assertEqual(next(stream)["method"], "notifications/resources/updated")

    def two_of(self, like: Wire) -> Wire:
        """Another connection to the same worker, of the same session."""
        wanted = text_of(like.modern("pid"))
        for _ in range(MOST_TRIES):
            wire = Wire(self.mcp).share(like)
            if text_of(wire.modern("pid")) == wanted:
                return wire
            wire.close()
        raise AssertionError("it does not come again")


class DyingTests(WorkersTestCase):
    """kill -9 of one under load."""

    def test_others_serve_on_and_it_comes_back(self) -> None:
        before = self.pids()
        victim = min(before)
        wrong: list[str] = []
        answered: Counter[int] = Counter()
        lost: list[Exception] = []
        enough: list[bool] = []

        def load() -> None:
            wire = Wire(self.mcp)
            while not enough:
                try:
                    text = text_of(wire.modern("pid"))
                except (OSError, HTTPException) as error:
                    # Its connection was the victim's.
                    lost.append(error)
                    wire.close()
                except Exception as error:
                    wrong.append(repr(error))
                    wire.close()
                else:
                    answered[int(text)] += 1
            wire.close()

        threads = [Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(answered) == 2)
        os.kill(victim, signal.SIGKILL)
        after = until(lambda: (now := self.pids()) != before and len(now) == 2 and now)
        enough.append(True)
        for thread in threads:
            thread.join()
        self.assertEqual(len(after & before), 1, "only one was replaced")
        # A request is lost with the connection that it was on, and no other: a thread has one at a time.
        self.assertLessEqual(len(lost), len(threads), lost)
        self.assertEqual(wrong, [])
        self.assertIn("signal SIGKILL", self.daemon.output())
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())


class DoorTests(WorkersTestCase):
    """A unix socket: accepted by the parent, and handed to the worker with the fewest."""

    listen = (
        WorkersTestCase.listen
        + '[[listen]]\nname = "door"\ntransport = "http"\nendpoint = "unix:{folder}/door.sock"\n'
    )

    def nobody(self) -> bool:
        """Whether the parent knows of no connection of any worker."""
        tree = ask(self.folder / "run", "status", timeout=PATIENCE)["tree"]
        workers = next(one for one in tree["children"] if one["name"] == "workers")
        return all(one["detail"]["connections"] == 0 for one in workers["children"])

    def test_the_one_with_the_fewest(self) -> None:
        path = str(self.folder / "door.sock")
        until(self.nobody)  # who looked whether the daemon listens may still be counted
        kept = [self.enterContext(Wire(path=path)) for _ in range(20)]
        counts = Counter(text_of(wire.modern("pid")) for wire in kept)
        self.assertEqual(sorted(counts.values()), [10, 10])
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())
        self.assertFalse(Path(path).exists())
