"""server/resources: lists, reading, errors, encodings."""

import base64

from erlmcp import Provider
from erlmcp.catalog import Contents
from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.stage import PNG, SECRET


async def text() -> str:
    return "text"


@everywhere
class Lists(Interaction):
    @holds("server.resources/list.1", "server.resources/list.2")
    def test_the_same_for_everybody(self) -> None:
        for method, field, uris in (
            ("resources/list", "resources",
             ["asking://resource", "broken://resource", "config://settings", "pic://logo", "waiting://resource"]),
            ("resources/templates/list", "resourceTemplates", ["user://{name}/profile"]),
        ):  # fmt: skip
            first = self.client.request(method).result
            self.assertEqual([one.get("uri", one.get("uriTemplate")) for one in first[field]], uris)
            self.client.request("resources/read", {"uri": "config://settings"})
            self.assertEqual(self.client.request(method).result, first)
            self.assertEqual(self.client.another().request(method).result, first)

    @holds("server.resources/changed.1")
    def test_the_list_changes(self) -> None:
        heard = self.client.request("subscriptions/listen", {"notifications": {"resourcesListChanged": True}})
        self.stage.provider.add_resource("new://one", text)
        self.stage.provider.add_resource("new://{two}", two)
        self.stage.provider.remove_resource("pic://logo")
        self.assertEqual(len(heard.noted("resources/list_changed")), 3)
        uris = [one["uri"] for one in self.client.request("resources/list").result["resources"]]
        self.assertIn("new://one", uris)
        self.assertNotIn("pic://logo", uris)


async def two(two: str) -> str:
    return two


@everywhere
class Reading(Interaction):
    @holds("server.resources/security.3")
    def test_binary_data(self) -> None:
        [contents] = self.client.request("resources/read", {"uri": "pic://logo"}).result["contents"]
        self.assertEqual(base64.b64decode(contents["blob"], validate=True), PNG)
        self.assertEqual((contents["mimeType"], contents["uri"]), ("image/png", "pic://logo"))
        self.assertNotIn("text", contents)

    @holds("server.resources/errors.1", "server.resources/errors.3")
    def test_what_does_not_exist(self) -> None:
        for uri in (
            "config://nowhere",
            "user://nobody/profile",
            "file:///etc/passwd",
            "CONFIG://settings",
            "config://settings/",
        ):
            error = self.refused(self.client.request("resources/read", {"uri": uri}), -32602, 200)
            self.assertEqual(error["data"], {"uri": uri})

    @holds("server.resources/errors.3")
    def test_empty_contents_are_contents(self) -> None:
        provider = Provider("p")

        @provider.resource("empty://text")
        async def empty() -> str:
            return ""

        @provider.resource("none://at-all")
        async def none() -> None:
            return None

        @provider.resource("no://parts")
        async def parts() -> list[Contents]:
            return []

        client = self.again(provider)
        [contents] = client.request("resources/read", {"uri": "empty://text"}).result["contents"]
        self.assertEqual(contents["text"], "")
        self.assertEqual(client.request("resources/read", {"uri": "none://at-all"}).code, -32603)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertTrue(client.request("resources/read", {"uri": "no://parts"}).result["contents"])

    @holds("server.resources/errors.2")
    def test_internal_errors(self) -> None:
        sent = self.client.request("resources/read", {"uri": "broken://resource"})
        self.assertEqual(sent.code, -32603)
        self.assertNotIn(SECRET, sent.error["message"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    @holds("server.resources/security.1")
    def test_uris_are_validated(self) -> None:
        for uri in (
            "", "no scheme", "user:///profile", "user://a/b/profile", "user://../profile", "user://%2e%2e/profile",
            "user://a%2Fb/profile", "user://a\nb/profile", "user://\u0000/profile", "user://ann/profile?x=1",
            "user://" + "a" * 100_000 + "/profile",
        ):  # fmt: skip
            sent = self.client.request("resources/read", {"uri": uri}, valid=False)
            # What is too long for a header never gets as far as the name.
            self.assertEqual(
                sent.code if sent.responses else sent.http.status, 431 if not sent.responses else -32602
            )
        self.assertEqual(self.stage.seen, [])
        for params in ({}, {"uri": 5}, {"uri": None}, {"uri": ["a:b"]}):
            self.assertIn(self.client.request("resources/read", params, valid=False).code, (-32602, -32020))

    @holds("server.resources/security.1")
    def test_templates_give_handlers_what_was_meant(self) -> None:
        for uri, name in (("user://ann/profile", "ann"), ("user://%C3%A9%20x/profile", "é x")):
            sent = self.client.request("resources/read", {"uri": uri})
            self.assertEqual(sent.result["contents"][0]["text"], f"profile of {name}")
            self.assertEqual(sent.result["contents"][0]["uri"], uri)


class Schemes(Interaction):
    @holds("server.resources/schemes.1")
    def test_uris_have_a_scheme(self) -> None:
        for uri in ("settings", "/etc/hosts", "1a:b", "ä:b", ":b", "a b:c", ""):
            with self.assertRaises(ValueError):
                Provider("p").add_resource(uri, text)
        for uri in ("a:b", "x-y+z.1:whatever", "HTTPS://example.com/"):
            Provider("p").add_resource(uri, text)
