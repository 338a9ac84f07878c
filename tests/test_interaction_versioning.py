"""Versions, extensions, and clients of earlier revisions (basic/versioning); server/discover."""

from typing import Any

from erlmcp import Provider
from tests.interaction.cases import Interaction, everywhere, holds
from tests.interaction.clients import PREFIX
from tests.interaction.handshake import OLD_TRANSPORTS

HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


@everywhere
class Negotiation(Interaction):
    @holds("basic.versioning/negotiation.1", "basic.transports.streamable-http/version.2")
    def test_unsupported_versions(self) -> None:
        for version in (*HANDSHAKE, "2026-07-29", "1900-01-01", "", "draft", "2026-07-28 "):
            for method, params in (
                ("server/discover", {}),
                ("tools/call", {"name": "echo"}),
                ("no/such", {}),
            ):
                sent = self.client.request(
                    method, params, meta={PREFIX + "protocolVersion": version}, valid=False
                )
                if self.client.on_http and version != version.strip():
                    self.refused(sent, -32020, 400)  # a header cannot say it, so it differs
                    continue
                error = self.refused(sent, -32022, 400)
                self.assertEqual(error["data"], {"supported": ["2026-07-28"], "requested": version})

    @holds("basic.versioning/negotiation.2", "server.discover/discover.1")
    def test_discover(self) -> None:
        result = self.client.request("server/discover").result
        self.assertEqual(result["supportedVersions"], ["2026-07-28"])
        self.assertEqual(result["instructions"], "Mind the gap.")
        self.assertEqual(
            result["capabilities"],
            {
                "tools": {"listChanged": True},
                "prompts": {"listChanged": True},
                "resources": {"listChanged": True, "subscribe": True},
                "completions": {},
                "logging": {},
            },
        )

    @holds("basic.versioning/extensions.1")
    def test_no_extension_is_advertised(self) -> None:
        self.assertNotIn("extensions", self.client.request("server/discover").result["capabilities"])

    @holds("basic.versioning/extensions.2")
    def test_extensions_of_the_client_change_nothing(self) -> None:
        extensions = {
            "io.modelcontextprotocol/tasks": {},
            "io.modelcontextprotocol/ui": {"mimeTypes": ["text/html"]},
        }
        plain = self.client.call("add", {"a": 1, "b": 2}).result
        extended = self.client.call("add", {"a": 1, "b": 2}, capabilities={"extensions": extensions}).result
        self.assertEqual(plain, extended)
        self.assertEqual(
            self.client.request("tasks/get", {"taskId": "1"}, capabilities={"extensions": extensions}).code,
            -32601,
        )


@everywhere
class Handshake(Interaction):
    """Clients that do not speak this revision."""

    @holds("basic.versioning/handshake.1")
    def test_initialize(self) -> None:
        """It selects the era of its own connection or session, and of nobody else's."""
        [kind] = [one for one in OLD_TRANSPORTS if one.transport == self.client.transport]
        for version in HANDSHAKE:
            old: Any = kind(self.world)
            self.assertEqual(old.greet(version).result["protocolVersion"], version)
            self.assertEqual(old.tool("echo", {"text": version}).text, version)
        self.assertEqual(self.client.call("echo", {"text": "x"}).result["resultType"], "complete")

    @holds("basic.versioning/negotiation.1")
    def test_other_handshake_messages(self) -> None:
        """They are told what is missing, and run nothing."""
        for method, params in (
            ("tools/call", {"name": "echo", "arguments": {"text": "x"}}),
            ("tools/list", {}),
        ):
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            self.refused(self.client.send(message), -32602, 400)
        self.assertEqual(self.stage.seen, [])


@everywhere
class Declared(Interaction):
    """What a server declares is what its provider offers, and methods of the rest are unknown."""

    @holds(
        "server.tools/capability.1", "server.resources/capability.1", "server.prompts/capability.1",
        "server.utilities.completion/capability.1", "server.utilities.logging/capability.1",
        "server.utilities.completion/errors.1", "basic.transports.streamable-http/version.3",
    )  # fmt: skip
    def test_capabilities(self) -> None:
        ref = {"type": "ref/prompt", "name": "p"}
        methods = {
            "tools": (("tools/list", {}), ("tools/call", {"name": "t"})),
            "resources": (
                ("resources/list", {}),
                ("resources/templates/list", {}),
                ("resources/read", {"uri": "a:b"}),
            ),
            "prompts": (("prompts/list", {}), ("prompts/get", {"name": "p"})),
            "completions": (("completion/complete", {"ref": ref, "argument": {"name": "a", "value": ""}}),),
        }
        bare = Provider("bare")
        client = self.again(bare)
        self.assertEqual(client.request("server/discover").result["capabilities"], {})
        for group in methods.values():
            for method, params in group:
                self.refused(client.request(method, params), -32601, 404)

        @bare.tool
        async def t() -> str:
            return ""

        self.assertEqual(set(client.request("server/discover").result["capabilities"]), {"tools"})
        self.assertEqual(client.call("t").text, "")
        self.refused(client.request("prompts/list"), -32601, 404)

        @bare.prompt
        async def p(a: str = "") -> str:
            return a

        @bare.completion("p", "a")
        async def suggest(value: str) -> list[str]:
            return [value]

        @bare.resource("a:b")
        async def b() -> str:
            return "b"

        declared = set(client.request("server/discover").result["capabilities"])
        self.assertEqual(declared, {"tools", "resources", "prompts", "completions"})
        for group in methods.values():
            for method, params in group:
                self.assertIn("resultType", client.request(method, params).result)

    @holds("server.utilities.logging/capability.1")
    def test_logging_is_declared_by_who_may_log(self) -> None:
        self.assertIn("logging", self.client.request("server/discover").result["capabilities"])
        self.assertEqual(
            len(self.client.call("talk", meta={PREFIX + "logLevel": "debug"}).noted("message")), 8
        )

    @holds("basic.transports.streamable-http/version.3")
    def test_unknown_methods(self) -> None:
        for method in (
            "ping",
            "logging/setLevel",
            "resources/subscribe",
            "sampling/createMessage",
            "",
            "x" * 5000,
            "tools/Call",
        ):
            error = self.refused(self.client.request(method), -32601, 404)
            self.assertLess(len(error["message"]), 300)
