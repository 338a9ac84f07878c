"""Handshake sessions over the end of the daemon: told to end under traffic, or killed. Real processes."""

import contextlib
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import TestCase

from tests.daemon import PATIENCE, Daemon, free_port

ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
GREETING = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "restarts", "version": "1"},
}


class Client:
    """A client of 2025-11-25 that knows only its session id."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.session = ""
        self._number = 0

    def initialize(self) -> None:
        """Open the session."""
        status, headers, _ = self.send("POST", {"method": "initialize", "params": GREETING})
        assert status == 200, status
        self.session = headers["Mcp-Session-Id"]
        self.send("POST", {"method": "notifications/initialized"}, notification=True)

    def call(self, tool: str, **arguments: Any) -> tuple[int, list[dict[str, Any]]]:
        """The status of a call, and its messages: what came before the answer, then the answer."""
        params = {"name": tool, "arguments": arguments}
        status, _, messages = self.send("POST", {"method": "tools/call", "params": params})
        return status, messages

    def send(
        self, verb: str, body: dict[str, Any] | None = None, *, notification: bool = False
    ) -> tuple[int, http.client.HTTPMessage, list[dict[str, Any]]]:
        """Send one message on a connection of its own, and read the whole answer."""
        with self.open(verb, body, notification=notification) as response:
            return response.status, response.headers, messages(response.read())

    @contextlib.contextmanager
    def open(
        self, verb: str, body: dict[str, Any] | None = None, *, notification: bool = False
    ) -> Iterator[http.client.HTTPResponse]:
        """Send one message on a connection of its own, and wait for the head of its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {**ACCEPT, **({"Mcp-Session-Id": self.session} if self.session else {})}
        data = None
        if body is not None:
            self._number += 1
            number = {} if notification else {"id": self._number}
            data = json.dumps({"jsonrpc": "2.0", **number, **body})
        try:
            connection.request(verb, "/mcp", data, headers)
            yield connection.getresponse()
        finally:
            connection.close()


def messages(content: bytes) -> list[dict[str, Any]]:
    """The messages of an answer: one object, or a stream of events."""
    if not content.startswith((b"id:", b"data:", b"event:", b"retry:")):
        return [json.loads(content)] if content else []
    lines = content.decode().splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


class RestartTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="erlmcp-restart-")))
        self.port = free_port()
        self.settings = self.folder / "erlmcp.toml"
        self.settings.write_text(
            f'[server]\nstate = "{self.folder / "state"}"\n'
            '[[provider]]\nuse = "tests.peers.provider:provider"\n'
            f'[[listen]]\ntransport = "http"\nendpoint = "tcp:{self.port}:interface=127.0.0.1"\n'
        )
        self.client = Client(self.port)

    def daemon(self) -> Daemon:
        """A daemon with the same settings, and so the same keys and state."""
        return Daemon(["--config", str(self.settings)], [self.port])

    def test_under_traffic(self) -> None:
        """Sessions go on after SIGTERM and a start: whoever is answered at all is answered right."""
        with self.daemon() as first:
            clients = [Client(self.port) for _ in range(4)]
            for client in clients:
                client.initialize()
            clients[0].send("POST", {"method": "logging/setLevel", "params": {"level": "error"}})
            traffic = Traffic(clients)
            traffic.wait_for(20)
            self.assertEqual(first.stop(), 0, first.output())
            before = traffic.answered
        with self.daemon():
            traffic.wait_for(before + 40)
            traffic.stop()
            self.assertEqual(traffic.wrong, [])
            _, said = clients[0].call("count", to=1)
            self.assertEqual([one for one in said if one.get("method") == "notifications/message"], [])
            _, said = clients[1].call("count", to=1)
            self.assertEqual(len([one for one in said if one.get("method") == "notifications/message"]), 1)

    def test_drained(self) -> None:
        """A call in flight is answered, on the stream that it has begun, before the daemon ends."""
        params = {"name": "count", "arguments": {"to": 60}, "_meta": {"progressToken": 1}}
        with self.daemon() as daemon:
            self.client.initialize()
            with self.client.open("POST", {"method": "tools/call", "params": params}) as response:
                # The head comes with the first event, so the call is at work now.
                self.assertEqual(response.status, 200)
                self.assertEqual(daemon.stop(), 0, daemon.output())
                said = messages(response.read())
        self.assertEqual(said[-1]["result"]["content"][0]["text"], "done")
        self.assertEqual([one["params"]["progress"] for one in said[:60]], list(range(1, 61)))

    def test_ended_then_killed(self) -> None:
        """What DELETE has confirmed holds, even if the process is killed right after."""
        with self.daemon() as daemon:
            self.client.initialize()
            other = Client(self.port)
            other.initialize()
            self.assertEqual(self.client.send("DELETE")[0], 204)
            daemon.kill()
        with self.daemon():
            self.assertEqual(self.client.call("add", a=1, b=1)[0], 404)
            status, said = other.call("add", a=1, b=1)
            self.assertEqual((status, said[0]["result"]["content"][0]["text"]), (200, "2.0"))


class Traffic:
    """Clients that call without a pause, each in a thread, through refused connections."""

    def __init__(self, clients: list[Client]) -> None:
        self.answered = 0
        self.wrong: list[Any] = []
        self._over = threading.Event()
        self._one_more = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(client,), daemon=True) for client in clients
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, client: Client) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            try:
                status, said = client.call("add", a=number, b=0.5)
            except (OSError, http.client.HTTPException):
                self._over.wait(0.01)  # nobody listens for a while: that is what a restart is
                continue
            right = status == 200 and said[-1]["result"]["content"][0]["text"] == str(number + 0.5)
            with self._one_more:
                self.answered += 1
                if not right:
                    self.wrong.append((status, said))
                self._one_more.notify_all()

    def wait_for(self, answers: int) -> None:
        """Wait until so many have come, from the beginning."""
        deadline = time.monotonic() + PATIENCE
        with self._one_more:
            while self.answered < answers:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"only {self.answered} of {answers} answers have come")
                self._one_more.wait(left)

    def stop(self) -> None:
        """No more calls."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
