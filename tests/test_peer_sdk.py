"""The official Python SDK's client, 2.x, in each of its modes over HTTP, HTTP+SSE and stdio, in real processes."""

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase

from tests.daemon import ERLMCP, ROOT, Daemon, environment, free_port
from tests.peers.seen import seen

CLIENT = Path(__file__).resolve().parent / "peers" / "sdk_client.py"
PROVIDER = "tests.peers.provider:provider"
PATIENCE = 120.0
STDIO = ("--", *ERLMCP, "stdio", "--provider", PROVIDER)


def run(mode: str, scenario: str, *target: str) -> dict[str, Any]:
    """Run one of the client's scenarios, or ``all``; what each saw."""
    done = subprocess.run(
        [sys.executable, str(CLIENT), mode, scenario, *target],
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
    """What must be seen, on any transport; the scenarios of a class run in one process, once."""

    mode = "auto"
    version = "2026-07-28"
    missing = -32602  # the code for a resource that is not there
    unable = -32021  # the code for a question that the client cannot be asked
    honored: ClassVar[Any] = {"toolsListChanged": True, "resourceSubscriptions": ["notes://today"]}

    @classmethod
    def target(cls, stack: ExitStack) -> tuple[str, ...]:
        """Where the client finds the server, which is there until the stack is closed."""
        raise NotImplementedError

    @classmethod
    def run_client(cls) -> dict[str, Any]:
        """What the client saw."""
        with ExitStack() as stack:
            return run(cls.mode, "all", *cls.target(stack))

    def see(self, scenario: str) -> dict[str, Any]:
        return seen(type(self), scenario)

    def test_discover(self) -> None:
        found = self.see("discover")
        self.assertEqual(found["version"], self.version)
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
        self.assertEqual(found["unknown"], self.missing)

    def test_prompts_and_completion(self) -> None:
        found = self.see("prompts")
        self.assertEqual(found["messages"][0]["content"]["text"], "Please review this python code.")
        self.assertEqual(found["completed"], ["python", "pyret"])

    def test_elicitation(self) -> None:
        found = self.see("elicitation")
        self.assertEqual(found["accepted"], "Hello, Ada! sure=True")
        self.assertEqual(found["declined"], "no name: decline")
        self.assertEqual(found["unable"], self.unable)
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
        self.assertEqual(found, {"cancelled": 1, "still_serves": "on purpose"})

    def test_subscription(self) -> None:
        found = self.see("subscription")
        self.assertEqual(found["honored"], self.honored)
        self.assertEqual(found["events"], ["ResourceUpdated", "ToolsListChanged"])
        self.assertEqual((found["new"], found["juggled"]), (1, True))


class Legacy(Scenarios):
    """The same in the handshake era."""

    mode = "legacy"
    version = "2025-11-25"
    missing = -32002
    unable = -32600
    honored = None


class Modern(Scenarios):
    """The same with a client that takes the revision for granted."""

    mode = "2026-07-28"


class OverHttp(Scenarios):
    """Against ``twistd -n erlmcp``, which has HTTP+SSE turned on too."""

    path = "/mcp"

    @classmethod
    def target(cls, stack: ExitStack) -> tuple[str, ...]:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="erlmcp-peers-")))
        port = free_port()
        (folder / "erlmcp.toml").write_text(
            f'[[provider]]\nuse = "{PROVIDER}"\n[[listen]]\ntransport = "http"\n'
            f'endpoint = "tcp:{port}:interface=127.0.0.1"\nsse = "/sse"\n'
        )
        stack.enter_context(Daemon(["--config", str(folder / "erlmcp.toml")], [port]))
        return (f"http://127.0.0.1:{port}{cls.path}",)


class OverStdio(Scenarios):
    """Against ``erlmcp stdio`` as a host launches it."""

    @classmethod
    def target(cls, stack: ExitStack) -> tuple[str, ...]:
        return STDIO


class HttpAutoTests(OverHttp, TestCase):
    """A host that knows nothing of the server."""


class HttpModernTests(OverHttp, Modern, TestCase):
    """A host that knows what it speaks."""


class HttpLegacyTests(OverHttp, Legacy, TestCase):
    """A host that is of the handshake era, with a session."""


class SseLegacyTests(OverHttp, Legacy, TestCase):
    """The transport of 2024-11-05."""

    path = "/sse"


class StdioAutoTests(OverStdio, TestCase):
    """A host that knows nothing of the server."""


class StdioModernTests(OverStdio, Modern, TestCase):
    """A host that knows what it speaks."""


class StdioLegacyTests(OverStdio, Legacy, TestCase):
    """A host that is of the handshake era."""


class DemoTests(TestCase):
    """The demo provider, as it comes, over both."""

    def test_http(self) -> None:
        with Daemon.http() as daemon:
            found = run("auto", "discover", daemon.url)["discover"]
        self.assertEqual(found["version"], "2026-07-28")
        self.assertTrue(found["tools"])

    def test_stdio(self) -> None:
        found = run("auto", "discover", "--", *ERLMCP, "stdio")["discover"]
        self.assertEqual(found["version"], "2026-07-28")
        self.assertTrue(found["tools"])
