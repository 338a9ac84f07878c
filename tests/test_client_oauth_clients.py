"""Who the client is to an authorization server: registrations, what is kept of them, users, and what binds all that."""

from typing import Any

from erlmcp.client.oauth import (
    AuthorizationCode,
    AuthorizationError,
    MemoryStore,
    Redirected,
    StoreKey,
)
from tests.oauth_doubles import (
    CODE,
    ISSUER,
    REDIRECT,
    SERVER,
    Asked,
    AuthorizationServer,
    Browser,
    FlowCase,
    of,
    token_of,
)


class BindingTests(FlowCase):
    def migrate(self) -> AuthorizationServer:
        other = AuthorizationServer(self.web, "https://new.example")
        self.setup.resource["authorization_servers"] = ["https://new.example"]
        self.browser.server = other
        return other

    def test_another_server_means_another_registration(self) -> None:
        self.server.registration = {"client_id": "of-the-first"}
        it = self.setup.authorization(CODE)
        self.run_now(self.challenged(it, 'Bearer scope="a"'))
        other = self.migrate()
        self.assertTrue(self.run_now(self.challenged(it)), "although the token is young")
        self.assertEqual(other.registered, 1)
        self.assertEqual(self.browser.query()["client_id"], "client-1")
        self.assertNotIn("scope", self.browser.query(), "scopes of one server mean nothing at another")
        self.assertEqual(self.web.asked[-1].url, "https://new.example/token")
        self.assertNotIn("refresh_token", self.web.asked[-1].form)

    def test_configured_credentials_stay_with_their_server(self) -> None:
        store = MemoryStore()
        grant = AuthorizationCode(client_id="mine", client_secret="s")
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
        it = self.got(grant, store=store)
        other = self.migrate()
        self.refused(self.challenged(it), "they are not shown to another")
        later = self.setup.authorization(grant, store=store)
        self.refused(self.challenged(later), "they are not shown to another")
        self.assertEqual(other.count, 0)

    def test_a_metadata_document_goes_everywhere(self) -> None:
        self.server.metadata["client_id_metadata_document_supported"] = True
        grant = AuthorizationCode(client_metadata_url="https://app.example/client.json")
        it = self.got(grant)
        self.assertEqual(self.browser.query()["client_id"], "https://app.example/client.json")
        self.assertEqual(self.server.registered, 0)
        other = self.migrate()
        self.run_now(self.challenged(it))
        self.assertEqual(other.registered, 1, "which takes no documents")


class StoreTests(FlowCase):
    def test_a_later_run_goes_on(self) -> None:
        store = MemoryStore()
        self.got(store=store)
        again = self.setup.authorization(CODE, store=store)
        self.assertEqual(self.ready(again), "Bearer token-1")
        self.assertEqual(
            self.setup.authorization(CODE, store=store, principal="other").ready("POST", SERVER), []
        )

    def test_a_later_run_refreshes(self) -> None:
        store = MemoryStore()
        self.got(store=store)
        self.setup.clock.advance(9999)
        again = self.setup.authorization(CODE, store=store)
        self.assertEqual(token_of(self.run_now(again.headers("POST", SERVER))), "Bearer token-2")
        self.assertEqual(self.server.registered, 1)
        self.assertEqual(len(self.browser.shown), 1)

    def test_what_ended_without_a_refresh_token_is_not_taken_up(self) -> None:
        store = MemoryStore()
        self.server.gives_refresh = False
        self.got(store=store)
        self.setup.clock.advance(9999)
        self.assertEqual(self.setup.authorization(CODE, store=store).ready("POST", SERVER), [])

    def test_a_refresh_token_is_used_once_by_several_processes(self) -> None:
        store = MemoryStore()
        first = self.got(store=store)
        second = self.setup.authorization(CODE, store=store)
        self.setup.clock.advance(3541)
        self.run_now(first.headers("POST", SERVER))
        self.assertEqual(token_of(self.run_now(second.headers("POST", SERVER))), "Bearer token-2")
        self.assertEqual(self.server.count, 2)

    def test_records_that_make_no_sense(self) -> None:
        store = MemoryStore()
        for record in ({}, {"issuer": ISSUER}):
            store.save(StoreKey("server", "", "", SERVER), record)
            self.assertEqual(self.setup.authorization(CODE, store=store).ready("POST", SERVER), [])
        self.server.scheme = "DPoP"
        self.server.metadata["dpop_signing_alg_values_supported"] = ["ES256"]
        self.got(AuthorizationCode(dpop=True), store=store)
        key = StoreKey("token", "", ISSUER, SERVER)
        store.save(key, {**(store.load(key) or {}), "key": "no key"})
        self.assertEqual(self.setup.authorization(CODE, store=store).ready("POST", SERVER), [])

    def test_a_registration_that_the_server_has_lost(self) -> None:
        store = MemoryStore()
        self.got(store=store).forget()
        self.server.refusal = (401, {"error": "invalid_client"})
        it = self.setup.authorization(CODE, store=store)
        self.refused(self.challenged(it), "invalid_client")
        self.assertEqual(self.server.registered, 1)
        self.server.refusal = None
        self.setup.clock.advance(31)
        self.run_now(self.challenged(it))
        self.assertEqual(self.server.registered, 2)

    def test_a_registration_is_for_one_redirect_uri(self) -> None:
        store = MemoryStore()
        self.got(store=store).forget()
        browser = Browser(self.server, "http://127.0.0.1:4000/callback")
        self.got(store=store, interaction=browser).forget()
        self.assertEqual(browser.preferred, [REDIRECT])
        self.assertEqual(self.server.registered, 2)
        self.got(store=store, interaction=browser)
        self.assertEqual(self.server.registered, 2)

    def test_refreshing_after_the_registration_is_gone(self) -> None:
        store = MemoryStore()
        it = self.got(store=store)
        store.forget(StoreKey("client", "", ISSUER, ""))
        self.setup.clock.advance(3541)
        self.run_now(it.headers("POST", SERVER))
        self.assertEqual(self.server.registered, 2)


class RegistrationTests(FlowCase):
    def register(self, **answer: Any) -> Asked:
        self.server.registration = answer
        self.got()
        return self.web.to(f"{ISSUER}/token")[-1]

    def test_methods(self) -> None:
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        asked = self.register(client_id="a b", client_secret="s:1")
        self.assertEqual(asked.basic, ("a b", "s:1"))
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
        asked = self.register(client_id="me", client_secret="s")
        self.assertEqual((asked.form["client_id"], asked.form["client_secret"]), ("me", "s"))
        asked = self.register(client_id="me", client_secret="s", token_endpoint_auth_method="none")
        self.assertNotIn("client_secret", asked.form)
        del self.server.metadata["token_endpoint_auth_methods_supported"]
        asked = self.register(client_id="me", client_secret="s")
        self.assertEqual(asked.basic, ("me", "s"))
        self.assertEqual(self.register(client_id="me").form["client_id"], "me")

    def test_answers_that_are_no_registration(self) -> None:
        for answer, why in (
            ({"client_id": None}, "no client_id"),
            ({"client_id": 7}, "no client_id"),
            ({"client_secret": 7}, "no client_id"),
            ({"token_endpoint_auth_method": "tls_client_auth"}, "which is not ours"),
            ({"token_endpoint_auth_method": "client_secret_post"}, "without a client_secret"),
            (
                {
                    "token_endpoint_auth_method": "client_secret_post",
                    "client_secret": "s",
                    "client_secret_expires_at": 5,
                },
                "expired already",
            ),
        ):
            self.server.registration = answer
            self.refused(self.challenged(self.setup.authorization(CODE)), why)

    def test_refused(self) -> None:
        self.web.pages[f"{ISSUER}/register"] = of(
            400, {"error": "invalid_redirect_uri", "error_description": "https only"}
        )
        self.refused(self.challenged(self.setup.authorization(CODE)), r"invalid_redirect_uri \(https only\)")

    def test_no_registration(self) -> None:
        del self.server.metadata["registration_endpoint"]
        self.refused(
            self.challenged(self.setup.authorization(CODE)), "register one there, and set its client_id"
        )

    def test_a_secret_that_expires(self) -> None:
        store = MemoryStore()
        self.server.registration = {
            "client_secret": "s",
            "token_endpoint_auth_method": "client_secret_post",
            "client_secret_expires_at": 1_700_000_100,
        }
        self.got(store=store).forget()
        self.got(store=store).forget()
        self.assertEqual(self.server.registered, 1)
        self.setup.clock.advance(100)
        self.server.registration["client_secret_expires_at"] = 0
        self.got(store=store)
        self.assertEqual(self.server.registered, 2)

    def test_what_the_client_says_of_itself(self) -> None:
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["none", "client_secret_basic"]
        self.server.registration = {"client_secret": "s"}
        web = "https://app.example/callback"
        grant = AuthorizationCode(redirect_uri=web, client_name="App", offline=False, scopes=("a",))
        self.got(grant, interaction=Browser(self.server, web))
        said = self.web.to(f"{ISSUER}/register")[0].json
        self.assertEqual(
            (said["application_type"], said["client_name"], said["scope"], said["grant_types"]),
            ("web", "App", "a", ["authorization_code"]),
        )
        self.assertEqual(said["token_endpoint_auth_method"], "client_secret_basic")
        self.got(AuthorizationCode(application_type="web"))
        self.assertEqual(self.web.to(f"{ISSUER}/register")[1].json["application_type"], "web")


class UserTests(FlowCase):
    def refuses(self, why: str, **change: str | None) -> AuthorizationError:
        self.browser.change = lambda back: {**back, **change}  # type: ignore[dict-item]
        before = self.server.count
        error = self.refused(self.challenged(self.setup.authorization(CODE)), why)
        self.assertEqual(self.server.count, before)
        return error

    def test_answers_to_somebody_else(self) -> None:
        self.refuses("another state", state="x")
        self.refuses("another state", state=None)
        self.refuses("not by https://as.example", iss="https://evil.example")
        self.refuses("not by https://as.example", iss=ISSUER + "/")
        self.refuses("neither a code nor an error", code=None)
        error = self.refuses("not by", iss="https://evil.example", error="phish", error_description="phish")
        self.assertNotIn("phish", str(error))

    def test_an_issuer_that_promised_to_name_itself(self) -> None:
        self.server.metadata["authorization_response_iss_parameter_supported"] = True
        self.refuses("has no iss", iss=None)

    def test_no_issuer_promised(self) -> None:
        self.browser.change = lambda back: {"code": back["code"], "state": back["state"]}
        self.got()

    def test_errors_are_told(self) -> None:
        error = self.refuses(
            r"access_denied \(no\)", error="access_denied", error_description="no", code=None
        )
        self.assertEqual(error.code, "access_denied")

    def test_without_pkce(self) -> None:
        for methods in (None, ["plain"]):
            self.setup.server.metadata.pop("code_challenge_methods_supported", None)
            if methods:
                self.server.metadata["code_challenge_methods_supported"] = methods
            self.refused(self.challenged(self.setup.authorization(CODE)), "does not offer PKCE with S256")
        self.assertEqual(self.browser.shown, [])

    def test_no_authorization_endpoint(self) -> None:
        del self.server.metadata["authorization_endpoint"]
        self.refused(self.challenged(self.setup.authorization(CODE)), "no authorization_endpoint")

    def test_nobody_to_ask(self) -> None:
        self.refused(self.challenged(self.setup.authorization(CODE, interaction=None)), "no way to one here")

    def test_redirect_uris(self) -> None:
        fixed = AuthorizationCode(redirect_uri="http://localhost:1/x")
        self.refused(self.challenged(self.setup.authorization(fixed)), "cannot be waited at")
        bad = Browser(self.server, "http://app.example/callback")
        self.refused(self.challenged(self.setup.authorization(CODE, interaction=bad)), "expected https")
        self.assertEqual((self.browser.released, bad.released), (1, 1))

    def test_a_query_in_the_endpoint_stays(self) -> None:
        self.server.metadata["authorization_endpoint"] = f"{ISSUER}/authorize?tenant=1"
        self.got()
        self.assertEqual(self.browser.query()["tenant"], "1")

    def test_secrets_are_not_shown(self) -> None:
        self.assertNotIn("sesame", repr(Redirected(code="sesame")))
