"""Load on a gateway before real upstreams that can be killed, hung and started again; and what became of each call."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from erlmcp.client import Client, ClientError, ServerError, http, stream
from tests.daemon import ERLMCP, TWISTD, environment, free_port

clock: Any = reactor
PROVIDER = "tests.peers.marked_provider:provider"
LONGEST = 30.0
"""Seconds in which a lost upstream is there again: docs, "Failures and what follows"."""
TIMEOUT = 6.0
"""Seconds for a call at an upstream: one that is well keeps that also while a busy machine starts another beside it."""
PAUSE = 0.03
CHILD = (*ERLMCP, "stdio", "--provider", PROVIDER)


async def until(condition: Callable[[], bool], what: str, patience: float = LONGEST) -> float:
    """Wait for it, not for ever; gives the seconds that it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience:
            raise AssertionError(f"in {patience:g} s this did not come about: {what}")
        await deferLater(clock, 0.01)
    return time.monotonic() - began


class Far:
    """One upstream: a process of its own at a port, or the gateway's child.

    Args:
        transport: ``stdio``, ``tcp`` or ``http``.
        era: as the gateway is to speak to it.
        folder: for its log.
        marks: the file where it notes what it has done.
    """

    def __init__(self, transport: str, era: str, folder: Path, marks: Path) -> None:
        self.transport = transport
        self.era = era
        self.name = f"{transport}-{'modern' if era == 'modern' else 'sessions'}"
        self.port = 0 if transport == "stdio" else free_port()
        self._marks = marks
        self._log = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def table(self) -> str:
        """It in the gateway's configuration."""
        shared = f"[[upstream]]\nname = '{self.name}'\nera = '{self.era}'\ntimeout = {TIMEOUT}\n"
        if self.transport == "stdio":
            variables = {"ERLMCP_TEST_MARKS": str(self._marks), "PYTHONPATH": environment()["PYTHONPATH"]}
            env = ", ".join(f"{key} = '{value}'" for key, value in variables.items())
            return f"{shared}transport = 'stdio'\ncommand = {list(CHILD)!r}\nenv = {{ {env} }}\n"
        if self.transport == "tcp":
            return f"{shared}transport = 'tcp'\nendpoint = 'tcp:127.0.0.1:{self.port}'\n"
        return f"{shared}transport = 'http'\nurl = 'http://127.0.0.1:{self.port}/mcp'\n"

    def start(self) -> None:
        """Begin its process, where that is ours to do; it need not listen yet."""
        if self.transport == "stdio":
            return
        listener = f"{self.transport}:tcp:{self.port}:interface=127.0.0.1"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*TWISTD, "erlmcp", "--provider", PROVIDER, "--listen", listener],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env=environment({"ERLMCP_TEST_MARKS": str(self._marks)}),
            )

    @property
    def listens(self) -> bool:
        """Whether it can be reached."""
        if self.transport == "stdio":
            return True
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5):
                return True
        except OSError:
            return False

    def send(self, number: int, child: int) -> None:
        """Send its process a signal; `child` is that process, where it is the gateway's."""
        os.kill(child if self._process is None else self._process.pid, number)

    def end(self, number: int = signal.SIGKILL) -> None:
        """End the process that is ours, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait()


class Call(NamedTuple):
    """What became of one call.

    Attributes:
        asker: who made it.
        upstream: at whom.
        ticket: its mark, which no other call has.
        once: whether it must not be done twice.
        began, ended: on the monotonic clock.
        pid: who has answered; 0 for nobody.
        wrong: what the answer was instead of its own.
        error: what came instead of an answer.
    """

    asker: str
    upstream: str
    ticket: str
    once: bool
    began: float
    ended: float
    pid: int = 0
    wrong: str = ""
    error: ClientError | None = None


class Asker:
    """A client that calls every upstream again and again, one call at a time at each.

    Args:
        name: its mark.
        target: the gateway.
        era: what it speaks.
        calls: where it notes what became of them.
    """

    def __init__(self, name: str, target: Any, era: str, calls: list[Call]) -> None:
        self.name = name
        self.client = Client(target, clock, name=name, era=era, timeout=LONGEST)
        self._calls = calls
        self._over = False
        self._loops: list[Deferred[None]] = []

    def start(self, upstreams: Iterable[str]) -> None:
        """Begin."""
        self._loops = [Deferred.fromCoroutine(self._run(upstream)) for upstream in upstreams]

    async def stop(self) -> None:
        """Let each call that is under way end, and leave."""
        self._over = True
        loops, self._loops = self._loops, []
        for loop in loops:
            await loop
        await self.client.close()

    async def _run(self, upstream: str) -> None:
        number = 0
        while not self._over:
            number += 1
            self._calls.append(
                await self._call(upstream, f"{self.name}/{upstream}/{number}", number % 2 == 1)
            )
            await deferLater(clock, PAUSE)

    async def _call(self, upstream: str, ticket: str, once: bool) -> Call:
        began = time.monotonic()
        try:
            result = await self.client.call(f"{upstream}.{'mark' if once else 'look'}", {"ticket": ticket})
        except ClientError as error:
            return Call(self.name, upstream, ticket, once, began, time.monotonic(), error=error)
        said, _, pid = result.text.partition(" ")
        good = said == ticket and pid.isdigit() and not result.is_error
        wrong = "" if good else result.text or "nothing"
        return Call(
            self.name, upstream, ticket, once, began, time.monotonic(), int(pid) if good else 0, wrong
        )


def askers(port: int, lines: int, calls: list[Call]) -> list[Asker]:
    """Clients of both eras, over HTTP and over lines."""
    url = f"http://127.0.0.1:{port}/mcp"
    found = [Asker(f"{era}-{turn}", http(clock, url), era, calls) for era in ERAS for turn in (1, 2)]
    found += [Asker(f"{era}-line", stream(clock, f"tcp:127.0.0.1:{lines}"), era, calls) for era in ERAS]
    return found


ERAS = ("modern", "2025-11-25")


def server_error(call: Call) -> ServerError:
    """The JSON-RPC error that a call was answered with.

    Raises:
        AssertionError: it was not answered by the gateway at all.
    """
    error = call.error
    assert isinstance(error, ServerError), f"{call.ticket}: {type(error).__name__}: {error}"
    return error
