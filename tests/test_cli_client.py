"""``erlmcp tools`` and ``erlmcp call``: what people type, what they see, and what scripts get."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import Any, ClassVar

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.cli._alive import Alive, describe
from erlmcp.cli._arguments import tool_arguments
from erlmcp.cli._forms import Terminal, printable
from erlmcp.client import CANCEL, DECLINE, Elicitation, Progress, accept
from tests.daemon import PATIENCE, ROOT, environment

SERVER = f"{sys.executable} -m erlmcp.cli stdio"


def erlmcp(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "erlmcp.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
    )


class ToolsTests(SynchronousTestCase):
    def test_for_people(self) -> None:
        done = erlmcp("tools", SERVER)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("add a=number b=number\n    Add two numbers.\n", done.stdout)
        self.assertIn("deploy service=string [region=eu|us]\n", done.stdout)

    def test_for_scripts(self) -> None:
        done = erlmcp("tools", SERVER, "--json", "--era", "2025-06-18")
        self.assertEqual(done.returncode, 0)
        self.assertIn("inputSchema", json.loads(done.stdout)[0])

    def test_no_server(self) -> None:
        done = erlmcp("tools", "tcp:127.0.0.1:1")
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, r"^erlmcp: tcp:127.0.0.1:1: .*refused")
        done = erlmcp("tools", f"{sys.executable} -c 'import sys; sys.exit(\"no such database\")'")
        self.assertEqual(done.returncode, 3)
        self.assertIn("exit code 1", done.stderr)
        self.assertIn("no such database", done.stderr)

    def test_wrong_usage(self) -> None:
        for arguments, said in (
            (("tools", ""), "no server: give a URL"),
            (("tools", "'"), "cannot be read as a command"),
            (("tools", "http://[bad"), "http://[bad"),
            (("tools", SERVER, "--era", "stone"), "era is 'stone'"),
            (("tools", SERVER, "--header", "a: b"), "--header is for servers at a URL"),
            (("tools", "http://127.0.0.1:1/", "--header", "a"), "write 'Name: value'"),
            (
                ("tools", "http://127.0.0.1:1/", "--header", "a: env:NOT_SET"),
                "the environment has no NOT_SET",
            ),
        ):
            done = erlmcp(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(said, done.stderr)


class CallTests(SynchronousTestCase):
    def test_statuses(self) -> None:
        done = erlmcp("call", SERVER, "add", "a=1", "b=2")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "3.0\n", ""))
        done = erlmcp("call", SERVER, "add", "--json", '{"a": 1}', "b:=2.5", "--raw")
        self.assertEqual(json.loads(done.stdout)["content"], [{"type": "text", "text": "3.5"}])
        done = erlmcp("call", SERVER, "calculate", "operation=divide", "a=1", "b=0")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        done = erlmcp("call", SERVER, "nothing")
        self.assertEqual(done.returncode, 2)
        self.assertIn("it has add, calculate", done.stderr)
        done = erlmcp("call", SERVER, "deploy", "service=x")
        self.assertEqual(done.returncode, 4)
        self.assertIn("elicitation", done.stderr)

    def test_progress_without_a_terminal(self) -> None:
        done = erlmcp("call", SERVER, "slow_job", "steps=2", "pause=0")
        self.assertEqual((done.returncode, done.stdout), (0, "2 steps done\n"))
        self.assertIn(" 50% 1/2 step 2", done.stderr)

    def test_other_content(self) -> None:
        done = erlmcp("call", SERVER, "swatch", "red=1", "green=2", "blue=3")
        self.assertRegex(done.stdout, r"^\[image image/png, \d+ characters of Base64; --raw shows them\]\n$")

    def test_asks_in_the_terminal(self) -> None:
        said = self.converse(["call", SERVER, "deploy", "service=x"], [b"y\n", b"soon\n", b"\n"])
        self.assertIn("The server asks: Deploy x to production in eu?", said)
        self.assertIn("x is deployed in eu. Note: soon", said)

    def converse(self, arguments: list[str], lines: list[bytes]) -> str:
        """What is said on a terminal where each prompt is answered with the next line."""
        pid, terminal = pty.fork()
        if pid == 0:  # pragma: no cover - another process
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, "-m", "erlmcp.cli", *arguments], environment())
        try:
            said, ends = b"", time.monotonic() + PATIENCE
            while time.monotonic() < ends:
                if not select.select([terminal], [], [], 0.5)[0]:
                    continue
                try:
                    said += os.read(terminal, 4096)
                except OSError:
                    break
                if lines and said.endswith((b": ", b"] ")):
                    os.write(terminal, lines.pop(0))
            else:
                os.kill(pid, signal.SIGKILL)
        finally:
            _, status = os.waitpid(pid, 0)
            os.close(terminal)
        self.assertEqual((status, lines), (0, []), said)
        return said.decode()


class ArgumentTests(SynchronousTestCase):
    schema: ClassVar[Any] = {
        "properties": {
            "name": {"type": "string"},
            "count": {"type": "integer"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "mixed": {"type": ["integer", "string"]},
            "other": {"$ref": "#/x"},
            "vague": {"anyOf": [{"type": "integer"}, {}]},
        }
    }

    def test_read_by_the_schema(self) -> None:
        words = ["name=1", "count=1", "either=null", "mixed=1", "other=1", "vague=1", "unknown=1", "a=b=c"]
        self.assertEqual(
            tool_arguments(words, None, self.schema),
            {
                "name": "1",
                "count": 1,
                "either": None,
                "mixed": "1",
                "other": "1",
                "vague": "1",
                "unknown": "1",
                "a": "b=c",
            },
        )
        self.assertEqual(
            tool_arguments(["x:=[1]", 'y:=""'], '{"x": 0, "z": 1}', {}), {"x": [1], "y": "", "z": 1}
        )

    def test_what_is_wrong(self) -> None:
        for words, document, said in (
            (["count=many"], None, "count, which takes integer: 'many' is not JSON"),
            (["x:={"], None, "x: '{' is not JSON"),
            (["word"], None, "'word' is no argument: write key=value"),
            (["=a"], None, "is no argument"),
            ([":=a"], None, "is no argument"),
            ([], "[1]", "--json takes an object"),
            ([], "{", "--json: '{' is not JSON"),
        ):
            with self.assertRaisesRegex(ValueError, said.replace("[", r"\[").replace("{", r"\{")):
                tool_arguments(words, document, self.schema)


class TerminalTests(SynchronousTestCase):
    """Questions, asked of a person."""

    def terminal(self, *lines: str) -> Terminal:
        self.said: list[str] = []
        self.visited: list[str] = []
        left = list(lines)

        def ask(prompt: str) -> str:
            self.said.append(prompt)
            if not left:
                raise EOFError
            return left.pop(0)

        return Terminal(ask, self.said.append, self.visited.append)

    def form(self, properties: Any, *lines: str, required: tuple[str, ...] = ()) -> Any:
        schema = {"type": "object", "properties": properties, "required": list(required)}
        return self.terminal(*lines).answer(Elicitation("Well?", schema))

    def test_fields(self) -> None:
        properties = {
            "name": {"type": "string", "title": "Your name", "description": "As on the card"},
            "age": {"type": "integer"},
            "height": {"type": "number"},
            "member": {"type": "boolean"},
            "color": {"type": "string", "enum": ["r", "g"], "enumNames": ["Red", "Green"]},
            "size": {"type": "string", "oneOf": [{"const": "s", "title": "Small"}, {"const": "m"}]},
            "days": {"type": "array", "items": {"type": "string", "enum": ["mo", "tu"]}},
            "note": {"type": "string", "default": "none"},
            "more": {"type": "string"},
        }
        lines = ("Ann", "x", "41", "1.8", "perhaps", "yes", "2", "s", "mo, 2", "", "", "y")
        content = {
            "name": "Ann",
            "age": 41,
            "height": 1.8,
            "member": True,
            "color": "g",
            "size": "s",
            "days": ["mo", "tu"],
            "note": "none",
        }
        self.assertEqual(self.form(properties, *lines, required=("name", "age")), accept(content))
        for text in ("  As on the card", "    1. Red (r)", "    'x' is no integer", "    say yes or no"):
            self.assertIn(text, self.said)

    def test_choices(self) -> None:
        properties = {"color": {"type": "string", "enum": ["r", "g"]}}
        self.assertEqual(
            self.form(properties, "", "blue", "r", "", required=("color",)), accept({"color": "r"})
        )
        self.assertIn("    'blue' is none of the choices: say one of the numbers 1 to 2", self.said)

    def test_declined_and_cancelled(self) -> None:
        self.assertEqual(self.form({}, "n"), DECLINE)
        self.assertEqual(self.form({}, "c"), CANCEL)
        self.assertEqual(self.form({}), CANCEL)
        self.assertEqual(self.form({"a": {"type": "string"}}, *[""] * 9, required=("a",)), CANCEL)

    def test_addresses(self) -> None:
        url = "https://example.com/a?b=c&d=" + "e" * 300
        question = Elicitation("Log in", url=url)
        self.assertEqual(self.terminal("y").answer(question), accept())
        self.assertIn(f"  {url}", self.said)
        self.assertEqual(self.visited, [url])
        self.assertEqual(self.terminal("").answer(question), DECLINE)
        self.assertEqual(self.visited, [])
        self.terminal("").answer(Elicitation("Log in", url="http://example.com/"))
        self.assertIn("It is not https: what you enter there may be read on the way.", self.said)

    def test_nothing_moves_the_cursor(self) -> None:
        self.assertEqual(printable("a\x1b[2Jb\rc\nd\u202e"), "a\ufffd[2Jb\ufffdc\nd\ufffd")


class AliveTests(SynchronousTestCase):
    """What is shown while a call runs."""

    def test_lines(self) -> None:
        self.assertEqual(describe(None, 3.2), "waiting for the tool (3 s)")
        self.assertEqual(describe(Progress(7), 1), "7 (1 s)")
        self.assertEqual(describe(Progress(1, 4, "half\ndone"), 1), " 25% 1/4 half (1 s)")
        self.assertEqual(
            describe(Progress(1, 4), 1, drawing=True), "[######..................]  25% 1/4 (1 s)"
        )
        self.assertIn("100%", describe(Progress(9, 4), 1))

    def test_drawing(self) -> None:
        clock, stream = Clock(), io.StringIO()
        alive = Alive(stream, clock, drawing=True)
        alive.start()
        self.assertEqual(stream.getvalue(), "")
        clock.advance(1)
        self.assertEqual(stream.getvalue(), "\rwaiting for the tool (1 s)")
        alive.progress(Progress(3))
        alive.hold()
        before = stream.getvalue()
        clock.advance(5)
        alive.progress(Progress(4))
        self.assertEqual(stream.getvalue(), before)
        alive.resume()
        clock.advance(1)
        alive.stop()
        self.assertTrue(stream.getvalue().endswith("\r"))
        self.assertEqual(clock.getDelayedCalls(), [])
        alive.stop()

    def test_not_drawing(self) -> None:
        clock, stream = Clock(), io.StringIO()
        alive = Alive(stream, clock, drawing=False)
        alive.start()
        clock.advance(9)
        self.assertEqual(stream.getvalue(), "")
        clock.advance(1)
        self.assertEqual(stream.getvalue(), "waiting for the tool (10 s)\n")
        alive.stop()
