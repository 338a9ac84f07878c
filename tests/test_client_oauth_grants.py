"""Clients that act for themselves: credentials, keys, identity providers, workloads; and settings without sense."""

import warnings
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client.oauth import (
    AuthorizationCode,
    ClientCredentials,
    EnterpriseManaged,
    SigningKey,
    StaticToken,
    WorkloadIdentity,
)
from erlmcp.client.oauth._signing import ProofKey
from tests.oauth_doubles import ISSUER, SERVER, Asked, FlowCase, of

IDP = "https://idp.example"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"


class CredentialTests(FlowCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.gives_refresh = False

    def ask(self, grant: Any, **metadata: Any) -> Asked:
        self.server.metadata.update(metadata)
        self.got(grant, interaction=None)
        return self.web.asked[-1]

    def test_secret(self) -> None:
        grant = ClientCredentials(client_id="me", client_secret="s%", scopes=("a",))
        asked = self.ask(grant, token_endpoint_auth_methods_supported=["client_secret_basic"])
        self.assertEqual(asked.basic, ("me", "s%"))
        self.assertEqual(asked.form, {"grant_type": "client_credentials", "resource": SERVER, "scope": "a"})
        asked = self.ask(grant, token_endpoint_auth_methods_supported=["client_secret_post"])
        self.assertEqual((asked.form["client_id"], asked.form["client_secret"]), ("me", "s%"))
        del self.server.metadata["token_endpoint_auth_methods_supported"]
        self.assertEqual(self.ask(grant).basic, ("me", "s%"))
        chosen = ClientCredentials(client_id="me", client_secret="s", auth_method="client_secret_post")
        self.assertIn("client_secret", self.ask(chosen).form)
        self.assertEqual(
            self.setup.authorization(grant).extensions, ("io.modelcontextprotocol/oauth-client-credentials",)
        )

    def test_secrets_that_are_not_taken(self) -> None:
        grant = ClientCredentials(client_id="me", client_secret="s")
        self.refused(
            self.challenged(self.setup.authorization(grant)),
            "takes none from clients .* has client_secret_basic or",
        )

    def test_no_token_endpoint(self) -> None:
        del self.server.metadata["token_endpoint"]
        del self.server.metadata["token_endpoint_auth_methods_supported"]
        grant = ClientCredentials(client_id="me", client_secret="s")
        self.refused(self.challenged(self.setup.authorization(grant)), "has no token_endpoint")

    def test_keys(self) -> None:
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
        for key, algorithm in (
            (ECKey.generate_key("P-256"), "ES256"),
            (ECKey.generate_key("P-384"), "ES384"),
            (ECKey.generate_key("P-521"), "ES512"),
            (RSAKey.generate_key(2048), "PS256"),
            (OKPKey.generate_key("Ed25519"), "Ed25519"),
            (OKPKey.generate_key("Ed25519"), "EdDSA"),
            (RSAKey.generate_key(2048), "RS256"),
        ):
            self.server.metadata["token_endpoint_auth_signing_alg_values_supported"] = [algorithm]
            signing = SigningKey(key.as_pem(private=True).decode(), key_id="k1")
            form = self.ask(ClientCredentials(client_id="me", key=signing)).form
            self.assertEqual(
                form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                token = jwt.decode(form["client_assertion"], key, algorithms=[algorithm])
            self.assertEqual(token.header, {"alg": algorithm, "typ": "JWT", "kid": "k1"})
            claims = token.claims
            self.assertEqual((claims["iss"], claims["sub"], claims["aud"]), ("me", "me", ISSUER))
            self.assertEqual(claims["exp"] - claims["iat"], 120)
            self.assertEqual(claims["iat"], int(self.setup.clock.seconds()))

    def test_keys_that_will_not_do(self) -> None:
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
        self.server.metadata["token_endpoint_auth_signing_alg_values_supported"] = ["RS256"]
        key = ECKey.generate_key("P-256")
        good, public = key.as_pem(private=True).decode(), key.as_pem(private=False).decode()
        for signing, why in (
            (SigningKey(good), "does not take client assertions signed with ES256, but RS256"),
            (SigningKey(good, "RS256"), "the client's key cannot sign"),
            (SigningKey("no key"), "expected a private key as PEM"),
            (SigningKey(public), "expected a private key as PEM"),
        ):
            it = self.setup.authorization(ClientCredentials(client_id="me", key=signing))
            self.refused(self.challenged(it), why)
        self.assertNotIn("PRIVATE", repr(SigningKey(good)))

    def test_a_user_s_client_with_a_key(self) -> None:
        key = ECKey.generate_key("P-256")
        grant = AuthorizationCode(
            client_metadata_url="https://app.example/c.json",
            key=SigningKey(key.as_pem(private=True).decode()),
        )
        self.server.metadata["client_id_metadata_document_supported"] = True
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
        self.got(grant)
        claims = jwt.decode(self.web.asked[-1].form["client_assertion"], key).claims
        self.assertEqual(claims["sub"], "https://app.example/c.json")

    def test_refresh_tokens_of_clients(self) -> None:
        self.server.gives_refresh = True
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        it = self.got(ClientCredentials(client_id="me", client_secret="s"))
        self.setup.clock.advance(3541)
        self.run_now(it.headers("POST", SERVER))
        self.assertEqual(self.web.asked[-1].form["grant_type"], "refresh_token")


class WorkloadTests(FlowCase):
    def test_the_assertion_is_made_for_the_issuer(self) -> None:
        audiences: list[str] = []

        async def assertion(audience: str) -> str:
            audiences.append(audience)
            return "the.jwt\n"

        self.server.gives_refresh = False
        it = self.got(WorkloadIdentity(assertion=assertion, client_id="job", scopes=("a",)))
        self.assertEqual(audiences, [ISSUER])
        self.assertEqual(
            self.web.asked[-1].form,
            {
                "grant_type": BEARER,
                "assertion": "the.jwt",
                "resource": SERVER,
                "scope": "a",
                "client_id": "job",
            },
        )
        self.setup.clock.advance(3541)
        self.run_now(it.headers("POST", SERVER))
        self.assertEqual(audiences, [ISSUER, ISSUER])
        self.server.gives_refresh = True
        self.got(WorkloadIdentity(assertion=lambda _: "x"))
        self.assertNotIn("client_id", self.web.asked[-1].form)

    def test_what_is_refused_is_not_tried_again(self) -> None:
        self.server.refusal = (400, {"error": "invalid_grant"})
        it = self.setup.authorization(WorkloadIdentity(assertion=lambda _: "x"))
        for _ in range(3):
            self.assertEqual(self.refused(self.challenged(it), "invalid_grant").code, "invalid_grant")
        self.assertEqual(len(self.web.to(f"{ISSUER}/token")), 1)


class EnterpriseTests(FlowCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.gives_refresh = False
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        self.web.pages[f"{IDP}/.well-known/openid-configuration"] = of(
            200, {"issuer": IDP, "token_endpoint": f"{IDP}/t"}
        )
        self.exchanged: dict[str, Any] = {
            "access_token": "jag",
            "issued_token_type": ID_JAG,
            "token_type": "N_A",
        }
        self.web.pages[f"{IDP}/t"] = lambda asked: of(200, self.exchanged)

    def grant(self, **more: Any) -> EnterpriseManaged:
        values: dict[str, Any] = {
            "id_token": lambda: "id",
            "idp_client_id": "at-idp",
            "idp_issuer": IDP,
            "client_id": "at-as",
            "client_secret": "s",
        }
        return EnterpriseManaged(**{**values, **more})

    def test_both_steps(self) -> None:
        self.got(self.grant(scopes=("a",)))
        (exchange,) = self.web.to(f"{IDP}/t")
        self.assertEqual(
            exchange.form,
            {
                "grant_type": EXCHANGE,
                "requested_token_type": ID_JAG,
                "audience": ISSUER,
                "resource": SERVER,
                "subject_token": "id",
                "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
                "scope": "a",
                "client_id": "at-idp",
            },
        )
        last = self.web.asked[-1]
        self.assertEqual(last.basic, ("at-as", "s"))
        self.assertEqual(
            last.form, {"grant_type": BEARER, "assertion": "jag", "resource": SERVER, "scope": "a"}
        )

    def test_an_endpoint_that_is_known(self) -> None:
        self.got(self.grant(idp_token_endpoint=f"{IDP}/t", idp_client_secret="x"))
        self.assertNotIn(f"{IDP}/.well-known/openid-configuration", self.web.urls())
        self.assertEqual(self.web.to(f"{IDP}/t")[0].basic, ("at-idp", "x"))

    def test_answers_that_are_no_id_jag(self) -> None:
        for change in ({"issued_token_type": "x"}, {"access_token": ""}, {"access_token": None}):
            self.exchanged.update(change)
            it = self.setup.authorization(self.grant())
            self.refused(self.challenged(it), "expected urn:ietf:params:oauth:token-type:id-jag")

    def test_an_identity_provider_without_metadata(self) -> None:
        it = self.setup.authorization(self.grant(idp_issuer="https://none.example"))
        self.refused(self.challenged(it), "no metadata that name a token_endpoint")


class SettingTests(SynchronousTestCase):
    def test_what_makes_no_sense(self) -> None:
        def supplied() -> str:
            return "x"

        cases: list[tuple[Any, dict[str, Any], str]] = [
            (AuthorizationCode, {"client_secret": "s"}, "secret belongs to one client"),
            (
                AuthorizationCode,
                {"client_metadata_url": "http://a.example/x"},
                "expected an https URL with a path",
            ),
            (
                AuthorizationCode,
                {"client_metadata_url": "https://a.example/"},
                "expected an https URL with a path",
            ),
            (AuthorizationCode, {"redirect_uri": "http://a.example/x"}, "expected https"),
            (AuthorizationCode, {"redirect_uri": "https://a.example/#x"}, "has a fragment"),
            (AuthorizationCode, {"redirect_uri": "myapp:/x"}, "expected https"),
            (ClientCredentials, {"client_secret": "s"}, "need a client_id"),
            (ClientCredentials, {"client_id": "me"}, "one of the two"),
            (
                ClientCredentials,
                {"client_id": "me", "client_secret": "s", "key": SigningKey("k")},
                "one of the two",
            ),
            (WorkloadIdentity, {}, "assertion supplier"),
            (EnterpriseManaged, {}, "id_token supplier"),
            (EnterpriseManaged, {"id_token": supplied}, "a client_id and an idp_client_id"),
            (
                EnterpriseManaged,
                {"id_token": supplied, "client_id": "a", "idp_client_id": "b"},
                "idp_issuer or",
            ),
            (
                EnterpriseManaged,
                {
                    "id_token": supplied,
                    "client_id": "a",
                    "idp_client_id": "b",
                    "idp_issuer": "http://idp.example",
                },
                "idp_issuer .* must use https",
            ),
        ]
        for kind, values, why in cases:
            with self.assertRaisesRegex(ValueError, why):
                kind(**values)

    def test_redirect_uris(self) -> None:
        for good in ("https://a.example/x", "http://localhost:1/x", "http://[::1]/x", "com.example.app:/x"):
            AuthorizationCode(redirect_uri=good)

    def test_secrets_are_not_shown(self) -> None:
        for grant in (
            AuthorizationCode(client_id="me", client_secret="sesame"),
            ClientCredentials(client_id="me", client_secret="sesame"),
            StaticToken("sesame"),
        ):
            self.assertNotIn("sesame", repr(grant))

    def test_proof_keys_come_back(self) -> None:
        key = ProofKey.make()
        self.assertEqual(ProofKey.restore(key.keep()).thumbprint, key.thumbprint)
        for bad in ("", "x", "0", "f" * 80):
            with self.assertRaises(ValueError):
                ProofKey.restore(bad)
