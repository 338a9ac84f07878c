"""Upstreams of either era that are killed, hung and started again behind a real daemon, while many clients call on.

No answer is another's, nothing that must not be done twice is, each error names the upstream and says whether anything
was done, nobody else's calls fail, and what was lost is there again. The times are printed, beside what is promised.
"""

import json
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from erlmcp.governor import BreakerPolicy
from erlmcp.protocol import errors
from tests.daemon import ERLMCP, PATIENCE, Daemon, environment, free_port
from tests.gateway_load import LONGEST, Call, Far, askers, clock, server_error, until

ROWS = "\n{:>10} {:<14} {:>10} {:>8} {:>9} {:>9} {:>11}"
PROMISED = "\n      promised: 1 to 30 s, or once the breaker lets it be asked: 5 to 60 s"


class FailureTests(TestCase):
    """One gateway, six upstreams, six clients."""

    timeout = 900

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="erlmcp-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.marks = self.folder / "marks"
        self.calls: list[Call] = []
        self.fars = {
            far.name: far
            for transport in ("stdio", "tcp", "http")
            for far in (
                Far(transport, "modern", self.folder, self.marks),
                Far(transport, "2025-11-25", self.folder, self.marks),
            )
        }
        port, lines = free_port(), free_port()
        config = self.folder / "erlmcp.toml"
        config.write_text(
            f"[server]\nruntime = '{self.folder / 'run'}'\n"
            f"[[listen]]\ntransport = 'http'\nendpoint = 'tcp:{port}:interface=127.0.0.1'\n"
            f"[[listen]]\ntransport = 'tcp'\nendpoint = 'tcp:{lines}:interface=127.0.0.1'\n"
            + "".join(far.table() for far in self.fars.values())
        )
        for far in self.fars.values():
            far.start()
            self.addCleanup(far.end)
        self.daemon = Daemon(["--config", str(config)], [port, lines])
        self.daemon.__enter__()
        self.addCleanup(self.daemon.__exit__)
        self.askers = askers(port, lines, self.calls)

    def since(self, moment: float, upstream: str) -> list[Call]:
        """The calls to an upstream that began after a moment, and have ended."""
        return [one for one in self.calls if one.upstream == upstream and one.began >= moment]

    def served(self, upstream: str, since: float) -> bool:
        """Whether every client has had a right answer that it asked for since then."""
        good = {one.asker for one in self.since(since, upstream) if one.pid}
        return len(good) == len(self.askers)

    def pid(self, upstream: str) -> int:
        """Who has answered last."""
        return next(one.pid for one in reversed(self.calls) if one.upstream == upstream and one.pid)

    def status(self) -> dict[str, Any]:
        """The backends, as ``erlmcp status`` has them."""
        command = [*ERLMCP, "status", "--json", "--runtime", str(self.folder / "run")]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment()
        )
        (backends,) = [
            part for part in json.loads(done.stdout)["tree"]["children"] if part["name"] == "backends"
        ]
        return {child["name"]: child for child in backends["children"]}

    async def break_it(self, how: str, name: str) -> None:
        """Break one upstream and wait until all are served by it again; note how it went."""
        far = self.fars[name]
        pid = self.pid(name)
        began = time.monotonic()
        if how == "killed":
            far.send(signal.SIGKILL, pid)
            if far.transport != "stdio":
                far.end()
                # So many find it gone that it is left alone, until a connection shows that it is back.
                await until(
                    lambda: f"{name}: its breaker is open" in self.daemon.output(), "the breaker opens"
                )
                far.start()
                await until(lambda: far.listens, "it listens again")
        elif how == "hung":
            far.send(signal.SIGSTOP, pid)
            await until(lambda: any(one.error for one in self.since(began, name)), "a call gives up")
            far.send(signal.SIGCONT, pid)
        else:
            far.end(signal.SIGTERM)
            far.start()
            await until(lambda: far.listens, "it listens again")
        back = time.monotonic()
        # One that has failed again and again is left alone for ever longer, within a bound: docs, "A breaker".
        patience = LONGEST + BreakerPolicy().longest
        healed = await until(lambda: self.served(name, back), f"{name} serves all again", patience)
        answering = {one.pid for one in self.since(back, name) if one.pid}
        self.assertEqual(pid in answering, how == "hung", (pid, answering))
        mine = [one for one in self.calls if one.upstream == name and one.ended >= began]
        others = [one for one in self.calls if one.upstream != name and one.ended >= began]
        self.assertEqual([str(one.error) for one in others if one.error], [], f"{name} was {how}")
        took = sorted(one.ended - one.began for one in others)
        p99 = took[int(len(took) * 0.99)] if took else 0.0
        failed = sum(one.error is not None for one in mine)
        self.rows.append(
            (how, name, f"{healed:.2f} s", failed, len(mine) - failed, len(others), f"{p99 * 1000:.0f} ms")
        )

    async def test_broken_one_by_one(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        for far in self.fars.values():
            await until(lambda far=far: far.listens, f"{far.name} listens")
        await until(
            lambda: all(one["detail"]["tools"] for one in self.status().values()), "all tools are known"
        )
        begun = time.monotonic()
        for asker in self.askers:
            asker.start(self.fars)
            self.addCleanup(lambda asker=asker: Deferred.fromCoroutine(asker.stop()))
        for name in self.fars:
            await until(lambda name=name: self.served(name, begun), f"{name} serves all")
        calm = time.monotonic()
        await deferLater(clock, 1.0)
        took = sorted(one.ended - one.began for one in self.calls if one.began >= calm)
        for how, names in (
            ("killed", self.fars),
            ("hung", ("stdio-sessions", "tcp-modern", "http-sessions")),
            ("restarted", ("tcp-sessions", "http-sessions")),
        ):
            for name in names:
                await self.break_it(how, name)
        shown = self.status()
        for asker in self.askers:
            await asker.stop()
        print(ROWS.format("", "upstream", "healed in", "failed", "answered", "others", "their p99"), end="")
        print(
            ROWS.format(
                "(calm)", "all", "", 0, len(took), "", f"{took[int(len(took) * 0.99)] * 1000:.0f} ms"
            ),
            end="",
        )
        print(
            "".join(ROWS.format(*row) for row in self.rows),
            "\n      promised: 1 to 30 s, or once the breaker lets it be asked: 5 to 60 s",
            end=" ",
        )
        self.look_at_answers()
        self.look_at_errors()
        self.look_at_status(shown)

    def look_at_answers(self) -> None:
        """Each is its asker's own; what was answered was done, and nothing that must not be done twice was."""
        self.assertEqual([(one.ticket, one.wrong) for one in self.calls if one.wrong], [])
        done = Counter(self.marks.read_text().split())
        tickets = {one.ticket: one for one in self.calls}
        self.assertEqual(len(tickets), len(self.calls))
        self.assertEqual([one.ticket for one in self.calls if one.pid and not done[one.ticket]], [])
        self.assertEqual([ticket for ticket, times in done.items() if times > 1 and tickets[ticket].once], [])

    def look_at_errors(self) -> None:
        """They name the upstream, and say what is true of what was done."""
        done = set(self.marks.read_text().split())
        failed = [one for one in self.calls if one.error is not None]
        self.assertTrue(failed)
        for one in failed:
            error = server_error(one)
            self.assertIn(one.upstream, error.message)
            nothing_done = "nothing was executed" in error.message
            if nothing_done:
                self.assertNotIn(one.ticket, done, error.message)
            else:
                self.assertRegex(error.message, "outcome is unknown|no harm to make the call again")
            if error.code == errors.OUTCOME_UNKNOWN:
                self.assertTrue(one.once, error.message)

    def look_at_status(self, shown: dict[str, Any]) -> None:
        """Every upstream is up, and was all the time as a part of the tree; its breaker was open, tried, and closed."""
        self.assertEqual(set(shown), {f"upstream:{name}" for name in self.fars})
        said = self.daemon.output()
        for name, far in self.fars.items():
            found = shown[f"upstream:{name}"]
            self.assertEqual((found["state"], found["restarts"]), ("up", 0), name)
            detail = found["detail"]
            self.assertEqual(detail["era"], "modern" if far.era == "modern" else "handshake")
            self.assertGreaterEqual(detail["sessions"], 1, name)
            if far.transport != "stdio":
                self.assertIn(f"{name}: its breaker is half-open", said)
                self.assertIn(f"{name}: its breaker is closed", said)
