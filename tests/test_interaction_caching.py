"""server/utilities/caching."""

from typing import Any

from erlmcp import Provider
from erlmcp.interfaces import Complete
from tests.interaction.cases import Interaction, everywhere, holds

CACHEABLE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("server/discover", {}),
    ("tools/list", {}),
    ("prompts/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "config://settings"}),
    ("resources/read", {"uri": "user://ann/profile"}),
)


async def nothing() -> str:
    return ""


@everywhere
class Hints(Interaction):
    @holds("server.utilities.caching/hints.1", "server.utilities.caching/ttl.1")
    def test_of_every_cacheable_result(self) -> None:
        for method, params in CACHEABLE:
            result = self.client.request(method, params).result
            self.assertIs(type(result["ttlMs"]), int)
            self.assertGreaterEqual(result["ttlMs"], 0)
            self.assertIn(result["cacheScope"], ("public", "private"))
        self.assertEqual(self.client.request("tools/list").result["ttlMs"], 5000)
        settings = self.client.request("resources/read", {"uri": "config://settings"}).result
        self.assertEqual((settings["ttlMs"], settings["cacheScope"]), (9000, "public"))

    @holds("server.utilities.caching/hints.1")
    def test_of_no_interim_result_and_of_no_other(self) -> None:
        can = {"elicitation": {}}
        sent = [
            self.client.request("resources/read", {"uri": "asking://resource"}, capabilities=can),
            self.client.call("register", capabilities=can),
            self.client.call("echo", {"text": "a"}),
            self.client.request("prompts/get", {"name": "review", "arguments": {"code": "x"}}),
        ]
        for one in sent:
            self.assertNotIn("ttlMs", one.result)
            self.assertNotIn("cacheScope", one.result)

    @holds("server.utilities.caching/ttl.1")
    def test_negative_times_are_refused(self) -> None:
        with self.assertRaises(ValueError):
            Provider("p", ttl=-1)
        with self.assertRaises(ValueError):
            Provider("p").add_resource("a:b", nothing, ttl=-0.001)
        with self.assertRaises(ValueError):
            Provider("p").add_resource("a:b", nothing, cache_scope="shared")

    @holds("server.utilities.caching/retries.1")
    def test_what_a_retry_came_to(self) -> None:
        uri = {"uri": "asking://resource"}
        can = {"elicitation": {}}
        answers = {"sure": {"action": "accept", "content": {"value": True}}}
        state = self.client.request("resources/read", uri, capabilities=can).result["requestState"]
        for more in ({"requestState": state, "inputResponses": answers}, {"inputResponses": answers}):
            result = self.client.request("resources/read", {**uri, **more}, capabilities=can).result
            self.assertEqual(result["contents"][0]["text"], "sure: True")
            self.assertEqual((result["ttlMs"], result["cacheScope"]), (0, "private"))
        given = self.client.request(
            "resources/read", {"uri": "config://settings", "inputResponses": answers}
        ).result
        self.assertEqual((given["ttlMs"], given["cacheScope"]), (0, "private"))

    @holds("server.utilities.caching/pages.1")
    def test_one_scope_for_all_pages(self) -> None:
        client = self.again(self.stage.provider, page_size=4)
        scopes, params = set(), {}
        while True:
            result = client.request("tools/list", params).result
            scopes.add(result["cacheScope"])
            if "nextCursor" not in result:
                break
            params = {"cursor": result["nextCursor"]}
        self.assertEqual(scopes, {"public"})

    @holds("server.utilities.caching/security.1")
    def test_private_unless_said_otherwise(self) -> None:
        for uri in ("user://ann/profile", "pic://logo"):
            result = self.client.request("resources/read", {"uri": uri}).result
            self.assertEqual((result["ttlMs"], result["cacheScope"]), (0, "private"))
        provider = Provider("p")

        @provider.resource("bare:result")
        async def bare() -> Complete:
            return Complete({"contents": [{"uri": "bare:result", "text": ""}]})

        result = self.again(provider).request("resources/read", {"uri": "bare:result"}).result
        self.assertEqual((result["ttlMs"], result["cacheScope"]), (0, "private"))
