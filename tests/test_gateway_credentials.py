"""What an upstream is shown of us, for whom, and what it never is."""

import json
import os
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request as WebRequest
from twisted.web.server import Site

from erlmcp.client import Client, http
from erlmcp.client.oauth import AuthorizationError
from erlmcp.config import CredentialSettings, OAuthSettings, Secret
from erlmcp.gateway._credentials import UpstreamCredentials
from erlmcp.interfaces import ANONYMOUS, Principal
from tests.oauth_doubles import ISSUER, SERVER, Asked, FlowCase, of, token_of

TOKEN = f"{ISSUER}/token"
ALICE = Principal(id="alice", kind="token", scopes=frozenset(["read"]), expires=1.0)
BOB = Principal(id="bob", kind="token", scopes=frozenset(["read"]), expires=1.0)


class SecretsCase(SynchronousTestCase):
    """Secrets of this test, in files and variables."""

    def file(self, text: str | bytes) -> Secret:
        path = Path(self.mktemp())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.last = path
        return Secret(file=str(path))

    def variable(self, value: str) -> Secret:
        name = f"ERLMCP_TEST_{self.id().rpartition('.')[2].upper()}"
        self.patch(os, "environ", os.environ)
        os.environ[name] = value
        self.addCleanup(os.environ.pop, name)
        return Secret(env=name)


class CredentialsCase(FlowCase, SecretsCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.gives_refresh = False
        self.server.metadata["token_endpoint_auth_methods_supported"] = [
            "client_secret_basic",
            "private_key_jwt",
        ]

    def made(self, settings: CredentialSettings, url: str = SERVER, **more: Any) -> UpstreamCredentials:
        arguments: dict[str, Any] = {"reactor": self.setup.clock, "fetch": self.web, **more}
        return UpstreamCredentials("files", settings, url=url, **arguments)

    def oauth(self, **more: Any) -> CredentialSettings:
        values: dict[str, Any] = {"client_id": "gateway"}
        if "private_key" not in more:
            values["client_secret"] = self.file("sesame\n")
        return CredentialSettings(oauth=OAuthSettings(**{**values, **more}))

    def sent(self, credentials: UpstreamCredentials, principal: Principal = ANONYMOUS) -> str:
        authorizer = credentials.authorizer(principal)
        assert authorizer is not None
        return token_of(self.run_now(authorizer.headers("POST", SERVER)))


class StaticTests(CredentialsCase):
    def test_nothing(self) -> None:
        it = self.made(CredentialSettings())
        self.assertIsNone(it.authorizer(ALICE))
        self.assertEqual((it.headers(), it.environment(), it.extensions), ({}, {}, ()))
        self.assertEqual((it.context(ALICE), it.per_principal), ("", False))
        self.successResultOf(it.close())

    def test_headers(self) -> None:
        it = self.made(CredentialSettings(headers={"X-Team": "blue", "x-api-key": self.variable("sesame\n")}))
        self.assertEqual(it.headers(), {"X-Team": "blue", "x-api-key": "sesame"})

    def test_environment_is_read_for_each_child(self) -> None:
        it = self.made(CredentialSettings(env={"LANG": "C", "KEY": self.file("old\n")}), url="")
        self.assertEqual(it.environment(), {"LANG": "C", "KEY": "old"})
        self.last.write_text("new")
        self.assertEqual(it.environment(), {"LANG": "C", "KEY": "new"})
        self.last.unlink()
        with self.assertRaisesRegex(ValueError, "cannot be read"):
            it.environment()

    def test_a_token_is_read_again_when_it_is_refused(self) -> None:
        it = self.made(CredentialSettings(token=self.file("old\n")))
        self.assertIs(it.authorizer(ALICE), it.authorizer(BOB))
        self.assertEqual(self.sent(it), "Bearer old")
        authorizer = it.authorizer(ALICE)
        assert authorizer is not None
        self.last.write_text("new\n")
        self.assertTrue(self.run_now(self.challenged(authorizer)))
        self.assertEqual(self.sent(it), "Bearer new")
        self.refused(self.challenged(authorizer), "refuses the token")
        self.assertEqual(self.web.asked, [], "nobody is asked for a static token")

    def test_a_token_that_is_gone(self) -> None:
        it = self.made(CredentialSettings(token=self.file("old\n")))
        self.assertEqual(self.sent(it), "Bearer old")
        authorizer = it.authorizer(ALICE)
        assert authorizer is not None
        self.last.unlink()
        self.refused(self.challenged(authorizer), "cannot be read")

    def test_what_will_not_do(self) -> None:
        cases: tuple[tuple[CredentialSettings, str, str], ...] = (
            (CredentialSettings(token=Secret(env="ERLMCP_NO_SUCH")), SERVER, "no variable ERLMCP_NO_SUCH"),
            (CredentialSettings(token=self.file("\n")), SERVER, r"the secret \{ file = .* \} is empty"),
            (CredentialSettings(token=self.file(b"\xff")), SERVER, "is no text"),
            (CredentialSettings(headers={"x": self.file("a\nb")}), SERVER, "the value of x has characters"),
            (CredentialSettings(env={"X": self.file("a\0b")}), "", "the value of X has a NUL"),
            (CredentialSettings(env={"X": "a"}), SERVER, "env is for an upstream that is started"),
            (CredentialSettings(headers={"x": "a"}), "", "are for an HTTP upstream"),
            (CredentialSettings(token=self.file("t")), "http://mcp.example/mcp", "https"),
        )
        for settings, url, why in cases:
            with self.assertRaisesRegex(ValueError, why):
                self.made(settings, url)


class ClientCredentialTests(CredentialsCase):
    def test_secret(self) -> None:
        it = self.made(self.oauth(scopes=("a",)))
        self.assertEqual(self.sent(it), "Bearer token-1")
        self.assertEqual(self.sent(it, ALICE), "Bearer token-1", "one for all")
        (asked,) = self.web.to(TOKEN)
        self.assertEqual(asked.basic, ("gateway", "sesame"))
        self.assertEqual(asked.form["grant_type"], "client_credentials")
        self.assertEqual((it.context(ALICE), it.per_principal), ("", False))
        self.assertEqual(it.extensions, ("io.modelcontextprotocol/oauth-client-credentials",))

    def test_key(self) -> None:
        pem = ECKey.generate_key("P-256").as_pem(private=True)
        self.assertEqual(
            self.sent(self.made(self.oauth(private_key=self.file(pem), key_id="k"))), "Bearer token-1"
        )
        self.assertIn("client_assertion", self.web.to(TOKEN)[0].form)

    def test_renewed_before_its_end_and_once_for_all(self) -> None:
        it = self.made(self.oauth())
        self.sent(it)
        self.setup.clock.advance(3541)
        self.web.held = []
        authorizer = it.authorizer(ALICE)
        assert authorizer is not None
        waiting = [self.start(authorizer.headers("POST", SERVER)) for _ in range(5)]
        self.web.release()
        self.assertEqual({token_of(self.successResultOf(one)) for one in waiting}, {"Bearer token-2"})
        self.assertEqual(self.server.count, 2)

    def test_an_issuer_that_is_not_meant(self) -> None:
        it = self.made(self.oauth(issuer="https://other.example"))
        authorizer = it.authorizer(ALICE)
        assert authorizer is not None
        self.refused(authorizer.headers("POST", SERVER), "is set up for https://other.example")
        self.assertEqual(self.web.to(TOKEN), [])


class ExchangeTests(CredentialsCase):
    """A principal's token is exchanged, and shown to nobody else."""

    def setUp(self) -> None:
        super().setUp()
        self.tokens = {"alice": "alices-own", "bob": "bobs-own"}
        self.web.pages[TOKEN] = self.exchange
        self.it = self.exchanging()

    def exchanging(self, **more: Any) -> UpstreamCredentials:
        settings = self.oauth(grant="token_exchange", issuer=ISSUER, audience="files")
        return self.made(settings, subject=lambda principal: self.tokens.get(principal.id, ""), **more)

    def exchange(self, asked: Asked) -> Any:
        self.server.count += 1
        subject = asked.form["subject_token"]
        if self.server.refusal is not None:
            return of(*self.server.refusal)
        document = {
            "access_token": f"{subject.partition('-')[0]}-there-{self.server.count}",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        return of(200, document)

    def test_each_has_its_own(self) -> None:
        self.assertEqual(self.sent(self.it, ALICE), "Bearer alices-there-1")
        self.assertEqual(self.sent(self.it, BOB), "Bearer bobs-there-2")
        self.assertEqual(self.sent(self.it, ALICE), "Bearer alices-there-1")
        self.assertIs(self.it.authorizer(ALICE), self.it.authorizer(ALICE))
        self.assertTrue(self.it.per_principal)
        self.assertEqual(self.it.extensions, ())

    def test_the_client_s_own_token_goes_nowhere_else(self) -> None:
        self.sent(self.it, ALICE)
        for asked in self.web.asked:
            whole = f"{asked.url} {asked.headers} {asked.body!r}"
            self.assertEqual("alices-own" in whole, asked.url == TOKEN, asked.url)
        self.assertNotIn("alices-own", json.dumps(self.sent(self.it, ALICE)) + self.it.context(ALICE))

    def test_contexts(self) -> None:
        others = [
            BOB,
            Principal(id="alice", kind="key", scopes=ALICE.scopes),
            Principal(id="alice", kind="token", scopes=ALICE.scopes, tenant="t"),
            Principal(id="alice", kind="token", scopes=frozenset(["read", "write"])),
            Principal(id="alice", kind="token", scopes=ALICE.scopes, roles=frozenset(["r"])),
        ]
        self.assertEqual(len({self.it.context(one) for one in [ALICE, *others]}), 6)
        later = Principal(id="alice", kind="token", scopes=ALICE.scopes, expires=2.0)
        self.assertEqual(self.it.context(later), self.it.context(ALICE))

    def test_the_newest_token_is_exchanged(self) -> None:
        self.sent(self.it, ALICE)
        self.tokens["alice"] = "alices-newer"
        self.setup.clock.advance(3541)
        self.sent(self.it, Principal(id="alice", kind="token", scopes=ALICE.scopes, expires=2.0))
        self.assertEqual(self.web.to(TOKEN)[-1].form["subject_token"], "alices-newer")

    def test_a_refusal_holds_until_it_has_authenticated_again(self) -> None:
        self.server.refusal = (400, {"error": "invalid_grant"})
        for _ in range(2):
            authorizer = self.it.authorizer(ALICE)
            assert authorizer is not None
            self.refused(authorizer.headers("POST", SERVER), "invalid_grant")
        self.assertEqual(self.server.count, 1)
        self.server.refusal = None
        self.sent(self.it, Principal(id="alice", kind="token", scopes=ALICE.scopes, expires=2.0))

    def test_a_principal_without_a_token(self) -> None:
        authorizer = self.it.authorizer(ANONYMOUS)
        assert authorizer is not None
        self.refused(authorizer.headers("POST", SERVER), "there is no token to exchange")
        self.assertEqual(self.server.count, 0)

    def test_only_so_many_are_kept_at_hand(self) -> None:
        it = self.exchanging(principals=2)
        first = it.authorizer(ALICE)
        it.authorizer(BOB)
        it.authorizer(ALICE)
        it.authorizer(ANONYMOUS)
        self.assertIs(it.authorizer(ALICE), first)
        before = it.authorizer(ANONYMOUS)
        self.assertIs(it.authorizer(ANONYMOUS), before)
        self.assertEqual(len(it._known), 2)

    def test_nobody_gives_tokens(self) -> None:
        with self.assertRaisesRegex(ValueError, "nothing here takes tokens"):
            self.made(self.oauth(grant="token_exchange", issuer=ISSUER))


class Guarded(Resource):
    """A protected MCP server, its metadata, and its authorization server, all on one port of the loopback."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.seen: list[tuple[str, str | None]] = []

    def render(self, request: WebRequest) -> bytes:
        path = request.path.decode()
        token = request.getHeader("authorization")
        self.seen.append((path, token))
        document: dict[str, Any]
        request.setHeader("content-type", "application/json")
        if path == "/.well-known/oauth-protected-resource/mcp":
            document = {"resource": f"{self.base}/mcp", "authorization_servers": [self.base]}
        elif path == "/.well-known/oauth-authorization-server":
            document = {
                "issuer": self.base,
                "token_endpoint": f"{self.base}/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
            }
        elif path == "/token":
            assert b"client_secret=sesame" in request.content.read()
            document = {"access_token": "good", "token_type": "bearer", "expires_in": 60}
        elif path == "/mcp" and token == "Bearer good":
            asked = json.loads(request.content.read())
            result = {
                "resultType": "complete",
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
                "ttlMs": 0,
                "cacheScope": "private",
                "tools": [],
            }
            document = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
        else:
            request.setResponseCode(401 if path == "/mcp" else 404)
            document = {}
        return json.dumps(document).encode()


class LoopbackTests(TestCase):
    """The whole way, over sockets."""

    def guarded(self) -> Guarded:
        guarded = Guarded()
        port = reactor.listenTCP(0, Site(guarded), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        guarded.base = f"http://127.0.0.1:{port.getHost().port}"
        return guarded

    def credentials(self, url: str, **more: Any) -> UpstreamCredentials:
        path = Path(self.mktemp())
        path.write_text("sesame\n")
        oauth = OAuthSettings(client_id="gateway", client_secret=Secret(file=str(path)))
        it = UpstreamCredentials("files", CredentialSettings(oauth=oauth), reactor=reactor, url=url, **more)
        self.addCleanup(it.close)
        return it

    def test_client_credentials(self) -> Deferred[None]:
        guarded = self.guarded()
        url = f"{guarded.base}/mcp"

        async def run() -> None:
            it = self.credentials(url)
            target = http(reactor, url, authorization=it.authorizer(ANONYMOUS), headers=it.headers())
            self.addCleanup(target.close)
            client = Client(target, reactor=reactor)
            self.assertEqual(await client.list_tools(), [])
            await client.close()
            self.assertEqual({token for path, token in guarded.seen if path == "/mcp"}, {"Bearer good"})
            self.assertEqual([path for path, _ in guarded.seen].count("/token"), 1)

        return ensureDeferred(run())

    def test_an_address_inside_is_not_reached_unasked(self) -> Deferred[None]:
        async def run() -> None:
            guarded = self.guarded()
            it = self.credentials(
                guarded.base.replace("http:", "https:").replace("127.0.0.1", "10.255.255.1")
            )
            authorizer = it.authorizer(ANONYMOUS)
            assert authorizer is not None
            with self.assertRaisesRegex(AuthorizationError, "is no public address"):
                await authorizer.headers("POST", it._url)

        return ensureDeferred(run())
