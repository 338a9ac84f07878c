"""Resources, prompts and completion of the handshake revisions (server/resources, prompts, utilities/completion)."""

from typing import Any

from tests.interaction.handshake import Handshake, each
from tests.interaction.ornate import META, NOTES

NOTED = {"audience": ["user"], "priority": 0.5}


class Offers(Handshake):
    def entry(self, method: str, field: str, key: str, value: str) -> Any:
        [found] = [one for one in self.client.ask(method).result[field] if one[key] == value]
        return found

    def later(self, **fields: str) -> set[str]:
        return {name.replace("meta", "_meta") for name, since in fields.items() if self.since(since)}


@each()
class Resources(Offers):
    def test_list(self) -> None:
        entry = self.entry("resources/list", "resources", "uri", "memo://text")
        known = self.later(title="2025-06-18", meta="2025-06-18", icons="2025-11-25")
        fields = {"uri", "name", "description", "mimeType", "annotations", "size"}
        self.assertEqual(set(entry) | {"size"}, fields | known)
        self.assertEqual(entry["annotations"], NOTES if self.since("2025-06-18") else NOTED)

    def test_templates(self) -> None:
        entry = self.entry(
            "resources/templates/list", "resourceTemplates", "uriTemplate", "memo://{name}/page"
        )
        known = self.later(title="2025-06-18", meta="2025-06-18", icons="2025-11-25")
        self.assertEqual(
            set(entry), {"uriTemplate", "name", "description", "mimeType", "annotations"} | known
        )

    def test_read(self) -> None:
        [text] = self.client.ask("resources/read", {"uri": "memo://text"}).result["contents"]
        expected: dict[str, Any] = {"uri": "memo://text", "mimeType": "text/plain", "text": "text"}
        self.assertEqual(text, {**expected, "_meta": META} if self.since("2025-06-18") else expected)
        [blob] = self.client.ask("resources/read", {"uri": "memo://blob"}).result["contents"]
        self.assertEqual((blob["mimeType"], blob["blob"]), ("image/png", "iVBORw0KGgo="))
        [page] = self.client.ask("resources/read", {"uri": "memo://a/page"}).result["contents"]
        self.assertEqual((page["uri"], page["text"]), ("memo://a/page", "page a"))

    def test_not_there(self) -> None:
        """-32002, which 2026-07-28 has given up, with the URI in data (server/resources, Error Handling)."""
        for method in ("resources/read", "resources/subscribe"):
            for uri in ("memo://nothing", "user://nobody/profile")[
                : 1 if method == "resources/subscribe" else 2
            ]:
                error = self.refused_old(self.client.ask(method, {"uri": uri}), -32002)
                self.assertEqual(error["data"], {"uri": uri})

    def test_broken(self) -> None:
        error = self.refused_old(self.client.ask("resources/read", {"uri": "broken://resource"}), -32603)
        self.assertNotIn("swordfish", str(error))
        self.flushLoggedErrors(RuntimeError)

    def test_subscription(self) -> None:
        """Updates of what was subscribed to, until that is taken back."""
        if self.client.on_http:
            self.client.listen()
        notify = self.ornate.provider.notify_updated
        notify("memo://text")
        for uri in ("memo://text", "memo://a/page"):
            self.assertEqual(self.client.ask("resources/subscribe", {"uri": uri}).result, {})
        for uri in ("memo://text", "memo://a/page", "memo://blob", "memo://b/page"):
            notify(uri)
        told = [one["params"] for one in self.client.told("resources/updated")]
        self.assertEqual(told, [{"uri": "memo://text"}, {"uri": "memo://a/page"}])
        self.assertEqual(self.client.ask("resources/unsubscribe", {"uri": "memo://text"}).result, {})
        notify("memo://text")
        notify("memo://a/page")
        self.assertEqual(len(self.client.told("resources/updated")), 3)
        self.assertEqual(self.client.ask("resources/unsubscribe", {"uri": "memo://never"}).result, {})

    def test_sessions_do_not_hear_of_each_other(self) -> None:
        other = self.connect()
        for client in (self.client, other):
            if client.on_http:
                client.listen()
        self.client.ask("resources/subscribe", {"uri": "memo://text"})
        self.ornate.provider.notify_updated("memo://text")
        self.assertEqual(len(self.client.told("resources/updated")), 1)
        self.assertEqual(other.told("resources/updated"), [])
        self.stage.provider.remove_tool("echo")
        self.assertEqual([len(one.told("tools/list_changed")) for one in (self.client, other)], [1, 1])


@each()
class Prompts(Offers):
    def test_list(self) -> None:
        entry = self.entry("prompts/list", "prompts", "name", "critique")
        known = self.later(title="2025-06-18", meta="2025-06-18", icons="2025-11-25")
        self.assertEqual(set(entry), {"name", "description", "arguments"} | known)
        self.assertEqual([one["name"] for one in entry["arguments"]], ["code", "language"])

    def test_get(self) -> None:
        result = self.client.ask("prompts/get", {"name": "critique", "arguments": {"code": "x"}}).result
        kinds = ["text", "text", "image", "audio", "resource", "resource_link"]
        if not self.since("2025-03-26"):
            kinds[3] = "text"
        if not self.since("2025-06-18"):
            kinds[5] = "text"
        self.assertEqual([one["content"]["type"] for one in result["messages"]], kinds)
        self.assertEqual([one["role"] for one in result["messages"]], ["user", "assistant"] + 4 * ["user"])
        self.assertEqual(result["description"], "Have code reviewed.")

    def test_refusals(self) -> None:
        self.refused_old(self.client.ask("prompts/get", {"name": "nobody"}), -32602)
        self.refused_old(self.client.ask("prompts/get", {"name": "critique"}), -32602)
        wrong = {"name": "critique", "arguments": {"code": 5}}
        self.refused_old(self.client.ask("prompts/get", wrong, valid=False), -32602)
        self.refused_old(self.client.ask("prompts/get", {"name": "hopeless"}), -32603)
        self.flushLoggedErrors(RuntimeError)


@each()
class Completion(Offers):
    def complete(self, ref: Any, argument: str, value: str, **more: Any) -> Any:
        params = {"ref": ref, "argument": {"name": argument, "value": value}, **more}
        return self.client.ask("completion/complete", params)

    def test_prompts(self) -> None:
        ref = {"type": "ref/prompt", "name": "critique"}
        self.assertEqual(
            self.complete(ref, "language", "p").result["completion"]["values"], ["perl", "python"]
        )
        self.assertEqual(self.complete(ref, "code", "p").result["completion"]["values"], [])

    def test_templates(self) -> None:
        """At most a hundred values, and how many there are."""
        ref = {"type": "ref/resource", "uri": "memo://{name}/page"}
        found = self.complete(ref, "name", "a").result["completion"]
        self.assertEqual((len(found["values"]), found["hasMore"]), (100, True))

    def test_context(self) -> None:
        """From 2025-06-18 on with the arguments that are settled."""
        ref = {"type": "ref/prompt", "name": "critique"}
        settled = {"arguments": {"code": "ruby"}}
        if self.since("2025-06-18"):
            found = self.complete(ref, "language", "", context=settled).result["completion"]
            self.assertEqual(found["values"], ["ruby"])
        self.assertEqual(
            self.complete(ref, "language", "").result["completion"]["values"], ["perl", "python"]
        )

    def test_what_is_not_there(self) -> None:
        self.refused_old(self.complete({"type": "ref/prompt", "name": "nobody"}, "a", ""), -32602)
        self.refused_old(self.complete({"type": "ref/resource", "uri": "memo://{x}"}, "x", ""), -32602)
