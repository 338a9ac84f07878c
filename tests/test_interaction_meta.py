"""`_meta`: the envelope of a request, and what the server says of itself (basic/index, General fields)."""

import re
from collections.abc import Iterator
from typing import Any

from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import PREFIX, envelope

LABEL = "[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
KEY = re.compile(rf"({LABEL}(\.{LABEL})*/)?([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?")


def meta_keys(value: Any) -> Iterator[str]:
    """All keys of all `_meta` objects inside a message."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "_meta":
                yield from inner
            yield from meta_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from meta_keys(inner)


@everywhere
class Envelope(Interaction):
    """The fields that every request must carry."""

    @holds("basic.index/meta.6", "basic.index/meta.7")
    def test_missing_fields(self) -> None:
        for lacking in ("protocolVersion", "clientCapabilities"):
            sent = self.client.request("tools/list", meta={PREFIX + lacking: None}, valid=False)
            error = self.refused(sent, -32602, 400)
            self.assertIn(PREFIX + lacking, error["message"])
        for params in ({}, {"_meta": {}}, None):
            message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "server/discover"}
            if params is not None:
                message["params"] = params
            self.refused(self.client.send(message), -32602, 400)

    @holds("basic.index/meta.6", "basic.index/meta.7")
    def test_fields_of_the_wrong_kind(self) -> None:
        for key, value in (
            ("protocolVersion", 5),
            ("clientCapabilities", []),
            ("clientInfo", "x"),
            ("clientInfo", {}),
        ):
            sent = self.client.request("tools/list", meta={PREFIX + key: value}, valid=False)
            error = self.refused(sent, -32602, 400)
            self.assertIn(key, error["message"])

    @holds("basic.index/meta.6")
    def test_client_info_may_be_left_out(self) -> None:
        sent = self.client.request("tools/list", meta={PREFIX + "clientInfo": None})
        self.assertIn("tools", sent.result)

    @holds("basic.index/meta.1")
    def test_other_keys_are_left_alone(self) -> None:
        more = {
            PREFIX + "somethingNew": {"deep": [1]},
            "com.example/x": None,
            "": 5,
            "dev.mcp/y": "z",
            "vendor": [],
            "not a key!": 1,
            "traceparent": "nonsense",
        }
        message = {
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "echo", "arguments": {"text": "a"}, "_meta": {**envelope(), **more}},
        }  # fmt: skip
        self.assertEqual(self.client.send(message).text, "a")

    @holds("basic.index/meta.12", "basic.index/meta.13")
    def test_what_clients_say_of_themselves(self) -> None:
        """Whoever a client says it is, it sees and gets the same."""
        found = []
        for info in (
            None,
            {"name": "admin", "version": "1"},
            {"name": "x" * 500, "version": "", "title": "T"},
        ):
            meta = {PREFIX + "clientInfo": info}
            listed = self.client.request("tools/list", meta=meta).result
            called = self.client.call("add", {"a": 1, "b": 2}, meta=meta).result
            read = self.client.request("resources/read", {"uri": "config://settings"}, meta=meta).result
            found.append((listed, called, read))
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])


@everywhere
class Capabilities(Interaction):
    """What the client declared, and nothing more."""

    @holds(
        "basic.index/meta.8", "basic.index/meta.9", "basic.index/meta.10", "basic.patterns.mrtr/declared.1"
    )
    def test_undeclared_capabilities_are_named(self) -> None:
        cases: tuple[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]], ...] = (
            ("register", {}, {}, {"elicitation": {}}),
            ("register", {"roots": {}, "sampling": {}}, {}, {"elicitation": {}}),
            ("register", {"elicitation": {"url": {}}}, {}, {"elicitation": {"form": {}}}),
            ("visit", {"elicitation": {}}, {}, {"elicitation": {"url": {}}}),
            ("compose", {"elicitation": {}}, {}, {"sampling": {}}),
            ("compose", {"sampling": {}}, {"with_tools": True}, {"sampling": {"tools": {}}}),
            ("contextual", {"sampling": {}}, {}, {"sampling": {"context": {}}}),
            ("roots", {"sampling": {}}, {}, {"roots": {}}),
        )
        for tool, declared, arguments, required in cases:
            sent = self.client.call(tool, arguments, capabilities=declared, meta={"progressToken": 1})
            error = self.refused(sent, -32021, 400)
            self.assertEqual(error["data"]["requiredCapabilities"], required)
        for uri in ("asking://resource",):
            self.refused(self.client.request("resources/read", {"uri": uri}), -32021, 400)
        self.refused(self.client.request("prompts/get", {"name": "interview"}), -32021, 400)

    @holds("basic.index/meta.8")
    def test_declared_capabilities_are_used(self) -> None:
        for tool, declared in (
            ("register", {"elicitation": {}}),
            ("register", {"elicitation": {"form": {}}}),
            ("visit", {"elicitation": {"url": {}}}),
            ("compose", {"sampling": {}}),
            ("roots", {"roots": {"listChanged": True}}),
        ):
            sent = self.client.call(tool, capabilities=declared)
            self.assertEqual(sent.result["resultType"], "input_required")


@everywhere
class OfTheServer(Interaction):
    """`_meta` on the way out."""

    @holds("basic.index/meta.11", "server.discover/discover.2")
    def test_every_result_names_the_server(self) -> None:
        can = {"elicitation": {}}
        sent = [
            self.client.request("server/discover"),
            self.client.request("tools/list"),
            self.client.request("resources/list"),
            self.client.request("resources/templates/list"),
            self.client.request("prompts/list"),
            self.client.call("echo", {"text": "a"}),
            self.client.call("picky", {"day": "today"}),
            self.client.call("echo", {"wrong": 1}),
            self.client.call("register", capabilities=can),
            self.client.request("resources/read", {"uri": "config://settings"}),
            self.client.request("prompts/get", {"name": "review", "arguments": {"code": "x"}}),
            self.client.request(
                "completion/complete",
                {
                    "ref": {"type": "ref/prompt", "name": "review"},
                    "argument": {"name": "language", "value": "p"},
                },
            ),
        ]
        for one in sent:
            self.assertEqual(one.result["_meta"][PREFIX + "serverInfo"], {"name": "test", "version": "1.0"})

    @holds("basic.index/meta.14")
    def test_subscriptions_are_named(self) -> None:
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["config://settings"]}
        sent = self.client.request("subscriptions/listen", {"notifications": wanted}, id="s")
        self.stage.provider.notify_updated("config://settings")
        self.stage.provider.remove_tool("add")
        self.assertEqual(len(sent.notifications), 3)
        for one in sent.notifications:
            self.assertEqual(one["params"]["_meta"], {PREFIX + "subscriptionId": "s"})

    @holds("basic.index/meta.2", "basic.index/meta.3", "basic.index/meta.4")
    def test_keys_are_well_formed(self) -> None:
        self.test_every_result_names_the_server()
        self.test_subscriptions_are_named()
        found = {key for message in self.client.inbox for key in meta_keys(message)}
        self.assertEqual(found, {PREFIX + "serverInfo", PREFIX + "subscriptionId"})
        for key in found:
            self.assertIsNotNone(KEY.fullmatch(key), key)
        for key in ("a_b.c/d", "1a/x", "a-/x", "a/-"):
            self.assertIsNone(KEY.fullmatch(key), "the grammar refuses nothing")
