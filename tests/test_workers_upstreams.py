"""Upstreams behind two workers, each of which has its own connections and children: what one holds the other finds."""

import json
import os
import re
import signal
import socket
import subprocess
from typing import Any

from tests.daemon import ERLMCP, PATIENCE, Daemon, environment, free_port
from tests.test_reload_upstreams import ANSWERS, PROVIDER, UpstreamsTestCase, child
from tests.test_workers_daemon import MOST_TRIES, alive, until
from tests.wires import Wire, text_of


class WorkersTestCase(UpstreamsTestCase):
    """Two workers; which of them serves, an inline provider says."""

    workers = 2
    inline = f'[[provider]]\nuse = "{PROVIDER}"\n'

    def two(self) -> tuple[Wire, Wire]:
        """Connections to both workers."""
        first = self.enterContext(Wire(self.mcp))
        mine = text_of(first.modern("pid"))
        for _ in range(MOST_TRIES):
            other = Wire(self.mcp)
            if text_of(other.modern("pid")) != mine:
                return first, self.enterContext(other)
            other.close()
        raise AssertionError("all connections come to one worker")

    def retried(self, asked: Any, wire: Wire, tool: str) -> Any:
        given = dict.fromkeys(asked["inputRequests"], ANSWERS["sure"])
        return wire.modern(tool, requestState=asked["requestState"], inputResponses=given)

    def status(self, *options: str) -> str:
        done = subprocess.run(
            [*ERLMCP, "status", *options, "--runtime", str(self.runtime)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(),
            check=False,
        )
        self.assertIn(done.returncode, (0, 3), done.stderr)
        return done.stdout

    def backends(self) -> list[dict[str, dict[str, Any]]]:
        """The backends of each worker, by name."""
        tree = json.loads(self.status("--json"))["tree"]
        (workers,) = [one["children"] for one in tree["children"] if one["name"] == "workers"]
        return [{one["name"]: one for one in worker["children"]} for worker in workers]


class FoundTests(WorkersTestCase):
    """What waits for its client with one worker, and comes to the other."""

    def test_parked_calls(self) -> None:
        """With an upstream that asks live, in a session of a worker's; and with a child that keeps the state itself."""
        self.begin(child("near"), self.begin_far(), self.inline)
        until(lambda: self.tools() >= {"near", "far"})
        here, there = self.two()
        child_here, child_there = (int(text_of(one.modern("near.pid"))) for one in (here, there))
        self.assertNotEqual(child_here, child_there)
        for upstream, holder in (("far", self.far_daemon.pid), ("near", child_here)):
            asked = here.modern(f"{upstream}.confirm")
            self.assertEqual(text_of(self.retried(asked, there, f"{upstream}.confirm")), f"accept {holder}")
            asked = here.modern(f"{upstream}.confirm")
            self.assertEqual(text_of(self.retried(asked, here, f"{upstream}.confirm")), f"accept {holder}")
        metrics = self.metrics()
        for upstream in ("far", "near"):
            counts = {
                outcome: float(
                    re.findall(rf'{{outcome="{outcome}",upstream="{upstream}"}} ([0-9.]+)', metrics)[0]
                )
                for outcome in ("complete", "input_required")
            }
            self.assertGreaterEqual(counts["complete"], 2, upstream)
        self.assertRegex(metrics, r'erlmcp_upstream_sessions\{upstream="near"\} [2-9]')
        names = ("upstream:near", "upstream:far")

        def told() -> list[Any]:
            """What both of them tell each second."""
            now = self.backends()
            heard = all(one[name]["detail"]["tools"] == 7 for one in now for name in names if name in one)
            return now if heard and all(name in one for one in now for name in names) else []

        found = until(told)
        self.assertEqual(len(found), 2)
        for one in found:
            self.assertEqual(set(one), {"upstream:near", "upstream:far", "provider:workers"})
            self.assertEqual(
                (one["upstream:far"]["state"], one["upstream:far"]["detail"]["tools"]), ("up", 7)
            )
            self.assertEqual(one["upstream:far"]["detail"]["era"], "handshake")
        text = self.status()
        self.assertEqual(len(re.findall(r"\n +upstream:near +up .*tools 7", text)), 2, text)

    def test_its_worker_has_died(self) -> None:
        self.begin(child("near"), self.begin_far(), self.inline)
        until(lambda: self.tools() >= {"near", "far"})
        here, there = self.two()
        asked = [(tool, here.modern(tool)) for tool in ("far.confirm", "near.confirm")]
        orphan = int(text_of(here.modern("near.pid")))
        os.kill(int(text_of(here.modern("pid"))), signal.SIGKILL)
        until(lambda: not alive(orphan))
        for tool, one in asked:
            self.assertIn("outcome is unknown", self.retried(one, there, tool)["message"])
        # Whoever comes to its successor is never told that there are no such tools.
        for _ in range(20):
            for tool in ("far.pid", "near.pid"):
                self.assertTrue(int(text_of(self.call(tool))))

    def test_a_view(self) -> None:
        """The same by a further path, whose server is another one in each worker."""
        self.begin(child("near"), self.begin_far(), self.inline)
        until(lambda: self.tools() >= {"near", "far"})
        here, there = self.two()
        for upstream in ("far", "near"):
            with _at("/team/mcp", here), _at("/team/mcp", there):
                asked = here.modern(f"{upstream}.confirm")
                self.assertTrue(
                    text_of(self.retried(asked, there, f"{upstream}.confirm")).startswith("accept")
                )
                asked = here.modern(f"{upstream}.confirm")
            # What the view gave is nothing to everything.
            self.assertEqual(self.retried(asked, there, f"{upstream}.confirm")["code"], -32602)
        with _at("/team/mcp", here), _at("/team/mcp", there):
            here.initialize()
            there.share(here)
            self.assertTrue(text_of(there.call("pid")))
            self.assertEqual(there.send("DELETE", None, there.session).status, 204)
            there.close()
            self.assertEqual(here.begin("ping").status, 404)


class AbsentTests(WorkersTestCase):
    """Upstreams that are not there, or say nothing: no part of whether the daemon is ready."""

    def test_readiness(self) -> None:
        silent = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        port = silent.getsockname()[1]
        dead = (
            f'[[upstream]]\nname = "dead"\ntransport = "http"\nurl = "http://127.0.0.1:{free_port()}/mcp"\n'
        )
        hung = (
            f'[[upstream]]\nname = "hung"\ntransport = "tcp"\nendpoint = "tcp:127.0.0.1:{port}"\n'
            f"connect_timeout = {10 * PATIENCE}\n"
        )
        none = '[[upstream]]\nname = "none"\ntransport = "stdio"\ncommand = ["/no/such/program"]\n'
        for workers in (0, 2):
            self.workers = workers
            self.write(dead, hung, none, self.inline)
            with Daemon(["--config", str(self.file)], [self.mcp, self.console]) as self.daemon:
                # In far less time than the hung one is waited for by those who call it.
                until(lambda: self.ready() == "ready\n")
                self.assertTrue(text_of(self.call("pid")))
                self.assertEqual(self.call("dead.anything")["code"], -32602)
                self.assertEqual(self.ready(), "ready\n")
                self.assertEqual(self.daemon.stop(), 0, self.daemon.output())

    def test_a_provider_of_ours(self) -> None:
        """One that cannot begin is ours to answer for."""
        module = self.folder / "broken_provider.py"
        module.write_text("raise RuntimeError('broken')\n")
        broken = '[[provider]]\nuse = "broken_provider:provider"\nisolation = "process"\n'
        for workers in (0, 2):
            self.workers = workers
            self.write(self.inline, broken)
            extra = {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{self.folder}"}
            daemon = Daemon(["--config", str(self.file)], [self.mcp, self.console], extra=extra)
            with daemon as self.daemon:
                until(lambda: "provider:broken_provider" in self.unready())
                self.assertTrue(text_of(self.call("pid")), "the others serve")
                self.assertEqual(self.daemon.stop(), 0, self.daemon.output())

    def unready(self) -> str:
        import urllib.error
        import urllib.request

        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.console}/readyz", timeout=PATIENCE
            ) as response:
                del response
                return ""
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""


class _at:  # noqa: N801 - it reads as what it says
    """Requests go to another path of the same listener for a while."""

    def __init__(self, path: str, wire: Wire) -> None:
        self.path, self.wire = path, wire

    def __enter__(self) -> None:
        self.before, self.wire.path = self.wire.path, self.path

    def __exit__(self, *_: object) -> None:
        self.wire.path = self.before
