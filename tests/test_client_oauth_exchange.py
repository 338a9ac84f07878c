"""Token exchange (RFC 8693), and tokens that are got before the server asks for them."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client.oauth import Authorization, ClientCredentials, StaticToken, TokenExchange
from tests.oauth_doubles import ISSUER, METADATA, SERVER, Asked, AuthorizationServer, FlowCase, of, token_of

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
TOKEN = f"{ISSUER}/token"


class ExchangeTests(FlowCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        self.change: dict[str, Any] = {}
        self.subject = "of-the-caller"
        self.web.pages[TOKEN] = self.token

    def token(self, asked: Asked) -> Any:
        answer = self.server.token(asked)
        if answer.status != 200:
            return answer
        document = {"issued_token_type": ACCESS_TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        return of(200, {"access_token": f"exchanged-{self.server.count}", **document, **self.change})

    def grant(self, **more: Any) -> TokenExchange:
        values: dict[str, Any] = {"client_id": "gateway", "client_secret": "s", "issuer": ISSUER}
        return TokenExchange(**{"subject_token": lambda: self.subject, **values, **more})

    def test_what_is_sent(self) -> None:
        it = self.got(self.grant(scopes=("a", "b"), audience="files"))
        asked = self.web.asked[-1]
        self.assertEqual(asked.basic, ("gateway", "s"))
        self.assertEqual(
            asked.form,
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "resource": SERVER,
                "audience": "files",
                "requested_token_type": ACCESS_TOKEN,
                "subject_token": "of-the-caller",
                "subject_token_type": ACCESS_TOKEN,
                "scope": "a b",
            },
        )
        self.assertEqual(self.ready(it), "Bearer exchanged-1")

    def test_it_is_shown_to_the_configured_server_alone(self) -> None:
        other = AuthorizationServer(self.web, "https://evil.example")
        self.setup.resource["authorization_servers"] = ["https://evil.example"]
        self.refused(self.challenged(self.setup.authorization(self.grant())), f"is set up for {ISSUER}")
        self.setup.resource["authorization_servers"] = ["https://evil.example", ISSUER]
        self.got(self.grant())
        self.assertEqual(other.count, 0)
        self.assertNotIn("audience", self.web.asked[-1].form)

    def test_no_metadata_name_another(self) -> None:
        del self.web.pages[METADATA]
        AuthorizationServer(self.web, "https://mcp.example")
        self.refused(
            self.setup.authorization(self.grant(), eager=True).headers("POST", SERVER), f"that name {ISSUER}"
        )
        for asked in self.web.asked:
            self.assertEqual(asked.body, b"")

    def test_it_is_exchanged_anew_each_time(self) -> None:
        self.change["refresh_token"] = "long-lived"
        it = self.got(self.grant())
        self.subject = "a-newer-one"
        self.setup.clock.advance(3541)
        self.assertEqual(token_of(self.run_now(it.headers("POST", SERVER))), "Bearer exchanged-2")
        self.assertEqual(self.web.asked[-1].form["subject_token"], "a-newer-one")
        self.assertNotIn("refresh_token", self.web.asked[-1].form)

    def test_a_jwt_is_taken(self) -> None:
        self.change["issued_token_type"] = JWT
        self.got(self.grant())

    def test_answers_that_will_not_do(self) -> None:
        for change, why in (
            ({"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "expected urn.* or urn"),
            ({"issued_token_type": None}, "issued_token_type None"),
            ({"access_token": "of-the-caller"}, "it is not passed on"),
        ):
            self.change = change
            error = self.refused(self.challenged(self.setup.authorization(self.grant())), why)
            self.assertNotIn("of-the-caller", str(error))

    def test_nothing_to_exchange(self) -> None:
        self.subject = ""
        it = self.setup.authorization(self.grant())
        self.refused(self.challenged(it), "there is no token to exchange")
        self.subject = "now"
        self.assertTrue(self.run_now(self.challenged(it)), "it is not held against the next")

    def test_another_token_is_another_try(self) -> None:
        self.server.refusal = (400, {"error": "invalid_grant"})
        it = self.setup.authorization(self.grant())
        for _ in range(2):
            self.refused(self.challenged(it), "invalid_grant")
        self.assertEqual(len(self.web.to(TOKEN)), 1)
        self.server.refusal = None
        self.refused(self.challenged(it), "invalid_grant")
        it.retry()
        self.assertTrue(self.run_now(self.challenged(it)))


class SettingTests(SynchronousTestCase):
    def test_what_makes_no_sense(self) -> None:
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "needs a subject_token supplier"),
            ({"subject_token": str}, "needs an issuer"),
            ({"subject_token": str, "issuer": ISSUER}, "needs a client_id"),
            ({"subject_token": str, "issuer": "http://as.example", "client_id": "x"}, "https"),
        )
        for values, why in cases:
            with self.assertRaisesRegex(ValueError, why):
                TokenExchange(**values)

    def test_secrets_are_not_shown(self) -> None:
        grant = TokenExchange(subject_token=str, issuer=ISSUER, client_id="x", client_secret="sesame")
        self.assertNotIn("sesame", repr(grant))


class EagerTests(FlowCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.gives_refresh = False
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        self.grant = ClientCredentials(client_id="me", client_secret="s")

    def eager(self, grant: Any = None) -> Authorization:
        return self.setup.authorization(grant or self.grant, interaction=None, eager=True)

    def test_the_first_request_has_a_token(self) -> None:
        it = self.eager()
        self.assertIsNone(it.ready("POST", SERVER))
        self.assertEqual(token_of(self.run_now(it.headers("POST", SERVER))), "Bearer token-1")
        self.assertEqual(it.ready("GET", "https://elsewhere.example/"), [])

    def test_all_who_wait_get_the_same(self) -> None:
        it = self.eager()
        self.web.held = []
        waiting = [self.start(it.headers("POST", SERVER)) for _ in range(3)]
        while self.web.held:
            self.web.release()
        self.assertEqual({token_of(self.successResultOf(one)) for one in waiting}, {"Bearer token-1"})

    def test_without_one_nothing_is_sent(self) -> None:
        self.server.refusal = (400, {"error": "invalid_scope"})
        it = self.eager()
        self.refused(it.headers("POST", SERVER), "invalid_scope")
        self.server.refusal = None
        self.setup.clock.advance(31)
        self.run_now(it.headers("POST", SERVER))

    def test_a_token_that_ended_and_cannot_be_renewed(self) -> None:
        it = self.eager()
        self.run_now(it.headers("POST", SERVER))
        self.setup.clock.advance(4000)
        self.server.refusal = (400, {"error": "invalid_scope"})
        self.refused(it.headers("POST", SERVER), "invalid_scope")
        self.assertIsNone(it.ready("POST", SERVER))

    def test_a_static_one_is_so_anyway(self) -> None:
        self.assertIsNone(self.setup.authorization(StaticToken("t")).ready("POST", SERVER))
