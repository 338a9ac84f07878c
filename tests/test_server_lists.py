"""What the server says about itself: discovery, lists, pages, caching hints."""

from typing import Any

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.catalog import Catalog
from erlmcp.interfaces import Complete, Outcome, Principal, Request
from erlmcp.testing import Harness, MemoryExchange, permissive_gates
from tests.scripted import Scripted, text


def backend(count: int = 5) -> Scripted:
    return Scripted({f"tool-{number}": lambda request: text("") for number in range(count)})


class Discovery(SynchronousTestCase):
    def test_discover(self) -> None:
        result = Harness(backend()).send("server/discover").result
        self.assertEqual(result["supportedVersions"], ["2026-07-28"])
        self.assertEqual(set(result["capabilities"]), {"tools", "prompts", "completions", "logging"})
        self.assertEqual(result["capabilities"]["tools"], {"listChanged": True})
        self.assertEqual(result["instructions"], "Use it.")
        self.assertEqual(result["resultType"], "complete")
        self.assertGreaterEqual(result["ttlMs"], 0)
        self.assertIn(result["cacheScope"], ("public", "private"))

    def test_server_info(self) -> None:
        house = Harness(
            backend(),
            title="Test",
            website="https://example.com",
            icons=[{"src": "data:,"}],
            instructions="Mine.",
        )
        result = house.send("server/discover").result
        self.assertEqual(
            result["_meta"]["io.modelcontextprotocol/serverInfo"],
            {
                "name": "test",
                "version": "1.0",
                "title": "Test",
                "websiteUrl": "https://example.com",
                "icons": [{"src": "data:,"}],
            },
        )
        self.assertEqual(result["instructions"], "Mine.")

    def test_nothing_served(self) -> None:
        result = Harness().send("server/discover").result
        self.assertEqual(result["capabilities"], {})
        self.assertNotIn("instructions", result)


class Pages(SynchronousTestCase):
    def names(self, house: Harness) -> list[list[str]]:
        pages = []
        params: dict[str, Any] = {}
        while True:
            result = house.send("tools/list", params).result
            pages.append([tool["name"] for tool in result["tools"]])
            if "nextCursor" not in result:
                return pages
            params = {"cursor": result["nextCursor"]}

    def test_pages(self) -> None:
        """All pages together have everything, once, in one order."""
        pages = self.names(Harness(backend(), page_size=2))
        self.assertEqual(pages, [["tool-0", "tool-1"], ["tool-2", "tool-3"], ["tool-4"]])
        self.assertEqual(
            self.names(Harness(backend(4), page_size=2)), [["tool-0", "tool-1"], ["tool-2", "tool-3"]]
        )

    def test_caching_hints(self) -> None:
        """Each page says how long it may be kept, and all the same of for whom."""
        house = Harness(backend(), page_size=2)
        result = house.send("tools/list").result
        self.assertEqual((result["ttlMs"], result["cacheScope"]), (1000, "public"))

    def test_wrong_cursor(self) -> None:
        """A cursor of another list, principal or making is refused."""
        house = Harness(backend(), page_size=2)
        cursor = house.send("tools/list").result["nextCursor"]
        for method, wrong in (("tools/list", cursor[:-2]), ("tools/list", ""), ("prompts/list", cursor)):
            self.assertEqual(house.send(method, {"cursor": wrong}).error["code"], -32602)
        house.gates.authenticate.principal = Principal(id="other", kind="key")
        self.assertEqual(house.send("tools/list", {"cursor": cursor}).error["code"], -32602)

    def test_filtered(self) -> None:
        """Lists show what the principal may use; then they are for that principal alone."""
        catalog = Catalog([backend()])
        gates = permissive_gates(catalog, Clock())
        gates.authorize.everything = False  # type: ignore[misc]
        gates.authorize.shows = lambda principal, method, name: name.endswith(("1", "3"))  # type: ignore[method-assign]
        house = Harness(backend(), gates=gates, page_size=1)
        self.assertEqual([page for page in self.names(house) if page], [["tool-1"], ["tool-3"]])
        self.assertEqual(house.send("tools/list").result["cacheScope"], "private")

    def test_other_lists(self) -> None:
        house = Harness(Scripted({}, resources={"memo://a": lambda request: text("")}))
        self.assertEqual(house.send("prompts/list").result["prompts"], [{"name": "greet"}])
        self.assertEqual(
            house.send("resources/list").result["resources"], [{"uri": "memo://a", "name": "memo://a"}]
        )
        self.assertEqual(house.send("resources/templates/list").result["resourceTemplates"], [])


class Reading(SynchronousTestCase):
    def read(self, fields: dict[str, Any], params: dict[str, Any] | None = None) -> MemoryExchange:
        def memo(request: Request) -> Outcome:
            return Complete({"contents": [{"uri": request.name, "text": "x"}], **fields})

        house = Harness(Scripted({}, resources={"memo://a": memo}))
        return house.send("resources/read", {"uri": "memo://a", **(params or {})})

    def test_hints(self) -> None:
        """A read says how long it may be kept; at once stale and private where nobody said."""
        result = self.read({}).result
        self.assertEqual((result["ttlMs"], result["cacheScope"]), (0, "private"))
        result = self.read({"ttlMs": 5, "cacheScope": "public"}).result
        self.assertEqual((result["ttlMs"], result["cacheScope"]), (5, "public"))

    def test_retries_are_not_cacheable(self) -> None:
        result = self.read({"ttlMs": 5, "cacheScope": "public"}, {"inputResponses": {}}).result
        self.assertEqual((result["ttlMs"], result["cacheScope"]), (0, "private"))

    def test_unknown(self) -> None:
        exchange = Harness(Scripted({}, resources={"memo://a": lambda request: text("")})).send(
            "resources/read", {"uri": "memo://b"}
        )
        self.assertEqual(exchange.error["code"], -32602)
        self.assertEqual(exchange.error["data"], {"uri": "memo://b"})


class Prompting(SynchronousTestCase):
    def test_get(self) -> None:
        house = Harness(Scripted({}))
        result = house.send("prompts/get", {"name": "greet", "arguments": {"who": "Ann"}}).result
        self.assertEqual(result["messages"][0]["content"]["text"], "{'who': 'Ann'}")

    def test_missing_argument(self) -> None:
        self.assertEqual(Harness(Scripted({})).send("prompts/get", {"name": "greet"}).error["code"], -32602)

    def test_completion(self) -> None:
        params = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": ""}}
        result = Harness(Scripted({})).send("completion/complete", params).result
        self.assertEqual(result["completion"], {"values": ["a"]})


class Raw(SynchronousTestCase):
    def test_parts_pass_untouched(self) -> None:
        """What a backend leaves as raw bytes reaches the client as those bytes."""
        content = msgspec.Raw(b'[{"type":"text","text":"1e2"}]')
        house = Harness(
            Scripted({"raw": lambda request: Complete({"content": content, "_meta": {"mine": 1}})})
        )
        result = house.call("raw").result
        self.assertEqual(result["content"], [{"type": "text", "text": "1e2"}])
        self.assertEqual(result["_meta"]["mine"], 1)
        self.assertIn("io.modelcontextprotocol/serverInfo", result["_meta"])
