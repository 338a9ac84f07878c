"""Tools that are searched, not listed: what is found, and what a call by way of `call_tool` is."""

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from erlmcp import Context, Provider
from erlmcp.catalog import NameCollision, SearchAuthorize, SearchCatalog, ToolError, _ranking, _search
from erlmcp.interfaces import Complete, IAuthorize, IBackend, Principal, Request
from erlmcp.protocol import KeyRing, McpError
from erlmcp.server import Server
from erlmcp.testing import Harness, MemoryExchange, permissive_gates
from tests.scripted import Scripted

CAN = {"elicitation": {}}
NAME = {"type": "object", "properties": {"name": {"type": "string"}}}


@implementer(IAuthorize)
class Only:
    """Each principal may use the tools that begin with its name, and nothing else."""

    everything = False

    def check(self, request: Request) -> None:
        if request.method == "tools/call" and not self.shows(request.principal, request.method, request.name):
            raise McpError(-32001, f"{request.name} is not permitted", status=403)

    def shows(self, principal: Principal, method: str, name: str) -> bool:
        return method != "tools/call" or name.startswith(principal.id)


def library() -> Provider:
    provider = Provider("library", instructions="About books.")

    @provider.tool(title="Find a book")
    async def books_find(author: str, year: int = 0) -> str:
        """Look a book up in the catalogue.

        Slow on Mondays.
        """
        return f"{author} {year}"

    @provider.tool
    async def books_lend(title: str) -> str:
        """Lend it to a reader."""
        return title

    @provider.tool(icons=["https://example.com/i.png"], meta={"example.com/x": 1})
    async def mail_send(to: str) -> dict[str, str]:
        """Send a message."""
        return {"to": to}

    @provider.tool
    async def mail_fail() -> str:
        """Always fails."""
        raise ToolError("nobody delivers")

    @provider.resource("x://a")
    async def a() -> str:
        """A resource."""
        return "a"

    return provider


class House(Harness):
    """A server that is searched."""

    def __init__(self, *backends: Any, authorize: Any = None, chosen: Any = None) -> None:
        super().__init__()
        plain = permissive_gates(self.catalog, self.clock)
        authorize = authorize or plain.authorize
        self.catalog = SearchCatalog(backends, authorize, self.clock, chosen)
        self.gates = msgspec.structs.replace(
            permissive_gates(self.catalog, self.clock), authorize=SearchAuthorize(authorize)
        )
        self.server = Server(
            name="test",
            version="1",
            catalog=self.catalog,
            gates=self.gates,
            counters=self.counters,
            key_ring=KeyRing([KeyRing.generate()]),
            engine=self.engine,
            clock=self.clock,
            wall_clock=self.clock.seconds,
        )
        self.channel = self.server.channel()

    def said(self, tool: str, **arguments: Any) -> Any:
        """What a tool says: JSON taken apart, anything else as it is."""
        [block] = self.call(tool, arguments).result["content"]
        text = block["text"]
        return msgspec.json.decode(text) if text.startswith("{") else text

    def found(self, query: str, **arguments: Any) -> list[str]:
        answer = self.said("search_tools", query=query, **arguments)
        return [one["name"] for one in answer["tools"]] if isinstance(answer, dict) else []

    def through(self, name: str, arguments: Any = None, **options: Any) -> MemoryExchange:
        """Call a tool by way of `call_tool`."""
        return self.call("call_tool", {"name": name, "arguments": arguments or {}}, **options)

    def act_as(self, name: str) -> None:
        self.gates.authenticate.principal = Principal(id=name, kind="key")  # type: ignore[attr-defined]


class Lists(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House(library())

    def test_three_tools(self) -> None:
        result = self.house.send("tools/list").result
        self.assertEqual(
            [one["name"] for one in result["tools"]], ["call_tool", "describe_tool", "search_tools"]
        )
        hints = {one["name"]: one.get("annotations", {}).get("readOnlyHint") for one in result["tools"]}
        self.assertEqual(hints, {"call_tool": None, "describe_tool": True, "search_tools": True})
        self.assertNotIn("nextCursor", result)

    def test_the_rest_as_ever(self) -> None:
        result = self.house.send("resources/list").result
        self.assertEqual([one["uri"] for one in result["resources"]], ["x://a"])
        read = self.house.send("resources/read", {"uri": "x://a"}).result
        self.assertEqual(read["contents"][0]["text"], "a")

    def test_instructions(self) -> None:
        text = self.house.send("server/discover").result["instructions"]
        self.assertIn("search_tools", text)
        self.assertIn("About books.", text)

    def test_size(self) -> None:
        """The point of it: the list costs the same, however many tools there are."""
        many = Scripted({f"tool-{number}": lambda _: Complete({"content": []}) for number in range(2000)})
        answer = House(many).send("tools/list").result
        self.assertLess(len(msgspec.json.encode(answer["tools"])), 2500)

    def test_collision(self) -> None:
        backend = Scripted({"call_tool": lambda _: Complete({"content": []})})
        error = self.assertRaises(NameCollision, House, backend)
        self.assertIn("'call_tool'", str(error))

    def test_chosen(self) -> None:
        house = House(library(), chosen=lambda name: name.startswith("mail"))
        self.assertEqual(len(house.send("tools/list").result["tools"]), 3)
        self.assertEqual(house.found("book message"), ["mail_send"])
        self.assertEqual(house.through("books_find", {"author": "x"}).error["code"], -32602)
        self.assertEqual(house.send("resources/list").error["code"], -32601)

    def test_interfaces(self) -> None:
        [facade, _] = self.house.catalog.backends
        verifyObject(IBackend, facade)
        verifyObject(IAuthorize, self.house.gates.authorize)


class Searching(SynchronousTestCase):
    def setUp(self) -> None:
        self.provider = library()
        self.house = House(self.provider)

    def test_best_first(self) -> None:
        self.assertEqual(self.house.found("book")[:2], ["books_find", "books_lend"])
        answer = self.house.said("search_tools", query="look up catalogue")
        self.assertEqual(
            answer, {"tools": [{"name": "books_find", "description": "Look a book up in the catalogue."}]}
        )

    def test_by_parameter(self) -> None:
        self.assertEqual(self.house.found("author"), ["books_find"])

    def test_limit(self) -> None:
        answer = self.house.said("search_tools", query="book mail", limit=1)
        self.assertEqual((len(answer["tools"]), answer["more"]), (1, True))
        self.assertNotIn("more", self.house.said("search_tools", query="book mail", limit=4))

    def test_nothing_found(self) -> None:
        self.assertIn("No tool here", self.house.said("search_tools", query="quux"))
        self.assertEqual(self.house.found("search tools describe"), [])

    def test_wrong_arguments(self) -> None:
        for arguments in ({}, {"query": ""}, {"query": "x", "limit": 51}, {"query": "x", "more": 1}):
            self.assertTrue(self.house.call("search_tools", arguments).result["isError"], arguments)

    def test_long_descriptions(self) -> None:
        self.provider.tool(name="long", description="word " * 100)(lambda: "")
        [one] = self.house.said("search_tools", query="long")["tools"]
        self.assertLessEqual(len(one["description"]), 240)
        self.assertTrue(one["description"].endswith(" …"))

    def test_titles_for_want_of_descriptions(self) -> None:
        self.provider.tool(name="bare", title="A title", description="")(lambda: "")
        self.provider.tool(name="barer", description="")(lambda: "")
        found = self.house.said("search_tools", query="bare barer")["tools"]
        self.assertIn({"name": "bare", "description": "A title"}, found)
        self.assertIn({"name": "barer"}, found)

    def test_follows_changes(self) -> None:
        """What comes, goes or changes is found as it is now; and no client is told that the list has changed."""
        self.assertEqual(self.house.found("message"), ["mail_send"])
        heard = self.house.send(
            "subscriptions/listen",
            {"notifications": {"toolsListChanged": True, "resourcesListChanged": True}},
        )
        before = len(heard.notifications)
        self.provider.remove_tool("mail_send")
        self.assertEqual(self.house.found("message"), [])
        self.provider.tool(name="shout", description="A loud message.")(lambda: "")
        self.assertEqual(self.house.found("message"), ["shout"])
        self.provider.remove_tool("shout")
        self.provider.tool(name="shout", description="Very loud.")(lambda: "")
        self.assertEqual((self.house.found("message"), self.house.found("loud")), ([], ["shout"]))
        self.assertEqual(len(heard.notifications), before)
        self.provider.remove_resource("x://a")
        self.assertEqual(len(heard.notifications), before + 1)

    def test_odd_definitions(self) -> None:
        """An upstream may describe its tools in ways that are not the specification's."""
        backend = Scripted({"odd": lambda _: Complete({"content": []})})
        definition = backend.definitions().tools["odd"]
        wire = {
            "name": "odd",
            "title": 1,
            "description": ["x"],
            "annotations": 0,
            "inputSchema": {"properties": {"p": 1}},
        }
        odd = msgspec.structs.replace(definition, wire=msgspec.Raw(msgspec.json.encode(wire)))
        backend._definitions = msgspec.structs.replace(backend.definitions(), tools={"odd": odd})
        house = House(backend)
        self.assertEqual(house.said("search_tools", query="p"), {"tools": [{"name": "odd"}]})
        wire["inputSchema"] = {"properties": []}
        odd = msgspec.structs.replace(definition, wire=msgspec.Raw(msgspec.json.encode(wire)))
        backend._definitions = msgspec.structs.replace(backend.definitions(), tools={"odd": odd})
        self.assertEqual(House(backend).found("odd"), ["odd"])

    def test_many_tools_in_turns(self) -> None:
        """Many tools do not hold the reactor up: they are taken in slices, and the search waits for the last."""
        self.patch(_search, "SLICE", 10)
        house = House(Scripted({f"tool-{n}": lambda _: Complete({"content": []}) for n in range(25)}))
        asked = house.call("search_tools", {"query": "24"})
        self.assertEqual((asked.replies, len(house.clock.getDelayedCalls())), ([], 1))
        house.clock.advance(0)
        self.assertIn("tool-24", asked.result["content"][0]["text"])
        self.assertEqual(house.found("23"), ["tool-23"])

    def test_too_many_tools(self) -> None:
        """Those that find no room in the index can be called all the same, and come in when there is room."""
        self.patch(_search, "MOST_DOCUMENTS", 2)
        self.patch(_ranking, "MOST_DOCUMENTS", 2)
        self.assertEqual(len(self.house.found("book mail", limit=9)), 2)
        self.assertEqual(
            self.house.through("mail_send", {"to": "me"}).result["structuredContent"], {"to": "me"}
        )
        for name in ("books_find", "books_lend"):
            self.provider.remove_tool(name)
        self.assertEqual(sorted(self.house.found("mail")), ["mail_fail", "mail_send"])


class Describing(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House(library())

    def test_as_listed(self) -> None:
        told = self.house.said("describe_tool", name="books_find")
        self.assertEqual((told["name"], told["title"]), ("books_find", "Find a book"))
        self.assertEqual(told["inputSchema"]["required"], ["author"])

    def test_without_what_is_for_programs(self) -> None:
        told = self.house.said("describe_tool", name="mail_send")
        self.assertIn("outputSchema", told)
        self.assertNotIn("icons", told)
        self.assertNotIn("_meta", told)

    def test_unknown(self) -> None:
        self.house.found("book")
        result = self.house.call("describe_tool", {"name": "book_finds"}).result
        self.assertTrue(result["isError"])
        self.assertEqual(
            result["content"][0]["text"],
            "No tool here is named 'book_finds'; there is books_find, books_lend",
        )
        for name in ("quux", "call_tool"):
            text = self.house.call("describe_tool", {"name": name}).result["content"][0]["text"]
            self.assertEqual(text, f"No tool here is named {name!r}")


class Calling(SynchronousTestCase):
    """By way of `call_tool` a call is the same as without."""

    def setUp(self) -> None:
        self.house = House(library())

    def test_same_answers(self) -> None:
        for name, arguments in (
            ("books_find", {"author": "Hergé"}),
            ("books_find", {"author": 1}),
            ("books_find", {}),
            ("mail_send", {"to": "you"}),
            ("nothing", {}),
        ):
            direct = self.house.call(name, arguments, id=7).replies
            self.assertEqual(self.house.through(name, arguments, id=7).replies, direct, name)

    def test_gates_see_the_tool(self) -> None:
        self.house.through("mail_send", {"to": "you"})
        self.assertEqual(self.house.gates.record.intents, [("tools/call", "mail_send")])  # type: ignore[attr-defined]
        [(_, name, outcome)] = self.house.gates.record.outcomes  # type: ignore[attr-defined]
        self.assertEqual((name, type(outcome)), ("mail_send", Complete))

    def test_no_arguments(self) -> None:
        result = self.house.call("call_tool", {"name": "mail_fail"}).result
        self.assertEqual((result["isError"], result["content"][0]["text"]), (True, "nobody delivers"))

    def test_wrong(self) -> None:
        for arguments, wrong in (
            ({}, "object missing required field name"),
            ({"name": 1}, "expected str, got int - at $.name"),
            ({"name": "mail_send", "arguments": '{"to": "me"}'}, "arguments: it must be an object"),
            ({"name": "mail_send", "arguments": None}, "arguments: it must be an object"),
            ({"name": "mail_send", "to": "me"}, "object contains unknown field to"),
            ({"name": "search_tools"}, "name: search_tools is called directly"),
            ({"name": "call_tool"}, "name: call_tool is called directly"),
        ):
            result = self.house.call("call_tool", arguments).result
            self.assertTrue(result["isError"])
            text = result["content"][0]["text"]
            self.assertTrue(text.startswith(f"Invalid arguments for tool call_tool: {wrong}"), text)
        missing = self.house.send("tools/call", {"name": "call_tool"}).result
        self.assertIn("missing required field name", missing["content"][0]["text"])

    def test_mirrored_headers(self) -> None:
        """The client of a tool that mirrors a parameter cannot know it, where it never saw the tool in a list."""
        provider = Provider("p")
        schema = {
            "type": "object",
            "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
            "required": ["region"],
        }

        async def place(**given: str) -> str:
            return str(given)

        provider.tool(name="place", input_schema=schema)(place)
        house = House(provider)
        fields = {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"tools/call"}
        direct = house.call(
            "place", {"region": "eu"}, exchange=MemoryExchange({**fields, b"mcp-name": b"place"})
        )
        self.assertEqual(direct.error["code"], -32020)
        exchange = MemoryExchange({**fields, b"mcp-name": b"call_tool"})
        result = house.through("place", {"region": "eu"}, exchange=exchange).result
        self.assertIn("eu", result["content"][0]["text"])

    def test_questions(self) -> None:
        """A parked call goes on with the retry, in both eras; the answers belong to this call and no other."""
        provider = Provider("p")

        @provider.tool
        async def greet(context: Context, greeting: str) -> str:
            answer = await context.elicit("Your name?", NAME)
            return f"{greeting} {answer.required()['name']}"

        house = House(provider)
        asked = house.through("greet", {"greeting": "Hi"}, capabilities=CAN).result
        self.assertEqual(asked["resultType"], "input_required")
        [key] = asked["inputRequests"]
        again = {
            "requestState": asked["requestState"],
            "inputResponses": {key: {"action": "accept", "content": {"name": "Ada"}}},
        }
        other = house.through("greet", {"greeting": "Ho"}, capabilities=CAN, params=again)
        self.assertEqual(other.error["code"], -32602)
        done = house.through("greet", {"greeting": "Hi"}, capabilities=CAN, params=again).result
        self.assertEqual(done["content"][0]["text"], "Hi Ada")

        exchange = house.initialize("2025-11-25", CAN)
        params = {"name": "call_tool", "arguments": {"name": "greet", "arguments": {"greeting": "Hey"}}}
        house.legacy("tools/call", params, exchange=exchange, id="live")
        [question] = [one for one in exchange.notifications if one.get("method") == "elicitation/create"]
        response = {
            "jsonrpc": "2.0",
            "id": question["id"],
            "result": {"action": "accept", "content": {"name": "Grace"}},
        }
        house.channel.received(msgspec.json.encode(response), exchange)
        _, last = exchange.replies[-1]
        self.assertEqual((last["id"], last["result"]["content"][0]["text"]), ("live", "Hey Grace"))


class Permitted(SynchronousTestCase):
    """Whoever may not use a tool does not find it, is not told of it, and cannot call it."""

    def setUp(self) -> None:
        self.house = House(library(), authorize=Only())
        self.house.act_as("mail")

    def test_lists(self) -> None:
        result = self.house.send("tools/list").result
        self.assertEqual(len(result["tools"]), 3)
        self.assertEqual(result["cacheScope"], "private")

    def test_search(self) -> None:
        self.assertEqual(self.house.found("book send"), ["mail_send"])
        self.house.act_as("books")
        self.assertEqual(self.house.found("book send"), ["books_find", "books_lend"])
        self.house.act_as("nobody")
        self.assertEqual(self.house.found("book send"), [])

    def test_describe(self) -> None:
        """What one may not see and what is not there look the same."""
        self.house.found("book")
        hidden = self.house.said("describe_tool", name="books_find")
        self.assertEqual(hidden, "No tool here is named 'books_find'")
        self.assertEqual(self.house.said("describe_tool", name="mail_send")["name"], "mail_send")

    def test_call(self) -> None:
        self.assertEqual(self.house.through("books_find", {"author": "x"}).error["code"], -32001)
        self.assertEqual(self.house.through("nothing").error["code"], -32001)
        self.assertEqual(
            self.house.through("mail_send", {"to": "x"}).result["structuredContent"], {"to": "x"}
        )
