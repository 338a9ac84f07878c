"""The last 1.x release of the official Python SDK over stdio, HTTP and HTTP+SSE, in real processes."""

import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import TestCase

from tests.daemon import ERLMCP, Daemon, environment, free_port
from tests.peers.environment import sdk_v1
from tests.peers.seen import seen

CLIENT = Path(__file__).resolve().parent / "peers" / "sdk_v1_client.py"
PATIENCE = 120.0
PAGE = 4
ALWAYS = {
    *("add", "cancelled", "consult", "count", "delegate", "divide"),
    *("errand", "fail", "greet", "learn", "visit", "wait"),
}


class Scenarios:
    """What must be seen, on any transport; the scenarios of a class run in one process, once."""

    transport = ""
    wrong = "error"  # what arguments that do not fit come to, before 2025-11-25
    leaves = True  # whether the stream of a call may be ended before its answer

    @classmethod
    def target(cls, stack: ExitStack, settings: Path) -> tuple[str, ...]:
        """Where the client finds the server, which is there until the stack is closed."""
        raise NotImplementedError

    @classmethod
    def run_client(cls) -> dict[str, Any]:
        """What the client saw."""
        python = sdk_v1()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="erlmcp-peers-")))
            return cls.run_in(folder, python, stack)

    @classmethod
    def run_in(cls, folder: Path, python: str, stack: ExitStack) -> dict[str, Any]:
        settings = folder / "erlmcp.toml"
        settings.write_text(
            f'[server]\npage_size = {PAGE}\n[[provider]]\nuse = "tests.peers.provider:provider"\n'
        )
        done = subprocess.run(
            [python, str(CLIENT), cls.transport, *cls.target(stack, settings)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=folder,
            env=environment(),
        )
        if done.returncode:
            raise AssertionError(f"the client exits with {done.returncode}:\n{done.stderr[-4000:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def see(self, scenario: str) -> dict[str, Any]:
        return seen(type(self), scenario)

    def test_greeting(self) -> None:
        found = self.see("greeting")
        self.assertEqual((found["version"], found["server"]), ("2025-11-25", "erlmcp"))
        self.assertEqual(found["instructions"], "Ask anything.")
        self.assertEqual(
            found["capabilities"],
            {
                "completions": {},
                "logging": {},
                "prompts": {"listChanged": True},
                "resources": {"listChanged": True, "subscribe": True},
                "tools": {"listChanged": True},
            },
        )
        self.assertEqual(found["ping"], {})
        self.assertEqual(found["session"] is not None, self.transport == "http")

    def test_lists(self) -> None:
        found = self.see("lists")
        pages, tools = found["tools"]
        self.assertEqual(pages, -(-len(tools) // PAGE))
        self.assertLessEqual(ALWAYS, set(tools))
        self.assertEqual(found["resources"], [1, ["notes://picture", "notes://today"]])
        self.assertEqual(found["resourceTemplates"], [1, ["notes://{number}/page"]])
        self.assertEqual(found["prompts"], [1, ["review"]])
        self.assertEqual(found["forged"], -32602)

    def test_calls(self) -> None:
        found = self.see("calls")
        self.assertEqual(found["added"], [str(number + 0.5) for number in range(20)])
        self.assertEqual(found["divided"], {"quotient": 3, "rest": 1})
        self.assertTrue(found["wrong"][0])
        self.assertIn("a", found["wrong"][1])
        self.assertEqual(found["failed"], [True, "on purpose"])
        self.assertEqual(found["unknown"], [-32602, "Unknown tool: no-such-tool"])

    def test_resources(self) -> None:
        found = self.see("resources")
        self.assertEqual(found["notes://today"]["text"], "nothing")
        self.assertEqual(found["notes://picture"]["blob"], "iVBORw==")
        self.assertEqual(found["notes://7/page"]["text"], "page 7")
        self.assertEqual(found["unknown"][0], -32002)

    def test_prompts_and_completion(self) -> None:
        found = self.see("prompts")
        self.assertEqual(found["messages"][0]["content"]["text"], "Please review this python code.")
        self.assertEqual(found["completed"], ["python", "pyret"])
        self.assertEqual(found["lacking"], -32602)

    def test_elicitation(self) -> None:
        found = self.see("elicitation")
        self.assertEqual(found["accepted"], "Hello, Ada! sure=True")
        self.assertEqual(found["visited"], "the user says accept")
        self.assertEqual(found["declined"], "no name: decline")
        self.assertEqual(found["unable"][0], -32600)
        self.assertIn("elicitation", found["unable"][1])
        self.assertEqual(found["still_serves"], "2.0")
        name = ["form", "What is your name?", ["name"]]
        sure = ["form", "Are you sure?", ["sure"]]
        self.assertEqual(found["asked"], [name, sure, ["url", "https://example.com/sign-in", True], name])

    def test_sampling_and_roots(self) -> None:
        found = self.see("sampling")
        self.assertEqual(found["answer"], "you said ping, with ['file:///work']")
        self.assertEqual(found["with_tools"], "toolUse: ['text', 'tool_use']")

    def test_progress_and_logging(self) -> None:
        found = self.see("progress")
        self.assertEqual(found["steps"], [[n, 3, f"number {n}"] for n in (1, 2, 3)] * 3)
        warning = ["warning", "counted"]
        self.assertEqual(
            found["logged"], {"debug": [["debug", "not wanted"], warning], "warning": [warning], "error": []}
        )

    def test_cancellation(self) -> None:
        self.assertEqual(self.see("cancellation"), {"cancelled": 1})

    def test_changes(self) -> None:
        self.assertEqual(
            self.see("changes"),
            {"updated": ["notes://today"], "juggled": f"here I juggle_{self.transport}", "unwatched": []},
        )

    def test_reconnection(self) -> None:
        """Over HTTP the events are the first one, the one that greets who comes back, and the answer."""
        events = 3 if self.transport == "http" and self.leaves else 0
        self.assertEqual(self.see("reconnection"), {"result": "done meanwhile", "tokens": events})

    def test_older_revisions(self) -> None:
        """Each has what it alone has, and not what came later."""
        found = self.see("revisions")
        later = {"completions", "logging", "prompts", "resources", "tools"}
        structured = {"quotient": 3, "rest": 1}
        for version, capabilities, result, greeted in (
            ("2024-11-05", later - {"completions"}, None, ["error", -32600]),
            ("2025-03-26", later, None, ["error", -32600]),
            ("2025-06-18", later, structured, ["result", "Hello, Ada! sure=True"]),
        ):
            saw = found[version]
            self.assertEqual(saw["version"], version)
            self.assertEqual(set(saw["capabilities"]), capabilities)
            self.assertEqual(saw["tools"], PAGE)
            self.assertEqual(saw["divided"], ['{"quotient":3,"rest":1}', result])
            self.assertEqual(saw["consulted"], "you said ping, with ['file:///work']")
            self.assertEqual(saw["wrong"][0], self.wrong)
            self.assertEqual(saw["greeted"], greeted)
            self.assertEqual(saw["visited"], ["error", -32600])


class OverHttp(Scenarios):
    """Against ``twistd -n erlmcp``."""

    path = "/mcp"

    @classmethod
    def target(cls, stack: ExitStack, settings: Path) -> tuple[str, ...]:
        port = free_port()
        with settings.open("a") as more:
            more.write(
                f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{port}:interface=127.0.0.1"\nsse = "/sse"\n'
            )
        stack.enter_context(Daemon(["--config", str(settings)], [port]))
        return (f"http://127.0.0.1:{port}{cls.path}",)


class HttpTests(OverHttp, TestCase):
    """Streamable HTTP."""

    transport = "http"

    def test_ending(self) -> None:
        """What the client ends is gone: 404, so that it would start anew."""
        self.assertEqual(self.see("ending"), {"alive": 200, "gone": 404})


class SseTests(OverHttp, TestCase):
    """HTTP with SSE, the transport of 2024-11-05."""

    transport = "sse"
    path = "/sse"


class StdioTests(Scenarios, TestCase):
    """Against ``erlmcp stdio`` as a host launches it."""

    transport = "stdio"

    @classmethod
    def target(cls, stack: ExitStack, settings: Path) -> tuple[str, ...]:
        return ("--", *ERLMCP, "stdio", "--config", str(settings))
