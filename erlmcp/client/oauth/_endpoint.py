"""Requests to a token endpoint: who asks, bound to which key, with which nonce."""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._fetching import Fetch, Fetched, header, json_object, post
from erlmcp.client.oauth._identity import Identity
from erlmcp.client.oauth._metadata import ServerMetadata
from erlmcp.client.oauth._signing import PROOF_ALGORITHM, ProofKey
from erlmcp.client.oauth._tokens import Tokens, read_answer, read_tokens
from erlmcp.client.oauth._urls import origin

_FORM: Final = (b"content-type", b"application/x-www-form-urlencoded")
MAX_NONCE: Final = 1024


class Nonces:
    """The last nonce that each server gave (RFC 9449 section 8 and 9), by origin.

    A handful at most is kept: those of the MCP server, of its authorization server, and of what they were before.
    """

    __slots__ = ("_by_origin",)

    def __init__(self) -> None:
        self._by_origin: dict[str, str] = {}

    def get(self, url: str) -> str:
        """What a proof for a URL has to carry; empty for nothing."""
        return self._by_origin.get(origin(url), "") if self._by_origin else ""

    def note(self, url: str, nonce: str) -> bool:
        """Keep what a server gave. Returns whether it is another one than before."""
        if not nonce or len(nonce) > MAX_NONCE or not nonce.isascii() or not nonce.isprintable():
            return False
        base = origin(url)
        if self._by_origin.get(base) == nonce:
            return False
        if len(self._by_origin) >= 8 and base not in self._by_origin:
            del self._by_origin[next(iter(self._by_origin))]
        self._by_origin[base] = nonce
        return True


class TokenEndpoint:
    """Asks token endpoints.

    Args:
        fetch: sends requests.
        now: gives seconds since the epoch.
        nonces: what servers gave for proofs.
    """

    def __init__(self, fetch: Fetch, now: Callable[[], float], nonces: Nonces) -> None:
        self._fetch = fetch
        self._now = now
        self._nonces = nonces

    async def tokens(
        self,
        server: ServerMetadata,
        identity: Identity,
        form: dict[str, str],
        scopes: tuple[str, ...],
        key: ProofKey | None,
        *,
        must_bind: bool,
    ) -> Tokens:
        """Ask for tokens.

        Args:
            server: whom.
            identity: who asks.
            form: the grant and its parameters.
            scopes: what is asked for, to be remembered with the answer.
            key: what the token is to be bound to.
            must_bind: refuse a token that is not.

        Raises:
            AuthorizationError: there are none.
        """
        endpoint = server.token_endpoint
        if not endpoint:
            raise AuthorizationError(f"{server.issuer} has no token_endpoint")
        if must_bind and PROOF_ALGORITHM not in (server.proofs or ()):
            raise AuthorizationError(
                f"{server.issuer} does not bind tokens to {PROOF_ALGORITHM} keys (dpop_signing_alg_values_supported), "
                "and the client is to have no others"
            )
        answer = await self.ask(server, identity, form, key)
        tokens = read_tokens(answer, scopes, self._now(), endpoint)
        if key is None and tokens.scheme == "DPoP":
            raise AuthorizationError(f"{endpoint}: the token is bound to a key (DPoP), and none was shown")
        if must_bind and tokens.scheme != "DPoP":
            raise AuthorizationError(
                f"{endpoint}: the token is not bound to our key (DPoP), as the client demands"
            )
        return tokens

    async def ask(
        self, server: ServerMetadata, identity: Identity, form: dict[str, str], key: ProofKey | None
    ) -> dict[str, Any]:
        """Send a form, once more where the server demands a nonce, and read the answer.

        Raises:
            AuthorizationError: the server refused, or did not answer as it should.
        """
        endpoint = server.token_endpoint
        answer = await self._send(server, identity, form, key)
        if key is not None and self._nonces.note(endpoint, header(answer.headers, b"dpop-nonce")):
            document = json_object(answer.body)
            if answer.status >= 400 and document is not None and document.get("error") == "use_dpop_nonce":
                answer = await self._send(server, identity, form, key)
        return read_answer(answer, endpoint)

    async def _send(
        self, server: ServerMetadata, identity: Identity, form: dict[str, str], key: ProofKey | None
    ) -> Fetched:
        endpoint, now = server.token_endpoint, self._now()
        parameters, headers = identity.prove(server, now)
        if key is not None:
            proof = key.proof("POST", endpoint, now, nonce=self._nonces.get(endpoint))
            headers.append((b"dpop", proof))
        headers.append(_FORM)
        return await post(self._fetch, endpoint, urlencode({**form, **parameters}).encode(), headers)
