"""What an upstream's table says of credentials: every mistake in words, and no secret in any of them."""

import tomllib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from erlmcp.config import CredentialSettings, OAuthSettings, Secret, read_credentials
from erlmcp.config._sources import Merged, Source

SECRET = "client_secret = { env = 'S' }\n"
OAUTH = "[upstream.oauth]\nclient_id = 'x'\n" + SECRET


class CredentialTables(SynchronousTestCase):
    def read(self, text: str) -> tuple[CredentialSettings | None, list[str]]:
        whole = "[[upstream]]\nname = 'x'\n" + text
        merged = Merged()
        merged.add(Source("f", whole, tomllib.loads(whole)))
        table: dict[str, Any] = merged.table["upstream"][0]
        found = read_credentials(table, ("upstream", 0), merged)
        return found, [str(one).removeprefix("f:") for one in merged.problems]

    def right(self, text: str) -> CredentialSettings:
        found, problems = self.read(text)
        self.assertEqual(problems, [])
        assert found is not None
        return found

    def wrong(self, text: str, why: str) -> None:
        found, problems = self.read(text)
        self.assertIsNone(found)
        self.assertEqual(len(problems), 1, problems)
        self.assertRegex(problems[0], why)
        self.assertNotIn("sesame", problems[0])

    def test_nothing(self) -> None:
        self.assertEqual(self.right(""), CredentialSettings())

    def test_everything_of_http(self) -> None:
        found = self.right(
            "headers = { X-Team = 'blue', x-api-key = { file = '/k' } }\n" + OAUTH + "scopes = ['a']\n"
        )
        self.assertEqual(found.headers, {"X-Team": "blue", "x-api-key": Secret(file="/k")})
        self.assertEqual(
            found.oauth, OAuthSettings(client_id="x", client_secret=Secret(env="S"), scopes=("a",))
        )

    def test_env(self) -> None:
        found = self.right("env = { LANG = 'C', KEY = { credential = 'k' } }\n")
        self.assertEqual(found.env, {"LANG": "C", "KEY": Secret(credential="k")})

    def test_secrets_in_the_file(self) -> None:
        self.wrong(
            "token = 'sesame'\n", r"3: upstream\[1\].token: a secret is never written in the file itself"
        )
        self.wrong(
            "headers = { Authorization = 'Bearer sesame' }\n", "Authorization is a secret, which is never"
        )
        self.wrong(
            "[upstream.oauth]\nclient_id = 'x'\nclient_secret = 'sesame'\n",
            r"5: upstream\[1\].oauth.client_secret: a secret is never",
        )

    def test_headers(self) -> None:
        self.wrong("headers = { 'a b' = 'x' }\n", "'a b' is no name of a header field")
        self.wrong("headers = { Host = 'x' }\n", "Host is set by the protocol")
        self.wrong("headers = { mcp-method = 'x' }\n", "mcp-method is set by the protocol")
        self.wrong("headers = { x = 'sesame\\n' }\n".replace("'", '"'), "the value of x has characters")
        self.wrong("headers = { x = ' sesame' }\n", "or blanks around it")
        self.wrong("headers = { x = '1', X = '2' }\n", "headers has x twice")
        self.wrong("headers = { x = 7 }\n", r"upstream\[1\].headers")

    def test_variables(self) -> None:
        self.wrong("env = { 'A=B' = 'x' }\n", "'A=B' is no name of a variable")

    def test_one_way_only(self) -> None:
        self.wrong("token = { env = 'T' }\n" + OAUTH, "token and oauth: each sets the header Authorization")
        self.wrong(
            "token = { env = 'T' }\nheaders = { Authorization = { env = 'A' } }\n",
            "token and headers.authorization",
        )

    def test_oauth(self) -> None:
        head = "[upstream.oauth]\nclient_id = 'x'\n"
        key = "private_key = { file = '/k' }\n"
        self.wrong("oauth = 7\n", "it must be a table")
        self.wrong("[upstream.oauth]\n" + SECRET, "client_id: is missing")
        self.wrong(head, "expected a client_secret or a private_key")
        self.wrong(head + SECRET + key, "expected a client_secret or a private_key")
        self.wrong(
            head + key + "auth_method = 'client_secret_post'\n", "auth_method is about a client_secret"
        )
        self.wrong(head + SECRET + "key_id = 'k'\n", "key_id and algorithm are about a private_key")
        self.wrong(head + SECRET + "audience = 'k'\n", "audience is about")
        self.wrong(head + SECRET + "grant = 'token_exchange'\n", "token_exchange needs an issuer")
        self.wrong(
            head + SECRET + "grant = 'password'\n", "it must be 'client_credentials' or 'token_exchange'"
        )
        self.wrong(head + SECRET + "scope = 'a'\n", "unknown key; did you mean .*scopes|unknown key.*scopes")
        found = self.right(head + key + "key_id = 'k'\nalgorithm = 'ES256'\n").oauth
        assert found is not None
        self.assertEqual((found.private_key, found.key_id), (Secret(file="/k"), "k"))
        exchange = self.right(
            head + SECRET + "grant = 'token_exchange'\nissuer = 'https://as'\naudience = 'a'\n"
        )
        assert exchange.oauth is not None
        self.assertEqual(exchange.oauth.audience, "a")
