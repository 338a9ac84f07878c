"""basic/transports/stdio: framing over lines, and the life of a real process; TCP, which has the same framing."""

import json
import socket
import subprocess
import tempfile
from typing import Any
from unittest import TestCase

from tests.daemon import ERLMCP, PATIENCE, Daemon, environment, free_port
from tests.interaction import published
from tests.interaction.cases import Interaction, holds, over
from tests.interaction.clients import OverLines, encode, envelope

PROVIDER = "tests.interaction.stage:provider"
NOISY = "tests.interaction.noisy:provider"


def request(id: int | str, method: str, **params: Any) -> bytes:  # noqa: A002
    meta = envelope({"elicitation": {}}, progressToken=id)
    return encode({"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": meta}}) + b"\n"


def call(id: int | str, tool: str, **arguments: Any) -> bytes:  # noqa: A002
    return request(id, "tools/call", name=tool, arguments=arguments)


CONVERSATION = (
    request(1, "server/discover")
    + request(2, "tools/list")
    + call(3, "echo", text="a\nb\r\u2028é🦊")
    + call(4, "count", steps=2)
    + call(5, "register")
    + call(6, "unknown")
    + b"no json\n"
    + encode({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}})
    + b"\n"
    + request(7, "resources/read", uri="config://settings")
)
METHODS = {
    1: "server/discover",
    2: "tools/list",
    3: "tools/call",
    4: "tools/call",
    5: "tools/call",
    7: "resources/read",
}


class Conversations(TestCase):
    """The same conversation, over whatever carries lines."""

    def check(self, output: bytes) -> None:
        self.assertTrue(output.endswith(b"\n"))
        messages = [json.loads(line) for line in output.splitlines()]
        for message in messages:
            self.assertIsNone(published.received_problem(message, METHODS.get(message.get("id", 0))))
        responses = {one.get("id"): one for one in messages if "method" not in one}
        self.assertEqual(set(responses), {1, 2, 3, 4, 5, 6, 7, None})
        self.assertEqual(responses[3]["result"]["content"][0]["text"], "a\nb\r\u2028é🦊")
        self.assertEqual(responses[5]["result"]["resultType"], "input_required")
        self.assertEqual(responses[6]["error"]["code"], -32602)
        self.assertEqual(responses[None]["error"]["code"], -32700)
        self.assertEqual([one["params"]["progress"] for one in messages if "method" in one], [1, 2])

    @holds("basic.transports.stdio/framing.1", "basic.transports.stdio/shutdown.1", "basic.index/auth.2")
    def test_standard_streams(self) -> None:
        done = run(PROVIDER, CONVERSATION)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.check(done.stdout)

    @holds(
        "basic.transports.stdio/framing.3",
        "basic.transports.index/custom.1",
        "basic.transports.index/custom.3",
    )
    def test_tcp(self) -> None:
        port = free_port()
        options = ["--listen", f"tcp:tcp:{port}:interface=127.0.0.1", "--provider", PROVIDER]
        with Daemon(options, [port]), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line:
            line.sendall(CONVERSATION)
            output = b""
            while b'"id":7,' not in output or not output.endswith(b"\n"):
                piece = line.recv(65536)
                self.assertTrue(piece, output)
                output += piece
        self.check(output)

    @holds("basic.transports.stdio/framing.2")
    def test_what_handlers_print(self) -> None:
        done = run(NOISY, request(1, "tools/list") + call(2, "loud"))
        self.assertEqual(done.returncode, 0, done.stderr)
        messages = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([one["id"] for one in messages], [1, 2])
        for words in (b"while importing", b"from print", b"from os.write"):
            self.assertIn(words, done.stderr)

    @holds("basic.transports.stdio/shutdown.1")
    def test_the_end_of_input_ends_it(self) -> None:
        self.assertEqual((run(PROVIDER, b"").returncode, run(PROVIDER, b"").stdout), (0, b""))


def run(provider: str, data: bytes) -> "subprocess.CompletedProcess[bytes]":
    with tempfile.TemporaryDirectory(prefix="erlmcp-test-") as folder:
        return subprocess.run(
            [*ERLMCP, "stdio", "--provider", provider],
            input=data,
            capture_output=True,
            timeout=2 * PATIENCE,
            check=False,
            cwd=folder,
            env=environment(),
        )


@over(OverLines)
class Framing(Interaction):
    """What the lines of a connection are."""

    @holds("basic.transports.stdio/framing.1")
    def test_no_newline_inside(self) -> None:
        text = "\n\r\n\u0085\u2028\u2029"
        self.assertEqual(self.client.call("echo", {"text": text}).text, text)
        self.client.call("count", meta={"progressToken": "\n"})
        self.client.call(text)
        for line in self.client.lines:
            self.assertNotIn(b"\n", line)
            self.assertNotIn(b"\r", line)
            self.assertTrue(line.startswith(b"{"))

    @holds("basic.transports.stdio/framing.1")
    def test_a_newline_in_a_message_ends_it(self) -> None:
        whole = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": envelope()}}, indent=1
        )
        sent = self.client.raw(whole.encode())
        self.assertEqual(len(sent.responses), len(whole.splitlines()))
        self.assertEqual({one["error"]["code"] for one in sent.responses}, {-32700})
        self.assertEqual(self.client.call("echo", {"text": "next"}).text, "next")
