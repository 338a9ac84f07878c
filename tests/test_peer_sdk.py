"""The official Python SDK's client over HTTP and stdio, in real processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import TestCase

from tests.daemon import ERLMCP, ROOT, Daemon, environment

CLIENT = Path(__file__).resolve().parent / "peers" / "sdk_client.py"
PROVIDER = "tests.peers.provider:provider"
PATIENCE = 90.0


def run(scenario: str, *target: str) -> dict[str, Any]:
    """Run one of the client's scenarios; what it saw."""
    done = subprocess.run(
        [sys.executable, str(CLIENT), scenario, *target],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
        env=environment(),
    )
    if done.returncode:
        raise AssertionError(f"the client exits with {done.returncode}:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Scenarios:
    """What must be seen, on any transport."""

    def see(self, scenario: str) -> dict[str, Any]:
        raise NotImplementedError

    def test_discover(self) -> None:
        found = self.see("discover")
        self.assertEqual(found["version"], "2026-07-28")
        self.assertEqual(found["server"], "erlmcp")
        capabilities = found["capabilities"]
        self.assertEqual(capabilities["tools"], {"listChanged": True})
        self.assertEqual(capabilities["resources"], {"subscribe": True, "listChanged": True})
        self.assertIn("completions", capabilities)
        self.assertIn("greet", found["tools"])

    def test_lists(self) -> None:
        found = self.see("lists")
        always = {"add", "divide", "fail", "greet", "consult", "count", "wait", "cancelled", "learn"}
        self.assertLessEqual(always, set(found["tools"]))
        self.assertEqual(found["schemas"]["add"]["required"], ["a", "b"])
        self.assertEqual(found["resources"], ["notes://picture", "notes://today"])
        self.assertEqual(found["templates"], ["notes://{number}/page"])
        self.assertEqual(found["prompts"], ["review"])
        self.assertEqual(found["cursors"], [None] * 4)

    def test_calls(self) -> None:
        found = self.see("calls")
        self.assertEqual(found["added"], "2.5")
        self.assertEqual(found["divided"], {"quotient": 3, "rest": 1})
        self.assertTrue(found["wrong"][0])
        self.assertIn("a", found["wrong"][1])
        self.assertEqual(found["failed"], [True, "on purpose"])
        self.assertEqual(found["unknown"], -32602)

    def test_resources(self) -> None:
        found = self.see("resources")
        self.assertEqual(found["notes://today"]["text"], "nothing")
        self.assertEqual(found["notes://today"]["mimeType"], "text/plain")
        self.assertEqual(found["notes://picture"]["blob"], "iVBORw==")
        self.assertEqual(found["notes://7/page"]["text"], "page 7")
        self.assertEqual(found["unknown"], -32602)

    def test_prompts_and_completion(self) -> None:
        found = self.see("prompts")
        self.assertEqual(found["messages"][0]["content"]["text"], "Please review this python code.")
        self.assertEqual(found["completed"], ["python", "pyret"])

    def test_elicitation(self) -> None:
        found = self.see("elicitation")
        self.assertEqual(found["accepted"], "Hello, Ada! sure=True")
        self.assertEqual(found["declined"], "no name: decline")
        self.assertEqual(found["unable"], -32021)
        self.assertEqual(found["asked"], ["What is your name?", "Are you sure?", "What is your name?"])

    def test_sampling_and_roots(self) -> None:
        self.assertEqual(self.see("sampling"), {"answer": "you said ping, with ['file:///work']"})

    def test_progress_and_logging(self) -> None:
        found = self.see("progress")
        self.assertEqual(found["result"], "done")
        self.assertEqual(found["steps"], [[n, 3, f"number {n}"] for n in (1, 2, 3)])
        self.assertEqual(found["logged"], [["warning", "counted"]])

    def test_cancellation(self) -> None:
        found = self.see("cancellation")
        self.assertEqual(found["cancelled"], "1")
        self.assertEqual(found["still_serves"], "1")

    def test_subscription(self) -> None:
        found = self.see("subscription")
        self.assertEqual(
            found["honored"], {"toolsListChanged": True, "resourceSubscriptions": ["notes://today"]}
        )
        self.assertEqual(found["events"], ["ResourceUpdated", "ToolsListChanged"])
        self.assertEqual(found["new"], ["juggle"])
        self.assertEqual(found["juggled"], "here I juggle")


class HttpTests(Scenarios, TestCase):
    """Over HTTP, against ``twistd -n erlmcp``."""

    def setUp(self) -> None:
        self.daemon = Daemon.http(PROVIDER)
        self.daemon.__enter__()
        self.addCleanup(self.daemon.__exit__)

    def see(self, scenario: str) -> dict[str, Any]:
        return run(scenario, self.daemon.url)


class StdioTests(Scenarios, TestCase):
    """Over stdio, against ``erlmcp stdio`` as a host launches it."""

    def see(self, scenario: str) -> dict[str, Any]:
        return run(scenario, "--", *ERLMCP, "stdio", "--provider", PROVIDER)


class DemoTests(TestCase):
    """The demo provider, as it comes, over both."""

    def test_http(self) -> None:
        with Daemon.http() as daemon:
            found = run("discover", daemon.url)
        self.assertEqual(found["version"], "2026-07-28")
        self.assertTrue(found["tools"])

    def test_stdio(self) -> None:
        found = run("discover", "--", *ERLMCP, "stdio")
        self.assertEqual(found["version"], "2026-07-28")
        self.assertTrue(found["tools"])
