"""An authorization server and a protected MCP server in memory, for the tests of `erlmcp.client.oauth`."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client.oauth import Authorization, AuthorizationCode, AuthorizationError, Redirected

T = TypeVar("T")
CODE = AuthorizationCode()
SERVER = "https://mcp.example/mcp"
METADATA = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
ISSUER = "https://as.example"
REDIRECT = "http://127.0.0.1:3000/callback"


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


@dataclass
class Asked:
    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def basic(self) -> tuple[str, str]:
        scheme, _, pair = self.headers["authorization"].partition(" ")
        assert scheme == "Basic"
        name, _, secret = base64.b64decode(pair).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)


def of(status: int, document: Any, **headers: str) -> Answer:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Answer(status, [(b"content-type", b"application/json"), *fields], json.dumps(document).encode())


NOT_FOUND = Answer(404, [(b"content-type", b"text/html")], b"<html>")


class Web:
    """A `Fetch` that answers from a table, and remembers what it was asked. What is held waits for `release`."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.asked: list[Asked] = []
        self.held: list[Deferred[None]] | None = None

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Any,
        body: bytes,
        limit: int,
        timeout: float,  # noqa: ASYNC109
    ) -> Answer:
        assert limit > 0
        assert timeout > 0
        fields = [(name.decode(), value.decode()) for name, value in headers]
        assert len(dict(fields)) == len(fields), "a field twice"
        asked = Asked(method, url, dict(fields), body)
        self.asked.append(asked)
        if self.held is not None:
            wait: Deferred[None] = Deferred()
            self.held.append(wait)
            await wait
        page = self.pages.get(url.partition("?")[0], NOT_FOUND)
        if isinstance(page, Exception):
            raise page
        result = page(asked) if callable(page) else page
        assert isinstance(result, Answer)
        return result

    def release(self) -> None:
        held, self.held = self.held or [], None
        for wait in held:
            wait.callback(None)

    def urls(self) -> list[str]:
        return [asked.url for asked in self.asked]

    def to(self, url: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.url == url]


class AuthorizationServer:
    """Registers, authorizes and gives tokens; each part can be changed by a test."""

    def __init__(self, web: Web, issuer: str = ISSUER, **metadata: Any) -> None:
        self.web = web
        self.issuer = issuer
        self.metadata: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "registration_endpoint": f"{issuer}/register",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            **metadata,
        }
        self.metadata = {name: value for name, value in self.metadata.items() if value is not None}
        self.count = 0
        self.registered = 0
        self.life: int | None = 3600
        self.gives_refresh = True
        self.scheme = "Bearer"
        self.granted: str | None = None
        self.nonce = ""
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.registration: dict[str, Any] = {}
        self.refresh_tokens: set[str] = set()
        self.code_challenge = ""
        self.publish()

    def publish(self) -> None:
        parts = urlsplit(self.issuer)
        well_known = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path}"
        self.web.pages[well_known] = lambda asked: of(200, self.metadata)
        self.web.pages[f"{self.issuer}/register"] = self.register
        self.web.pages[f"{self.issuer}/token"] = self.token

    def register(self, asked: Asked) -> Answer:
        self.registered += 1
        return of(201, {"client_id": f"client-{self.registered}", **self.registration})

    def authorize(self, url: str) -> dict[str, str]:
        """What the browser comes back with."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert url.startswith(f"{self.issuer}/authorize?")
        self.code_challenge = query["code_challenge"]
        return {"code": "the-code", "state": query["state"], "iss": self.issuer}

    def token(self, asked: Asked) -> Answer:
        form = asked.form
        if self.nonce and self.nonce != proof_of(asked).get("nonce"):
            return of(400, {"error": "use_dpop_nonce"}, dpop_nonce=self.nonce)
        if self.refusal is not None:
            return of(*self.refusal)
        if form["grant_type"] == "authorization_code":
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == self.code_challenge
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self.refresh_tokens:
                return of(400, {"error": "invalid_grant"})
            self.refresh_tokens.remove(form["refresh_token"])
        self.count += 1
        answer: dict[str, Any] = {"access_token": f"token-{self.count}", "token_type": self.scheme}
        if self.life is not None:
            answer["expires_in"] = self.life
        if self.gives_refresh:
            answer["refresh_token"] = f"refresh-{self.count}"
            self.refresh_tokens.add(f"refresh-{self.count}")
        if self.granted is not None:
            answer["scope"] = self.granted
        return of(200, answer)


def proof_of(asked: Asked) -> dict[str, Any]:
    return check_proof(asked.headers["dpop"])[0]


def check_proof(proof: str) -> tuple[dict[str, Any], ECKey]:
    """Verify a DPoP proof with somebody else's code."""
    head = json.loads(base64.urlsafe_b64decode(proof.split(".", maxsplit=1)[0] + "=="))
    assert head["typ"] == "dpop+jwt"
    assert set(head["jwk"]) == {"kty", "crv", "x", "y"}
    key = ECKey.import_key(head["jwk"])
    return dict(jwt.decode(proof, key, algorithms=["ES256"]).claims), key


class Browser:
    """An `Interaction` without a user: follows the URL to the authorization server in memory."""

    def __init__(self, server: AuthorizationServer, redirect_uri: str = REDIRECT) -> None:
        self.server = server
        self.redirect_uri = redirect_uri
        self.shown: list[str] = []
        self.preferred: list[str] = []
        self.released = 0
        self.change: Callable[[dict[str, str]], dict[str, str]] = lambda back: back
        self.away: Deferred[None] | None = None

    async def prepare(self, preferred: str) -> str:
        self.preferred.append(preferred)
        return self.redirect_uri

    async def authorize(self, url: str, redirect_uri: str, state: str) -> Redirected:
        self.shown.append(url)
        assert redirect_uri == self.redirect_uri
        if self.away is not None:
            await self.away
        return Redirected(**self.change(self.server.authorize(url)))

    def done(self) -> None:
        self.released += 1

    def query(self, index: int = -1) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.shown[index]).query))


class Setup:
    """A web with an MCP server that is protected by one authorization server."""

    def __init__(self, **metadata: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.web = Web()
        self.server = AuthorizationServer(self.web, **metadata)
        self.browser = Browser(self.server)
        self.resource: dict[str, Any] = {"resource": SERVER, "authorization_servers": [ISSUER]}
        self.web.pages[METADATA] = lambda asked: of(200, self.resource)

    def authorization(self, grant: Any, **more: Any) -> Authorization:
        arguments: dict[str, Any] = {
            "fetch": self.web,
            "clock": self.clock,
            "interaction": self.browser,
            **more,
        }
        return Authorization(SERVER, grant, **arguments)


def challenge(text: str = "", **more: str) -> list[tuple[bytes, bytes]]:
    fields = [(b"www-authenticate", (text or f'Bearer resource_metadata="{METADATA}"').encode())]
    return fields + [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]


def token_of(headers: Any) -> str:
    return dict(headers).get(b"authorization", b"").decode()


def failing(error: str = "down") -> AuthorizationError:
    return AuthorizationError(error, transient=True)


class FlowCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.setup = Setup()
        self.web, self.server, self.browser = self.setup.web, self.setup.server, self.setup.browser

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        return Deferred.fromCoroutine(coroutine)

    def run_now(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(self.start(coroutine))

    def refused(self, coroutine: Coroutine[Any, Any, Any], why: str = ".") -> AuthorizationError:
        error = self.failureResultOf(self.start(coroutine), AuthorizationError).value
        assert isinstance(error, AuthorizationError)
        self.assertRegex(str(error), why)
        return error

    def challenged(
        self, it: Authorization, text: str = "", status: int = 401, sent: Any = None, **more: str
    ) -> Any:
        if sent is None:
            sent = it.ready("POST", SERVER) or []
        return it.challenged(status, challenge(text, **more), "POST", SERVER, sent)

    def ready(self, it: Authorization) -> str:
        headers = it.ready("POST", SERVER)
        assert headers is not None
        return token_of(headers)

    def got(self, grant: Any = CODE, **more: Any) -> Authorization:
        """An authorization that has a token."""
        it = self.setup.authorization(grant, **more)
        self.assertTrue(self.run_now(self.challenged(it)))
        return it
