"""Tokens bound to a key (RFC 9449), and tokens that somebody else has got."""

import base64
import hashlib
from typing import Any

from erlmcp.client.oauth import (
    Authorization,
    AuthorizationCode,
    MemoryStore,
    StaticToken,
)
from erlmcp.client.oauth._endpoint import Nonces
from tests.oauth_doubles import (
    CODE,
    ISSUER,
    METADATA,
    SERVER,
    Answer,
    Asked,
    FlowCase,
    check_proof,
    of,
    proof_of,
    token_of,
)


class DPoPTests(FlowCase):
    DPOP = f'DPoP resource_metadata="{METADATA}"'

    def setUp(self) -> None:
        super().setUp()
        self.server.scheme = "DPoP"
        self.server.metadata["dpop_signing_alg_values_supported"] = ["RS256", "ES256"]

    def begin(self, grant: Any = CODE, **more: Any) -> Authorization:
        it = self.setup.authorization(grant, **more)
        self.assertTrue(self.run_now(self.challenged(it, self.DPOP)))
        return it

    def test_where_the_server_asks_for_it(self) -> None:
        it = self.begin()
        self.assertTrue(it.observes)
        token = self.web.asked[-1]
        claims = proof_of(token)
        self.assertEqual((claims["htm"], claims["htu"]), ("POST", f"{ISSUER}/token"))
        self.assertNotIn("ath", claims)
        self.assertTrue(self.web.to(f"{ISSUER}/register")[0].json["dpop_bound_access_tokens"])
        sent = dict(it.ready("POST", SERVER + "?q=1") or [])
        self.assertEqual(sent[b"authorization"], b"DPoP token-1")
        claims, key = check_proof(sent[b"dpop"].decode())
        digest = base64.urlsafe_b64encode(hashlib.sha256(b"token-1").digest()).rstrip(b"=").decode()
        self.assertEqual((claims["htu"], claims["htm"], claims["ath"]), (SERVER, "POST", digest))
        self.assertEqual(claims["iat"], int(self.setup.clock.seconds()))
        self.assertEqual(self.browser.query()["dpop_jkt"], key.thumbprint())
        again, _ = check_proof(dict(it.ready("POST", SERVER) or [])[b"dpop"].decode())
        self.assertNotEqual(again["jti"], claims["jti"])

    def test_by_the_metadata_of_the_resource(self) -> None:
        self.setup.resource["dpop_bound_access_tokens_required"] = True
        self.assertTrue(self.ready(self.got()).startswith("DPoP "))

    def test_never_and_not_offered(self) -> None:
        self.server.scheme = "Bearer"
        self.assertTrue(self.ready(self.begin(AuthorizationCode(dpop=False))).startswith("Bearer "))
        del self.server.metadata["dpop_signing_alg_values_supported"]
        self.assertTrue(self.ready(self.begin()).startswith("Bearer "))
        it = self.setup.authorization(AuthorizationCode(dpop=True))
        self.refused(self.challenged(it), "does not bind tokens to ES256 keys")

    def test_tokens_that_are_not_bound(self) -> None:
        self.server.scheme = "Bearer"
        it = self.setup.authorization(AuthorizationCode(dpop=True))
        self.refused(self.challenged(it), "is not bound to our key")
        lenient = self.begin()
        self.assertEqual(self.ready(lenient), "Bearer token-2")
        self.assertFalse(lenient.observes)

    def test_tokens_bound_to_nothing_we_have(self) -> None:
        it = self.setup.authorization(AuthorizationCode(dpop=False))
        self.refused(self.challenged(it), "and none was shown")

    def test_nonces_of_the_authorization_server(self) -> None:
        self.server.nonce = "as-nonce"
        self.begin()
        first, second = (proof_of(asked) for asked in self.web.to(f"{ISSUER}/token"))
        self.assertNotIn("nonce", first)
        self.assertEqual(second["nonce"], "as-nonce")
        self.assertNotEqual(first["jti"], second["jti"])

    def test_a_nonce_demanded_twice(self) -> None:
        self.web.pages[f"{ISSUER}/token"] = of(400, {"error": "use_dpop_nonce"}, dpop_nonce="n")
        self.refused(self.challenged(self.setup.authorization(CODE), self.DPOP), "use_dpop_nonce")
        self.assertEqual(len(self.web.to(f"{ISSUER}/token")), 2)

    def test_nonces_of_the_mcp_server(self) -> None:
        it = self.begin()
        sent = it.ready("POST", SERVER)
        text = 'DPoP error="use_dpop_nonce"'
        it.observed([(b"dpop-nonce", b"rs-1")])
        self.assertTrue(self.run_now(self.challenged(it, text, sent=sent, dpop_nonce="rs-1")))
        sent = it.ready("POST", SERVER)
        self.assertEqual(check_proof(dict(sent or [])[b"dpop"].decode())[0]["nonce"], "rs-1")
        self.refused(self.challenged(it, text, sent=sent, dpop_nonce="rs-1"), "nonce that it was sent")
        it.observed([(b"dpop-nonce", b"rs-2"), (b"x", b"y")])
        it.observed([])
        it.observed([(b"dpop-nonce", b"a\r\nb")])
        self.assertEqual(
            check_proof(dict(it.ready("GET", SERVER) or [])[b"dpop"].decode())[0]["nonce"], "rs-2"
        )
        self.assertEqual(self.server.count, 1)

    def test_nonces_are_bounded(self) -> None:
        nonces = Nonces()
        for number in range(20):
            self.assertTrue(nonces.note(f"https://h{number}.example/x", "n"))
        self.assertEqual(
            [nonces.get(f"https://h{number}.example/") for number in (0, 11, 12, 19)], ["", "", "n", "n"]
        )
        self.assertFalse(nonces.note("https://h19.example/", "n" * 2000))

    def test_a_new_nonce_with_the_tokens(self) -> None:
        page = self.web.pages[f"{ISSUER}/token"]

        def with_nonce(asked: Asked) -> Answer:
            answer = page(asked)
            answer.headers.append((b"DPoP-Nonce", b"next"))
            return answer  # type: ignore[no-any-return]

        self.web.pages[f"{ISSUER}/token"] = with_nonce
        it = self.begin()
        self.setup.clock.advance(3541)
        self.run_now(it.headers("POST", SERVER))
        self.assertEqual(proof_of(self.web.asked[-1])["nonce"], "next")

    def test_the_key_stays_with_its_token(self) -> None:
        store = MemoryStore()
        it = self.begin(store=store)
        _, before = check_proof(dict(it.ready("POST", SERVER) or [])[b"dpop"].decode())
        later = self.setup.authorization(CODE, store=store)
        self.setup.clock.advance(3541)
        sent = self.run_now(later.headers("POST", SERVER))
        self.assertEqual(token_of(sent), "DPoP token-2")
        _, after = check_proof(dict(sent)[b"dpop"].decode())
        self.assertEqual(before.thumbprint(), after.thumbprint())
        self.assertEqual(check_proof(self.web.asked[-1].headers["dpop"])[1].thumbprint(), before.thumbprint())


class StaticTests(FlowCase):
    def test_from_the_first_request_on(self) -> None:
        it = self.setup.authorization(StaticToken("given"))
        self.assertEqual(token_of(self.run_now(it.headers("POST", SERVER))), "Bearer given")
        self.assertEqual(self.ready(it), "Bearer given")
        self.refused(self.challenged(it), "refuses the token that the client is given")
        self.assertEqual(self.web.asked, [])

    def test_a_supplier_is_asked_again(self) -> None:
        tokens = ["one\n", "two"]

        async def slowly() -> str:
            return tokens.pop(0)

        it = self.setup.authorization(StaticToken(slowly))
        self.run_now(it.headers("POST", SERVER))
        self.assertTrue(self.run_now(self.challenged(it)))
        self.assertEqual(self.ready(it), "Bearer two")

    def test_what_no_header_can_carry(self) -> None:
        for token in ("", "a b", "ä", "a\nb"):
            it = self.setup.authorization(StaticToken(token))
            self.refused(it.headers("POST", SERVER), "cannot stand in a header")
