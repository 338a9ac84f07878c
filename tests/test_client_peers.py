"""Our client against servers of the official Python SDK, 2.x and the last 1.x, in each of their modes."""

import atexit
import contextlib
import functools
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import defer, reactor
from twisted.trial.unittest import TestCase

from erlmcp.client import Answers, Client, Elicitation, accept, http, stdio
from tests.daemon import environment, free_port
from tests.peers.environment import sdk_v1

SERVER = Path(__file__).resolve().parent / "peers" / "sdk_server.py"
PATIENCE = 60.0


@functools.cache
def port_of(python: str, mode: str) -> int:
    """The port of a server that is started when it is first asked for, and ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="erlmcp-peers-")
    port = free_port()
    log = Path(folder.name) / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [python, str(SERVER), mode, str(port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder.name,
            env=environment(),
        )

    def end() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return port
        time.sleep(0.05)
    raise AssertionError(f"the server does not come up:\n{log.read_text(errors='replace')[-4000:]}")


class Scenarios:
    """What must be seen with any server; a class is one server in one mode, and one way to speak with it."""

    mode = ""
    era: str | None = None
    speaks = "modern"
    streams = True
    """Whether progress can come before an answer."""
    is_told = True
    """Whether the server understands that nobody waits any more."""
    path = "/mcp"

    @classmethod
    def python(cls) -> str:
        """The interpreter with the SDK."""
        return sys.executable

    def client(self) -> Client:
        if self.mode == "stdio":
            target = stdio(reactor, [self.python(), str(SERVER), "stdio"], env=environment())
        else:
            target = http(reactor, f"http://127.0.0.1:{port_of(self.python(), self.mode)}{self.path}")

        def answer(question: Elicitation) -> dict[str, Any]:
            return accept({"colour": "blue"}) if "colour" in question.message else accept({})

        client = Client(target, reactor, answers=Answers(elicit=answer), era=self.era, timeout=20.0)
        self.addCleanup(client.close)  # type: ignore[attr-defined]
        return client

    async def test_all_that_a_server_has(self) -> None:
        client = self.client()
        server = await client.connect()
        assert server.era == self.speaks, server
        names = {tool.name for tool in await client.list_tools()}
        assert {"add", "count", "wait", "fail", "ask", "drop", "waiting"} == names, names
        result = await client.call("add", {"a": 2, "b": 40})
        assert result.structured["result"] == 42, result
        failed = await client.call("fail")
        assert failed.is_error, failed
        told: list[float] = []
        counted = await client.call(
            "count", {"to": 3}, on_progress=lambda progress: told.append(progress.done)
        )
        assert not counted.is_error, counted
        assert told == ([1, 2, 3] if self.streams else []), told
        [text] = (await client.read("peer://text")).contents
        assert text.text == "some text", text
        prompt = await client.get("greet", {"name": "you"})
        assert "Hello, you!" in str(prompt.messages), prompt

    async def test_many_at_once(self) -> None:
        client = self.client()
        results = await defer.gatherResults(
            [client.call("add", {"a": number, "b": 1}) for number in range(50)], consumeErrors=True
        )
        assert [result.structured["result"] for result in results] == list(range(1, 51))

    async def test_giving_up(self) -> None:
        client = self.client()
        await client.connect()
        before = (await client.call("waiting")).structured["result"]
        waiting = client.call("wait")
        waiting.addErrback(lambda failure: failure.trap(defer.CancelledError))
        await self.seen(client, before + 1)
        waiting.cancel()
        await self.seen(client, before if self.is_told else before + 1)

    async def seen(self, client: Client, number: int) -> None:
        """Ask until so many calls wait at the server."""
        found = -1
        for _ in range(500):
            found = (await client.call("waiting")).structured["result"]
            if found == number:
                return
        raise AssertionError(f"{found} calls wait, not {number}")


class Asking(Scenarios):
    """A server that can ask in the middle of a call."""

    async def test_questions(self) -> None:
        result = await self.client().call("ask")
        assert "accept blue" in str(result.content), result


class Resumed(Asking):
    """A server that keeps what it sends."""

    async def test_a_lost_stream_is_taken_up_again(self) -> None:
        result = await self.client().call("drop")
        assert "here after all" in str(result.content), result


class V2Http(Asking, TestCase):
    mode = "http"


class V2HttpJson(Asking, TestCase):
    mode = "http-json"
    streams = False
    is_told = False  # the SDK does not look at its connection before it has an answer


class V2HttpStateless(Asking, TestCase):
    mode = "http-stateless"


class V2HttpStatelessJson(Asking, TestCase):
    mode = "http-stateless-json"
    streams = False
    is_told = False  # the SDK does not look at its connection before it has an answer


class V2HttpHandshake(Asking, TestCase):
    mode = "http"
    era = "2025-11-25"
    speaks = "handshake"


class V2HttpResumable(Resumed, TestCase):
    mode = "http-resumable"
    era = "2025-11-25"
    speaks = "handshake"


class V2HttpStatelessHandshake(Scenarios, TestCase):
    mode = "http-stateless"
    era = "2025-06-18"
    speaks = "handshake"


class V2Sse(Asking, TestCase):
    mode = "sse"
    speaks = "handshake"
    path = "/sse"


class V2Stdio(Asking, TestCase):
    mode = "stdio"


class V2StdioHandshake(Asking, TestCase):
    mode = "stdio"
    era = "handshake"
    speaks = "handshake"


class V1(Scenarios):
    speaks = "handshake"

    @classmethod
    def python(cls) -> str:
        return sdk_v1()


class V1Http(Asking, V1, TestCase):
    mode = "http"


class V1HttpJson(V1, TestCase):
    mode = "http-json"
    streams = False


class V1HttpStateless(V1, TestCase):
    mode = "http-stateless"


class V1HttpStatelessJson(V1, TestCase):
    mode = "http-stateless-json"
    streams = False
    is_told = False  # the SDK does not look at its connection before it has an answer


class V1HttpResumable(Resumed, V1, TestCase):
    mode = "http-resumable"


class V1Sse(Asking, V1, TestCase):
    mode = "sse"
    path = "/sse"


class V1Stdio(Asking, V1, TestCase):
    mode = "stdio"
