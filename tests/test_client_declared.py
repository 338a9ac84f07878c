"""What a client declares of itself, beside what it answers."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import Answers, Client, Target, http
from erlmcp.client.oauth import Authorization, AuthorizationCode, ClientCredentials
from erlmcp.testing import StubServer
from tests.oauth_doubles import SERVER, Web

CREDENTIALS = "io.modelcontextprotocol/oauth-client-credentials"


class ExtensionTests(SynchronousTestCase):
    """The extension that a way to a token belongs to is declared, in both eras."""

    def declared(self, version: str, extensions: tuple[str, ...]) -> dict[str, Any]:
        stub = StubServer(version, linked=True)
        target = Target("stub", stub.target.make_wire, extensions=extensions)
        client = Client(target, Clock(), answers=Answers(elicit=lambda question: {}))
        self.addCleanup(lambda: self.successResultOf(client.close()))
        self.successResultOf(client.connect())
        params = stub.requests[-1]["params"]
        found = params.get("capabilities") or params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
        assert isinstance(found, dict)
        return found

    def test_declared(self) -> None:
        for version in ("2026-07-28", "2025-11-25"):
            self.assertEqual(
                self.declared(version, (CREDENTIALS,)),
                {"elicitation": {"form": {}}, "extensions": {CREDENTIALS: {}}},
            )
            self.assertNotIn("extensions", self.declared(version, ()))

    def test_targets_say_what_their_authorization_belongs_to(self) -> None:
        clock = Clock()
        for grant, extensions in (
            (ClientCredentials(client_id="a", client_secret="b"), (CREDENTIALS,)),
            (AuthorizationCode(), ()),
        ):
            authorization = Authorization(SERVER, grant, fetch=Web(), clock=clock)
            self.assertEqual(http(clock, SERVER, authorization=authorization).extensions, extensions)
        self.assertEqual(http(clock, SERVER).extensions, ())
