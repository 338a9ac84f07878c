"""Views put together: who shows what, and that what one view gives a client is nothing to another."""

from pathlib import Path
from typing import Any

import msgspec

from erlmcp import Context, Provider, ToolError, tap
from erlmcp.server import Views
from erlmcp.tap import StartFailed
from erlmcp.tap._views import globs
from erlmcp.testing import MemoryExchange
from tests.test_tap_assembly import AssemblyTestCase

CAN = {"elicitation": {}}
NAME = {"type": "object", "properties": {"name": {"type": "string"}}}

files = Provider("files", instructions="Files.")
mail = Provider("mail", instructions="Mail.")
clash = Provider("clash")


@files.tool
async def files_read(path: str) -> str:
    """Read a file."""
    return path


@files.tool
async def files_delete(path: str) -> str:
    """Delete a file."""
    raise ToolError(path)


@files.tool
async def files_ask(context: Context) -> str:
    """Ask for a name."""
    answer = await context.elicit("Your name?", NAME)
    return str(answer.required()["name"])


@files.resource("file:///public")
async def public() -> str:
    return "public"


@files.resource("file:///{name}")
async def any_file(name: str) -> str:
    return name


@mail.tool
async def mail_send(to: str) -> str:
    """Send a message."""
    return to


@clash.tool
async def call_tool() -> str:
    return ""


BACKENDS = "".join(f'[[provider]]\nuse = "{__name__}:{name}"\n' for name in ("files", "mail"))


class Client:
    """One client of a channel, modern, and of the handshake era over HTTP."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def send(self, method: str, params: dict[str, Any] | None = None, headers: Any = None) -> MemoryExchange:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": CAN,
        }
        return self.give({"method": method, "params": {**(params or {}), "_meta": meta}}, headers)

    def give(self, message: dict[str, Any], headers: Any = None) -> MemoryExchange:
        exchange = MemoryExchange(headers)
        self.channel.received(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, **message}), exchange)
        return exchange

    def call(self, name: str, arguments: dict[str, Any] | None = None, **params: Any) -> MemoryExchange:
        return self.send("tools/call", {"name": name, "arguments": arguments or {}, **params})

    def names(self, method: str = "tools/list") -> list[str]:
        found = self.send(method).result
        [entries] = [value for value in found.values() if isinstance(value, list)]
        key = "name" if method == "tools/list" else "uri"
        return [one.get(key) or one["uriTemplate"] for one in entries]

    def about(self) -> tuple[Any, str]:
        result = self.send("server/discover").result
        return result["_meta"]["io.modelcontextprotocol/serverInfo"], result.get("instructions", "")

    def initialize(self) -> dict[bytes, bytes]:
        """Open a session over HTTP; gives its header fields."""
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        exchange = self.give({"method": "initialize", "params": params}, {})
        [fields] = exchange.reply_headers
        return {b"mcp-protocol-version": b"2025-11-25", b"mcp-session-id": dict(fields)[b"Mcp-Session-Id"]}

    def pings(self, headers: dict[bytes, bytes]) -> int:
        return self.give({"method": "ping"}, headers).status


class ViewCase(AssemblyTestCase):
    def clients(self, text: str, *, before: str = BACKENDS) -> list[Client]:
        """Those of the listeners, in order; the configuration's further paths are in `self.paths`."""
        parts = self.assemble(self.settings(before + text))
        self.addCleanup(parts.server.stop)
        self.parts = parts
        self.paths = [
            {name: Client(channel) for name, channel in one.views.items()} for one in self.transport.contexts
        ]
        return [Client(one.channel) for one in self.transport.contexts]


class Shown(ViewCase):
    def test_everything_and_a_view(self) -> None:
        everything, view = self.clients(
            """
            [server]
            name = "house"
            title = "The house"
            instructions = "All of it."
            [[server_view]]
            name = "team-a"
            title = "Team A"
            backends = ["mail"]
            [[listen]]
            transport = "fake"
            [[listen]]
            transport = "fake"
            view = "team-a"
            """
        )
        self.assertEqual(everything.names(), ["files_ask", "files_delete", "files_read", "mail_send"])
        self.assertEqual(view.names(), ["mail_send"])
        info, text = everything.about()
        self.assertEqual((info["name"], info["title"], text), ("house", "The house", "All of it."))
        info, text = view.about()
        self.assertEqual((info["name"], info["title"], text), ("team-a", "Team A", "Mail."))
        self.assertEqual(view.call("mail_send", {"to": "x"}).result["content"][0]["text"], "x")
        self.assertEqual(view.call("files_read", {"path": "x"}).error["code"], -32602)
        self.assertEqual(view.send("resources/list").error["code"], -32601)

    def test_instructions(self) -> None:
        [view] = self.clients(
            "[[server_view]]\nname = 'a'\ninstructions = 'Mine.'\n[[listen]]\ntransport = 'fake'\nview = 'a'\n"
        )
        self.assertEqual(view.about()[1], "Mine.")
        self.assertEqual(len(view.names()), 4)

    def test_globs(self) -> None:
        [view] = self.clients(
            """
            [[server_view]]
            name = "readers"
            backends = ["files"]
            allow = ["files_*", "file:*"]
            deny = ["*_delete", "file:///secret*"]
            [[listen]]
            transport = "fake"
            view = "readers"
            """
        )
        self.assertEqual(view.names(), ["files_ask", "files_read"])
        self.assertEqual(view.call("files_delete", {"path": "x"}).error["code"], -32602)
        self.assertEqual(view.names("resources/list"), ["file:///public"])
        self.assertEqual(view.names("resources/templates/list"), ["file:///{name}"])
        read = view.send("resources/read", {"uri": "file:///plain"}).result
        self.assertEqual(read["contents"][0]["text"], "plain")
        # The template is offered; what it would make of this URI is not.
        self.assertEqual(view.send("resources/read", {"uri": "file:///secrets"}).error["code"], -32602)

    def test_search(self) -> None:
        """For a view, for a listener of everything, and against what the view says."""
        three = ["call_tool", "describe_tool", "search_tools"]
        view, everything, plain = self.clients(
            """
            [[server_view]]
            name = "a"
            backends = ["files"]
            expose = "search"
            [[listen]]
            transport = "fake"
            view = "a"
            [[listen]]
            transport = "fake"
            expose = "search"
            [[listen]]
            transport = "fake"
            view = "a"
            expose = "all"
            """
        )
        self.assertEqual((view.names(), everything.names()), (three, three))
        self.assertEqual(plain.names(), ["files_ask", "files_delete", "files_read"])
        for client, found in ((view, False), (everything, True)):
            answer = client.call("search_tools", {"query": "send message"}).result["content"][0]["text"]
            self.assertEqual("mail_send" in answer, found)
        done = view.call("call_tool", {"name": "files_read", "arguments": {"path": "x"}}).result
        self.assertEqual(done["content"][0]["text"], "x")
        self.assertIn(
            ("tools/call", "files_read", "complete", "memory", "modern"), self.parts.counters.requests
        )

    def test_paths(self) -> None:
        """A listener's further paths show the views that they name, as these are."""
        text = """
            [[server_view]]
            name = "a"
            backends = ["mail"]
            [[server_view]]
            name = "b"
            expose = "search"
            [[listen]]
            transport = "fake"
            views = { "/a" = "a", "/also-a" = "a", "/b" = "b" }
            """
        self.transports["fake"] = self.transport = WithPaths()
        [main] = self.clients(text)
        [paths] = self.paths
        self.assertEqual(set(paths), {"a", "b"})
        self.assertEqual(
            (len(main.names()), paths["a"].names(), len(paths["b"].names())), (4, ["mail_send"], 3)
        )

    def test_problems(self) -> None:
        text = (
            f"{BACKENDS}[[server_view]]\nname = 'a'\nbackends = ['files', 'mial']\n"
            f"[[provider]]\nuse = '{__name__}:clash'\n"
            "[[listen]]\ntransport = 'fake'\nview = 'a'\nexpose = 'search'\n"
            "[[listen]]\ntransport = 'fake'\nexpose = 'search'\n"
        )
        backends, exposed = self.problems(self.settings(text))
        self.assertEqual(backends, "7 server_view[1].backends: no provider or upstream is named 'mial'")
        self.assertTrue(
            exposed.startswith("16 listen[2].expose: both 'erlmcp:search' and 'clash' offer"), exposed
        )

    def test_changes(self) -> None:
        """A view tells of changes in what it shows, and of no others."""
        everything, view = self.clients(
            "[[server_view]]\nname = 'a'\nbackends = ['mail']\n[[listen]]\ntransport = 'fake'\n"
            "[[listen]]\ntransport = 'fake'\nview = 'a'\n"
        )
        wanted = {"notifications": {"toolsListChanged": True}}
        heard = [client.send("subscriptions/listen", wanted) for client in (everything, view)]
        files.tool(name="files_new")(files_read)
        self.addCleanup(lambda: "files_new" in files.definitions().tools and files.remove_tool("files_new"))
        self.assertEqual([len(one.notifications) for one in heard], [2, 1])
        mail.tool(name="mail_new")(files_read)
        mail.remove_tool("mail_new")
        self.assertEqual([len(one.notifications) for one in heard], [4, 3])


class WithPaths:
    """A transport that has paths."""

    class Options(msgspec.Struct, frozen=True):
        views: dict[str, str] = {}

    name = "fake"
    options = Options

    def __init__(self) -> None:
        self.contexts: list[Any] = []

    def listener(self, context: Any, options: Any) -> Any:
        del options
        self.contexts.append(context)
        return object()


class Apart(ViewCase):
    """What a client holds of one view opens nothing in another."""

    def setUp(self) -> None:
        super().setUp()
        self.everything, self.a, self.b, self.searched = self.clients(
            """
            [server]
            page_size = 1
            [[server_view]]
            name = "a"
            [[server_view]]
            name = "b"
            [[listen]]
            transport = "fake"
            [[listen]]
            transport = "fake"
            view = "a"
            [[listen]]
            transport = "fake"
            view = "b"
            [[listen]]
            transport = "fake"
            view = "b"
            expose = "search"
            """
        )

    def others(self) -> list[Client]:
        return [self.everything, self.b, self.searched]

    def test_cursors(self) -> None:
        cursor = self.a.send("tools/list").result["nextCursor"]
        for other in self.others():
            self.assertEqual(other.send("tools/list", {"cursor": cursor}).error["code"], -32602)
        self.assertIn("tools", self.a.send("tools/list", {"cursor": cursor}).result)

    def test_request_state(self) -> None:
        asked = self.a.call("files_ask").result
        [key] = asked["inputRequests"]
        again = {
            "requestState": asked["requestState"],
            "inputResponses": {key: {"action": "accept", "content": {"name": "Ada"}}},
        }
        for other in self.others():
            self.assertEqual(other.call("files_ask", **again).error["code"], -32602)
        self.assertEqual(self.a.call("files_ask", **again).result["content"][0]["text"], "Ada")

    def test_sessions(self) -> None:
        fields = self.a.initialize()
        self.assertEqual(self.a.pings(fields), 200)
        for other in self.others():
            self.assertEqual(other.pings(fields), 404)

    def test_shared(self) -> None:
        """One gate counts what is at work in all of them, whoever it is for."""
        asked = [client.call("files_ask") for client in (self.a, self.b)]
        self.assertEqual([one.result["resultType"] for one in asked], ["input_required"] * 2)
        server = self.parts.server
        self.assertEqual((server.quiet, server.in_flight), (False, 0))
        heard = [
            client.send("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            for client in (self.everything, self.a)
        ]
        self.assertEqual(server.in_flight, 2)
        server.retire()
        self.assertEqual([len(one.replies) for one in heard], [1, 1])
        drained = server.drain()
        self.successResultOf(drained)
        self.assertTrue(server.quiet)

    def test_views(self) -> None:
        server = self.parts.server
        self.assertIs(server.view(""), server.main)
        self.assertIsNot(server.view("a"), server.main)
        self.assertRaises(KeyError, server.view, "c")
        self.assertIsInstance(server, Views)


class Globs(AssemblyTestCase):
    def test_all(self) -> None:
        self.assertIsNone(globs(("x", "*"), ()))

    def test_some(self) -> None:
        for allow, deny, chosen in (
            (("*",), ("b*",), ["a", "A"]),
            (("a", "b?"), (), ["a", "bc"]),
            (("*",), ("*",), []),
            ((), (), []),
            (("[!a]*",), (), ["A", "b", "bc"]),
        ):
            choose = globs(allow, deny)
            assert choose is not None
            self.assertEqual([name for name in ("a", "A", "b", "bc") if choose(name)], chosen, (allow, deny))


class Commands(AssemblyTestCase):
    """What the ``erlmcp`` command makes of views."""

    def test_notes(self) -> None:
        """A view that nobody is shown is no mistake, and is said."""
        file = Path(self.mktemp())
        views = "".join(f"[[server_view]]\nname = '{name}'\n" for name in "abc")
        file.write_text(
            f"{BACKENDS}{views}[[listen]]\ntransport = 'http'\nview = 'a'\nviews = {{ '/b' = 'b' }}\n"
            "endpoint = 'tcp:0:interface=127.0.0.1'\n"
        )
        found = tap.examine(file)
        self.assertEqual(found.problems, [])
        self.assertEqual(found.notes, ["server_view[3]: no [[listen]] shows c; `erlmcp stdio --view c` does"])

    def test_stdio_of_a_view_that_is_not_there(self) -> None:
        file = Path(self.mktemp())
        file.write_text(f"{BACKENDS}[[server_view]]\nname = 'team-a'\n")
        error = self.assertRaises(StartFailed, tap.serve_stdio, file, [], view="teem-a")
        self.assertEqual(
            str(error), "--view: no [[server_view]] is named 'teem-a'; did you mean team-a? (known is team-a)"
        )
