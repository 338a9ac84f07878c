"""The authorization of one principal at one MCP server: headers for each request, and what to do when one is refused.

Docs: docs/machines/authorization.md. The decisions are in `_verdict` and `_scopes`, the ways to a token in `_obtain`.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.client.oauth._challenge import Challenge, chosen, parse_challenges
from erlmcp.client.oauth._discovery import Place, discover
from erlmcp.client.oauth._endpoint import Nonces, TokenEndpoint
from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._fetching import Fetch, Headers, header
from erlmcp.client.oauth._grants import (
    AnyGrant,
    AuthorizationCode,
    ClientCredentials,
    EnterpriseManaged,
    StaticToken,
    WorkloadIdentity,
)
from erlmcp.client.oauth._interaction import Interaction
from erlmcp.client.oauth._obtain import (
    Round,
    by_code,
    by_credentials,
    by_enterprise,
    by_refresh,
    by_workload,
    supplied,
)
from erlmcp.client.oauth._scopes import missing, select_scopes, union
from erlmcp.client.oauth._signing import PROOF_ALGORITHM, ProofKey, nonce_of
from erlmcp.client.oauth._store import CredentialStore, MemoryStore, StoreKey
from erlmcp.client.oauth._tokens import Tokens
from erlmcp.client.oauth._urls import canonical_resource, check_endpoint, origin
from erlmcp.client.oauth._verdict import YOUNG, Refusal, Verdict, judge

_log = Logger()

_Grant = AuthorizationCode | ClientCredentials | EnterpriseManaged | WorkloadIdentity

_REMEMBERED: Final = 30.0  # seconds for which a failure is told again without another attempt
_MAX_STEPS: Final = 5
_STEP_TIME: Final = 60.0
_LATER: Final = 30.0  # seconds until a renewal that failed is tried again, as long as the token is good


class Authorization:
    """Authorizes the requests of one principal to one MCP server.

    A wire asks `ready` before each request; where that gives None, it waits for `headers`. After a 401 or 403 it asks
    `challenged` whether to send the request again. Only one token is got at a time, whoever waits for it.

    Args:
        server_url: the MCP server. Tokens are sent to its origin alone.
        grant: the way to a token.
        fetch: sends requests for metadata and tokens: see `guarded_fetch`.
        clock: the reactor, or a double; its time is that of the wall.
        interaction: brings a user to a browser; needed for `AuthorizationCode`.
        store: keeps registrations and tokens; without one they are kept in memory.
        principal: for whom. Tokens of different principals are kept apart.

    Raises:
        ValueError: the URL is no https URL (or http on the loopback).

    Attributes:
        extensions: the MCP extensions that the grant belongs to, for the client's capabilities.
        observes: whether `observed` wants to see the headers of each answer.
    """

    def __init__(
        self,
        server_url: str,
        grant: AnyGrant,
        *,
        fetch: Fetch,
        clock: IReactorTime,
        interaction: Interaction | None = None,
        store: CredentialStore | None = None,
        principal: str = "",
    ) -> None:
        try:
            check_endpoint(server_url.partition("#")[0], "the server's URL")
        except AuthorizationError as error:
            raise ValueError(str(error)) from None
        self.extensions = (grant.extension,) if grant.extension else ()
        self.observes = False
        self._url = server_url
        self._origin = origin(server_url)
        self._plain = _plain_origin(server_url)
        self._grant = grant
        self._fetch = fetch
        self._now: Callable[[], float] = clock.seconds
        self._interaction = interaction
        self._store: CredentialStore = store or MemoryStore()
        self._principal = principal
        self._nonces = Nonces()
        self._endpoint = TokenEndpoint(fetch, self._now, self._nonces)
        self._tokens: Tokens | None = None
        self._renew = 0.0
        self._headers: list[tuple[bytes, bytes]] = []
        self._key: ProofKey | None = None
        self._issuer = self._metadata_url = ""
        self._place: Place | None = None
        self._waiting: list[Deferred[None]] | None = None
        self._steps: list[float] = []
        self._failure: tuple[frozenset[str], float, AuthorizationError] | None = None
        self._restore()

    def ready(self, method: str, url: str) -> list[tuple[bytes, bytes]] | None:
        """The headers of a request, if they are at hand. Not to be changed by the caller.

        Returns:
            The headers: none at all as long as no token is held, since the server has not asked for one, and none for
            another origin. None if a token is being got, or has to be: `headers` waits for it.
        """
        if not url.startswith(self._plain) or url[len(self._plain) : len(self._plain) + 1] not in (
            "",
            "/",
            "?",
            "#",
        ):
            return self._elsewhere(method, url)
        return self._at_hand(method, url)

    async def headers(self, method: str, url: str) -> list[tuple[bytes, bytes]]:
        """The headers of a request, after a token has been got or renewed if need be.

        Raises:
            AuthorizationError: that failed.
        """
        found = self.ready(method, url)
        if found is None:
            await self._flight(self._proactive)
            found = self.ready(method, url)
        if found is None:
            # What came was due at once, or somebody else is under way again: what is held has to do.
            found = self._present(method, url)
        return found

    async def challenged(
        self, status: int, headers: Headers, method: str, url: str, sent: Headers = ()
    ) -> bool:
        """Deal with a refusal.

        Args:
            status: of the answer, 401 or 403.
            headers: of the answer.
            method: of the request, as for `ready`.
            url: of the request.
            sent: what `ready` or `headers` had given for it. By it a refusal of a token that has been replaced
                meanwhile is told from one of the token that is held.

        Returns:
            True if the request is to be sent again, with new headers; the caller bounds how often. False if the
            refusal is not about authorization, or not by this server.

        Raises:
            AuthorizationError: it is, and nothing can be done about it; the error says why.
        """
        if status not in (401, 403) or origin(url) != self._origin:
            _log.debug("{status} to {method} {url} is no challenge", status=status, method=method, url=url)
            return False
        nonce, proof = header(headers, b"dpop-nonce"), header(sent, b"dpop")
        self._nonces.note(url, nonce)
        challenge = chosen(parse_challenges(headers))
        used = header(sent, b"authorization")
        held = header(self._headers, b"authorization")
        had = union(self._tokens.requested, self._tokens.granted) if self._tokens else ()
        scopes = challenge.scopes if challenge else ()
        refusal = Refusal(
            status=status,
            challenge=challenge,
            sent=bool(used),
            stale=used != held,
            bound=bool(proof),
            new_nonce=bool(nonce) and nonce != nonce_of(proof),
            age=self._now() - self._tokens.obtained if self._tokens else 0.0,
            missing=missing(scopes, had),
        )
        verdict = judge(refusal)
        if verdict is Verdict.NOT_OURS:
            return False
        if verdict is Verdict.SCOPES:
            raise AuthorizationError(
                f"{self._url} demands scopes that were asked for and that the token does not have: "
                f"{' '.join(scopes) or 'it does not say which'}",
                code="insufficient_scope",
            )
        if verdict is Verdict.NONCE:
            raise AuthorizationError(
                f"{self._url} demands the DPoP nonce that it was sent", code="use_dpop_nonce"
            )
        if verdict is not Verdict.AGAIN or self._waiting is not None:
            await self._flight(lambda: self._get(challenge, refusal, step_up=verdict is Verdict.STEP_UP))
        return True

    def observed(self, headers: Headers) -> None:
        """Take from an answer what concerns the next request: a DPoP nonce (RFC 9449 section 8.2)."""
        nonce = header(headers, b"dpop-nonce")
        if nonce:
            self._nonces.note(self._url, nonce)

    def forget(self) -> None:
        """Give up the token, in the store too: the next refusal begins anew."""
        if self._issuer:
            self._store.forget(self._token_key(self._issuer))
        self._failure = None
        self._hold(None)

    # What is sent

    def _at_hand(self, method: str, url: str) -> list[tuple[bytes, bytes]] | None:
        if self._tokens is None:
            return None if self._waiting is not None or isinstance(self._grant, StaticToken) else []
        if self._now() >= self._renew:
            return None
        return self._headers if self._key is None else self._present(method, url)

    def _elsewhere(self, method: str, url: str) -> list[tuple[bytes, bytes]] | None:
        # The fast path compares text; here the same origin may be written otherwise, or it is another.
        return self._at_hand(method, url) if origin(url) == self._origin else []

    def _present(self, method: str, url: str) -> list[tuple[bytes, bytes]]:
        if self._key is None or self._tokens is None:
            return self._headers
        nonce = self._nonces.get(url)
        proof = self._key.proof(method, url, self._now(), token=self._tokens.access, nonce=nonce)
        return [*self._headers, (b"dpop", proof)]

    def _hold(self, tokens: Tokens | None, key: ProofKey | None = None) -> None:
        self._tokens = tokens
        self._key = key if tokens is not None and tokens.scheme == "DPoP" else None
        self.observes = self._key is not None
        self._renew = tokens.renew if tokens is not None else 0.0
        self._headers = []
        if tokens is not None:
            self._headers.append((b"authorization", f"{tokens.scheme} {tokens.access}".encode()))

    # One at a time

    async def _flight(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait until whoever is under way is done, or go oneself. Whoever stops waiting stops nobody else."""
        waiter: Deferred[None] = Deferred(self._unwait)
        if self._waiting is None:
            self._waiting = [waiter]
            Deferred.fromCoroutine(work()).addBoth(self._landed)
        else:
            self._waiting.append(waiter)
        await waiter

    def _unwait(self, waiter: Deferred[None]) -> None:
        if self._waiting is not None and waiter in self._waiting:
            self._waiting.remove(waiter)

    def _landed(self, result: Failure | None) -> None:
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            if isinstance(result, Failure):
                waiter.errback(Failure(result.value))
            else:
                waiter.callback(None)

    # Getting tokens

    async def _proactive(self) -> None:
        """Renew before the end; where that fails and the token is still good, go on with it for a while."""
        tokens = self._tokens
        try:
            await self._get(None, None)
        except AuthorizationError as error:
            if tokens is None:
                raise
            _log.warn("renewing the token for {url} failed: {why}", url=self._url, why=str(error))
            if self._now() < tokens.expires:
                self._renew = min(self._now() + _LATER, tokens.expires)
            elif error.transient:
                raise
            else:
                # The server's challenge knows more than we do: the next request goes without a token, and asks for it.
                self._hold(None)

    async def _get(
        self, challenge: Challenge | None, refused: Refusal | None, *, step_up: bool = False
    ) -> None:
        """Get tokens.

        Args:
            challenge: the server's, if there is one.
            refused: what was refused; None before a token ends.
            step_up: whether the token has too few scopes, so that refreshing it would not do.
        """
        grant = self._grant
        if isinstance(grant, StaticToken):
            await self._static(grant, refused)
            return
        place = await self._discover(grant, challenge, again=refused is not None)
        before = self._tokens if place.server.issuer == self._issuer else None
        if before is not None and self._adopt(before):
            return  # another process has renewed it
        if refused is not None and before is not None and refused.sent and refused.age < YOUNG:
            if not refused.missing:
                raise AuthorizationError(f"{self._url} refuses a token: {Verdict.REFUSED.value}")
            step_up = True
        if step_up:
            self._count_step()
        scopes = select_scopes(
            challenge.scopes if challenge else (),
            place.scopes,
            grant.scopes,
            before.requested if before else (),
        )
        self._bind(grant, place.server.issuer)
        around = self._round(grant, place, scopes, challenge, before)
        tokens = None
        if before is not None and before.refresh and not step_up:
            tokens = await by_refresh(grant, around, before)
        if tokens is None:
            tokens = await self._whole(grant, around)
        self._issuer, self._metadata_url, self._place = place.server.issuer, place.metadata_url, place
        self._failure = None
        self._hold(tokens, around.key)
        self._keep(tokens)

    def _count_step(self) -> None:
        """Bound how often a server can send a user for more scopes (step-up authorization flow, retry limits)."""
        now = self._now()
        self._steps = [at for at in self._steps if at > now - _STEP_TIME]
        if len(self._steps) >= _MAX_STEPS:
            raise AuthorizationError(
                f"{self._url} has demanded more scopes {_MAX_STEPS} times within {_STEP_TIME:.0f} s",
                code="insufficient_scope",
            )
        self._steps.append(now)

    async def _static(self, grant: StaticToken, refused: Refusal | None) -> None:
        before = self._tokens.access if self._tokens else ""
        token = grant.token if isinstance(grant.token, str) else await supplied(grant.token())
        if refused is not None and refused.sent and token == before:
            raise AuthorizationError(f"{self._url} refuses the token that the client is given")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise AuthorizationError(
                "the token that the client is given is empty, or cannot stand in a header"
            )
        now, never = self._now(), float("inf")
        self._hold(Tokens(token, "Bearer", obtained=now, expires=never, renew=never))

    async def _discover(self, grant: _Grant, challenge: Challenge | None, *, again: bool) -> Place:
        if not again and self._place is not None:
            return self._place
        hint = challenge.parameters.get("resource_metadata", "") if challenge else ""
        url = hint or ("" if again else self._metadata_url)
        return await discover(self._fetch, self._url, url, grant.issuer, self._issuer)

    def _round(
        self,
        grant: _Grant,
        place: Place,
        scopes: tuple[str, ...],
        challenge: Challenge | None,
        before: Tokens | None,
    ) -> Round:
        asked = place.bound or (challenge is not None and challenge.scheme == "dpop")
        bound_before = before is not None and before.scheme == "DPoP"
        offered = PROOF_ALGORITHM in (place.server.proofs or ())
        key = None
        if grant.dpop or (grant.dpop is None and (asked or bound_before) and offered):
            key = (self._key if bound_before else None) or ProofKey.make()
        return Round(
            fetch=self._fetch,
            endpoint=self._endpoint,
            store=self._store,
            interaction=self._interaction,
            place=place,
            scopes=scopes,
            key=key,
            must_bind=grant.dpop is True,
            now=self._now(),
        )

    async def _whole(self, grant: _Grant, around: Round) -> Tokens:
        """Go the whole way, unless that has just failed for good."""
        wanted = frozenset((around.place.server.issuer, *around.scopes))
        if self._failure is not None and self._failure[0] == wanted and self._now() < self._failure[1]:
            raise self._failure[2]
        try:
            if isinstance(grant, AuthorizationCode):
                return await by_code(grant, around)
            if isinstance(grant, ClientCredentials):
                return await by_credentials(grant, around)
            if isinstance(grant, EnterpriseManaged):
                return await by_enterprise(grant, around)
            return await by_workload(grant, around)
        except AuthorizationError as error:
            if not error.transient:
                self._failure = (wanted, self._now() + _REMEMBERED, error)
            raise

    # What is kept

    def _bind(self, grant: _Grant, issuer: str) -> None:
        """Hold configured credentials to the authorization server that they were first used with.

        2026-07-28, authorization server binding. A metadata document's URL is good everywhere; what is registered
        dynamically is kept by issuer anyway.
        """
        if isinstance(grant, AuthorizationCode) and not grant.client_id:
            return
        key = StoreKey("client", self._principal, "", f"{canonical_resource(self._url)} {grant.client_id}")
        bound = grant.issuer or (self._store.load(key) or {}).get("issuer")
        if bound and bound != issuer:
            raise AuthorizationError(
                f"{self._url} now takes tokens of {issuer}, and the client's credentials are those of {bound}: "
                "they are not shown to another authorization server"
            )
        if not bound:
            self._store.save(key, {"issuer": issuer})

    def _server_key(self) -> StoreKey:
        return StoreKey("server", self._principal, "", canonical_resource(self._url))

    def _token_key(self, issuer: str) -> StoreKey:
        return StoreKey("token", self._principal, issuer, canonical_resource(self._url))

    def _keep(self, tokens: Tokens) -> None:
        record = tokens.record()
        if self._key is not None:
            record["key"] = self._key.keep()
        self._store.save(self._token_key(self._issuer), record)
        self._store.save(self._server_key(), {"issuer": self._issuer, "metadata_url": self._metadata_url})

    def _restore(self) -> None:
        """Go on with what an earlier run has left, if it is still good for something."""
        server = None if isinstance(self._grant, StaticToken) else self._store.load(self._server_key())
        if server is None:
            return
        issuer = str(server.get("issuer") or "")
        found = self._load(issuer)
        if found is not None and (self._now() < found[0].expires or found[0].refresh):
            self._issuer, self._metadata_url = issuer, str(server.get("metadata_url") or "")
            self._hold(*found)

    def _adopt(self, before: Tokens) -> bool:
        """Take over tokens that another process has put into the store: a refresh token is used once."""
        found = self._load(self._issuer)
        if found is None or found[0].obtained <= before.obtained or self._now() >= found[0].renew:
            return False
        self._hold(*found)
        return True

    def _load(self, issuer: str) -> tuple[Tokens, ProofKey | None] | None:
        record = self._store.load(self._token_key(issuer))
        tokens = Tokens.restore(record) if record else None
        if record is None or tokens is None:
            return None
        try:
            return tokens, ProofKey.restore(str(record.get("key"))) if tokens.scheme == "DPoP" else None
        except ValueError:
            return None


def _plain_origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
