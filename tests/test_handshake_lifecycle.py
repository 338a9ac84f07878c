"""How handshake clients begin: initialize and what is agreed upon, initialized, ping (basic/lifecycle)."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from erlmcp import Provider
from tests import published_schemas
from tests.interaction.dated import REQUESTS
from tests.interaction.handshake import Handshake, each

SINCE = {"title": "2025-06-18", "icons": "2025-11-25", "websiteUrl": "2025-11-25"}


@each()
class Initialize(Handshake):
    def fresh(self, version: str, capabilities: Any = None, **options: Any) -> Any:
        client = self.client_class(self.world)
        return client.greet(version, capabilities, **options)  # type: ignore[attr-defined]

    def test_result(self) -> None:
        """The revision itself, and of the server what the revision knows."""
        result = self.fresh(self.revision).result
        self.assertEqual(result["protocolVersion"], self.revision)
        self.assertEqual(result["instructions"], "Look around.\n\nMind the gap.")
        self.assertEqual(
            set(result["serverInfo"]),
            {"name", "version", *(field for field, since in SINCE.items() if self.since(since))},
        )
        capabilities = {
            "tools": {"listChanged": True},
            "prompts": {"listChanged": True},
            "resources": {"listChanged": True, "subscribe": True},
            "logging": {},
        }
        if self.since("2025-03-26"):
            capabilities["completions"] = {}
        self.assertEqual(result["capabilities"], capabilities)

    def test_versions_that_are_not_known(self) -> None:
        """ "Otherwise, the server MUST respond with another protocol version it supports": the newest."""
        for version in ("2026-07-28", "1.0", "", "2024-11-05 "):
            self.assertEqual(self.fresh(version).result["protocolVersion"], "2025-11-25", version)

    def test_what_is_missing(self) -> None:
        whole = {
            "protocolVersion": self.revision,
            "capabilities": {},
            "clientInfo": {"name": "a", "version": "1"},
        }
        for field in whole:
            client: Any = self.client_class(self.world)
            client._agreed = self.revision
            params = {name: value for name, value in whole.items() if name != field}
            sent = client.ask("initialize", params, valid=False)
            self.refused_old(sent, -32602)
            self.assertIn(field, sent.error["message"])
            self.refused_old(client.ask("initialize", valid=False), -32602)
        for field, wrong in (
            ("clientInfo", {"name": 5}),
            ("capabilities", {"roots": 5}),
            ("protocolVersion", 1),
        ):
            client = self.client_class(self.world)
            client._agreed = self.revision
            sent = client.ask("initialize", {**whole, field: wrong}, valid=False)
            self.refused_old(sent, -32602)
            self.assertIn(field, sent.error["message"])

    def test_initialized(self) -> None:
        """The notification is taken and not answered; requests are served before it comes, too."""
        before = len(self.client.inbox)
        told = self.client.tell("notifications/initialized")
        self.assertEqual(len(self.client.inbox), before)
        if self.client.on_http:
            self.assertEqual((told.http.status, told.http.body), (202, b""))

    def test_client_notifications(self) -> None:
        """What a client may tell is taken, and has no effect where there is nothing to do."""
        before = len(self.client.inbox)
        for method, params in (
            ("notifications/roots/list_changed", None),
            ("notifications/progress", {"progressToken": "x", "progress": 1}),
            ("notifications/cancelled", {"requestId": 99}),
        ):
            told = self.client.tell(method, params)
            if self.client.on_http:
                self.assertEqual((told.http.status, told.http.body), (202, b""))
        self.assertEqual(len(self.client.inbox), before)

    def test_ids(self) -> None:
        for number in (0, -3, 2**53, "", "a-b", "é🦊", "9"):
            response = self.client.ask("ping", id=number).response
            self.assertEqual(response, {"jsonrpc": "2.0", "id": number, "result": {}})

    def test_ping(self) -> None:
        for params in (None, {}, {"_meta": {"progressToken": 1}}):
            self.assertEqual(self.client.ask("ping", params).result, {})

    def test_the_principal_may_call_itself_anything(self) -> None:
        sent = self.fresh(
            self.revision,
            {"experimental": {"x": {"y": 1}}, "unheard-of": 5},
            info={"name": "n" * 5000, "version": "v" * 5000},
        )
        self.assertEqual(sent.result["protocolVersion"], self.revision)


@each()
class Methods(Handshake):
    def test_unknown(self) -> None:
        """-32601, with HTTP 200: 404 says that a session is lost."""
        for method in ("server/dance", "tasks/list", "tasks/get", "notifications/initialized", "roots/list"):
            self.refused_old(self.client.ask(method, valid=False), -32601)

    def test_of_capabilities_that_are_not_there(self) -> None:
        self.again(Provider("empty"))
        for method, params in (
            ("tools/list", None),
            ("prompts/get", {"name": "a"}),
            ("resources/subscribe", {"uri": "a:b"}),
            ("logging/setLevel", {"level": "info"}),
            (
                "completion/complete",
                {"ref": {"type": "ref/prompt", "name": "a"}, "argument": {"name": "a", "value": ""}},
            ),
        ):
            self.refused_old(self.client.ask(method, params), -32601)

    def test_parameters_that_are_missing(self) -> None:
        for method, field in (
            ("tools/call", "name"),
            ("prompts/get", "name"),
            ("resources/read", "uri"),
            ("resources/subscribe", "uri"),
            ("resources/unsubscribe", "uri"),
            ("logging/setLevel", "level"),
            ("completion/complete", "ref"),
        ):
            for params in (None, {}):
                sent = self.client.ask(method, params, valid=False)
                self.refused_old(sent, -32602)
                self.assertIn(field, sent.error["message"])

    def test_parameters_of_the_wrong_kind(self) -> None:
        for method, params in (
            ("tools/call", {"name": 5}),
            ("tools/list", {"cursor": 5}),
            ("logging/setLevel", {"level": 5}),
            ("prompts/get", {"name": "review", "arguments": 5}),
            ("completion/complete", {"ref": {"type": "x"}, "argument": {"name": "a", "value": "b"}}),
        ):
            self.refused_old(self.client.ask(method, params, valid=False), -32602)


@each()
class AnyValid(Handshake):
    """Every message that the revision's schema admits is taken for what it is."""

    def test_greetings(self) -> None:
        @settings(max_examples=8, deadline=None, database=None)
        @given(published_schemas.values(self.revision, "InitializeRequest"))
        def check(message: Any) -> None:
            params = message["params"]
            client: Any = self.client_class(self.world)
            client._agreed = self.revision
            whole = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "initialize",
                "params": {**params, "protocolVersion": self.revision},
            }
            client.admit(whole)
            self.assertEqual(client.send(whole).result["protocolVersion"], self.revision)
            self.world.clients.remove(client)

        check()

    def test_requests(self) -> None:
        """Answered with a result of its method, or with an error that is about what it names."""
        names = [name for method, name in REQUESTS.items() if method != "initialize"]

        @settings(max_examples=20, deadline=None, database=None)
        @given(st.sampled_from(names).flatmap(lambda name: published_schemas.values(self.revision, name)))
        def check(message: Any) -> None:
            self.client._ids += 1
            parts = {key: message[key] for key in ("method", "params") if key in message}
            whole = {**parts, "jsonrpc": "2.0", "id": self.client._ids}
            self.client.admit(whole)
            sent = self.client.send(whole)
            if "error" in sent.response:
                self.assertIn(sent.code, (-32602, -32002), (whole, sent.error))
                if self.client.on_http:
                    self.assertEqual(sent.http.status, 200, (whole, sent.error))

        check()
