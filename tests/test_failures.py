"""What fails in a real daemon, what the others see of it, and how long until it is healed: the table of failures.

Each case breaks something while a steady client calls on, and notes how long until all was well again. The upstream's
row comes with the gateway, the two of the governor with the governor. `tests.chaos` breaks things at random.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from unittest import TestCase

from erlmcp.admin import AdminError, ask
from tests.certificates import write_certificate
from tests.daemon import ERLMCP, PATIENCE, Daemon, environment, free_port

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "steady", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Client:
    """Calls tools over one HTTP connection, which it opens anew when it has to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection: http.client.HTTPConnection | None = None

    def call(self, name: str, **arguments: Any) -> tuple[int, dict[str, Any]]:
        """The status, and the whole JSON-RPC answer; OSError or HTTPException if there is none."""
        params = {"name": name, "arguments": arguments, "_meta": META}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": name,
        }
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            self._connection.request("POST", "/mcp", body, headers)
            response = self._connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except BaseException:
            self.close()
            raise
        return response.status, answer

    def text(self, name: str, **arguments: Any) -> str:
        """The text that a tool has returned."""
        status, answer = self.call(name, **arguments)
        if status != 200:
            raise AssertionError(f"{status}: {answer}")
        text: str = answer["result"]["content"][0]["text"]
        return text

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Steady:
    """A client that calls all the time, in a thread, and checks each answer.

    Attributes:
        answered: how many calls were answered rightly.
        wrong: answers that were not right.
        broken: calls without an answer, as their connection was lost or refused.
    """

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.wrong: list[Any] = []
        self.broken: list[Exception] = []
        self._client = Client(port)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self.more()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        self._client.close()

    def more(self, count: int = 3) -> None:
        """Wait until it has had so many answers more."""
        least = self.answered + count
        until(lambda: self.answered >= least)

    def _run(self) -> None:
        while not self._over.is_set():
            text = f"number {self.answered}"
            try:
                status, answer = self._client.call("echo", text=text)
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(error)
                time.sleep(0.005)
                continue
            if status == 200 and answer["result"]["content"][0]["text"] == text:
                self.answered += 1
            else:
                self.wrong.append(answer)
            time.sleep(0.001)


def until(condition: Callable[[], bool]) -> None:
    """Wait for it, not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come about in time")
        time.sleep(0.005)


def note(what: str, since: float, promised: str) -> None:
    """Print how long it took to heal."""
    print(
        f"\n      {what}: healed in {(time.monotonic() - since) * 1000:.0f} ms (promised: {promised})",
        end=" ",
    )


class FailureTests(TestCase):
    """The rows that can be broken so far. The times are printed, beside what the table promises."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.port, self.lines, self.console = free_port(), free_port(), free_port()
        self.tls, self.pem = free_port(), self.folder / "server.pem"
        write_certificate(self.pem)
        self.runtime = self.folder / "run"
        config = self.folder / "erlmcp.toml"
        config.write_text(
            f"""
            [server]
            runtime = '{self.runtime}'
            [[provider]]
            use = 'tests.peers.crashing_provider:saboteur'
            [[provider]]
            use = 'tests.peers.crashing_provider:provider'
            [[listen]]
            name = 'web'
            transport = 'http'
            endpoint = 'tcp:{self.port}:interface=127.0.0.1'
            [[listen]]
            name = 'lines'
            transport = 'tcp'
            endpoint = 'tcp:{self.lines}:interface=127.0.0.1'
            [[listen]]
            name = 'sealed'
            transport = 'tcp'
            endpoint = 'ssl:{self.tls}:privateKey={self.pem}:certKey={self.pem}:interface=127.0.0.1'
            [telemetry]
            endpoint = 'tcp:{self.console}:interface=127.0.0.1'
            """
        )
        ports = [self.port, self.lines, self.console]
        self.daemon = self.enterContext(Daemon(["--config", str(config)], ports))
        until(lambda: self.ready()[0] == 200)
        self.client = Client(self.port)
        self.addCleanup(self.client.close)

    def ready(self) -> tuple[int, str]:
        """What ``/readyz`` says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.console}/readyz", timeout=PATIENCE) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def status(self, expected: int = 0) -> dict[str, Any]:
        """The children below the root's, by name, as ``erlmcp status`` has them."""
        done = subprocess.run(
            [*ERLMCP, "status", "--json", "--runtime", str(self.runtime)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=environment(),
        )
        self.assertEqual(done.returncode, expected, done.stdout + done.stderr)
        tree = json.loads(done.stdout)["tree"]
        return {child["name"]: child for part in tree["children"] for child in part["children"]}

    def ends_well(self) -> None:
        self.client.close()
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())

    def test_invalid_message(self) -> None:
        """Answered with an error, counted; the connection goes on, unless its first bytes are no JSON at all."""
        with (
            Steady(self.port) as steady,
            socket.create_connection(("127.0.0.1", self.lines), PATIENCE) as line,
        ):
            stream = line.makefile("rb")
            began = time.monotonic()
            line.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": \n')
            self.assertEqual(json.loads(stream.readline())["error"]["code"], -32700)
            line.sendall(b'{"jsonrpc": "2.0", "id": 2}\n')
            self.assertEqual(json.loads(stream.readline())["error"]["code"], -32600)
            body = {"jsonrpc": "2.0", "id": 3, "method": "tools/call"}
            params = {"name": "echo", "arguments": {"text": "still here"}, "_meta": META}
            line.sendall(json.dumps({**body, "params": params}).encode() + b"\n")
            answer = json.loads(stream.readline())
            self.assertEqual(answer["result"]["content"][0]["text"], "still here")
            note("an invalid message", began, "100 ms")
            stream.close()
            with socket.create_connection(("127.0.0.1", self.lines), PATIENCE) as browser:
                browser.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + json.dumps(body).encode())
                heard = b""
                try:
                    while chunk := browser.recv(4096):
                        heard += chunk
                except ConnectionResetError:
                    pass
                self.assertNotIn(b'"id":3', heard)
            steady.more()
        self.assertEqual((steady.wrong, steady.broken), ([], []))
        with urllib.request.urlopen(f"http://127.0.0.1:{self.console}/metrics", timeout=PATIENCE) as page:
            self.assertIn(b'erlmcp_errors_total{code="-32700",method=""} 1.0', page.read())
        self.ends_well()

    def test_a_tool_raises(self) -> None:
        """Its caller gets an id that the log has too, and not what was raised; nobody else notices."""
        with Steady(self.port) as steady:
            began = time.monotonic()
            status, answer = self.client.call("fail", secret="xyzzy")
            self.assertEqual((status, answer["result"]["isError"]), (200, True))
            said = answer["result"]["content"][0]["text"]
            self.assertEqual(self.client.text("echo", text="next"), "next")
            note("a tool that raises", began, "at once")
            steady.more()
        self.assertEqual((steady.wrong, steady.broken), ([], []))
        reference = said.rpartition(" ")[2].rstrip(".")
        self.assertIn(reference, self.daemon.output())
        self.assertNotIn("xyzzy", said)
        self.assertEqual(self.status()["provider:saboteur"]["restarts"], 0)
        self.ends_well()

    def test_a_provider_crashes(self) -> None:
        """It is rebuilt from its factory; when it keeps crashing it is left alone, and readiness says so."""
        with Steady(self.port) as steady:
            self.assertEqual(self.client.text("generation_of_backend"), "1")
            for number in range(3):
                status, answer = self.client.call("crash")
                self.assertEqual(
                    (answer["error"]["code"], status), (-32603, 500 if status == 500 else status)
                )
                self.assertNotIn("state of this backend", json.dumps(answer), number)
            began = time.monotonic()
            until(lambda: self.generation() == "2")
            note("a provider that crashes", began, "1 s")
            found = self.status()["provider:fragile"]
            self.assertEqual((found["state"], found["restarts"]), ("up", 1))
            self.assertIn("the state of this backend is lost", found["error"])
            # The wait between restarts grows, so that the next ones are refused meanwhile.
            until(self.breaks)
            self.assertEqual(self.ready(), (503, "provider:fragile: it keeps crashing\n"))
            self.assertEqual(
                self.status(expected=3)["provider:fragile"]["detail"], {"refusing": "it keeps crashing"}
            )
            _, answer = self.client.call("generation_of_backend")
            self.assertIn("fragile is not available now: it keeps crashing", answer["error"]["message"])
            steady.more()
            began = time.monotonic()
            until(lambda: self.generation() not in ("", "1", "2"))
            note("a provider that kept crashing", began, "15 s, left alone")
            self.assertEqual(self.ready()[0], 200)
        self.assertEqual((steady.wrong, steady.broken), ([], []))
        self.ends_well()

    def generation(self) -> str:
        """Which backend answers; empty if none does."""
        _, answer = self.client.call("generation_of_backend")
        return "" if "error" in answer else str(answer["result"]["content"][0]["text"])

    def breaks(self) -> bool:
        """Crash it once more; whether it is left alone now."""
        _, answer = self.client.call("crash")
        return "keeps crashing" in answer["error"]["message"]

    def test_a_listener_loses_its_port(self) -> None:
        """It is made anew on the same endpoint; the other listeners go on."""
        with (
            socket.create_connection(("127.0.0.1", self.lines), PATIENCE) as line,
            Steady(self.port) as steady,
        ):
            began = time.monotonic()
            self.assertEqual(self.client.text("lose_port", port=self.lines), "lost")
            until(self.listens)
            note("a listener that has lost its port", began, "1 s")
            steady.more()
            self.assertEqual((steady.wrong, steady.broken), ([], []))
            # Those that it had are gone with it.
            line.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(line.recv(100), b"")
        found = self.status()["listen:lines"]
        self.assertEqual((found["state"], found["restarts"]), ("up", 1))
        self.assertIn("its port was closed", found["error"])
        self.ends_well()

    def test_what_cannot_be_healed(self) -> None:
        """What cannot be made anew takes its supervisor along, and that one the root: then it is systemd's turn."""
        self.pem.unlink()
        self.assertEqual(self.client.text("lose_port", port=self.tls), "lost")
        until(lambda: self.ready()[0] == 503)
        self.client.close()
        self.assertEqual(self.daemon.wait(), 1, self.daemon.output())
        said = self.daemon.output()
        self.assertIn("cannot go on: frontends ended again", said)
        self.assertIn("No such file or directory", said)
        self.assertIn("stopped", said)

    def listens(self) -> bool:
        """Whether the line listener answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.lines), PATIENCE) as line:
                line.sendall(b"{}\n")
                return b"-32600" in line.recv(1000)
        except OSError:
            return False


class WorkerFailureTests(TestCase):
    """The row of workers: each is a process of its own, and dies alone."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.port = free_port()
        self.runtime = self.folder / "run"
        config = self.folder / "erlmcp.toml"
        config.write_text(
            f"""
            [server]
            runtime = '{self.runtime}'
            workers = 2
            [[provider]]
            use = 'tests.peers.worker_provider:provider'
            [[provider]]
            use = 'tests.peers.crashing_provider:saboteur'
            [[listen]]
            transport = 'http'
            endpoint = 'tcp:{self.port}:interface=127.0.0.1'
            """
        )
        self.daemon = self.enterContext(Daemon(["--config", str(config)], [self.port]))
        until(lambda: len(self.pids()) == 2)

    def pids(self) -> dict[str, int]:
        """The processes of the workers that are up, by slot."""
        try:
            tree = ask(self.runtime, "status")["tree"]
        except AdminError:
            return {}
        found = [child for part in tree["children"] for child in part["children"]]
        return {
            one["name"]: one["detail"]["pid"]
            for one in found
            if one["name"].startswith("worker:") and one["state"] == "up"
        }

    def serves(self, pid: int) -> bool:
        """Whether new connections come to this process."""
        for _ in range(64):
            client = Client(self.port)
            try:
                if client.text("pid") == str(pid):
                    return True
            finally:
                client.close()
        return False

    def test_a_worker_is_killed(self) -> None:
        """Its connections drop, the other one serves on, and a new one listens in its place."""
        before = self.pids()
        victim = min(before)
        with contextlib.ExitStack() as stack:
            steady = [stack.enter_context(Steady(self.port)) for _ in range(8)]
            began = time.monotonic()
            os.kill(before[victim], signal.SIGKILL)
            until(lambda: self.pids().get(victim, before[victim]) != before[victim])
            now = self.pids()
            until(lambda: self.serves(now[victim]))
            note("a killed worker", began, "1 s")
            for one in steady:
                one.more()
        self.assertEqual([one.wrong for one in steady], [[]] * 8)
        # One call of each connection that it had, and no other.
        self.assertLessEqual(max(len(one.broken) for one in steady), 1)
        self.assertEqual(
            {slot: pid for slot, pid in now.items() if slot != victim}.items() - before.items(), set()
        )
        self.assertIn("signal SIGKILL", self.daemon.output())
        self.assertEqual(self.daemon.stop(), 0, self.daemon.output())
