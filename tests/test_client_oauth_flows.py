"""`Authorization` from a refusal to a token and on: discovery, scopes, renewal, one flight for all."""

from twisted.internet.defer import CancelledError, Deferred

from erlmcp.client.oauth import (
    Authorization,
    AuthorizationCode,
    AuthorizationError,
    ClientCredentials,
    MemoryStore,
    StoreKey,
)
from tests.oauth_doubles import (
    CODE,
    ISSUER,
    METADATA,
    REDIRECT,
    SERVER,
    AuthorizationServer,
    Browser,
    FlowCase,
    challenge,
    failing,
    of,
    token_of,
)


class FirstTokenTests(FlowCase):
    def test_nothing_is_sent_before_it_is_asked_for(self) -> None:
        it = self.setup.authorization(CODE)
        self.assertEqual(it.ready("POST", SERVER), [])
        self.assertEqual(self.run_now(it.headers("POST", SERVER)), [])
        self.assertEqual(self.web.asked, [])

    def test_the_whole_way(self) -> None:
        it = self.got()
        self.assertEqual(self.ready(it), "Bearer token-1")
        self.assertEqual(
            self.web.urls(),
            [
                METADATA,
                f"{ISSUER}/.well-known/oauth-authorization-server",
                f"{ISSUER}/register",
                f"{ISSUER}/token",
            ],
        )
        register, token = self.web.asked[2].json, self.web.asked[3]
        self.assertEqual(register["application_type"], "native")
        self.assertEqual(register["grant_types"], ["authorization_code", "refresh_token"])
        self.assertEqual(register["redirect_uris"], [REDIRECT])
        self.assertEqual(register["token_endpoint_auth_method"], "none")
        query = self.browser.query()
        self.assertEqual(query["resource"], SERVER)
        self.assertEqual(query["code_challenge_method"], "S256")
        self.assertEqual((query["client_id"], query["redirect_uri"]), ("client-1", REDIRECT))
        self.assertNotIn("scope", query)
        self.assertEqual(token.form["resource"], SERVER)
        self.assertEqual(token.form["client_id"], "client-1")
        self.assertEqual(token.headers["content-type"], "application/x-www-form-urlencoded")
        self.assertEqual(self.browser.released, 1)
        self.assertEqual(self.run_now(it.headers("GET", SERVER + "?x=1")), it.ready("POST", SERVER))

    def test_tokens_stay_at_their_origin(self) -> None:
        it = self.got()
        for url in (
            "https://evil.example/mcp",
            "https://mcp.example.evil.example/",
            "http://mcp.example/mcp",
        ):
            self.assertEqual(it.ready("POST", url), [], url)
            self.assertEqual(self.run_now(it.headers("POST", url)), [])
            self.assertFalse(self.run_now(it.challenged(401, challenge(), "POST", url)))
        for url in ("https://mcp.example", "https://mcp.example?x", "https://MCP.example:443/other"):
            self.assertEqual(token_of(it.ready("POST", url)), "Bearer token-1", url)

    def test_what_is_no_challenge(self) -> None:
        it = self.got()
        self.assertFalse(self.run_now(self.challenged(it, "Bearer", 500)))
        self.assertFalse(self.run_now(self.challenged(it, "Bearer", 403)))

    def test_without_a_challenge_the_well_known_places_are_asked(self) -> None:
        self.web.pages["https://mcp.example/.well-known/oauth-protected-resource"] = self.web.pages.pop(
            METADATA
        )
        self.setup.resource["resource"] = "https://mcp.example"
        it = self.setup.authorization(CODE)
        self.assertTrue(self.run_now(it.challenged(401, [], "POST", SERVER)))
        self.assertEqual(
            self.web.urls()[:2], [METADATA, "https://mcp.example/.well-known/oauth-protected-resource"]
        )
        self.assertEqual(self.browser.query()["resource"], "https://mcp.example")

    def test_metadata_where_the_challenge_says(self) -> None:
        elsewhere = "https://mcp.example/custom.json"
        self.web.pages[elsewhere] = self.web.pages.pop(METADATA)
        it = self.setup.authorization(CODE)
        self.assertTrue(self.run_now(self.challenged(it, f'Bearer resource_metadata="{elsewhere}"')))
        self.assertEqual(self.web.urls()[0], elsewhere)

    def test_metadata_that_are_not_where_the_challenge_says(self) -> None:
        it = self.setup.authorization(CODE)
        self.refused(
            self.challenged(it, 'Bearer resource_metadata="https://mcp.example/none"'), "and they are not"
        )
        self.refused(self.challenged(it, 'Bearer resource_metadata="http://mcp.example/x"'), "must use https")

    def test_openid_configuration(self) -> None:
        page = self.web.pages.pop(f"{ISSUER}/.well-known/oauth-authorization-server")
        self.web.pages[f"{ISSUER}/.well-known/openid-configuration"] = page
        self.assertEqual(self.ready(self.got()), "Bearer token-1")

    def test_a_server_without_any_metadata(self) -> None:
        self.web.pages.clear()
        old = AuthorizationServer(self.web, "https://mcp.example")
        del self.web.pages["https://mcp.example/.well-known/oauth-authorization-server"]
        it = self.setup.authorization(CODE, interaction=Browser(old))
        self.assertTrue(self.run_now(it.challenged(401, [], "POST", SERVER)))
        self.assertEqual(self.ready(it), "Bearer token-1")
        other = self.setup.authorization(AuthorizationCode(issuer=ISSUER), interaction=Browser(old))
        self.refused(other.challenged(401, [], "POST", SERVER), "for which the client is set up")

    def test_an_authorization_server_without_metadata(self) -> None:
        del self.web.pages[f"{ISSUER}/.well-known/oauth-authorization-server"]
        self.refused(self.challenged(self.setup.authorization(CODE)), "has no metadata at")

    def test_faults_on_the_way_are_transient(self) -> None:
        it = self.setup.authorization(CODE)
        kept = self.web.pages[METADATA]
        self.web.pages[METADATA] = of(503, {})
        self.assertTrue(self.refused(self.challenged(it), "answered 503").transient)
        self.web.pages[METADATA] = failing()
        self.assertTrue(self.refused(self.challenged(it), "down").transient)
        self.web.pages[METADATA] = kept
        self.assertTrue(self.run_now(self.challenged(it)))

    def test_metadata_of_another_resource(self) -> None:
        self.setup.resource["resource"] = "https://evil.example/mcp"
        self.refused(
            self.challenged(self.setup.authorization(CODE)), "these are the metadata of https://evil.example"
        )
        self.assertEqual(self.web.urls(), [METADATA])

    def test_which_of_several_servers(self) -> None:
        other = AuthorizationServer(self.web, "https://other.example")
        self.setup.resource["authorization_servers"] = ["https://other.example", ISSUER]
        self.got(AuthorizationCode(issuer=ISSUER))
        self.assertEqual((self.server.count, other.count), (1, 0))
        it = self.got(interaction=Browser(other))
        self.assertEqual(other.count, 1)
        self.setup.resource["authorization_servers"].reverse()
        self.setup.clock.advance(100)
        self.assertTrue(self.run_now(self.challenged(it)))
        self.assertEqual((self.server.count, other.count), (1, 2), "the one used before stays")
        wrong = self.setup.authorization(AuthorizationCode(issuer="https://third.example"))
        self.refused(self.challenged(wrong), "the client is set up for https://third.example")

    def test_refuses_plain_http(self) -> None:
        with self.assertRaisesRegex(ValueError, "must use https"):
            Authorization("http://mcp.example/mcp", CODE, fetch=self.web, clock=self.setup.clock)


class ScopeTests(FlowCase):
    def test_the_challenge_decides(self) -> None:
        self.setup.resource["scopes_supported"] = ["all"]
        it = self.setup.authorization(CODE)
        self.run_now(self.challenged(it, f'Bearer scope="a b", resource_metadata="{METADATA}"'))
        self.assertEqual(self.browser.query()["scope"], "a b")

    def test_else_the_metadata(self) -> None:
        self.setup.resource["scopes_supported"] = ["a", "b"]
        self.server.metadata["scopes_supported"] = ["a", "offline_access"]
        self.got()
        self.assertEqual(self.browser.query()["scope"], "a b offline_access")
        self.assertEqual(self.browser.query()["prompt"], "consent")
        self.got(AuthorizationCode(offline=False))
        self.assertEqual(self.browser.query()["scope"], "a b")

    def test_step_up_keeps_what_there_was(self) -> None:
        it = self.setup.authorization(CODE)
        self.run_now(self.challenged(it, 'Bearer scope="a"'))
        self.assertTrue(
            self.run_now(self.challenged(it, 'Bearer error="insufficient_scope", scope="b"', 403))
        )
        self.assertEqual(self.browser.query()["scope"], "a b")
        self.assertEqual(self.ready(it), "Bearer token-2")

    def test_step_up_that_brings_nothing_ends(self) -> None:
        it = self.setup.authorization(CODE)
        self.run_now(self.challenged(it, 'Bearer scope="a"'))
        error = self.refused(
            self.challenged(it, 'Bearer error="insufficient_scope", scope="a"', 403), "does not have: a"
        )
        self.assertEqual(error.code, "insufficient_scope")
        self.refused(self.challenged(it, 'Bearer error="insufficient_scope"', 403), "does not say which")
        self.assertEqual(len(self.browser.shown), 1)

    def test_step_up_is_bounded(self) -> None:
        it = self.got()
        for number in range(5):
            text = f'Bearer error="insufficient_scope", scope="s{number}"'
            self.assertTrue(self.run_now(self.challenged(it, text, 403)))
        self.refused(
            self.challenged(it, 'Bearer error="insufficient_scope", scope="s9"', 403), "5 times within 60 s"
        )
        self.setup.clock.advance(61)
        self.assertTrue(
            self.run_now(self.challenged(it, 'Bearer error="insufficient_scope", scope="s9"', 403))
        )

    def test_more_scopes_by_401(self) -> None:
        it = self.got()
        self.assertTrue(self.run_now(self.challenged(it, 'Bearer scope="b"')))
        self.assertEqual(self.browser.query()["scope"], "b")


class RenewalTests(FlowCase):
    def test_before_the_end(self) -> None:
        it = self.got()
        self.setup.clock.advance(3539)
        self.assertEqual(self.ready(it), "Bearer token-1")
        self.setup.clock.advance(1)
        self.assertIsNone(it.ready("POST", SERVER))
        self.assertEqual(token_of(self.run_now(it.headers("POST", SERVER))), "Bearer token-2")
        self.assertEqual(len(self.browser.shown), 1)
        form = self.web.asked[-1].form
        self.assertEqual((form["grant_type"], form["refresh_token"]), ("refresh_token", "refresh-1"))
        self.assertEqual(form["resource"], SERVER)
        self.assertEqual(self.web.urls().count(METADATA), 1)

    def test_after_a_refusal(self) -> None:
        it = self.got()
        self.setup.clock.advance(100)
        self.assertTrue(self.run_now(self.challenged(it, 'Bearer error="invalid_token"')))
        self.assertEqual(self.ready(it), "Bearer token-2")
        self.assertEqual(len(self.browser.shown), 1)

    def test_a_token_refused_at_once_is_not_got_again(self) -> None:
        it = self.got()
        self.refused(self.challenged(it), "another would be no different")
        self.assertEqual(self.server.count, 1)

    def test_the_refresh_token_is_kept_if_there_is_no_new_one(self) -> None:
        it = self.got()
        self.server.gives_refresh = False
        self.setup.clock.advance(3541)
        self.run_now(it.headers("POST", SERVER))
        self.server.refresh_tokens.add("refresh-1")
        self.setup.clock.advance(3541)
        self.run_now(it.headers("POST", SERVER))
        self.assertEqual(self.ready(it), "Bearer token-3")
        self.assertEqual(len(self.browser.shown), 1)

    def test_a_refresh_token_that_is_good_no_more(self) -> None:
        it = self.got()
        self.server.refresh_tokens.clear()
        self.setup.clock.advance(3541)
        self.run_now(it.headers("POST", SERVER))
        self.assertEqual(self.ready(it), "Bearer token-2")
        self.assertEqual(len(self.browser.shown), 2)

    def test_a_fault_leaves_a_good_token(self) -> None:
        it = self.got()
        page = self.web.pages[f"{ISSUER}/token"]
        self.web.pages[f"{ISSUER}/token"] = failing()
        self.setup.clock.advance(3545)
        self.assertEqual(token_of(self.run_now(it.headers("POST", SERVER))), "Bearer token-1")
        self.assertEqual(self.ready(it), "Bearer token-1")
        self.setup.clock.advance(29)
        self.assertEqual(self.ready(it), "Bearer token-1")
        self.setup.clock.advance(26)
        self.refused(it.headers("POST", SERVER), "down")
        self.web.pages[f"{ISSUER}/token"] = page
        self.assertEqual(token_of(self.run_now(it.headers("POST", SERVER))), "Bearer token-2")

    def test_an_ended_token_that_cannot_be_renewed_is_dropped(self) -> None:
        it = self.got()
        self.server.refusal = (400, {"error": "access_denied"})
        self.setup.clock.advance(3601)
        self.assertEqual(self.run_now(it.headers("POST", SERVER)), [])
        self.assertEqual(it.ready("POST", SERVER), [])

    def test_refreshing_meets_a_fault(self) -> None:
        it = self.got()
        self.server.refusal = (503, {"error": "temporarily_unavailable"})
        self.setup.clock.advance(100)
        self.assertTrue(self.refused(self.challenged(it)).transient)
        self.assertEqual(len(self.browser.shown), 1)

    def test_tokens_without_an_end(self) -> None:
        self.server.life = None
        it = self.got()
        self.setup.clock.advance(10**8)
        self.assertEqual(self.ready(it), "Bearer token-1")

    def test_credentials_are_used_again(self) -> None:
        self.server.gives_refresh = False
        self.server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        it = self.got(ClientCredentials(client_id="me", client_secret="s"))
        self.setup.clock.advance(3541)
        self.run_now(it.headers("POST", SERVER))
        self.assertEqual(self.ready(it), "Bearer token-2")

    def test_a_token_due_at_once(self) -> None:
        self.server.life = 0
        it = self.got()
        self.assertIsNone(it.ready("POST", SERVER))
        self.assertEqual(token_of(self.run_now(it.headers("POST", SERVER))), "Bearer token-2")

    def test_forgetting(self) -> None:
        store = MemoryStore()
        it = self.got(store=store)
        it.forget()
        self.assertEqual(it.ready("POST", SERVER), [])
        self.assertIsNone(store.load(StoreKey("token", "", ISSUER, SERVER)))
        self.setup.authorization(CODE).forget()


class FlightTests(FlowCase):
    def test_one_for_all(self) -> None:
        it = self.setup.authorization(CODE)
        self.web.held = []
        flights = [self.start(self.challenged(it, sent=())) for _ in range(5)]
        self.assertEqual(len(self.web.asked), 1)
        self.assertIsNone(it.ready("POST", SERVER), "who comes now waits too")
        late = self.start(it.headers("POST", SERVER))
        self.web.release()
        self.assertEqual([self.successResultOf(flight) for flight in flights], [True] * 5)
        self.assertEqual(token_of(self.successResultOf(late)), "Bearer token-1")
        self.assertEqual(self.server.count, 1)
        self.assertEqual(len(self.browser.shown), 1)

    def test_a_refusal_of_a_token_that_was_replaced(self) -> None:
        it = self.got()
        old = it.ready("POST", SERVER)
        self.setup.clock.advance(100)
        self.run_now(self.challenged(it, sent=old))
        self.assertTrue(self.run_now(self.challenged(it, sent=old)))
        self.assertTrue(
            self.run_now(self.challenged(it, 'Bearer error="insufficient_scope", scope="x"', 403, sent=()))
        )
        self.assertEqual(self.server.count, 2)

    def test_all_hear_of_a_failure(self) -> None:
        self.web.held = []
        self.web.pages[METADATA] = failing()
        it = self.setup.authorization(CODE)
        flights = [self.start(self.challenged(it, sent=())) for _ in range(3)]
        self.web.release()
        for flight in flights:
            self.failureResultOf(flight, AuthorizationError)
        self.assertEqual(it.ready("POST", SERVER), [])

    def test_a_good_token_serves_while_another_is_got(self) -> None:
        it = self.got()
        self.browser.away = Deferred()
        step = self.start(self.challenged(it, 'Bearer error="insufficient_scope", scope="x"', 403))
        self.assertEqual(self.ready(it), "Bearer token-1")
        self.browser.away.callback(None)
        self.assertTrue(self.successResultOf(step))
        self.assertEqual(self.ready(it), "Bearer token-2")

    def test_who_stops_waiting_stops_nobody_else(self) -> None:
        it = self.setup.authorization(CODE)
        self.web.held = []
        first, second = (self.start(self.challenged(it, sent=())) for _ in range(2))
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.web.release()
        self.assertTrue(self.successResultOf(second))

    def test_a_lasting_failure_is_told_again_for_a_while(self) -> None:
        self.browser.change = lambda back: {"state": back["state"], "iss": ISSUER, "error": "access_denied"}
        it = self.setup.authorization(CODE)
        error = self.refused(self.challenged(it), "refused: access_denied")
        self.assertEqual(error.code, "access_denied")
        self.refused(self.challenged(it), "refused: access_denied")
        self.assertEqual(len(self.browser.shown), 1)
        self.refused(self.challenged(it, 'Bearer scope="other"'), "refused: access_denied")
        self.assertEqual(len(self.browser.shown), 2, "another question")
        self.setup.clock.advance(31)
        self.refused(self.challenged(it, 'Bearer scope="other"'))
        self.assertEqual(len(self.browser.shown), 3)

    def test_a_fault_of_ours_reaches_all(self) -> None:
        self.browser.change = lambda back: {}["x"]
        it = self.setup.authorization(CODE)
        self.failureResultOf(self.start(self.challenged(it)), KeyError)
        self.assertEqual(it.ready("POST", SERVER), [])
        self.assertEqual(self.browser.released, 1)
