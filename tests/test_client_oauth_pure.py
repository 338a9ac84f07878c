"""The pure parts of `erlmcp.client.oauth`: challenges, URLs, metadata, scopes, tokens, verdicts, addresses."""

import contextlib
import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client.oauth import AddressGuard, AuthorizationError
from erlmcp.client.oauth._challenge import Challenge, chosen, parse_challenges
from erlmcp.client.oauth._metadata import assumed_server, read_resource, read_server
from erlmcp.client.oauth._scopes import MAX_SCOPES, missing, select_scopes, union, with_offline
from erlmcp.client.oauth._tokens import Tokens, read_answer, read_tokens
from erlmcp.client.oauth._urls import (
    canonical_resource,
    check_endpoint,
    covers,
    is_loopback,
    origin,
    resource_metadata_urls,
    server_metadata_urls,
    without_query,
)
from erlmcp.client.oauth._verdict import Refusal, Verdict, judge
from tests.oauth_doubles import ISSUER, METADATA, SERVER, Answer, of

property_test = settings(deadline=None, max_examples=80)


def parse(*values: str) -> list[tuple[str, dict[str, str]]]:
    fields = [(b"www-authenticate", value.encode()) for value in values]
    return [(one.scheme, one.parameters) for one in parse_challenges(fields)]


class ChallengeTests(SynchronousTestCase):
    def test_forms(self) -> None:
        cases: list[tuple[tuple[str, ...], list[tuple[str, dict[str, str]]]]] = [
            (("Bearer",), [("bearer", {})]),
            (
                ('Bearer scope="a b", resource_metadata="https://x/y"',),
                [("bearer", {"scope": "a b", "resource_metadata": "https://x/y"})],
            ),
            (("Bearer resource_metadata=https://x/y",), [("bearer", {"resource_metadata": "https://x/y"})]),
            (('BEARER Error = "x\\"y\\\\"',), [("bearer", {"error": 'x"y\\'})]),
            (
                ('Basic realm="a", DPoP algs="ES256"',),
                [("basic", {"realm": "a"}), ("dpop", {"algs": "ES256"})],
            ),
            (("Negotiate abc==, Bearer error=e",), [("negotiate", {}), ("bearer", {"error": "e"})]),
            (("Basic realm=a", "Bearer"), [("basic", {"realm": "a"}), ("bearer", {})]),
            (('Bearer error="first", error="second"',), [("bearer", {"error": "first"})]),
            (('Bearer error="never ends',), [("bearer", {})]),
            ((" , ,Bearer , error=e ,",), [("bearer", {"error": "e"})]),
            (("",), []),
            (('="x"',), []),
        ]
        for values, expected in cases:
            self.assertEqual(parse(*values), expected, values)

    def test_other_fields_are_not_read(self) -> None:
        self.assertEqual(parse_challenges([(b"authorization", b"Bearer x")]), [])

    def test_bounds(self) -> None:
        self.assertEqual(len(parse(", ".join(f"S{number}" for number in range(99)))), 16)
        many = parse("Bearer " + ", ".join(f"p{number}=v" for number in range(99)))
        self.assertEqual(len(many[0][1]), 32)
        self.assertEqual(parse("Bearer a=b," + " " * 20_000 + "c=d"), [("bearer", {"a": "b"})])
        self.assertEqual(len(parse("x " * 9000, "Bearer")), 16)

    @property_test
    @given(st.text())
    def test_anything(self, text: str) -> None:
        parse(text)

    @property_test
    @given(
        st.dictionaries(
            st.from_regex(r"[a-z_]{1,10}", fullmatch=True),
            st.text(st.characters(codec="latin-1")),
            max_size=5,
        )
    )
    def test_quoted_values_come_back(self, parameters: dict[str, str]) -> None:
        quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in parameters.items()}
        text = "Bearer " + ", ".join(f'{name}="{value}"' for name, value in quoted.items())
        (found,) = parse_challenges([(b"WWW-Authenticate", text.encode("latin-1"))])
        self.assertEqual(found.parameters, parameters)

    def test_the_one_to_go_by(self) -> None:
        basic, bearer, dpop = (Challenge(scheme) for scheme in ("basic", "bearer", "dpop"))
        self.assertIs(chosen([basic, bearer, dpop]), dpop)
        self.assertIs(chosen([basic, bearer]), bearer)
        self.assertIsNone(chosen([basic]))


class UrlTests(SynchronousTestCase):
    def test_where_resource_metadata_are(self) -> None:
        base = "https://h.example/.well-known/oauth-protected-resource"
        self.assertEqual(resource_metadata_urls("https://h.example/mcp"), [f"{base}/mcp", base])
        self.assertEqual(resource_metadata_urls("https://H.example:443/a/b/"), [f"{base}/a/b", base])
        self.assertEqual(resource_metadata_urls("https://h.example/"), [base])
        self.assertEqual(resource_metadata_urls("https://h.example/?a=b"), [f"{base}?a=b", base])

    def test_where_server_metadata_are(self) -> None:
        base = "https://as.example/.well-known"
        self.assertEqual(
            server_metadata_urls("https://as.example"),
            [f"{base}/oauth-authorization-server", f"{base}/openid-configuration"],
        )
        self.assertEqual(
            server_metadata_urls("https://as.example/tenant1"),
            [
                f"{base}/oauth-authorization-server/tenant1",
                f"{base}/openid-configuration/tenant1",
                "https://as.example/tenant1/.well-known/openid-configuration",
            ],
        )

    def test_names_of_resources(self) -> None:
        cases = {
            "https://mcp.example.com/": "https://mcp.example.com",
            "HTTPS://MCP.example.com/mcp?x=1#f": "https://mcp.example.com/mcp",
            "http://[::1]:8080/mcp": "http://[::1]:8080/mcp",
            "https://mcp.example.com:8443": "https://mcp.example.com:8443",
        }
        for url, name in cases.items():
            self.assertEqual(canonical_resource(url), name)

    def test_whose_metadata_they_are(self) -> None:
        ours = "https://h.example/a/mcp"
        for good in (ours, ours + "/", "https://h.example", "https://h.example/", "https://H.example:443/a"):
            self.assertTrue(covers(good, ours), good)
        for bad in (
            "https://h.example/a/mc",
            "https://h.example/a/mcp/b",
            "https://evil.example/a/mcp",
            "http://h.example/a/mcp",
            "https://h.example:444/a/mcp",
            "https://h.example:x/a/mcp",
            "https://h.example/a/mcp?other=1",
        ):
            self.assertFalse(covers(bad, ours), bad)

    def test_what_may_be_asked(self) -> None:
        for good in (
            "https://a.example/x?y",
            "http://localhost:3000/t",
            "http://127.0.0.1/t",
            "http://[::1]/t",
        ):
            self.assertEqual(check_endpoint(good, "it"), good)
        for bad in (
            "http://a.example/t",
            "ftp://a.example",
            "javascript:alert(1)",
            "https://user@a.example/",
            "https://a.example/#f",
            "https:///t",
            "https://a.example:x/",
            "https://a.example/ b",
            "https://a.example/\r\n",
            "https://ä.example/",
            "https://a.example/" + "a" * 5000,
            "https://[::1/",
            "",
            None,
            7,
        ):
            with self.assertRaisesRegex(AuthorizationError, "^it "):
                check_endpoint(bad, "it")

    def test_loopback(self) -> None:
        self.assertTrue(all(map(is_loopback, ("localhost", "a.localhost", "127.9.9.9", "::1"))))
        self.assertFalse(any(map(is_loopback, ("localhost.example", "10.0.0.1", "::2", ""))))

    def test_proofs_name_no_query(self) -> None:
        self.assertEqual(without_query("https://a.example/b?c=d#e"), "https://a.example/b")
        self.assertEqual(without_query("https://a.example"), "https://a.example/")
        self.assertEqual(origin("https://A.example:443/b"), "https://a.example")


class MetadataTests(SynchronousTestCase):
    def test_resource(self) -> None:
        document = {
            "resource": SERVER,
            "authorization_servers": [ISSUER],
            "scopes_supported": ["a"],
            "dpop_bound_access_tokens_required": True,
        }
        found = read_resource(document, SERVER, METADATA)
        self.assertEqual(
            (found.resource, found.servers, found.scopes, found.bound), (SERVER, (ISSUER,), ("a",), True)
        )

    def test_resources_that_are_refused(self) -> None:
        good = {"resource": SERVER, "authorization_servers": [ISSUER]}
        for change, why in (
            ({"resource": None}, "no resource"),
            ({"resource": "https://evil.example/mcp"}, "not of https://mcp.example/mcp"),
            ({"resource": "http://mcp.example/mcp"}, "must use https"),
            ({"authorization_servers": []}, "names none"),
            ({"authorization_servers": "x"}, "not a list of strings"),
            ({"authorization_servers": ["http://as.example"]}, "must use https"),
            ({"scopes_supported": [1]}, "scopes_supported is not a list"),
        ):
            with self.assertRaisesRegex(AuthorizationError, why):
                read_resource({**good, **change}, SERVER, METADATA)

    def test_server(self) -> None:
        found = read_server(
            {
                "issuer": ISSUER,
                "token_endpoint": f"{ISSUER}/t",
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                "client_id_metadata_document_supported": True,
            },
            ISSUER,
            "w",
        )
        self.assertEqual((found.token_endpoint, found.registration_endpoint), (f"{ISSUER}/t", ""))
        self.assertEqual((found.challenges, found.methods), (("S256",), None))
        self.assertTrue(found.names_issuer)
        self.assertTrue(found.takes_documents)

    def test_servers_that_are_refused(self) -> None:
        for document, why in (
            ({"issuer": "https://attacker.example"}, "it is not used"),
            ({"issuer": ISSUER + "/"}, "it is not used"),
            ({}, "it is not used"),
            ({"issuer": ISSUER, "token_endpoint": "http://as.example/t"}, "token_endpoint"),
            ({"issuer": ISSUER, "authorization_endpoint": "javascript:x"}, "authorization_endpoint"),
            ({"issuer": ISSUER, "registration_endpoint": 7}, "registration_endpoint"),
        ):
            with self.assertRaisesRegex(AuthorizationError, why):
                read_server(document, ISSUER, "w")

    def test_lists_are_bounded(self) -> None:
        scopes = ["x" * 2000, *(str(number) for number in range(900))]
        found = read_server({"issuer": ISSUER, "scopes_supported": scopes}, ISSUER, "w")
        assert found.scopes is not None
        self.assertEqual(len(found.scopes), 199)

    def test_without_metadata(self) -> None:
        found = assumed_server("https://old.example/deep/mcp")
        self.assertEqual(found.token_endpoint, "https://old.example/token")
        self.assertEqual(found.issuer, "https://old.example")

    @property_test
    @given(
        st.dictionaries(
            st.sampled_from(
                ["resource", "authorization_servers", "scopes_supported", "issuer", "token_endpoint"]
            ),
            st.none() | st.integers() | st.text() | st.lists(st.text()),
        )
    )
    def test_anything(self, document: dict[str, object]) -> None:
        for read in (
            lambda: read_resource(document, SERVER, "w"),
            lambda: read_server(document, ISSUER, "w"),
        ):
            with contextlib.suppress(AuthorizationError):
                read()


class ScopeTests(SynchronousTestCase):
    def test_the_order(self) -> None:
        supported = ("s1", "s2")
        self.assertEqual(select_scopes(("c",), supported, (), ()), ("c",))
        self.assertEqual(select_scopes((), supported, (), ()), supported)
        self.assertEqual(select_scopes((), None, (), ()), ())
        self.assertEqual(select_scopes((), supported, ("mine",), ()), ("mine",))
        self.assertEqual(select_scopes(("c",), supported, ("mine",), ("before",)), ("mine", "before", "c"))
        self.assertEqual(select_scopes((), supported, (), ("before",)), ("before",))

    def test_offline(self) -> None:
        self.assertEqual(with_offline(("a",), ("a", "offline_access")), ("a", "offline_access"))
        self.assertEqual(with_offline(("a",), ("a",)), ("a",))
        self.assertEqual(with_offline(("a",), None), ("a",))
        self.assertEqual(with_offline((), ("offline_access",)), ())

    def test_missing(self) -> None:
        self.assertEqual(missing(("a", "b"), ("b",)), ("a",))
        self.assertEqual(missing((), ()), ())

    @property_test
    @given(st.lists(st.lists(st.text())))
    def test_union(self, groups: list[list[str]]) -> None:
        found = union(*groups)
        self.assertEqual(len(set(found)), len(found))
        self.assertLessEqual(len(found), MAX_SCOPES)


class TokenTests(SynchronousTestCase):
    def read(self, **more: object) -> Tokens:
        return read_tokens({"access_token": "t", "token_type": "bearer", **more}, ("a",), 1000.0, "there")

    def test_times(self) -> None:
        self.assertEqual(
            (self.read(expires_in=3600).expires, self.read(expires_in=3600).renew), (4600.0, 4540.0)
        )
        self.assertEqual(self.read(expires_in="40").renew, 1020.0)
        self.assertEqual(self.read(expires_in=0).renew, 1000.0)
        self.assertTrue(math.isinf(self.read().expires))
        self.assertLess(self.read(expires_in=10**30).expires, 10**10)

    def test_scopes(self) -> None:
        self.assertEqual(self.read(scope="b c").granted, ("b", "c"))
        self.assertEqual(self.read(scope=" ").granted, ("a",))
        self.assertEqual(self.read().requested, ("a",))

    def test_refused(self) -> None:
        for more in (
            {"access_token": None},
            {"access_token": ""},
            {"access_token": "a b"},
            {"access_token": "a\r\nx: y"},
            {"access_token": "a" * 70_000},
            {"refresh_token": 7},
            {"token_type": "mac"},
            {"token_type": None},
            {"expires_in": -1},
            {"expires_in": "soon"},
            {"expires_in": True},
            {"expires_in": float("nan")},
            {"expires_in": []},
        ):
            with self.assertRaisesRegex(AuthorizationError, "^there: "):
                self.read(**more)

    def test_records(self) -> None:
        for tokens in (self.read(), self.read(expires_in=60, refresh_token="r", scope="b")):
            self.assertEqual(Tokens.restore(json.loads(json.dumps(tokens.record()))), tokens)
        self.assertIsNone(Tokens.restore({}))
        self.assertIsNone(Tokens.restore({**self.read().record(), "obtained": "x"}))

    def test_secrets_are_not_shown(self) -> None:
        self.assertNotIn(
            "sesame",
            repr(
                read_tokens(
                    {"access_token": "sesame", "refresh_token": "sesame", "token_type": "DPoP"}, (), 0, ""
                )
            ),
        )

    def test_errors(self) -> None:
        for answer, code, transient, why in (
            (
                of(400, {"error": "invalid_grant", "error_description": "old\r\nX"}),
                "invalid_grant",
                False,
                r"invalid_grant \(old  X\)",
            ),
            (of(200, {"error": "bad_verification_code"}), "bad_verification_code", False, "refused"),
            (of(503, {"error": "temporarily_unavailable"}), "temporarily_unavailable", True, "refused"),
            (Answer(502, [(b"content-type", b"text/html")], b"<html>"), "", True, "502 with text/html"),
            (Answer(200, [], b"[]"), "", False, "no content type"),
            (Answer(429, [], b""), "", True, "429"),
            (of(400, {"error": 7}), "", False, "400"),
        ):
            with self.assertRaisesRegex(AuthorizationError, why) as caught:
                read_answer(answer, "there")
            self.assertEqual((caught.exception.code, caught.exception.transient), (code, transient))
        self.assertEqual(read_answer(of(201, {"a": 1}), "there"), {"a": 1})


class VerdictTests(SynchronousTestCase):
    def judge(self, status: int = 401, error: str = "", **more: object) -> Verdict:
        made = Challenge("bearer", {"error": error} if error else {})
        values: dict[str, object] = {
            "sent": True,
            "stale": False,
            "bound": False,
            "new_nonce": False,
            "age": 99.0,
            "missing": (),
        }
        return judge(Refusal(status=status, challenge=made, **{**values, **more}))  # type: ignore[arg-type]

    def test_table(self) -> None:
        for expected, got in (
            (Verdict.RENEW, self.judge(sent=False)),
            (Verdict.RENEW, self.judge()),
            (Verdict.RENEW, self.judge(error="invalid_token")),
            (Verdict.AGAIN, self.judge(stale=True)),
            (Verdict.NOT_OURS, self.judge(403)),
            (Verdict.NOT_OURS, self.judge(403, stale=True)),
            (Verdict.STEP_UP, self.judge(403, "insufficient_scope", missing=("a",))),
            (Verdict.STEP_UP, self.judge(401, "insufficient_scope", missing=("a",))),
            (Verdict.SCOPES, self.judge(403, "insufficient_scope")),
            (Verdict.AGAIN, self.judge(403, "insufficient_scope", stale=True)),
            (Verdict.RENEW, self.judge(403, "insufficient_scope", sent=False)),
            (Verdict.AGAIN, self.judge(error="use_dpop_nonce", bound=True, new_nonce=True)),
            (Verdict.NONCE, self.judge(error="use_dpop_nonce", bound=True)),
            (Verdict.RENEW, self.judge(error="use_dpop_nonce")),
        ):
            self.assertIs(got, expected)
        self.assertIs(judge(Refusal(401, None, False, False, False, False, 0.0, ())), Verdict.RENEW)


class GuardTests(SynchronousTestCase):
    def test_private_addresses(self) -> None:
        guard = AddressGuard()
        for address in (
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1%eth0",
            "fc00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b:1::7f00:1",
            "fec0::1",
            "3fff::1",
            "5f00::1",
            "192.0.0.8",
            "192.88.99.1",
        ):
            with self.assertRaisesRegex(ValueError, "no public address"):
                guard.admit(address)

    def test_public_addresses(self) -> None:
        for address in (
            "93.184.216.34",
            "2606:2800:220:1:248:1893:25c8:1946",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ):
            AddressGuard().admit(address)

    def test_what_is_allowed(self) -> None:
        guard = AddressGuard(["127.0.0.0/8", "fc00::/7"])
        guard.admit("127.0.0.5")
        guard.admit("::ffff:127.0.0.5")
        guard.admit("fd00::1")
        with self.assertRaises(ValueError):
            guard.admit("10.0.0.1")
        with self.assertRaises(ValueError):
            AddressGuard(["here"])
