"""``--authorize``: the terminal's part in memory, and whole runs against a server and a browser on the loopback."""

import io
import json
import os
import stat
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from erlmcp.cli import _authorize
from erlmcp.cli._authorize import InTerminal, Line, authorization, credentials
from erlmcp.client.oauth import LOOPBACK, Redirected
from erlmcp.web import Pool, fetch
from tests.daemon import PATIENCE, ROOT, environment
from tests.oauth_doubles import Answer, Asked, AuthorizationServer, Web, of

URL = "https://as.example/authorize?client_id=c&scope=" + "s" * 300


class Reading(MemoryReactorClock):
    """A reactor that also knows who reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reading: list[Any] = []

    def addReader(self, reader: Any) -> None:  # noqa: N802 - Twisted's name
        self.reading.append(reader)

    def removeReader(self, reader: Any) -> None:  # noqa: N802 - Twisted's name
        self.reading.remove(reader)


class InTerminalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reading()
        self.out = io.StringIO()
        self.ours, self.theirs = os.pipe()
        self.addCleanup(os.close, self.ours)
        self.addCleanup(lambda: self.theirs is not None and os.close(self.theirs))
        self.visited: list[str] = []
        self.opened = threading.Event()
        self.held: list[str] = []

    def begin(self, *, terminal: bool = True) -> "Deferred[Redirected]":
        self.it = InTerminal(
            self.reactor,
            self.out,
            self.ours if terminal else None,
            visit=self.visit,
            hold=lambda: self.held.append("hold"),
            resume=lambda: self.held.append("resume"),
        )
        self.uri = self.successResultOf(Deferred.fromCoroutine(self.it.prepare("")))
        return Deferred.fromCoroutine(self.it.authorize(URL, self.uri, "st"))

    def visit(self, url: str) -> None:
        self.visited.append(url)
        self.opened.set()

    def type(self, line: bytes) -> None:
        os.write(self.theirs, line)
        [line_reader] = self.reactor.reading
        self.assertEqual((line_reader.fileno(), line_reader.logPrefix()), (self.ours, "terminal"))
        line_reader.doRead()
        self.assertEqual(self.reactor.reading, [])

    def come_back(self, answer: "Deferred[Redirected]") -> None:
        _, factory, _, _ = self.reactor.tcpServers[-1]
        factory.visited(f"GET /callback?code=c&state=st HTTP/1.1\r\nhost: {self.uri.split('/')[2]}".encode())
        self.reactor.advance(0)
        self.assertEqual(self.successResultOf(answer).code, "c")
        self.assertEqual(self.held, ["hold", "resume"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nothing_is_opened_before_the_user_agrees(self) -> None:
        answer = self.begin()
        self.assertIn(f"  {URL}\n", self.out.getvalue())
        self.assertTrue(self.out.getvalue().endswith("Open it in a browser? [y/N] "))
        self.assertEqual(self.visited, [])
        self.type(b"Y\n")
        self.assertTrue(self.opened.wait(PATIENCE))
        self.assertEqual(self.visited, [URL])
        self.come_back(answer)

    def test_a_user_who_opens_it_elsewhere(self) -> None:
        for said in (b"\n", b"n\n", b"yo\n"):
            self.held.clear()
            answer = self.begin()
            self.type(said)
            self.assertIn("Then open it yourself", self.out.getvalue())
            self.come_back(answer)
        self.assertEqual(self.visited, [])

    def test_a_browser_that_is_quicker_than_the_answer(self) -> None:
        answer = self.begin()
        self.come_back(answer)
        self.assertEqual(self.reactor.reading, [], "who asks next is alone at the terminal")
        self.assertTrue(self.out.getvalue().endswith("[y/N] \n"))

    def test_no_terminal(self) -> None:
        answer = self.begin(terminal=False)
        self.assertEqual(self.reactor.reading, [])
        self.assertIn(f"  {URL}\nOpen it in a browser on this machine within 300 s.", self.out.getvalue())
        self.come_back(answer)

    def test_given_up(self) -> None:
        answer = self.begin()
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual((self.reactor.reading, self.reactor.getDelayedCalls()), ([], []))
        self.it.done()

    def test_a_terminal_that_is_gone(self) -> None:
        said: list[bytes] = []
        line = Line(self.reactor, self.ours, said.append)  # type: ignore[arg-type]
        os.close(self.theirs)
        self.theirs = None  # type: ignore[assignment]
        line.doRead()
        line = Line(self.reactor, -1, said.append)  # type: ignore[arg-type]
        line.doRead()
        line.connectionLost(Failure(OSError()))
        self.assertEqual(said, [b"", b""])


class WhereTests(SynchronousTestCase):
    def test_the_folder_for_state(self) -> None:
        home = str(Path("~/.local/state").expanduser())
        for said, folder in (("/var/x", "/var/x"), ("relative", home), ("", home)):
            self.patch(os, "environ", {**os.environ, "XDG_STATE_HOME": said})
            self.assertEqual(credentials(), Path(folder) / "erlmcp" / "credentials.json")

    def test_what_may_be_reached(self) -> None:
        allowed: list[Any] = []

        def guarded(reactor: Any, *, allow: Any) -> str:
            allowed.append(tuple(allow))
            return "fetch"

        self.patch(os, "environ", {**os.environ, "XDG_STATE_HOME": tempfile.mkdtemp()})
        self.patch(_authorize, "GuardedFetch", guarded)
        interaction: Any = None
        for url in ("http://localhost:1/", "http://[::1]:1/", "https://a.example/"):
            self.assertEqual(authorization(Clock(), url, "", interaction)[1], "fetch")
        self.assertEqual(allowed, [LOOPBACK, LOOPBACK, ()])

    def test_a_folder_that_cannot_be_made(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            self.patch(os, "environ", {**os.environ, "XDG_STATE_HOME": file.name})
            self.assertRaisesRegex(ValueError, "where tokens are kept", authorization, Clock(), URL, "", None)


class Protected(Resource):
    """An MCP server that wants a token, and the authorization server that it names, at one origin."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.web = Web()
        self.methods: list[str] = []
        self.base = ""

    def begin(self, base: str) -> None:
        self.base = base
        self.grants = AuthorizationServer(self.web, base)
        self.web.pages[f"{base}/.well-known/oauth-protected-resource/mcp"] = of(
            200, {"resource": f"{base}/mcp", "authorization_servers": [base]}
        )
        self.web.pages[f"{base}/mcp"] = self.mcp

    def mcp(self, asked: Asked) -> Answer:
        if not asked.headers.get("authorization", "").startswith("Bearer token-"):
            return Answer(401, [(b"www-authenticate", b"Bearer")])
        message = asked.json
        self.methods.append(message["method"])
        result: dict[str, Any] = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if message["method"] == "server/discover":
            result |= {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        else:
            result["tools"] = [{"name": "secret", "inputSchema": {"type": "object"}}]
        return of(200, {"jsonrpc": "2.0", "id": message["id"], "result": result})

    def render(self, request: Any) -> bytes:
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        url = f"{self.base}{request.uri.decode()}"
        page = self.web.pages.get(url.partition("?")[0], Answer(404))
        answer: Answer = (
            page(Asked(request.method.decode(), url, headers, request.content.read()))
            if callable(page)
            else page
        )
        request.setResponseCode(answer.status)
        for name, value in answer.headers:
            request.setHeader(name, value)
        return answer.body


class Run(ProcessProtocol):
    """One run of the command: what it says, and what it is told as soon as it has said something."""

    def __init__(self) -> None:
        self.said = {1: "", 2: ""}
        self.over: Deferred[int] = Deferred()
        self.awaited: list[tuple[str, Deferred[str]]] = []

    def hear(self, text: str) -> "Deferred[str]":
        waiting: Deferred[str] = Deferred()
        self.awaited.append((text, waiting))
        self.look()
        return waiting.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]

    def look(self) -> None:
        for one in [one for one in self.awaited if one[0] in self.whole]:
            self.awaited.remove(one)
            one[1].callback(self.whole)

    @property
    def whole(self) -> str:
        return self.said[1] + self.said[2]

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803 - Twisted's names
        self.said[childFD] += data.decode()
        self.look()

    def processEnded(self, reason: Any) -> None:  # noqa: N802 - Twisted's name
        self.over.callback(reason.value.exitCode)


class RunTests(TestCase):
    """Against real sockets; the browser is a script that writes down where it is sent."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.resource = Protected()
        port = reactor.listenTCP(0, Site(self.resource), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.resource.begin(f"http://127.0.0.1:{port.getHost().port}")
        self.url = f"{self.resource.base}/mcp"
        self.opened = self.folder / "opened"
        browser = self.folder / "browser"
        browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {self.opened}\n')
        browser.chmod(0o700)
        self.variables = environment(
            {"XDG_STATE_HOME": str(self.folder / "state"), "BROWSER": f"{browser} %s"}
        )

    def start(self, *arguments: str, terminal: bool = False) -> Run:
        run = Run()
        command = [sys.executable, "-m", "erlmcp.cli", "tools", *arguments]
        reactor.spawnProcess(  # type: ignore[attr-defined]
            run, sys.executable, command, env=self.variables, path=str(ROOT), usePTY=terminal
        )
        return run

    async def agree(self, run: Run) -> None:
        """What the user's browser does with the URL that is shown."""
        said = await run.hear("/authorize?")
        [url] = [line.strip() for line in said.splitlines() if "/authorize?" in line]
        query = parse_qs(urlsplit(url).query)
        back = f"{query['redirect_uri'][0]}?{urlencode(self.resource.grants.authorize(url))}"
        pool = Pool(reactor)
        answer = await fetch(pool, "GET", back)
        self.assertEqual(answer.status, 200)
        await pool.close()

    async def test_a_user_agrees_once(self) -> None:
        run = self.start(self.url, "--authorize")
        await run.hear("within 300 s.\n")
        await self.agree(run)
        self.assertEqual((await run.over, run.said[1]), (0, "secret\n"), run.said)
        self.assertFalse(self.opened.exists(), "nobody agreed to that")
        file = self.folder / "state" / "erlmcp" / "credentials.json"
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        self.assertIn("token-1", json.dumps(json.loads(file.read_text())))
        again = self.start(self.url, "--authorize")
        self.assertEqual((await again.over, again.said), (0, {1: "secret\n", 2: ""}))

    async def test_consent_in_the_terminal(self) -> None:
        run = self.start(self.url, "--authorize", terminal=True)
        said = await run.hear("Open it in a browser? [y/N] ")
        run.transport.write(b"y\n")  # type: ignore[union-attr]
        await run.hear("Waiting for you to come back.")
        await self.agree(run)
        self.assertEqual(await run.over, 0, run.said)
        self.assertIn("secret", run.said[1])
        self.assertIn(self.opened.read_text(), said)

    async def test_without_it(self) -> None:
        run = self.start(self.url)
        self.assertEqual(await run.over, 5)
        self.assertRegex(run.said[2], "HTTP status 401\n  --authorize gets a token; --header 'Authorization")

    async def test_a_user_who_says_no(self) -> None:
        run = self.start(self.url, "--authorize")
        self.resource.grants.authorize = lambda url: {  # type: ignore[method-assign]
            "error": "access_denied",
            "state": parse_qs(urlsplit(url).query)["state"][0],
            "iss": self.resource.base,
        }
        await self.agree(run)
        self.assertEqual(await run.over, 5, run.said)
        self.assertIn("could not be authorized", run.said[2])
        self.assertIn("access_denied", run.said[2])

    async def test_a_client_that_is_registered(self) -> None:
        run = self.start(self.url, "--authorize", "--client-id", "ours")
        said = await run.hear("/authorize?")
        self.assertIn("client_id=ours", said)
        await self.agree(run)
        self.assertEqual(await run.over, 0, run.said)
        self.assertEqual(self.resource.grants.registered, 0)

    async def test_wrong_usage(self) -> None:
        for arguments, said in (
            ((self.url, "--client-id", "a"), "--client-id goes with --authorize"),
            ((self.url, "--authorize", "--header", "Authorization: x"), "give one of the two"),
            (("true", "--authorize"), "for servers at a URL"),
            (("http://example.com/mcp", "--authorize"), "http is for the loopback alone"),
        ):
            run = self.start(*arguments)
            self.assertEqual(await run.over, 2, run.said)
            self.assertIn(said, run.said[2])
