"""A stub behind the gateway: what one upstream of either era answers, and what comes of it for a client."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import Client
from erlmcp.interfaces import Principal
from erlmcp.protocol import MODERN, McpError
from erlmcp.testing import StubServer
from tests.gateway_stage import Stage

HANDSHAKE = "2025-11-25"
TOOLS = {
    "look": {"readOnlyHint": True},
    "put": {"idempotentHint": True},
    "pay": {},
}
ANNE, BERT = (Principal(id=name, kind="key") for name in ("anne", "bert"))


def result(version: str, **fields: Any) -> dict[str, Any]:
    """A result as an upstream of this revision sends it."""
    if version != MODERN:
        return fields
    return {"resultType": "complete", **fields}


def said(text: str, version: str = MODERN) -> dict[str, Any]:
    return result(version, content=[{"type": "text", "text": text}])


class StubCase(SynchronousTestCase):
    """Tests with a stub as the upstream: tools `look` (reads), `put` (idempotent), `pay` (neither)."""

    def begin(
        self, version: str = MODERN, *, linked: bool = False, principal: Principal | None = None, **plan: Any
    ) -> Stage:
        self.version = version
        self.stub = StubServer(
            version,
            {"tools": {}, "resources": {}, "prompts": {}, "logging": {}, "completions": {}},
            linked=linked,
        )
        self.listing()
        self.stub.on("resources/list", self.page(resources=[{"uri": "note://a", "name": "a"}]))
        self.stub.on("resources/templates/list", self.page(resourceTemplates=[]))
        self.stub.on("prompts/list", self.page(prompts=[{"name": "greet"}]))
        self.stub.on("logging/setLevel", {})
        self.stage = stage = Stage(stub=self.stub, era=None, linked=linked, **plan)
        self.addCleanup(self.ended)
        if principal is not None:
            self.act_as(principal)
        stage.begin()
        stage.clock.pump([0.1] * 20)
        self.assertIsNone(stage.upstream.stale)
        self.stub.requests.clear()
        return stage

    def ended(self) -> None:
        self.stage.end(self.successResultOf)
        self.assertEqual(self.stage.clock.getDelayedCalls(), [])

    def page(self, **entries: Any) -> dict[str, Any]:
        more = {"ttlMs": 3_600_000, "cacheScope": "public"} if self.version == MODERN else {}
        return result(self.version, **entries, **more)

    def listing(self, **more: Any) -> None:
        schema = {"type": "object", **more}
        tools = [{"name": name, "inputSchema": schema, "annotations": hints} for name, hints in TOOLS.items()]
        self.stub.on("tools/list", self.page(tools=tools))

    def act_as(self, principal: Principal) -> None:
        self.stage.near.gates.authenticate.principal = principal  # type: ignore[attr-defined]

    def limit(self, seconds: float) -> None:
        """Give each call so many seconds."""
        self.stage.near.gates.admit.timeout = seconds  # type: ignore[attr-defined]

    def said(self, text: str) -> dict[str, Any]:
        return said(text, self.version)

    def text(self, calling: "Deferred[Any]") -> str:
        return str(self.successResultOf(calling).text)

    def error(self, calling: "Deferred[Any]") -> McpError:
        failure: Failure = self.failureResultOf(calling, McpError)
        error: McpError = failure.value  # type: ignore[assignment]
        return error

    def call(self, tool: str = "far.pay", client: Client | None = None, **options: Any) -> "Deferred[Any]":
        """Call a tool, and let the time pass that connecting may take."""
        calling = (client or self.stage.client(MODERN)).call(tool, {}, **options)
        self.stage.clock.pump([0.1] * 3)
        return calling
